"""Progress inside a file, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_show: ContextVar[Callable[[float], None]] = ContextVar("_show", default=lambda _: None)
_file: ContextVar[Path | None] = ContextVar("_file", default=None)


@contextmanager
def showing_shares(show: Callable[[float], None]) -> Iterator[None]:
    """Call `show` with the share of a file that is done, 0 to 1, after each tile or block of this thread."""
    token = _show.set(show)
    try:
        yield
    finally:
        _show.reset(token)


@contextmanager
def cleaning(file: Path) -> Iterator[None]:
    """State which file the shares of this thread are of."""
    token = _file.set(file)
    try:
        yield
    finally:
        _file.reset(token)


def file_in_progress() -> Path | None:
    """Return the file that this thread cleans."""
    return _file.get()


def report_share(share: float) -> None:
    """Report the share of a file that is cleaned."""
    _show.get()(share)
