"""Comments of Ogg files, compared with mutagen, and damaged files."""

from pathlib import Path
from typing import Any

import mutagen
import numpy as np
import pytest
import soundfile

from denoise.io.audio import ogg
from denoise.io.audio.tags import insert_tags, read_tags

KINDS = pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])


def _recording(path: Path, subtype: str) -> Path:
    samples = 0.1 * np.random.default_rng(0).normal(size=(96000, 2))
    soundfile.write(path, samples, 48000, format="OGG", subtype=subtype)
    return path


def _checksum(page: bytes) -> int:
    """CRC-32 of RFC 3533, bit by bit."""
    register = 0
    for byte in page[:22] + bytes(4) + page[26:]:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1 ^ (0x04C11DB7 if register >> 31 else 0)) & 0xFFFFFFFF
    return register


def _pages(data: bytes) -> list[bytes]:
    pages, start = [], 0
    while start < len(data):
        count = data[start + 26]
        stop = start + 27 + count + sum(data[start + 27 : start + 27 + count])
        pages.append(data[start:stop])
        start = stop
    return pages


@KINDS
@pytest.mark.parametrize("size", [0, 255 * 3, 65_000, 70_000, 300_000])
def test_comments_of_any_size_are_copied(tmp_path: Path, subtype: str, size: int) -> None:
    source, target = (_recording(tmp_path / name, subtype) for name in ("a.ogg", "b.ogg"))
    tagged: Any = mutagen.File(source)
    tagged["title"], tagged["picture"] = ["Tïtle", "a=b"], "Q" * size
    tagged.save()
    before = soundfile.read(target)[0]
    tags = read_tags(source, "OGG")
    insert_tags(target, "OGG", tags)
    assert [(name, text.decode()) for name, text in tags] == list(tagged.tags)
    assert list(mutagen.File(target).tags) == list(tagged.tags)
    np.testing.assert_array_equal(soundfile.read(target)[0], before)
    pages = _pages(target.read_bytes())
    assert [int.from_bytes(page[18:22], "little") for page in pages] == list(range(len(pages)))
    sealed = [*pages[:2], pages[-1]]
    assert [int.from_bytes(page[22:26], "little") for page in sealed] == list(map(_checksum, sealed))


@KINDS
def test_damaged_comments_are_left_out(tmp_path: Path, subtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _recording(tmp_path / "a.ogg", subtype)
    insert_tags(path, "OGG", (("title", b"x" * 1000), ("artist", b"y")))
    data = path.read_bytes()
    at = data.index(b"title=") - 4
    for damaged in (
        data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :],  # a comment of 4 GiB
        data[: at + 500],
        data[:40],
        data.replace(b"OpusTags", b"OpusXXXX").replace(b"\x03vorbis", b"\x04vorbis"),
    ):
        path.write_bytes(damaged)
        assert read_tags(path, "OGG") == ()
    path.write_bytes(data[: at - 4] + b"\xff\xff\xff\xff" + data[at:])  # four thousand million comments
    assert [name for name, _ in read_tags(path, "OGG")][:2] == ["title", "artist"]
    monkeypatch.setattr(ogg, "MAX_BYTES", 100)
    assert read_tags(path, "OGG") == ()
