"""Lookup in tables of `name -> "module:attribute"`: no imports until used, and rows of other packages."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, TypeVar

from denoise.errors import UsageError

Row = TypeVar("Row")


class Extensible(Mapping[str, Row]):
    """A table to which installed packages add rows, by entry points of a group.

    The rows here come first: a package cannot replace one. Entry points are read when a name is not among
    them, or when the table is listed.

    Args:
        group: Group of entry points, such as `denoise.corruptions`.
        add: Adds the name and value of an entry point to the rows of packages.
    """

    def __init__(
        self, rows: Mapping[str, Row], group: str, add: Callable[[dict[str, Row], str, str], object]
    ) -> None:
        self._own, self._group, self._add = dict(rows), group, add

    @cached_property
    def _every(self) -> dict[str, Row]:
        from importlib.metadata import entry_points  # slow to import

        added: dict[str, Row] = {}
        for point in sorted(entry_points(group=self._group), key=lambda point: point.name):
            self._add(added, point.name, point.value)
        return {**added, **self._own} if added else self._own

    def __getitem__(self, name: str) -> Row:
        return self._own[name] if name in self._own else self._every[name]

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._every

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._every, key=lambda name: name not in self._own))

    def __len__(self) -> int:
        return len(self._every)


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Build the error for an unknown name: it lists near matches, or all known names if none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return UsageError(f"unknown {kind} {name!r}; {hint}")


def resolve(target: str) -> Any:
    """Import the object that `"module:attribute"` names."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def lookup(table: Mapping[str, str], name: str, kind: str) -> Any:
    """Import the object of `name` in `table`.

    Raises:
        UsageError: `name` is not in the table; the message suggests near matches.
    """
    if name not in table:
        raise unknown(kind, name, table)
    return resolve(table[name])
