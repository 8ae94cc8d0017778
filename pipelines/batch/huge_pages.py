"""How the system hands out memory to a network, which takes and frees the same large blocks all the time.

As they come, PyTorch and glibc take every block above 32 MiB from the system page by page (a sixth of the
time that a network needs for a megapixel), and keep smaller ones in holes that the next tile does not fit
(hundreds of megabytes). Pages of 2 MB cost little to take, so all large blocks can be given back at once.
"""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["use_huge_pages"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGE = 8 * 2**20  # bytes


def use_huge_pages() -> None:
    """Take large blocks in huge pages and give them back at once; to be called before the first tensor.

    On systems without glibc or huge pages it does nothing.
    """
    if sys.platform != "linux":
        return
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # PyTorch's own switch, read once
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, 2 * _LARGE)
