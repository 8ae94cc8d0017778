"""The excerpts of many files of one kind: a sample to learn from, and no bad file that stops the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from denoise import io
from denoise.analysis.segments import Segmentation, Segments
from denoise.errors import DenoiseError, InputError, UsageError, reason
from denoise.signal import MODALITIES, SignalInfo
from pipelines.batch import discover
from pipelines.batch.discover import Problem, Source
from pipelines.batch.worker import with_path

if TYPE_CHECKING:  # importing it imports torch
    from denoise.analysis.embedding import AutoencoderEmbedding

__all__ = ["MAX_SAMPLED", "Files", "default_segmentation", "find", "fit_embedding", "sample"]

MAX_SAMPLED = 20_000  # excerpts to learn from
_MAX_VALUES = 2**26  # of them together: 256 MiB
_DENSE_VALUES = 4096  # of an excerpt, up to which a dense network is small
_SIDE_PX = 32  # of a picture that is looked at as a whole
_WINDOW_S = 0.064  # of recordings
_AUDIO_HZ = 16_000.0  # the highest rate that recordings are looked at
_WINDOW = 128  # samples of sensor logs

Result = TypeVar("Result")


@dataclass
class Files:
    """Files of one kind, and what went wrong with which.

    Args:
        modality: Of all of them.
        sources: In name order.
        problems: Grows as files turn out to be bad.
        ignored: What the walk passed over.
        options: For the reader of each, as `denoise.io.reader` takes them.
    """

    modality: str
    sources: list[Source]
    problems: list[Problem] = field(default_factory=list)
    ignored: list[Problem] = field(default_factory=list)
    options: Mapping[str, Any] = field(default_factory=dict)

    def excerpts(self, source: Source, cut: Segmentation) -> Segments:
        """The excerpts of one of them."""
        return Segments(source.path, cut, self.options)

    def each(self, work: Callable[[Source], Result]) -> Iterator[tuple[Source, Result]]:
        """Do something to each file that was not bad yet; one that fails becomes a problem."""
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
            except Exception as error:  # a defect of ours or of a decoder costs one file, not the rest
                sentence = f"unexpected {type(error).__name__}: {reason(error)}"
            self.problems.append(Problem(source.path, with_path(sentence, source.path)))


def find(
    inputs: Iterable[Path],
    modality: str | None = None,
    *,
    recursive: bool = True,
    options: Mapping[str, Any] | None = None,
) -> Files:
    """The files of one kind below the inputs.

    Args:
        inputs: Files and folders.
        modality: Files of others are ignored; None takes the one kind that is there.
        recursive: Whether to go into folders below the named ones.
        options: For the readers, such as `columns` for sensor logs.

    Raises:
        UsageError: An input is not there, nothing of the kind is, or there are several and none is named.
    """
    inputs = tuple(inputs)

    def reject_reason(name: str) -> str | None:
        return None if modality in (None, name) else f"is {name}, and {modality} was asked for"

    found = discover.find(inputs, recursive=recursive, reject_reason=reject_reason)
    kinds = Counter(source.modality for source in found.sources)
    named = ", ".join(map(str, inputs))
    if len(kinds) > 1:
        counted = " and ".join(f"{number} {name}" for name, number in kinds.items())
        raise UsageError(f"{named}: hold {counted} files; one code is for one kind: say which")
    if not kinds and not found.problems:
        what = f"{modality} files" if modality else "files that can be read"
        raise UsageError(f"{named}: hold no {what}")
    kind = next(iter(kinds), modality or next(iter(MODALITIES)))
    return Files(kind, found.sources, list(found.problems), list(found.ignored), dict(options or {}))


def default_segmentation(files: Files, window: float | None = None) -> Segmentation:
    """Choose a segmentation for files where no model fixes it.

    Pictures are looked at as a whole, in 32 pixels a side or fewer; recordings in windows of 64 ms at 16 kHz
    or less; sensor logs in windows of 128 samples that are standardised. Windows of more than 4096 values,
    which get a convolutional network, grow to the next power of two, so that it can halve them.

    Args:
        files: They are probed: for colour, size and rate.
        window: Side in pixels of the tiles that pictures are then cut into, seconds of recordings, samples of
            sensor logs.
    """
    if files.modality == "sensor":
        return Segmentation("sensor", (_whole(window or _WINDOW, 1),), standardise=True)
    infos: list[SignalInfo] = [
        info for _, info in files.each(lambda source: io.probe(source.path, **files.options))
    ]
    if files.modality == "audio":
        rate = min([_AUDIO_HZ, *(info.sample_rate for info in infos if info.sample_rate)])
        return Segmentation("audio", (_whole((window or _WINDOW_S) * rate, 1),), sample_rate=rate)
    channels = 3 if any(info.shape[0] - info.passthrough_channels >= 3 for info in infos) else 1
    largest = max((max(info.shape[1:]) for info in infos), default=_SIDE_PX)
    side = _whole(window, channels * window) if window else min(_SIDE_PX, largest)
    return Segmentation("image", (side, side), channels, whole=not window)


def _whole(size: float, others: float) -> int:
    """The size of a window, of which each value of that axis stands for so many of the others."""
    if not 1 <= round(size) <= 2**20:
        raise UsageError(f"a window of {size:g} pixels or samples: expected 1 to {2**20}")
    size = round(size)
    return size if size * others <= _DENSE_VALUES else 1 << (size - 1).bit_length()


def sample(files: Files, cut: Segmentation, most: int = MAX_SAMPLED, seed: int = 0) -> NDArray[np.float32]:
    """At most so many excerpts, each as likely as any other (reservoir sampling, Vitter 1985).

    Memory is bounded by them, not by the files.

    Shape:
        `(n, channels, *size)`.

    Raises:
        UsageError: There are none.
    """
    most = max(1, min(most, _MAX_VALUES // int(np.prod(cut.shape))))
    rng = np.random.default_rng(seed)
    kept: list[NDArray[np.float32]] = []
    seen = 0

    def take(source: Source) -> None:
        nonlocal seen
        for excerpt in files.excerpts(source, cut):
            seen += 1
            if len(kept) < most:
                kept.append(excerpt.values)
            elif (place := int(rng.integers(seen))) < most:
                kept[place] = excerpt.values

    for _ in files.each(take):
        pass
    if not kept:
        why = f"; the first problem: {files.problems[0].error}" if files.problems else ""
        raise UsageError(f"there is nothing to learn from in {len(files.sources)} files{why}")
    return np.stack(kept)


def fit_embedding(
    learned: NDArray[np.float32],
    cut: Segmentation,
    code_size: int | None = None,
    seed: int = 0,
    **settings: Any,
) -> AutoencoderEmbedding:
    """An estimator for excerpts: a dense network up to 4096 values of each, a convolutional one above.

    Args:
        learned: What it is fitted on, such as a `sample`.
        cut: How they were cut.
        code_size: Numbers a code; None takes the estimator's own default.
        seed: Decides weights and training.
        settings: Other parameters of the estimator.
    """
    from denoise.analysis.embedding import AutoencoderEmbedding

    if code_size is not None:
        settings["code_size"] = code_size
    if "config" not in settings and int(np.prod(cut.shape)) > _DENSE_VALUES:
        settings["config"] = {"backbone": "conv", "widths": _widths(cut.size)}
    return AutoencoderEmbedding(modality=cut.modality, seed=seed, **settings).fit(learned)


def _widths(size: Sequence[int]) -> tuple[int, ...]:
    """Widths of a convolutional network that leaves few cells per axis."""
    widths = [16]
    sides = np.array(size)
    while not (sides % 2).any() and sides.min() > 2:
        widths.append(min(2 * widths[-1], 128))
        sides = sides // 2
    return tuple(widths)
