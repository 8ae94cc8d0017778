"""Images keep pixels, depth, alpha, pages and metadata; other files are refused in one sentence."""

import contextlib
import io
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import rawpy
import tifffile as tifffile_module
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

import denoise
from denoise.errors import InputError, OutputError, TooLargeError, UnreadableError, UnsupportedError
from denoise.io import probe, read, reader, write, writer
from denoise.io.image import avif as avif_module
from denoise.io.image import jpeg as jpeg_module
from denoise.io.image import raw as raw_module
from denoise.io.image import tiff as tiff_module
from denoise.io.image.base import FileBytes
from denoise.io.image.ifd import EXIF_TAG, GPS_TAG, Entry, Tags, packed_exif
from denoise.signal import ImageInfo, Metadata, SignalInfo

Array = NDArray[Any]
tifffile: Any = tifffile_module  # its unions of page classes are of no use here

HEIGHT, WIDTH = 45, 67
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a>Gr\xc3\xbc\xc3\x9fe</a></x:xmpmeta>'
ORIENTATION, MAKE, EXPOSURE = 0x0112, 0x010F, 0x829A

# Which (channels, dtype) each format gives back as they went in.
HOLDS = {
    ".png": [(c, d) for c in (1, 2, 3, 4) for d in ("uint8", "uint16")],
    ".jpg": [(1, "uint8"), (3, "uint8")],
    ".jpeg": [(1, "uint8"), (3, "uint8")],
    ".webp": [(3, "uint8"), (4, "uint8")],
    ".tif": [(c, d) for c in (1, 2, 3, 4) for d in ("uint8", "uint16", "float32")],
    ".tiff": [(c, d) for c in (1, 2, 3, 4) for d in ("uint8", "uint16", "float32")],
    ".bmp": [(c, "uint8") for c in (1, 3, 4)],
}
KINDS = [(suffix, channels, dtype) for suffix, kinds in HOLDS.items() for channels, dtype in kinds]
PEAKS = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}


def _waves(channels: int, dtype: str = "uint8", height: int = HEIGHT, width: int = WIDTH) -> Array:
    """A smooth picture `(C, H, W)` over the whole range, different in every channel."""
    y, x = np.mgrid[:height, :width]
    waves = np.stack([0.5 + 0.5 * np.sin((x + (k + 1) * y) / 7 + k) for k in range(channels)])
    peak = PEAKS[dtype]
    return (waves * peak if dtype == "float32" else np.rint(waves * peak)).astype(dtype)


def _info(path: Path, array: Array, **fields: Any) -> ImageInfo:
    dtype = str(array.dtype)
    keep = int(array.shape[0] in (2, 4))
    return ImageInfo(path, "image", array.shape, dtype, PEAKS[dtype], passthrough_channels=keep, **fields)


def _pil(mode: str) -> Image.Image:
    return Image.fromarray(np.moveaxis(_waves(4), 0, -1)).convert("RGB").convert(mode)


def _exif() -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[MAKE] = "Kamera"
    exif.get_ifd(EXIF_TAG)[EXPOSURE] = 0.5
    return exif.tobytes()


def _again(source: Path, target: Path) -> tuple[Array, SignalInfo]:
    """Read, write unchanged, read."""
    array, info = read(source)
    write(target, array, info)
    return read(target)


@pytest.mark.parametrize(("suffix", "channels", "dtype"), KINDS)
def test_what_a_format_holds_comes_back(tmp_path: Path, suffix: str, channels: int, dtype: str) -> None:
    array = _waves(channels, dtype)
    write(tmp_path / f"a{suffix}", array, _info(tmp_path / "x", array))
    back, info = read(tmp_path / f"a{suffix}")
    assert (info.shape, info.dtype, info.peak) == (array.shape, dtype, PEAKS[dtype])
    assert info.passthrough_channels == (channels in (2, 4))
    assert back.dtype == dtype
    worst = 12 if suffix in (".jpg", ".jpeg") else 0
    assert np.abs(back.astype(np.float64) - array).max() <= worst
    again, again_info = _again(tmp_path / f"a{suffix}", tmp_path / f"b{suffix}")
    assert again_info.notes == ()
    assert np.abs(again.astype(np.float64) - array).max() <= worst


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (17, 16)])
@pytest.mark.parametrize("suffix", sorted(HOLDS))
def test_small_and_odd_sizes(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    array = _waves(3, "uint8", *size)
    write(tmp_path / f"a{suffix}", array, _info(tmp_path / "x", array))
    back, _ = read(tmp_path / f"a{suffix}")
    assert back.shape == array.shape
    assert np.abs(back.astype(int) - array).max() <= (40 if suffix.startswith(".jp") else 0)


@pytest.mark.parametrize("suffix", sorted(HOLDS))
def test_other_readers_see_the_same_pixels(tmp_path: Path, suffix: str) -> None:
    for layout in (
        np.ascontiguousarray,
        np.asfortranarray,
        lambda a: np.moveaxis(np.moveaxis(a, 0, -1).copy(), -1, 0),
    ):
        array = layout(_waves(3))
        write(tmp_path / f"a{suffix}", array, _info(tmp_path / "x", array))
        with Image.open(tmp_path / f"a{suffix}") as image:
            seen = np.moveaxis(np.asarray(image), -1, 0)
        np.testing.assert_array_equal(seen, read(tmp_path / f"a{suffix}")[0])


# --- Conversions on reading -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "suffix", "shown_as", "word"),
    [
        ("P", ".png", "RGB", "palette"),
        ("1", ".png", "L", "1-bit"),
        ("CMYK", ".jpg", "RGB", "CMYK"),
        ("CMYK", ".tif", "RGB", "CMYK"),
        ("P", ".tif", "RGB", "palette"),
        ("1", ".tif", "L", "1-bit"),
        ("P", ".bmp", "RGB", "palette"),
        ("1", ".bmp", "L", "1-bit"),
    ],
)
def test_what_cannot_stay_is_converted_and_said_so(
    tmp_path: Path, mode: str, suffix: str, shown_as: str, word: str
) -> None:
    path = tmp_path / f"a{suffix}"
    options: dict[str, Any] = {"quality": 95} if suffix == ".jpg" else {}
    _pil(mode).save(path, **options)
    array, info = read(path)
    assert any(word in note for note in info.notes)
    with Image.open(path) as image:
        shown = np.asarray(image.convert(shown_as)).reshape(HEIGHT, WIDTH, -1)
    assert np.abs(np.moveaxis(array, 0, -1).astype(int) - shown).max() <= (3 if suffix == ".jpg" else 1)
    back, back_info = _again(path, tmp_path / f"b{suffix}")
    assert back_info.notes == ()
    assert np.abs(back.astype(int) - array).max() <= (12 if suffix == ".jpg" else 0)


def test_palette_and_key_colours_with_transparency_give_alpha(tmp_path: Path) -> None:
    palette = _pil("RGB").quantize(20)
    palette.save(tmp_path / "p.png", transparency=3)
    array, info = read(tmp_path / "p.png")
    assert (array.shape[0], info.passthrough_channels) == (4, 1)
    np.testing.assert_array_equal(array[3] == 0, np.asarray(palette) == 3)
    _pil("L").save(tmp_path / "l.png", transparency=128)
    array, info = read(tmp_path / "l.png")
    assert (array.shape[0], info.passthrough_channels) == (2, 1)
    assert "transparent colour" in info.notes[0]


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint32"])
def test_whole_numbers_with_a_sign_or_of_32_bits_become_floats(dtype: str, tmp_path: Path) -> None:
    low = -100 if dtype.startswith("i") else 0
    numbers = np.arange(low, low + 200).reshape(10, 20).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", numbers)
    array, info = read(tmp_path / "a.tif")
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array[0], numbers)
    assert info.notes[0].startswith(f"{dtype} turned into float32")
    write(tmp_path / "b.tif", array, info)
    np.testing.assert_array_equal(read(tmp_path / "b.tif")[0], array)


def test_white_is_zero_and_twelve_bits_in_tiff(tmp_path: Path) -> None:
    gray = _waves(1)[0]
    tifffile.imwrite(tmp_path / "w.tif", 255 - gray, photometric="miniswhite")
    array, info = read(tmp_path / "w.tif")
    np.testing.assert_array_equal(array[0], gray)
    assert "white-is-zero" in info.notes[0]
    deep = (_waves(1, "uint16")[0] >> 4).astype(np.uint16)
    content = imagecodecs.packints_encode(deep[:, :66], 12)
    tifffile.imwrite(
        tmp_path / "d.tif",
        iter([content]),
        shape=(HEIGHT, 66),
        dtype="uint16",
        bitspersample=12,
        rowsperstrip=HEIGHT,
    )
    array, info = read(tmp_path / "d.tif")
    assert (info.dtype, info.peak) == ("uint16", 65535.0)
    np.testing.assert_array_equal(array[0] >> 4, deep[:, :66])


def _cmyk_profile() -> bytes:
    """A printer profile with gray inks: lightness is 100 minus the heaviest ink (ICC.1:2001, lut8Type)."""
    lightest = [(*(min(i >> k & 1, 1) for k in (3, 2, 1, 0)),) for i in range(16)]
    grid = b"".join(bytes([255 * (1 - max(inks)), 128, 128]) for inks in lightest)
    unit = b"".join(struct.pack(">i", 65536 * (k % 4 == 0)) for k in range(9))
    table = (
        b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + unit + bytes(range(256)) * 4 + grid + bytes(range(256)) * 3
    )
    body = [(b"A2B0", table), (b"wtpt", b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061))]
    tags, content, at = struct.pack(">I", len(body)), b"", 128 + 4 + 12 * len(body)
    for name, value in body:
        value += b"\0" * (-len(value) % 4)
        tags += name + struct.pack(">II", at + len(content), len(value))
        content += value
    white = struct.pack(">3i", 63190, 65536, 54061)
    head = struct.pack(">I4sI4s4s4s", at + len(content), b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head += bytes(12) + b"acsp" + bytes(28) + white + bytes(48)
    return head + tags + content


def test_cmyk_goes_through_its_own_profile(tmp_path: Path) -> None:
    inks = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    inks[:, 30:, 0] = 255  # full cyan on the right
    for name, profile in (("with", _cmyk_profile()), ("without", None), ("broken", b"no profile" * 30)):
        image = Image.frombytes("CMYK", (WIDTH, HEIGHT), inks.tobytes())
        image.save(tmp_path / f"{name}.jpg", quality=100, icc_profile=profile)
        array, _ = read(tmp_path / f"{name}.jpg")
        right = [0, 0, 0] if name == "with" else [0, 255, 255]
        np.testing.assert_allclose(array[:, 20, 5], 255, atol=3)
        np.testing.assert_allclose(array[:, 20, 60], right, atol=3)
        _again(tmp_path / f"{name}.jpg", tmp_path / "again.jpg")
        assert "icc" not in _kept(tmp_path / "again.jpg")  # a CMYK profile would be wrong for RGB


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_cmyk_in_a_tiff_goes_through_its_own_profile(tmp_path: Path, dtype: type) -> None:
    inks = np.zeros((HEIGHT, WIDTH, 4), dtype)
    inks[:, 30:, 0] = np.iinfo(dtype).max
    for profile, right in ((_cmyk_profile(), 0), (None, 1)):
        tifffile.imwrite(tmp_path / "a.tif", inks, photometric="separated", iccprofile=profile)
        shares = read(tmp_path / "a.tif")[0] / np.iinfo(dtype).max
        np.testing.assert_allclose(shares[:, 20, 5], 1, atol=0.01)
        np.testing.assert_allclose(shares[:, 20, 60], [0, right, right], atol=0.01)


# --- Metadata -------------------------------------------------------------------------------------


def _with_metadata(path: Path) -> None:
    options: dict[str, Any] = {"icc_profile": ICC, "dpi": (300, 200)}
    if path.suffix != ".tif":
        options |= {"exif": _exif(), "xmp": XMP}
    if path.suffix == ".webp":
        options |= {"lossless": True}
    if path.suffix == ".png":
        from PIL.PngImagePlugin import PngInfo

        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        text.add_text("Title", "a b c")
        text.add(b"gAMA", struct.pack(">I", 45455))
        options |= {"pnginfo": text}
        options.pop("xmp")
    if path.suffix == ".tif":
        exif = Image.Exif()
        exif.load(_exif())
        exif[700] = XMP
        options |= {"exif": exif}
    _pil("RGB").save(path, **options)


def _kept(path: Path) -> dict[str, Any]:
    """Read metadata with another library."""
    with Image.open(path) as image:
        exif = image.getexif()
        dpi = image.info.get("dpi")
        xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
        found = {
            "orientation": exif.get(ORIENTATION),
            "make": exif.get(MAKE),
            "exposure": float(exif.get_ifd(EXIF_TAG).get(EXPOSURE, 0)),
            "icc": image.info.get("icc_profile"),
            "xmp": xmp.encode() if isinstance(xmp, str) else xmp,
            "dpi": dpi and tuple(round(float(value)) for value in dpi),
        }
    return {name: value for name, value in found.items() if value}


EVERYTHING = {"orientation": 6, "make": "Kamera", "exposure": 0.5, "icc": ICC, "xmp": XMP, "dpi": (300, 200)}
HELD = {
    ".png": set(EVERYTHING),
    ".jpg": set(EVERYTHING),
    ".webp": set(EVERYTHING) - {"dpi"},
    ".tif": set(EVERYTHING),
    ".bmp": {"dpi"},
}


@pytest.mark.parametrize("target", sorted(HELD))
@pytest.mark.parametrize("source", sorted(HELD))
def test_metadata_survives_wherever_it_has_a_place(tmp_path: Path, source: str, target: str) -> None:
    _with_metadata(tmp_path / f"a{source}")
    before = _kept(tmp_path / f"a{source}")
    _again(tmp_path / f"a{source}", tmp_path / f"b{target}")
    after = _kept(tmp_path / f"b{target}")
    expected = HELD[source] & HELD[target]
    assert {name: after.get(name) for name in expected} == {name: before[name] for name in expected}
    assert {name: before[name] for name in expected} == {name: EVERYTHING[name] for name in expected}


def test_pixels_are_not_rotated(tmp_path: Path) -> None:
    _with_metadata(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png")[0], _waves(3))


def _png_chunks(path: Path) -> list[tuple[bytes, bytes]]:
    content, position, found = path.read_bytes(), 8, []
    while position < len(content):
        size, kind = struct.unpack(">I4s", content[position : position + 8])
        body = content[position + 8 : position + 8 + size]
        assert struct.unpack(">I", content[position + 8 + size : position + 12 + size])[0] == zlib.crc32(
            kind + body
        )
        found.append((kind, body))
        position += 12 + size
    return found


@pytest.mark.parametrize(("channels", "dtype"), HOLDS[".png"])
def test_png_rows_use_the_filters_of_the_standard(tmp_path: Path, channels: int, dtype: str) -> None:
    y, x = np.mgrid[:60, :50]
    steps = np.random.default_rng(0).integers(
        0, 4, (channels, 60, 50)
    )  # small steps: many ties in Paeth's choice
    array = (np.where(y < 20, 3 * x, np.where(y < 40, 3 * y, x + 2 * y)) + steps).astype(dtype)
    array[:, 20:40] = array[:, 20:21] + np.arange(20, dtype=dtype)[:, None]
    write(tmp_path / "a.png", array, _info(tmp_path / "x", array))
    rows = zlib.decompress(
        b"".join(body for kind, body in _png_chunks(tmp_path / "a.png") if kind == b"IDAT")
    )
    used = set(rows[:: 1 + 50 * channels * array.itemsize])
    assert used >= {2, 4}
    np.testing.assert_array_equal(read(tmp_path / "a.png")[0], array)


def test_png_chunks_are_copied_byte_for_byte(tmp_path: Path) -> None:
    array = _waves(3, "uint16")
    write(tmp_path / "deep.png", array, _info(tmp_path / "x", array))
    _with_metadata(tmp_path / "meta.png")
    extra = [c for c in _png_chunks(tmp_path / "meta.png") if c[0] not in (b"IHDR", b"IDAT", b"IEND")]
    assert {kind for kind, _ in extra} == {b"iCCP", b"gAMA", b"pHYs", b"iTXt", b"tEXt", b"eXIf"}
    content = (tmp_path / "deep.png").read_bytes()
    packed = [struct.pack(">I4s", len(b), k) + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in extra]
    (tmp_path / "deep.png").write_bytes(content[:33] + b"".join(packed) + content[33:])
    back, info = _again(tmp_path / "deep.png", tmp_path / "again.png")
    assert info.dtype == "uint16"
    np.testing.assert_array_equal(back, array)
    again = [c for c in _png_chunks(tmp_path / "again.png") if c[0] not in (b"IHDR", b"IDAT", b"IEND")]
    assert again == extra


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_exif_directories_survive_in_any_tiff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str, big: bool
) -> None:
    monkeypatch.setattr(tiff_module, "MAX_CLASSIC_BYTES", 0 if big else 2**32)
    make = Entry(MAKE, 2, 7, b"Kamera\0")
    exposure = Entry(EXPOSURE, 5, 1, struct.pack(order + "II", 1, 2))
    version = Entry(0x9000, 7, 4, b"0232")
    latitude = Entry(2, 5, 3, struct.pack(order + "6I", 52, 1, 30, 1, 7, 2))
    exif = packed_exif(Tags(order, (make,), {EXIF_TAG: (exposure, version), GPS_TAG: (latitude,)}))
    array = _waves(3)
    info = _info(tmp_path / "x.png", array, format="PNG", metadata=Metadata(exif=exif))
    write(tmp_path / "a.tif", array, info)
    back, _ = _again(tmp_path / "a.tif", tmp_path / "b.tif")
    np.testing.assert_array_equal(back, array)
    with tifffile.TiffFile(tmp_path / "b.tif") as tif:
        tags = tif.pages[0].tags
        assert (tif.byteorder, tif.is_bigtiff) == (order, big)
        assert tags[MAKE].value == "Kamera"
        assert tags[EXIF_TAG].value["ExposureTime"] == (1, 2)
        assert tags[GPS_TAG].value["GPSLatitude"] == (52, 1, 30, 1, 7, 2)
    _again(tmp_path / "b.tif", tmp_path / "c.jpg")
    assert _kept(tmp_path / "c.jpg")["exposure"] == 0.5


# --- JPEG -----------------------------------------------------------------------------------------


def _tables(path: Path) -> Any:
    image: Any
    with Image.open(path) as image:
        return image.quantization, [layer[1:3] for layer in image.layer], image.info.get("progressive")


@pytest.mark.parametrize("quality", [35, 75, 92, 100])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_tables_and_subsampling_stay(
    tmp_path: Path, quality: int, subsampling: str, progressive: bool
) -> None:
    _pil("RGB").save(tmp_path / "a.jpg", quality=quality, subsampling=subsampling, progressive=progressive)
    _again(tmp_path / "a.jpg", tmp_path / "b.jpg")
    assert _tables(tmp_path / "b.jpg") == _tables(tmp_path / "a.jpg")


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_in_strips_has_the_pixels_of_one_in_a_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subsampling: str, channels: int
) -> None:
    array = _waves(channels, "uint8", 333, 211)
    image = Image.fromarray(np.moveaxis(array, 0, -1).squeeze())
    image.save(tmp_path / "a.jpg", quality=88, **({"subsampling": subsampling} if channels == 3 else {}))
    whole, info = _again(tmp_path / "a.jpg", tmp_path / "whole.jpg")
    monkeypatch.setattr(jpeg_module, "MAX_WHOLE_PX", 0)
    monkeypatch.setattr(jpeg_module, "_strip_rows", lambda _: 16)  # 21 strips: the restart numbers wrap
    strips, _ = _again(tmp_path / "a.jpg", tmp_path / "strips.jpg")
    assert b"\xff\xdd" in (tmp_path / "strips.jpg").read_bytes()
    np.testing.assert_array_equal(strips, whole)
    with Image.open(tmp_path / "strips.jpg") as seen:
        np.testing.assert_array_equal(np.asarray(seen).reshape(333, 211, -1), np.moveaxis(whole, 0, -1))
    assert info.shape == (channels, 333, 211)


def test_jpeg_without_its_end_is_refused_though_libjpeg_takes_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    _pil("RGB").save(path, quality=90)
    content = path.read_bytes()
    imagecodecs.jpeg8_decode(content[:-200])  # half gray, no word
    for cut in (len(content) - 2, len(content) - 200, len(content) // 2):
        path.write_bytes(content[:cut])
        with pytest.raises(UnreadableError, match=r"a\.jpg: ends early"):
            read(path)
    path.write_bytes(content + b"trailing bytes that cameras leave")
    assert read(path)[0].shape == (3, HEIGHT, WIDTH)


# --- WebP -----------------------------------------------------------------------------------------


def test_webp_stays_lossless_or_lossy(tmp_path: Path) -> None:
    image = Image.fromarray(np.moveaxis(_waves(4), 0, -1))
    image.save(tmp_path / "exact.webp", lossless=True, exact=True)
    image.save(tmp_path / "lossy.webp", quality=80)
    back, _ = _again(tmp_path / "exact.webp", tmp_path / "a.webp")
    np.testing.assert_array_equal(back, _waves(4))  # the colours under full transparency too
    _again(tmp_path / "lossy.webp", tmp_path / "b.webp")
    assert b"VP8L" in (tmp_path / "a.webp").read_bytes()
    assert b"VP8L" not in (tmp_path / "b.webp").read_bytes().replace(b"ALPH", b"")


def test_webp_has_a_longest_side(tmp_path: Path) -> None:
    array = np.zeros((3, 1, 16384), np.uint8)
    with pytest.raises(OutputError, match=r"a\.webp: .* up to 16383 pixels a side"):
        write(tmp_path / "a.webp", array, _info(tmp_path / "x", array))
    assert list(tmp_path.iterdir()) == []


# --- TIFF -----------------------------------------------------------------------------------------


def _write_pages(path: Path, info: SignalInfo, pages: list[Array]) -> None:
    with writer(path, info) as sink:
        for page in pages:
            sink.write(page)


def test_every_page_comes_back_whatever_its_kind(tmp_path: Path) -> None:
    pages = [_waves(3), _waves(1, "uint16", 20, 30), _waves(4, "float32", 9, 7), _waves(2)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for page in pages:
            extra = [2] if page.shape[0] in (2, 4) else None
            photometric = "rgb" if page.shape[0] > 2 else "minisblack"
            planar = "contig" if page.shape[0] > 1 else None
            stored = np.moveaxis(page, 0, -1).squeeze()
            tif.write(stored, photometric=photometric, extrasamples=extra, planarconfig=planar, metadata=None)
    with reader(tmp_path / "a.tif") as source:
        first = source.info
        seen = [(page.copy(), source.info) for page in source]
    assert first.pages == 4
    for page, (array, info) in zip(pages, seen, strict=True):
        np.testing.assert_array_equal(array, page)
        assert (info.shape, info.dtype, info.peak) == (page.shape, str(page.dtype), PEAKS[str(page.dtype)])
        assert info.passthrough_channels == (page.shape[0] in (2, 4))
    _write_pages(tmp_path / "b.tif", first, [array for array, _ in seen])
    with reader(tmp_path / "b.tif") as again:
        for page, array in zip(pages, again, strict=True):
            np.testing.assert_array_equal(array, page)
    with pytest.raises(UnsupportedError, match=r"b\.png: PNG holds one image"):
        _write_pages(tmp_path / "b.png", first, [array for array, _ in seen])
    assert not (tmp_path / "b.png").exists()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", ["none", "lzw", "deflate", "zstd", "packbits"])
def test_tiff_storage(tmp_path: Path, dtype: str, order: str, compression: str) -> None:
    array = _waves(3, dtype)
    predictor = compression in ("lzw", "deflate", "zstd")
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.moveaxis(array, 0, -1),
        photometric="rgb",
        byteorder=order,
        compression=compression,
        predictor=predictor,
    )
    back, _ = _again(tmp_path / "a.tif", tmp_path / "b.tif")
    np.testing.assert_array_equal(back, array)
    with tifffile.TiffFile(tmp_path / "b.tif") as tif:
        stored = tif.pages[0].compression.name.lower()
        assert stored == {"packbits": "adobe_deflate", "deflate": "adobe_deflate"}.get(
            compression, compression
        )
        assert tif.byteorder == order


def test_tiff_planes_tiles_and_tags(tmp_path: Path) -> None:
    array = _waves(3, "uint16", 70, 90)
    tags = [(315, 2, None, "Jemand", True), (33550, 12, 3, (1.0, 2.0, 0.0), True), (65000, 3, 1, 7, True)]
    for name, data, options in (
        ("planes", array, {"planarconfig": "separate"}),
        ("tiles", np.moveaxis(array, 0, -1), {"tile": (32, 32)}),
    ):
        tifffile.imwrite(tmp_path / f"{name}.tif", data, photometric="rgb", extratags=tags, **options)
        back, _ = _again(tmp_path / f"{name}.tif", tmp_path / "b.tif")
        np.testing.assert_array_equal(back, array)
        (note,) = probe(tmp_path / f"{name}.tif").notes
        assert note.startswith(f"stored in {name}")
        assert not probe(tmp_path / "b.tif").notes
        with tifffile.TiffFile(tmp_path / f"{name}.tif") as a, tifffile.TiffFile(tmp_path / "b.tif") as b:
            for code in (270, 315, 33550, 65000):
                assert (code in b.pages[0].tags) == (code in a.pages[0].tags)
                if code in a.pages[0].tags:
                    assert b.pages[0].tags[code].value == a.pages[0].tags[code].value


def test_nan_and_infinity_are_counted_and_located(tmp_path: Path) -> None:
    array = _waves(3, "float32")
    array[1, 5, 7], array[0, 6, 3] = np.nan, np.inf
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(array, 0, -1), photometric="rgb")
    with pytest.raises(UnreadableError, match=r"a\.tif: holds 2 NaN .* row 5, column 7"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", ["int64", "uint64", "complex64"])
def test_samples_of_other_kinds_are_refused(tmp_path: Path, dtype: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((8, 8), dtype))
    with pytest.raises(UnsupportedError, match=rf"a\.tif: .*{dtype}"):
        probe(tmp_path / "a.tif")


# --- Writing to another kind ----------------------------------------------------------------------


def test_depth_and_alpha_that_do_not_fit_are_converted_and_said_so(tmp_path: Path) -> None:
    deep = _waves(4, "uint16")
    with writer(tmp_path / "a.jpg", _info(tmp_path / "x.png", deep)) as sink:
        sink.write(deep)
    notes: tuple[str, ...] = sink.notes  # type: ignore[attr-defined]
    assert [note.split(" (")[0] for note in notes] == ["uint16 turned into uint8", "alpha laid on white"]
    share = deep[3] / 65535
    expected = (deep[:3] / 65535 * share + 1 - share) * 255
    assert np.abs(read(tmp_path / "a.jpg")[0] - expected).mean() < 2
    write(tmp_path / "a.bmp", deep, _info(tmp_path / "x.png", deep))
    np.testing.assert_array_equal(read(tmp_path / "a.bmp")[0], np.rint(deep / 257))


def test_floats_become_sixteen_bits(tmp_path: Path) -> None:
    array = _waves(1, "float32")
    write(tmp_path / "a.png", array, _info(tmp_path / "x.tif", array))
    np.testing.assert_array_equal(read(tmp_path / "a.png")[0], np.rint(array.astype(np.float64) * 65535))


def test_floats_for_an_integer_file_are_rounded_clipped_and_counted(tmp_path: Path) -> None:
    array = _waves(3)
    floats = array.astype(np.float32) + 0.4
    floats[0, 0, :5], floats[2, 3, :2] = -3.0, 300.0
    before = floats.copy()
    with writer(tmp_path / "a.png", _info(tmp_path / "x", array)) as sink:
        sink.write(floats)
    np.testing.assert_array_equal(floats, before)
    expected = array.copy()
    expected[0, 0, :5], expected[2, 3, :2] = 0, 255
    np.testing.assert_array_equal(read(tmp_path / "a.png")[0], expected)
    assert sink.clipped == 7 + np.count_nonzero(np.rint(floats[array == 255]) > 255) - 2 * 0
    floats[0, 0, 0] = np.nan
    with pytest.raises(OutputError, match=r"b\.png: the result holds NaN"):
        write(tmp_path / "b.png", floats, _info(tmp_path / "x", array))


# --- Bad input ------------------------------------------------------------------------------------


def test_contents_decide(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    _pil("RGB").save(path, "JPEG")
    assert probe(path).format == "JPEG"
    path.write_text("no picture")
    with pytest.raises(UnreadableError, match=r"holds text data; expected an image$"):
        probe(path)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".gif"])
@pytest.mark.parametrize("dispose", [False, True])
def test_animations_keep_frames_times_and_plays(tmp_path: Path, suffix: str, dispose: bool) -> None:
    pixels = np.moveaxis(_waves(4), 0, -1)
    frames = []
    for number in range(4):  # a window that moves: most of each frame is transparent, or as before
        frame = pixels.copy() if dispose else pixels[..., :3].copy()
        if dispose:
            frame[..., 3] = 0
        frame[5 + number : 20 + number, 9:30, :] = 255 - 40 * number
        frames.append(Image.fromarray(frame))
    options = {
        ".png": {"disposal": 1 + dispose},
        ".webp": {"lossless": True},
        ".gif": {"disposal": 1 + dispose},
    }
    path, again = tmp_path / f"a{suffix}", tmp_path / f"b{'.webp' if suffix == '.gif' else suffix}"
    times = [40, 80, 120, 30]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=times, loop=3, **options[suffix])
    denoise.clean_file(path, again, "none")
    for target in (again, tmp_path / "c.tif"):
        with reader(path) as source, writer(target, source.info) as sink:
            for page in source:
                sink.write(page)
    assert sink.notes == ("the times of the frames: not kept (TIFF has none)",)
    with Image.open(path) as before, Image.open(again) as after:
        assert after.n_frames == probe(tmp_path / "c.tif").pages == 4
        assert after.info["loop"] == 3 + (suffix == ".gif")  # which counts the repeats
        for number, time_ms in enumerate(times):
            before.seek(number)
            after.seek(number)
            shown, expected = (np.asarray(image.convert("RGBA")) for image in (after, before))
            np.testing.assert_array_equal(shown[..., 3], expected[..., 3])
            np.testing.assert_array_equal(shown[shown[..., 3] > 0], expected[expected[..., 3] > 0])
            after.load()
            assert after.info["duration"] == time_ms


@pytest.mark.parametrize(
    ("mode", "disposal", "written", "note"),
    [
        ("RGB", 0, "RGB", ()),
        ("RGB", 1, "RGBA", ("the frames are written as RGB with alpha",)),
        ("RGBA", 0, "RGBA", ()),
        ("L", 0, "RGB", ("the frames are written as RGB",)),
    ],
)
def test_an_animated_png_keeps_its_colours_or_says_so(
    tmp_path: Path, mode: str, disposal: int, written: str, note: tuple[str, ...]
) -> None:
    pixels = np.moveaxis(_waves(3), 0, -1)
    frames = [Image.fromarray(pixels // k).convert(mode) for k in (1, 2, 3)]
    path = tmp_path / "a.png"
    frames[0].save(path, save_all=True, append_images=frames[1:], disposal=disposal)
    with reader(path) as source, writer(tmp_path / "b.png", source.info) as sink:
        assert source.info.notes == note
        for page in source:
            sink.write(page)
    with Image.open(tmp_path / "b.png") as image:
        for number, frame in enumerate(frames):
            image.seek(number)
            assert image.mode == written
            np.testing.assert_array_equal(np.asarray(image), np.asarray(frame.convert(written)))


def test_one_choice_holds_for_all_frames_of_an_animation(tmp_path: Path) -> None:
    y, x = np.mgrid[:96, :96] / 40
    scene, generator = (
        128 + 60 * np.stack([np.sin(x + k) * np.cos(y) for k in range(3)]),
        np.random.default_rng(0),
    )
    levels = (0, 6, 1.2, 12)  # left, cleaned, cleaned in part, and cleaned, each by itself
    noisy = [scene + level * generator.standard_normal(scene.shape) for level in levels]
    frames = [Image.fromarray(np.moveaxis(frame, 0, -1).clip(0, 255).astype(np.uint8)) for frame in noisy]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    report = denoise.clean_file(tmp_path / "a.webp", tmp_path / "b.webp", "auto")
    reasons = [note.partition(": ")[2] for note in report.notes if note.startswith("page")]
    assert [reason.split(":")[0] for reason in reasons] == ["none", "photo"]
    with Image.open(tmp_path / "b.webp") as image:
        assert image.n_frames == 4
    assert report.metrics["estimated_sigma"] == pytest.approx(0.75 * 6, rel=0.1)  # of the second frame


def _bombs(folder: Path) -> Iterator[Path]:
    side = 30000
    tiny = _waves(3)
    for suffix in (".png", ".jpg", ".bmp", ".tif"):
        path = folder / f"bomb{suffix}"
        write(path, tiny, _info(path, tiny))
        content = bytearray(path.read_bytes())
        if suffix == ".png":
            content[16:24] = struct.pack(">II", side, side)
            content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
        elif suffix == ".jpg":
            at = content.index(b"\xff\xc0") + 5
            content[at : at + 4] = struct.pack(">HH", side, side)
        elif suffix == ".bmp":
            content[18:26] = struct.pack("<ii", side, side)
        else:
            with tifffile.TiffFile(io.BytesIO(content)) as tif:
                places = [tif.pages[0].tags[code].valueoffset for code in (256, 257)]
            for place in places:
                content[place : place + 4] = struct.pack("<I", side)
        path.write_bytes(content)
        yield path


def test_bombs_are_refused_by_their_header(tmp_path: Path) -> None:
    for path in _bombs(tmp_path):
        tracemalloc.start()
        for attempt in (probe, reader):
            with pytest.raises(TooLargeError, match=r"30000 x 30000 = 900 megapixels.* limit of 500"):
                attempt(path)
        assert tracemalloc.get_traced_memory()[1] < 2e6
        tracemalloc.stop()
        with pytest.raises(TooLargeError, match=r"900 megapixels in \d+ bytes; refusing to decode"):
            probe(path, max_pixels=10**9)
        with pytest.raises(TooLargeError, match=r"limit of 0\.001"):
            probe(path, max_pixels=1000)


@pytest.mark.parametrize("suffix", sorted(HOLDS))
def test_every_truncation_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    array = _waves(3)
    write(path, array, _info(path, array))
    content = path.read_bytes()
    for sixteenth in range(16):
        path.write_bytes(content[: len(content) * sixteenth // 16])
        with pytest.raises(UnreadableError, match=rf"a\{suffix}: "):
            read(path)


@pytest.mark.parametrize("suffix", sorted(HOLDS))
def test_mutations_give_a_picture_or_a_clean_refusal(
    tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"a{suffix}"
    array = _waves(3)
    write(path, array, _info(path, array))
    content = path.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(30):
        mutated = bytearray(content)
        for place in rng.integers(0, min(len(content), 400), 3):
            mutated[place] = rng.integers(256)
        path.write_bytes(mutated)
        with contextlib.suppress(InputError):
            read(path, max_pixels=1_000_000)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_memory_is_the_picture_and_little_else(tmp_path: Path, suffix: str) -> None:
    array = np.zeros((3, 1000, 4000), np.uint8)  # channels apart: not the layout of any file
    path = tmp_path / f"a{suffix}"
    tracemalloc.start()
    write(path, array, _info(path, array))
    _, writing = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    with reader(path) as source:
        page = next(iter(source))
    _, reading = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert page.shape == array.shape
    assert writing < array.nbytes
    assert reading < array.nbytes + path.stat().st_size + 0.4 * array.nbytes


def test_a_heic_names_the_pictures_that_its_result_lacks(tmp_path: Path) -> None:
    picture = _pil("RGBA")
    two = pillow_heif.from_pillow(picture)
    two.add_from_pillow(picture.rotate(90))
    two.save(tmp_path / "a.heic", primary_index=0)
    alpha, depth = b"urn:mpeg:hevc:2015:auxid:1", b"urn:mpeg:hevc:2015:auxid:2"  # (ISO/IEC 23008-2, F.14.3.3)
    (tmp_path / "a.heic").write_bytes((tmp_path / "a.heic").read_bytes().replace(alpha, depth))
    report = denoise.clean_file(tmp_path / "a.heic", tmp_path / "b.heic", "gaussian")
    lost = {"1 further images of the HEIC are not kept", "the depth of the HEIC is not kept"}
    assert lost <= set(report.notes)
    left = denoise.clean_file(tmp_path / "a.heic", tmp_path / "c.heic", "none")
    assert not lost & set(left.notes)  # copied byte for byte
    assert (tmp_path / "c.heic").read_bytes() == (tmp_path / "a.heic").read_bytes()


def test_an_avif_keeps_exif_that_disagrees_with_how_it_is_shown(tmp_path: Path) -> None:
    picture, exif = np.moveaxis(_waves(3), 0, -1), Image.Exif()
    exif[ORIENTATION] = 6
    block = exif.tobytes()[6:] + b"what follows the first directory"
    coded = bytes(imagecodecs.avif_encode(picture, level=100))
    (tmp_path / "a.avif").write_bytes(avif_module._with_metadata(coded, block, 1, b"", b""))
    pixels, info = _again(tmp_path / "a.avif", tmp_path / "b.avif")
    assert pixels.shape == _waves(3).shape
    assert isinstance(info, ImageInfo)
    assert block in (tmp_path / "b.avif").read_bytes()
    assert b"irot" not in (tmp_path / "b.avif").read_bytes()
    write(tmp_path / "b.jpg", pixels, info)
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.getexif()[ORIENTATION] == 1
    assert block.partition(b"what")[2] in (tmp_path / "b.jpg").read_bytes()


def test_an_avif_that_is_turned_by_its_container_alone_is_turned_once(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[271] = "Kamera"
    block = exif.tobytes()[6:]
    coded = bytes(imagecodecs.avif_encode(np.moveaxis(_waves(3), 0, -1), level=100))
    (tmp_path / "a.avif").write_bytes(avif_module._with_metadata(coded, block, 6, b"", b""))
    pixels, info = _again(tmp_path / "a.avif", tmp_path / "b.avif")
    content = (tmp_path / "b.avif").read_bytes()
    assert b"irot" in content
    assert block in content
    write(tmp_path / "b.jpg", pixels, info)  # which has no other way to say it
    with Image.open(tmp_path / "b.jpg") as image:
        assert (image.getexif()[ORIENTATION], image.getexif()[271]) == (6, "Kamera")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_xl_is_upright_and_not_turned_twice(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    picture = Image.fromarray(np.moveaxis(_waves(3), 0, -1))
    picture.save(tmp_path / "a.png", exif=exif)
    write(tmp_path / "b.jxl", *read(tmp_path / "a.png"))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png")))
    np.testing.assert_array_equal(imagecodecs.imread(tmp_path / "b.jxl"), expected)
    write(tmp_path / "c.jxl", *read(tmp_path / "b.jxl"))
    np.testing.assert_array_equal(imagecodecs.imread(tmp_path / "c.jxl"), expected)


def test_a_jpeg_xl_stays_lossy_or_lossless_and_refuses_a_deep_profile(tmp_path: Path) -> None:
    picture = np.moveaxis(_waves(3), 0, -1)
    for lossless in (False, True):
        (tmp_path / "a.jxl").write_bytes(imagecodecs.jpegxl_encode(picture, lossless=lossless, distance=1.0))
        pixels, info = read(tmp_path / "a.jxl")
        write(tmp_path / "b.jxl", pixels, info)
        assert np.array_equal(read(tmp_path / "b.jxl")[0], pixels) == lossless
    adobe = bytes(imagecodecs.cms_profile("adobergb"))
    deep = _waves(3, "uint16")
    with pytest.raises(OutputError, match=r"c\.jxl: cannot be written: .* write to \.png or \.tif"):
        write(tmp_path / "c.jxl", deep, _info(tmp_path / "a.png", deep, metadata=Metadata(icc=adobe)))


def test_what_follows_a_jpeg_stays(tmp_path: Path) -> None:
    first, second = (_pil("RGB").rotate(180 * turn) for turn in (0, 1))
    stereo, bright, moving = (tmp_path / name for name in ("stereo.jpg", "bright.jpg", "moving.jpg"))
    first.save(stereo, format="MPO", save_all=True, append_images=[second])
    hdr = np.ones((64, 64, 4), np.float16)
    hdr[:32, :, :3] = 4
    bright.write_bytes(imagecodecs.ultrahdr_encode(hdr))
    first.save(moving)
    moving.write_bytes(moving.read_bytes() + b"\0\0\0\x18ftypmp42" + bytes(range(256)))
    cleaned = tmp_path / "cleaned.jpg"

    def note(path: Path, target: str) -> str:
        return denoise.clean_file(path, tmp_path / target, "gaussian").notes[-1]

    assert note(stereo, "cleaned.jpg") == "the further images of the file: kept, not cleaned"
    with Image.open(stereo) as before, Image.open(cleaned) as after:
        assert after.n_frames == 2
        assert np.asarray(after).tobytes() != np.asarray(before).tobytes()
        before.seek(1)
        after.seek(1)
        np.testing.assert_array_equal(np.asarray(after), np.asarray(before))
    assert note(bright, "cleaned.jpg") == "the HDR gain map: kept, not cleaned"
    as_before = imagecodecs.ultrahdr_decode(bright.read_bytes()).astype(float)
    np.testing.assert_allclose(imagecodecs.ultrahdr_decode(cleaned.read_bytes())[8], as_before[8], rtol=0.02)
    assert note(moving, "cleaned.jpg") == "the video of a motion photo: kept, not cleaned"
    assert cleaned.read_bytes().endswith(moving.read_bytes()[-268:])
    assert note(moving, "cleaned.png") == "the video of a motion photo: not kept"


def test_raw_files_that_are_no_tiff_keep_their_tags() -> None:
    block, inside = _exif(), Image.Exif()
    inside[EXPOSURE] = 0.5  # in a CR3, the directory of EXIF is a block of its own
    parts = {b"CMT1": block, b"CMT2": inside.tobytes().removeprefix(b"Exif\0\0"), b"CMT4": b""}
    fuji = b"FUJIFILMCCD-RAW \0Exif\0\0" + block.removeprefix(b"Exif\0\0")
    canon = b"\0\0\0\x18ftypcrx " + b"".join(
        kind + content.removeprefix(b"Exif\0\0") + bytes(8) for kind, content in parts.items()
    )
    for data in (fuji, canon):
        metadata = raw_module._metadata(FileBytes(io.BytesIO(data)))
        found = Image.Exif()
        found.load(metadata.exif or b"")
        assert (found[MAKE], found[ORIENTATION]) == ("Kamera", 1)
        assert float(found.get_ifd(EXIF_TAG)[EXPOSURE]) == 0.5


def test_a_linear_dng_is_developed_as_its_mosaic(tmp_path: Path) -> None:
    y, x = np.mgrid[:64, :96] / 30
    scene = 0.3 + 0.2 * np.stack([np.sin(x + k) * np.cos(y - k) for k in range(3)])
    matrix = np.array([[0.68, -0.2, -0.07], [-0.44, 1.22, 0.24], [-0.06, 0.14, 0.62]])  # of a usual camera
    from_srgb = matrix @ raw_module.XYZ_FROM_SRGB
    neutral = from_srgb.sum(axis=1) / from_srgb.sum(axis=1).max()
    colours = np.einsum("kc,cyx->kyx", from_srgb / from_srgb.sum(axis=1).max(), scene)
    mosaic = colours[1]
    mosaic[::2, ::2], mosaic[1::2, 1::2] = colours[0, ::2, ::2], colours[2, 1::2, 1::2]
    tags = [
        *((50706, 1, 4, (1, 4, 0, 0), True), (50707, 1, 4, (1, 1, 0, 0), True)),
        *((50708, 2, None, "Kamera 1", True), (271, 2, None, "Kamera", True), (272, 2, None, "1", True)),
        *((33421, 3, 2, (2, 2), True), (33422, 1, 4, (0, 1, 1, 2), True), (50717, 4, 1, 16000, True)),
        (50721, 10, 9, tuple(n for m in matrix.flat for n in (round(m * 1000), 1000)), True),
        (50728, 5, 3, tuple(n for m in neutral for n in (round(m * 1000), 1000)), True),
        (50778, 3, 1, 21, True),
    ]
    path, again = tmp_path / "a.dng", tmp_path / "b.dng"
    pixels = np.rint(mosaic * 16000).astype(np.uint16)
    tifffile_module.imwrite(path, pixels, photometric="cfa", extratags=tags, metadata=None, software=False)
    with reader(path, camera_space=True) as source, writer(again, source.info) as sink:
        for page in source:
            sink.write(page)
    developed = [
        rawpy.imread(str(file)).postprocess(use_camera_wb=True, no_auto_bright=True, output_bps=16)
        for file in (path, again)
    ]
    assert np.abs(developed[0].astype(float) - developed[1]).max() < 0.002 * 65535
    with tifffile_module.TiffFile(again) as tif:
        found = tif.pages[0].tags
        assert (found[262].value, found[50708].value) == (34892, "Kamera 1")
        for code, expected in ((50721, matrix), (50728, neutral)):
            parts = np.reshape(found[code].value, (-1, 2))
            np.testing.assert_allclose(parts[:, 0] / parts[:, 1], expected.ravel(), atol=2e-3)
    with pytest.raises(UnsupportedError, match="only read"):
        write(tmp_path / "c.dng", *read(path))
    with pytest.raises(UnsupportedError, match="only read"):
        write(tmp_path / "c.dng", _waves(3), _info(tmp_path / "c.png", _waves(3)))
    report = denoise.clean_file(path, again, "gaussian")
    assert (
        report.notes[-1]
        == "the mosaic was developed: the result is a linear DNG in the colours of the camera"
    )


@pytest.mark.parametrize("order", "<>")
def test_rational_tags_of_a_tiff_keep_their_count(tmp_path: Path, order: Literal["<", ">"]) -> None:
    tags = [(51044, 10, 2, (-30000, 1001, 25, 1), True), (51050, 5, 1, (7, 3), True)]
    pixels = np.moveaxis(_waves(3), 0, -1)
    tifffile_module.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", byteorder=order, extratags=tags)
    write(tmp_path / "b.tif", *read(tmp_path / "a.tif"))
    with tifffile_module.TiffFile(tmp_path / "b.tif") as tif:
        assert tif.pages[0].tags[51044].value == (-30000, 1001, 25, 1)
        assert tif.pages[0].tags[51050].value == (7, 3)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_deep_avif_keeps_colours_and_metadata_in_every_orientation(tmp_path: Path, channels: int) -> None:
    picture = np.repeat(np.linspace(0, 1023, 48).astype(np.uint16)[None, :, None], 32, 0).repeat(channels, 2)
    coded = imagecodecs.avif_encode(
        picture[..., 0] if channels == 1 else picture,
        level=100,
        bitspersample=10,
        primaries=9,
        transfer=16,
        matrix=9,
    )
    (tmp_path / "a.avif").write_bytes(coded)
    pixels, info = read(tmp_path / "a.avif")
    assert isinstance(info, ImageInfo)
    assert (info.dtype, info.shape, info.passthrough_channels) == (
        "uint16",
        (channels, 32, 48),
        channels % 2 ^ 1,
    )
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[274], exif[271] = orientation, "Kamera"
        metadata = Metadata(exif=exif.tobytes()[6:], xmp=b"<x/>")
        write(tmp_path / "b.avif", pixels, replace(info, metadata=metadata))
        with Image.open(tmp_path / "b.avif") as image:
            assert (image.getexif()[274], image.getexif()[271]) == (orientation, "Kamera")
            assert image.info["xmp"] == b"<x/>"
        assert probe(tmp_path / "b.avif").metadata == metadata
        turned = pillow_heif.open_heif(tmp_path / "b.avif", convert_hdr_to_8bit=False)
        assert turned.size == ((48, 32) if orientation < 5 else (32, 48))
        nclx = turned.info["nclx_profile"]
        assert (nclx["color_primaries"], nclx["transfer_characteristics"], nclx["matrix_coefficients"]) == (
            9,
            16,
            9,
        )
        found = imagecodecs.avif_decode((tmp_path / "b.avif").read_bytes()).reshape(picture.shape)
        assert np.abs(found.astype(int) - picture).max() < 12


def coded(**options: Any) -> bytes:
    """A JPEG file of noise, so that each row of it takes many bytes."""
    pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def scans_cut(data: bytes, keep: int) -> bytes:
    """The file with its first scans alone."""
    position = 0
    for _ in range(keep + 1):
        position = data.index(b"\xff\xda", position + 1)
    return data[:position] + b"\xff\xd9"


INCOMPLETE = {
    "last rows": coded()[:-900] + b"\xff\xd9",
    "last few units": coded()[:-90] + b"\xff\xd9",
    "bytes amid": coded()[:6000] + coded()[8000:],
    "zeros amid": coded()[:6000] + bytes(2000) + coded()[8000:],
    "flipped bits": coded()[:6000] + bytes(b ^ 85 for b in coded()[6000:6040]) + coded()[6040:],
    "an interval": coded(restart_marker_blocks=8)[:6000] + coded(restart_marker_blocks=8)[8000:],
    "the last scan": scans_cut(coded(progressive=True), 9),
    "all but one scan": scans_cut(coded(progressive=True), 1),
}


@pytest.mark.parametrize("name", INCOMPLETE)
def test_a_jpeg_with_an_end_marker_but_not_all_of_its_picture_is_damaged(name: str, tmp_path: Path) -> None:
    """libjpeg fills the rest with gray, and reports success."""
    path = tmp_path / "cut.jpg"
    path.write_bytes(INCOMPLETE[name])
    with pytest.raises(UnreadableError, match=r"is damaged: JPEG data in which .* (missing|left over)"):
        read(path)


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"restart_marker_blocks": 8}, {"restart_marker_rows": 1}, {"subsampling": 0}],
)
def test_a_whole_jpeg_is_read(options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "whole.jpg"
    for data in (coded(**options), coded(**options)[:-2] + bytes(300) + b"\xff\xd9"):  # with padding
        path.write_bytes(data)
        assert read(path)[0].shape == (3, 96, 128)


def test_jpeg_ls_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scan.jpg"
    path.write_bytes(imagecodecs.jpegls_encode(np.zeros((16, 16), np.uint8)))
    with pytest.raises(UnsupportedError, match="is JPEG-LS"):
        read(path)
