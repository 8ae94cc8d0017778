"""Watch folders, and clean the files that arrive.

Every scan walks the folders, with the planner and the manifest of any other run; notifications of the system
only trigger it. So a lost notification (network drives send none) loses no file, and a restart begins with
all unfinished files.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from denoise.errors import UsageError
from denoise.io.formats import record_parts
from denoise.signal import MODALITIES
from pipelines.batch import discover
from pipelines.batch import run as batch
from pipelines.batch.discover import Found, Item, Plan, Problem
from pipelines.batch.jobs import Job
from pipelines.batch.lock import exclusive
from pipelines.batch.manifest import Entry, Manifest
from pipelines.batch.store import place

LONGEST_S = 1e6  # that a watch waits
POLL_S = 5.0  # between scans without notifications
_MAX_WAIT_S = 60.0  # between scans with notifications: they may get lost, and network drives send none
_MIN_WAIT_S = 0.05  # between scans, always
_CHANGES = frozenset({"created", "modified", "moved", "closed"})  # not opened, or closed after reading

Stat = tuple[int, ...]  # size, time and inode of each of its files: a file that is written changes one


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Settings of a watch."""

    job: Job  # the job; its inputs are folders
    settle_s: float = 2.0  # seconds without a change of size or time before a file is processed
    # seconds between scans; None waits for notifications of the system, if it sends any
    poll_s: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.settle_s <= LONGEST_S:
            raise UsageError(f"settle_s is {self.settle_s}; expected 0 to {LONGEST_S:g} seconds")
        if self.poll_s is not None and not 0 < self.poll_s <= LONGEST_S:
            raise UsageError(f"poll_s is {self.poll_s}; expected more than 0 seconds, at most {LONGEST_S:g}")


@dataclass
class WatchSummary:
    """Results of a watch."""

    counts: Counter[str] = field(default_factory=Counter)  # number of results with each status
    # existing files whose last attempt failed, with the reason
    failed: dict[str, str] = field(default_factory=dict)
    waiting: int = 0  # number of files that had not settled, or were not done, at the end
    stopped: str | None = None  # reason why it ended by itself, in one sentence; None if the user ended it


@dataclass(slots=True)
class _FileState:
    stat: Stat
    since_s: float
    accepted: bool = False


class Arrivals:
    """Detects settled files: their size and time have not changed for `settle_s`.

    Every scan calls `begin`, the object once per file, and `end`. Memory holds one small row per file.
    """

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._files: dict[str, _FileState] = {}
        self._last: dict[str, _FileState] = {}
        self._now_s = 0.0

    def begin(self, now_s: float) -> None:
        """Start a scan, at a time in seconds that only grows."""
        self._last, self._files, self._now_s = self._files, {}, now_s

    def __call__(self, path: Path) -> bool:
        """Record a file; True if it has settled since it was last processed."""
        stat = _stat(path)
        if not stat:  # removed again, or a link whose target has not arrived
            return False
        for part in record_parts(path, path):  # a record is read again when its samples arrive
            stat += _stat(part)
        name = str(path)
        state = self._last.get(name)
        if state is None or state.stat != stat:
            state = _FileState(stat, self._now_s)
        self._files[name] = state
        # The writer of an empty file has not begun.
        if state.accepted or not stat[0] or self._now_s - state.since_s < self._settle_s:
            return False
        state.accepted = True
        return True

    def __contains__(self, path: Path) -> bool:
        return str(path) in self._files

    def end(self) -> set[str]:
        """End a scan; return the files that were removed since the last."""
        removed = self._last.keys() - self._files.keys()
        self._last = {}
        return removed

    @property
    def waiting(self) -> int:
        """Number of files that have not settled."""
        return sum(not state.accepted for state in self._files.values())

    @property
    def due_s(self) -> float:
        """Time when the next file may settle; infinity if there is none."""
        pending = (s.since_s for s in self._files.values() if not s.accepted and s.stat[0])
        return min(pending, default=math.inf) + self._settle_s


def _stat(path: Path) -> Stat:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_size, found.st_mtime_ns, found.st_ino


def watch(
    settings: Watch,
    *,
    on_entry: Callable[[Entry], None] = lambda _: None,
    on_message: Callable[[str], None] = lambda _: None,
) -> WatchSummary:
    """Process unfinished files, and then new ones, until Ctrl-C or SIGTERM, or the disk is full.

    The output folder stays locked: no other run can write there.

    Args:
        on_message: Called with sentences about the watch itself.

    Raises:
        UsageError: An input is not a folder, input and output overlap, or another run holds the output.
    """
    _check(settings.job)
    with exclusive(settings.job.output):
        watcher = _Watcher(settings, on_entry)
        # Ctrl-C is the normal end of a watch.
        with suppress(KeyboardInterrupt), _changes(settings, on_message) as changes:
            watcher.run(changes)
        return watcher.summary


def _check(job: Job) -> None:
    if job.in_place:
        raise UsageError("in_place: a watch needs a folder for its results; run `denoise clean --in-place`")
    for path in (*job.inputs, job.output):
        if not place(path).is_local:
            raise UsageError(f"{path}: is a URL; a folder of this machine was expected to watch")
    for folder in job.inputs:
        if not folder.is_dir():
            found = "is a file" if folder.exists() else "no such folder"
            raise UsageError(f"{folder}: {found}; a folder to watch was expected")
        discover.refuse_overlap(folder, job.output)
    discover.refuse_file_name(job.output)
    for modality in MODALITIES:
        if job.reject_reason(modality) is None:
            job.check(modality)


class _Watcher:
    """State of a watch; its size does not grow with the number of files processed."""

    def __init__(self, settings: Watch, on_entry: Callable[[Entry], None]) -> None:
        self._job, self._on_entry = settings.job, on_entry
        self._arrivals = Arrivals(settings.settle_s)
        self._real_output = self._job.output.resolve()
        self._name_key = place(self._job.output).name_key()
        self._owners: dict[str, str] = {}  # from the name of an output to its source
        self._problems: set[Problem] = set()  # of the last scan
        self.summary = WatchSummary()

    def run(self, changes: Changes) -> None:
        while not self.summary.stopped:
            changes.clear()
            plan = self._scan()
            if plan.items or plan.problems:
                self._process(plan)
            else:
                changes.wait(self._arrivals.due_s - time.monotonic())

    def _scan(self) -> Plan:
        """Plan for the settled files."""
        found = self._found()
        # An unreadable folder is reported once, not at every scan.
        problems = [problem for problem in found.problems if problem not in self._problems]
        for problem in self._problems - set(found.problems):
            if problem.path not in self._arrivals:
                self.summary.failed.pop(str(problem.path), None)
        self._problems = set(found.problems)
        items = []
        for source in found.sources:
            item = discover.mirrored(source, self._job.output, self._job.naming)
            refusal = self._refusal(item)
            if refusal:
                problems.append(Problem(item.source, refusal))
            else:
                items.append(item)
        return Plan(self._job.output, tuple(items), tuple(problems), tuple(found.ignored))

    def _found(self) -> Found:
        """Walk the folders for settled files; a folder that is missing, such as a drive, is a problem."""
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
        removed = self._arrivals.end()
        if removed:
            self._owners = {name: source for name, source in self._owners.items() if source not in removed}
        for path in removed:
            self.summary.failed.pop(path, None)
        self.summary.waiting = self._arrivals.waiting
        return found

    def _refusal(self, item: Item) -> str | None:
        """Reason why the planner would refuse a file, or None."""
        if item.source.resolve().is_relative_to(self._real_output):  # by a link: each result would come back
            return f"{item.source}: is inside the output {self._job.output}; a file outside it was expected"
        for key in item.keys:
            owner = self._owners.setdefault(self._name_key(key), str(item.source))
            if owner != str(item.source):
                return (
                    f"{item.output(key)}: both {owner} and {item.source} would be written there; rename one"
                )
        return discover.record_problem(item)

    def _process(self, plan: Plan) -> None:
        existing = {
            item.key for item in plan.items if any(os.path.lexists(item.output(key)) for key in item.keys)
        }
        left = {str(item.source) for item in plan.items} | {str(problem.path) for problem in plan.problems}

        def on_entry(entry: Entry) -> None:
            if entry.source in left:
                left.remove(entry.source)
                self._record(entry)

        try:
            manifest = Manifest(plan.root, existing)
            result = batch.run(self._job, lambda _: nullcontext(on_entry), plan, manifest)
            for entry in result.entries:  # including those that needed no work
                on_entry(entry)
            self.summary.stopped = result.stopped
        finally:
            self.summary.waiting += len(left)

    def _record(self, entry: Entry) -> None:
        self.summary.counts[entry.status] += 1
        if entry.error:
            self.summary.failed[entry.source] = entry.error
        else:
            self.summary.failed.pop(entry.source, None)
        self._on_entry(entry)


class Changes:
    """Notifications: decides when to scan again.

    Args:
        max_wait_s: Seconds between scans without a notification.
    """

    def __init__(self, max_wait_s: float) -> None:
        self._max_wait_s = max_wait_s
        self._happened = threading.Event()

    def dispatch(self, event: Any) -> None:
        """Receive a notification; watchdog calls it in its own thread."""
        if event.event_type in _CHANGES:
            self._happened.set()

    def clear(self) -> None:
        """Discard the notifications until now."""
        self._happened.clear()

    def wait(self, due_s: float) -> None:
        """Return after a change; while files settle, after `due_s`, as a file being written keeps changing.

        Args:
            due_s: Seconds until the first file may have settled; infinity if no file is settling.
        """
        if due_s < math.inf:
            time.sleep(max(_MIN_WAIT_S, due_s))
        else:
            self._happened.wait(self._max_wait_s)


@contextmanager
def _changes(watch: Watch, on_message: Callable[[str], None]) -> Iterator[Changes]:
    """Subscribe to notifications of the system; poll without them."""
    if watch.poll_s is not None:
        yield Changes(watch.poll_s)
        return
    from_system = Changes(_MAX_WAIT_S)
    try:
        observer = _observer(watch.job, from_system)
    except (ImportError, OSError) as error:  # OSError: the system limits the number of watched folders, say
        cause = f"no notifications ({getattr(error, 'strerror', None) or error}):"
        if isinstance(error, ImportError):
            cause = "without watchdog (the extra: watch)"
        on_message(f"{cause} folders are scanned every {POLL_S:g} s")
        yield Changes(POLL_S)
        return
    try:
        yield from_system
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
