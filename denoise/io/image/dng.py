"""Linear DNG (Adobe, DNG specification 1.4): developed camera raw data in the colours of the camera.

It is a TIFF page whose samples are linear light, with the matrix and the white balance for raw editors. They
are not balanced themselves: LibRaw takes the largest sample for white if it is close, and would find another.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from denoise.arrays import Doubles
from denoise.io.image.base import Picture
from denoise.io.image.ifd import Entry
from denoise.io.image.tiff import ASCII, BYTE, Tiff, described
from denoise.signal import ImageInfo, Page

SHORT, RATIONAL, SRATIONAL = 3, 5, 10
MAKE, MODEL, PHOTOMETRIC, LINEAR_RAW, D65 = 271, 272, 262, 34892, 21
VERSION, BACKWARD_VERSION, CAMERA, WHITE_LEVEL, MATRIX, NEUTRAL, ILLUMINANT = (
    *(50706, 50707, 50708),
    *(50717, 50721, 50728, 50778),
)


class Dng(Tiff):
    """The linear DNG format; only written, and only from camera raw data."""

    name = "camera raw"
    dtypes = ("uint16",)
    multipage = False

    def with_xmp(self, own: Mapping[str, Any], _xmp: bytes) -> Mapping[str, Any]:
        """Return the data for the writer, which holds no tags."""
        return own

    @contextmanager
    def sink(self, path: Path, info: ImageInfo) -> Iterator[Callable[[Picture], None]]:
        """Open `path` for a picture in the colours of the camera, under the curve of sRGB."""
        layout = described(info.metadata)
        order, entries = layout.tags.order, {entry.code: entry for entry in layout.tags.entries}
        names = [entries[code].value.strip(b"\0 ") for code in (MAKE, MODEL) if code in entries]
        camera = b" ".join(names) + b"\0"
        matrix = np.rint(np.ravel(info.own["matrix"]) * 10_000).astype(int)
        neutral = np.rint(1_000_000 / info.own["balance"]).astype(int)
        for code, kind, count, value in (
            (VERSION, BYTE, 4, bytes([1, 4, 0, 0])),
            (BACKWARD_VERSION, BYTE, 4, bytes([1, 1, 0, 0])),
            (CAMERA, ASCII, len(camera), camera),
            (WHITE_LEVEL, SHORT, 3, struct.pack(f"{order}3H", *[65535] * 3)),
            (MATRIX, SRATIONAL, 9, struct.pack(f"{order}18i", *(n for m in matrix for n in (m, 10_000)))),
            (NEUTRAL, RATIONAL, 3, struct.pack(f"{order}6I", *(n for m in neutral for n in (m, 1_000_000)))),
            (ILLUMINANT, SHORT, 1, struct.pack(f"{order}H", D65)),
        ):
            entries[code] = Entry(code, kind, count, value)
        tags = replace(layout.tags, entries=tuple(entries.values()))
        layout = replace(layout, compression=1, predictor=False, tags=tags)
        with super().sink(path, replace(info, own={"layouts": (layout,)})) as write:
            yield lambda picture: write(_linear(picture, info.own["balance"]))
        with path.open("r+b") as file:  # tifffile lays out three samples for RGB alone
            file.seek(4)
            file.seek(struct.unpack(order + "I", file.read(4))[0])
            for _ in range(struct.unpack(order + "H", file.read(2))[0]):
                if struct.unpack(order + "H", file.read(12)[:2])[0] == PHOTOMETRIC:
                    file.seek(-4, 1)
                    file.write(struct.pack(order + "HH", LINEAR_RAW, 0))
                    break


def _linear(picture: Picture, balance: Doubles) -> Picture:
    """Undo the curve of sRGB (IEC 61966-2-1) and the white balance."""
    code = np.arange(65536) / 65535
    light = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    curves = np.rint(light * 65535 / balance[:, None]).astype(np.uint16)
    channels = np.moveaxis(picture.whole(), -1, 0)
    pixels = np.stack([curve[channel] for curve, channel in zip(curves, channels, strict=True)])
    page = Page(picture.height, picture.width, picture.channels, "uint16")
    return Picture(pixels, page, "uint16", picture.channels)


FORMAT = Dng()
