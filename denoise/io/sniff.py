"""What a file is, from its first bytes: names lie.

Only kinds that are named here as `image`, `audio` or `sensor` are ever given to a decoder; the others are
known so that a refusal can say what was found.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from denoise.errors import UnreadableError

__all__ = ["HEAD_BYTES", "KINDS", "RAW_SUFFIXES", "TEXT", "Kind", "kind_of", "sniff", "written_name"]

HEAD_BYTES = 512  # that tell one kind from the others


@dataclass(frozen=True)
class Kind:
    """One kind of data.

    Args:
        name: What a sentence calls it.
        modality: The name in `denoise.signal.MODALITIES` whose codec takes it; empty for what is not handled.
        suffixes: That its files should have; the first is the one to recommend.
        written: The suffix of the format that results are written in, where its own is only read.
    """

    name: str
    modality: str = ""
    suffixes: tuple[str, ...] = ()
    written: str = ""


RAW_SUFFIXES = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw")
TEXT, UNKNOWN = Kind("text"), Kind("unknown")
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            Kind("PNG", "image", (".png",)),
            Kind("JPEG", "image", (".jpg", ".jpeg")),
            Kind("WebP", "image", (".webp",)),
            Kind("TIFF", "image", (".tif", ".tiff")),
            Kind("BMP", "image", (".bmp",)),
            Kind("HEIC", "image", (".heic", ".heif", ".hif"), written=".png"),
            Kind("camera raw", "image", RAW_SUFFIXES, written=".tif"),
            Kind("WAV", "audio", (".wav",)),
            Kind("RF64", "audio", (".rf64", ".wav")),
            Kind("AIFF", "audio", (".aiff", ".aif")),
            Kind("FLAC", "audio", (".flac",)),
            Kind("Ogg", "audio", (".ogg", ".oga")),
            Kind("Opus", "audio", (".opus", ".ogg", ".oga")),
            Kind("MP3", "audio", (".mp3",)),
            Kind("NPY", "sensor", (".npy",)),
            Kind("NPZ", "sensor", (".npz",)),
            Kind("Parquet", "sensor", (".parquet",)),
            Kind("WFDB", "sensor", (".hea",)),
            Kind("EDF", "sensor", (".edf",)),
            Kind("BDF", "sensor", (".bdf",)),
            Kind("MAT", "sensor", (".mat",)),
            Kind("HDF5", "sensor", (".h5", ".hdf5", ".mat")),
            TEXT,
            UNKNOWN,
        )
    }
)
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    *((magic, "TIFF") for magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    *((magic, "camera raw") for magic in (b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FUJIFILMCCD-RAW")),
    (b"GIF8", "GIF"),
    (b"8BPS", "Photoshop"),
    (b"SIMPLE  =", "FITS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"fLaC", "FLAC"),
    (b"\x93NUMPY", "NPY"),
    (b"PAR1", "Parquet"),
    (b"\xffBIOSEMI", "BDF"),
    (b"MATLAB 5.0 MAT-file", "MAT"),
    (b"MATLAB 7.3 MAT-file", "HDF5"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"\x1f\x8b", "gzip"),
    (b"\x7fELF", "program"),
)
_TEXT_MAGIC = ((b"%PDF", "PDF"), (b"%!PS", "PostScript"), (b"SIMPLE  =", "FITS"), (b"<svg", "SVG"))
_EDF = re.compile(rb"0 {7}.{176}[\d ]{8}.{44}[\d -]{8}[\d. ]{8}[\d ]{4}", re.DOTALL)  # Kemp et al., 1992
_FORMS = {  # the four letters at 8 of what starts with these at 0
    b"RIFF": {b"WEBP": "WebP", b"WAVE": "WAV", b"AVI ": "AVI"},
    b"RIFX": {b"WAVE": "WAV"},
    b"RF64": {b"WAVE": "RF64"},
    b"FORM": {b"AIFF": "AIFF", b"AIFC": "AIFF"},
}
_BRANDS = {  # of ISO media files (ISO/IEC 14496-12)
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    b"crx ": "camera raw",
    **dict.fromkeys((b"M4A ", b"M4B "), "M4A"),
}
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # sizes of the second header, bytes 14 to 17


def sniff(path: str | Path) -> Kind:
    """What the file is, whatever it is called; a name only tells camera raw data from other TIFF, and a
    WFDB header from other text.

    Raises:
        UnreadableError: It cannot be opened.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return kind_of(file.read(HEAD_BYTES), path.suffix)
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read: {error.strerror or error}") from error


def written_name(path: str | Path) -> str:
    """The name that the result of cleaning `path` should have: its own, unless its format is only read.

    Raises:
        UnreadableError: It cannot be opened.
    """
    path = Path(path)
    return path.with_suffix(sniff(path).written or path.suffix).name


def kind_of(head: bytes, suffix: str = "") -> Kind:
    """The kind of data that starts with `head` (`HEAD_BYTES` of it, or all there is) under such a name."""
    name = _name_of(head)
    if name == "TIFF" and suffix.lower() in RAW_SUFFIXES:  # most cameras keep their data in a TIFF
        name = "camera raw"
    if name == "text" and suffix.lower() == ".hea":  # no bytes tell it from other text
        name = "WFDB"
    return KINDS.get(name) or Kind(name)


def _name_of(head: bytes) -> str:
    if _EDF.match(head):
        return "EDF"
    if _is_text(head):  # before the others, whose letters may begin a table too: "BM,PAR1", "ID3;FORM"
        return next((name for magic, name in _TEXT_MAGIC if head.startswith(magic)), "text")
    if head[:4] in _FORMS:
        return _FORMS[head[:4]].get(head[8:12], head[:4].decode())
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "ISO media")
    if head[:4] == b"OggS":
        return "Opus" if b"OpusHead" in head[:64] else "Ogg"
    if head[:4] == b"PK\3\4":  # numpy puts arrays into a ZIP; others put documents there
        name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
        return "NPZ" if name.endswith(b".npy") else "ZIP"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if head[:3] == b"ID3" or _is_mpeg_frame(head):
        return "MP3"
    return next((name for magic, name in _MAGIC if head.startswith(magic)), "unknown")


def _is_mpeg_frame(head: bytes) -> bool:
    """Whether an MPEG audio frame of layer II or III starts here (ISO/IEC 11172-3, 2.4.2.3)."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    version, layer, bit_rate, rate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4, head[2] >> 2 & 3
    return version != 1 and layer in (1, 2) and bit_rate != 15 and rate != 3


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the head may end inside a character
    except UnicodeDecodeError:
        return False
    return bool(text) and all(letter.isprintable() or letter in "\ufeff\t\r\n\f" for letter in text)
