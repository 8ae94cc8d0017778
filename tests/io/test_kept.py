"""Kept data: one test for each cell of the tables in docs/formats.md, by independent readers."""

import io as bytes_io
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import mutagen
import mutagen.id3
import numpy as np
import pillow_heif
import pyarrow
import pyarrow.parquet
import pylibjxl
import pytest
import soundfile
import tifffile as tifffile_module
from numpy.typing import NDArray
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

import denoise
from denoise import io
from denoise.errors import InputError
from denoise.signal import SignalInfo

Array = NDArray[Any]
Check = Callable[[Path, str], None]  # a folder, and the column of the table
tifffile: Any = tifffile_module  # its unions of page classes are of no use here

DOCUMENT = Path(__file__).parents[2] / "docs" / "formats.md"
SUFFIX = {
    **{"PNG": ".png", "JPEG": ".jpg", "WebP": ".webp", "TIFF": ".tif", "BMP": ".bmp", "HEIC": ".heic"},
    **{"AVIF": ".avif", "JPEG XL": ".jxl"},
    **{"RAW": ".dng", "WAV": ".wav", "RF64": ".rf64", "AIFF": ".aiff", "FLAC": ".flac", "Vorbis": ".ogg"},
    **{"Opus": ".opus", "MP3": ".mp3", "CSV": ".csv", "NPY": ".npy", "NPZ": ".npz", "Parquet": ".parquet"},
}
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a>Gr\xc3\xbc\xc3\x9fe</a></x:xmpmeta>'
ORIENTATION, MAKE, EXIF_TAG, EXPOSURE, MAKER_NOTE = 0x0112, 0x010F, 0x8769, 0x829A, 0x927C
GPS_TAG, LATITUDE = 0x8825, 2
NEAR = {"JPEG": 12, "HEIC": 12, "AVIF": 24}  # largest error of formats that lose something

pillow_heif.register_heif_opener(thumbnails=False)
pylibjxl.register_pillow()


def again(path: Path) -> Path:
    """Write a file again with unchanged samples."""
    info = io.probe(path)
    copy = path.with_name("copy") / io.written_name(path)
    copy.parent.mkdir(exist_ok=True)
    with io.reader(path) as blocks, io.writer(copy, info) as sink:
        for block in blocks:
            sink.write(block)
    return copy


def refused(path: Path) -> None:
    with pytest.raises(InputError) as caught:
        io.probe(path)
    assert path.name in str(caught.value)


# ---- images


def waves(channels: int = 3, dtype: str = "uint8", height: int = 32, width: int = 48) -> Array:
    """A picture `(H, W, C)` with different sides."""
    y, x = np.mgrid[:height, :width]
    picture = np.stack([0.5 + 0.45 * np.sin((x + (k + 1) * y) / 9 + k) for k in range(channels)], axis=-1)
    return (picture * {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]).astype(dtype)


def stored(path: Path, picture: Array) -> Path:
    """Write a picture, lossless where the format can be."""
    kind = path.suffix
    if kind == ".png":
        path.write_bytes(imagecodecs.png_encode(picture))
    elif kind == ".tif":
        extra = {"extrasamples": [2]} if picture.shape[-1] == 4 else {}
        tifffile.imwrite(path, picture, photometric="rgb", metadata=None, **extra)
    elif kind == ".webp":
        Image.fromarray(picture).save(path, lossless=True, exact=True)
    elif kind == ".jxl":
        path.write_bytes(imagecodecs.jpegxl_encode(picture, lossless=True))
    elif kind in (".heic", ".avif"):
        Image.fromarray(picture).save(path, quality=100, subsampling="4:4:4")
    elif kind == ".bmp":  # Pillow writes no alpha there
        keep = picture.shape[-1] - 3
        shape = (3 + keep, *picture.shape[:2])
        info = SignalInfo(path, "image", shape, "uint8", 255.0, passthrough_channels=keep)
        io.write(path, np.moveaxis(picture, -1, 0), info)
    else:
        Image.fromarray(picture).save(path, **({"quality": 98, "subsampling": 0} if kind == ".jpg" else {}))
    return path


def seen(path: Path) -> Array:
    """Pixels by an independent reader, `(H, W, C)`."""
    if path.suffix in (".png", ".tif", ".jxl"):
        pixels: Array = imagecodecs.imread(path)  # Pillow has no 16-bit RGB
    else:
        pixels = np.asarray(Image.open(path))
    return pixels


def exif_block() -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION], exif[MAKE] = 6, "Kamera"
    exif.get_ifd(EXIF_TAG).update({EXPOSURE: 0.5, MAKER_NOTE: b"Kamera\0\1\2\3"})
    exif.get_ifd(GPS_TAG).update({1: "N", LATITUDE: (48.0, 7.0, 30.0)})
    return exif.tobytes()


def described(folder: Path, column: str) -> Path:
    """A picture with all metadata that its format can hold."""
    path = folder / f"described{SUFFIX[column]}"
    options: dict[str, Any] = {"icc_profile": ICC, "dpi": (300, 200), "exif": exif_block(), "xmp": XMP}
    if column == "RAW":
        return raw(folder)
    if column == "PNG":
        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        text.add_text("Title", "a b c")
        options |= {"pnginfo": text}
    elif column == "TIFF":
        exif = Image.Exif()
        exif.load(exif_block())
        exif[700], exif[315], exif[65000] = XMP, "Jemand", 7
        options["exif"] = exif
    elif column == "JPEG":
        options["comment"] = "a b c"
    Image.fromarray(waves()).save(path, **options)
    return path


def raw(folder: Path) -> Path:
    """A DNG: a ramp through a mosaic, from a camera held on its side."""
    ramp = (1000 + 200 * np.mgrid[:64, :96][1]).astype(np.uint16)
    matrix = (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1)
    tags = [
        *((50706, 1, 4, (1, 4, 0, 0), True), (50707, 1, 4, (1, 1, 0, 0), True)),
        *((50708, 2, None, "Kamera 1", True), (271, 2, None, "Kamera", True), (274, 3, 1, 6, True)),
        *((33421, 3, 2, (2, 2), True), (33422, 1, 4, (0, 1, 1, 2), True)),
        *((50721, 10, 9, matrix, True), (50728, 5, 3, (1, 1) * 3, True)),
        *((50778, 3, 1, 21, True), (50717, 4, 1, 20000, True), (700, 1, len(XMP), XMP, True)),
    ]
    path = folder / "camera.dng"
    tifffile.imwrite(path, ramp, photometric="cfa", extratags=tags, metadata=None, software=False)
    return path


def written_as(folder: Path, column: str) -> None:
    path = raw(folder) if column == "RAW" else stored(folder / f"a{SUFFIX[column]}", waves())
    with Image.open(again(path)) as image:
        assert image.format == {"RAW": "TIFF", "HEIC": "HEIF", "JPEG XL": "JXL"}.get(column, column.upper())
    if column == "RAW":
        assert "developed" in io.probe(path).notes[0]
        with pytest.raises(InputError, match="only read"):
            io.write(folder / f"b{SUFFIX[column]}", *io.read(path))


def same_pixels(folder: Path, column: str, picture: Array) -> None:
    path = stored(folder / f"a{SUFFIX[column]}", picture)
    pixels = seen(again(path))
    assert pixels.dtype == picture.dtype
    assert np.abs(pixels.astype(float) - picture).max() <= NEAR.get(column, 0)


def eight_bits(folder: Path, column: str) -> None:
    same_pixels(folder, column, waves())


def sixteen_bits(folder: Path, column: str) -> None:
    if column == "RAW":
        pixels = seen(again(raw(folder)))
        assert (pixels.shape, pixels.dtype) == ((96, 64, 3), "uint16")
        assert (pixels % 257 != 0).any()  # no 8 bits in disguise
    else:
        same_pixels(folder, column, waves(3, "uint16"))


def odd_bits(folder: Path, column: str) -> None:
    deep = waves(1, "uint16")[..., 0] >> 4
    path = folder / f"deep{SUFFIX[column]}"
    if column == "TIFF":
        packed = imagecodecs.packints_encode(deep, 12)
        options = {"shape": deep.shape, "dtype": "uint16", "bitspersample": 12, "rowsperstrip": len(deep)}
        tifffile.imwrite(path, iter([packed]), **options)
        np.testing.assert_array_equal(seen(again(path)) >> 4, deep)
    elif column == "JPEG XL":
        path.write_bytes(imagecodecs.jpegxl_encode(waves(3, "uint16") >> 6, bitspersample=10, lossless=True))
        np.testing.assert_array_equal(
            imagecodecs.jpegxl_decode(again(path).read_bytes()), waves(3, "uint16") >> 6
        )
    elif column == "AVIF":
        for bits in (10, 12):
            picture = waves(3, "uint16") >> (16 - bits)
            path.write_bytes(
                imagecodecs.avif_encode(picture, level=100, bitspersample=bits, pixelformat="444")
            )
            found = pillow_heif.open_heif(again(path), convert_hdr_to_8bit=False)
            assert (found.info["bit_depth"], found.info["chroma"]) == (bits, 444)
            pixels = imagecodecs.avif_decode(again(path).read_bytes())
            assert np.abs(pixels.astype(float) - picture).max() < NEAR[column] << (bits - 8)
    else:
        for bits in (10, 12):
            picture = waves(3, "uint16")
            heif = pillow_heif.from_bytes(mode="RGB;16", size=(48, 32), data=picture.tobytes())
            heif.info["bit_depth"] = bits
            heif.save(path, quality=100, chroma=444)
            found = pillow_heif.open_heif(again(path), convert_hdr_to_8bit=False)
            assert found.info["bit_depth"] == bits
            assert np.abs(np.asarray(found).astype(float) - picture).max() < 257 * NEAR[column]


def floating(folder: Path, column: str) -> None:
    same_pixels(folder, column, waves(3, "float32") * 1.5)


def one_bit(folder: Path, column: str) -> None:
    path = folder / f"a{SUFFIX[column]}"
    picture = Image.fromarray(waves()).convert("1")
    picture.save(path)
    np.testing.assert_array_equal(seen(again(path)).squeeze(), np.asarray(picture.convert("L")))
    assert "1-bit" in io.probe(path).notes[0]


def palette(folder: Path, column: str) -> None:
    path = folder / f"a{SUFFIX[column]}"
    picture = Image.fromarray(waves()).quantize(20)
    picture.save(path)
    np.testing.assert_array_equal(seen(again(path)), np.asarray(picture.convert("RGB")))
    assert "palette" in io.probe(path).notes[0]


def inks(folder: Path, column: str) -> None:
    path = folder / f"a{SUFFIX[column]}"
    picture = Image.fromarray(waves()).convert("CMYK")
    picture.save(path, **({"quality": 95} if column == "JPEG" else {}))
    assert np.abs(seen(again(path)).astype(int) - waves()).mean() < 3
    assert "CMYK" in io.probe(path).notes[0]


def white_is_zero(folder: Path, column: str) -> None:
    path = folder / f"a{SUFFIX[column]}"
    tifffile.imwrite(path, 255 - waves(1)[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(seen(again(path)), waves(1)[..., 0])


def alpha(folder: Path, column: str) -> None:
    path = stored(folder / f"a{SUFFIX[column]}", waves(4))
    pixels = seen(again(path))
    assert pixels.shape[-1] == 4
    assert np.abs(pixels[..., 3].astype(int) - waves(4)[..., 3]).max() <= NEAR.get(column, 0)


def unseen(folder: Path, column: str) -> None:
    picture = waves(4)
    picture[..., :3] += np.random.default_rng(0).integers(0, 9, (32, 48, 3), dtype=np.uint8)
    picture[8:20, :, 3] = 0
    path, cleaned = stored(folder / f"a{SUFFIX[column]}", picture), folder / f"b{SUFFIX[column]}"
    denoise.clean_file(path, cleaned, "gaussian")
    pixels = seen(cleaned)
    np.testing.assert_array_equal(pixels[8:20], picture[8:20])
    assert (pixels[:8, :, :3] != picture[:8, :, :3]).any()


def loaded(path: Path) -> Any:
    """Open a picture by Pillow, whose plugin of JPEG XL reads metadata with the pixels."""
    image = Image.open(path)
    if path.suffix == ".jxl":
        image.load()
    return image


def exif(folder: Path, column: str) -> None:
    with loaded(again(described(folder, column))) as image:
        found = image.getexif()
        assert found[MAKE] == "Kamera"
        if column != "RAW":
            assert float(found.get_ifd(EXIF_TAG)[EXPOSURE]) == 0.5


def places_and_maker_notes(folder: Path, column: str) -> None:
    with loaded(again(described(folder, column))) as image:
        assert image.getexif().get_ifd(GPS_TAG)[LATITUDE] == (48, 7, 30)
        assert image.getexif().get_ifd(EXIF_TAG)[MAKER_NOTE] == b"Kamera\0\1\2\3"


def orientation(folder: Path, column: str) -> None:
    path = described(folder, column)
    with loaded(again(path)) as image:
        if column in ("HEIC", "JPEG XL", "RAW"):
            assert image.getexif().get(ORIENTATION, 1) == 1
            assert (image.width < image.height) == (column != "JPEG XL")
        else:
            assert image.getexif()[ORIENTATION] == 6
            assert io.probe(again(path)).shape == io.probe(path).shape


def profile(folder: Path, column: str) -> None:
    with loaded(again(described(folder, column))) as image:
        found = image.info["icc_profile"]
        if column == "RAW":
            name = ImageCms.getProfileName(ImageCms.ImageCmsProfile(bytes_io.BytesIO(found)))
            assert "sRGB" in name
        else:
            assert found == ICC


def xmp(folder: Path, column: str) -> None:
    with loaded(again(described(folder, column))) as image:
        found = image.info.get("xmp") or image.info["XML:com.adobe.xmp"]
        assert (found.encode() if isinstance(found, str) else found) == XMP


def iptc(folder: Path, column: str) -> None:
    caption = b"\x1c\x02\x78\0\x06Gr\xfc\xdfe "  # IPTC-IIM, record 2, dataset 120
    block = (
        b"Photoshop 3.0\x008BIM\x04\x04\0\0" + len(caption).to_bytes(4) + caption + bytes(len(caption) % 2)
    )
    path = folder / f"iptc{SUFFIX[column]}"
    if column == "TIFF":
        tags = [(33723, 7, len(caption), caption, True)]
        tifffile.imwrite(path, waves(), photometric="rgb", metadata=None, extratags=tags)
        with tifffile.TiffFile(again(path)) as tif:
            assert tif.pages[0].tags[33723].value == caption
    elif column == "PNG":
        text, hexed = PngInfo(), f"\niptc\n{len(caption):8}\n{caption.hex()}\n"
        text.add_text("Raw profile type iptc", hexed, zip=True)  # as ImageMagick and ExifTool write it
        Image.fromarray(waves()).save(path, pnginfo=text)
        with loaded(again(path)) as image:
            assert image.info["Raw profile type iptc"] == hexed
    else:
        stored(path, waves())
        data = path.read_bytes()
        path.write_bytes(data[:2] + b"\xff\xed" + (len(block) + 2).to_bytes(2) + block + data[2:])
        with loaded(again(path)) as image:
            assert image.info["photoshop"][0x0404] == caption


def resolution(folder: Path, column: str) -> None:
    with loaded(again(described(folder, column))) as image:
        assert tuple(round(float(value)) for value in image.info["dpi"]) == (300, 200)


def own_words(folder: Path, column: str) -> None:
    with Image.open(again(described(folder, column))) as image:
        if column == "TIFF":
            assert (image.getexif()[315], image.getexif()[65000]) == ("Jemand", 7)
        else:
            assert image.info[{"PNG": "Title", "JPEG": "comment"}[column]] in ("a b c", b"a b c")


def compression(folder: Path, column: str) -> None:
    path = folder / f"a{SUFFIX[column]}"
    options = {"JPEG": {"quality": 61, "subsampling": "4:2:0"}, "TIFF": {"compression": "tiff_lzw"}}
    Image.fromarray(waves()).save(path, **options.get(column, {}))
    before: Any
    after: Any
    with Image.open(path) as before, Image.open(again(path)) as after:
        assert after.info.get("compression") == before.info.get("compression")
        if column == "JPEG":
            assert after.quantization == before.quantization
            assert [layer[1:3] for layer in after.layer] == [layer[1:3] for layer in before.layer]
    assert (b"VP8L" in again(path).read_bytes()) == (b"VP8L" in path.read_bytes())


def pages(folder: Path, column: str) -> None:
    path = folder / f"a{SUFFIX[column]}"
    pictures = [waves(), waves(1, "uint16", 9, 7)[..., 0], waves(3, "uint8", 20, 30)]
    with tifffile.TiffWriter(path) as tif:
        for picture in pictures:
            photometric = "rgb" if picture.ndim == 3 else "minisblack"
            tif.write(picture, photometric=photometric, metadata=None)
    with tifffile.TiffFile(again(path)) as tif:
        for page, picture in zip(tif.pages, pictures, strict=True):
            np.testing.assert_array_equal(page.asarray(), picture)


def big(folder: Path, column: str) -> None:
    path = folder / f"a{SUFFIX[column]}"
    tifffile.imwrite(path, waves(), photometric="rgb", bigtiff=True)
    with tifffile.TiffFile(again(path)) as tif:
        assert tif.is_bigtiff
        np.testing.assert_array_equal(tif.pages[0].asarray(), waves())


def animation(folder: Path, column: str) -> None:
    path = folder / f"a{SUFFIX[column]}"
    frames = [Image.fromarray(waves()).rotate(90 * n) for n in range(3)]
    if column == "JPEG XL":
        path.write_bytes(imagecodecs.jpegxl_encode(np.stack([np.asarray(frame) for frame in frames])))
    else:
        lossless = {"lossless": True} if column == "WebP" else {}
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=40, loop=3, **lossless)
    if column in ("AVIF", "JPEG XL"):
        refused(path)
        return
    with Image.open(again(path)) as image:
        assert (image.n_frames, image.info["loop"]) == (3, 3)
        for number, frame in enumerate(frames):
            image.seek(number)
            np.testing.assert_array_equal(np.asarray(image.convert("RGB")), np.asarray(frame))
            assert image.info["duration"] == 40


# ---- audio

ENCODED = {
    **{"WAV": ("WAV", "PCM_16"), "RF64": ("RF64", "PCM_16"), "AIFF": ("AIFF", "PCM_16")},
    **{"FLAC": ("FLAC", "PCM_16"), "Vorbis": ("OGG", "VORBIS"), "Opus": ("OGG", "OPUS")},
    "MP3": ("MP3", "MPEG_LAYER_III"),
}
CHUNKS = {
    **{b"bext": bytes(602) + b"A=PCM,F=48000", b"cue ": struct.pack("<7I", 1, 1, 9, 0, 0, 0, 9)},
    **{b"smpl": bytes(36), b"LIST": b"INFOINAM\x06\0\0\0title\0", b"iXML": "<BWFXML>é</BWFXML>".encode()},
}


def recording(folder: Path, column: str, subtype: str = "", *, samples: int = 4321, **options: Any) -> Path:
    container, usual = ENCODED[column]
    path = folder / f"a{SUFFIX[column]}"
    t = np.arange(samples) / 48000
    sound = np.stack([0.4 * np.sin(2766 * t), 0.3 * np.cos(4149 * t)], axis=1)
    options = {"format": container, "subtype": subtype or usual, **options}
    soundfile.write(path, sound, 48000, **options)
    return path


def rate_channels_length(folder: Path, column: str) -> None:
    found = soundfile.info(again(recording(folder, column)))
    assert (found.samplerate, found.channels, found.frames) == (48000, 2, 4321)


def same_samples(folder: Path, column: str, subtype: str, **options: Any) -> None:
    path = recording(folder, column, subtype, **options)
    copy = again(path)
    with soundfile.SoundFile(path) as before, soundfile.SoundFile(copy) as after:
        assert (after.format, after.subtype, after.endian) == (before.format, before.subtype, before.endian)
        np.testing.assert_array_equal(after.read(dtype="int32"), before.read(dtype="int32"))


def integers(folder: Path, column: str) -> None:
    for subtype in ("PCM_16", "PCM_24"):
        same_samples(folder, column, subtype)


def float_sound(folder: Path, column: str) -> None:
    same_samples(folder, column, "FLOAT")


def adpcm(folder: Path, column: str) -> None:
    path = recording(folder, column, "IMA_ADPCM")
    assert soundfile.info(again(path)).subtype == "PCM_16"
    assert "IMA_ADPCM is written back as PCM_16" in io.probe(path).notes


def byte_order(folder: Path, column: str) -> None:
    same_samples(folder, column, "PCM_16", endian="BIG" if column == "WAV" else "LITTLE")


def speakers(folder: Path, column: str) -> None:
    path = recording(folder, column, format="WAVEX")
    data = bytearray(path.read_bytes())
    mask = data.index(b"fmt ") + 28
    data[mask : mask + 4] = struct.pack("<I", 0x30)
    path.write_bytes(data)
    copied = again(path).read_bytes()
    at = copied.index(b"fmt ")
    assert copied[at : at + 48] == data[mask - 28 : mask + 20]


def chunks(folder: Path, column: str) -> None:
    path = recording(folder, column)
    order = ">" if column == "AIFF" else "<"
    data = path.read_bytes()
    added = [struct.pack(f"{order}4sI", name, len(c)) + c + bytes(len(c) % 2) for name, c in CHUNKS.items()]
    data += bytes(len(data) % 2) + b"".join(added)
    size = struct.pack("<Q" if column == "RF64" else f"{order}I", len(data) - 8)
    at = 20 if column == "RF64" else 4
    path.write_bytes(data[:at] + size + data[at + len(size) :])
    assert all(chunk in again(path).read_bytes() for chunk in added)


def tags(folder: Path, column: str) -> None:
    path = recording(folder, column)
    if column in ("WAV", "RF64", "AIFF"):
        id3 = b"ID3\3\0\0\0\0\0\x0fTIT2\0\0\0\5\0\0\0name"
        name = b"id3 " if column != "AIFF" else b"ID3 "
        data = path.read_bytes()
        chunk = name + struct.pack(">I" if column == "AIFF" else "<I", len(id3)) + id3 + bytes(len(id3) % 2)
        path.write_bytes(data + bytes(len(data) % 2) + chunk)
        assert chunk in again(path).read_bytes()
    elif column == "MP3":
        named = mutagen.id3.ID3()
        named.add(mutagen.id3.TIT2(encoding=1, text="Tïtle"))
        named.save(path, v1=2)
        size = mutagen.id3.ID3(path).size
        copied = again(path).read_bytes()
        assert (copied[:size], copied[-128:]) == (path.read_bytes()[:size], path.read_bytes()[-128:])
    else:
        tagged: Any = mutagen.File(path)
        tagged["title"], tagged["custom"] = ["Tïtle", "second"], "x"
        tagged.save()
        assert list(mutagen.File(again(path)).tags) == list(tagged.tags)


def bit_rate(folder: Path, column: str) -> None:
    options: dict[str, Any] = {"compression_level": 0.5}
    if column == "MP3":
        options["bitrate_mode"] = "CONSTANT"
    path = recording(folder, column, samples=48000, **options)
    rates = [io.probe(p).bit_rate for p in (path, again(path))]
    assert rates[0] * 0.95 <= rates[1] <= rates[0] * 1.35


# ---- sensor logs


def table(folder: Path, column: str) -> Path:
    t = np.arange(100) / 50
    path = folder / f"a{SUFFIX[column]}"
    if column == "CSV":
        rows = [f"{a:.2f};{np.sin(a):.5f};ok".replace(".", ",") for a in t]
        path.write_bytes("\r\n".join(["# from a logger", "time_s;x;state", *rows, ""]).encode())
    elif column == "NPY":
        np.save(path, np.asfortranarray(np.stack([np.sin(t), np.cos(t)], axis=1)).astype(">f4"))
    elif column == "NPZ":
        others = {"label": np.array("run 7"), "objects": np.array([{1: 2}], dtype=object)}
        np.savez_compressed(path, signal=np.sin(t), fs=50.0, **others)
    else:
        columns: dict[str, Any] = {"x": [None, *np.sin(t[1:]).tolist()], "state": ["ok"] * 100}
        made = pyarrow.table(columns).replace_schema_metadata({"who": "me"})
        pyarrow.parquet.write_table(made, path, row_group_size=30)
    return path


def unchanged(folder: Path, column: str) -> None:
    path = table(folder, column)
    assert again(path).read_bytes() == path.read_bytes()


def shifted(path: Path) -> Path:
    """Write the log with one added to every sample."""
    copy = path.with_name(f"shifted{path.suffix}")
    info = io.probe(path)
    with io.reader(path) as blocks, io.writer(copy, info) as sink:
        for block in blocks:
            sink.write(block + 1)
    return copy


def dialect(folder: Path, column: str) -> None:
    path = table(folder, column)
    before, after = path.read_bytes().split(b"\r\n"), shifted(path).read_bytes().split(b"\r\n")
    assert after[:2] == before[:2]
    assert len(after) == len(before)
    assert all(re.fullmatch(rb"\d,\d\d;-?\d,\d{7};ok", row) for row in after[2:-1])


def layout(folder: Path, column: str) -> None:
    path = table(folder, column)
    before, after = (np.load(p) for p in (path, shifted(path)))
    if column == "NPZ":
        before, after = before["signal"], after["signal"]
    assert (after.dtype, after.shape, after.flags.fnc) == (before.dtype, before.shape, before.flags.fnc)
    np.testing.assert_allclose(after, before + 1, rtol=1e-6)


def others(folder: Path, column: str) -> None:
    path = table(folder, column)
    copy = shifted(path)
    if column == "NPZ":
        before, after = np.load(path), np.load(copy)
        assert (after["label"], after["fs"]) == (before["label"], before["fs"])
    elif column == "CSV":
        assert [row.split(b";")[2] for row in copy.read_bytes().split(b"\r\n")[2:-1]] == [b"ok"] * 100
    else:
        assert pyarrow.parquet.read_table(copy)["state"].to_pylist() == ["ok"] * 100


def schema(folder: Path, column: str) -> None:
    path = table(folder, column)
    before, after = (pyarrow.parquet.ParquetFile(p) for p in (path, shifted(path)))
    assert after.schema_arrow.equals(before.schema_arrow, check_metadata=True)
    assert after.num_row_groups == before.num_row_groups == 4
    assert after.read()["x"][0].as_py() is None


def pickles(folder: Path, column: str) -> None:
    if column == "NPY":
        path = folder / "a.npy"
        np.save(path, np.array([{1: 2}], dtype=object))
        refused(path)
    else:
        path = table(folder, column)
        with zipfile.ZipFile(path) as before, zipfile.ZipFile(shifted(path)) as after:
            assert after.read("objects.npy") == before.read("objects.npy")


def wide_text(folder: Path, column: str) -> None:
    path = table(folder, column)
    narrow = shifted(path).read_bytes()
    for encoding in ("utf-16", "utf-16-be"):
        mark = "" if encoding == "utf-16" else "\ufeff"
        wide = folder / f"{encoding}{SUFFIX[column]}"
        wide.write_bytes((mark + path.read_bytes().decode()).encode(encoding))
        assert shifted(wide).read_bytes() == (mark + narrow.decode()).encode(encoding)


CHECKS: dict[str, Check] = {
    "written as": written_as,
    "8 bits": eight_bits,
    "16 bits": sixteen_bits,
    "10 and 12 bits": odd_bits,
    "32-bit float": floating,
    "1-bit gray": one_bit,
    "palette": palette,
    "CMYK": inks,
    "white is zero": white_is_zero,
    "alpha": alpha,
    "colours under full transparency": unseen,
    "EXIF": exif,
    "GPS, maker notes": places_and_maker_notes,
    "EXIF orientation": orientation,
    "ICC profile": profile,
    "XMP": xmp,
    "IPTC": iptc,
    "resolution": resolution,
    "text, comments, own tags": own_words,
    "compression": compression,
    "several pages": pages,
    "BigTIFF": big,
    "animation": animation,
    "rate, channels, length": rate_channels_length,
    "16 and 24 bits": integers,
    "float": float_sound,
    "ADPCM": adpcm,
    "byte order": byte_order,
    "speaker positions": speakers,
    "chunks, byte for byte": chunks,
    "tags, byte for byte": tags,
    "bit rate, or the next better one": bit_rate,
    "unchanged samples, byte for byte": unchanged,
    "delimiter, decimal comma, line ends, comments": dialect,
    "dtype and axis order": layout,
    "arrays and columns without signals": others,
    "schema, metadata, row groups, nulls": schema,
    "pickled objects": pickles,
    "UTF-16": wide_text,
}


def cells() -> Iterator[tuple[str, str]]:
    """Row and column of every filled cell of the document's tables."""
    columns: list[str] = []
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            columns = []
            continue
        row, *rest = (cell.strip() for cell in line.strip("|").split("|"))
        if not columns and not row:
            columns = rest
        elif columns and set(row) != {"-"}:
            yield from ((row, column) for column, cell in zip(columns, rest, strict=True) if cell)


@pytest.mark.parametrize(("row", "column"), list(cells()), ids=lambda name: name.replace(" ", "-"))
def test_what_the_document_says_of_a_format_is_so(tmp_path: Path, row: str, column: str) -> None:
    CHECKS[row](tmp_path, column)


def test_every_check_has_a_row_and_every_format_a_column() -> None:
    found = list(cells())
    assert {row for row, _ in found} == set(CHECKS)
    assert {column for _, column in found} == set(SUFFIX)
    assert len(found) > 100


@pytest.mark.parametrize("kind", ["PSD", "PDF", "EPS", "FITS", "SVG", "JPEG 2000"])
def test_what_is_not_needed_is_not_tried(tmp_path: Path, kind: str) -> None:
    heads = {
        **{"PSD": b"8BPS\0\1" + bytes(99), "PDF": b"%PDF-1.7\n", "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n"},
        **{"FITS": b"SIMPLE  =                    T", "SVG": b"<svg xmlns='x'/>"},
        "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n",
    }
    path = tmp_path / "a.png"
    path.write_bytes(heads[kind])
    refused(path)
    assert kind in DOCUMENT.read_text()


def test_a_misnamed_file_is_what_it_is_and_stays_so(tmp_path: Path) -> None:
    made = bytes_io.BytesIO()
    Image.fromarray(waves()).save(made, "JPEG", quality=61)
    (tmp_path / "a.png").write_bytes(made.getvalue())
    info = io.probe(tmp_path / "a.png")
    assert info.notes == ("holds JPEG data under the suffix .png, and keeps both",)
    with Image.open(again(tmp_path / "a.png")) as image:
        assert image.format == "JPEG"
    io.write(tmp_path / "b.bmp", *io.read(tmp_path / "a.png"))
    with Image.open(tmp_path / "b.bmp") as image:
        assert image.format == "BMP"
    recording(tmp_path, "FLAC").rename(tmp_path / "c.jpg")  # not even an image
    assert io.modality(tmp_path / "c.jpg").name == "audio"
    assert soundfile.info(again(tmp_path / "c.jpg")).format == "FLAC"
    table(tmp_path, "NPY").rename(tmp_path / "d")
    assert again(tmp_path / "d").read_bytes() == (tmp_path / "d").read_bytes()
    (tmp_path / "e.jpg").write_text("Dear reader")
    with pytest.raises(InputError, match=r"e\.jpg: holds text data; expected an image"):
        io.probe(tmp_path / "e.jpg")
