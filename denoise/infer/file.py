"""Clean one file into another: reader, model, writer."""

from __future__ import annotations

import base64
import html
import io as io_bytes
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from denoise import io
from denoise.errors import InputError, UsageError
from denoise.infer.catalogue import load
from denoise.infer.cleaner import Cleaner
from denoise.infer.pages import clean_pages
from denoise.infer.profile import NoiseProfile, profiled
from denoise.infer.progress import cleaning
from denoise.infer.result import mean_figures, salvaged
from denoise.infer.runtime import runtime_for
from denoise.infer.selection import Selection
from denoise.io.formats import modality_of
from denoise.models.contract import check_request
from denoise.models.table import RUNTIMES
from denoise.options import CleanOptions
from denoise.registry import unknown
from denoise.signal import SignalInfo


@dataclass(frozen=True, repr=False)
class FileReport:
    """Result of cleaning one file.

    Args:
        modality: Name in `denoise.signal.MODALITIES`.
        model: Name of the model that cleaned it; with `auto`, of the one that it selected.
        seconds: Duration, reading and writing included.
        metrics: With a reference its metrics, such as `psnr_db` (of the output) and `psnr_db_before` (of the
            input); without, the estimated noise, such as `estimated_sigma_before` and
            `estimated_sigma_after` (not of an image that `none` copied). With `auto` also the means of
            `estimated_sigma`, `estimated_blur_px` and `estimated_jpeg_quality` over the pages, or
            `speech_share`.
        notes: Sentences for the user about what was selected and converted.
        clipped: Number of samples outside the range of the file.
        salvaged: Sentence that says how much of a damaged recording was cleaned; None of a whole file.
        cost: `s_per_mpx` (seconds per megapixel), `real_time_factor` (seconds per second of signal), or
            `s_per_msample` for a log of unknown rate.
        precision: Arithmetic of the network, a name in `denoise.models.table.PRECISIONS`, and its runtime if
            that is not torch.
        source: Input.
        destination: Result.
        selections: Choice of `auto` for a recording, or for each page.
        duration_s: Duration of a recording, seconds; None of other files.
    """

    modality: str
    model: str
    seconds: float
    metrics: Mapping[str, float]
    notes: tuple[str, ...]
    clipped: int
    cost: Mapping[str, float]
    salvaged: str | None = None
    precision: str | None = None
    source: Path | None = None
    destination: Path | None = None
    selections: tuple[Selection, ...] = ()
    duration_s: float | None = None

    def __repr__(self) -> str:
        pairs = {
            name.removesuffix("_before"): value for name, value in self.metrics.items() if "_before" in name
        }
        changes = [
            f"{name} {before:.4g} -> {self.metrics.get(f'{name}_after', self.metrics.get(name, before)):.4g}"
            for name, before in pairs.items()
        ]
        facts = [f"{self.modality} by {self.model}", *changes[:2], f"{self.seconds:.2f} s"]
        return f"<FileReport {self.source.name if self.source else ''}: {', '.join(facts)}>"

    def _repr_html_(self) -> str | None:
        """Draw both files for a notebook; None if they are gone."""
        if not (self.source and self.destination and self.source.is_file() and self.destination.is_file()):
            return None
        from denoise.plot import before_after

        drawn = io_bytes.BytesIO()
        before_after(self.source, self.destination).savefig(drawn, format="png", dpi=90)
        picture = base64.b64encode(drawn.getvalue()).decode("ascii")
        shown = f'<img alt="before and after" src="data:image/png;base64,{picture}">'
        return f"<p>{html.escape(repr(self))}</p>{shown}"


def clean_file(
    source: str | Path,
    destination: str | Path,
    model: Cleaner | str | None = None,
    options: CleanOptions | None = None,
    **changes: Any,
) -> FileReport:
    """Clean a file; the source is only read, the destination appears complete or not at all.

    Memory is bounded by an image's page or by a signal's block, not by a signal's length; except that a model
    that needs the whole signal, and a reference, each hold it all.

    Args:
        source: Noisy file.
        destination: File to write, in a format of the same modality.
        model: Loaded denoiser, or in place of `options.model` a name or a weights file.
        options: How to clean; `reference` is one file.
        changes: Options by name, in place of those of `options`, such as `strength=0.9`.

    Raises:
        UsageError: The options cannot be honoured, or the destination is the source.
        InputError: The file cannot be cleaned.
        OutputError: The result cannot be written.
    """
    started = time.perf_counter()
    source, destination = Path(source), Path(destination)
    known = [field.name for field in fields(CleanOptions)]
    for name in changes.keys() - set(known):
        raise unknown("option", name, known)
    options = replace(options or CleanOptions(), **changes)
    modality = io.modality(source).name
    options.check_modality(modality, source)
    options.check_duration(source, modality)
    if not isinstance(model, Cleaner):
        options = replace(options, model=model or options.model)
        model = load_cleaner(options, modality, runtime_for(options, [source] * (modality == "image")))
    elif model.spec.modality != modality:
        raise UsageError(f"the model {model.name} is for {model.spec.modality}, {source} is {modality}")
    check_request(model.name, model.model, options.strength, options.sigma)
    _check_destination(source, destination, modality)
    with _with_path(source), cleaning(source):
        if options.noise_profile:
            model = profiled(model, NoiseProfile.parse(options.noise_profile), source)
        if modality == "image":
            result = clean_pages(source, destination, model, options)
        else:
            from denoise.infer.recordings import clean_recordings  # which imports torch

            result = clean_recordings(source, destination, model, options)
    seconds = time.perf_counter() - started
    return FileReport(
        modality,
        " and ".join(dict.fromkeys(selection.model for selection in result.selections)),
        seconds,
        result.metrics | mean_figures([selection.figures for selection in result.selections]),
        model.notes + _reasons(result.selections, modality, options.streams) + result.notes,
        result.clipped,
        _cost(result.info, result.size, seconds),
        salvaged(result.info),
        model.precision_of([selection.model for selection in result.selections]),
        source,
        destination,
        result.selections,
        result.size / info.sample_rate if modality == "audio" and (info := result.info).sample_rate else None,
    )


def load_cleaner(options: CleanOptions, modality: str, runtime: str = RUNTIMES[0]) -> Cleaner:
    """Load the model that the options choose for files of a modality."""
    given = options.precision, options.remove, options.keep, options.ensemble, runtime
    return load(options.model_for(modality), modality, *given)


def _reasons(
    selections: Sequence[Selection], modality: str, streams: Sequence[int] | None
) -> tuple[str, ...]:
    """Reason of each selection; of several parts of a file, for the first of each kind."""
    if len(selections) == 1:
        return (selections[0].reason,) if selections[0].reason else ()
    first = {selection.model: part for part, selection in reversed(list(enumerate(selections)))}
    parts = sorted(part for part in first.values() if selections[part].reason)
    word = {"image": "page", "audio": "track"}.get(modality, "recording")
    numbers = streams or range(1, len(selections) + 1)
    return tuple(f"{word} {numbers[part]}: {selections[part].reason}" for part in parts)


def _check_destination(source: Path, destination: Path, modality: str) -> None:
    # Under the source's suffix even a misnamed file stays what it is.
    renamed = destination.suffix.lower() != source.suffix.lower()
    if renamed and modality_of(destination, modality).name != modality:
        raise UsageError(f"{destination} cannot hold what {source} holds ({modality})")
    same = destination.resolve() == source.resolve()
    if same or (destination.exists() and source.exists() and destination.samefile(source)):
        raise UsageError(f"{destination} is the source itself: name another destination")


@contextmanager
def _with_path(source: Path) -> Iterator[None]:
    """Name the file in errors about its samples."""
    try:
        yield
    except InputError as error:
        if str(source) in str(error):
            raise
        raise type(error)(f"{source}: {error}") from error


def _cost(info: SignalInfo, size: int, seconds: float) -> dict[str, float]:
    if not size:
        return {}
    if info.modality == "image":
        return {"s_per_mpx": seconds / size * 1e6}
    if info.sample_rate:
        return {"real_time_factor": seconds * info.sample_rate / size}
    return {"s_per_msample": seconds / size * 1e6}
