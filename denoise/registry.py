"""Lookup in tables of `name -> "module:attribute"`, which cost no imports until used."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from denoise.errors import UsageError

__all__ = ["lookup", "resolve", "unknown"]


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
