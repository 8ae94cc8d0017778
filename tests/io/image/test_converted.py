"""Contents of a picture's file, written in another format: kept, or named in a note."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile as tifffile_module
from PIL import Image, ImageCms, ImageOps

from denoise import io
from denoise.io.image.iptc import APP13, packed_record

tifffile: Any = tifffile_module
PHOTO = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RECORD = b"\x1c\x02\x05\0\x04test"


def converted(path: Path, target: Path) -> str:
    """Write a file with unchanged pixels; return the notes of writing."""
    with io.reader(path) as pages, io.writer(target, pages.info) as sink:
        for page in pages:
            sink.write(page)
    return "; ".join(getattr(sink, "notes", ()))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize(
    ("scale", "dtype", "black", "white"),
    [((0, 255), "f4", 0, 255), ((-500, -250), "f4", -500, -250), ((-900, 2000), "i2", -900, 2000)],
)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_floats_of_any_scale_keep_their_picture(
    tmp_path: Path, scale: tuple[float, float], dtype: str, black: int, white: int, suffix: str
) -> None:
    ramp = np.linspace(*scale, 64 * 48).reshape(48, 64).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", ramp)
    note = converted(tmp_path / "a.tif", tmp_path / f"b{suffix}")
    assert f"{black} into 0 and {white} into " in note
    pixels, info = io.read(tmp_path / f"b{suffix}")
    shares = pixels[0] / (info.peak or 1)
    assert np.abs(shares - (ramp - black) / (white - black)).max() < 0.03


def test_iptc_goes_along_or_is_named(tmp_path: Path) -> None:
    Image.fromarray(PHOTO).save(tmp_path / "plain.jpg")
    data, content = (tmp_path / "plain.jpg").read_bytes(), APP13 + packed_record(RECORD)
    segment = b"\xff\xed" + struct.pack(">H", len(content) + 2) + content
    (tmp_path / "a.jpg").write_bytes(data[:2] + segment + data[2:])
    assert "IPTC" not in converted(tmp_path / "a.jpg", tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.pages[0].tags[33723].value == RECORD
    assert "IPTC" not in converted(tmp_path / "b.tif", tmp_path / "c.jpg")
    assert content in (tmp_path / "c.jpg").read_bytes()
    for suffix in (".png", ".webp"):
        assert "IPTC: not kept" in converted(tmp_path / "a.jpg", tmp_path / f"d{suffix}")


def test_colours_by_chunks_are_named(tmp_path: Path) -> None:
    Image.fromarray(PHOTO).save(tmp_path / "plain.png")
    data = (tmp_path / "plain.png").read_bytes()
    for kind, content, note in (
        (b"gAMA", struct.pack(">I", 100000), "gAMA: not kept"),
        (b"cICP", b"\x09\x10\0\1", "cICP: not kept"),
        (b"gAMA", struct.pack(">I", 45455), ""),  # as a picture without it
    ):
        (tmp_path / "a.png").write_bytes(data[:33] + _chunk(kind, content) + data[33:])
        for suffix in (".jpg", ".webp", ".tif"):
            found = converted(tmp_path / "a.png", tmp_path / f"b{suffix}")
            assert found.startswith(note) if note else not found


def test_exif_with_the_prefix_of_a_jpeg_goes_along(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "maker"
    Image.fromarray(PHOTO).save(tmp_path / "plain.png")
    data = (tmp_path / "plain.png").read_bytes()
    (tmp_path / "a.png").write_bytes(
        data[:33] + _chunk(b"eXIf", b"Exif\0\0" + exif.tobytes()[6:]) + data[33:]
    )
    for suffix in (".jpg", ".tif", ".webp", ".avif"):
        converted(tmp_path / "a.png", tmp_path / f"b{suffix}")
        with Image.open(tmp_path / f"b{suffix}") as image:
            assert image.getexif()[0x010F] == "maker"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_format_without_orientation_gets_the_picture_upright(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PHOTO).save(tmp_path / "a.png", exif=exif)
    converted(tmp_path / "a.png", tmp_path / "b.bmp")
    with Image.open(tmp_path / "a.png") as before, Image.open(tmp_path / "b.bmp") as after:
        np.testing.assert_array_equal(ImageOps.exif_transpose(before), after)


@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:0"])
def test_colours_of_a_jpeg_that_is_both_of_jfif_and_of_adobe(tmp_path: Path, sampling: str) -> None:
    """Decoders heed JFIF: Adobe's transform 0 does not make it RGB."""
    smooth = np.dstack(np.mgrid[0:64, 0:48]).astype(np.uint8) * 2
    Image.fromarray(np.dstack([smooth, 200 - smooth[..., 0]])).save(tmp_path / "a.jpg", subsampling=sampling)
    data = (tmp_path / "a.jpg").read_bytes()
    adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0"
    (tmp_path / "a.jpg").write_bytes(data[:20] + adobe + data[20:])
    converted(tmp_path / "a.jpg", tmp_path / "b.jpg")
    with Image.open(tmp_path / "a.jpg") as before, Image.open(tmp_path / "b.jpg") as after:
        assert np.abs(np.subtract(before, after, dtype=float)).max() < 12


def test_the_index_of_further_images_is_not_sought_in_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "MPF\0 is the name of an index"
    pictures = [Image.fromarray(PHOTO), Image.fromarray(255 - PHOTO)]
    pictures[0].save(tmp_path / "a.mpo", save_all=True, append_images=pictures[1:], exif=exif)
    (tmp_path / "a.mpo").rename(tmp_path / "a.jpg")
    converted(tmp_path / "a.jpg", tmp_path / "b.jpg")
    with Image.open(tmp_path / "a.jpg") as before, Image.open(tmp_path / "b.jpg") as after:
        assert after.getexif() == before.getexif()
        before.seek(1)
        after.seek(1)
        np.testing.assert_array_equal(before, after)


def test_the_profile_of_a_gif_goes_along(tmp_path: Path) -> None:
    Image.fromarray(PHOTO).quantize(8).save(tmp_path / "a.gif")
    data = (tmp_path / "a.gif").read_bytes()
    at = 13 + (3 << (data[10] & 7) + 1)
    parts = [SRGB[start : start + 255] for start in range(0, len(SRGB), 255)]
    blocks = b"".join(bytes([len(part)]) + part for part in parts)
    (tmp_path / "a.gif").write_bytes(data[:at] + b"!\xff\x0bICCRGBG1012" + blocks + b"\0" + data[at:])
    converted(tmp_path / "a.gif", tmp_path / "b.webp")
    with Image.open(tmp_path / "b.webp") as image:
        assert image.info["icc_profile"] == SRGB


def test_the_interoperability_directory_goes_along(tmp_path: Path) -> None:
    """Its R03 is all that says Adobe RGB in many a camera's JPEG (DCF 2.0)."""
    exif = Image.Exif()
    exif[0x010F] = "maker"
    exif.get_ifd(0x8769)[0xA001] = 65535
    exif.get_ifd(0x8769)[0xA005] = {1: "R03", 2: b"0100"}
    exif.get_ifd(0x8825)[1] = "N"
    Image.fromarray(PHOTO).save(tmp_path / "a.jpg", exif=exif)
    for first, then in (("a.jpg", "b.tif"), ("b.tif", "c.tif"), ("c.tif", "d.webp"), ("c.tif", "e.jpg")):
        converted(tmp_path / first, tmp_path / then)
        with Image.open(tmp_path / then) as image:
            found = image.getexif()
            assert found.get_ifd(0xA005) == {1: "R03", 2: b"0100"}, then
            assert found.get_ifd(0x8825) == {1: "N"}
            assert found.get_ifd(0x8769)[0xA001] == 65535


def test_times_of_a_gif_that_no_browser_takes_are_named(tmp_path: Path) -> None:
    frames = [Image.fromarray(PHOTO + np.uint8(step)).quantize(8) for step in range(3)]
    for times, noted in (([10, 20, 300], True), ([20, 20, 300], False)):
        frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=times)
        _, info = io.read(tmp_path / "a.gif")
        assert [page.duration_ms for page in info.layouts] == [100 if noted else 20, 20, 300]
        assert ("below 20 ms turned into 100" in "; ".join(info.notes)) == noted


def test_bits_that_a_format_lacks_are_named(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PHOTO.astype(np.uint16) * 257, photometric="rgb")
    named = {suffix: "bits of each sample" in converted(tmp_path / "a.tif", tmp_path / f"b{suffix}")
             for suffix in (".avif", ".heic", ".jxl", ".png", ".tif")}  # fmt: skip
    assert named == {".avif": True, ".heic": True, ".jxl": False, ".png": False, ".tif": False}
    for first, then in (
        ("b.avif", "c.heic"),
        ("b.heic", "c.avif"),
        ("b.heic", "d.heic"),
        ("b.avif", "d.avif"),
    ):
        assert "bits of each sample" not in converted(tmp_path / first, tmp_path / then)


def test_extra_samples_are_no_alpha_and_are_named(tmp_path: Path) -> None:
    five = np.dstack([PHOTO, PHOTO[..., :2]])
    tifffile.imwrite(tmp_path / "a.tif", five, photometric="rgb", extrasamples=[0, 2])
    for suffix in (".png", ".jpg"):
        note = converted(tmp_path / "a.tif", tmp_path / f"b{suffix}")
        assert "2 extra samples of each pixel: not kept" in note
        assert io.probe(tmp_path / f"b{suffix}").shape == (3, 24, 32)


def test_profiles_stay_or_are_named(tmp_path: Path) -> None:
    gray = Image.fromarray(PHOTO[..., 0])
    for suffix in (".jpg", ".tif"):
        gray.save(tmp_path / f"a{suffix}", icc_profile=SRGB)
        assert converted(tmp_path / f"a{suffix}", tmp_path / f"b{suffix}") == ""
        with Image.open(tmp_path / f"b{suffix}") as image:
            assert image.info["icc_profile"] == SRGB
        note = "an ICC profile for RGB: not kept (the result is gray)"
        assert note in converted(tmp_path / f"a{suffix}", tmp_path / "c.png")
    inks = SRGB[:16] + b"CMYK" + SRGB[20:]
    for suffix in (".jpg", ".tif"):
        Image.fromarray(PHOTO).convert("CMYK").save(tmp_path / f"d{suffix}", icc_profile=inks)
        note = converted(tmp_path / f"d{suffix}", tmp_path / f"e{suffix}")
        assert "an ICC profile for CMYK: not kept" in note
