"""Limits of containers, by a copy of the files in which Linux states them."""

from __future__ import annotations

from pathlib import Path

import pytest

from denoise import machine

MIB = 1 << 20
VERSION_2 = {
    "cgroup": "0::/a/b\n",
    "groups/a/memory.max": f"{600 * MIB}\n",
    "groups/a/memory.current": f"{500 * MIB}\n",
    "groups/a/memory.stat": f"anon 5\ninactive_file {100 * MIB}\n",
    "groups/a/b/memory.max": "max\n",
    "groups/a/b/cpu.max": "50000 100000\n",
    "groups/a/cpu.max": "max 100000\n",
}
VERSION_1 = {
    "cgroup": "4:memory:/docker/x\n3:cpuset:/\n2:cpu,cpuacct:/docker/x\n0::/\n",
    "groups/memory/memory.limit_in_bytes": f"{600 * MIB}\n",
    "groups/memory/memory.usage_in_bytes": f"{500 * MIB}\n",
    "groups/memory/memory.stat": f"total_inactive_file {100 * MIB}\n",
    "groups/cpu/cpu.cfs_quota_us": "50000\n",
    "groups/cpu/cpu.cfs_period_us": "100000\n",
}
NO_LIMITS = {
    "cgroup": VERSION_1["cgroup"],
    "groups/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "groups/cpu/cpu.cfs_quota_us": "-1\n",
    "groups/cpu/cpu.cfs_period_us": "100000\n",
}


def pretend(monkeypatch: pytest.MonkeyPatch, folder: Path, files: dict[str, str]) -> None:
    """Put this process into a control group that these files describe, on a machine of four cores."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable:    8000000 kB\n")
    monkeypatch.setattr(machine, "GROUPS", folder / "groups")
    monkeypatch.setattr(machine, "MEMBERSHIP", folder / "cgroup")
    monkeypatch.setattr(machine, "MEMORY", folder / "meminfo")
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(4)), raising=False)


@pytest.mark.parametrize("files", [VERSION_1, VERSION_2], ids=["version 1", "version 2"])
def test_a_container_has_what_its_group_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]
) -> None:
    pretend(monkeypatch, tmp_path, files)
    assert machine.cores() == 1  # half a core
    assert machine.memory_bytes() == 600 * MIB
    assert machine.available_bytes() == 200 * MIB


@pytest.mark.parametrize("files", [NO_LIMITS, {}], ids=["no limits", "no groups"])
def test_without_limits_it_is_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]
) -> None:
    pretend(monkeypatch, tmp_path, files)
    assert machine.cores() == 4
    assert machine.memory_bytes() > 600 * MIB
    assert machine.available_bytes() == 8000000 * 1024
