"""Limits of containers, by a copy of the files in which Linux states them."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from denoise import io, machine
from denoise.errors import TooLargeError
from denoise.infer.file import clean_file, load_cleaner
from denoise.io.limits import require_memory
from denoise.options import CleanOptions
from pipelines.batch.engines import table
from pipelines.batch.jobs import CleanJob
from pipelines.inspect import doctor

MIB = 1 << 20
VERSION_2 = {
    "cgroup": "0::/a/b\n",
    "groups/a/memory.max": f"{600 * MIB}\n",
    "groups/a/memory.current": f"{500 * MIB}\n",
    "groups/a/memory.stat": f"anon 5\ninactive_file {70 * MIB}\nactive_file {60 * MIB}\n",
    "groups/a/b/memory.max": "max\n",
    "groups/a/b/cpu.max": "50000 100000\n",
    "groups/a/cpu.max": "max 100000\n",
}
VERSION_1 = {
    "cgroup": "4:memory:/docker/x\n3:cpuset:/\n2:cpu,cpuacct:/docker/x\n0::/\n",
    "groups/memory/memory.limit_in_bytes": f"{600 * MIB}\n",
    "groups/memory/memory.usage_in_bytes": f"{500 * MIB}\n",
    "groups/memory/memory.stat": f"total_inactive_file {70 * MIB}\ntotal_active_file {60 * MIB}\n",
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
    monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": "3"})
    machine.limit_threads(machine.cores())
    assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "1"
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"  # a thread that spins takes a core from others
    assert machine.memory_bytes() == 600 * MIB
    assert machine.available_bytes() == 200 * MIB


@pytest.mark.parametrize("files", [NO_LIMITS, {}], ids=["no limits", "no groups"])
def test_without_limits_it_is_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]
) -> None:
    pretend(monkeypatch, tmp_path, files)
    assert machine.cores() == 4
    stated = {"OMP_NUM_THREADS": "3", "OMP_WAIT_POLICY": "ACTIVE"}
    monkeypatch.setattr(os, "environ", dict(stated))
    machine.limit_threads(machine.cores())
    assert os.environ == stated  # as the user says, and as the libraries do
    assert machine.memory_bytes() > 600 * MIB
    assert machine.available_bytes() == 8000000 * 1024


@pytest.mark.parametrize("files", [VERSION_1, VERSION_2], ids=["version 1", "version 2"])
def test_workers_and_tiles_fit_into_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]
) -> None:
    """Two photos of 12 megapixels in 600 MiB and half a core: one worker."""
    pretend(monkeypatch, tmp_path, files)
    job = CleanJob(inputs=(tmp_path,), output=tmp_path / "out")
    assert table._worker_count(job, files=2, expected_s=60.0) == 1
    with pytest.raises(doctor._ProblemError, match="210 MB of memory left, expected 537 MB"):
        doctor._machine()
    assert doctor.machine_text() == "1 core, 210 MB of 629 MB memory left"


@pytest.mark.parametrize("files", [VERSION_1, VERSION_2], ids=["version 1", "version 2"])
def test_a_file_that_does_not_fit_into_a_container_is_refused_with_the_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]
) -> None:
    small, large, log = tmp_path / "small.png", tmp_path / "large.png", tmp_path / "a.npz"
    Image.new("RGB", (400, 300)).save(small)
    Image.new("RGB", (4000, 3000)).save(large)
    np.savez(log, x=np.arange(100_000.0))
    pretend(monkeypatch, tmp_path, files)
    cleaner = load_cleaner(CleanOptions(model="none"), "image")
    clean_file(small, tmp_path / "out.png", cleaner, CleanOptions(model="none"))
    needed = (2 * 3 + 8) * 12_000_000 / 1e6 + 64 * MIB / 1e6
    with pytest.raises(
        TooLargeError, match=rf"large.png: needs about {needed:.0f} MB .*; 210 MB are available"
    ):
        clean_file(large, tmp_path / "out2.png", cleaner, CleanOptions(model="none"))
    monkeypatch.setattr("denoise.io.limits.available_bytes", lambda: 700_000)
    with pytest.raises(TooLargeError, match=r"a.npz: needs about 1 MB of memory; 1 MB are available"):
        io.probe(log)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_memory_in_holes_is_returned_before_a_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that files leave in holes is returned: at 600 MiB the second of two photos was refused."""
    blocks = [np.ones(12_000) for _ in range(2000)]  # below glibc's threshold for blocks of their own
    kept = blocks[::50]
    full = resident_bytes()
    del blocks
    monkeypatch.setattr("denoise.io.limits.available_bytes", lambda: full - resident_bytes())
    require_memory(100e6)
    assert resident_bytes() < full - 100e6
    assert len(kept) == 40
    with pytest.raises(TooLargeError, match="needs about 1000000 MB"):
        require_memory(1e12)
