"""JPEG XL (ISO/IEC 18181): 8 to 16 bits and float, lossless where the source was (the extra `jxl`).

libjxl codes the pixels, through imagecodecs; pylibjxl reads the metadata, and writes 8 bits with a colour
profile, which imagecodecs cannot. Pixels are stored upright, as readers ignore the orientation in EXIF.
"""

from __future__ import annotations

import struct
from typing import IO, Any

import numpy as np

from denoise.arrays import Array
from denoise.errors import OutputError, UnsupportedError
from denoise.io.formats import optional_package
from denoise.io.image.base import (
    EXIF,
    FileBytes,
    Header,
    Picture,
    SinglePage,
    icc_fits,
    lost_boxes,
    rescaled,
    upright,
)
from denoise.io.image.ifd import turned_exif
from denoise.io.limits import require_plausible_page
from denoise.signal import ImageInfo, Metadata, Page

DISTANCE = 0.5  # of lossy files, in steps of a visible difference
SIGNATURE = b"\0\0\0\x0cJXL \r\n\x87\n"
BOXES = b"JXL |jxlc|jxlp|jxll|jxli|jbrd|brob|Exif|xml ".split(b"|")  # of the picture, its EXIF and XMP


class JpegXl(SinglePage):
    """The JPEG XL format."""

    name = "JPEG XL"
    dtypes = ("uint8", "float32", "uint16")
    channels = (1, 3, 4)

    def header(self, data: FileBytes) -> Header:
        """Read the boxes. The profile is found by decoding, so the size is checked here too."""
        library, encoded = optional_package("JPEG XL"), data[:]
        facts = library.probe(encoded)
        if facts["have_animation"]:
            raise UnsupportedError("is an animated JPEG XL; expected a still image")
        bits = facts["bits_per_sample"]
        dtype = "float32" if facts["exponent_bits_per_sample"] else "uint16" if bits > 8 else "uint8"
        page = Page(facts["height"], facts["width"], facts["channels"], dtype, int(facts["has_alpha"]))
        if bits > 16 and dtype != "float32":
            raise UnsupportedError(f"is a JPEG XL of {bits} bits; expected up to 16, or float")
        require_plausible_page(page, page.reading_bytes, len(data))
        _, found = library.decode(encoded, metadata=True)
        exif, _ = turned_exif(found.get("exif", b"").removeprefix(EXIF))
        metadata = Metadata(exif=exif or None, icc=found.get("icc"), xmp=found.get("xmp"))
        own = {"bits": bits, "lossless": _is_lossless(encoded)}
        lost = lost_boxes(data, *BOXES) if encoded.startswith(SIGNATURE) else ()
        return Header((page,), metadata, (), own, lost)

    def decode(self, data: FileBytes, header: Header) -> Array:
        """Decode the picture, at full scale."""
        import imagecodecs

        pixels, peak = imagecodecs.jpegxl_decode(data[:]), 2 ** header.own["bits"] - 1
        return rescaled(pixels, peak, 65535) if pixels.dtype == np.uint16 else pixels

    def encode(self, file: IO[bytes], info: ImageInfo, picture: Picture) -> None:
        """Encode the picture upright; a lossless source stays lossless, whatever its format."""
        import imagecodecs

        metadata = info.metadata
        exif, orientation = turned_exif(metadata.exif or b"")
        pixels = upright(picture.whole(), orientation)
        pixels = pixels[..., 0] if picture.channels == 1 else pixels
        lossless = info.own.get("lossless", info.format not in ("JPEG", "HEIC", "AVIF"))
        quality: dict[str, Any] = {"lossless": True} if lossless else {"distance": DISTANCE}
        icc = metadata.icc if icc_fits(metadata.icc, picture.channels) else None
        if icc and pixels.dtype == np.uint8:
            library, block = optional_package("JPEG XL"), EXIF + exif if exif else None
            file.write(library.encode(pixels, icc=icc, exif=block, xmp=metadata.xmp, **quality))
            return
        if icc and not _is_srgb(icc):
            raise OutputError(
                f"cannot be written: JPEG XL gets a colour profile with 8 bits only, and the picture is "
                f"{pixels.dtype}; write to .png or .tif"
            )
        bits = info.own.get("bits", 16)
        if pixels.dtype == np.uint16 and bits < 16:
            pixels, quality["bitspersample"] = rescaled(pixels, 65535, 2**bits - 1), bits
        file.write(imagecodecs.jpegxl_encode(pixels, usecontainer=True, **quality))
        for kind, content in ((b"Exif", exif and bytes(4) + exif), (b"xml ", metadata.xmp)):
            if content:
                file.write(struct.pack(">I4s", len(content) + 8, kind) + content)


def _is_srgb(icc: bytes) -> bool:
    return b"sRGB" in icc or "sRGB".encode("utf-16-be") in icc


class _Bits:
    """Reads the bits of a codestream, lowest first."""

    def __init__(self, data: bytes) -> None:
        self._bits = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        found = self._bits & ((1 << count) - 1)
        self._bits >>= count
        return found

    def number(self, *sizes: int) -> int:
        """Read a number whose size has one of four values; 0 bits stand for none."""
        return self.take(sizes[self.take(2)])

    def skip_size(self) -> None:
        """Skip a size header (ISO/IEC 18181-1, D.2)."""
        small = self.take(1)
        for side in range(2):
            self.take(5) if small else self.number(9, 13, 18, 30)
            if not side and self.take(3):  # the ratio gives the other side
                return


def _is_lossless(data: bytes) -> bool:
    """False if the colours are transformed, as lossy encoders do (ISO/IEC 18181-1, D.3), or from a JPEG.

    In doubt it is True, which costs only bytes.
    """
    start = data.find(b"\xff\x0a") if data.startswith(SIGNATURE) else 0
    if b"jbrd" in data[:4096]:
        return False
    bits = _Bits(data[start + 2 : start + 66])
    bits.skip_size()
    if bits.take(1):  # all as usual
        return False
    if bits.take(1):  # more fields
        bits.take(3)
        if bits.take(1):
            bits.skip_size()
        if bits.take(2):
            return True  # a preview, or an animation
    if bits.take(1):  # float
        bits.number(0, 0, 0, 6)
        bits.take(4)
    else:
        bits.number(0, 0, 0, 6)
    bits.take(1)
    if bits.take(2) and not bits.take(1):  # an extra channel that is not the usual alpha
        return True
    return not bits.take(1)


FORMAT = JpegXl()
