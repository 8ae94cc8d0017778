"""A job over many files: plan, leave out what is done, do the rest, and keep the books."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, replace

from pipelines import discover, engines
from pipelines.discover import Item, Problem
from pipelines.job import Job
from pipelines.manifest import Entry, Manifest

__all__ = ["Result", "run"]

Progress = Callable[[Iterable[Entry], int], Iterable[Entry]]


@dataclass(frozen=True)
class Result:
    """What became of every file: one entry each, and what a walk passed over."""

    entries: tuple[Entry, ...]
    ignored: tuple[Problem, ...]

    @property
    def counts(self) -> Counter[str]:
        """How many files have each status."""
        return Counter(entry.status for entry in self.entries)


def run(job: Job, progress: Progress = lambda entries, _: entries) -> Result:
    """Do a job; what an earlier run did, and the manifest proves, is not done again.

    Args:
        job: What to do.
        progress: Given the entries as they come and their number; hands them on, and may show them.

    Raises:
        UsageError: The plan cannot work; nothing has been written.
        OutputError: The output folder or its manifest cannot be written.
    """
    plan = discover.plan(
        job.inputs, job.output, recursive=job.recursive, declines=job.declines, apart=job.apart
    )
    fingerprints = {modality: job.fingerprint(modality) for modality in plan.modalities}
    for modality in plan.modalities:
        job.check(modality)

    manifest = Manifest(plan.root)
    entries = [Entry(str(problem.path), None, "failed", error=problem.error) for problem in plan.problems]
    todo: list[Item] = []
    for item in plan.items:
        verdict = manifest.verdict(item, fingerprints[item.modality], overwrite=job.overwrite)
        if verdict is None:
            todo.append(item)
        else:
            entries.append(verdict)

    if job.dry_run:
        entries += [Entry.of(item, "planned") for item in todo]
        return Result(tuple(entries), plan.ignored)

    with manifest.writing(todo) as append:
        for entry in entries:
            if entry.status == "failed":
                append(entry)
        with closing(engines.run(job, todo)) as results:
            for entry in progress(results, len(todo)):
                entry = replace(entry, fingerprint=fingerprints.get(entry.modality or ""))
                append(entry)
                entries.append(entry)
    return Result(tuple(entries), plan.ignored)
