"""Table of formats, and recognition by bytes, never by names."""

import re
import sys
from pathlib import Path

import pytest

from denoise import io
from denoise.errors import InputError, UnreadableError, UnsupportedError
from denoise.io.formats import FORMATS, REFUSED, readable_suffixes, writable_suffixes
from denoise.io.sniff import format_of, sniff, written_name
from denoise.registry import resolve
from denoise.signal import MODALITIES

SOURCES = Path(io.__file__).parent


def test_the_table_is_consistent() -> None:
    for name, row in FORMATS.items():
        assert (row.name, row.writable) == (name, not row.written_suffix)
        assert row.modality in MODALITIES
        assert row.writable or row.written_suffix in writable_suffixes(row.modality)
        assert bool(row.extra) == bool(row.package)
        assert all(re.fullmatch(r"\.[a-z0-9]+", suffix) for suffix in row.suffixes)
        assert resolve(row.codec) is not None
        assert bool(row.containers) == (row.modality == "audio")
        assert row.magic or name in ("text", "WFDB")
    suffixes = {name: set(readable_suffixes(name)) for name in MODALITIES}
    assert sum(map(len, suffixes.values())) == len(set.union(*suffixes.values()))  # each names one modality


def table() -> str:
    """Make the table of docs/formats.md."""
    rows = [
        f"| {row.name} | {' '.join(f'`{suffix}`' for suffix in row.suffixes)} | "
        f"{f'`{row.written_suffix}`' if row.written_suffix else 'itself'} | "
        f"{f'the extra `{row.extra}`' if row.extra else ''} |"
        for row in FORMATS.values()
    ]
    return "\n".join(["| format | suffixes | written as | needs |", "|---|---|---|---|", *rows])


def test_the_document_lists_the_formats() -> None:
    assert table() in (Path(__file__).parents[2] / "docs" / "formats.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"BM,PAR1,ID3\n1,2,3\n", "text"),  # a table whose columns have unlucky names
        (b"ID3;FORM;RIFF\n", "text"),
        ("\ufeffzeit,größe\n".encode(), "text"),
        ("ü".encode() * 256 + b"\xc3", "text"),  # cut inside a letter
        (b"BM" + bytes(12) + b"\x28\0\0\0", "BMP"),
        (b"BM" + bytes(40), "unknown"),
        (b"PAR1\0\0", "Parquet"),
        (b"PK\3\4" + bytes(22) + b"\5\0\0\0a.npy", "NPZ"),
        (b"PK\3\4" + bytes(22) + b"\5\0\0\0a.xml", "ZIP"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "AVIF"),
        (b"\0\0\0\x18ftypcrx ", "camera raw"),
        (b"\0\0\0\x18ftypisom", "MP4"),
        (b"RIFF\0\0\0\0WEBP\0", "WebP"),
        (b"RIFF\0\0\0\0CDR9\0", "RIFF"),
        (b"FORM\0\0\0\0AIFC\0", "AIFF"),
        (b"\xff\xfb\x90\x64", "MP3"),
        (b"\xff\xfet\0,\0x\0", "unknown"),  # UTF-16, which looks like the start of an MPEG frame
        (b"OggS" + bytes(24) + b"OpusHead", "Opus"),
        (b"%PDF-1.7\n", "PDF"),
        (b"", "unknown"),
    ],
)
def test_kinds(head: bytes, name: str) -> None:
    assert format_of(head).name == name


def test_a_name_tells_raw_data_from_other_tiff_and_what_results_are_called(tmp_path: Path) -> None:
    for suffix in (".tif", ".DNG", ".png"):
        (tmp_path / f"a{suffix}").write_bytes(b"II*\0\x08\0\0\0")
    assert [sniff(tmp_path / name).name for name in ("a.tif", "a.DNG", "a.png")] == [
        "TIFF",
        "camera raw",
        "TIFF",
    ]
    assert [written_name(tmp_path / name) for name in ("a.tif", "a.DNG", "a.png")] == [
        "a.tif",
        "a.tif",
        "a.png",
    ]
    (tmp_path / "b.jpg").write_bytes(b"FUJIFILMCCD-RAW 0201\0")
    assert written_name(tmp_path / "b.jpg") == "b.tif"
    with pytest.raises(UnreadableError, match="missing"):
        sniff(tmp_path / "missing")


@pytest.mark.parametrize(
    ("name", "head", "package", "extra"),
    [
        ("a.heic", b"\0\0\0\x18ftypheic", "pillow_heif", "heif"),
        ("a.jxl", b"\xff\x0a", "pylibjxl", "jxl"),
        *(
            (f"a{suffix}", b"II*\0\x08\0\0\0", "rawpy", "raw")
            for suffix in FORMATS["camera raw"].suffixes[:2]
        ),
        ("a.raf", b"FUJIFILMCCD-RAW 0201", "rawpy", "raw"),
    ],
)
def test_without_its_extra_an_input_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, head: bytes, package: str, extra: str
) -> None:
    (tmp_path / name).write_bytes(head + bytes(40))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        UnsupportedError, match=re.escape(f"pip install 'denoise-pipelines[{extra}]'")
    ) as caught:
        io.probe(tmp_path / name)
    assert name in str(caught.value)


def test_known_formats_that_are_not_read_are_refused_with_a_step_that_helps(tmp_path: Path) -> None:
    for name, row in REFUSED.items():
        assert row.name == name
        assert row.advice
        assert row.modality in ("", *MODALITIES)
        assert not any(suffix in known.suffixes for known in FORMATS.values() for suffix in row.suffixes)
        for suffix in row.suffixes:
            (tmp_path / f"a{suffix}").write_bytes(b"\0\1\2" * 40)
            with pytest.raises(
                UnsupportedError,
                match=re.escape(f"a{suffix}: holds {name} data, which is not read; {row.advice}"),
            ):
                io.probe(tmp_path / f"a{suffix}")


def test_a_wrong_suffix_is_answered_by_the_likeliest_reasons(tmp_path: Path) -> None:
    (tmp_path / "a.jpgg").write_bytes(b"no format")
    with pytest.raises(UnsupportedError, match=r"slip for \.jpg\?.* convert it to PNG.* nothing to clean$"):
        io.probe(tmp_path / "a.jpgg")
    (tmp_path / "a").write_bytes(b"no format")
    with pytest.raises(UnsupportedError, match=r"suffix \(none\).* lost its ending\?"):
        io.probe(tmp_path / "a")


def test_a_size_is_not_believed_before_memory_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(
        b"\x93NUMPY\2\0\xff\xff\xff\xff" + b"{'descr': '<f8', 'fortran_order': False, 'shape': (9,)}"
    )
    with pytest.raises(InputError, match=r"a\.npy"):
        io.probe(path)


def test_pillow_is_never_asked_to_guess() -> None:
    for path in SOURCES.rglob("*.py"):
        assert "Image.open(" not in path.read_text("utf-8"), path
