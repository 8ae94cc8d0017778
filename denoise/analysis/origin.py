"""Columns, sample rates and colours of the files that a model was fitted on, to compare others with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from denoise.analysis.segments import Page, Segmentation

_SAME_RATE = 0.01  # relative; the clocks of two loggers differ by less
_MOST_NAMED = 8


def origin(cut: Segmentation, pages: Sequence[Page]) -> dict[str, Any]:
    """Summarise pages for the card of a model: only what a segmentation leaves as it is."""
    rates = [page.sample_rate for page in pages if page.sample_rate]
    found = {
        "columns": _columns(cut, pages),
        "sample_rates_hz": [min(rates), max(rates)] if rates and not cut.sample_rate else [],
        "channels": sorted({page.shape[0] for page in pages}) if cut.modality == "image" else [],
    }
    return {name: value for name, value in found.items() if value}


def misfits(cut: Segmentation, pages: Sequence[Page], known: Mapping[str, Any]) -> tuple[str, ...]:
    """Say in what pages differ from those that a model was fitted on.

    Args:
        known: Result of `origin`, or what a card has in its place.
    """
    columns, rates, channels = (
        value if isinstance(value := known.get(name), list) else []
        for name in ("columns", "sample_rates_hz", "channels")
    )
    foreign = [name for name in _columns(cut, pages) if name not in columns]
    notes = []
    if columns and foreign:
        notes.append(
            f"its columns {listed(foreign)} are none of those that the model was fitted on: {listed(columns)}"
        )
    notes += rate_misfit([page.sample_rate for page in pages], rates)
    others = sorted({page.shape[0] for page in pages} - {*channels})
    if cut.modality == "image" and channels and others:
        notes.append(f"it has {others[0]} channels; the model was fitted on pictures of {listed(channels)}")
    return tuple(notes)


def rate_misfit(rates: Iterable[float | None], known: Sequence[float]) -> list[str]:
    """Say that a rate in Hz is outside of those that a model was fitted on."""
    low, high = (min(known), max(known)) if known else (0.0, float("inf"))
    outside = [
        rate for rate in rates if rate and not (1 - _SAME_RATE) * low <= rate <= (1 + _SAME_RATE) * high
    ]
    if not outside:
        return []
    span = f"{low:g} Hz" if low == high else f"{low:g} to {high:g} Hz"
    return [f"its sample rate is {outside[0]:g} Hz; the model was fitted on {span}"]


def listed(names: Sequence[object]) -> str:
    """Join names, of many only the first."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(map(str, names[:_MOST_NAMED])) + more


def _columns(cut: Segmentation, pages: Sequence[Page]) -> list[str]:
    names = (name for page in pages for name in page.channels if cut.modality == "sensor")
    return list(dict.fromkeys(names))
