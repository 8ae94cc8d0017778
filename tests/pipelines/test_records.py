"""Records of several files: every promise about a result holds for all of its files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from denoise import io
from denoise.infer.remix import remix_file
from pipelines.batch.store import digest

SAMPLES, RATE_HZ = 2000, 250


def _record(folder: Path, name: str, samples: str = "", annotated: bool = True) -> Path:
    """Write two noisy signals as a WFDB record of format 16."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = samples or f"{name}.dat"
    time_s = np.arange(SAMPLES) / RATE_HZ
    noise = np.random.default_rng(0).normal(0, 0.3, (2, SAMPLES))
    values = np.stack([np.sin(2 * np.pi * 1.1 * time_s), np.cos(2 * np.pi * 0.9 * time_s)]) + noise
    (200 * values.T).astype("<i2").tofile(folder / samples)
    lines = [f"{samples} 16 200 16 0 0 0 0 {signal}" for signal in ("I", "II")]
    header = folder / f"{name}.hea"
    header.write_text("\n".join([f"{name} 2 {RATE_HZ} {SAMPLES}", *lines, ""]))
    if annotated:
        (folder / f"{name}.atr").write_bytes(b"\x01\x04\0\0")
    return header


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("backup", [(), ("--backup", ".orig")])
def test_a_record_is_not_cleaned_in_place(tmp_path: Path, denoise: Any, backup: tuple[str, ...]) -> None:
    header = _record(tmp_path / "in", "rec")
    before = _bytes(header.parent)
    refused = denoise("clean", header.parent, "--in-place", *backup)
    assert refused.exit_code == 1
    assert f"{header}: is a record of 3 files" in refused.stdout.replace("\n", " ")
    assert "-o FOLDER" in refused.stdout
    assert {name: held for name, held in _bytes(header.parent).items() if "manifest" not in name} == before


@pytest.mark.parametrize("name", ["rec.dat", "rec.atr"])
def test_no_part_of_a_record_replaces_a_file_of_the_user(tmp_path: Path, denoise: Any, name: str) -> None:
    header, out = _record(tmp_path / "in", "rec"), tmp_path / "out"
    out.mkdir()
    (out / name).write_text("precious")
    refused = denoise("clean", header.parent, "-o", out)
    assert refused.exit_code == 1
    assert str(out / name) in refused.stdout
    assert (out / name).read_text() == "precious"
    assert not (out / "rec.hea").exists()
    assert denoise("clean", header.parent, "-o", out, "--overwrite").exit_code == 0
    assert (out / name).read_text("latin-1") != "precious"


def test_the_manifest_proves_every_file_of_a_record(tmp_path: Path, denoise: Any, manifest_rows: Any) -> None:
    header, out = _record(tmp_path / "in", "rec"), tmp_path / "out"
    command = ("clean", header.parent, "-o", out)
    assert denoise(*command).exit_code == 0
    right = _bytes(out)
    assert manifest_rows(out)[-1]["parts"] == {name: digest(out / name) for name in ("rec.dat", "rec.atr")}
    assert denoise("verify", out).exit_code == 0
    assert "1 skipped" in denoise(*command).stdout
    (out / "rec.dat").unlink()
    assert denoise("verify", out).exit_code == 1
    assert "1 skipped" not in denoise(*command).stdout  # the part is written again
    assert (out / "rec.dat").read_bytes() == right["rec.dat"]
    (out / "rec.dat").write_bytes(b"edited")
    assert denoise("verify", out).exit_code == 1
    refused = denoise(*command)
    assert refused.exit_code == 1
    assert "was changed since it was written" in refused.stdout
    assert (out / "rec.dat").read_bytes() == b"edited"
    assert not list(out.glob(".*"))


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_another_strength_of_a_record_is_a_whole_record(
    tmp_path: Path, denoise: Any, strength: float
) -> None:
    header, mixed = _record(tmp_path / "in", "rec"), tmp_path / "mixed" / "half.hea"
    assert denoise("clean", header, "-o", tmp_path / "out", "--model", "savgol").exit_code == 0
    cleaned = tmp_path / "out" / "rec.hea"
    mixed.parent.mkdir()
    remix_file(header, cleaned, mixed, strength)
    assert {path.name for path in mixed.parent.iterdir()} == {"half.hea", "half.dat", "half.atr"}
    noisy, clean, found = (io.read(path)[0] for path in (header, cleaned, mixed))
    np.testing.assert_allclose(found, noisy + strength * (clean - noisy), atol=0.003)  # half a step
    assert not np.array_equal(noisy, clean)


def test_a_record_without_its_samples_fails_by_their_name(tmp_path: Path, denoise: Any) -> None:
    header = _record(tmp_path / "in", "rec")
    header.with_suffix(".dat").unlink()
    failed = denoise("clean", header.parent, "-o", tmp_path / "out")
    assert failed.exit_code == 1
    assert "rec.dat, which it names, cannot be read" in failed.stdout


def test_annotations_without_any_event_are_copied(tmp_path: Path, denoise: Any) -> None:
    header, out = _record(tmp_path / "in", "rec"), tmp_path / "out"
    header.with_suffix(".atr").write_bytes(b"\0\0")  # their end alone
    assert denoise("clean", header.parent, "-o", out).exit_code == 0
    assert (out / "rec.atr").read_bytes() == b"\0\0"


def test_a_record_is_cleaned_again_when_its_samples_change(tmp_path: Path, denoise: Any) -> None:
    header, out = _record(tmp_path / "in", "rec"), tmp_path / "out"
    command = ("clean", header.parent, "-o", out)
    assert denoise(*command).exit_code == 0
    before = (out / "rec.dat").read_bytes()
    samples = np.fromfile(header.with_suffix(".dat"), "<i2")
    samples[::-1].tofile(header.with_suffix(".dat"))
    assert denoise(*command).exit_code == 0
    assert (out / "rec.dat").read_bytes() != before


def test_a_record_does_not_go_to_standard_output(tmp_path: Path, denoise: Any) -> None:
    refused = denoise("clean", _record(tmp_path, "rec"), "-o", "-")
    assert refused.exit_code == 2
    assert "is a record of several files; give -o FOLDER" in refused.output


def test_two_headers_of_one_file_of_samples_are_refused(tmp_path: Path, denoise: Any) -> None:
    first, out = _record(tmp_path / "in", "rec"), tmp_path / "out"
    second = _record(first.parent, "other", "rec.dat", annotated=False)
    refused = denoise("clean", first.parent, "-o", out)
    assert refused.exit_code == 1
    assert "would be written there" in refused.stdout
    assert "2 failed" in refused.stdout
    assert not out.exists() or not list(out.glob("*.hea"))
    assert denoise("clean", second, "-o", tmp_path / "apart/").exit_code == 0


def test_a_header_that_names_another_input_is_refused_with_it(tmp_path: Path, denoise: Any) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    _record(folder, "rec", annotated=False)
    header = folder / "rec.hea"
    header.write_text(header.read_text().replace("rec.dat", "log.csv"))
    (folder / "log.csv").write_text("x\n" + "\n".join(str(n % 7) for n in range(2 * SAMPLES)))
    refused = denoise("clean", folder, "-o", out)
    assert refused.exit_code == 1
    assert "would be written there" in refused.stdout
    assert "2 failed" in refused.stdout


def test_a_record_names_no_file_of_the_program(tmp_path: Path, denoise: Any) -> None:
    header, out = _record(tmp_path / "in", "rec", "denoise-manifest.jsonl", annotated=False), tmp_path / "out"
    refused = denoise("clean", header, "-o", out / "rec.hea", "--manifest")
    assert refused.exit_code == 1
    assert "denoise-manifest.jsonl; rename it" in refused.stdout


def test_a_renamed_record_has_no_two_files_of_one_name(tmp_path: Path, denoise: Any) -> None:
    header = _record(tmp_path / "in", "a", "x.dat", annotated=False)
    (header.parent / "a_x.dat").write_bytes((header.parent / "x.dat").read_bytes())
    text = header.read_text().splitlines()
    text[1] = text[1].replace("x.dat", "a_x.dat")
    header.write_text("\n".join(text) + "\n")
    refused = denoise("clean", header, "-o", tmp_path / "b.hea")
    assert refused.exit_code == 1
    assert "b_x.dat" in refused.stdout
    assert not (tmp_path / "b_x.dat").exists()


def test_a_report_has_no_name_of_a_part(tmp_path: Path, denoise: Any) -> None:
    header, out = _record(tmp_path / "in", "rec"), tmp_path / "out"
    refused = denoise("clean", header, "-o", out, "--json", out / "rec.dat")
    assert refused.exit_code == 2
    assert "is the name of a result" in refused.output


def test_the_time_of_every_file_is_kept(tmp_path: Path, denoise: Any) -> None:
    import os

    header, out = _record(tmp_path / "in", "rec"), tmp_path / "out"
    for path in header.parent.iterdir():
        os.utime(path, (1e9, 1e9))
    assert denoise("clean", header.parent, "-o", out, "--keep-mtime").exit_code == 0
    assert {path.stat().st_mtime for path in out.glob("rec.*")} == {1e9}


def test_a_killed_run_is_finished_whatever_file_it_left(tmp_path: Path, denoise: Any) -> None:
    header, out = _record(tmp_path / "in", "rec"), tmp_path / "out"
    out.mkdir()
    (out / "rec.dat").write_bytes(b"of the killed run")
    (out / ".rec.atr.01234567.part").write_bytes(b"half")
    keys = ("rec.atr", "rec.dat", "rec.hea")
    (out / ".denoise-unfinished").write_text("".join(json.dumps(key) + "\n" for key in keys))
    assert denoise("clean", header.parent, "-o", out).exit_code == 0
    assert sorted(_bytes(out)) == ["denoise-manifest.jsonl", *keys]
