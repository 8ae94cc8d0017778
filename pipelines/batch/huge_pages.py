"""Allocate the large blocks of a network in huge pages.

A network allocates and frees the same large blocks all the time. By default, PyTorch and glibc take every
block above 32 MiB from the system page by page (a sixth of the time that a network needs for a megapixel),
and keep smaller ones in holes that the next tile does not fit (hundreds of megabytes). Pages of 2 MB cost
little, so all large blocks can be freed at once.
"""

from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGE = 8 * 2**20  # bytes


def use_huge_pages() -> None:
    """Allocate large blocks in huge pages and free them at once; call it before the first tensor.

    On systems without glibc or huge pages it does nothing.
    """
    if sys.platform != "linux":
        return
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # PyTorch's own switch, read once
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, 2 * _LARGE)
