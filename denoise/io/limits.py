"""Sizes that a header claims, against the bytes that are there."""

from __future__ import annotations

__all__ = ["fits"]

SMALL_BYTES = 128 << 20  # a claim below is harmless, whatever the file
PACKED_RATIO = 2048  # Deflate, the tightest of the common packings, reaches 1032 at its very best


def fits(claimed_bytes: int, file_bytes: int) -> bool:
    """Whether a file of `file_bytes` can be believed to hold `claimed_bytes` once it is unpacked."""
    return claimed_bytes <= max(SMALL_BYTES, PACKED_RATIO * file_bytes)
