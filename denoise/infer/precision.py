"""Arithmetic of trained networks for images and sensors: float32, bfloat16, or 8-bit integers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from denoise.errors import WeightsError
from denoise.machine import has_bf16, has_int8
from denoise.models.base import Denoiser
from denoise.models.reduced import can_be_reduced, in_bf16, in_int8
from denoise.models.table import PRECISIONS, resolved_precision

_, _, BF16, INT8 = PRECISIONS


def at_precision(network: Denoiser, card: Mapping[str, Any], precision: str) -> Denoiser:
    """Return a network in the arithmetic that was asked for; one without residual blocks as it is.

    Args:
        network: As loaded.
        card: Its card, which states the ranges of int8.
        precision: A name in `PRECISIONS`; int8 is bf16 where the card has no ranges, or the CPU no int8.

    Raises:
        UsageError: There is no such precision.
        WeightsError: The card does not fit the network.
    """
    wanted = resolved_precision(precision)
    if wanted not in (BF16, INT8) or not can_be_reduced(network):
        return network
    measured = card.get("precision")
    facts = measured.get(INT8) if isinstance(measured, Mapping) else None
    if wanted == INT8 and facts is not None and has_int8():
        try:
            ranges = [(inputs, hidden) for inputs, hidden in facts["ranges"]]
            reduced = in_int8(network, ranges, bf16=has_bf16())
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise WeightsError(f"the card of {card.get('name')} has no ranges for its int8 blocks") from error
    else:
        reduced, wanted = in_bf16(network), BF16
    reduced.precision = wanted
    return reduced
