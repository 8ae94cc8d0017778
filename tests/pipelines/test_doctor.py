"""`denoise doctor` passes this installation, and reports the faults of a broken one."""

import dataclasses
import json
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import pytest

from denoise import weights
from denoise.errors import OutputError
from denoise.io.audio import codec
from pipelines.inspect import doctor

Run = Callable[..., Any]


def problems() -> dict[str, str]:
    return {check.name: check.found for check in doctor.examine() if not check.ok}


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the slow checks."""
    monkeypatch.setattr(weights, "pretrained", dict)
    monkeypatch.setattr(doctor, "_self_test", lambda _: "")


def test_this_installation_is_sound(denoise: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    result = denoise("doctor", "--json", tmp_path / "r.json")
    assert result.exit_code == 0, result.stdout
    checks = {
        check["name"]: check["found"] for check in json.loads((tmp_path / "r.json").read_text())["checks"]
    }
    assert len(result.stdout.splitlines()) == len(checks)
    assert all(line.startswith("ok ") for line in result.stdout.splitlines())
    assert {f"model {name}" for name in weights.pretrained()} <= checks.keys()
    assert {f"self-test {name}" for name in ("image", "audio", "sensor")} <= checks.keys()
    assert f"numpy {metadata.version('numpy')}" in checks["packages"]
    assert "Opus" in checks["codecs"]
    left = {path.name for path in tmp_path.iterdir()}
    assert {name for name in left if not name.startswith("torch")} == {"r.json"}  # torch makes a cache


def test_an_extra_that_is_not_installed_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("av", "pillow_heif", "pylibjxl"):
        monkeypatch.setitem(sys.modules, package, None)  # as if it were not there
    formats = doctor._codecs().split(", ")
    assert {"PNG", "WAV", "Opus"} <= set(formats)
    assert not {"M4A", "HEIC", "JPEG XL"} & set(formats)


def test_a_damaged_model_is_a_problem(tmp_path: Path, denoise: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photo.safetensors"
    shutil.copy(weights.pretrained()["photo"], path)
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)
    monkeypatch.setattr(weights, "pretrained", lambda: {"photo": path})
    monkeypatch.setattr(doctor, "_self_test", lambda _: "")
    result = denoise("doctor", "--json", "-")
    assert result.exit_code == 1
    failed = [check for check in json.loads(result.stdout)["checks"] if not check["ok"]]
    assert [check["name"] for check in failed] == ["model photo"]
    assert "were changed" in failed[0]["found"]


@pytest.mark.usefixtures("hurried")
def test_what_is_missing_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def without_soxr(package: str) -> str:
        if package == "soxr":
            raise metadata.PackageNotFoundError
        return version(package)

    def broken(*_: object, **__: object) -> NoReturn:
        raise OutputError("no encoder")

    monkeypatch.setattr(metadata, "version", without_soxr)
    monkeypatch.setattr(doctor.Local, "free_bytes", lambda _: 1000)
    monkeypatch.setattr(doctor, "available_bytes", lambda: 1000)
    monkeypatch.setattr(codec, "CODEC", dataclasses.replace(codec.CODEC, writer=broken))
    found = problems()
    assert set(found) == {"packages", "machine", "disk", "codecs"}
    assert "soxr" in found["packages"]
    assert "MP3 (no encoder)" in found["codecs"]


def test_a_model_that_does_no_good_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("denoise.options.DEFAULT_MODELS", {"sensor": "none"})
    with pytest.raises(Exception, match=r"snr_db went from 1\d\.\d to 1\d\.\d, expected more"):
        doctor._self_test("sensor")
