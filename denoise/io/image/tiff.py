"""TIFF and BigTIFF (TIFF 6.0): every page, 8 and 16 bits and float, gray and RGB with extra samples.

tifffile decodes and lays out the file. This module compresses the strips, so that a page is never in memory
twice. The EXIF and GPS directories, which tifffile does not write, are appended behind the pages and linked.
"""

from __future__ import annotations

import logging
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from denoise.arrays import Array
from denoise.errors import UnreadableError, UnsupportedError
from denoise.io.image import inks, iptc
from denoise.io.image.base import FileBytes, Header, Picture, behind, icc_fits, lacking
from denoise.io.image.ifd import (
    EXIF_TAG,
    GPS_TAG,
    IFD8,
    INTEROP_TAG,
    LONG,
    Entry,
    Tags,
    end_of_entries,
    packed_below,
    packed_exif,
    parsed_exif,
    pointer,
    read_below,
    read_entries,
)
from denoise.io.image.jpeg import frame_px
from denoise.signal import ImageInfo, Metadata, Page

# tifffile logs oddities; without a handler Python would print them on stderr.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

XMP_TAG, ICC_TAG, SUBIFD_TAG, LAYERS_TAG = 700, 34675, 330, 37724
IPTC_TAG, RESOURCES_TAG, IMAGEJ_TAGS = 33723, 34377, {50838, 50839}
NO_DATA_TAG = 42113  # of GDAL: a number as text
DESCRIPTION = 270
OME_TYPE = re.compile(rb"""(<(?:\w+:)?Pixels\b[^>]*?\bType=["'])\w+""")  # of samples (OME-XML)
OME_TYPES = {"uint8": b"uint8", "uint16": b"uint16", "float32": b"float"}
BYTE, ASCII, UNDEFINED = 1, 2, 7
RATIONALS = {5: "I", 10: "i"}
# Tags of how the pixels are stored: the writer makes its own; and Photoshop's layers, which contain the noisy
# picture.
STRUCTURE = frozenset(
    {*range(254, 267), 273, *range(277, 285), *range(288, 294), 296, 301, 317, *range(320, 326), 330}
    | {*range(332, 343), 347, *range(512, 522), *range(529, 533), LAYERS_TAG, 40965}
)
# Those of them that say more: ranges and curves of values, which may fit the cleaned ones no longer.
LEFT_OUT = (280, 281, 290, 291, 301, 333, 340, 341, 342, 532)
# Blocks with places of their own.
NOT_EXIF = frozenset([XMP_TAG, ICC_TAG, IPTC_TAG, RESOURCES_TAG, *IMAGEJ_TAGS])
# tifffile refuses the real codes; these private neighbours keep the directory sorted until they are renamed.
PLACEHOLDERS = {EXIF_TAG: EXIF_TAG - 1, GPS_TAG: GPS_TAG - 1}
LOSSLESS = {1: None, 5: "lzw", 8: "zlib", 32946: "zlib", 50000: "zstd"}  # kept compressions
RECOMPRESSED = 8  # for the others
JPEG = 7
READABLE = {*LOSSLESS, 2, 3, 4, 32773, JPEG}  # with CCITT fax and PackBits; no other decoder is tried
MAX_CLASSIC_BYTES = 4_000_000_000  # above, offsets need 64 bits


@dataclass(frozen=True)
class Layout:
    """The storage of a page, and its tags."""

    compression: int = RECOMPRESSED
    predictor: bool = True
    resolution: tuple[tuple[int, int], tuple[int, int]] | None = None
    resolution_unit: int = 2
    subfile_type: int = 0
    extra_samples: tuple[int, ...] = ()
    tags: Tags = field(default_factory=lambda: Tags("<"))


class Tiff:
    """The TIFF format."""

    name = "TIFF"
    dtypes: tuple[str, ...] = ("uint8", "uint16", "float32")
    channels = ()
    multipage = True
    animated = False
    takes_xmp = True
    max_bits = 16
    holds: tuple[str, ...] = ("exif", "icc", "xmp", "dpi", "iptc")

    def header(self, data: FileBytes) -> Header:
        """Read every page's directory."""
        with _file(data) as tif:
            pages = list(tif.pages)
            if not pages:
                raise UnreadableError("is damaged: TIFF data without a page")
            if tif.is_imagej and len(pages) < int((tif.imagej_metadata or {}).get("images", 1)):
                raise UnsupportedError(
                    "is an ImageJ stack with a single directory; expected one directory per page"
                )
            notes = tuple(dict.fromkeys(note for page in pages for note in _notes(page)))
            layouts = tuple(_layout(data, tif, page) for page in pages)
            own = {"big": tif.is_bigtiff, "layouts": layouts, "no_data": tuple(map(_no_data, pages))}
            found = tuple(_page(page, len(data)) for page in pages)
            metadata, texts = _metadata(layouts[0])
            named = dict.fromkeys(
                f"{page.tags[code].name}: not kept"
                for page in pages
                for code in LEFT_OUT
                if code in page.tags
            )
            lost = (*named, *_behind(data, tif, pages))
            return Header(found, metadata, notes, own, lost, texts)

    def pages(self, data: FileBytes, header: Header) -> Iterator[Array]:
        """Decode page after page."""
        with _file(data) as tif:
            for page, said in zip(tif.pages, header.pages, strict=True):
                if page.compression == JPEG:
                    _check_jpegs(data, page)
                pixels = page.asarray(maxworkers=1)
                if page.axes == "SYX":
                    pixels = np.moveaxis(pixels, 0, -1)
                yield _standard(pixels, page).reshape(said.height, said.width, said.channels)

    def lacks(self, metadata: Metadata) -> tuple[str, ...]:
        """Name the metadata that a file has no place for."""
        return lacking(metadata, self.holds)

    def with_xmp(self, own: Mapping[str, Any], xmp: bytes) -> Mapping[str, Any]:
        """Put another XMP packet into the tags of the first page."""
        first, *others = own["layouts"]
        entries = [entry for entry in first.tags.entries if entry.code != XMP_TAG]
        tags = replace(first.tags, entries=(*entries, Entry(XMP_TAG, BYTE, len(xmp), xmp)))
        return {**own, "layouts": (replace(first, tags=tags), *others)}

    @contextmanager
    def sink(self, path: Path, info: ImageInfo) -> Iterator[Callable[[Picture], None]]:
        """Open `path` for pictures, and link their EXIF directories at the end."""
        import tifffile

        layouts: tuple[Layout, ...] = info.own.get("layouts") or (described(info.metadata),)
        # Packed values are copied, so the order is theirs.
        order: Literal["<", ">"] = "<" if layouts[0].tags.order == "<" else ">"
        size_bytes = sum(page.size_bytes for page in info.layouts) or int(np.prod(info.shape)) * 4
        big = info.own.get("big", False) or size_bytes > MAX_CLASSIC_BYTES
        with tifffile.TiffWriter(path, byteorder=order, bigtiff=big) as file:
            sink = TiffSink(file, layouts, order, big=big, same=info.format == self.name)
            yield sink.write
        _link(path, sink.written, big=big)


class TiffSink:
    """Writes pictures, one page each."""

    def __init__(self, file: Any, layouts: tuple[Layout, ...], order: str, *, big: bool, same: bool) -> None:
        self._file = file
        self._layouts = layouts
        self._order = order
        self._big = big
        self._same = same  # format as the source
        self.written: list[Tags] = []

    def write(self, picture: Picture) -> None:
        """Write one page: its strips, then its directory."""
        number = len(self.written)
        layout = self._layouts[number] if number < len(self._layouts) else Layout(tags=Tags(self._order))
        extra = layout.extra_samples
        colours = picture.channels - len(extra)
        if colours not in (1, 3):
            colours = 3 if picture.channels >= 3 else 1
            extra = (2,) * (picture.channels - colours)  # unassociated alpha
        rows = picture.rows_per_strip()
        shape = (picture.height, picture.width, *((picture.channels,) if picture.channels > 1 else ()))
        predictor = (
            1 if not layout.predictor or layout.compression == 1 else 3 if picture.dtype.kind == "f" else 2
        )
        self._file.write(
            _strips(picture, rows, layout.compression, predictor, self._order),
            shape=shape,
            dtype=picture.dtype,
            photometric="rgb" if colours == 3 else "minisblack",
            planarconfig="contig" if picture.channels > 1 else None,
            extrasamples=extra or None,
            compression=layout.compression if layout.compression != 1 else None,
            predictor=predictor if predictor != 1 else None,
            rowsperstrip=min(rows, picture.height),
            subfiletype=layout.subfile_type,
            resolution=layout.resolution,
            # tifffile writes 1/1 where there is none: without the unit none, a picture of one pixel an inch
            resolutionunit=layout.resolution_unit if layout.resolution else 1,
            description=None,
            software=False,
            metadata=None,
            extratags=_extratags(layout.tags, picture, big=self._big, same=self._same),
        )
        self.written.append(layout.tags)


def _extratags(tags: Tags, picture: Picture, *, big: bool, same: bool) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for entry in tags.entries:
        if entry.code == ICC_TAG and not icc_fits(entry.value, picture.channels, same=same):
            continue
        value: Any = entry.value
        if entry.code == DESCRIPTION and b"<OME" in value:
            value = OME_TYPE.sub(rb"\1" + OME_TYPES[picture.dtype.name], value)
        if entry.type in RATIONALS:  # tifffile doubles the count of packed ones
            value = struct.unpack(f"{tags.order}{2 * entry.count}{RATIONALS[entry.type]}", value)
        found.append(
            (entry.code, entry.type, entry.count if entry.code != DESCRIPTION else len(value), value, True)
        )
    for code in tags.below.keys() & PLACEHOLDERS.keys():
        found.append((PLACEHOLDERS[code], IFD8 if big else LONG, 1, bytes(8 if big else 4), True))
    return found


def _strips(picture: Picture, rows: int, compression: int, predictor: int, order: str) -> Iterator[bytes]:
    """Encode the strips."""
    import imagecodecs

    encode = LOSSLESS[compression] and getattr(imagecodecs, f"{LOSSLESS[compression]}_encode")
    for strip in picture.strips(rows):
        ordered = strip.dtype.newbyteorder("<" if order == "<" else ">")
        if predictor == 2:
            strip = imagecodecs.delta_encode(strip, axis=1)
        if predictor == 3:  # works on bytes, whose order the predictor itself fixes
            content = imagecodecs.floatpred_encode(strip.astype(ordered), axis=1).tobytes()
        else:
            content = strip.astype(ordered, copy=False).tobytes()
        yield bytes(encode(content)) if encode else content


@contextmanager
def _file(data: FileBytes) -> Iterator[Any]:
    import tifffile

    data.handle.seek(0)
    with tifffile.TiffFile(data.handle) as tif:
        yield tif


def _behind(data: FileBytes, tif: Any, pages: list[Any]) -> tuple[str, ...]:
    """Sentence about bytes that lie behind everything that the pages refer to."""
    if any(SUBIFD_TAG in page.tags for page in pages):  # those of reduced copies are theirs
        return ()
    order, big, ends = tif.byteorder, tif.is_bigtiff, list[int]()
    for page in pages:
        ends += map(sum, zip(page.dataoffsets, page.databytecounts, strict=False))
        entries = read_entries(data, page.offset, order, big=big)
        exif_at = pointer(entries, EXIF_TAG, order)
        interop_at = pointer(read_entries(data, exif_at, order, big=big), INTEROP_TAG, order)
        for at in (page.offset, exif_at, pointer(entries, GPS_TAG, order), interop_at):
            ends.append(end_of_entries(data, at, order, big=big))
    return behind(data, max(ends) + max(ends) % 2)


def _bits(page: Any) -> int:
    bits = page.bitspersample
    return max(bits) if isinstance(bits, tuple) else int(bits)


def _page(page: Any, file_bytes: int) -> Page:
    """The page as `pages` yields it.

    Raises:
        UnreadableError: Its pixels lie beyond the end of the file.
        UnsupportedError: A dtype, colour model or layout that is not handled.
    """
    for offset, size in zip(page.dataoffsets, page.databytecounts, strict=False):
        if offset + size > file_bytes:
            raise UnreadableError(
                f"ends early: TIFF data that needs {offset + size} bytes of which {file_bytes} are there"
            )
    if page.compression not in READABLE:
        kind = getattr(page.compression, "name", page.compression)
        raise UnsupportedError(f"is a TIFF with {kind} compression, which is not handled")
    if page.axes not in ("YX", "YXS", "SYX") or page.dtype is None:
        raise UnsupportedError(f"is a TIFF with axes {page.axes}; expected flat pages")
    bits, is_float = _bits(page), _becomes_float(page)
    if not is_float and (page.dtype.kind not in "ub" or bits > 16):
        raise UnsupportedError(f"is a TIFF of {page.dtype} samples; expected up to 32 bits, or float")
    photometric, extra = _photometric(page), len(page.extrasamples)
    colours = page.samplesperpixel - extra
    handled = {"MINISBLACK": 1, "MINISWHITE": 1, "RGB": 3, "PALETTE": 1, "SEPARATED": 4}
    if page.compression == JPEG and photometric == "YCBCR":
        handled["YCBCR"] = 3  # the JPEG decoder returns RGB
    if handled.get(photometric) != colours or (photometric in ("SEPARATED", "PALETTE") and is_float):
        raise UnsupportedError(
            f"is a TIFF with {colours} {photometric} channels; expected gray, RGB, palette or CMYK"
        )
    dtype = "float32" if is_float else "uint16" if bits > 8 else "uint8"
    if photometric == "PALETTE":
        dtype = "uint8"
    channels = {"SEPARATED": 3, "PALETTE": 3}.get(photometric, colours) + extra
    alpha = extra > 0 and int(page.extrasamples[0]) > 0  # others are unspecified: infrared, depth, ...
    bands = photometric == "MINISBLACK" and extra >= 2 and not any(map(int, page.extrasamples))
    if bands:
        extra, alpha = 0, False
    return Page(int(page.imagelength), int(page.imagewidth), channels, dtype, extra, alpha, bands)


def _photometric(page: Any) -> str:
    """Name of the colour model; gray where the tag is missing, for which tifffile gives white-is-zero."""
    if 262 not in page.tags:
        return "MINISBLACK"
    return getattr(page.photometric, "name", str(page.photometric))


def _becomes_float(page: Any) -> bool:
    """Return whether samples become float32: floats, and whole numbers with a sign or 32 bits."""
    kind, bits = page.dtype.kind, _bits(page)
    return bool(kind == "f" or (kind == "i" and bits in (8, 16, 32)) or (kind == "u" and bits == 32))


def _check_jpegs(data: FileBytes, page: Any) -> None:
    """Check the size that the JPEG of each strip or tile claims, before the decoder allocates it."""
    height, width = min(page.rowsperstrip, page.imagelength), page.imagewidth
    if page.is_tiled:
        height, width = page.tilelength, page.tilewidth
    for offset, size in zip(page.dataoffsets, page.databytecounts, strict=False):
        if size and frame_px(data[offset : offset + size]) > (height + 16) * (width + 16):
            raise UnreadableError("is damaged: a JPEG inside the TIFF is larger than its strip or tile")


def _notes(page: Any) -> Iterator[str]:
    photometric, bits = _photometric(page), _bits(page)
    if photometric == "PALETTE":
        yield "palette turned into RGB (cleaning makes new colours)"
    elif photometric == "SEPARATED":
        yield "CMYK turned into RGB"
    elif photometric == "MINISWHITE":
        yield "white-is-zero gray turned into black-is-zero"
    if page.dtype is not None and _becomes_float(page):
        if page.dtype != np.float32:
            exact = ", whole numbers exact to 16777216" if page.dtype.kind in "iu" and bits == 32 else ""
            yield f"{page.dtype} turned into float32{exact}"
    elif photometric != "PALETTE" and bits not in (8, 16):
        yield f"{bits}-bit samples turned into {16 if bits > 8 else 8}-bit samples"
    if page.compression not in LOSSLESS:
        kind = page.compression.name
        yield f"{kind} compression inside TIFF turned into lossless Deflate"
    stored = [
        name
        for name, found in (("tiles", page.is_tiled), ("planes of one channel", _in_planes(page)))
        if found
    ]
    if stored:
        yield f"stored in {' and '.join(stored)}, written in strips of whole pixels"
    if LAYERS_TAG in page.tags:
        yield "Photoshop's layers (tag 37724) are not kept: they would show the noise"
    if SUBIFD_TAG in page.tags:
        yield "reduced copies (SubIFDs) are not kept: they would show the noise"


def _no_data(page: Any) -> float | None:
    """Return the sample that a GeoTIFF's tag says is no data, as `pages` yields it; None without one."""
    tag = page.tags.get(NO_DATA_TAG)
    if tag is None or page.dtype is None or _photometric(page) not in ("MINISBLACK", "MINISWHITE", "RGB"):
        return None
    try:
        value = float(str(tag.value).strip("\0 "))
        stored = np.array(value, page.dtype if page.dtype.kind == "f" else np.float64)
    except (ValueError, OverflowError):
        return None
    if page.dtype.kind in "iu":
        limits = np.iinfo(page.dtype)
        if value != value or not limits.min <= value <= limits.max or value % 1:
            return None
        stored = np.array(int(value), page.dtype)
    found = float(_standard(stored.reshape(1, 1), page).item())
    return found if np.isfinite(found) else None


def _in_planes(page: Any) -> bool:
    return bool(page.planarconfig == 2 and page.samplesperpixel > 1)


def _standard(pixels: Array, page: Any) -> Array:
    """Convert stored samples to full-scale gray or RGB of a supported dtype."""
    photometric, bits = _photometric(page), _bits(page)
    if photometric == "PALETTE":
        return palette_to_rgb(pixels, page.colormap)
    if _becomes_float(page):
        light = pixels if photometric != "MINISWHITE" else 1 - pixels if pixels.dtype.kind == "f" else ~pixels
        return light.astype(np.float32, copy=False)
    full = np.uint16 if bits > 8 else np.uint8
    if bits not in (8, 16):
        scaled = pixels.astype(np.uint32) * np.iinfo(full).max + (2**bits - 1) // 2
        pixels = scaled // (2**bits - 1)
    pixels = pixels.astype(full, copy=False)
    if photometric == "MINISWHITE":
        pixels = np.iinfo(full).max - pixels
    if photometric == "SEPARATED":
        pixels = inks.to_rgb(pixels, page.iccprofile)
    return pixels


def palette_to_rgb(pixels: Array, palette: Array) -> Array:
    """Look up the colours of the first channel; extra samples stay, with 8 bits.

    Args:
        pixels: Places in the palette, `(H, W)`, or with extra samples `(H, W, C)`.
        palette: 16-bit colours, `(3, N)`.
    """
    index, extra = (pixels, None) if pixels.ndim == 2 else (pixels[..., 0], pixels[..., 1:])
    rgb = (palette.T >> 8).astype(np.uint8)[index.astype(np.intp)]  # one bit is read as truth values
    if extra is None:
        return np.ascontiguousarray(rgb)
    eight = extra if extra.dtype == np.uint8 else (extra >> 8).astype(np.uint8)
    return np.concatenate([rgb, eight], axis=-1)


def _layout(data: FileBytes, tif: Any, page: Any) -> Layout:
    order = tif.byteorder
    raw = read_entries(data, page.offset, order, big=tif.is_bigtiff)
    kept = tuple(e for e in raw if e.code not in STRUCTURE | set(PLACEHOLDERS) | set(PLACEHOLDERS.values()))
    below = read_below(data, raw, order, big=tif.is_bigtiff)
    compression = int(page.compression) if page.compression in LOSSLESS else RECOMPRESSED
    return Layout(
        compression=8 if compression == 32946 else compression,
        predictor=page.predictor in (2, 3) or page.compression not in LOSSLESS,
        resolution=_resolution(raw, order),
        resolution_unit=int(page.resolutionunit),
        subfile_type=int(page.subfiletype),
        extra_samples=tuple(int(sample) for sample in page.extrasamples),
        tags=Tags(order, kept, below),
    )


def _resolution(entries: tuple[Entry, ...], order: str) -> tuple[tuple[int, int], tuple[int, int]] | None:
    values = {entry.code: entry.value for entry in entries if entry.code in (282, 283) and entry.type == 5}
    if len(values) < 2:
        return None
    across, down = (struct.unpack(order + "II", values[code][:8]) for code in (282, 283))
    return ((across[0], across[1]), (down[0], down[1])) if across[1] and down[1] else None


def _metadata(layout: Layout) -> tuple[Metadata, tuple[str, ...]]:
    """Translate the first page's tags to the terms that all formats share; name the others."""
    values = {entry.code: entry.value for entry in layout.tags.entries}
    dpi = None
    if layout.resolution and layout.resolution_unit in (2, 3):
        inch = 2.54 if layout.resolution_unit == 3 else 1.0
        across, down = (over * inch / under if under else 0.0 for over, under in layout.resolution)
        dpi = (across, down) if across > 0 and down > 0 else None
    plain = tuple(e for e in layout.tags.entries if e.code not in NOT_EXIF)
    tags = Tags(layout.tags.order, plain, layout.tags.below)
    exif = packed_exif(tags) if plain or tags.below else None
    resources = iptc.read_resources(values.get(RESOURCES_TAG, b""))
    record = values.get(IPTC_TAG) or resources.get(iptc.RECORD)
    texts = iptc.others(resources) + (("ImageJ's metadata",) if values.keys() & IMAGEJ_TAGS else ())
    return Metadata(exif, values.get(ICC_TAG), values.get(XMP_TAG), dpi, iptc=record), texts


def described(metadata: Metadata) -> Layout:
    """Make a layout for a picture that comes from another format."""
    exif = (metadata.exif and parsed_exif(metadata.exif)) or Tags("<")
    entries = [e for e in exif.entries if e.code not in STRUCTURE | NOT_EXIF | set(PLACEHOLDERS)]
    if metadata.icc:
        entries.append(Entry(ICC_TAG, UNDEFINED, len(metadata.icc), metadata.icc))
    if metadata.iptc:
        entries.append(Entry(IPTC_TAG, UNDEFINED, len(metadata.iptc), metadata.iptc))
    if metadata.xmp:
        entries.append(Entry(XMP_TAG, BYTE, len(metadata.xmp), metadata.xmp))
    resolution = None
    if metadata.dpi:
        across, down = (round(dpi * 1000) for dpi in metadata.dpi)
        resolution = ((across, 1000), (down, 1000))
    return Layout(resolution=resolution, tags=Tags(exif.order, tuple(entries), exif.below))


def _link(path: Path, pages: Sequence[Tags], *, big: bool) -> None:
    """Append the EXIF and GPS directories, and replace the placeholders by their real tags."""
    if not any(tags.below for tags in pages):
        return
    order = pages[0].order
    with path.open("r+b") as file:
        at = 8 if big else 4
        for tags in pages:
            file.seek(at)
            file.seek(_number(file.read(8 if big else 4), order))
            count = _number(file.read(8 if big else 2), order)
            for _ in range(count):
                start = file.tell()
                entry = file.read(20 if big else 12)
                code = struct.unpack(order + "H", entry[:2])[0]
                real = next((tag for tag, placeholder in PLACEHOLDERS.items() if placeholder == code), None)
                if real in tags.below:
                    end = file.seek(0, 2)
                    end += end % 2
                    file.seek(end)
                    file.write(packed_below(tags, real, end, big=big))
                    file.seek(start)
                    file.write(struct.pack(order + "H", real) + entry[2 : -8 if big else -4])
                    file.write(struct.pack(order + ("Q" if big else "I"), end))
                file.seek(start + len(entry))
            at = file.tell()


def _number(raw: bytes, order: str) -> int:
    return int.from_bytes(raw, "little" if order == "<" else "big")


FORMAT = Tiff()
