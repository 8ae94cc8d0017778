"""Refuse files whose headers claim more than their bytes can hold."""

from __future__ import annotations

from collections.abc import Sequence

from denoise.errors import TooLargeError
from denoise.machine import available_bytes, release_memory
from denoise.signal import Page

SMALL_BYTES = 128 << 20  # any smaller claim is harmless
MAX_PACKING_RATIO = 100  # of a larger one; recordings and photos are packed less tightly
# Of a picture: drawings have 10 to 50 in a PNG; at 200, a lossy photo would be one shade.
MAX_PIXELS_PER_BYTE = 100
MAX_PAGE_PIXELS_PER_BYTE = 1000  # of all pages of a document; scanned text has 300 to 500 in CCITT's coding
PICTURE_BYTES = 640 << 20  # memory that any picture may take: with the program it is 1 GiB
PAGES_BYTES = 1 << 30  # samples in all pages of any file: half a minute
MAX_PARTS = 2048  # columns, signals or data sets of a file: each costs time, whatever it holds


def require_plausible_size(
    claimed_bytes: int, file_bytes: int, claim: str, where: str = "", harmless_bytes: int | None = None
) -> None:
    """Check that a small file takes little memory and time, before they are taken.

    Args:
        claimed_bytes: Memory for what the file holds by its header.
        file_bytes: Size of the file.
        claim: What it holds, such as `900 megapixels`.
        where: Begin of the message.
        harmless_bytes: Memory that any file may take; None is `SMALL_BYTES`.

    Raises:
        TooLargeError: A file of this size may not take so much.
    """
    if claimed_bytes > max(harmless_bytes or SMALL_BYTES, MAX_PACKING_RATIO * file_bytes):
        raise TooLargeError(f"{where}claims {claim} in {file_bytes} bytes; refusing to decode")


def require_plausible_page(page: Page, working_bytes: int, file_bytes: int, where: str = "") -> None:
    """Check that a page of a small file takes little memory, before it is taken.

    Args:
        page: The page, by its header.
        working_bytes: Memory to work on it.
        file_bytes: Size of the file.
        where: Begin of the message.

    Raises:
        TooLargeError: A file of this size may not take so much.
    """
    pixels = page.height * page.width
    if working_bytes > PICTURE_BYTES and pixels > MAX_PIXELS_PER_BYTE * file_bytes:
        raise TooLargeError(
            f"{where}claims {page.size_text} in {file_bytes} bytes; refusing to decode what has less than "
            f"{pixels // MAX_PIXELS_PER_BYTE}"
        )


def require_plausible_pages(pages: Sequence[Page], file_bytes: int) -> None:
    """Check that a small document of many pages takes little time.

    Raises:
        TooLargeError: A file of this size may not hold so many pixels.
    """
    pixels = sum(page.height * page.width for page in pages)
    samples_bytes = sum(page.size_bytes for page in pages)
    if samples_bytes > PAGES_BYTES and pixels > MAX_PAGE_PIXELS_PER_BYTE * file_bytes:
        raise TooLargeError(
            f"claims {len(pages)} pages of {pixels / 1e6:.0f} megapixels in {file_bytes} bytes; refusing to "
            "decode"
        )


def require_memory(needed_bytes: float, where: str = "") -> None:
    """Check that there is memory for a file, before it is taken.

    Raises:
        TooLargeError: There is less (in this container, where it has a limit).
    """
    available = available_bytes()
    if available is not None and needed_bytes > available:
        release_memory()  # what the file before left in holes
        available = available_bytes() or 0
    if available is not None and needed_bytes > available:
        needed_mb, available_mb = needed_bytes / 1e6, available / 1e6
        raise TooLargeError(
            f"{where}needs about {needed_mb:.0f} MB of memory; {available_mb:.0f} MB are available"
        )


def require_few(count: int, parts: str, where: str = "") -> None:
    """Check the number of parts of a file, before each is read.

    Raises:
        TooLargeError: There are more than `MAX_PARTS`.
    """
    if count > MAX_PARTS:
        raise TooLargeError(f"{where}holds {count} {parts}; expected {MAX_PARTS} at most")
