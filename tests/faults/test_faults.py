"""The four promises under any failure: inputs, output names, manifest, and completion by a rerun."""

import contextlib
import errno
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from disturbed import Scene, turning

from denoise.errors import DenoiseError
from denoise.options import CleanOptions
from pipelines.batch.jobs import CleanJob

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)
STEPS = ("open", "fsync", "replace", "mkdir", "unlink", "write", "ftruncate")  # of `os`


class File:
    """An open file whose reads and writes may fail."""

    def __init__(self, file: Any, step: Callable[[], None]) -> None:
        self._file, self._step = file, step

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._file, name)
        if name not in ("read", "readinto", "write", "writelines"):
            return found

        def stepping(*arguments: Any) -> Any:
            self._step()
            return found(*arguments)

        return stepping

    def __iter__(self) -> Iterator[Any]:
        self._step()
        return iter(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class Faults:
    """Makes the n-th call of the operating system fail, and counts them."""

    def __init__(self, patch: pytest.MonkeyPatch, n: int, number: int) -> None:
        self.calls = 0
        self._n, self._number = n, number
        opening = io.open

        def open_(*arguments: Any, **options: Any) -> File:
            self.step()
            return File(opening(*arguments, **options), self.step)

        patch.setattr(io, "open", open_)
        patch.setattr("builtins.open", open_)
        for name in STEPS:
            patch.setattr(os, name, self._failing(getattr(os, name) if name != "fsync" else lambda _: None))

    def _failing(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*arguments: Any, **options: Any) -> Any:
            self.step()
            return call(*arguments, **options)

        return stepping

    def step(self) -> None:
        self.calls += 1
        if self.calls == self._n:
            raise OSError(self._number, os.strerror(self._number))


def fail_every_step(scene: Scene, errors: Callable[[int], tuple[int, ...]]) -> list[str]:
    """List the broken promises after each step fails in turn."""
    wrong: list[str] = []
    for n in itertools.count(1):
        for number in errors(n):
            scene.reset()
            with pytest.MonkeyPatch.context() as patch:
                faults = Faults(patch, n, number)
                with contextlib.suppress(DenoiseError):  # anything else would be a traceback
                    scene.run()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, "fsync", lambda _: None)
                wrong += [f"step {n}, {os.strerror(number)}: {broken}" for broken in scene.broken_promises()]
        if faults.calls < n:  # completed: there are no more steps
            break
    assert n > 40
    return wrong


def test_any_step_may_fail(tmp_path: Path) -> None:
    assert fail_every_step(turning(tmp_path), lambda n: (ERRORS[n % 3],)) == []


@pytest.mark.slow
def test_any_step_may_fail_in_any_way(tmp_path: Path) -> None:
    assert fail_every_step(turning(tmp_path), lambda _: ERRORS) == []


def fill_with_media(folder: Path) -> None:
    import soundfile
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / "a.png")
    Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / "b.jpg")
    soundfile.write(folder / "c.wav", rng.normal(0, 0.1, 400), 8000)
    (folder / "d.csv").write_text("t,x\n" + "".join(f"{n},{n % 7}.5\n" for n in range(60)))


@pytest.mark.slow
def test_any_step_of_cleaning_may_fail(tmp_path: Path) -> None:
    def job(source: Path, out: Path) -> CleanJob:
        return CleanJob(inputs=(source,), output=out, options=CleanOptions(model="none"))

    scene = Scene(tmp_path, job, None, fill_with_media)
    assert fail_every_step(scene, lambda n: (ERRORS[n % 3],)) == []


def disturb(*arguments: object, before: tuple[str, ...] = ()) -> list[str]:
    """List the broken promises that a disturbed process reports."""
    script = Path(__file__).with_name("disturbed.py")
    run = subprocess.run(
        [*before, sys.executable, str(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"PYTHONPATH": str(script.parents[2])},
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_a_batch_may_be_stopped_at_any_line(tmp_path: Path) -> None:
    assert disturb("kill", tmp_path, 60, 1) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_a_batch_may_be_stopped_a_thousand_times(tmp_path: Path, seed: int) -> None:
    assert disturb("kill", tmp_path, 250, seed) == []


def namespace() -> tuple[str, ...]:
    """Prefix of a command that may mount, if the system allows it; otherwise empty."""
    command = ("unshare", "--map-root-user", "--mount")
    if not shutil.which("unshare"):
        return ()
    mount = subprocess.run([*command, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True)
    return command if mount.returncode == 0 else ()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_disk_may_be_full(tmp_path: Path, workers: int) -> None:
    before = namespace()
    assert disturb("disk", tmp_path, workers, *(("tmpfs",) if before else ()), before=before) == []


def test_a_file_may_be_larger_than_the_system_takes(tmp_path: Path) -> None:
    assert disturb("disk", tmp_path, 1) == []


def test_every_promise_names_tests_that_are_there() -> None:
    root = Path(__file__).parents[2]
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (root / "docs" / "reliability.md").read_text("utf-8"))
    assert len(named) > 15
    for path, name in named:
        assert f"def {name}(" in (root / path).read_text("utf-8"), name
