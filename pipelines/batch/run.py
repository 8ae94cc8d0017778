"""A job over many files: plan, leave out what is done, do the rest, and keep the books."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field, replace

from denoise.errors import StorageError, UsageError
from pipelines.batch import discover, forecast
from pipelines.batch.discover import Item, Plan, Problem
from pipelines.batch.engines import table as engines
from pipelines.batch.forecast import Cost
from pipelines.batch.jobs import Job
from pipelines.batch.lock import exclusive
from pipelines.batch.manifest import Entry, Manifest
from pipelines.batch.store import Remote

__all__ = ["OnEntry", "Progress", "Result", "execute", "run", "silent"]

_READS_AT_ONCE = 16

OnEntry = Callable[[Entry], object]
Progress = Callable[[int], AbstractContextManager[OnEntry]]  # for a number of files


@dataclass(frozen=True)
class Result:
    """What became of every file.

    Args:
        entries: One each.
        ignored: What a walk passed over.
        costs: What each file that was not done yet was expected to take, by its key.
        free_bytes: What the disk of the outputs had left before; None where it does not tell.
        stopped: Why the batch ended before its time, in one sentence; None when it did not.
    """

    entries: tuple[Entry, ...]
    ignored: tuple[Problem, ...]
    costs: Mapping[str, Cost] = field(default_factory=dict)
    free_bytes: int | None = None
    stopped: str | None = None

    @property
    def counts(self) -> Counter[str]:
        """How many files have each status."""
        return Counter(entry.status for entry in self.entries)

    @property
    def cost(self) -> Cost:
        """Of all that was to do."""
        return sum(self.costs.values(), Cost())


def silent(_total: int) -> AbstractContextManager[OnEntry]:
    """Show nothing while a job runs."""
    return nullcontext(lambda _: None)


def run(job: Job, progress: Progress = silent) -> Result:
    """Do a job; what an earlier run did, and the manifest proves, is not done again.

    Args:
        job: What to do.
        progress: Shows the entries of so many files as they come.

    Raises:
        UsageError: The plan cannot work, or another run is at it; nothing has been written.
        OutputError: The output folder or its manifest cannot be written.
    """
    _check_places(job)
    plan = discover.plan(
        job.inputs,
        job.output,
        recursive=job.recursive,
        reject_reason=job.reject_reason,
        exclude_dir=job.exclude_dir,
    )
    for modality in plan.modalities:
        job.check(modality)
    if job.dry_run:
        return _planned(job, plan, Manifest(plan.root))
    engines.check(job)
    # A store has no locks: there it is up to the user that one run at a time writes.
    with nullcontext() if isinstance(plan.root, Remote) else exclusive(plan.root):
        return execute(job, plan, Manifest(plan.root), progress)


def _check_places(job: Job) -> None:
    places = [place for place in (*job.inputs, job.output) if isinstance(place, Remote)]
    for place in places:
        place.check(written=place is job.output)
    if places and job.keep_mtime:
        raise UsageError(f"{places[0]}: keep_mtime is for local files; stores set times of their own")


def _planned(job: Job, plan: Plan, manifest: Manifest) -> Result:
    entries, todo, costs, free_bytes = _sorted(job, plan, manifest)
    entries += [Entry.of(item, "planned") for item in todo]
    return Result(tuple(entries), plan.ignored, costs, free_bytes)


def execute(job: Job, plan: Plan, manifest: Manifest, progress: Progress) -> Result:
    """Do a plan, in a folder that the caller holds `exclusive`; otherwise as `run`."""
    entries, todo, costs, free_bytes = _sorted(job, plan, manifest)
    fingerprints = _fingerprints(job, plan)
    stopped = None
    finished: set[str | None] = set()
    try:
        with manifest.writing(todo) as append:
            for entry in entries:
                if entry.status == "failed":
                    append(entry)
            seconds = sum(costs.values(), Cost()).estimated_seconds
            with progress(len(todo)) as on_entry, closing(engines.run(job, todo, seconds)) as results:
                for entry in results:
                    entry = replace(entry, fingerprint=fingerprints.get(entry.modality or ""))
                    append(entry)
                    entries.append(entry)
                    finished.add(entry.key)
                    on_entry(entry)
    except StorageError as error:
        left = [item for item in todo if item.key not in finished]
        entries += [Entry.of(item, "unfinished") for item in left]
        stopped = f"{error}; {len(left)} of {len(todo)} files are left: the same command goes on with them"
    return Result(tuple(entries), plan.ignored, costs, free_bytes, stopped)


def _sorted(
    job: Job, plan: Plan, manifest: Manifest
) -> tuple[list[Entry], list[Item], dict[str, Cost], int | None]:
    """What is known already, what is to do, what that will cost, and the bytes that are free for it.

    Raises:
        UsageError: There is not room enough.
    """
    entries = [Entry(str(problem.path), None, "failed", error=problem.error) for problem in plan.problems]
    fingerprints = _fingerprints(job, plan)
    todo: list[Item] = []

    def judge(item: Item) -> Entry | None:
        return manifest.status_of(item, fingerprints[item.modality], overwrite=job.overwrite)

    far = any(isinstance(item.source, Remote) for item in plan.items) or isinstance(plan.root, Remote)
    with ThreadPoolExecutor(_READS_AT_ONCE if far else 1) as threads:  # a store answers late, but many
        statuses = list((threads.map if far else map)(judge, plan.items))
    for item, status_of in zip(plan.items, statuses, strict=True):
        if status_of is None:
            todo.append(item)
        else:
            entries.append(status_of)
    paces = {modality: job.seconds_per_million(modality) for modality in plan.modalities}
    costs = {item.key: forecast.estimate(item, paces[item.modality]) for item in todo}
    free_bytes = forecast.free_bytes(plan.root)
    forecast.require_space(plan.root, free_bytes, [(item, costs[item.key]) for item in todo])
    return entries, todo, costs, free_bytes


def _fingerprints(job: Job, plan: Plan) -> dict[str, str]:
    return {modality: job.fingerprint(modality) for modality in plan.modalities}
