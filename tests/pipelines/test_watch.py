"""`denoise watch` cleans new files once they have settled, despite other events."""

import errno
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from denoise.errors import StorageError, UsageError
from denoise.options import CleanOptions
from pipelines.batch.engines import table as engines
from pipelines.batch.jobs import CleanJob
from pipelines.batch.manifest import Entry
from pipelines.batch.store import MANIFEST_NAME
from pipelines.batch.watch import Arrivals, Watch, WatchSummary, watch
from pipelines.inspect.verify import verify

Run = Callable[..., Any]
Story = Iterator[None]
SETTLE_S = 0.05


# ---- when a file has come to rest ------------------------------------------------------------------------


def look(arrivals: Arrivals, now_s: float, *paths: Path) -> list[str]:
    """Names of the files that are ready at a time."""
    arrivals.begin(now_s)
    ready = [path.name for path in paths if arrivals(path)]
    arrivals.end()
    return ready


def test_a_file_is_taken_once_it_has_not_changed_for_the_time(tmp_path: Path) -> None:
    arrivals, path = Arrivals(settle_s=2), tmp_path / "a"
    path.write_bytes(b"1")
    assert look(arrivals, 0, path) == []
    assert (arrivals.waiting, arrivals.due_s) == (1, 2)
    assert look(arrivals, 1.9, path) == []
    assert look(arrivals, 2, path) == ["a"]
    assert (arrivals.waiting, arrivals.due_s) == (0, float("inf"))
    assert look(arrivals, 9, path) == []


def test_a_file_that_grows_or_is_touched_starts_anew(tmp_path: Path) -> None:
    arrivals, path = Arrivals(settle_s=2), tmp_path / "a"
    for now_s in range(10):
        path.write_bytes(b"1" * (now_s + 1))
        assert look(arrivals, now_s, path) == []
    os.utime(path, ns=(0, 1))
    assert look(arrivals, 10.9, path) == []
    assert look(arrivals, 12.9, path) == ["a"]
    os.utime(path, ns=(0, 2))
    assert look(arrivals, 20, path) == []
    assert look(arrivals, 22, path) == ["a"]


def test_a_record_is_taken_again_when_its_samples_arrive(tmp_path: Path) -> None:
    arrivals, path = Arrivals(settle_s=2), tmp_path / "a.hea"
    path.write_text("a 1 250 9\na.dat 16 200 16 0 0 0 0 I\n")
    assert [look(arrivals, now_s, path) for now_s in (0, 2)] == [[], ["a.hea"]]
    path.with_suffix(".dat").write_bytes(b"1")
    assert [look(arrivals, now_s, path) for now_s in (3, 4)] == [[], []]
    path.with_suffix(".dat").write_bytes(b"12")
    assert [look(arrivals, now_s, path) for now_s in (5, 6.9, 7)] == [[], [], ["a.hea"]]


def test_an_empty_file_is_waited_for(tmp_path: Path) -> None:
    arrivals, path = Arrivals(settle_s=2), tmp_path / "a"
    path.touch()
    assert [look(arrivals, now_s, path) for now_s in (0, 100)] == [[], []]
    assert (arrivals.waiting, arrivals.due_s) == (1, float("inf"))  # no need to scan soon


def test_what_has_gone_is_forgotten(tmp_path: Path) -> None:
    arrivals = Arrivals(settle_s=0)
    for number in range(50):
        path = tmp_path / str(number)
        path.write_bytes(b"1")
        assert look(arrivals, number, path) == [path.name]
        path.unlink()
    arrivals.begin(50)
    assert arrivals.end() == {str(path)}
    assert path not in arrivals
    assert not arrivals._files


# ---- the watch itself ------------------------------------------------------------------------------------


@pytest.fixture
def folder(media: Path) -> Path:
    """An input folder with one picture in a subfolder, and similar pictures beside it."""
    for path in media.rglob("*.*"):
        if path.is_file():
            shutil.move(path, media.parent / path.name.replace(" ", ""))
    shutil.copy(media.parent / "a.png", media / "süb dir" / "first.png")
    return media


def tell_story(watched: Watch, begin: Callable[[], Story]) -> tuple[list[Entry], WatchSummary, list[str]]:
    """Watch a folder; every entry resumes the story by one step, and the watch ends with it."""
    entries: list[Entry] = []
    said: list[str] = []
    story = begin()
    next(story)

    def on_entry(entry: Entry) -> None:
        entries.append(entry)
        try:
            next(story)
        except StopIteration:
            raise KeyboardInterrupt from None

    rescue = threading.Timer(60, os.kill, (os.getpid(), signal.SIGINT))
    rescue.start()
    try:
        found = watch(watched, on_entry=on_entry, on_message=said.append)
        assert rescue.is_alive(), entries
    finally:
        rescue.cancel()
    return entries, found, said


def cleaning(out: Path, *folders: Path) -> CleanJob:
    return CleanJob(inputs=folders, output=out, options=CleanOptions(model="none"))


def clean(folder: Path, out: Path, **options: Any) -> Watch:
    return Watch(job=cleaning(out, folder), settle_s=SETTLE_S, **options)


@pytest.mark.parametrize("poll_s", [None, 0.05], ids=["notified", "polling"])
def test_it_cleans_what_is_there_and_what_comes_and_what_changes(
    folder: Path, tmp_path: Path, poll_s: float | None
) -> None:
    out = tmp_path / "out"

    def story() -> Story:
        yield  # until the first is done
        (folder / "new").mkdir()
        (folder / "new" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        yield
        shutil.copy(tmp_path / "a.png", folder / "new" / "bad.png")
        yield
        (folder / "worse.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        yield
        (folder / "worse.png").unlink()
        shutil.copy(tmp_path / "t.wav", folder / "sound.part")  # like programs that write and then rename
        (folder / "sound.part").rename(folder / "sound.wav")
        yield
        changed = (tmp_path / "bc.png", folder / "süb dir" / "first.png")
        threading.Timer(0.3, shutil.copy, changed).start()  # while it is idle
        yield

    entries, watched, said = tell_story(clean(folder, out, poll_s=poll_s), story)
    assert [f"{Path(entry.source).name} {entry.status}" for entry in entries] == [
        "first.png ok", "bad.png failed", "bad.png ok", "worse.png failed", "sound.wav ok", "first.png ok"
    ]  # fmt: skip
    assert (watched.failed, watched.waiting, watched.stopped, said) == ({}, 0, None, [])
    assert {checked.key: checked.status for checked in verify(out)} == {
        "new/bad.png": "right", "sound.wav": "right", "süb dir/first.png": "right"
    }  # fmt: skip


def test_it_goes_on_where_it_was_and_agrees_with_clean(folder: Path, tmp_path: Path, denoise: Run) -> None:
    out = tmp_path / "out"

    def interrupted() -> Story:
        for name in ("b.png", "c.png"):
            shutil.copy(tmp_path / "a.png", folder / name)
        yield
        yield  # after b.png: c.png and first.png are taken on, but not done

    entries, watched, _ = tell_story(clean(folder, out), interrupted)
    assert ([entry.status for entry in entries], watched.waiting) == (["ok", "ok"], 1)

    def resumed() -> Story:
        yield from [None] * 3

    entries, watched, _ = tell_story(clean(folder, out), resumed)
    assert {Path(entry.source).name: entry.status for entry in entries} == {
        "b.png": "skipped", "c.png": "skipped", "first.png": "ok"
    }  # fmt: skip
    assert "3 skipped" in denoise("clean", folder, "-o", out, "--model", "none").stdout


def test_a_file_that_is_being_written_is_left_alone(folder: Path, tmp_path: Path) -> None:
    data = (tmp_path / "t.wav").read_bytes()
    target = folder / "t.wav"

    def write_slowly() -> None:
        with target.open("wb", buffering=0) as file:
            for start in range(0, len(data), 256):
                file.write(data[start : start + 256])
                time.sleep(SETTLE_S / 2)

    writer = threading.Thread(target=write_slowly)

    def story() -> Story:
        yield
        writer.start()
        yield

    entries, _, _ = tell_story(Watch(job=clean(folder, tmp_path / "out").job, settle_s=5 * SETTLE_S), story)
    writer.join()
    assert [entry.status for entry in entries] == ["ok", "ok"]  # never cleaned while incomplete
    assert (tmp_path / "out" / "t.wav").stat().st_size == len(data)


def test_two_inputs_of_one_output_and_links_into_the_output_are_refused(folder: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    shutil.copytree(folder, other)

    def story() -> Story:
        yield
        yield
        (folder / "back").symlink_to(out)
        yield

    job = cleaning(out, folder, other)
    entries, watched, _ = tell_story(Watch(job=job, settle_s=SETTLE_S), story)
    assert [entry.status for entry in entries] == ["ok", "failed", "failed"]
    assert "would be written there" in str(entries[1].error)
    assert "is inside the output" in str(entries[2].error)
    assert len(watched.failed) == 2


def test_a_folder_may_go_and_come_back(folder: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"

    def story() -> Story:
        yield
        folder.rename(away)
        yield
        away.rename(folder)
        yield

    entries, watched, _ = tell_story(clean(folder, tmp_path / "out", poll_s=0.05), story)
    assert [entry.status for entry in entries] == ["ok", "failed", "skipped"]
    assert not watched.failed


def test_without_notifications_it_looks_now_and_then(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    monkeypatch.setattr("pipelines.batch.watch.POLL_S", 0.05)

    def story() -> Story:
        yield
        shutil.copy(tmp_path / "a.png", folder / "b.png")
        yield

    with monkeypatch.context() as patch:
        patch.setattr("watchdog.observers.Observer.start", exhausted)
        entries, _, said = tell_story(clean(folder, tmp_path / "out"), story)
    assert [entry.status for entry in entries] == ["ok", "ok"]
    assert said == ["no notifications (inotify watch limit reached): folders are scanned every 0.05 s"]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "watchdog.observers", None)
        entries, _, said = tell_story(clean(folder, tmp_path / "other"), lambda: iter([None] * 2))
    assert "without watchdog" in said[0]


def test_what_cannot_work_is_refused(folder: Path, tmp_path: Path, denoise: Run) -> None:
    def refused(*arguments: object) -> str:
        result = denoise("watch", *arguments)
        assert result.exit_code == 2
        return str(result.stderr)

    assert "a folder to watch was expected" in refused(tmp_path / "a.png", "-o", tmp_path / "out")
    assert "no such folder" in refused(tmp_path / "none", "-o", tmp_path / "out")
    assert "is inside the input" in refused(folder, "-o", folder / "out")
    assert "finds the noise level itself" in refused(
        folder, "-o", tmp_path / "out", "--model", "none", "--sigma", 5
    )
    assert "run `denoise clean --in-place`" in refused(folder, "--in-place")
    assert not (tmp_path / "out").exists()
    for options in ({"settle_s": -1}, {"settle_s": float("nan")}, {"poll_s": 0}):
        with pytest.raises(UsageError):
            Watch(job=clean(folder, tmp_path / "out").job, **options)


def test_results_are_named_as_clean_names_them(folder: Path, tmp_path: Path) -> None:
    job = replace(cleaning(tmp_path / "out", folder), template="{stem}_clean{ext}", format="tiff")
    entries, _, _ = tell_story(Watch(job=job, settle_s=SETTLE_S), lambda: iter([None]))
    assert [entry.status for entry in entries] == ["ok"]
    assert (tmp_path / "out" / "süb dir" / "first_clean.tif").is_file()


def test_a_second_watch_of_the_same_output_is_refused(folder: Path, tmp_path: Path) -> None:
    def story() -> Story:
        yield
        with pytest.raises(UsageError, match="another run"):
            watch(clean(folder, tmp_path / "out"))

    tell_story(clean(folder, tmp_path / "out"), story)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("bad", [False, True], ids=["fine", "failed"])
def test_a_signal_ends_it_with_a_summary(
    folder: Path, tmp_path: Path, denoise: Run, number: int, *, bad: bool
) -> None:
    manifest = tmp_path / "out" / MANIFEST_NAME
    if bad:
        (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")

    def stop() -> None:
        while not manifest.exists() or manifest.read_bytes().count(b"\n") < 1 + bad:
            time.sleep(0.02)
        time.sleep(0.2)
        os.kill(os.getpid(), number)

    threading.Thread(target=stop).start()
    result = denoise("watch", folder, "-o", tmp_path / "out", "--model", "none", "--settle", SETTLE_S)
    assert result.exit_code == int(bad)
    assert result.stdout.splitlines()[-1] == ("1 failed, 1 ok" if bad else "1 ok")
    assert f"ok {folder / 'süb dir' / 'first.png'}: " in result.stderr
    assert ("Failed: 1" in result.stdout) == bad
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert sorted(row["status"] for row in rows) == (["failed", "ok"] if bad else ["ok"])


def test_a_full_disk_ends_it(
    folder: Path, tmp_path: Path, denoise: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Iterator[Entry]:
        raise StorageError("out/first.png: cannot be written: No space left on device")
        yield

    monkeypatch.setattr(engines, "run", full)
    result = denoise("watch", folder, "-o", tmp_path / "out", "--model", "none", "--settle", SETTLE_S)
    assert result.exit_code == 3
    assert "1 unfinished" in result.stdout
    assert "No space left" in result.stderr
