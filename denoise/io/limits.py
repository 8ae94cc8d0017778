"""Refuse files whose headers claim more than their bytes can hold."""

from __future__ import annotations

from denoise.errors import TooLargeError

__all__ = ["require_plausible_size"]

SMALL_BYTES = 128 << 20  # any smaller claim is harmless
MAX_PACKING_RATIO = 2048  # Deflate, the tightest of the common packings, reaches at most 1032


def require_plausible_size(claimed_bytes: int, file_bytes: int, claim: str, where: str = "") -> None:
    """Check that a file can hold what its header claims, before memory is taken.

    The message begins with `where`, and has the claim in words, such as `900 megapixels`.

    Raises:
        TooLargeError: The file cannot hold that much.
    """
    if claimed_bytes > max(SMALL_BYTES, MAX_PACKING_RATIO * file_bytes):
        raise TooLargeError(f"{where}claims {claim} in {file_bytes} bytes; refusing to decode")
