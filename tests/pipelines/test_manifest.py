"""The manifest proves finished work, survives damage, and lists only existing results."""

import errno
import json
import math
import os
from pathlib import Path

import pytest

from denoise.errors import InputError, OutputError, StorageError
from pipelines.batch import manifest, store
from pipelines.batch.discover import Item
from pipelines.batch.manifest import PENDING_NAME, Appender, Entry, Manifest
from pipelines.batch.store import MANIFEST_NAME, digest


@pytest.fixture
def item(tmp_path: Path) -> Item:
    source, out = tmp_path / "in" / "a.png", tmp_path / "out"
    source.parent.mkdir()
    out.mkdir()
    source.write_bytes(b"input")
    return Item(source, out / "a.png", "a.png", "a.png", "image")


def done(item: Item, **changes: object) -> Entry:
    """Write the item's output and give the row that proves it."""
    item.destination.write_bytes(b"output")
    facts: dict[str, object] = {
        "input_digest": digest(item.source),
        "output_digest": digest(item.destination),
        "fingerprint": "f",
    }
    return Entry.of(item, "ok", **(facts | changes))


def append(root: Path, *entries: Entry) -> None:
    with Manifest(root).writing([]) as write:
        for entry in entries:
            write(entry)


def interrupt(item: Item) -> None:
    """Start an item, and stop before its row."""
    with pytest.raises(KeyboardInterrupt), Manifest(item.destination.parent).writing([item.key]):
        raise KeyboardInterrupt


def verdict(item: Item, fingerprint: str = "f", *, overwrite: bool = False) -> str | None:
    entry = Manifest(item.destination.parent).status_of(item, fingerprint, overwrite=overwrite)
    return entry.status if entry else None


@pytest.mark.parametrize("name", [MANIFEST_NAME, PENDING_NAME])
def test_a_pipe_in_place_of_a_record_is_not_waited_for(item: Item, name: str) -> None:
    os.mkfifo(item.destination.with_name(name))
    with pytest.raises(OutputError, match=f"{name}: is no regular file"):
        Manifest(item.destination.parent)


def test_without_a_row_or_an_output_there_is_work(item: Item) -> None:
    assert verdict(item) is None
    append(item.destination.parent, done(item))
    item.destination.unlink()
    assert verdict(item) is None


def test_a_proven_file_is_skipped_and_keeps_its_figures(item: Item) -> None:
    append(item.destination.parent, done(item, metrics={"psnr_db": 30.0}))
    entry = Manifest(item.destination.parent).status_of(item, "f")
    assert entry is not None
    assert (entry.status, entry.seconds, entry.metrics) == ("skipped", 0.0, {"psnr_db": 30.0})


def test_changed_settings_or_input_redo_our_own_output(item: Item) -> None:
    append(item.destination.parent, done(item))
    assert verdict(item, "other settings") is None
    item.source.write_bytes(b"another input")
    assert verdict(item) is None


@pytest.mark.parametrize("known", [False, True])
def test_what_we_did_not_write_is_never_replaced_unless_asked(item: Item, known: bool) -> None:
    if known:
        append(item.destination.parent, done(item))
    item.destination.write_bytes(b"somebody's own work")
    assert verdict(item) == "failed"
    entry = Manifest(item.destination.parent).status_of(item, "f")
    assert entry is not None
    assert str(item.destination) in str(entry.error)
    assert "--overwrite" in str(entry.error)
    assert verdict(item, overwrite=True) is None


def test_a_folder_in_the_place_of_an_output_fails_even_with_overwrite(item: Item) -> None:
    item.destination.mkdir()
    assert verdict(item) == verdict(item, overwrite=True) == "failed"


def test_a_failed_row_proves_nothing_and_unproves_nothing(item: Item) -> None:
    append(item.destination.parent, Entry.of(item, "failed", error="e", fingerprint="f"))
    assert verdict(item) is None
    append(item.destination.parent, done(item), Entry.of(item, "failed", error="e", fingerprint="g"))
    assert verdict(item) == "skipped"


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_a_torn_last_line_is_passed_over_and_the_next_row_is_whole(item: Item, cut: int) -> None:
    path = item.destination.parent / MANIFEST_NAME
    append(item.destination.parent, Entry("other", "other", "ok", key="other.png"), done(item))
    path.write_bytes(path.read_bytes()[:-cut])
    assert (verdict(item) == "skipped") == (cut == 1)  # only the line's end is missing
    if cut > 1:
        item.destination.unlink()
    append(item.destination.parent, done(item))
    assert verdict(item) == "skipped"
    assert json.loads(path.read_text().splitlines()[-1])["key"] == "a.png"


@pytest.mark.parametrize("line", [b"\xff\xfe\x00", b"[1]", b"null", b'{"status": "ok"}', b""])
def test_lines_of_others_are_passed_over(item: Item, line: bytes) -> None:
    (item.destination.parent / MANIFEST_NAME).write_bytes(line + b"\n")
    append(item.destination.parent, done(item))
    assert verdict(item) == "skipped"


def test_an_output_of_an_interrupted_run_is_ours_to_redo(item: Item) -> None:
    root = item.destination.parent
    interrupt(item)
    item.destination.write_bytes(b"output, but the row never came")
    assert (root / PENDING_NAME).exists()
    assert verdict(item) is None
    with Manifest(root).writing([item.key]) as write:
        write(done(item))
    assert verdict(item) == "skipped"
    assert not (root / PENDING_NAME).exists()


def test_the_claims_of_an_interrupted_run_outlive_another_run(item: Item) -> None:
    root = item.destination.parent
    other = Item(item.source, root / "b.png", "b.png", "b.png", "image")
    interrupt(item)
    with Manifest(root).writing([other.key]):
        pass
    assert json.loads((root / PENDING_NAME).read_text()) == "a.png"


def test_temporary_files_of_a_killed_run_go_and_nothing_else(item: Item) -> None:
    root = item.destination.parent
    (root / PENDING_NAME).write_text('"a.png"\n')
    stray, foreign, hidden = root / ".a.png.0123abcd.part", root / ".z.png.0123abcd.part", root / ".a.png"
    for path in (stray, foreign, hidden):
        path.write_bytes(b"x")
    append(root)
    assert [path.exists() for path in (stray, foreign, hidden)] == [False, True, True]


def test_a_full_disk_leaves_the_manifest_as_it_was(item: Item, monkeypatch: pytest.MonkeyPatch) -> None:
    root = item.destination.parent
    append(root, done(item))
    before = (root / MANIFEST_NAME).read_bytes()

    whole = Appender._write

    def full(self: Appender, line: bytes) -> None:
        whole(self, line[: len(line) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Manifest(root).writing([]) as write:
        monkeypatch.setattr(Appender, "_write", full)
        with pytest.raises(StorageError, match=f"{MANIFEST_NAME}: cannot be written: No space left"):
            write(done(item))
        monkeypatch.undo()
    assert (root / MANIFEST_NAME).read_bytes() == before


def test_rows_reach_the_disk_after_the_names_that_they_speak_of(
    item: Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(store, "sync_folder", synced.append)
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(Path(MANIFEST_NAME)))
    monkeypatch.setattr(manifest.time, "monotonic", lambda: 1e6)  # half a second never passes
    root = item.destination.parent
    below = Item(item.source, root / "sub" / "b.png", "sub/b.png", "sub/b.png", "image")
    below.destination.parent.mkdir()
    with Manifest(root).writing([item.key, below.key]) as write:
        synced.clear()
        write(done(item))
        assert synced == [root, Path(MANIFEST_NAME)]
        synced.clear()
        for _ in range(50):
            write(done(below))
        assert not synced  # before half a second has passed
    assert set(synced[:2]) == {root / "sub", root}
    assert synced[2] == Path(MANIFEST_NAME)


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="Not a directory"), Manifest(tmp_path / "file" / "out").writing([]):
        pass


def test_rows_are_plain_json(item: Item) -> None:
    entry = Entry.of(item, "ok", metrics={"a": math.inf, "b": math.nan, "c": 1.5})
    row = json.loads(json.dumps(entry.row(), allow_nan=False))
    assert row["metrics"] == {"a": None, "b": None, "c": 1.5}
    documented = {"source", "output", "status", "seconds", "modality", "model", "metrics", "error"}
    assert documented <= row.keys()


def test_what_cannot_be_read_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone.png: cannot be read: No such file"):
        digest(tmp_path / "gone.png")
