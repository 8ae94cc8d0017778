"""A final name holds the old file or the whole new one, and no other file remains."""

import contextlib
import errno
import os
from pathlib import Path

import pytest

from denoise.errors import OutputError
from denoise.io import atomic
from denoise.io.atomic import is_temporary, remove_strays, replacing


def test_new_bytes_take_the_name(tmp_path: Path) -> None:
    target = tmp_path / "größe mit leer.bin"
    with replacing(target) as part:
        assert part.parent == tmp_path
        assert part.name.startswith(f".{target.name}.")
        assert part.name.endswith(".part")
        part.write_bytes(b"new")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize(
    ("like", "exact", "expected"),
    [(None, False, 0o640), (0o604, False, 0o600), (0o666, False, 0o640), (0o666, True, 0o666)],
)
def test_only_the_owner_reads_what_is_unfinished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, like: int | None, exact: bool, expected: int
) -> None:
    target, source = tmp_path / "a.bin", tmp_path / "source.bin"
    source.touch()
    source.chmod(like or 0o600)
    modes: list[int] = []

    original = Path.replace

    def rename(self: Path, final: Path) -> Path:
        modes.append(self.stat().st_mode & 0o777)
        return original(self, final)

    monkeypatch.setattr(Path, "replace", rename)
    before = os.umask(0o027)
    try:
        with replacing(target, None if like is None else source, exact=exact) as part:
            part.write_bytes(b"new")
            modes.append(part.stat().st_mode & 0o777)
    finally:
        os.umask(before)
    assert modes == [0o600, expected]
    assert target.stat().st_mode & 0o777 == expected


def _stopped_write(target: Path, stop: BaseException) -> None:
    with replacing(target) as part:
        part.write_bytes(b"half")
        raise stop


@pytest.mark.parametrize("stop", [ValueError("x"), KeyboardInterrupt(), SystemExit(1), GeneratorExit()])
@pytest.mark.parametrize("old", [b"old", None])
def test_any_exception_leaves_the_old_file_or_none(
    tmp_path: Path, old: bytes | None, stop: BaseException
) -> None:
    target = tmp_path / "a.bin"
    if old is not None:
        target.write_bytes(old)
    with pytest.raises(type(stop)):
        _stopped_write(target, stop)
    assert (target.read_bytes() if target.exists() else None) == old
    assert [path for path in tmp_path.iterdir() if path != target] == []


def test_disk_full_is_one_sentence_with_the_name(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    with (
        pytest.raises(OutputError, match=r"a\.bin: cannot be written: No space left on device"),
        replacing(target),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", ["_sync", "sync_folder"])
def test_a_failing_sync_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def fail(_: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    monkeypatch.setattr(atomic, step, fail)
    with pytest.raises(OutputError, match=r"a\.bin"), replacing(target) as part:
        part.write_bytes(b"new")
    assert list(tmp_path.iterdir()) == [target]
    assert target.read_bytes() == (b"old" if step == "_sync" else b"new")


def test_bytes_are_synced_before_the_name_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    real = Path.replace
    monkeypatch.setattr(atomic, "_sync", lambda _: order.append("file"))
    monkeypatch.setattr(atomic, "sync_folder", lambda _: order.append("folder"))

    def rename(self: Path, target: Path) -> Path:
        order.append("rename")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", rename)
    with replacing(tmp_path / "a.bin"):
        pass
    assert order == ["file", "rename", "folder"]


def test_a_folder_or_a_missing_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="is a directory"), replacing(tmp_path / "folder"):
        pass
    with (
        pytest.raises(OutputError, match="No such file or directory"),
        replacing(tmp_path / "none" / "a.bin"),
    ):
        pass
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="Not a directory"), replacing(tmp_path / "file" / "a.bin"):
        pass


def test_the_longest_names_work(tmp_path: Path) -> None:
    for name in ("n" * 255, "ü" * 127):
        with replacing(tmp_path / name) as part:
            part.write_bytes(b"x")
        assert (tmp_path / name).read_bytes() == b"x"


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with replacing(tmp_path / "a.bin"):
            pass
    finally:
        os.umask(old)
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", [b"a\nb.png", b"a\xffb.png", "ü.png".encode(), b"x" * 255])
def test_strays_of_any_name_are_removed(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    with contextlib.suppress(KeyboardInterrupt), replacing(path) as temporary:
        stray = temporary.name
        raise KeyboardInterrupt
    (tmp_path / stray).write_bytes(b"left by a killed process")
    assert is_temporary(stray)
    remove_strays(tmp_path, {path.name})
    assert list(tmp_path.iterdir()) == []
