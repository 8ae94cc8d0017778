"""Run a job: plan, skip finished files, process the rest, keep the manifest."""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from denoise.errors import StorageError, UsageError
from pipelines.batch import discover, forecast
from pipelines.batch.discover import Item, Plan, Problem
from pipelines.batch.engines import table as engines
from pipelines.batch.forecast import Cost
from pipelines.batch.jobs import Job
from pipelines.batch.manifest import Entry, Manifest
from pipelines.batch.store import MANIFEST_NAME, place

OnEntry = Callable[[Entry], object]
Progress = Callable[[int], AbstractContextManager[OnEntry]]  # for a number of files


@dataclass(frozen=True)
class Result:
    """Results of all files."""

    entries: tuple[Entry, ...]  # one entry per file
    ignored: tuple[Problem, ...]  # files of other kinds
    costs: Mapping[str, Cost] = field(default_factory=dict)  # of a dry run: of each file, by key
    free_bytes: int | None = None  # of a dry run: free space on the output disk
    stopped: str | None = None  # reason why the run ended early, in one sentence; None if it did not

    @property
    def counts(self) -> Counter[str]:
        """Number of files with each status."""
        return Counter(entry.status for entry in self.entries)

    @property
    def cost(self) -> Cost:
        """Estimated cost of all files to process."""
        return sum(self.costs.values(), Cost())


def silent(_total: int) -> AbstractContextManager[OnEntry]:
    """Show nothing while a job runs."""
    return nullcontext(lambda _: None)


def run(
    job: Job, progress: Progress = silent, plan: Plan | None = None, manifest: Manifest | None = None
) -> Result:
    """Run a job; skip files that the manifest proves done.

    Args:
        progress: Shows the entries of N files as they come.
        plan: Plan of a caller that has claimed the output; None makes and claims it here.
        manifest: Manifest of the output; None reads it.

    Raises:
        UsageError: The plan cannot work, or another run writes an output of it; nothing has been written.
        OutputError: The output folder or its manifest cannot be written.
    """
    lock: AbstractContextManager[object] = nullcontext()
    if plan is None:
        plan = _plan(job)
        if job.dry_run:
            entries, todo, costs, free_bytes = _sorted(job, plan, _manifest(job, plan))
            entries += [Entry.of(item, "planned") for item in todo]
            return Result(tuple(entries), plan.ignored, costs, free_bytes)
        engines.check(job)
        if not plan.items and not plan.root.exists():  # every file is refused: no folder is left behind
            return Result(tuple(_refused(plan)), plan.ignored)
        folder = place(plan.root)
        name_key = folder.name_key()
        lock = folder.claimed([name_key(key) for item in plan.items for key in item.keys])
    stopped = None
    with lock:
        manifest = _manifest(job, plan) if manifest is None else manifest
        entries, todo, costs, _ = _sorted(job, plan, manifest)
        seconds = sum(costs.values(), Cost()).estimated_seconds
        fingerprints, ignored = _fingerprints(job, plan), plan.ignored
        # Items go as their entries come, so that memory does not grow with the files.
        left, total = {item.key: item for item in todo}, len(todo)
        queue = deque(todo)
        outputs = [key for item in todo for key in item.keys]
        in_place = any(item.source == item.destination for item in todo)
        # Chosen for the whole plan, so that the rest of a stopped run gets the bytes of an undisturbed one.
        of_workers = job.for_workers(plan.items if todo else ())
        del plan, todo, costs
        try:
            with manifest.writing(outputs, in_place=in_place) as append:
                for entry in entries:
                    if entry.status == "failed":
                        append(entry)
                running = engines.run(of_workers, queue, seconds)
                with progress(total) as on_entry, closing(running) as results:
                    for entry in results:
                        entry = _kept(entry, fingerprints.get(entry.modality or ""))
                        append(entry)
                        entries.append(entry)
                        left.pop(entry.key or "", None)
                        on_entry(entry)
        except StorageError as error:
            entries += [Entry.of(item, "unfinished") for item in left.values()]
            stopped = f"{error}; {len(left)} of {total} files are left: the same command goes on with them"
    return Result(tuple(entries), ignored, stopped=stopped)


def _kept(entry: Entry, fingerprint: str | None) -> Entry:
    """Complete an entry; words that many entries share are held once, though workers send copies of them."""
    same: dict[str, Any] = {
        name: getattr(entry, name) for name in ("status", "modality", "model", "precision")
    }
    same |= {name: sys.intern(word) for name, word in same.items() if word}
    same["metrics"] = {sys.intern(name): value for name, value in entry.metrics.items()}
    same["notes"] = tuple(map(sys.intern, entry.notes))
    return replace(entry, fingerprint=fingerprint, **same)


def _plan(job: Job) -> Plan:
    """Plan a job, and refuse one that cannot work."""
    for path in (*job.inputs, job.output):
        place(path).check(written=path is job.output)
        if job.keep_mtime and not place(path).is_local:
            raise UsageError(f"{path}: keep_mtime is for local files; stores set times of their own")
    try:
        plan = discover.plan(
            job.inputs,
            job.output,
            recursive=job.recursive,
            reject_reason=job.reject_reason,
            exclude_dir=job.exclude_dir,
            naming=job.naming,
            listed=job.listed,
        )
    except OSError as error:  # a store that does not answer
        places = ", ".join(map(str, (*job.inputs, job.output)))
        raise UsageError(f"{places}: cannot be reached: {error.strerror or error}") from error
    for report in job.reports:
        results = (item.output(key) for item in plan.items for key in item.keys)
        if any(result.name == report.name and _are_one(result, report) for result in results):
            raise UsageError(f"{report}: is the name of a result; choose another for the report")
    for modality in plan.modalities:
        job.check(modality)
    return plan


def _are_one(path: Path, other: Path) -> bool:
    return place(path).is_local and path.resolve() == other.resolve()


def _manifest(job: Job, plan: Plan) -> Manifest:
    """Manifest of a plan; a file that is given a name needs none, unless there is one or it is asked for."""
    recorded = job.manifest or not plan.renames or (plan.root / MANIFEST_NAME).exists()
    return Manifest(plan.root, recorded=recorded)


def _sorted(
    job: Job, plan: Plan, manifest: Manifest
) -> tuple[list[Entry], list[Item], dict[str, Cost], int | None]:
    """Split a plan: entries known already, items to process, their costs by key, and the free bytes."""
    entries = _refused(plan)
    fingerprints = _fingerprints(job, plan)
    todo: list[Item] = []

    def status_of(item: Item) -> Entry | Item:
        done = manifest.status_of(item, fingerprints[item.modality], overwrite=job.overwrite)
        return done or manifest.prove(item, job.backup)

    readers = max(place(path).parallel_reads for path in (plan.root, *(item.source for item in plan.items)))
    with ThreadPoolExecutor(readers) as threads:
        statuses = list((threads.map if readers > 1 else map)(status_of, plan.items))
    for found in statuses:
        if isinstance(found, Item):
            todo.append(found)
        else:
            entries.append(found)
    paces = {modality: job.seconds_per_million(modality) for modality in plan.modalities}
    sizes = forecast.bytes_per_sample(todo) if job.dry_run else {}
    measured = job.image_paces(todo) if job.dry_run else {}
    costs = {}
    for item in todo:
        suffix = item.source.suffix.lower()
        size, pace = sizes.get(suffix), measured.get(suffix, paces[item.modality])
        costs[item.key] = forecast.estimate(item, pace, size and item.size_bytes / size)
    free_bytes = place(plan.root).free_bytes()
    forecast.require_space(plan.root, free_bytes, [(item, costs[item.key]) for item in todo])
    return entries, todo, costs, free_bytes


def _refused(plan: Plan) -> list[Entry]:
    return [Entry(str(problem.path), None, "failed", error=problem.error) for problem in plan.problems]


def _fingerprints(job: Job, plan: Plan) -> dict[str, str]:
    return {modality: job.fingerprint(modality) for modality in plan.modalities}
