"""What to do to a folder, as data: the one home of the defaults that the command line offers."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from denoise.errors import TooLargeError, UsageError
from denoise.models import PRECISIONS, PROFILED_MODEL
from denoise.signal import MAX_FILL_SAMPLES
from pipelines.batch.discover import Item
from pipelines.batch.manifest import digest

if TYPE_CHECKING:
    from denoise.corruptions import Corruption
    from denoise.infer import Cleaner
    from denoise.infer.catalogue import CatalogueRow

__all__ = ["CleanJob", "CorruptJob", "Job", "Outcome", "seed_for"]


@dataclass(frozen=True)
class Outcome:
    """What a job has to say about a file that it finished."""

    model: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Job:
    """Something to do to many files, each on its own.

    Args:
        inputs: Files and folders, or URLs of them (`pipelines.batch.store`).
        output: Folder for the results, or its URL; may be a file name when there is one input file.
        recursive: Whether folders below an input folder are gone into.
        overwrite: Do every file anew, and replace what is there, whoever wrote it.
        dry_run: Plan only; nothing is written.
        workers: Processes that work at the same time; 1 works in this one, unless there is a limit to watch.
            None takes as many as there are cores, where that pays.
        keep_mtime: Give each result the modification time of its input.
        max_pixels: Images above this are refused: what decodes to so much may be a decompression bomb.
        max_duration: Longer recordings are refused, in seconds; None takes any.
        timeout: Seconds that a file may take; None waits for ever.
        memory: Bytes that all workers together may hold; None takes what there is.
        engine: `local`, or `dask` for the workers of a Dask cluster.
        scheduler: Address of the Dask scheduler; None starts a cluster of `workers` on this machine.
    """

    inputs: tuple[Path, ...]
    output: Path
    recursive: bool = True
    overwrite: bool = False
    dry_run: bool = False
    workers: int | None = None
    keep_mtime: bool = False
    max_pixels: int = 500_000_000
    max_duration: float | None = None
    timeout: float | None = None
    memory: int | None = None
    engine: str = "local"
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"workers is {self.workers}; expected 1 or more")
        for name in ("max_duration", "timeout", "memory"):
            limit = getattr(self, name)
            if limit is not None and not 0 < limit < math.inf:
                raise UsageError(f"{name} is {limit}; expected more than 0")
        if self.engine not in ("local", "dask"):
            raise UsageError(f"engine is {self.engine!r}; expected local or dask")
        if self.scheduler and self.engine != "dask":
            raise UsageError("scheduler: is for engine dask")
        if self.engine == "dask" and (self.timeout or self.memory):
            raise UsageError("timeout and memory are for engine local; Dask workers have limits of their own")
        if self.scheduler and self.workers:
            raise UsageError("workers: a Dask scheduler has its own; expected one of workers and scheduler")

    @property
    def exclude_dir(self) -> Path | None:
        """A folder that is no input, even where it lies inside one."""
        return None

    def reject_reason(self, modality: str) -> str | None:
        """Why files of a modality are not for this job; None when they are."""
        raise NotImplementedError

    def settings(self, modality: str) -> dict[str, Any]:
        """All that the output of a file depends on, besides the file."""
        raise NotImplementedError

    def check(self, modality: str) -> None:
        """Refuse, before work starts, what could not work for any file of a modality."""

    def prepare(self, modality: str) -> None:
        """Load what the files of a modality share; called before the clock of a file starts."""

    def seconds_per_million(self, modality: str) -> float:  # noqa: ARG002
        """What the work itself takes for a million pixels or samples, roughly."""
        return 0.1

    def check_limits(self, item: Item) -> None:
        """Refuse a file that is above a limit.

        Raises:
            TooLargeError: It is; its header says so.
        """
        if self.max_duration is None or item.modality != "audio":
            return
        from denoise import io

        info = io.probe(item.source)
        duration_s = info.shape[-1] / (info.sample_rate or 1)
        if duration_s > self.max_duration:
            raise TooLargeError(
                f"{item.source}: lasts {duration_s:.4g} s, expected at most {self.max_duration:g} s"
            )

    def execute(self, item: Item) -> Outcome:
        """Do one file: read the source, write the destination."""
        raise NotImplementedError

    def fingerprint(self, modality: str) -> str:
        """sha256 of the settings and of the version that gives them their meaning."""
        import denoise

        facts = {"job": type(self).__name__, "version": denoise.__version__, **self.settings(modality)}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class CleanJob(Job):
    """Clean files.

    Args:
        model: Name or weights file; None takes the default of each modality. Files that the named model does
            not take are left out.
        strength: 1 is fully cleaned, 0 is the input.
        sigma: Noise standard deviation (images: in 8-bit units); None lets the model find it.
        reference: Folder that mirrors the input with the truth, or one file: metrics are measured against it.
        columns: Columns of sensor logs to clean, names or globs; None takes all that hold measurements.
        exclude: Columns of sensor logs to leave as they are.
        sample_rate: Hz, for sensor logs that do not tell.
        time_unit: Of the time column of sensor logs; None goes by its name, or guesses.
        fill_gaps: Samples of the longest gap of a sensor log that is filled.
        remove: What to take out of sensor logs however faint it is (`denoise.models.sensor.chain.STAGES`).
        keep: What to leave in sensor logs.
        precision: One of `denoise.models.PRECISIONS`, for trained models of images.
        max_attenuation: No part of a recording is turned down by more, in dB; None sets no limit.
        noise_profile: Where noise alone is to be heard: a file, or `START:END` in seconds of each recording.
    """

    model: str | None = None
    strength: float = 1.0
    sigma: float | None = None
    reference: Path | None = None
    columns: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    sample_rate: float | None = None
    time_unit: str | None = None
    fill_gaps: int = 0
    remove: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    precision: str = PRECISIONS[0]
    max_attenuation: float | None = None
    noise_profile: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision is {self.precision!r}; expected one of {', '.join(PRECISIONS)}")
        if not 0 <= self.strength <= 1:
            raise UsageError(f"strength is {self.strength}; expected 0 (the input) to 1 (fully cleaned)")
        if self.sigma is not None and not 0 <= self.sigma < math.inf:
            raise UsageError(f"sigma is {self.sigma}; expected 0 or more")
        if self.sample_rate is not None and not 0 < self.sample_rate < math.inf:
            raise UsageError(f"sample_rate is {self.sample_rate}; expected more than 0 Hz")
        if not 0 <= self.fill_gaps <= MAX_FILL_SAMPLES:
            raise UsageError(
                f"fill_gaps is {self.fill_gaps}; expected 0 (none) to {MAX_FILL_SAMPLES} samples"
            )
        if self.max_attenuation is not None and not self.max_attenuation >= 0:
            raise UsageError(f"max_attenuation is {self.max_attenuation}; expected 0 dB or more")
        if self.reference is None:
            return
        if not self.reference.exists():
            raise UsageError(f"{self.reference}: no such file or folder for the reference")
        if self.reference.is_file() and not (len(self.inputs) == 1 and self.inputs[0].is_file()):
            raise UsageError(f"{self.reference}: the reference is one file; for several inputs give a folder")

    @property
    def exclude_dir(self) -> Path | None:
        return self.reference

    def row(self, modality: str) -> CatalogueRow:
        """The model for a modality."""
        from denoise.infer.catalogue import for_modality

        return for_modality(self._name(modality), modality)

    def reject_reason(self, modality: str) -> str | None:
        from denoise.infer.catalogue import find

        if self.model is None or modality in find(self.model).modalities:
            return None
        return f"is {modality}; model {self.model} cleans {' and '.join(find(self.model).modalities)}"

    def check(self, modality: str) -> None:
        if modality == "audio" and self.noise_profile:
            from denoise.infer.profile import NoiseProfile

            NoiseProfile.parse(self.noise_profile)
            if (name := self.row(modality).name) != PROFILED_MODEL:
                raise UsageError(f"noise_profile: is for the model {PROFILED_MODEL}, not for {name}")
        if modality == "sensor" and (self.remove or self.keep):
            self._cleaner(modality)
        if self.sigma is not None and not self._cleaner(modality).takes_sigma:
            raise UsageError(f"sigma: model {self.row(modality).name!r} finds the noise level itself")

    def settings(self, modality: str) -> dict[str, Any]:
        own: Mapping[str, dict[str, Any]] = {
            "audio": {"max_attenuation": self.max_attenuation, "noise_profile": self._profile()},
            "sensor": {
                "columns": self.columns,
                "exclude": self.exclude,
                "sample_rate": self.sample_rate,
                "time_unit": self.time_unit,
                "fill_gaps": self.fill_gaps,
                "remove": sorted(self.remove),
                "keep": sorted(self.keep),
            },
        }
        reference = str(self.reference.resolve()) if self.reference else None
        return {
            "model": self.row(modality).digest,
            "strength": self.strength,
            "sigma": self.sigma,
            "precision": self.precision,
            "reference": reference,  # it changes the figures in the row, though not the output
            **own.get(modality, {}),
        }

    def seconds_per_million(self, modality: str) -> float:
        from pipelines.batch.forecast import seconds_per_million

        row = self.row(modality)
        return seconds_per_million(modality, row.name, learned=row.kind != "classical")

    def prepare(self, modality: str) -> None:
        from pipelines.batch.huge_pages import use_huge_pages

        use_huge_pages()
        import denoise.infer.file  # noqa: F401 - torch and its company take seconds to import

        self._cleaner(modality)

    def execute(self, item: Item) -> Outcome:
        from denoise.infer.file import clean_file

        reference = self._reference_of(item)
        report = clean_file(
            item.source,
            item.destination,
            self._cleaner(item.modality),
            strength=self.strength,
            sigma=self.sigma,
            reference=reference,
            columns=self.columns,
            exclude=self.exclude,
            sample_rate=self.sample_rate,
            time_unit=self.time_unit,
            fill_gaps=self.fill_gaps,
            max_pixels=self.max_pixels,
            max_attenuation_db=self.max_attenuation if item.modality == "audio" else None,
            noise_profile=self.noise_profile if item.modality == "audio" else None,
        )
        notes = report.notes
        if report.clipped:
            notes += (f"{report.clipped} samples did not fit the range of the file and were clipped",)
        if self.reference and not reference:
            notes += (f"no {item.relative} in {self.reference}: the figures are estimates",)
        return Outcome(report.model, report.metrics, notes)

    def _cleaner(self, modality: str) -> Cleaner:
        stages = (self.remove, self.keep) if modality == "sensor" else ((), ())
        return _cleaner(self._model(modality), modality, self.precision, *stages)

    def _model(self, modality: str) -> str:
        return self._name(modality) or self.row(modality).name

    def _name(self, modality: str) -> str | None:
        profiled = modality == "audio" and self.noise_profile and self.model is None
        return PROFILED_MODEL if profiled else self.model

    def _profile(self) -> str | None:
        """The profile as what it says: of a file, its contents."""
        path = Path(self.noise_profile or "")
        return digest(path) if path.is_file() else self.noise_profile

    def _reference_of(self, item: Item) -> Path | None:
        """The truth for a file; a folder of references need not have one for each."""
        if self.reference is None or not self.reference.is_dir():
            return self.reference
        path = self.reference / item.relative
        return path if path.exists() else None


@lru_cache(maxsize=4)
def _cleaner(
    model: str, modality: str, precision: str, remove: tuple[str, ...], keep: tuple[str, ...]
) -> Cleaner:
    """The model, loaded once in each process."""
    from denoise.infer import load

    return load(model, modality, precision, remove, keep)


@dataclass(frozen=True, kw_only=True)
class CorruptJob(Job):
    """Add noise to files.

    Args:
        noise: Specs as `denoise.corruptions.parse` takes them. Each file gets, in turn, those that are meant
            for its modality; files for which there is none are left out.
        seed: With the file's place in the tree it decides the noise.
    """

    noise: tuple[str, ...] = ()
    seed: int = 0

    def reject_reason(self, modality: str) -> str | None:
        return None if self._chain(modality) else f"is {modality}; the noise is for other kinds of files"

    def settings(self, modality: str) -> dict[str, Any]:
        return {"noise": [str(noise) for noise in self._chain(modality)], "seed": self.seed}

    def execute(self, item: Item) -> Outcome:
        import numpy as np

        from denoise import io
        from denoise.corruptions import Chain, corrupt

        options = {"max_pixels": self.max_pixels} if item.modality == "image" else {}
        noise = Chain(self._chain(item.modality))
        seed = seed_for(self.seed, item.key)
        with io.reader(item.source, **options) as reader:
            info = reader.info
            # A signal is corrupted as a whole: a level that is relative to its power needs all of it.
            blocks = reader if info.modality == "image" else [np.concatenate(list(reader), axis=-1)]
            with io.writer(item.destination, info) as writer:
                for page, block in enumerate(blocks):
                    kept = block.shape[0] - info.passthrough_channels
                    noisy = corrupt(
                        block[:kept], noise, seed=seed + page, peak=info.peak, sample_rate=info.sample_rate
                    )
                    writer.write(np.concatenate([noisy, block[kept:]]))
        return Outcome(notes=(f"noise: {noise}", *info.notes))

    def _chain(self, modality: str) -> tuple[Corruption, ...]:
        from denoise.corruptions import parse

        return tuple(noise for noise in map(parse, self.noise) if modality in noise.modalities)


def seed_for(seed: int, key: str) -> int:
    """A seed for one file: the same wherever the folder lies and whatever else is in it."""
    return int.from_bytes(
        hashlib.sha256(f"{seed}:{key}".encode("utf-8", "surrogateescape")).digest()[:6], "big"
    )
