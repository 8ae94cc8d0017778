"""Claims on the outputs of a folder, so that no two runs write one file.

A run lists the outputs that it may write in a claim: a file in its folder, which it keeps locked. It looks
for claims of others there, in the folders above, and in those that its outputs go to. The kernel releases the
lock when the process ends, however it ends: the claim of a killed run blocks nobody, and the next run removes
it. What runs share, their claims and the list of unfinished outputs, changes only under a second lock, which
is held for moments. On a file system without locks, nothing keeps two runs apart.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from denoise.errors import OutputError, UsageError
from denoise.io.atomic import output_error

LOCK_NAME = ".denoise-lock"
CLAIM_PREFIX = ".denoise-claim-"
_PATIENCE_S = 60.0  # for a lock that is held for moments
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS)  # on some network file systems


@dataclass(frozen=True)
class Claim:
    """Claim of a run that is alive."""

    process: int  # its process id
    names: frozenset[str] | None  # names of the outputs inside the folder; None is all of them

    def conflict(self, names: Collection[str] | None) -> bool:
        """True if these outputs are claimed, too."""
        return self.names is None or names is None or not self.names.isdisjoint(names)


@contextmanager
def no_empty_folder(folder: Path) -> Iterator[None]:
    """Remove a folder, and those above it, that were made inside the `with` block and stayed empty."""
    created = [path for path in (folder, *folder.parents) if not os.path.exists(path)]  # noqa: PTH110 - raises nothing
    try:
        yield
    finally:
        with suppress(OSError):
            for path in created:
                path.rmdir()


@contextmanager
def claimed(root: Path, names: Collection[str] | None) -> Iterator[None]:
    """Create the output folder and claim outputs in it; folders created here are removed if they stay empty.

    Args:
        root: The output folder.
        names: Names that tell outputs apart (`Place.name_key` of their keys); None claims the folder.

    Raises:
        UsageError: Another run has claimed one of them.
        OutputError: The folder cannot be created or written.
    """
    path = root / f"{CLAIM_PREFIX}{secrets.token_hex(8)}"
    lock = FileLock(path, timeout=0, fallback_to_soft=False)
    with no_empty_folder(root):
        try:
            try:
                with briefly(root):
                    _refuse(root, names)
                    if _acquire(lock):
                        claim = {"process": os.getpid(), "names": None if names is None else sorted(names)}
                        path.write_text(json.dumps(claim), "ascii")
                _refuse_elsewhere(root, names or ())  # after its own claim: of two runs, one sees the other
            except OSError as error:
                raise output_error(root, error) from error
            yield
        finally:
            with suppress(OSError):  # a file left behind does no harm
                path.unlink(missing_ok=True)
            lock.release()


def exclusive(root: Path) -> AbstractContextManager[None]:
    """Create an output folder and claim all of it (`claimed`)."""
    return claimed(root, None)


@contextmanager
def briefly(root: Path) -> Iterator[None]:
    """Hold the lock of what the runs in a folder share; the folder is created.

    Raises:
        OSError: The folder cannot be created or written.
        OutputError: Another process keeps the lock for a minute.
    """
    path = root / LOCK_NAME
    lock = FileLock(path, timeout=_PATIENCE_S, poll_interval=0.01, fallback_to_soft=False)
    while True:
        root.mkdir(parents=True, exist_ok=True)
        try:
            _acquire(lock)
            break
        except FileNotFoundError:  # another run has just removed the folder, which was empty
            continue
        except Timeout as error:
            raise OutputError(f"{path}: is locked for {_PATIENCE_S:.0f} s by another process") from error
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # those who wait for it see that it is gone, and make another
        lock.release()


@contextmanager
def locked(file: IO[bytes]) -> Iterator[None]:
    """Hold the lock of an open file that several runs append to."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)


def claims(root: Path) -> Iterator[Claim]:
    """Yield the claims of runs that are alive, and remove those of dead ones, under the lock of `briefly`."""
    for path in sorted(root.glob(f"{CLAIM_PREFIX}*")):
        probe = FileLock(path, timeout=0, fallback_to_soft=False)
        try:
            if _acquire(probe):
                path.unlink(missing_ok=True)
                probe.release()
        except Timeout:
            yield _read(path)


def _read(path: Path) -> Claim:
    try:
        claim = json.loads(path.read_text("ascii"))
        return Claim(claim["process"], None if claim["names"] is None else frozenset(claim["names"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return Claim(0, None)


def _refuse_elsewhere(root: Path, names: Collection[str]) -> None:
    """Refuse outputs that runs in other folders, above or below this one, have claimed."""
    top = os.path.realpath(root)
    paths = [os.path.normpath(os.path.join(top, name)) for name in names]  # noqa: PTH118 - of 50,000
    holders = {Path(holder) for holder in map(os.path.dirname, paths)}
    for folder in {above for holder in holders for above in (holder, *holder.parents)} - {Path(top)}:
        if next(folder.glob(f"{CLAIM_PREFIX}*"), None) is None:
            continue
        inside = [os.path.relpath(path, folder) for path in paths if Path(path).is_relative_to(folder)]
        with suppress(PermissionError), briefly(folder):  # of another user, in a folder that stays as it is
            _refuse(folder, [Path(name).as_posix() for name in inside])


def _refuse(root: Path, names: Collection[str] | None) -> None:
    for claim in claims(root):
        if claim.conflict(names):
            shared = sorted((claim.names or frozenset()).intersection(names or ()))
            raise UsageError(
                f"{root}: another run (process {claim.process or 'unknown'}) is writing "
                f"{shared[0] if shared else 'there'}; wait for it, or choose another output"
            )


def _acquire(lock: FileLock) -> bool:
    """Acquire a lock; False on a file system without locks."""
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True
