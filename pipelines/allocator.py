"""How the C library hands out memory to a network, which takes and frees the same large blocks all the time.

glibc gives every block above 32 MiB back to the system and gets the next one from it page by page, which costs
up to a fifth of the time; smaller ones it keeps, in holes that fit the next tile badly. Measured on one thread,
seconds a megapixel of one run of `photo` on a megapixel: 1.81 as it comes, 1.47 with freed memory kept (and up
to 200 MB of it in holes), 1.66 with every large block taken from the system in huge pages (and nothing held).
"""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["keep_freed_memory", "use_huge_pages"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_TRIM_KEPT, _MMAP_KEPT = 2**28, 2**27  # bytes: what a network holds while it runs, and more than a layer gives
_TRIM_RETURNED, _MMAP_RETURNED = 2**21, 2**21  # bytes: one huge page


def use_huge_pages() -> None:
    """Have PyTorch ask for pages of 2 MB, each of which comes at once; before it makes its first tensor."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def keep_freed_memory(kept: bool) -> None:
    """Have glibc keep freed blocks for the next, or return each large one at once; others are as they are."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MMAP_KEPT if kept else _MMAP_RETURNED)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_KEPT if kept else _TRIM_RETURNED)
