"""Settings of allocators: large blocks in huge pages, and few compiled kernels kept.

A network allocates and frees the same large blocks all the time. By default, PyTorch and glibc take every
block above 32 MiB from the system page by page (a sixth of the time that a network needs for a megapixel),
and keep smaller ones in holes that the next tile does not fit (hundreds of megabytes). Pages of 2 MB cost
little, so all large blocks can be freed at once.

PyTorch and oneDNN each keep 1024 kernels, compiled for one size of input each. A long recording, whose
stretches of speech are of any length, fills that with 100 MB an hour. Compiling again costs nothing that one
can measure.
"""

from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGE = 8 * 2**20  # bytes
_KERNELS = 16


def tune_allocation() -> None:
    """Allocate large blocks in huge pages, free them at once, keep few kernels; before the first tensor.

    Values that the environment has stay. On systems without glibc or huge pages, their part does nothing.
    """
    for kept in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):  # of PyTorch, and of oneDNN
        os.environ.setdefault(kept, str(_KERNELS))
    if sys.platform != "linux":
        return
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # PyTorch's own switch, read once
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, 2 * _LARGE)
