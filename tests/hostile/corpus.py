"""Small files of every readable format, and mutations of their bytes.

Everything follows from a number: `case(samples, n)` gives the same bytes on every machine.
"""

import io
import struct
import wave
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = Callable[[bytes, np.random.Generator], bytes]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
CLAIMS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 30000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def _waves(channels: int, dtype: str = "uint8", height: int = 37, width: int = 53) -> NDArray[Any]:
    y, x = np.mgrid[:height, :width]
    waves = np.stack([0.5 + 0.5 * np.sin((x + (k + 1) * y) / 7 + k) for k in range(channels)], axis=-1)
    peak = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    return (waves * peak).astype(dtype).squeeze()


def _picture(mode: str = "RGB") -> Any:
    from PIL import Image

    return Image.fromarray(_waves(4 if mode == "RGBA" else 3)).convert(mode)


def _saved(
    kind: str, mode: str = "RGB", *, described: bool = False, frames: int = 1, **options: Any
) -> bytes:
    from PIL import Image, ImageCms

    file, picture = io.BytesIO(), _picture(mode)
    if described:
        exif = Image.Exif()
        exif[0x0112], exif[0x010F] = 6, "Kamera"
        exif.get_ifd(0x8769)[0x829A] = 0.5
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        options |= {"exif": exif.tobytes(), "icc_profile": profile, "dpi": (300, 200)}
    if frames > 1:
        others = [picture.rotate(90 * n) for n in range(1, frames)]
        options |= {"save_all": True, "append_images": others, "duration": 40, "loop": 3}
    picture.save(file, kind, **options)
    return file.getvalue()


def _tiff(array: NDArray[Any], **options: Any) -> bytes:
    import tifffile

    file = io.BytesIO()
    photometric = "rgb" if array.shape[-1] in (3, 4) else "minisblack"
    tifffile.imwrite(file, array, photometric=photometric, **options)
    return file.getvalue()


def _deep_png() -> bytes:
    import imagecodecs

    return bytes(imagecodecs.png_encode(_waves(4, "uint16")))


def _run_length_bmp() -> bytes:
    plain = _saved("BMP", "P")
    start = struct.unpack("<I", plain[10:14])[0]
    rows = b"".join(bytes([53, row % 7, 0, 0]) for row in range(37)) + b"\0\1"
    head = bytearray(plain[:start])
    head[30:34], head[34:38] = struct.pack("<I", 1), struct.pack("<I", len(rows))
    return bytes(head) + rows


def _sound(container: str, subtype: str, rate: int = 16000, channels: int = 2) -> bytes:
    import soundfile

    t = np.arange(rate // 4) / rate
    waves = np.stack([0.4 * np.sin(2 * np.pi * (440 + 110 * c) * t) for c in range(channels)], axis=1)
    file = io.BytesIO()
    soundfile.write(file, waves, rate, format=container, subtype=subtype)
    return file.getvalue()


def _chunked_wav() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16000)
        sound.writeframes((_waves(1, "float32").ravel() * 9000).astype("<i2").tobytes())
    chunks = [(b"bext", bytes(602)), (b"cue ", bytes(28)), (b"LIST", b"INFOINAM\4\0\0\0name")]
    body = file.getvalue() + b"".join(k + struct.pack("<I", len(c)) + c for k, c in chunks)
    return body[:4] + struct.pack("<I", len(body) - 8) + body[8:]


def _tagged_flac() -> bytes:
    plain = _sound("FLAC", "PCM_16")
    comment = b"\4\0\0\0test\1\0\0\0\7\0\0\0TITLE=x"
    return (
        plain[:42].replace(b"fLaC\x80", b"fLaC\0") + b"\4" + len(comment).to_bytes(3) + comment + plain[42:]
    )


def _tagged_mp3() -> bytes:
    frame = b"TIT2\0\0\0\5\0\0\0name"
    return b"ID3\4\0\0" + bytes([0, 0, 0, len(frame)]) + frame + _sound("MP3", "MPEG_LAYER_III")


def _log(rows: int = 120) -> NDArray[np.float64]:
    t = np.arange(rows) / 100
    return np.stack([t, np.sin(7 * t), np.cos(5 * t)], axis=1)


def _table(delimiter: str, comma: bool = False, stamps: bool = False) -> bytes:
    lines = [delimiter.join(("time_s", "x", "y"))]
    for time_s, *values in _log().tolist():
        first = f"2024-01-01T00:00:{time_s:06.3f}" if stamps else f"{time_s:.2f}"
        row = [first, *(f"{value:.5f}" for value in values)]
        lines.append(delimiter.join(f'"{cell}"' if comma else cell for cell in row))
    text = "\n".join(lines) + "\n"
    return (text.replace(".", ",") if comma else text).encode()


def _npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _npz(*, packed: bool) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(file, signal=_log()[:, 1:], fs=100.0, label=np.array("run"))
    return file.getvalue()


def _mat(*, packed: bool) -> bytes:
    import scipy.io

    file = io.BytesIO()
    scipy.io.savemat(file, {"signal": _log()[:, 1:], "fs": 100.0}, do_compression=packed)
    return file.getvalue()


def _hdf5() -> bytes:
    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w") as store:
        store["signal"] = _log()[:, 1:]
    return file.getvalue()


def _edf() -> bytes:
    samples, records = 40, 3
    fixed = [
        ("0", 8),
        ("X", 80),
        ("Y", 80),
        ("01.01.2001.01.01", 16),
        ("512", 8),
        ("", 44),
        (str(records), 8),
    ]
    signal = [("ECG", 16), ("", 80), ("mV", 8), ("-5", 8), ("5", 8), ("-32768", 8), ("32767", 8), ("", 80)]
    fields = [*fixed, ("1", 8), ("1", 4), *signal, (str(samples), 8), ("", 32)]
    header = "".join(text.ljust(size) for text, size in fields).encode()
    return header + (1000 * _log()[: samples * records, 1]).astype("<i2").tobytes()


def _parquet(**options: Any) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    t, x, y = _log().T
    stamps = pa.array((t * 1e6).astype("int64"), pa.timestamp("us"))
    labels = pa.array(["a", "b", None] * 40).dictionary_encode()
    file = io.BytesIO()
    pq.write_table(pa.table({"when": stamps, "x": x, "y": y, "label": labels}), file, **options)
    return file.getvalue()


def _heic() -> bytes:
    from pillow_heif import from_pillow

    file = io.BytesIO()
    from_pillow(_picture()).save(file, quality=80)
    return file.getvalue()


def _jxl() -> bytes:
    import pylibjxl

    return bytes(pylibjxl.encode(_waves(3), exif=b"Exif\0\0II*\0\x08\0\0\0\0\0", xmp=b"<x/>"))


def _dng() -> bytes:
    ramp = 1000 + 50 * np.mgrid[:64, :96][1]
    matrix = (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1)
    tags = [
        *((50706, 1, 4, (1, 4, 0, 0), True), (50707, 1, 4, (1, 1, 0, 0), True)),  # DNG versions
        *((50708, 2, None, "Kamera 1", True), (271, 2, None, "Kamera", True), (274, 3, 1, 6, True)),
        *((33421, 3, 2, (2, 2), True), (33422, 1, 4, (0, 1, 1, 2), True)),  # the mosaic
        *((50721, 10, 9, matrix, True), (50728, 5, 3, (1, 1) * 3, True)),  # the colours
        *((50778, 3, 1, 21, True), (50717, 4, 1, 16383, True)),  # the light, and white
    ]
    file = io.BytesIO()
    import tifffile

    options = {"photometric": "cfa", "metadata": None, "software": False}
    tifffile.imwrite(file, ramp.astype(np.uint16), extratags=tags, **options)
    return file.getvalue()


SAMPLES: Mapping[str, Callable[[], bytes]] = {
    "plain.mat": lambda: _mat(packed=False),
    "packed.mat": lambda: _mat(packed=True),
    "plain.h5": _hdf5,
    "plain.edf": _edf,
    "plain.hea": lambda: b"plain 2 100 120\nplain.dat 16 200 16 0 0 0 0 x\nplain.dat 16 200 16 0 0 0 0 y\n",
    "gray.png": lambda: _saved("PNG", "L"),
    "described.png": lambda: _saved("PNG", described=True),
    "deep.png": _deep_png,
    "palette.png": lambda: _saved("PNG", "P", transparency=3),
    "bits.png": lambda: _saved("PNG", "1"),
    "moving.png": lambda: _saved("PNG", frames=3),
    "plain.jpg": lambda: _saved("JPEG", quality=85),
    "described.jpg": lambda: _saved("JPEG", described=True, progressive=True),
    "inks.jpg": lambda: _saved("JPEG", "CMYK"),
    "gray.jpeg": lambda: _saved("JPEG", "L", optimize=True),
    "exact.webp": lambda: _saved("WEBP", "RGBA", lossless=True),
    "lossy.webp": lambda: _saved("WEBP", "RGBA", quality=70, exif=b"II*\0\x08\0\0\0\0\0\0\0\0\0"),
    "moving.webp": lambda: _saved("WEBP", frames=3),
    "plain.tif": lambda: _tiff(_waves(3)),
    "described.tif": lambda: _saved("TIFF", described=True),
    "pages.tif": lambda: _tiff(np.stack([_waves(1, "uint16")] * 3), compression="lzw", predictor=True),
    "tiles.tiff": lambda: _tiff(_waves(4), tile=(16, 16), compression="deflate"),
    "big.tif": lambda: _tiff(_waves(1, "float32"), bigtiff=True, compression="zstd"),
    "planes.tif": lambda: _tiff(np.moveaxis(_waves(3), -1, 0), planarconfig="separate", byteorder=">"),
    "inside.tif": lambda: _saved("TIFF", compression="jpeg"),
    "palette.tif": lambda: _saved("TIFF", "P", compression="packbits"),
    "fax.tif": lambda: _saved("TIFF", "1", compression="group4"),
    "plain.bmp": lambda: _saved("BMP"),
    "palette.bmp": lambda: _saved("BMP", "P"),
    "runs.bmp": _run_length_bmp,
    "moving.gif": lambda: _saved("GIF", frames=3),
    "phone.heic": _heic,
    "plain.jxl": _jxl,
    "phone.avif": lambda: _saved("AVIF", "RGBA", described=True),
    "camera.dng": _dng,
    "pcm16.wav": lambda: _sound("WAV", "PCM_16"),
    "pcm24.wav": lambda: _sound("WAVEX", "PCM_24", channels=6),
    "float.wav": lambda: _sound("WAV", "FLOAT"),
    "adpcm.wav": lambda: _sound("WAV", "IMA_ADPCM"),
    "chunks.wav": _chunked_wav,
    "long.rf64": lambda: _sound("RF64", "PCM_16"),
    "tags.flac": _tagged_flac,
    "deep.flac": lambda: _sound("FLAC", "PCM_24", channels=1),
    "music.ogg": lambda: _sound("OGG", "VORBIS", channels=1),
    "voice.opus": lambda: _sound("OGG", "OPUS", channels=1),
    "tags.mp3": _tagged_mp3,
    "plain.aif": lambda: _sound("AIFF", "PCM_16"),
    "float.aiff": lambda: _sound("AIFF", "FLOAT"),
    "commas.csv": lambda: _table(","),
    "quoted.csv": lambda: _table(";", comma=True),
    "stamps.csv": lambda: _table(",", stamps=True),
    "tabs.tsv": lambda: _table("\t"),
    "rows.npy": lambda: _npy(_log()),
    "columns.npy": lambda: _npy(np.asfortranarray(_log()).astype(">f4")),
    "stored.npz": lambda: _npz(packed=False),
    "packed.npz": lambda: _npz(packed=True),
    "plain.parquet": lambda: _parquet(compression="none"),
    "packed.parquet": lambda: _parquet(compression="zstd", row_group_size=50, data_page_version="2.0"),
}


def flip_bits(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip one to sixteen bits anywhere."""
    return _flipped(data, rng, len(data))


def flip_head_bits(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip one to sixteen bits of the headers."""
    return _flipped(data, rng, min(len(data), 160))


def _flipped(data: bytes, rng: np.random.Generator, stop: int) -> bytes:
    out = bytearray(data)
    for place in rng.integers(0, stop, rng.integers(1, 17)):
        out[place] ^= 1 << int(rng.integers(8))
    return bytes(out)


def truncate(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut at a multiple of a sixteenth of the length, or within two bytes of it."""
    cut = len(data) * int(rng.integers(0, 16)) // 16 + int(rng.integers(-2, 3))
    return data[: max(cut, 0)]


def inflate(data: bytes, rng: np.random.Generator) -> bytes:
    """Inflate or zero numbers of a header."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        width = int(rng.choice([1, 2, 4, 8]))
        claim = int(rng.choice(CLAIMS)) * (0x100000001 if width == 8 and rng.random() < 0.3 else 1)
        place = int(rng.integers(0, max(1, min(len(data), 400) - width)))
        packed = (claim % 256**width).to_bytes(width, "little" if rng.random() < 0.5 else "big")
        out[place : place + width] = packed
    return bytes(out)


def scribble(data: bytes, rng: np.random.Generator) -> bytes:
    """Overwrite a stretch by random bytes."""
    start, size = int(rng.integers(0, len(data))), int(rng.integers(1, 200))
    return data[:start] + rng.bytes(size) + data[start + size :]


def swap(data: bytes, rng: np.random.Generator) -> bytes:
    """Swap two stretches."""
    a, b, c, d = sorted(int(place) for place in rng.integers(0, len(data) + 1, 4))
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def drop(data: bytes, rng: np.random.Generator) -> bytes:
    """Remove a stretch."""
    start, size = int(rng.integers(0, len(data))), int(rng.integers(1, 100))
    return data[:start] + data[start + size :]


def repeat(data: bytes, rng: np.random.Generator) -> bytes:
    """Repeat a stretch."""
    start, size = int(rng.integers(0, len(data))), int(rng.integers(1, 300))
    return data[:start] + data[start : start + size] * int(rng.integers(2, 9)) + data[start + size :]


def blank(data: bytes, rng: np.random.Generator) -> bytes:
    """Overwrite a stretch by zeros or ones, like a bad disk."""
    start, size = int(rng.integers(0, len(data))), int(rng.integers(4, 600))
    fill = b"\0" if rng.random() < 0.7 else b"\xff"
    return data[:start] + fill * len(data[start : start + size]) + data[start + size :]


def random_tail(data: bytes, rng: np.random.Generator) -> bytes:
    """Keep the first bytes and replace the rest by noise."""
    keep = int(rng.integers(4, 80))
    return data[:keep] + rng.bytes(len(data) - keep if len(data) > keep else 0)


def other_chunks(data: bytes, rng: np.random.Generator) -> bytes:
    """Reorder, drop or double chunks (of formats without chunks: stretches of 64 bytes)."""
    head, parts = _chunks(data)
    order = list(range(len(parts)))
    for _ in range(int(rng.integers(1, 4))):
        one, two = (int(n) for n in rng.integers(0, len(order), 2)) if order else (0, 0)
        kind = rng.integers(3)
        if kind == 0 and order:
            order[one], order[two] = order[two], order[one]
        elif kind == 1:
            order[one : one + 1] = []
        else:
            order[two:two] = order[one : one + 1]
    return head + b"".join(parts[n] for n in order)


def _chunks(data: bytes) -> tuple[bytes, Sequence[bytes]]:
    if data.startswith(PNG_SIGNATURE):
        head, order, around = 8, ">", 12
    elif data[:4] in (b"RIFF", b"FORM", b"RF64"):
        head, order, around = 12, "<" if data[:1] == b"R" else ">", 8
    else:
        return b"", [data[at : at + 64] for at in range(0, len(data), 64)]
    parts, at, field = [], head, 0 if around == 12 else 4
    while at + 8 <= len(data):
        size = struct.unpack(order + "I", data[at + field : at + field + 4])[0] + around
        size += size % 2 if around == 8 else 0
        parts.append(data[at : at + size])
        at += size
    return data[:head], parts


MUTATIONS: tuple[Bytes, ...] = (
    *(flip_bits, flip_head_bits, truncate, inflate, inflate, scribble),
    *(swap, drop, repeat, blank, random_tail, other_chunks),
)


def mended(data: bytes) -> bytes:
    """Correct the checksums of PNG chunks and Ogg pages, so that the decoder receives the changes."""
    if data.startswith(PNG_SIGNATURE):
        out, at = bytearray(data), 8
        while at + 12 <= len(data):
            end = at + 8 + int.from_bytes(data[at : at + 4])
            if end + 4 > len(data):
                break
            out[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
            at = end + 4
        return bytes(out)
    if b"OggS" in data[:64]:
        starts = [at for at in range(len(data)) if data[at : at + 4] == b"OggS"]
        pages = [data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]
        return data[: starts[0]] + b"".join(map(_mended_page, pages))
    return data


def _mended_page(page: bytes) -> bytes:
    if len(page) < 27:
        return page
    size = min(27 + page[26] + sum(page[27 : 27 + page[26]]), len(page))
    blank_page = page[:22] + bytes(4) + page[26:size]
    check = 0
    for byte in blank_page:  # CRC-32 without reflection (RFC 3533)
        check ^= byte << 24
        for _ in range(8):
            check = (check << 1 ^ (0x04C11DB7 if check & 0x80000000 else 0)) & 0xFFFFFFFF
    return page[:22] + struct.pack("<I", check) + page[26:]


def case(samples: Mapping[str, bytes], number: int) -> tuple[str, bytes]:
    """Make the name and bytes of one hostile file, cycling through samples and mutations."""
    rng = np.random.default_rng([2024, number])
    names = list(samples)
    name = names[number % len(names)]
    mutate = MUTATIONS[number // len(names) % len(MUTATIONS)]
    data = mutate(samples[name], rng)
    if rng.random() < 0.1:
        data = MUTATIONS[int(rng.integers(len(MUTATIONS)))](data or b"\0", rng)
    return f"{number}-{mutate.__name__}-{name}", mended(data) if rng.random() < 0.7 else data


def write_samples(folder: Path, kind: str = "plain") -> dict[str, bytes]:
    """Make the samples of a kind, `plain` or `media`, in `folder`; the second time, read them."""
    builds = SAMPLES if kind == "plain" else _containers(folder)
    for name, build in builds.items():
        path = folder / name
        if not path.exists():
            path.write_bytes(build())
    return {name: (folder / name).read_bytes() for name in builds}


def _containers(folder: Path) -> dict[str, Callable[[], bytes]]:
    """Short files of every media container, with the sound of different codecs."""
    from tests.io.media.test_media import CONTAINERS, make

    def build(made: Any) -> bytes:
        short = replace(made, seconds=0.3, frames=made.frames[:6])
        return make(folder / f"made{made.suffix}", short).read_bytes()

    return {f"{made}{made.suffix}": partial(build, made) for made in CONTAINERS}
