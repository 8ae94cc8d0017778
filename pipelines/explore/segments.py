"""Segments of many files of one kind: a training sample, and errors that cost one file each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from denoise import io
from denoise.analysis.segments import Segment, Segmentation, Segments
from denoise.arrays import Floats
from denoise.errors import DenoiseError, InputError, UsageError, reason
from denoise.signal import MODALITIES, SignalInfo
from pipelines.batch import discover
from pipelines.batch.discover import Problem, Source
from pipelines.batch.worker import with_path

if TYPE_CHECKING:  # importing it imports torch
    from denoise.analysis.embedding import AutoencoderEmbedding

_MAX_SAMPLED = 20_000  # segments in a training sample
_MAX_VALUES = 2**26  # values in a training sample: 256 MiB
_DENSE_VALUES = 4096  # largest segment of a dense network
_SIDE_PX = 32  # side to which whole pictures are resized
_WINDOW_S = 0.064  # of recordings
_AUDIO_HZ = 16_000.0  # maximum rate of recordings
_WINDOW = 128  # samples of sensor logs

Result = TypeVar("Result")


@dataclass
class Files:
    """Files of one kind, and the problems with some."""

    modality: str  # their kind
    sources: list[Source]  # in name order
    problems: list[Problem] = field(default_factory=list)  # grows as files turn out to be bad
    ignored: list[Problem] = field(default_factory=list)  # files of other kinds
    # options of their reader, as `denoise.io.reader` takes them
    options: Mapping[str, Any] = field(default_factory=dict)

    def each(self, work: Callable[[Source], Result]) -> Iterator[tuple[Source, Result]]:
        """Process each file without a problem; an error becomes its problem."""
        bad = {problem.path for problem in self.problems}
        for source in self.sources:
            if source.path in bad:
                continue
            try:
                yield source, work(source)
                continue
            except DenoiseError as error:
                if not isinstance(error, InputError):
                    raise
                sentence = str(error)
            except MemoryError:
                raise
            except Exception as error:  # a defect here or in a decoder costs one file
                sentence = f"unexpected {type(error).__name__}: {reason(error)}"
            self.problems.append(Problem(source.path, with_path(sentence, source.path)))


def find(
    inputs: Iterable[Path],
    modality: str | None = None,
    *,
    recursive: bool = True,
    columns: tuple[str, ...] | None = None,
    judged: bool = False,
) -> Files:
    """Find the files of one kind below the inputs.

    Args:
        modality: Kind of the files; None takes the only one present.
        columns: Columns of sensor logs to use; None uses all measurements.
        judged: Use constants, flags and held values of sensor logs, too.

    Raises:
        UsageError: An input is missing, there are no files of the kind, or several kinds and no `modality`.
    """
    inputs = tuple(inputs)

    def reject_reason(name: str) -> str | None:
        return None if modality in (None, name) else f"is {name}, and {modality} was asked for"

    found = discover.find(inputs, recursive=recursive, reject_reason=reject_reason)
    kinds = Counter(source.modality for source in found.sources)
    named = ", ".join(map(str, inputs))
    if len(kinds) > 1:
        counted = " and ".join(f"{number} {name}" for name, number in kinds.items())
        raise UsageError(f"{named}: hold {counted} files; choose one kind with --kind")
    if not kinds and not found.problems:
        raise UsageError(f"no {modality or 'readable'} files in {named}")
    kind = next(iter(kinds), modality or next(iter(MODALITIES)))
    options: dict[str, Any] = {"columns": columns} if columns else {}
    if judged and kind == "sensor":
        options["judged"] = True
    return Files(kind, found.sources, list(found.problems), list(found.ignored), options)


def default_segmentation(files: Files, window: float | None = None) -> Segmentation:
    """Choose a segmentation for files where no model fixes it.

    Whole pictures are resized to 32 pixels a side or fewer; recordings give windows of 64 ms at 16 kHz or
    less; sensor logs give standardised windows of 128 samples. Windows of more than 4096 values grow to the
    next power of two, so that a convolutional network can halve them.

    Args:
        files: Probed for colour, size and rate.
        window: Side of picture tiles in pixels, seconds of recordings, or samples of sensor logs.
    """
    if files.modality == "sensor":
        return Segmentation("sensor", (_window_size(window or _WINDOW, 1),), standardise=True)
    infos: list[SignalInfo] = [
        info for _, info in files.each(lambda source: io.probe(source.path, **files.options))
    ]
    if files.modality == "audio":
        rate = min([_AUDIO_HZ, *(info.sample_rate for info in infos if info.sample_rate)])
        return Segmentation("audio", (_window_size((window or _WINDOW_S) * rate, 1),), sample_rate=rate)
    channels = 3 if any(info.shape[0] - info.passthrough_channels >= 3 for info in infos) else 1
    largest = max((max(info.shape[1:]) for info in infos), default=_SIDE_PX)
    side = _window_size(window, channels * window) if window else min(_SIDE_PX, largest)
    return Segmentation("image", (side, side), channels, whole=not window)


def windowed(cut: Segmentation, window: float | None) -> Segmentation:
    """Change the window of a segmentation: pixels a side, seconds, or samples of a log."""
    if not window:
        return cut
    samples = round(window * (cut.sample_rate or 1)) if cut.modality == "audio" else round(window)
    return replace(cut, size=(max(1, samples),) * len(cut.size), whole=False)


def _window_size(size: float, others: float) -> int:
    """Size of a window along an axis, each of whose samples holds `others` values."""
    if not 1 <= round(size) <= 2**20:
        raise UsageError(f"a window of {size:g} pixels or samples: expected 1 to {2**20}")
    size = round(size)
    return size if size * others <= _DENSE_VALUES else 1 << (size - 1).bit_length()


def sample_segments(
    files: Files, cut: Segmentation, most: int = _MAX_SAMPLED, seed: int = 0
) -> list[tuple[Path, Segment]]:
    """Sample at most `most` segments of files uniformly, in bounded memory (reservoir sampling, Vitter 1985).

    Raises:
        UsageError: The files have no segment.
    """
    most = max(1, min(most, _MAX_VALUES // int(np.prod(cut.shape))))
    rng = np.random.default_rng(seed)
    kept: list[tuple[Path, Segment]] = []
    seen = 0

    def take(source: Source) -> None:
        nonlocal seen
        for segment in Segments(source.path, cut, files.options):
            seen += 1
            if len(kept) < most:
                kept.append((source.path, segment))
            elif (place := int(rng.integers(seen))) < most:
                kept[place] = source.path, segment

    for _ in files.each(take):
        pass
    if not kept:
        why = f"; the first problem: {files.problems[0].error}" if files.problems else ""
        raise UsageError(f"{len(files.sources)} files give no segment to train on{why}")
    return kept


def sample(files: Files, cut: Segmentation, most: int = _MAX_SAMPLED, seed: int = 0) -> Floats:
    """Return the values of `sample_segments`: `(n, channels, *size)`."""
    return np.stack([segment.values for _, segment in sample_segments(files, cut, most, seed)])


def fit_embedding(
    items: Floats, cut: Segmentation, code_size: int | None = None, seed: int = 0, **settings: Any
) -> AutoencoderEmbedding:
    """Fit an estimator on segments: a dense network up to 4096 values each, a convolutional one above.

    `settings` are its other parameters; without a `code_size` it has its default.
    """
    from denoise.analysis.embedding import AutoencoderEmbedding

    if code_size is not None:
        settings["code_size"] = code_size
    if "config" not in settings and int(np.prod(cut.shape)) > _DENSE_VALUES:
        settings["config"] = {"backbone": "conv", "widths": _widths(cut.size)}
    return AutoencoderEmbedding(modality=cut.modality, seed=seed, **settings).fit(items)


def _widths(size: Sequence[int]) -> tuple[int, ...]:
    """Widths of a convolutional network that leaves few cells per axis."""
    widths = [16]
    sides = np.array(size)
    while not (sides % 2).any() and sides.min() > 2:
        widths.append(min(2 * widths[-1], 128))
        sides = sides // 2
    return tuple(widths)
