"""Options as data: one annotated field of a dataclass is everything there is to an option.

`strength: Annotated[float, Option("...", low=0, high=1)] = 1.0` is the argument, its default, its check, its
flag with help and range, its part of the fingerprint, and its line in docs/options.md.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from inspect import get_annotations
from numbers import Integral, Real
from pathlib import Path, PurePath
from types import MappingProxyType, NoneType
from typing import Annotated, Any, ClassVar, Self, get_args, get_origin, get_type_hints

from denoise.errors import InputError, TooLargeError, UsageError, reason
from denoise.models.table import DEFAULT_MODELS, ENSEMBLES, FAST_MODELS, PRECISIONS, PROFILED_MODEL
from denoise.signal import DECIMALS, DELIMITERS, MAX_FILL_SAMPLES, SECONDS

MAX_BYTES = 10**15  # of any limit
MAX_SEED = 2**32 - 1
MAX_WORKERS = 1024  # processes, or threads
PURPOSES = ("listening", "recognition")
_RECOGNITION_DB = 12.0  # recognisers know noise better than traces of its removal
_MAX = sys.float_info.max


# ---- what a field declares -------------------------------------------------------------------------------


def _value(value: Any) -> Any:
    return value


def _resolved(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())


def _contents(text: str | None) -> str | None:
    """Digest of the file that the text names, or the text itself if it names none."""
    path = Path(text or "")
    if not path.is_file() or not path.stat().st_size:
        return text
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}") from error


@dataclass(frozen=True)
class Option:
    """Metadata of an option: `Annotated[type, Option(...)]`."""

    help: str  # one sentence for people
    unit: str = ""  # unit of a number; on the command line `bytes` also take sizes such as 2GB
    low: float = -math.inf  # minimum of a number
    high: float = _MAX  # maximum; by default any finite number
    low_open: bool = False  # excludes the minimum itself
    high_open: bool = False  # excludes the maximum itself
    choices: tuple[str, ...] = ()  # words to choose from
    unset: str = ""  # meaning of None
    # flag of the command line; None derives it from the name, an empty one offers none
    flag: str | None = None
    short: str = ""  # short flag, such as `-o`
    metavar: str | None = None  # placeholder in the help; by default the unit
    repeated: bool = False  # a tuple comes from a repeated flag, not from one list with commas
    modalities: tuple[str, ...] = ()  # kinds of files that it is for; none is all
    # form in which the fingerprint holds the value; None where outputs do not depend on it
    identity: Callable[[Any], Any] | None = _value


@dataclass(frozen=True)
class Field:
    """An option with its name, type and default."""

    name: str  # name of the field
    kind: type  # type of the value, or of each value of a tuple
    many: bool  # the value is a tuple
    optional: bool  # the value may be None
    default: Any  # default of the field; `dataclasses.MISSING` if it is required
    option: Option  # its metadata

    @property
    def flag(self) -> str:
        """Long flag of the command line; empty where there is none."""
        return f"--{self.name.replace('_', '-')}" if self.option.flag is None else self.option.flag

    @property
    def key(self) -> str:
        """Name in the fingerprint."""
        return self.flag.removeprefix("--").replace("-", "_") or self.name

    @property
    def domain(self) -> str:
        """Values that the option takes, in words."""
        option = self.option
        if option.choices:
            return f"one of {', '.join(option.choices)}"
        if self.kind not in (int, float):
            one, many = {bool: ("yes or no", ""), str: ("text", "words"), Path: ("a path", "paths")}[
                self.kind
            ]
            return f"a list of {many}" if self.many else one
        unit = f" {option.unit}" if option.unit else ""
        low, high = (
            f"{b:.0f}" if self.kind is int and abs(b) < _MAX else f"{b:g}" for b in (option.low, option.high)
        )
        bounded = -math.inf < option.low, option.high < _MAX
        if all(bounded) and not (option.low_open or option.high_open):
            return f"{low} to {high}{unit}"
        above = f"more than {low}" if option.low_open else f"{low} or more"
        below = f"less than {high}" if option.high_open else f"{high} or less"
        bounds = " and ".join(word for word, there in zip((above, below), bounded, strict=True) if there)
        number = "numbers" if self.many else "a whole number" if self.kind is int else "a number"
        return f"{bounds or number}{unit}"

    def takes(self, modality: str) -> bool:
        """Tell whether the option is for files of a modality."""
        return not self.option.modalities or modality in self.option.modalities

    def normalise(self, value: Any) -> Any:
        """Check a value, and give it the type of the field.

        Raises:
            UsageError: It is outside the domain.
        """
        if value is None and self.optional:
            return None
        values = value if self.many and isinstance(value, tuple | list) else (value,)
        normal = tuple(Path(v) if self.kind is Path and isinstance(v, str) else v for v in values)
        if (values is value or not self.many) and all(map(self._valid, normal)):
            return normal if self.many else normal[0]
        raise UsageError(f"{self.name} is {value!r}; expected {self.domain}")

    def _valid(self, value: Any) -> bool:
        option = self.option
        if self.kind not in (int, float):
            kind = PurePath if self.kind is Path else self.kind  # a remote path is pure
            return isinstance(value, kind) and (not option.choices or value in option.choices)
        if isinstance(value, bool) or not isinstance(value, Integral if self.kind is int else Real):
            return False
        number = float(value)
        if (option.low_open and number == option.low) or (option.high_open and number == option.high):
            return False
        return option.low <= number <= option.high


# ---- classes of options ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of dataclasses whose annotated fields are options; they are checked on construction."""

    _table: ClassVar[Mapping[str, Field]]

    @classmethod
    def table(cls) -> Mapping[str, Field]:
        """Options of the class by name: its own first, then those of its bases."""
        if "_table" not in vars(cls):
            hints = get_type_hints(cls, include_extras=True)
            defaults = {field.name: field.default for field in fields(cls)}
            names = dict.fromkeys(name for base in cls.__mro__ for name in get_annotations(base))
            found = (_field(name, hints[name], defaults[name]) for name in names if name in defaults)
            cls._table = MappingProxyType({field.name: field for field in found if field})
        return cls._table

    def __post_init__(self) -> None:
        for name, field in self.table().items():
            object.__setattr__(self, name, field.normalise(getattr(self, name)))

    def for_modality(self, modality: str) -> Self:
        """Reset the options that files of this kind do not take."""
        others = {name: f.default for name, f in self.table().items() if not f.takes(modality)}
        return replace(self, **others)

    def check_modality(self, modality: str, source: Path) -> None:
        """Refuse options that a file does not take.

        Raises:
            UsageError: One is set that is for other kinds of files.
        """
        for name, field in self.table().items():
            if not field.takes(modality) and getattr(self, name) != field.default:
                kinds = " and ".join(field.option.modalities)
                raise UsageError(f"{name} is for {kinds}; {source} is {modality}")

    def settings(self, modality: str) -> dict[str, Any]:
        """Part of the fingerprint: every option that outputs of a modality depend on."""
        return {
            field.key: field.option.identity(getattr(self, name))
            for name, field in self.table().items()
            if field.option.identity and field.takes(modality)
        }


def _field(name: str, hint: Any, default: Any) -> Field | None:
    option = next((mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Option)), None)
    if option is None:
        return None
    kinds = [kind for kind in get_args(hint.__origin__) or (hint.__origin__,) if kind not in (NoneType, ...)]
    optional = NoneType in get_args(hint.__origin__)
    many = tuple in (get_origin(hint.__origin__), get_origin(kinds[0]))
    kind = get_args(kinds[0])[0] if get_origin(kinds[0]) is tuple else kinds[0]
    return Field(name, kind, many, optional, default, option)


OfImages = partial(Option, modalities=("image",))
OfAudio = partial(Option, modalities=("audio",))
OfLogs = partial(Option, modalities=("sensor",))

# Shared by the commands that load models.
Precision = Annotated[
    str,
    Option(
        "Arithmetic of trained models; auto is the fastest of the CPU that is as good.",
        choices=PRECISIONS,
    ),
]
Ensemble = Annotated[
    int | None,
    OfImages(
        "Flipped and transposed copies of an image to average: 1, 2 or 4.",
        low=min(ENSEMBLES),
        high=max(ENSEMBLES),
        unset="4 of photo-best, else 1",
    ),
]
Remove = Annotated[
    tuple[str, ...],
    OfLogs(
        "Remove from sensor logs even what is faint: impulses, faults, mains, baseline.",
        metavar="A,B",
        identity=sorted,
    ),
]
Keep = Annotated[
    tuple[str, ...],
    OfLogs("Keep in sensor logs: impulses, faults, mains, baseline.", metavar="A,B", identity=sorted),
]


@dataclass(frozen=True, kw_only=True)
class LimitOptions(Options):
    """Limits on what a file may hold."""

    max_pixels: Annotated[
        int,
        Option(
            "Refuse larger images: they may be decompression bombs.",
            "pixels",
            low=1,
            high=10**12,
            identity=None,
        ),
    ] = 500_000_000
    max_duration_s: Annotated[
        float | None,
        Option("Refuse longer recordings.", "s", low=0, low_open=True, flag="--max-duration", identity=None),
    ] = None

    def check_duration(self, source: Path, modality: str) -> None:
        """Refuse a recording that is too long.

        Raises:
            TooLargeError: Its header says so.
        """
        if self.max_duration_s is None or modality != "audio":
            return
        from denoise import io

        info = io.probe(source, salvage=True)
        duration_s = info.shape[-1] / (info.sample_rate or 1)
        if duration_s > self.max_duration_s:
            raise TooLargeError(
                f"{source}: lasts {duration_s:.4g} s, expected at most {self.max_duration_s:g} s"
            )


@dataclass(frozen=True, kw_only=True)
class CleanOptions(LimitOptions):
    """Options of `clean`."""

    model: Annotated[
        str | None,
        Option(
            "A name from `denoise models`, or a weights file.", metavar="NAME|FILE", unset="by kind of file"
        ),
    ] = None
    fast: Annotated[
        bool,
        Option(
            "Clean photos by photo-fast, which leaves blur, and speech by speech-live; "
            "the models for other sounds and for logs are fast already.",
            identity=None,  # the digest of the model stands for it
        ),
    ] = False
    strict: Annotated[
        bool, OfAudio("Refuse damaged recordings instead of salvaging what decodes.", identity=None)
    ] = False
    strength: Annotated[float, Option("1 removes the noise, 0 returns the input.", low=0, high=1)] = 1.0
    sigma: Annotated[
        float | None,
        Option(
            "Standard deviation of the noise, for models that take it; images: 0 to 255.",
            low=0,
            metavar="SIGMA",
            unset="estimated",
        ),
    ] = None
    reference: Annotated[
        Path | None,
        Option(
            "Noise-free file, or folder that mirrors the input: measure against it.",
            metavar="DIR",
            identity=_resolved,  # it changes the figures in a row, though not the output
        ),
    ] = None
    columns: Annotated[
        tuple[str, ...] | None,
        OfLogs(
            "Columns of sensor logs to clean; globs such as acc_* work.",
            metavar="A,B",
            unset="all measurements",
        ),
    ] = None
    exclude: Annotated[
        tuple[str, ...], OfLogs("Columns of sensor logs to leave unchanged; globs work.", metavar="A,B")
    ] = ()
    sample_rate: Annotated[
        float | None,
        OfLogs(
            "Sample rate of sensor logs without timestamps, or of --raw input.", "Hz", low=0, low_open=True
        ),
    ] = None
    time_unit: Annotated[
        str | None,
        OfLogs(
            "Unit of the time column of sensor logs.",
            choices=tuple(SECONDS),
            unset="from its name, or guessed",
        ),
    ] = None
    delimiter: Annotated[
        str | None, OfLogs("Delimiter of sensor logs in text.", choices=tuple(DELIMITERS), unset="detected")
    ] = None
    decimal: Annotated[
        str | None, OfLogs("Decimal mark of sensor logs in text.", choices=tuple(DECIMALS), unset="detected")
    ] = None
    keep_resolution: Annotated[
        bool, OfLogs("Write cleaned cells of text logs with the decimals of their column, not two more.")
    ] = False
    fill_gaps: Annotated[
        int,
        OfLogs("Longest gap of sensor logs to fill; 0 fills none.", "samples", low=0, high=MAX_FILL_SAMPLES),
    ] = 0
    remove: Remove = ()
    keep: Keep = ()
    max_attenuation_db: Annotated[
        float | None,
        OfAudio("Maximum attenuation of recordings.", "dB", low=0, high=math.inf, flag="--max-attenuation"),
    ] = None
    purpose: Annotated[
        str,
        OfAudio(
            "Who hears the recordings; `recognition` attenuates by at most 12 dB.",
            choices=PURPOSES,
            flag="--for",
        ),
    ] = PURPOSES[0]
    noise_profile: Annotated[
        str | None,
        OfAudio(
            "Noise alone, for the model audio: a recording, or a span of each input in seconds.",
            metavar="FILE|START:END",
            identity=_contents,
        ),
    ] = None
    streams: Annotated[
        tuple[int, ...] | None,
        OfAudio(
            "Sound tracks of videos to clean, numbered from 1; the others are copied.",
            metavar="1,3",
            low=1,
            high=1000,
            unset="all",
        ),
    ] = None
    stamp: Annotated[
        bool,
        Option(
            "Write program, version, model and strength into the metadata of results that were cleaned.",
            modalities=("image", "audio"),
        ),
    ] = False
    precision: Precision = PRECISIONS[0]
    ensemble: Ensemble = None
    block: Annotated[
        int | None,
        Option(
            "Samples per channel to process at a time.",
            "samples",
            low=1,
            high=10**12,
            flag="",
            modalities=("audio", "sensor"),
            identity=None,
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fast and self.model:
            raise UsageError(f"fast: selects the models itself; leave out the model {self.model}, or fast")

    def model_for(self, modality: str) -> str:
        """Name of the model for files of a modality."""
        profiled = modality == "audio" and self.noise_profile is not None
        defaults = FAST_MODELS if self.fast else DEFAULT_MODELS
        return self.model or (PROFILED_MODEL if profiled else defaults[modality])

    @property
    def bounded_strength(self) -> float:
        """Strength at which no part of a recording is attenuated by more than is allowed.

        `max_attenuation_db` and `purpose` limit it.

        The input that stays is in phase with the output, so the two add up: for a model's gain g,
        `1 - strength + strength * g` is never below `1 - strength`.
        """
        limits_db = [self.max_attenuation_db] if self.max_attenuation_db is not None else []
        if self.purpose == "recognition":
            limits_db.append(_RECOGNITION_DB)
        return float(min([self.strength, *(1.0 - 10.0 ** (-limit / 20.0) for limit in limits_db)]))
