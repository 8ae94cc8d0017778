"""Limits of the machine: cores and memory that this process may use, also inside a container; its arithmetic.

A control group (Linux, version 1 or 2) may allow less than the machine has; the smallest limit on the way
from the group of this process to the root counts.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

GROUPS, MEMBERSHIP, MEMORY = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"), Path("/proc/meminfo")
CPUS = Path("/proc/cpuinfo")
_FILE_PAGES = "inactive_file", "active_file"
_UNLIMITED_BYTES = 1 << 60  # version 1 states no limit by a larger number


def cores() -> int:
    """Number of CPU cores this process may use; a share of one counts as one."""
    quotas = [_quota(folder) for folder in _folders("cpu")]
    return max(1, min([_processors(), *(math.ceil(quota) for quota in quotas if quota)]))


def limit_threads(count: int) -> None:
    """Limit the threads of numerical libraries before they load: they know nothing of quotas.

    A thread that waits for another sleeps: by default it spins, which takes a core from other programs.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        stated = os.environ.get(name, "")
        if count < (int(stated) if stated.isdecimal() else _processors()):
            os.environ[name] = str(count)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def cpu_features() -> frozenset[str]:
    """Names of instruction sets, such as `avx512_bf16`, as Linux lists them; none on other systems."""
    try:
        found = re.search(r"^(?:flags|Features)\s*:(.*)$", CPUS.read_text(), re.MULTILINE)
    except OSError:
        return frozenset()
    return frozenset(found[1].split()) if found else frozenset()


def has_bf16() -> bool:
    """Return whether the processor multiplies bfloat16 (AVX512-BF16, AMX, or Arm's)."""
    return bool(cpu_features() & {"avx512_bf16", "amx_bf16", "bf16"})


def has_int8() -> bool:
    """Return whether the processor multiplies 8-bit integers without saturation (AVX512-VNNI)."""
    return "avx512_vnni" in cpu_features()


def has_amx() -> bool:
    """Return whether the processor multiplies tiles of bfloat16 (AMX), several times as fast as vectors."""
    return "amx_bf16" in cpu_features()


def memory_bytes() -> int:
    """Memory that this process may use: that of the machine, or the limit of its container.

    A very large number if the system does not report it.
    """
    found = [1 << 40]
    with suppress(AttributeError, ValueError, OSError):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min([*found, *(limit for limit, _ in _limits())])


def available_bytes() -> int | None:
    """Memory available without swapping; None if the system does not report it."""
    found = [limit - used for limit, used in _limits()]
    with suppress(OSError):
        match = re.search(r"^MemAvailable: +(\d+) kB", MEMORY.read_text(), re.MULTILINE)
        found += [int(match[1]) * 1024] if match else []
    return max(0, min(found)) if found else None


def release_memory() -> None:
    """Return freed memory to the system, which glibc keeps in holes between what is in use.

    After a photo of 12 megapixels these hold 130 MB. Without glibc it does nothing.
    """
    if trim := _malloc_trim():
        trim(0)


@functools.cache
def _malloc_trim() -> Any:
    try:
        return getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):  # Windows has no library without a name
        return None


def _limits() -> Iterator[tuple[int, int]]:
    """Yield limit and use of memory, in bytes, of each group that has a limit."""
    for folder in _folders("memory"):
        for limit_name, used_name in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit = _numbers(folder / limit_name)
            used = _numbers(folder / used_name)
            if limit and limit[0] < _UNLIMITED_BYTES:
                yield int(limit[0]), int(used[0]) - _reclaimable(folder) if used else 0


def _reclaimable(folder: Path) -> int:
    """Bytes of files that the system holds in memory for a group, and drops on demand.

    Half of those in use count, as in the system's own figure: libraries that run are needed again.
    """
    try:
        text = (folder / "memory.stat").read_text()
    except OSError:
        return 0
    found = {name: int(size) for name, size in re.findall(r"^(\w+) (\d+)$", text, re.MULTILINE)}
    inactive, active = (found.get(f"total_{kind}", found.get(kind, 0)) for kind in _FILE_PAGES)
    return inactive + active // 2


def _quota(folder: Path) -> float | None:
    """CPU time per time that a group allows, in cores; None without a limit."""
    stated = _numbers(folder / "cpu.max")
    if len(stated) != 2:
        stated = _numbers(folder / "cpu.cfs_quota_us") + _numbers(folder / "cpu.cfs_period_us")
    return stated[0] / stated[1] if len(stated) == 2 and min(stated) > 0 else None


def _numbers(path: Path) -> list[float]:
    """Read the numbers of a file; none of a missing one, or of one that says `max`."""
    try:
        words = path.read_text().split()
        return [float(word) for word in words] if "max" not in words else []
    except (OSError, ValueError):
        return []


def _folders(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's group and of those above it that exist."""
    try:
        lines = MEMBERSHIP.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        roots = [GROUPS, GROUPS / "unified"] if not controllers else [GROUPS / controller]
        if controllers and controller not in controllers.split(","):
            continue
        for root in roots:
            folder = root / path.lstrip("/")
            yield from (here for here in (folder, *folder.parents) if here.is_relative_to(root))
