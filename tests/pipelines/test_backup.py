"""Backups of files cleaned in place: one is the original only of what this program wrote from it."""

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from PIL import Image

from denoise.errors import InputError
from denoise.io.atomic import is_temporary
from pipelines.batch import discover, store
from pipelines.batch.manifest import PENDING_NAME, Manifest
from pipelines.batch.swap import swapped
from pipelines.cli.group import cli
from tests.io.sensor.makers import make_fif


def picture(path: Path, seed: int = 0, side: int = 32) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def log(path: Path, rows: int) -> Path:
    path.write_text("t_s,x\n" + "".join(f"{n / 10},{n * 5 % 7}.25\n" for n in range(rows)))
    return path


def clean(*arguments: object) -> Result:
    words = ["clean", "--model", "median", "-q", "--workers", "1", "--in-place", *map(str, arguments)]
    return CliRunner().invoke(cli, words)


def state(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("[at].*")}


def grown_log(folder: Path) -> Path:
    path = log(folder / "t.csv", 100)
    assert clean(folder, "--backup", ".orig").exit_code == 0
    with path.open("a") as file:
        file.writelines(f"{n / 10},9.5\n" for n in range(100, 201))
    return path


def cropped_photo(folder: Path) -> Path:
    path = picture(folder / "a.png")
    assert clean(folder, "--backup", ".orig").exit_code == 0
    with Image.open(path) as image:
        image.crop((0, 0, 20, 20)).save(path)
    return path


def foreign_photo(folder: Path) -> Path:
    shutil.move(picture(folder / "other.png", 1), folder / "a.png.orig")
    return picture(folder / "a.png")


def foreign_text(folder: Path) -> Path:
    (folder / "a.png.orig").write_text("see the other folder")
    return picture(folder / "a.png")


@pytest.mark.parametrize("options", [(), ("--overwrite",), ("--dry-run",)], ids=" ".join)
@pytest.mark.parametrize("interrupted", [False, True])
@pytest.mark.parametrize("make", [grown_log, cropped_photo, foreign_photo, foreign_text])
def test_a_file_that_is_no_result_of_its_backup_stays(
    tmp_path: Path, make: Callable[[Path], Path], interrupted: bool, options: tuple[str, ...]
) -> None:
    path = make(tmp_path)
    if interrupted:  # only what cleaning the backup gives can then be a result of it
        (tmp_path / PENDING_NAME).write_text(f'"./{path.name}"\n')
    other = picture(tmp_path / "b.png", 2)
    before, noisy = state(tmp_path), other.read_bytes()
    found = clean(tmp_path, "--backup", ".orig", *options)
    assert state(tmp_path) == before
    if options == ("--dry-run",):
        assert found.exit_code == (0 if interrupted else 1)  # a plan cleans nothing to find out
        return
    assert found.exit_code == 1
    assert f"{path}: has changed since its backup {path}.orig was made" in found.output
    assert "another --backup suffix, or move the backup away" in found.output
    assert other.read_bytes() != noisy  # the batch went on
    assert clean(path, "--backup", ".before").exit_code == 0
    assert state(tmp_path)[f"{path.name}.before"] == before[path.name]
    assert state(tmp_path)[f"{path.name}.orig"] == before[f"{path.name}.orig"]
    verified = CliRunner().invoke(cli, ["verify", str(tmp_path)])  # a result has as many originals as runs
    assert verified.exit_code == (1 if make in (foreign_photo, foreign_text) else 0), verified.output


@pytest.mark.parametrize("when", ["before the rename", "before the row", "and its file removed"])
def test_a_run_killed_around_its_rename_is_resumed(tmp_path: Path, when: str) -> None:
    path = picture(tmp_path / "a.png")
    noisy = path.read_bytes()
    assert clean(tmp_path, "--backup", ".orig").exit_code == 0
    result = state(tmp_path)
    assert result["a.png"] != noisy
    (tmp_path / store.MANIFEST_NAME).unlink()
    (tmp_path / PENDING_NAME).write_text('"./a.png"\n')
    if when == "before the rename":
        path.write_bytes(noisy)
    if when == "and its file removed":
        path.unlink()
        with swapped(path, tmp_path / f"{path.name}.orig") as (source, target):
            target.parent.mkdir()
            assert source.read_bytes() == noisy
            shutil.copyfile(source, target)
        assert path.read_bytes() == noisy
    assert clean(tmp_path, "--backup", ".orig").exit_code == 0
    assert state(tmp_path) == result
    assert CliRunner().invoke(cli, ["verify", str(tmp_path)]).exit_code == 0
    again = clean(tmp_path, "--backup", ".orig", "--json", "-")
    assert '"status": "skipped"' in again.output
    assert state(tmp_path) == result
    assert clean(tmp_path, "--backup", ".orig", "--overwrite").exit_code == 0
    assert state(tmp_path) == result


def test_a_resumed_run_leaves_no_list_of_unfinished_files(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    assert clean(tmp_path, "--backup", ".orig").exit_code == 0
    picture(tmp_path / "b.png", 1)
    (tmp_path / PENDING_NAME).write_text('"./a.png"\n"./b.png"\n')  # killed between the two
    for _ in range(2):
        assert clean(tmp_path, "--backup", ".orig").exit_code == 0
        assert not (tmp_path / PENDING_NAME).exists()


def test_rows_that_come_while_the_backup_is_cleaned_are_kept(tmp_path: Path) -> None:
    path = log(tmp_path / "t.csv", 100)
    shutil.copyfile(path, tmp_path / "t.csv.orig")

    def grow_meanwhile() -> None:
        with swapped(path, tmp_path / f"{path.name}.orig") as (_, target):
            target.parent.mkdir()
            target.write_text("cleaned")
            log(path, 101)

    with pytest.raises(InputError, match="has changed"):
        grow_meanwhile()
    assert len(path.read_text().splitlines()) == 102


@pytest.mark.parametrize("other", [".orig", ".before", None])
@pytest.mark.parametrize("when", ["while it is cleaned", "at the swap", "without links"])
def test_no_run_replaces_what_another_run_has_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, other: str | None
) -> None:
    """The backup would hold a result, and the original would be lost."""
    path, link = picture(tmp_path / "a.png"), os.link
    noisy = path.read_bytes()

    def swap(backup: str | None, result: bytes, meanwhile: Callable[[], object]) -> None:
        with swapped(path, tmp_path / f"a.png{backup}" if backup else None) as (source, target):
            target.parent.mkdir()
            assert source.read_bytes() == noisy
            target.write_bytes(result)
            meanwhile()

    def by_the_other(*names: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        swap(other, b"of the other", lambda: None)
        if when == "without links":
            raise PermissionError
        if names:
            link(*names)

    monkeypatch.setattr(os, "link", by_the_other)
    with pytest.raises(InputError, match="was changed by another run"):
        swap(".orig", b"ours", by_the_other if when == "while it is cleaned" else lambda: None)
    assert path.read_bytes() == b"of the other"
    left = {name: data for name, data in state(tmp_path).items() if name != "a.png"}
    assert left == ({f"a.png{other}": noisy} if other else {})


def test_a_folder_in_place_of_a_backup_is_named(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    (tmp_path / "a.png.orig").mkdir()
    found = clean(path, "--backup", ".orig")
    assert found.exit_code == 1
    assert f"{path}.orig: is no regular file" in found.output


def test_restore_puts_the_originals_back(tmp_path: Path) -> None:
    before = {
        path.name: path.read_bytes() for path in (picture(tmp_path / "a.png"), log(tmp_path / "t.csv", 100))
    }
    assert clean(tmp_path, "--backup", ".orig").exit_code == 0
    assert state(tmp_path)["a.png"] != before["a.png"]
    again = CliRunner().invoke(cli, ["restore", str(tmp_path)])
    assert (again.exit_code, again.stdout) == (0, "2 restored, 0 failed\n")
    assert state(tmp_path) == before
    assert {path.name for path in tmp_path.iterdir()} == before.keys()  # no manifest either
    assert clean(tmp_path, "--backup", ".orig").exit_code == 0  # as if it had never been cleaned
    assert state(tmp_path)["a.png.orig"] == before["a.png"]
    (tmp_path / "a.png").unlink()
    assert CliRunner().invoke(cli, ["restore", str(tmp_path)]).exit_code == 0
    assert state(tmp_path) == before
    assert "holds no denoise-manifest.jsonl" in CliRunner().invoke(cli, ["restore", str(tmp_path)]).output


def test_restore_keeps_a_manifest_of_other_results(tmp_path: Path) -> None:
    folder, other = tmp_path / "photos", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    picture(folder / "a.png")
    picture(other / "b.png")
    assert clean(folder, "--backup", ".orig").exit_code == 0
    assert CliRunner().invoke(cli, ["clean", str(other), "-o", str(folder)]).exit_code == 0
    assert CliRunner().invoke(cli, ["restore", str(folder)]).stdout == "1 restored, 0 failed\n"
    assert CliRunner().invoke(cli, ["verify", str(folder)]).exit_code == 0
    assert "no result of --in-place" in CliRunner().invoke(cli, ["restore", str(folder)]).output


@pytest.mark.parametrize("change", [grown_log, cropped_photo, "foreign", "none"])
def test_restore_leaves_what_is_not_proven(tmp_path: Path, change: Callable[[Path], Path] | str) -> None:
    if isinstance(change, str):
        picture(tmp_path / "a.png")
        assert clean(tmp_path, "--backup", ".orig").exit_code == 0
        (tmp_path / "a.png.orig").unlink()
        if change == "foreign":
            picture(tmp_path / "other.png", 1).rename(tmp_path / "a.png.orig")
    else:
        change(tmp_path)
    before = state(tmp_path)
    result = CliRunner().invoke(cli, ["restore", str(tmp_path)])
    assert result.exit_code == 1
    assert "0 restored, 1 failed" in result.stdout
    assert "and stays" in result.stderr
    assert state(tmp_path) == before


def test_backups_are_not_files_of_other_kinds(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "notes.doc").write_text("mine")
    words = ["clean", str(tmp_path), "--model", "median", "--in-place", "--backup", ".orig"]
    for _ in range(2):
        shown = CliRunner().invoke(cli, words).stdout
        assert "Ignored, of other kinds: 1 (.doc)" in shown
    assert (tmp_path / "a.png.orig").is_file()


@pytest.mark.parametrize("restored", [False, True])
def test_files_that_a_killed_run_in_place_did_not_reach_are_no_results(
    tmp_path: Path, restored: bool
) -> None:
    """Another folder's file of that name replaced them."""
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.mkdir()
    other.mkdir()
    first, second = picture(mine / "a.png"), picture(mine / "b.png", 1)
    picture(other / "b.png", 2)
    kept = second.read_bytes()
    with Manifest(mine, None).writing(["a.png", "b.png"], in_place=True):
        listed = (mine / PENDING_NAME).read_text()
    assert clean(first, "--backup", ".orig").exit_code == 0
    (mine / PENDING_NAME).write_text(listed)  # as a killed run leaves it
    if restored:
        assert CliRunner().invoke(cli, ["restore", str(mine)]).exit_code == 0
    done = CliRunner().invoke(cli, ["clean", "--model", "median", str(other), "-o", str(mine)])
    assert done.exit_code == 1
    assert "is there already" in done.output
    assert second.read_bytes() == kept
    assert clean(mine, "--backup", ".orig").exit_code == 0


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_nobody_reads_a_result_who_cannot_read_its_source(tmp_path: Path, mode: int) -> None:
    path = picture(tmp_path / "a.png")
    path.chmod(mode)
    out = tmp_path / "out"
    words = ["clean", "--model", "median", "-q", "--workers", "1", str(path), "-o", str(out)]
    assert CliRunner().invoke(cli, words).exit_code == 0
    assert (out / "a.png").stat().st_mode & 0o777 & ~mode == 0
    assert clean(path).exit_code == 0
    assert path.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("suffix", ["png", "wav", "csv", "fif", "npz"])
def test_no_file_of_a_private_source_is_ever_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    samples = np.random.default_rng(0).normal(size=(2, 3000)).astype(np.float32) / 8
    if suffix == "png":
        picture(path)
    elif suffix == "wav":
        soundfile.write(path, samples.T, 8000)
    elif suffix == "csv":
        log(path, 100)
    elif suffix == "fif":
        make_fif(path, samples[:, :500] * 1e-5)
    else:
        np.savez(path, x=samples[0], y=samples[1])
    path.chmod(0o600)
    modes: list[int] = []

    original = Path.replace

    def rename(self: Path, final: Path) -> Path:
        if is_temporary(self.name):
            modes.append(self.stat().st_mode & 0o077)
        return original(self, final)

    monkeypatch.setattr(Path, "replace", rename)
    words = ["clean", "-q", "--workers", "1", str(path), "-o", str(tmp_path / f"b.{suffix}")]
    found = CliRunner().invoke(cli, words)
    assert found.exit_code == 0, found.output
    assert (
        CliRunner().invoke(cli, ["clean", "-q", str(path), "--in-place", "--backup", ".orig"]).exit_code == 0
    )
    assert modes == 3 * [0]  # of both results, and what takes the place of the source


def test_hard_links_of_a_file_in_place_are_named(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    before = path.read_bytes()
    for name in ("b.dat", "c.dat"):
        os.link(path, tmp_path / name)
    found = clean(path, "--json", "-")
    (row,) = json.loads(found.stdout)["rows"]
    assert (
        "2 other names of a.png (hard links) keep the original: the result is a file of its own"
        in row["notes"]
    )
    assert (tmp_path / "b.dat").read_bytes() == before != path.read_bytes()
    again = clean(path, "--overwrite", "--json", "-")
    assert "hard link" not in again.stdout


def test_extended_attributes_stay_in_place(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    before = path.read_bytes()
    try:
        os.setxattr(path, "user.rating", b"5")
    except OSError:  # of a file system without
        held = {}
    else:
        held = {"user.rating": b"5"}
    assert clean(path).exit_code == 0
    assert path.read_bytes() != before
    assert {name: os.getxattr(path, name) for name in os.listxattr(path) if name in held} == held


AGAIN: dict[str, Callable[[Path], list[object]]] = {
    "no suffix": lambda folder: [folder],
    "cleaned again": lambda folder: [folder, "--overwrite"],
    "another suffix": lambda folder: [folder, "--backup", ".bak", "--overwrite"],
    "each file named": lambda folder: sorted(folder.glob("[at].*")),
    "the backup named": lambda folder: [folder / "a.png.orig"],
}


@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize("proof", ["manifest", "name"])
def test_a_backup_is_cleaned_by_no_run(tmp_path: Path, again: str, proof: str) -> None:
    originals = {
        path.name: path.read_bytes() for path in (picture(tmp_path / "a.png"), log(tmp_path / "t.csv", 100))
    }
    assert clean(tmp_path, "--backup", ".orig").exit_code == 0
    assert state(tmp_path)["a.png"] != originals["a.png"]
    if proof == "name":
        (tmp_path / store.MANIFEST_NAME).unlink()
    found = clean(*AGAIN[again](tmp_path))
    failed = (again, proof) == (
        "each file named",
        "name",
    )  # of a backup without a manifest, whose bytes say nothing
    assert found.exit_code == (2 if again == "the backup named" else failed)
    if again == "the backup named":
        assert "1 of them are backups" in found.output
    for name, before in originals.items():
        assert (tmp_path / f"{name}.orig").read_bytes() == before
    more = {name for name in state(tmp_path) if name.count(".") > 2}
    assert not more
    assert not list(tmp_path.glob("*.bak")) or proof == "name"
    if proof == "manifest":
        assert CliRunner().invoke(cli, ["verify", str(tmp_path)]).exit_code == 0
        assert CliRunner().invoke(cli, ["restore", str(tmp_path)]).stdout == "2 restored, 0 failed\n"
        assert state(tmp_path) == originals


@pytest.mark.parametrize("options", [(), ("--backup", ".orig"), ("--backup", ".bak")], ids=" ".join)
def test_what_is_cleaned_again_is_the_original(tmp_path: Path, options: tuple[str, ...]) -> None:
    for name in ("once", "twice"):
        (tmp_path / name).mkdir()
        picture(tmp_path / name / "a.png")
    before = state(tmp_path / "once")
    assert clean(tmp_path / "once", "--strength", "0.5").exit_code == 0
    assert clean(tmp_path / "twice", "--backup", ".orig").exit_code == 0
    again = clean(tmp_path / "twice", "--strength", "0.5", "--overwrite", *options)
    assert again.exit_code == 0, again.output
    assert state(tmp_path / "twice")["a.png"] == state(tmp_path / "once")["a.png"]
    assert state(tmp_path / "twice").keys() == {"a.png", "a.png.orig"}
    assert CliRunner().invoke(cli, ["restore", str(tmp_path / "twice")]).exit_code == 0
    assert state(tmp_path / "twice") == before


def test_restore_goes_back_to_the_first_original(tmp_path: Path) -> None:
    """A result that was cleaned as if it were an original, by a run that did not know the first."""
    path = picture(tmp_path / "a.png")
    before = state(tmp_path)
    assert clean(path, "--backup", ".orig").exit_code == 0
    hidden = (tmp_path / "a.png.orig").rename(tmp_path / "elsewhere")
    assert clean(path, "--backup", ".bak", "--overwrite", "--strength", "0.5").exit_code == 0
    assert (tmp_path / "a.png.bak").is_file()
    hidden.rename(tmp_path / "a.png.orig")
    assert CliRunner().invoke(cli, ["restore", str(tmp_path)]).exit_code == 0
    assert path.read_bytes() == before["a.png"]


def test_the_backup_of_a_file_that_is_gone_stays(tmp_path: Path) -> None:
    path, other = picture(tmp_path / "a.png"), picture(tmp_path / "b.png", 1)
    before = path.read_bytes()
    assert clean(path, "--backup", ".orig").exit_code == 0
    path.unlink()
    assert clean(tmp_path, "--backup", ".bak").exit_code == 0
    assert (tmp_path / "a.png.orig").read_bytes() == before
    assert (tmp_path / "b.png.bak").is_file()
    assert not (tmp_path / "a.png.orig.bak").exists()
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png.orig")
    assert clean(tmp_path, other).exit_code == 0
    assert (tmp_path / "a.png.orig").read_bytes() == before


@pytest.mark.parametrize("folder", ["", "sub"])
def test_backups_are_said_and_go_nowhere(tmp_path: Path, folder: str) -> None:
    """The manifest of a folder above or below the one that is read proves them, too."""
    place, out = tmp_path / "in" / "sub", tmp_path / "out"
    place.mkdir(parents=True)
    picture(place / "a.png")
    log(place / "t.csv", 100)
    assert clean(tmp_path / "in" / folder, "--backup", ".orig").exit_code == 0
    words = ["clean", "--model", "median", "--workers", "1", "-o", str(out)]
    shown = CliRunner().invoke(cli, [*words, str(place.parent)])
    assert "Ignored, backups of files beside them: 2 (.orig)" in shown.stdout
    assert {path.name for path in out.rglob("[at].*")} == {"a.png", "t.csv"}
    named = CliRunner().invoke(cli, [*words, str(place / "a.png.orig")])  # who names one elsewhere wants it
    assert named.exit_code == 0, named.output
    assert (out / "a.png.orig").is_file()


def test_a_store_lists_no_backups() -> None:
    from pipelines.batch.remote import location

    folder = location("memory://backups")
    for name in ("a.png", "a.png.orig", "b.png.orig", "c/a.png.orig"):
        with (folder / name).open("wb") as file:
            file.write(b"\x89PNG\r\n\x1a\n")
    found = discover.find([folder])
    assert [source.path.name for source in found.sources] == ["a.png", "b.png.orig", "a.png.orig"]
    assert [problem.path.name for problem in found.ignored if problem.backup] == ["a.png.orig"]


def test_what_only_looks_like_a_backup_is_an_input(tmp_path: Path) -> None:
    picture(tmp_path / "a.png").rename(tmp_path / "lone.png.v2")
    picture(tmp_path / "b.png", 1).rename(tmp_path / "b.csv.cover")
    log(tmp_path / "b.csv", 100)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress((tmp_path / "b.csv").read_bytes()))
    picture(tmp_path / "c.png", 2)
    picture(tmp_path / "c.png.tif", 3)
    names = [source.path.name for source in discover.find([tmp_path]).sources]
    assert names == ["b.csv", "b.csv.cover", "b.csv.gz", "c.png", "c.png.tif", "lone.png.v2"]
