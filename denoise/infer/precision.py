"""Arithmetic of trained networks for images: the fastest of the CPU whose loss is measured and small."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from denoise.errors import WeightsError
from denoise.machine import has_bf16, has_int8
from denoise.models.base import Denoiser
from denoise.models.reduced import can_be_reduced, in_bf16, in_int8
from denoise.models.table import PRECISIONS, resolved_precision

__all__ = ["at_precision"]

_, _, BF16, INT8 = PRECISIONS
_MAX_LOSS_DB = 0.03  # at any noise level of the card


def at_precision(network: Denoiser, card: Mapping[str, Any], precision: str) -> Denoiser:
    """Return a network in the arithmetic that was asked for, or in the next exact one whose loss is known.

    Args:
        network: As loaded.
        card: Its card, which states the loss of each precision, and the ranges of int8.
        precision: A name in `PRECISIONS`.

    Raises:
        UsageError: There is no such precision.
        WeightsError: The card does not fit the network.
    """
    wanted = resolved_precision(precision)
    measured = card.get("precision")
    facts: Mapping[str, Any] = measured if isinstance(measured, Mapping) else {}
    reduced = None
    if wanted in (BF16, INT8) and can_be_reduced(network):
        if wanted == INT8 and has_int8() and _is_close(facts, INT8):
            reduced = _in_int8(network, card)
        elif precision == BF16 or (has_bf16() and _is_close(facts, BF16)):
            reduced, wanted = in_bf16(network), BF16
    if reduced is None:
        return network
    reduced.precision = wanted
    return reduced


def _in_int8(network: Denoiser, card: Mapping[str, Any]) -> Denoiser:
    try:
        ranges = [(float(x), float(hidden)) for x, hidden in card["precision"][INT8]["ranges"]]
        return in_int8(network, ranges, bf16=has_bf16())
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise WeightsError(f"the card of {card.get('name')} has no ranges for its int8 blocks") from error


def _is_close(facts: Mapping[str, Any], precision: str) -> bool:
    """Return whether a card states that a precision costs little at every level."""
    row = facts.get(precision)
    losses = row.get("loss_db") if isinstance(row, Mapping) else None
    numbers = list(losses.values()) if isinstance(losses, Mapping) else []
    return bool(numbers) and all(isinstance(x, int | float) and x <= _MAX_LOSS_DB for x in numbers)
