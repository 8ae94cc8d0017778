"""Arithmetic of trained networks: float32, bfloat16, or 8-bit integers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from denoise.errors import WeightsError
from denoise.machine import has_bf16, has_int8
from denoise.models.base import Denoiser
from denoise.models.reduced import has_blocks, in_bf16, in_int8
from denoise.models.table import PRECISIONS, resolved_precision

_, FLOAT32, BF16, INT8 = PRECISIONS
_MOST_LOST_DB = 0.03  # in the mean over photos, of any noise that the card names


def at_precision(network: Denoiser, card: Mapping[str, Any], precision: str) -> Denoiser:
    """Return a network in the arithmetic that was asked for; one that has no other as it is.

    Args:
        network: As loaded.
        card: Its card, which states the ranges of int8 and what it loses.
        precision: A name in `PRECISIONS`. int8 runs where the CPU has it and the card says that it loses next
            to nothing; elsewhere it is what `auto` would be without int8.

    Raises:
        UsageError: There is no such precision.
        WeightsError: The card does not fit the network.
    """
    wanted = resolved_precision(precision)
    if not (network.follows_precision or has_blocks(network)):
        return network
    if wanted == INT8:
        measured = card.get("precision")
        facts = measured.get(INT8) if isinstance(measured, Mapping) else None
        if has_int8() and facts is not None and keeps_quality(facts) and has_blocks(network):
            return _in_int8(network, card, facts)
        wanted = finer_precision(wanted)
    if wanted == FLOAT32:
        return network
    if not network.follows_precision:
        reduced = in_bf16(network)
        reduced.precision = BF16
        return reduced
    reduced = copy.deepcopy(network)
    for part in reduced.modules():
        if isinstance(part, Denoiser):
            part.precision = BF16
    return reduced


def finer_precision(precision: str) -> str:
    """Return a precision without int8: for what judges pictures, and for those that hardly have noise."""
    wanted = resolved_precision(precision)
    return wanted if wanted != INT8 else BF16 if has_bf16() else FLOAT32


def keeps_quality(facts: Mapping[str, Any]) -> bool:
    """Return whether what `denoise models calibrate` measured of int8 is small enough to use it."""
    losses = facts.get("loss_db") if isinstance(facts, Mapping) else None
    return isinstance(losses, Mapping) and bool(losses) and max(losses.values()) <= _MOST_LOST_DB


def _in_int8(network: Denoiser, card: Mapping[str, Any], facts: Mapping[str, Any]) -> Denoiser:
    try:
        ranges = [(inputs, hidden) for inputs, hidden in facts["ranges"]]
        reduced = in_int8(network, ranges, bf16=has_bf16())
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"the card of {card.get('name')} has no ranges for its int8 blocks") from error
    reduced.precision = INT8
    return reduced
