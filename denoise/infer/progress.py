"""Progress inside a file, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_show: ContextVar[Callable[[float], None]] = ContextVar("_show", default=lambda _: None)


@contextmanager
def showing_shares(show: Callable[[float], None]) -> Iterator[None]:
    """Call `show` with the share of a file that is done, 0 to 1, after each tile or block of this thread."""
    token = _show.set(show)
    try:
        yield
    finally:
        _show.reset(token)


def report_share(share: float) -> None:
    """Report the share of a file that is cleaned."""
    _show.get()(share)
