"""Small files whose headers, if trusted, would cost gigabytes or hours."""

import gzip
import io as bytes_io
import os
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import openpyxl
import pyarrow
import pyarrow.parquet
import pytest
import tifffile
from PIL import Image, ImageDraw

from denoise import io
from denoise.errors import InputError, TooLargeError, UnreadableError
from denoise.infer.file import clean_file
from denoise.io import limits
from denoise.options import CleanOptions


def refused(path: Path, kind: type[InputError], words: str) -> None:
    """Expect a refusal in one sentence, at once, and without memory."""
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(kind, match=words) as caught:
        io.read(path)
    taken_s, (_, peak) = time.process_time() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert path.name in str(caught.value)
    assert taken_s < 2
    assert peak < 32 << 20


def test_a_picture_of_a_gigabyte_in_a_kilobyte(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    header = 0x2F | (16383 - 1) << 8 | (16383 - 1) << 22
    path.write_bytes(b"RIFF" + struct.pack("<I", 1012) + b"WEBPVP8L" + struct.pack("<I", 1000))
    path.write_bytes(path.read_bytes() + header.to_bytes(5, "little") + bytes(995))
    refused(path, TooLargeError, "268 megapixels in 1020 bytes; refusing to decode")


def test_an_animation_of_a_thousand_megapixels_in_a_megabyte(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    Image.new("L", (3000, 3000)).save(path)
    data = path.read_bytes()
    start = 13 + 3 * 2 ** ((data[10] & 7) + 1)
    path.write_bytes(data[:start] + 150 * data[start:-1] + data[-1:])
    refused(path, TooLargeError, "claims 150 pages of 1350 megapixels")


@pytest.mark.parametrize("line", [b"\n", b"#\n"])
def test_lines_without_rows_take_linear_time(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"t,x\n" + b"".join(b"%d,1.5\n" % row for row in range(999)) + 2_000_000 * line)
    started = time.process_time()
    assert io.probe(path).shape == (1, 999)
    assert time.process_time() - started < 10


@pytest.mark.parametrize(
    ("cell", "merged", "words"),
    [("XFD1048576", "D1:E2", "cells up to the last one"), ("C4", "D1:XFD1048576", "merged cells")],
)
def test_a_sheet_of_billions_of_cells_in_a_kilobyte(
    tmp_path: Path, cell: str, merged: str, words: str
) -> None:
    path = tmp_path / "a.xlsx"
    book = openpyxl.Workbook()
    sheet: Any = book.active
    for row in range(9):
        sheet.append([row, row / 7])
    sheet[cell] = 1
    book.save(tmp_path / "plain.xlsx")
    with zipfile.ZipFile(tmp_path / "plain.xlsx") as plain, zipfile.ZipFile(path, "w") as archive:
        for name in plain.namelist():
            content = plain.read(name)
            area = f'</sheetData><mergeCells><mergeCell ref="{merged}"/></mergeCells>'.encode()
            archive.writestr(name, content.replace(b"</sheetData>", area))
    refused(path, TooLargeError, f"claims [0-9]+ {words} in [0-9]+ bytes; refusing to decode")


def test_a_picture_that_takes_gigabytes_to_clean_is_no_small_file(tmp_path: Path) -> None:
    """A PNG of 121 megapixels in 1 MB is refused; one that is packed as photos are may take the memory."""
    for size in (1_000_000, 20_000_000):
        chunks = ((b"IHDR", struct.pack(">IIBBBBB", 11000, 11000, 8, 2, 0, 0, 0)), (b"IDAT", bytes(size)))
        data = b"".join(
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
            for name, content in (*chunks, (b"IEND", b""))
        )
        (tmp_path / f"{size}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    refused(tmp_path / "1000000.png", TooLargeError, "121 megapixels in 1000057 bytes; .* less than 1210000")
    assert io.probe(tmp_path / "20000000.png").shape == (3, 11000, 11000)


def test_many_pages_that_are_each_believable(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for _ in range(20):
            shape = {"shape": (9000, 9000), "dtype": "uint8", "rowsperstrip": 9000}
            tif.write(iter([b"nothing"]), compression="zlib", **shape)
    assert path.stat().st_size < 6000
    refused(path, TooLargeError, "claims 20 pages of 1620 megapixels in")


def plan_of_a_house(width: int, height: int) -> Image.Image:
    """A drawing as a plotter makes it: thin lines on white paper."""
    image = Image.new("1", (width, height), 1)
    drawing, rng = ImageDraw.Draw(image), np.random.default_rng(0)
    for x, y, length in rng.integers(0, (width, height, 600), (width * height // 40_000, 3)).tolist():
        drawing.line((x, y, x + length, y), 0, 3)
        drawing.line((x, y, x, y + length), 0, 3)
    return image


@pytest.mark.parametrize("name", ["a.png", "gray.png", "a.tif"])
def test_a_large_drawing_is_no_bomb(tmp_path: Path, name: str) -> None:
    """A3 at 600 dpi: 70 megapixels in 0.2 to 0.8 MB are ordinary, and left as they are."""
    image, path = plan_of_a_house(9933, 7016), tmp_path / "in" / name
    path.parent.mkdir()
    options: dict[str, Any] = {"compression": "group4"} if name == "a.tif" else {}
    (image.convert("L") if name == "gray.png" else image).save(path, **options)
    assert path.stat().st_size < 9933 * 7016 / 80
    cleaned = clean_file(path, tmp_path / name)
    assert cleaned.model == "none"
    before, after = (io.read(each)[0] for each in (path, tmp_path / name))
    assert np.array_equal(before, after)


def test_a_scanned_book_is_no_bomb(tmp_path: Path) -> None:
    page = plan_of_a_house(4960, 7016)
    page.save(tmp_path / "a.tif", compression="group4", save_all=True, append_images=[page] * 39)
    assert (tmp_path / "a.tif").stat().st_size < 40 * 4960 * 7016 / 300
    assert io.probe(tmp_path / "a.tif").pages == 40


def test_what_is_no_drawing_needs_the_bytes_of_a_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cleaning takes more memory than leaving a drawing as it is."""
    monkeypatch.setattr(limits, "PICTURE_BYTES", 66 << 20)
    monkeypatch.setattr(limits, "MAX_PIXELS_PER_BYTE", 0.1)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (512, 512), np.uint8)).save(tmp_path / "a.png")
    plan_of_a_house(512, 512).save(tmp_path / "b.png")
    clean_file(tmp_path / "b.png", tmp_path / "c.png")
    for path, options in (("a.png", CleanOptions()), ("b.png", CleanOptions(model="median"))):
        with pytest.raises(TooLargeError, match=f"{path}: claims 512 x 512"):
            clean_file(tmp_path / path, tmp_path / "d.png", options=options)


def test_a_jpeg_of_thousands_of_scans(tmp_path: Path) -> None:
    made = bytes_io.BytesIO()
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(made, "JPEG", progressive=True)
    data = made.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    (tmp_path / "a.jpg").write_bytes(data[:-2] + last * 3000 + data[-2:])
    refused(tmp_path / "a.jpg", UnreadableError, "more than 500 scans")


def test_a_png_of_hundreds_of_packed_texts_is_read_quickly(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    text = b"iTXtXML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(50_000_000), 9)
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    data = path.read_bytes()
    path.write_bytes(data[:33] + chunk * 100 + data[33:])
    started = time.process_time()
    assert io.probe(path).shape == (1, 8, 8)
    assert time.process_time() - started < 2


def test_a_picture_of_thousands_of_comments(tmp_path: Path) -> None:
    for name, comment in (
        ("a.jpg", b"\xff\xfe\0\2"),
        ("a.png", b"\0\0\0\0tEXt" + struct.pack(">I", zlib.crc32(b"tEXt"))),
    ):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        start = 2 if name == "a.jpg" else 33
        (tmp_path / name).write_bytes(data[:start] + comment * 3000 + data[start:])
        refused(tmp_path / name, TooLargeError, "holds 2049 (segments|chunks); expected 2048")


@pytest.mark.parametrize("members", [1, 100])
def test_a_text_that_unpacks_to_a_thousandfold(tmp_path: Path, members: int) -> None:
    text = b"1.0,2.0\n" * (80_000_000 // 8 // members)
    packed = [gzip.compress(head + text, 1) for head in (b"t,x\n", b"")]
    (tmp_path / "a.csv.gz").write_bytes(packed[0] + packed[1] * (members - 1))
    started = time.process_time()
    with pytest.raises(TooLargeError, match=r"a.csv.gz: claims .* bytes of text in"):
        io.read(tmp_path / "a.csv.gz")
    assert members > 1 or time.process_time() - started < 2


def test_an_array_that_is_not_there(tmp_path: Path) -> None:
    made = bytes_io.BytesIO()
    np.save(made, np.zeros(9))
    lie = made.getvalue().replace(b"(9,), }        ", b"(900000000,), }")
    (tmp_path / "a.npy").write_bytes(lie)
    refused(tmp_path / "a.npy", UnreadableError, "cut short")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("x.npy", made.getvalue())
    data = bytearray((tmp_path / "b.npz").read_bytes())
    at = data.rindex(b"PK\1\2") + 24  # the size in the directory
    data[at : at + 4] = struct.pack("<I", 2**31)
    (tmp_path / "b.npz").write_bytes(data)
    refused(tmp_path / "b.npz", TooLargeError, "claims 2147483648 bytes of arrays in")


def test_a_table_of_one_value_a_million_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SMALL_BYTES", 100_000)
    monkeypatch.setattr(limits, "MAX_PACKING_RATIO", 20)
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"x": np.zeros(1_000_000)}), path)
    refused(path, TooLargeError, "1000000 rows of 1 columns in")


def test_more_parts_than_any_recording_has_are_refused_before_they_are_read(tmp_path: Path) -> None:
    made = bytes_io.BytesIO()
    np.save(made, np.arange(3.0))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for number in range(5000):
            archive.writestr(f"a{number}.npy", made.getvalue())
    refused(tmp_path / "a.npz", TooLargeError, "holds 5000 arrays; expected 2048")
    names = {f"c{number}": [1.5] for number in range(5000)}
    pyarrow.parquet.write_table(pyarrow.table(names), tmp_path / "a.parquet")
    refused(tmp_path / "a.parquet", TooLargeError, "holds 5000 columns; expected 2048")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["/".join("g" * 70)] = np.arange(9.0)
    refused(tmp_path / "a.h5", TooLargeError, "more than 64 deep")
    wide = ",".join(f"c{number}" for number in range(30_000))
    (tmp_path / "a.csv").write_text(wide + ("\n" + ",".join(["1.5"] * 30_000)) * 3 + "\n")
    refused(tmp_path / "a.csv", TooLargeError, "holds 30000 columns; expected 2048")
    head = b"0       " + b" " * 176 + b"256     " + b" " * 44 + b"1       1       9999"
    (tmp_path / "a.edf").write_bytes(head)
    refused(tmp_path / "a.edf", TooLargeError, "holds 9999 signals; expected 2048")


def test_a_small_file_of_gigabytes_is_refused_by_its_header(tmp_path: Path) -> None:
    text = pyarrow.array(["x" * 10_000_000] * 30)
    table = pyarrow.table({"a": np.arange(30.0), "b": text})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", compression="brotli", use_dictionary=False)
    assert (tmp_path / "a.parquet").stat().st_size < 20_000
    refused(tmp_path / "a.parquet", TooLargeError, "bytes of cells in")
    limits.require_plausible_size(2 << 30, 30 << 20, "2 GiB")
    limits.require_plausible_size(100 << 20, 10, "100 MiB")
    with pytest.raises(TooLargeError):  # a hundredfold is enough above 128 MiB
        limits.require_plausible_size(200 << 20, 1 << 20, "200 MiB")


# ---- the largest that is read ----------------------------------------------------------------------------

MAX_S, MAX_BYTES = 60, 1 << 30  # of the processor, to describe and to clean a file


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.edf", "a.tif", "a.npz", "a.parquet", "a.csv"])
def test_as_many_parts_as_are_read_take_less_than_a_minute_and_a_gibibyte(tmp_path: Path, name: str) -> None:
    """A file of as many parts as are allowed, or of 50,000 pages; the figures are printed (`-s`)."""
    path = tmp_path / name
    count = limits.MAX_PARTS
    rng = np.random.default_rng(0)
    if name == "a.tif":
        with tifffile.TiffWriter(path) as tif:
            for _ in range(50_000):
                tif.write(np.zeros((4, 4), np.uint8), contiguous=False, metadata=None)
    elif name == "a.npz":
        np.savez(path, **{f"a{number}": rng.standard_normal(100) for number in range(count)})
    elif name == "a.parquet":
        columns = {f"c{number}": rng.standard_normal(100) for number in range(count)}
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    elif name == "a.csv":
        rows = [
            [f"c{number}" for number in range(count)],
            *rng.standard_normal((600, count)).round(3).tolist(),
        ]
        path.write_text("\n".join(",".join(map(str, row)) for row in rows))
    else:
        fields = ((16, "EEG"), (80, ""), (8, "uV"), (8, "-100"), (8, "100"), (8, "-32768"), (8, "32767"))
        text = "".join(value.ljust(size) * count for size, value in (*fields, (80, ""), (8, "10"), (32, "")))
        head = "0".ljust(168) + "01.01.0101.01.01" + str(256 * (count + 1)).ljust(52) + "100".ljust(8)
        data = rng.integers(-3000, 3000, 100 * 10 * count).astype("<i2").tobytes()
        path.write_bytes((head + "1".ljust(8) + str(count).ljust(4) + text).encode() + data)
    script = f"""
import resource, sys
from click.testing import CliRunner
from pipelines.cli.group import cli
arguments = ["clean", {str(path)!r}, "-o", {str(tmp_path / "out")!r}, "--workers", "1", "-q"]
result = CliRunner().invoke(cli, arguments)
used = resource.getrusage(resource.RUSAGE_SELF)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # of no parent
print(result.exit_code, used.ru_utime + used.ru_stime, int(peak.split()[1]) * 1024, result.stderr)
"""
    # With threads of a busy machine, most time of the processor is spent on waiting for them.
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=alone
    )
    code, seconds, peak_bytes = run.stdout.split()[:3]
    print(f"{name}: exit code {code}, {float(seconds):.0f} s, {int(peak_bytes) / 1e6:.0f} MB")
    assert code == "0", run.stdout
    assert float(seconds) < MAX_S
    assert int(peak_bytes) < MAX_BYTES


def test_a_damaged_footer_does_not_end_the_process(tmp_path: Path) -> None:
    """Ask pyarrow for a column's details and it aborts where their statistics are damaged."""
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"time": np.arange(400) / 10, "x": np.sin(np.arange(400.0))})
    pyarrow.parquet.write_table(table, path)
    script = f"""
from pathlib import Path
from denoise import io
from denoise.errors import DenoiseError

path = Path({str(path)!r})
sound = path.read_bytes()
footer = int.from_bytes(sound[-8:-4], "little")
for place in range(len(sound) - 8 - footer, len(sound) - 8):
    damaged = bytearray(sound)
    damaged[place] ^= 1 << place % 8
    path.write_bytes(damaged)
    try:
        io.read(path)
    except DenoiseError as error:
        assert str(path) in str(error)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-500:]
