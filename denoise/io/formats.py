"""The table of file formats: one row each, which everything that names, recognises, or opens files reads.

To add a format, write its module and add its row. Importing the table loads no codec.
"""

from __future__ import annotations

import difflib
import importlib
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from denoise.errors import InputError, UnsupportedError, reason
from denoise.registry import Extensible, resolve
from denoise.signal import MODALITIES, Modality


@dataclass(frozen=True)
class Format:
    """One file format."""

    name: str  # the name in messages and reports
    modality: str = ""  # a name in `denoise.signal.MODALITIES`; empty for a kind of data that no codec takes
    suffixes: tuple[str, ...] = ()  # the suffixes of its files, lower case, the recommended one first
    codec: str = ""  # `"module:attribute"` of the object that reads and writes it
    # a regular expression for the first bytes; empty if no bytes distinguish it from other text
    magic: bytes = b""
    # the suffix of the format that results are written in, for a format that is only read
    written_suffix: str = ""
    bytes_per_sample: float = 2.0  # the usual bytes of a file for each pixel or sample, all channels together
    # libsndfile's names for the format, the first is written unless the source has another; or FFmpeg's name
    containers: tuple[str, ...] = ()
    # suffixes that files of many kinds have, which are of this format if their first bytes are
    loose_suffixes: tuple[str, ...] = ()
    extra: str = ""  # the optional dependency group of this project that it needs
    package: str = ""  # the module of that group that it imports
    advice: str = ""  # what to do with a file of a known format that is not read
    parts: str = ""  # the function of `record_parts` of a format whose records are several files

    @property
    def writable(self) -> bool:
        """True if results are written in this format."""
        return not self.written_suffix


_AUDIO = "denoise.io.audio.codec:CODEC"
_MEDIA = "denoise.io.media.codec:CODEC"
_MPEG_FRAME = (  # the header of an MPEG audio frame of layer II or III (ISO/IEC 11172-3, 2.4.2.3)
    rb"\xff[\xe2-\xe5\xf2-\xf5\xfa-\xfd][%b]." % b"".join(b"\\x%x0-\\x%xb" % (n, n) for n in range(15))
)
_MP3_IN_WAV = rb".{0,200}?fmt .{4}\x55\0"  # the format chunk, which names the codec
_OGG_MEDIA = rb".{0,200}?(?:\x7fFLAC|\x80theora|Speex)"
_NOT = rb"(?!%b)"
_WAV = rb"RIF[FX].{4}WAVE" + _NOT % _MP3_IN_WAV
_RAW_SUFFIXES = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw")


def _media(
    name: str, demuxer: str, suffixes: str, magic: bytes, size: float = 0.35, *, written: str = ""
) -> Format:
    """Row of a container that FFmpeg reads, with the usual bytes for each sample, picture included."""
    return Format(
        name,
        "audio",
        tuple(suffixes.split()),
        _MEDIA,
        magic,
        written,
        size,
        containers=(demuxer,),
        extra="media",
        package="av",
    )


# fmt: off
_ROWS = (
    Format("PNG", "image", (".png",), "denoise.io.image.png:FORMAT", rb"\x89PNG\r\n\x1a\n"),
    Format("JPEG", "image", (".jpg", ".jpeg"), "denoise.io.image.jpeg:FORMAT", rb"\xff\xd8\xff",
           bytes_per_sample=0.4),
    Format("WebP", "image", (".webp",), "denoise.io.image.webp:FORMAT", rb"RIFF.{4}WEBP",
           bytes_per_sample=0.3),
    Format("GIF", "image", (".gif",), "denoise.io.image.gif:FORMAT", rb"GIF8", written_suffix=".webp",
           bytes_per_sample=0.5),
    Format("TIFF", "image", (".tif", ".tiff"), "denoise.io.image.tiff:FORMAT", rb"II[*+]\0|MM\0[*+]",
           bytes_per_sample=3.0),
    Format("BMP", "image", (".bmp",), "denoise.io.image.bmp:FORMAT",  # bytes 14 to 17: a known header size
           rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0", bytes_per_sample=3.0),
    Format("AVIF", "image", (".avif",), "denoise.io.image.avif:FORMAT",
           rb".{4}ftyp(?:avi[fs]|m[is]f1.{4}(?:.{4}){,8}avif)", bytes_per_sample=0.2),
    Format("JPEG XL", "image", (".jxl",), "denoise.io.image.jxl:FORMAT", rb"\0\0\0\x0cJXL |\xff\x0a",
           bytes_per_sample=0.3, extra="jxl", package="pylibjxl"),
    Format("HEIC", "image", (".heic", ".heif", ".hif"), "denoise.io.image.heif:FORMAT",
           rb".{4}ftyp(?:hei[cxms]|hev[cx]|mif1|msf1)", bytes_per_sample=0.25,
           extra="heif", package="pillow_heif"),
    Format("camera raw", "image", _RAW_SUFFIXES, "denoise.io.image.raw:FORMAT",
           rb"II(?:RO|RS|U\0)|MMOR|FUJIFILMCCD-RAW|.{4}ftypcrx ", written_suffix=".tif",
           extra="raw", package="rawpy"),
    Format("WAV", "audio", (".wav",), _AUDIO, _WAV, containers=("WAV", "WAVEX")),
    Format("RF64", "audio", (".rf64", ".wav"), _AUDIO, rb"RF64.{4}WAVE", containers=("RF64",)),
    Format("FLAC", "audio", (".flac",), _AUDIO, rb"fLaC", bytes_per_sample=1.2, containers=("FLAC",)),
    Format("Opus", "audio", (".opus", ".ogg", ".oga"), _AUDIO, rb"OggS.{0,52}OpusHead", bytes_per_sample=0.25,
           containers=("OGG",)),
    Format("Ogg", "audio", (".ogg", ".oga"), _AUDIO, rb"OggS" + _NOT % _OGG_MEDIA,
           bytes_per_sample=0.3, containers=("OGG",)),
    Format("MP3", "audio", (".mp3",), _AUDIO, rb"ID3|" + _MPEG_FRAME, bytes_per_sample=0.35,
           containers=("MP3",)),
    Format("AIFF", "audio", (".aiff", ".aif"), _AUDIO, rb"FORM.{4}AIF[FC]", containers=("AIFF",)),
    _media("M4A", "mov", ".m4a .m4b", rb".{4}ftypM4[AB] "),
    _media("MP4", "mov", ".mp4 .mov .m4v .3gp .3g2 .qt .m4a",
           rb".{4}(?:ftyp|moov|mdat|wide|free|skip|pnot)", 20.0),
    _media("Matroska", "matroska", ".mkv .webm .mka", rb"\x1aE\xdf\xa3", 20.0),
    _media("AAC", "aac", ".aac", rb"\xff[\xf0\xf1\xf8\xf9]"),
    _media("ASF", "asf", ".wma .wmv .asf", rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", 2.0),
    _media("AVI", "avi", ".avi", rb"RIFF.{4}AVI ", 20.0),
    _media("MPEG-TS", "mpegts", ".mts .m2ts",
           rb"\x47.{187}\x47.{187}\x47|.{4}\x47.{191}\x47.{191}\x47", 20.0),
    _media("MPEG-PS", "mpeg", ".mpg .mpeg .vob", rb"\0\0\x01\xba", 20.0),
    _media("FLV", "flv", ".flv", rb"FLV\x01", 20.0),
    _media("Ogg media", "ogg", ".ogv .oga", rb"OggS" + _OGG_MEDIA, 2.0),
    _media("MP3 in WAV", "wav", ".wav", rb"RIFF.{4}WAVE" + _MP3_IN_WAV),
    _media("CAF", "caf", ".caf", rb"caff", 2.0),
    _media("AU", "au", ".au", rb"\.snd", 2.0),
    _media("W64", "w64", ".w64", rb"riff\x2e\x91\xcf\x11", 2.0),
    _media("WavPack", "wv", ".wv", rb"wvpk", 1.2),
    _media("TTA", "tta", ".tta", rb"TTA1", 1.2),
    _media("AC-3", "ac3", ".ac3", rb"\x0b\x77"),
    _media("AMR", "amr", ".amr", rb"#!AMR\n", 0.2),
    _media("AMR-WB", "amr", ".awb", rb"#!AMR-WB\n", 0.2, written=".flac"),
    _media("Monkey's Audio", "ape", ".ape", rb"MAC ", 1.2, written=".flac"),
    _media("DTS", "dts", ".dts", rb"\x7f\xfe\x80\x01", written=".flac"),
    Format("text", "sensor", (".csv", ".tsv"), "denoise.io.sensor.csv:FORMAT", bytes_per_sample=8.0,
           loose_suffixes=(".txt", ".dat", ".log", ".asc", ".lvm", ".tab", ".prn", ".gz")),
    Format("NPY", "sensor", (".npy",), "denoise.io.sensor.npy:FORMAT", rb"\x93NUMPY", bytes_per_sample=8.0),
    Format("NPZ", "sensor", (".npz",), "denoise.io.sensor.npz:FORMAT", rb"PK\x03\x04", bytes_per_sample=8.0),
    Format("Parquet", "sensor", (".parquet",), "denoise.io.sensor.parquet:FORMAT", rb"PAR1",
           bytes_per_sample=5.0, extra="parquet", package="pyarrow"),
    Format("WFDB", "sensor", (".hea",), "denoise.io.sensor.wfdb:FORMAT",
           parts="denoise.io.sensor.wfdb:parts"),
    Format("EDF", "sensor", (".edf",), "denoise.io.sensor.edf:FORMAT",  # Kemp et al., 1992
           rb"0 {7}.{176}[\d ]{8}.{44}[\d -]{8}[\d. ]{8}[\d ]{4}"),
    Format("BDF", "sensor", (".bdf",), "denoise.io.sensor.edf:FORMAT", rb"\xffBIOSEMI"),
    Format("MAT", "sensor", (".mat",), "denoise.io.sensor.mat:FORMAT", rb"MATLAB 5\.0 MAT-file"),
    Format("HDF5", "sensor", (".h5", ".hdf5", ".mat"), "denoise.io.sensor.hdf5:FORMAT",
           rb"\x89HDF\r\n\x1a\n|MATLAB 7\.3 MAT-file", extra="hdf5", package="h5py"),
    Format("XLSX", "sensor", (".xlsx", ".xlsm"), "denoise.io.sensor.xlsx:FORMAT", rb"PK\x03\x04",
           bytes_per_sample=12.0, extra="xlsx", package="openpyxl"),
    Format("TDMS", "sensor", (".tdms",), "denoise.io.sensor.tdms:FORMAT", rb"TDSm", bytes_per_sample=8.0,
           extra="tdms", package="nptdms"),
    Format("miniSEED", "sensor", (".mseed", ".miniseed"), "denoise.io.sensor.mseed:FORMAT",
           rb"\d{6}[DRQM][ \0]|MS\x03", extra="mseed", package="pymseed"),
    Format("FIF", "sensor", (".fif",), "denoise.io.sensor.fif:FORMAT",  # the tag of a file's id
           rb"\0{3}\x64\0{3}\x1f\0{3}\x14", bytes_per_sample=4.0, extra="fif", package="mne"),
    Format("FIT", "sensor", (".fit",), "denoise.io.sensor.fit:FORMAT", rb"[\x0c\x0e].{7}\.FIT",
           written_suffix=".csv", extra="fit", package="fitdecode"),
)
# fmt: on
# Known formats that are not read. Files with a modality count as failed, others as ignored. The first bytes
# decide, or the suffix where a format has no bytes of its own.
_CONVERT_IMAGE, _CONVERT_SOUND = "save it as PNG or TIFF", "convert it to WAV or FLAC"
_REFUSED_ROWS = (
    Format("Photoshop", "image", (".psd", ".psb"), magic=rb"8BPS", advice=_CONVERT_IMAGE),
    Format(
        "JPEG 2000",
        "image",
        (".jp2", ".j2k"),
        magic=rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
        advice=_CONVERT_IMAGE,
    ),
    Format("DSD", "audio", (".dsf", ".dff"), magic=rb"DSD |FRM8", advice=_CONVERT_SOUND),
    Format("BrainVision", "sensor", (".vhdr",), advice="export it as EDF with MNE-Python"),
    Format("spreadsheet", "", (".xls", ".ods"), advice="save the sheet as CSV (UTF-8)"),
    Format("SAC", "", (".sac",), advice="export it as miniSEED or CSV with ObsPy"),
    Format("EEGLAB", "", (".set",), advice="export it as EDF with MNE-Python"),
)


def _add(rows: dict[str, Format], name: str, target: str) -> None:
    """Add the row that an entry point names; a package that cannot be imported must not stop the others."""
    try:
        row = resolve(target)
    except Exception as error:
        warnings.warn(f"the format {name} of {target} cannot be loaded: {reason(error)}", stacklevel=1)
    else:
        rows[row.name] = row


FORMATS: Mapping[str, Format] = Extensible({row.name: row for row in _ROWS}, "denoise.formats", _add)
REFUSED: Mapping[str, Format] = {row.name: row for row in _REFUSED_ROWS}


def readable_suffixes(modality: str) -> tuple[str, ...]:
    """Suffixes of the files that a modality is read from, writable formats first."""
    rows = [row for row in FORMATS.values() if row.modality == modality]
    found = [suffix for row in sorted(rows, key=lambda row: not row.writable) for suffix in row.suffixes]
    return tuple(dict.fromkeys(found))


def writable_suffixes(modality: str) -> tuple[str, ...]:
    """Suffixes of the files that a modality is written to."""
    rows = [row for row in FORMATS.values() if row.modality == modality and row.writable]
    return tuple(dict.fromkeys(suffix for row in rows for suffix in row.suffixes))


def format_of_suffix(suffix: str) -> Format | None:
    """The first format whose files have this suffix, preferring the one that recommends it."""
    rows = [row for row in FORMATS.values() if suffix.lower() in row.suffixes]
    return min(rows, key=lambda row: row.suffixes.index(suffix.lower()), default=None)


def record_parts(source: Path, result: Path) -> Mapping[Path, Path]:
    """Other files of a record, each with the file that belongs to a result instead; none if it is unreadable.

    Args:
        source: The file that stands for the record.
        result: What is written in its place.
    """
    row = format_of_suffix(source.suffix)
    parts: dict[Path, Path] = {}
    if row and row.parts:
        with suppress(InputError, OSError):  # reading the record reports the reason
            parts |= resolve(row.parts)(source, result)
    return parts


def modality_of(path: Path, written: str = "") -> Modality:
    """The modality that a file's suffix names.

    Args:
        written: The kind of data that is to be written; empty for a file to read.

    Raises:
        UnsupportedError: No format has this suffix.
    """
    found = format_of_suffix(path.suffix)
    if found is None:
        if row := refused_suffix(path.suffix):
            raise refusal(path, row)
        if path.suffix.lower() in FORMATS["text"].loose_suffixes:
            raise UnsupportedError(f"{path}: holds no table of numbers; expected rows of numbers in text")
        raise unknown_suffix(path, written)
    return MODALITIES[found.modality]


def refused_suffix(suffix: str) -> Format | None:
    """The known format that is not read and has this suffix."""
    return next((row for row in REFUSED.values() if suffix.lower() in row.suffixes), None)


def refusal(path: Path, row: Format) -> UnsupportedError:
    """Make the error about a file of a known format that is not read."""
    return UnsupportedError(f"{path}: holds {row.name} data, which is not read; {row.advice}")


def unknown_suffix(path: Path, modality: str = "") -> UnsupportedError:
    """Make the error about a suffix of no format, with the likeliest reasons and what to do about each.

    Args:
        modality: The kind of data that is to be written; empty for a file to read.
    """
    suffix = path.suffix.lower()
    names = [modality] if modality else list(MODALITIES)
    known = [
        found for name in names for found in (writable_suffixes if modality else readable_suffixes)(name)
    ]
    meant = difflib.get_close_matches(suffix, known, 1) if suffix else ()
    start = (
        f"{path}: the suffix {suffix or '(none)'} names no format that is {'written' if modality else 'read'}"
    )
    if modality:
        usual = {"image": ".png", "audio": ".wav", "sensor": ".csv"}[modality]
        return UnsupportedError(
            f"{start}: a slip (write {meant[0] if meant else usual}), a name with a dot (write "
            f"{path.name}{usual}), or a folder that is not there (make it first)?"
        )
    typing = f"is it a slip for {meant[0]}" if meant else "has the name lost its ending"
    return UnsupportedError(
        f"{start}; {typing}? If it holds an image, a recording or a log, convert it to PNG, WAV or CSV; "
        "if not, there is nothing to clean"
    )


def optional_package(name: str, where: str = "") -> Any:
    """Import the package that a format needs beyond the required dependencies.

    Args:
        where: The start of the sentence, if its caller does not put the file's name there.

    Raises:
        UnsupportedError: It is not installed; the message has the command that installs it.
    """
    row = FORMATS[name]
    try:
        return importlib.import_module(row.package)
    except ImportError as error:
        raise UnsupportedError(
            f"{where}is {name} data, which needs {row.package}; "
            f"install the extra: pip install 'denoise-pipelines[{row.extra}]'"
        ) from error
