"""Clean what arrives in folders, for as long as it takes.

What counts is always a look at the folders themselves, with the planner and the manifest of any other run; a
notification of the system only says that it is time to look. So nothing is lost where notifications get lost,
or never come (network drives), and a restart begins with whatever is not done.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from denoise.errors import UsageError
from denoise.signal import MODALITIES
from pipelines.batch import discover
from pipelines.batch import run as batch
from pipelines.batch.discover import Found, Item, Plan, Problem
from pipelines.batch.jobs import Job
from pipelines.batch.lock import exclusive
from pipelines.batch.manifest import Entry, Manifest
from pipelines.batch.store import place

__all__ = ["Arrivals", "Watch", "WatchSummary", "watch"]

POLL_S = 5.0  # between looks, where there are no notifications
_REASSURE_S = 60.0  # between looks, where there are: they may get lost, and network drives send none
_SHORTEST_S = 0.05  # between looks, whatever is asked for
_CHANGES = frozenset({"created", "modified", "moved", "closed"})  # a file that is only read is none

Signature = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What to watch, and how.

    Args:
        job: What to do to each file; its inputs are folders.
        settle_s: Seconds for which a file's size and time must stay as they are before it is touched.
        poll_s: Seconds between looks; None waits for notifications of the system where it sends some.
    """

    job: Job
    settle_s: float = 2.0
    poll_s: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.settle_s < math.inf:
            raise UsageError(f"settle_s is {self.settle_s}; expected 0 or more seconds")
        if self.poll_s is not None and not 0 < self.poll_s < math.inf:
            raise UsageError(f"poll_s is {self.poll_s}; expected more than 0 seconds")


@dataclass
class WatchSummary:
    """What became of everything that came.

    Args:
        counts: How many times a file got each status.
        failed: Files that are there and failed the last time, with the sentence.
        waiting: How many files had not settled, or were not done, when the watch ended.
        stopped: Why it ended by itself, in one sentence; None when it was told to.
    """

    counts: Counter[str] = field(default_factory=Counter)
    failed: dict[str, str] = field(default_factory=dict)
    waiting: int = 0
    stopped: str | None = None


@dataclass
class _Seen:
    signature: Signature
    since_s: float
    taken: bool = False


class Arrivals:
    """Which files have come to rest: their size and time are as they were `settle_s` before.

    Every look goes over all files, by `begin`, one call for each file, and `end`. What is remembered is one
    small row for each file that is there.

    Args:
        settle_s: Seconds.
    """

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._seen: dict[Path, _Seen] = {}
        self._last: dict[Path, _Seen] = {}
        self._now_s = 0.0

    def begin(self, now_s: float) -> None:
        """Start a look, at a time in seconds that only grows."""
        self._last, self._seen, self._now_s = self._seen, {}, now_s

    def __call__(self, path: Path) -> bool:
        """Take note of a file; whether it has come to rest since it was last taken."""
        signature = _signature(path)
        if signature is None:
            return False
        seen = self._last.get(path)
        if seen is None or seen.signature != signature:
            seen = _Seen(signature, self._now_s)
        self._seen[path] = seen
        # An empty file is one whose writer has not begun.
        if seen.taken or not signature[0] or self._now_s - seen.since_s < self._settle_s:
            return False
        seen.taken = True
        return True

    def __contains__(self, path: Path) -> bool:
        return path in self._seen

    def end(self) -> set[Path]:
        """End a look; the files that have gone since the last."""
        gone = self._last.keys() - self._seen.keys()
        self._last = {}
        return gone

    @property
    def waiting(self) -> int:
        """How many files are still to come to rest."""
        return sum(not seen.taken for seen in self._seen.values())

    @property
    def due_s(self) -> float:
        """When the next of them may; infinity when there is none."""
        pending = (s.since_s for s in self._seen.values() if not s.taken and s.signature[0])
        return min(pending, default=math.inf) + self._settle_s


def _signature(path: Path) -> Signature | None:
    """What changes when a file is written or replaced: size, time, and which file it is."""
    try:
        found = path.stat()
    except OSError:  # gone again, or a link to what has not come yet
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def watch(
    job: Watch,
    *,
    on_entry: Callable[[Entry], None] = lambda _: None,
    on_message: Callable[[str], None] = lambda _: None,
) -> WatchSummary:
    """Do what is not done, and then what arrives, until Ctrl-C or SIGTERM, or the disk takes no more.

    The output folder is held all the while: no other run can write there.

    Args:
        job: What to watch.
        on_entry: Given each entry as it comes.
        on_message: Given sentences about the watch itself.

    Raises:
        UsageError: It cannot work: an input is no folder, input and output overlap, another run is at it.
        OutputError: The output folder cannot be written.
    """
    _check(job.job)
    with exclusive(job.job.output):
        watcher = _Watcher(job, on_entry, on_message)
        try:
            with _changes(job, on_message) as changes:
                watcher.run(changes)
        except KeyboardInterrupt:  # how a watch is meant to end
            pass
        return watcher.watched


def _check(job: Job) -> None:
    for path in (*job.inputs, job.output):
        if not place(path).is_local:
            raise UsageError(f"{path}: is a URL; a folder of this machine was expected to watch")
    for folder in job.inputs:
        if not folder.is_dir():
            found = "is a file" if folder.exists() else "no such folder"
            raise UsageError(f"{folder}: {found}; a folder to watch was expected")
        discover.refuse_overlap(folder, job.output)
    for modality in MODALITIES:
        if job.reject_reason(modality) is None:
            job.check(modality)


class _Watcher:
    """The state of a watch: nothing that grows with what has passed through."""

    def __init__(
        self, watch: Watch, on_entry: Callable[[Entry], None], on_message: Callable[[str], None]
    ) -> None:
        self._watch, self._job = watch, watch.job
        self._on_entry, self._on_message = on_entry, on_message
        self._arrivals = Arrivals(watch.settle_s)
        self._real_output = self._job.output.resolve()
        self._name_key = place(self._job.output).name_key()
        self._owners: dict[str, Path] = {}  # name of an output to the source that has it
        self._troubles: set[Problem] = set()  # of the walk, as found at the last look
        self.watched = WatchSummary()

    def run(self, changes: Changes) -> None:
        while not self.watched.stopped:
            changes.clear()
            plan = self._look()
            if plan.items or plan.problems:
                self._do(plan)
            else:
                changes.wait(self._arrivals.due_s - time.monotonic())

    def _look(self) -> Plan:
        """What has come to rest, planned."""
        found = self._found()
        # A folder that cannot be read is told of once, and not at every look.
        problems = [problem for problem in found.problems if problem not in self._troubles]
        for problem in self._troubles - set(found.problems):
            if problem.path not in self._arrivals:
                self.watched.failed.pop(str(problem.path), None)
        self._troubles = set(found.problems)
        items = []
        for source in found.sources:
            item = discover.mirrored(source, self._job.output)
            refusal = self._refusal(item)
            if refusal:
                problems.append(Problem(item.source, refusal))
            else:
                items.append(item)
        return Plan(self._job.output, tuple(items), tuple(problems), tuple(found.ignored))

    def _found(self) -> Found:
        """What has come to rest; a folder that is away, as a drive may be for a while, is a problem."""
        found = Found()
        self._arrivals.begin(time.monotonic())
        for folder in self._job.inputs:
            try:
                more = discover.find(
                    [folder],
                    recursive=self._job.recursive,
                    reject_reason=self._job.reject_reason,
                    exclude_dir=self._job.exclude_dir,
                    accept=self._arrivals,
                )
            except UsageError as error:
                found.problems.append(Problem(folder, str(error)))
                continue
            found.sources += more.sources
            found.problems += more.problems
            found.ignored += more.ignored
        gone = self._arrivals.end()
        if gone:
            self._owners = {name: source for name, source in self._owners.items() if source not in gone}
        for path in gone:
            self.watched.failed.pop(str(path), None)
        self.watched.waiting = self._arrivals.waiting
        return found

    def _refusal(self, item: Item) -> str | None:
        """What the planner of a whole folder would not accept either."""
        if item.source.resolve().is_relative_to(self._real_output):  # by a link: each result would come back
            return f"{item.source}: is inside the output {self._job.output}; a file outside it was expected"
        owner = self._owners.setdefault(self._name_key(item.key), item.source)
        if owner != item.source:
            return f"{item.destination}: both {owner} and {item.source} would be written there"
        return None

    def _do(self, plan: Plan) -> None:
        there = {item.key for item in plan.items if os.path.lexists(item.destination)}
        left = {str(item.source) for item in plan.items} | {str(problem.path) for problem in plan.problems}

        def take(entry: Entry) -> None:
            if entry.source in left:
                left.remove(entry.source)
                self._take(entry)

        try:
            result = batch.execute(self._job, plan, Manifest(plan.root, there), lambda _: nullcontext(take))
            for entry in result.entries:  # with those that were not to do
                take(entry)
            self.watched.stopped = result.stopped
        finally:
            self.watched.waiting += len(left)

    def _take(self, entry: Entry) -> None:
        self.watched.counts[entry.status] += 1
        if entry.error:
            self.watched.failed[entry.source] = entry.error
        else:
            self.watched.failed.pop(entry.source, None)
        self._on_entry(entry)


class Changes:
    """When to look again.

    Args:
        longest_s: Seconds after which to look whatever happens.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._happened = threading.Event()

    def dispatch(self, event: Any) -> None:
        """Take a notification; what watchdog calls, in a thread of its own."""
        if event.event_type in _CHANGES:
            self._happened.set()

    def clear(self) -> None:
        """Forget what happened until now."""
        self._happened.clear()

    def wait(self, due_s: float) -> None:
        """Return when something changed; or, when files are about to settle, once the first of them may have.

        Not before that: a file that is being written changes all the time.

        Args:
            due_s: Seconds until then; infinity when no file is about to.
        """
        if due_s < math.inf:
            time.sleep(max(_SHORTEST_S, due_s))
        else:
            self._happened.wait(self._longest_s)


@contextmanager
def _changes(watch: Watch, on_message: Callable[[str], None]) -> Iterator[Changes]:
    """Notifications of the system, or what there is without them."""
    if watch.poll_s is not None:
        yield Changes(watch.poll_s)
        return
    changes = Changes(_REASSURE_S)
    try:
        observer = _observer(watch.job, changes)
    except ImportError:
        on_message(f"without watchdog (the extra: watch) there is a look every {POLL_S:g} s")
        yield Changes(POLL_S)
        return
    except OSError as error:  # the system's limit on watched folders, say
        on_message(f"no notifications ({error.strerror or error}): there is a look every {POLL_S:g} s")
        yield Changes(POLL_S)
        return
    try:
        yield changes
    finally:
        observer.stop()
        observer.join()


def _observer(job: Job, changes: Changes) -> Any:
    from watchdog.observers import Observer

    observer = Observer()
    for folder in job.inputs:
        observer.schedule(changes, str(folder), recursive=job.recursive)  # type: ignore[arg-type]
    try:
        observer.start()
    except OSError:
        observer.unschedule_all()
        raise
    return observer
