"""Jobs as data: what to do to each of many files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from denoise.errors import UnfitReferenceError, UsageError, counted
from denoise.models.table import PROFILED_MODEL, RUNTIMES, resolved_precision
from denoise.options import MAX_BYTES, MAX_SEED, MAX_WORKERS, CleanOptions, LimitOptions, Option, Options
from pipelines.batch.discover import Item
from pipelines.batch.naming import NAMED_FORMATS, Naming, is_backup_suffix

if TYPE_CHECKING:
    from denoise.arrays import Array
    from denoise.corruptions import Corruption
    from denoise.infer.catalogue import CatalogueRow
    from denoise.infer.cleaner import Cleaner
    from denoise.signal import SignalInfo


@dataclass(frozen=True)
class Outcome:
    """Report of a job on a file that it finished."""

    model: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    salvaged: str | None = None  # sentence that says how much of a damaged file was processed
    precision: str | None = None  # arithmetic of the network
    duration_s: float | None = None  # of a recording, seconds


@dataclass(frozen=True, kw_only=True)
class Job(Options):
    """Something to do to many files, each on its own; its own options decide where and how it runs."""

    inputs: tuple[Path, ...]  # files and folders, or URLs of them (`pipelines.batch.store`)
    output: Annotated[
        Path,
        Option("Folder for the results, or a file for one file.", short="-o", unset="beside single files"),
    ]
    options: LimitOptions = field(default=LimitOptions())  # what to do to each file
    listed: frozenset[Path] = frozenset()  # inputs that a list named, which may be gone since
    reports: tuple[Path, ...] = ()  # files that the caller writes besides, whose names no result may have
    recursive: Annotated[bool, Option("Include folders below the inputs.")] = True
    overwrite: Annotated[
        bool, Option("Process every file again and replace existing results, whoever wrote them.")
    ] = False
    dry_run: Annotated[bool, Option("Show the plan; write nothing.")] = False
    manifest: Annotated[
        bool, Option("Keep a manifest also beside a single file that OUTPUT names; a folder always has one.")
    ] = False
    in_place: Annotated[bool, Option("Replace each input by its result, once that is complete.")] = False
    backup: Annotated[
        str | None,
        Option(
            "Keep each original of --in-place under its name and this.", metavar=".SUFFIX", unset="none kept"
        ),
    ] = None
    template: Annotated[
        str | None,
        Option("Names of results, of {stem} and {ext}.", metavar="{stem}_clean{ext}", unset="as the inputs"),
    ] = None
    format: Annotated[
        str, Option("Write all files of its kind in this format.", choices=("same", *NAMED_FORMATS))
    ] = "same"
    workers: Annotated[
        int | None,
        Option("Number of parallel processes.", low=1, high=MAX_WORKERS, unset="one per core for long jobs"),
    ] = None
    engine: Annotated[
        str, Option("Run the workers on this machine, or on a Dask cluster.", choices=("local", "dask"))
    ] = "local"
    scheduler: Annotated[
        str | None,
        Option(
            "Address of a Dask scheduler.", metavar="tcp://HOST:PORT", unset="a new cluster on this machine"
        ),
    ] = None
    keep_mtime: Annotated[bool, Option("Give each result the modification time of its input.")] = False
    timeout: Annotated[float | None, Option("Fail a file that takes longer.", "s", low=0, low_open=True)] = (
        None
    )
    memory: Annotated[
        int | None,
        Option("Memory limit of all workers together, such as 2GB.", "bytes", low=1, high=MAX_BYTES),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scheduler and self.engine != "dask":
            raise UsageError("scheduler: is for engine dask")
        if self.engine == "dask" and (self.timeout or self.memory):
            raise UsageError("timeout and memory are for engine local; Dask workers have limits of their own")
        if self.scheduler and self.workers:
            raise UsageError("workers: a Dask scheduler has its own; expected one of workers and scheduler")
        if self.in_place and (self.template or self.format != "same"):
            raise UsageError("in_place keeps names and formats; leave out template and format")
        if self.backup is not None and not self.in_place:
            raise UsageError("backup: is for in_place")
        if self.backup is not None and not is_backup_suffix(self.backup):
            raise UsageError(f"backup: {self.backup!r} is no suffix of its own, such as .orig")
        self.naming.check()

    @property
    def naming(self) -> Naming:
        """Names of the results."""
        return Naming(self.template, self.format, self.in_place, self.backup)

    @property
    def exclude_dir(self) -> Path | None:
        """Folder to skip even inside an input."""
        return None

    def reject_reason(self, modality: str) -> str | None:
        """Reason why the job does not take files of a modality; None if it does."""
        raise NotImplementedError

    def settings(self, modality: str) -> dict[str, Any]:
        """Everything that outputs depend on, besides the inputs."""
        return self.options.settings(modality)

    def check(self, modality: str) -> None:
        """Refuse, before work starts, what would fail for every file of a modality."""

    def prepare(self, modality: str) -> None:
        """Load what the files of a modality share, before the clock of a file starts."""

    def seconds_per_million(self, _modality: str) -> float:
        """Estimated seconds for a million pixels or samples."""
        return 0.1

    def image_paces(self, _items: Sequence[Item]) -> Mapping[str, float]:
        """Measured seconds per million pixels of images, by suffix; of a dry run, which may take a while."""
        return {}

    def execute(self, item: Item) -> Outcome:
        """Process one file: read the source, write the destination."""
        raise NotImplementedError

    def for_workers(self, _items: Sequence[Item], /) -> Self:
        """Return the job with what this machine decides for all workers on its files."""
        return self

    def fingerprint(self, modality: str) -> str:
        """sha256 of the settings and of the version that gives them their meaning."""
        import denoise

        facts = {"job": type(self).__name__, "version": denoise.__version__, **self.settings(modality)}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class CleanJob(Job):
    """Clean files; those that the named model does not take are left out."""

    # how to clean; `reference` is a folder that mirrors the input, or one file
    options: CleanOptions = field(default=CleanOptions())
    runtime: str = RUNTIMES[0]  # of networks for images; `for_workers` chooses it

    def __post_init__(self) -> None:
        super().__post_init__()
        reference = self.options.reference
        if reference is None:
            return
        if not reference.exists():
            raise UsageError(f"{reference}: no such file or folder for the reference")
        if not (reference.is_file() or reference.is_dir()):
            raise UsageError(f"{reference}: is no regular file and no folder; expected one for the reference")
        if reference.is_file() and not (len(self.inputs) == 1 and self.inputs[0].is_file()):
            raise UsageError(f"{reference}: the reference is one file; for several inputs give a folder")

    @property
    def exclude_dir(self) -> Path | None:
        return self.options.reference

    def row(self, modality: str) -> CatalogueRow:
        """Catalogue row of the model for a modality."""
        from denoise.infer.catalogue import for_modality

        return for_modality(self.options.model_for(modality), modality)

    def reject_reason(self, modality: str) -> str | None:
        from denoise.infer.catalogue import find

        model = self.options.model
        if model is None or modality in find(model).modalities:
            return None
        return f"is {modality}; model {model} cleans {' and '.join(find(model).modalities)}"

    def check(self, modality: str) -> None:
        options = self.options.for_modality(modality)
        if options.noise_profile:
            from denoise.infer.profile import NoiseProfile

            NoiseProfile.parse(options.noise_profile)
            if (name := self.row(modality).name) != PROFILED_MODEL:
                raise UsageError(f"noise_profile: is for the model {PROFILED_MODEL}, not for {name}")
        if options.remove or options.keep:
            _load(options, modality)
        if options.sigma is not None and not _load(options, modality).takes_sigma:
            raise UsageError(f"sigma: model {self.row(modality).name!r} finds the noise level itself")

    def settings(self, modality: str) -> dict[str, Any]:
        return {**super().settings(modality), "model": self.row(modality).digest}

    def for_workers(self, items: Sequence[Item]) -> Self:
        from denoise.infer.runtime import runtime_for

        images = [item.source for item in items if item.modality == "image"]
        if images and self.engine == "local" and all(isinstance(source, Path) for source in images):
            runtime = runtime_for(self.options.for_modality("image"), images)
            if runtime != RUNTIMES[0]:
                return replace(self, runtime=runtime)
        precision = resolved_precision(self.options.precision)
        return replace(self, options=replace(self.options, precision=precision))

    def seconds_per_million(self, modality: str) -> float:
        from pipelines.batch.forecast import seconds_per_million

        row = self.row(modality)
        return seconds_per_million(modality, row.name, learned=row.kind != "classical")

    def image_paces(self, items: Sequence[Item]) -> Mapping[str, float]:
        images = [item for item in items if item.modality == "image"]
        if not images:
            return {}
        from pipelines.batch.pace import image_paces

        return image_paces(_load(self.options.for_modality("image"), "image"), images)

    def prepare(self, modality: str) -> None:
        from pipelines.batch.allocation import tune_allocation

        tune_allocation()
        self._cleaner(modality)

    def _cleaner(self, modality: str) -> Cleaner:
        runtime = self.runtime if modality == "image" else RUNTIMES[0]
        return _load(self.options.for_modality(modality), modality, runtime)

    def execute(self, item: Item) -> Outcome:
        from denoise.infer.file import clean_file

        options = self.options.for_modality(item.modality)
        reference = self._reference_of(item)
        clean = partial(clean_file, item.source, item.destination, self._cleaner(item.modality))
        try:
            report = clean(replace(options, reference=reference))
            notes = report.notes
        except UnfitReferenceError as error:
            report = clean(replace(options, reference=None))
            notes = (
                *report.notes,
                f"{str(error).removeprefix(f'{item.source}: ')}: the figures are estimates",
            )
        if report.clipped:
            notes += (f"{counted(report.clipped, 'sample')} outside the range of the file: clipped",)
        if options.reference and not reference:
            notes += (f"no {item.relative} in {options.reference}: the figures are estimates",)
        return Outcome(
            report.model, report.metrics, notes, report.salvaged, report.precision, report.duration_s
        )

    def _reference_of(self, item: Item) -> Path | None:
        """Reference of a file; a folder need not have one for each."""
        reference = self.options.reference
        if reference is None or not reference.is_dir():
            return reference
        path = reference / item.relative
        return path if path.exists() else None


@lru_cache(maxsize=4)
def _load(options: CleanOptions, modality: str, runtime: str = RUNTIMES[0]) -> Cleaner:
    """Load a model once in each process."""
    from denoise.infer.file import load_cleaner

    return load_cleaner(options, modality, runtime)


@dataclass(frozen=True, kw_only=True)
class CorruptOptions(LimitOptions):
    """Noise for files: each gets, in turn, what is meant for its modality."""

    noise: Annotated[
        tuple[str, ...],
        Option(
            "Such as gaussian:sigma=25 (images: 8-bit units) or white:snr_db=5; several apply in turn.",
            metavar="SPEC",
            repeated=True,
        ),
    ]
    seed: Annotated[
        int, Option("Seed of the noise, together with the place of a file in the tree.", low=0, high=MAX_SEED)
    ] = 0


@dataclass(frozen=True, kw_only=True)
class CorruptJob(Job):
    """Add noise to files; those for which there is none are left out."""

    options: CorruptOptions = field(default=CorruptOptions(noise=()))

    def reject_reason(self, modality: str) -> str | None:
        return None if self._chain(modality) else f"is {modality}; the noise is for other kinds of files"

    def settings(self, modality: str) -> dict[str, Any]:
        return {**super().settings(modality), "noise": [str(noise) for noise in self._chain(modality)]}

    def execute(self, item: Item) -> Outcome:
        import numpy as np

        from denoise import io
        from denoise.corruptions import Chain, corrupt

        options = {"max_pixels": self.options.max_pixels} if item.modality == "image" else {}
        noise = Chain(self._chain(item.modality))
        seed = seed_for(self.options.seed, item.key)
        first = io.probe(item.source, **options)
        with io.writer(item.destination, first) as writer:
            for page, (info, block) in enumerate(_pages(item.source, options)):
                kept = block.shape[0] - info.passthrough_channels
                noisy = corrupt(
                    block[:kept], noise, seed=seed + page, peak=info.peak, sample_rate=info.sample_rate
                )
                writer.write(np.concatenate([noisy, block[kept:]]))
        return Outcome(notes=(f"noise: {noise}", *first.notes, *getattr(writer, "notes", ())))

    def _chain(self, modality: str) -> tuple[Corruption, ...]:
        from denoise.corruptions import parse

        return tuple(noise for noise in map(parse, self.options.noise) if modality in noise.modalities)


def _pages(source: Path, options: dict[str, Any]) -> Iterator[tuple[SignalInfo, Array]]:
    """Yield the pages of an image, or the recordings of a signal: a level relative to its power needs all."""
    import numpy as np

    from denoise import io

    with io.reader(source, **options) as reader:
        if reader.info.modality == "image":
            yield from ((reader.info, block) for block in reader)
            return
        yield reader.info, np.concatenate(list(reader), axis=-1)
        recordings = reader.info.pages if reader.info.modality == "sensor" else 1
    for recording in range(1, recordings):
        with io.reader(source, **options, recording=recording) as reader:
            yield reader.info, np.concatenate(list(reader), axis=-1)


def seed_for(seed: int, key: str) -> int:
    """Seed of one file, which depends on its key alone and not on the place of its folder."""
    return int.from_bytes(
        hashlib.sha256(f"{seed}:{key}".encode("utf-8", "surrogateescape")).digest()[:6], "big"
    )
