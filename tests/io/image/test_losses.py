"""What a picture's file holds besides its pixels: kept, or named in a note."""

import io as memory
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import tifffile as tifffile_module
from numpy.typing import NDArray
from PIL import Image

from denoise import io

tifffile: Any = tifffile_module
PHOTO: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)


def again(path: Path) -> tuple[bytes, str]:
    """Write a file with unchanged pixels; return its bytes and all notes."""
    target = path.with_name(f"out{path.suffix}")
    with io.reader(path) as pages, io.writer(target, pages.info) as sink:
        notes = pages.info.notes
        for page in pages:
            sink.write(page)
    return target.read_bytes(), "; ".join((*notes, *getattr(sink, "notes", ())))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(extra: bytes = b"", behind: bytes = b"") -> bytes:
    data = imagecodecs.png_encode(PHOTO)
    return data[:33] + extra + data[33:] + behind


def damaged(kind: bytes, content: bytes) -> bytes:
    return chunk(kind, content)[:-1] + b"?"


def webp(*chunks: tuple[bytes, bytes], behind: bytes = b"") -> bytes:
    held = memory.BytesIO()
    Image.fromarray(PHOTO).save(held, "WEBP", lossless=True)
    data = held.getvalue() + b"".join(kind + struct.pack("<I", len(c)) + c for kind, c in chunks)
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:] + behind


def tiff(behind: bytes = b"", **options: Any) -> bytes:
    held = memory.BytesIO()
    tifffile.imwrite(held, PHOTO, photometric="rgb", metadata=None, **options)
    return held.getvalue() + behind


def bmp(bits: int, pixels: NDArray[Any], masks: bytes = b"", behind: bytes = b"") -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, 32, -24, 1, bits, 3 if masks else 0, pixels.nbytes, 0, 0, 0, 0)
    start = 14 + len(head) + len(masks)
    return (
        struct.pack("<2sIII", b"BM", start + pixels.nbytes, 0, start)
        + head
        + masks
        + pixels.tobytes()
        + behind
    )


def box(kind: bytes) -> bytes:
    return struct.pack(">I4s", 16, kind) + b"contents"


def heic() -> bytes:
    held = memory.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(PHOTO)).save(held)
    return held.getvalue()


BOXES = "boxes not kept: {}; 8 bytes behind the picture: not kept"
PADDED = np.dstack([PHOTO[..., ::-1], np.full((24, 32), 7, np.uint8)])
SHORT = (
    (PHOTO[..., 0].astype("<u2") >> 3 << 11) | (PHOTO[..., 1].astype("<u2") >> 2 << 5) | PHOTO[..., 2] >> 3
)
MASKS = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
KEPT = b"".join([chunk(b"sTER", b"\0"), chunk(b"sPLT", b"pal\0\x08" + bytes(6)), chunk(b"prVt", b"private")])


@pytest.mark.parametrize(
    ("suffix", "make", "note"),
    [
        (".png", lambda: png(KEPT), ""),
        (".png", lambda: png(chunk(b"iDOT", bytes(28)), bytes(9)), ""),  # Apple's offsets, and filling
        (".png", lambda: png(chunk(b"prVT", b"unsafe")), "PNG chunks not kept: prVT"),
        (".png", lambda: png(damaged(b"tEXt", b"Author\0me")), "damaged PNG chunks not kept: tEXt"),
        (".png", lambda: png(behind=b"TRAILING"), "8 bytes behind the picture: not kept"),
        (".webp", lambda: webp((b"ABCD", b"data")), ""),
        (".webp", lambda: webp(behind=b"TRAILING"), "8 bytes behind the picture: not kept"),
        (".tif", lambda: tiff(), ""),
        (".tif", lambda: tiff(extratags=[(315, "s", 0, "me", True)], compression="zlib"), ""),
        (".tif", lambda: tiff(b"TRAILING"), "8 bytes behind the picture: not kept"),
        (
            ".tif",
            lambda: tiff(extratags=[(37724, "B", 20, b"Adobe Photoshop Doc!", True)]),
            "Photoshop's layers (tag 37724) are not kept: they would show the noise",
        ),
        (".avif", lambda: imagecodecs.avif_encode(PHOTO), ""),
        (".avif", lambda: imagecodecs.avif_encode(PHOTO) + box(b"uuid") + b"TRAILING", BOXES.format("uuid")),
        (".heic", lambda: heic() + box(b"sefd") + b"TRAILING", BOXES.format("sefd")),
        (".jxl", lambda: imagecodecs.jpegxl_encode(PHOTO), ""),
        (
            ".jxl",
            lambda: imagecodecs.jpegxl_encode(PHOTO, usecontainer=True) + box(b"jumb"),
            "boxes not kept: jumb",
        ),
        (".bmp", lambda: bmp(24, PHOTO[..., ::-1]), ""),
        (".bmp", lambda: bmp(24, PHOTO[..., ::-1], behind=b"TAIL"), "4 bytes behind the picture: not kept"),
        (".bmp", lambda: bmp(32, PADDED), "32-bit pixels turned into 24-bit pixels"),
        (".bmp", lambda: bmp(16, SHORT, MASKS), "16-bit pixels turned into 24-bit pixels"),
        (".jpg", lambda: imagecodecs.jpeg8_encode(PHOTO, level=92, subsampling="420"), ""),
        (
            ".jpg",
            lambda: imagecodecs.jpeg8_encode(PHOTO, level=92, subsampling="440"),
            "its sampling of colour, which the encoder lacks, turned into 4:4:4",
        ),
    ],
)
def test_what_is_not_kept_is_named(tmp_path: Path, suffix: str, make: Callable[[], bytes], note: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(make())
    result, found = again(path)
    assert found == note
    for part in (KEPT[:13], KEPT[13:-19], KEPT[-19:], b"ABCD\4\0\0\0data"):
        assert (part in path.read_bytes()) == (part in result)
    (tmp_path / "again").mkdir()
    second = tmp_path / "again" / path.name
    second.write_bytes(result)
    assert again(second)[1] == ""  # what is written holds nothing that would be lost


def test_a_tiff_with_exif_has_nothing_behind_its_pages(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Kamera"
    exif.get_ifd(0x8769).update({0x829A: 0.5, 0x927C: b"note" * 9})
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 7.0, 30.0)})
    path = tmp_path / "a.tif"
    Image.fromarray(PHOTO).save(path, exif=exif)
    result, found = again(path)
    assert found == ""
    (tmp_path / "b.tif").write_bytes(result)
    assert again(tmp_path / "b.tif")[1] == ""


def test_metadata_amid_the_scans_of_a_jpeg_stay(tmp_path: Path) -> None:
    path, packet = tmp_path / "a.jpg", b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>"
    Image.fromarray(PHOTO).save(path, progressive=True)
    data = path.read_bytes()
    at = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    segments = b"".join(
        b"\xff" + marker + struct.pack(">H", len(content) + 2) + content
        for marker, content in ((b"\xfe", b"a comment"), (b"\xe1", packet))
    )
    path.write_bytes(data[:at] + segments + data[at:])
    np.testing.assert_array_equal(io.read(path)[0], np.asarray(Image.open(path)).transpose(2, 0, 1))
    result, notes = again(path)
    assert notes == ""
    assert b"a comment" in result
    assert packet in result
    assert io.probe(path).metadata.xmp == b"<x:xmpmeta/>"
