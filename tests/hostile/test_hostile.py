"""Damaged files: each is read, or refused in one sentence."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import denoise

FOLDER = Path(__file__).parent
FAST, SLOW = 220, 6000
FAST_MEDIA, SLOW_MEDIA = 50, 2000
CASE_WALL_S = 5.0  # mean time of a case on a busy machine


def breaches(samples: Path, first: int, stop: int, kind: str = "plain") -> list[str]:
    """Collect breaches of these cases; a crash is one, and the next process continues behind it."""
    found: list[str] = []
    environment = {**os.environ, "PYTHONPATH": str(Path(denoise.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    while first < stop:
        command = [sys.executable, str(FOLDER / "attack.py"), str(samples), str(first), str(stop), kind]
        limit_s = 120 + CASE_WALL_S * (stop - first)
        run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=limit_s)
        lines = run.stdout.splitlines()
        numbers = [int(line) for line in lines if line.isdecimal()]
        found += [line for line in lines if line.startswith("{")]
        if run.returncode == 0:
            assert numbers == list(range(first, stop))
            return found
        assert numbers, run.stderr
        found.append(json.dumps({"case": numbers[-1], "problem": f"the process ended with {run.returncode}"}))
        first = numbers[-1] + 1
    return found


def test_a_few_hostile_files_of_every_format(tmp_path: Path) -> None:
    assert breaches(tmp_path, 0, FAST) == []


@pytest.mark.slow
def test_thousands_of_hostile_files(tmp_path: Path) -> None:
    assert breaches(tmp_path, FAST, FAST + SLOW) == []


def test_a_few_hostile_containers(tmp_path: Path) -> None:
    assert breaches(tmp_path, 0, FAST_MEDIA, "media") == []


@pytest.mark.slow
def test_thousands_of_hostile_containers(tmp_path: Path) -> None:
    assert breaches(tmp_path, FAST_MEDIA, FAST_MEDIA + SLOW_MEDIA, "media") == []
