"""Sensor logs: all other bytes kept, and cleaned values with enough digits."""

import contextlib
import gzip
import io
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import denoise
from denoise.errors import (
    DenoiseError,
    InputError,
    OutputError,
    UnreadableError,
    UnsupportedError,
    UsageError,
)
from denoise.io.sensor import csv as sensor_csv
from denoise.io.sensor import rows as sensor_text
from denoise.io.sensor.codec import CODEC
from denoise.io.sensor.columns import find_clock
from denoise.io.sensor.numerals import NumberForm
from denoise.io.sensor.survey import ColumnSurvey
from denoise.signal import SignalInfo

Array = NDArray[Any]

# One table, written as loggers write it.
X = [0.51, -1.25, None, 3.75, 2.0, 1.11]
Y = [10.5, 11.25, 12.125, 13.0, 9.5, 8.25]


def _rows(form: str, gap: str = "", time: str = "0.0{}", end: str = "\n") -> str:
    cells = [("" if x is None else f"{x:.2f}", str(y)) for x, y in zip(X, Y, strict=True)]
    return "".join(form.format(t=time.format(i), x=x or gap, y=y) + end for i, (x, y) in enumerate(cells))


DIALECTS: dict[str, str] = {
    "comma": "time,x,y\n" + _rows("{t},{x},{y}"),
    "semicolon, decimal comma, CRLF": "time;x;y\r\n" + _rows("{t};{x};{y}", end="\r\n").replace(".", ","),
    "tab, BOM, comments, units": "\xef\xbb\xbf# made by a logger\ntime\tx\ty\ns\tmV\tmV\n"
    + _rows("{t}\t{x}\t{y}", "NaN").replace("0.03", "# paused\n\n0.03")
    + "# end\n",
    "pipe, no last line end": ("time|x|y\n" + _rows("{t}|{x}|{y}", "NA")).rstrip("\n"),
    "aligned blanks": "  time      x       y\n" + _rows("  {t}  {x:>6}  {y:>6} ", "nan"),
    "quoted numbers": '"time","x","y"\n' + _rows('"{t}","{x}","{y}"', "null"),
    "quoted text, cells with line ends": "time,note,x,y\n"
    + _rows('{t},"a, b",{x},{y}', "-")
    .replace('0.03,"a, b"', '0.03,"two\nlines, ""so"""')
    .replace('"a, b"', '5"', 1),
    "comma, quoted decimal comma": "time,x,y\n" + _rows('"{t}","{x}","{y}"', "-").replace(".", ","),
    "blanks after commas, title rows": "Device: XY-1\nSerial, 0815\n\ntime, x, y\n"
    + _rows("{t}, {x}, {y}", " "),
    "trailing commas": "time,x,y\n" + _rows("{t},{x},{y},"),
    "CR only": "time,x,y\r" + _rows("{t},{x},{y}", end="\r"),
    "savetxt": "# time x y\n" + _rows("{t} {x}e+00 {y}e+00", "nan").replace("nane+00", "nan"),
    "ISO times, Latin-1 text": "time,Gerät,x,y\n" + _rows("{t},ä,{x},{y}", time="2024-05-01 10:00:00.0{}"),
    "times of day, other quotes": "'time','x','y'\n'hh:mm:ss.mmm','mV','mV'\n"
    + _rows("{t},{x},{y}", "-", "0:00:00.0{}"),
}


def _save(folder: Path, content: bytes | str, name: str = "log.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _read(path: Path, **options: Any) -> tuple[Array, SignalInfo]:
    with CODEC.reader(path, **options) as source:
        return np.concatenate(list(source), axis=1), source.info


def _round_trip(
    path: Path, change: Callable[[Array], Array] = lambda x: x, block: int = 65536, **options: Any
) -> Path:
    """Read blocks, change them, write them beside the source."""
    target = path.with_name(f"out{path.suffix}")
    with CODEC.reader(path, block=block, **options) as source, CODEC.writer(target, source.info) as sink:
        for values in source:
            sink.write(change(values))
    return target


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return _save(tmp_path, DIALECTS[request.param].encode("latin-1"))


def test_every_dialect_gives_the_same_numbers(dialect: Path) -> None:
    values, info = _read(dialect)
    expected = np.array([X, Y], dtype=float)
    np.testing.assert_array_equal(values, expected)
    assert info.columns == ("x", "y")
    assert info.shape == values.shape
    assert values.dtype == np.float64 == np.dtype(info.dtype)
    assert info.peak is None


def test_every_dialect_tells_its_rate(dialect: Path) -> None:
    info = CODEC.probe(dialect)
    assert info.sample_rate == pytest.approx(100.0)
    assert info.time_column == "time"
    assert any("'time'" in note and "100 Hz" in note for note in info.notes)


@pytest.mark.parametrize("block", [1, 2, 4, 6, 1000])
def test_unchanged_blocks_give_the_same_bytes(dialect: Path, block: int) -> None:
    assert _round_trip(dialect, block=block).read_bytes() == dialect.read_bytes()


@pytest.mark.parametrize("block", [1, 4, 1000])
def test_changed_cells_read_back_and_nothing_else_moves(dialect: Path, block: int) -> None:
    def change(values: Array) -> Array:
        out = values.copy()
        out[1] += 0.123
        return out

    target = _round_trip(dialect, change, block=block)
    old, new = _read(dialect)[0], _read(target)[0]
    np.testing.assert_allclose(new[1], old[1] + 0.123, atol=5e-5 * 12.4)
    np.testing.assert_array_equal(new[0], old[0])
    for mark in (b"\r", b"\n", b'"', b"#", b",", b";"):
        assert target.read_bytes().count(mark) == dialect.read_bytes().count(mark)
    assert target.read_bytes()[:3] == dialect.read_bytes()[:3]


def test_a_log_with_everything_at_once_is_cleaned_and_nothing_else_moves(tmp_path: Path) -> None:
    """BOM, comments, CRLF, decimal comma, quoted text with delimiters and line ends, flags, gaps, jitter."""
    rng = np.random.default_rng(0)
    stamps = np.cumsum(rng.uniform(0.005, 0.015, 3000))
    wave = 20 + np.sin(np.arange(3000) / 30)
    noisy = wave + rng.normal(0, 0.2, 3000)
    gone = (np.arange(3000) % 700 > 690) | (rng.random(3000) < 0.01)
    lines = [
        '{};"Ort ""Süd"";{}";{};{};{}'.format(
            f"{t:.4f}".replace(".", ","),
            "a\r\nb" if i % 500 == 0 else i,
            "" if gone[i] else f"{x:.3f}".replace(".", ","),
            i % 2,
            f"{w:.2f}".replace(".", ","),
        )
        for i, (t, x, w) in enumerate(zip(stamps, noisy, wave, strict=True))
    ]
    lines.insert(1500, "# Batterie gewechselt")
    text = "\ufeff# Logger 7\r\ntime_s;ort;temp;tür;soll\r\n" + "\r\n".join(lines) + "\r\n"
    (tmp_path / "a.csv").write_bytes(text.encode())
    report = denoise.clean_file(tmp_path / "a.csv", tmp_path / "b.csv", "sensor", exclude=("soll",))
    before, after = (path.read_bytes().split(b";") for path in (tmp_path / "a.csv", tmp_path / "b.csv"))
    assert len(before) == len(after)
    moved = [(x, y) for x, y in zip(before, after, strict=True) if x != y]
    assert all(cell.count(b",") == 1 and b"\n" not in cell for pair in moved for cell in pair)
    assert len(moved) > 0.9 * (~gone).sum()
    assert report.notes  # of the clock that jitters
    cleaned = _read(tmp_path / "b.csv", columns=("temp",))[0][0]
    np.testing.assert_array_equal(np.isnan(cleaned), gone)
    assert np.nanstd(cleaned - wave) < 0.4 * np.nanstd(noisy - wave)


def test_text_cells_are_written_in_the_style_of_their_column(tmp_path: Path) -> None:
    path = _save(
        tmp_path,
        "t;fixed;whole;exponent;signed;quoted;text\n"
        '0,0; 1,50 ;7;1,5E-03;+1,0;"2,25";a\n'
        '0,1; 1,75 ;9;2,5E-03;-2,0;"2,50";b\n'
        '0,2; 1,25 ;4;-3,0E-03;+3,0;"2,75";c\n',
    )
    target = _round_trip(path, lambda values: values + 1e-3)
    assert target.read_text().splitlines()[1:] == [
        '0,0; 1,5010 ;7;2,500E-03;+1,001;"2,2510";a',
        '0,1; 1,7510 ;9;3,500E-03;-1,999;"2,5010";b',
        '0,2; 1,2510 ;4;-2,000E-03;+3,001;"2,7510";c',
    ]  # 7 + 0.001 still shows 7.00 at two decimals, so the cell keeps its text


def test_whole_numbers_get_two_decimals_and_a_note(tmp_path: Path) -> None:
    path = _save(tmp_path, "adc\n512\n514\n511\n517\n")
    target = _round_trip(path, lambda values: values + 0.256)
    assert target.read_text() == "adc\n512.26\n514.26\n511.26\n517.26\n"
    assert any("adc" in note and "decimals" in note for note in CODEC.probe(path).notes)


def test_shortest_text_in_columns_of_mixed_forms(tmp_path: Path) -> None:
    path = _save(tmp_path, "x,y\n0.001,1\n1e-05,2\n2.5,4\n")
    target = _round_trip(path, lambda values: values * 1.1, columns=("x",))
    np.testing.assert_array_equal(_read(target, columns=("x",))[0], _read(path, columns=("x",))[0] * 1.1)


def test_rounding_stays_far_below_the_noise(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    path = _save(tmp_path, "x\n" + "".join(f"{value:.2f}\n" for value in rng.normal(size=2000)))
    cleaned = _read(path)[0] * 0.9 + 0.001234
    target = _round_trip(path, lambda values: values * 0.9 + 0.001234)
    step = 0.01 / np.sqrt(12)  # the quantisation noise that the file came with
    assert np.sqrt(np.mean((_read(target)[0] - cleaned) ** 2)) < step / 50


@pytest.mark.parametrize("gap", ["", "NaN", "nan", "NA", "null", "-", "N/A", "NULL", " ", "#N/A"])
def test_gaps_are_nan_and_come_back_as_their_own_text(tmp_path: Path, gap: str) -> None:
    path = _save(tmp_path, f"t,x\n0.5,1.5\n0.6,{gap}\n0.7,2.5\n0.8,3.5\n")
    values, _ = _read(path)
    np.testing.assert_array_equal(np.isnan(values), [[False, True, False, False]])
    target = _round_trip(path, lambda values: values * 2)
    assert target.read_text() == f"t,x\n0.5,3.000\n0.6,{gap}\n0.7,5.000\n0.8,7.000\n"


def test_a_new_gap_takes_the_word_of_the_column_and_a_filled_one_a_number(tmp_path: Path) -> None:
    path = _save(tmp_path, "t,x,y\n0.5,1.5,1.5\n0.6,NA,2.5\n0.7,2.5,3.5\n")

    new = np.array([[np.nan, 2.25, 2.5], [1.5, 2.5, np.nan]])
    target = _round_trip(path, lambda values: np.where(values == new, values, new))
    assert target.read_text() == "t,x,y\n0.5,NA,1.5\n0.6,2.250,2.5\n0.7,2.5,\n"


TABLE = (
    "sample,time,ax,ay,flag,label,state\n"
    "0,0.0,0.1,9.8,0,3,on\n1,0.1,0.2,9.7,1,3,on\n2,0.2,0.4,9.9,0,4,off\n3,0.3,0.1,9.6,0,4,off\n4,0.4,0.3,9.5,1,5,on\n"
)


def test_counters_flags_labels_times_and_texts_are_left_alone(tmp_path: Path) -> None:
    info = CODEC.probe(_save(tmp_path, TABLE))
    assert info.columns == ("ax", "ay")
    assert info.names == ("sample", "time", "ax", "ay", "flag", "label", "state")
    assert info.sample_rate == pytest.approx(10.0)
    note = next(note for note in info.notes if note.startswith("left as they are"))
    assert "sample (counter)" in note
    assert "flag (flag)" in note


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (("ay",), ("ay",)),
        (("ay", "ax"), ("ax", "ay")),
        (("a?",), ("ax", "ay")),
        (("flag",), ("flag",)),
        (["a*", "label"], ("ax", "ay", "label")),
    ],
)
def test_columns_are_chosen_by_name_or_glob(tmp_path: Path, wanted: Any, expected: tuple[str, ...]) -> None:
    path = _save(tmp_path, TABLE)
    assert CODEC.probe(path, columns=wanted).columns == expected
    target = _round_trip(path, lambda values: values + 1, columns=wanted)
    names = TABLE.splitlines()[0].split(",")
    for before, after in zip(TABLE.splitlines()[1:], target.read_text().splitlines()[1:], strict=True):
        for name, old, new in zip(names, before.split(","), after.split(","), strict=True):
            assert (old == new) == (name not in expected)


def test_a_table_without_header_names_columns_by_position(tmp_path: Path) -> None:
    path = _save(tmp_path, "0.0,1.5,2.5\n0.1,1.7,2.9\n0.2,1.1,2.2\n0.3,1.4,2.0\n0.4,1.0,2.7\n")
    info = CODEC.probe(path)
    assert info.columns == ("2", "3")
    assert info.sample_rate == pytest.approx(10.0)
    assert CODEC.probe(path, columns=("3",)).shape == (1, 5)


def test_a_constant_log_is_read_and_given_back(tmp_path: Path) -> None:
    path = _save(tmp_path, "t,x\n" + "".join(f"{i / 10},0\n" for i in range(20)))
    values, _ = _read(path)
    assert values.shape == (1, 20)
    assert _round_trip(path).read_bytes() == path.read_bytes()


def test_the_header_of_pandas_and_of_r(tmp_path: Path) -> None:
    pandas = CODEC.probe(_save(tmp_path, ",0,1\n0,0.5,1.25\n1,0.7,1.5\n2,0.1,1.75\n3,0.2,1.0\n", "p.csv"))
    assert pandas.shape == (2, 4)
    r = CODEC.probe(
        _save(tmp_path, '"x" "y"\n"1" 0.5 1.25\n"2" 0.7 1.5\n"3" 0.1 1.75\n"4" 0.2 1.0\n', "r.csv")
    )
    assert r.columns == ("x", "y")
    assert r.shape == (2, 4)


def test_names_are_utf_8_or_else_latin_1_with_a_note(tmp_path: Path) -> None:
    text = "Zeit (s);Strömung (m³/h)\n0,0;1,5\n0,5;1,7\n1,0;1,1\n1,5;1,3\n"
    utf8, latin = _save(tmp_path, text.encode(), "u.csv"), _save(tmp_path, text.encode("latin-1"), "l.csv")
    for path in (utf8, latin):
        info = CODEC.probe(path)
        assert info.columns == ("Strömung (m³/h)",)
        assert info.sample_rate == pytest.approx(2.0)
    assert any("Latin-1" in note for note in CODEC.probe(latin).notes)
    assert not any("Latin-1" in note for note in CODEC.probe(utf8).notes)


def test_thousands_are_not_taken_for_decimals(tmp_path: Path) -> None:
    path = _save(tmp_path, 'x,total\n1.5,"1,500"\n1.7,"12,501"\n1.1,"1,234,567"\n')
    values, _ = _read(path, columns=("total",))
    np.testing.assert_array_equal(values, [[1500, 12501, 1234567]])
    target = _round_trip(path, lambda block: block + 1.5, columns=("total",))
    assert target.read_text() == 'x,total\n1.5,"1,501.50"\n1.7,"12,502.50"\n1.1,"1,234,568.50"\n'


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("0.5;", "0.6;", "row 1, column 1"),
        ("\n0.8;2,0", "", "fewer rows"),
        (";1,5", ";1,5;4", "has 3 cells"),
    ],
)
def test_a_text_that_does_not_read_back_as_its_source_gets_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, words: str
) -> None:
    """A fault of the writer, of whatever kind, must not reach a file."""
    path = _save(tmp_path, "t;x\n0.5;1,5\n0.6;2,5\n0.7;3,5\n0.8;2,0\n")
    write = sensor_csv.TextWriter._write
    monkeypatch.setattr(
        sensor_csv.TextWriter,
        "_write",
        lambda self, text, closed: write(self, text.replace(old, new), closed),
    )
    with pytest.raises(OutputError, match=words):
        _round_trip(path)
    assert not (tmp_path / "out.csv").exists()


def _clock_of(name: str, values: Array, unit: str | None = None) -> Any:
    column, other = ColumnSurvey(name, unit), ColumnSurvey("x")
    for part in np.array_split(values, 3):
        column.add(part)
    other.add(np.random.default_rng(0).normal(size=values.size))
    return find_clock([column, other])


@pytest.mark.parametrize(
    ("name", "unit", "rate", "values"),
    [
        ("time", "s", 250.0, np.arange(1000) / 250),
        ("time (ms)", "ms", 250.0, np.arange(1000) * 4.0),
        ("t_us", "us", 2000.0, np.arange(1000) * 500.0),
        ("TimeUS", "us", 50.0, np.arange(1000) * 20000.0 + 123),
        ("Timestamp [ns]", "ns", 1e6, np.arange(1000) * 1000.0),
        ("millis", "ms", 100.0, np.arange(1000) * 10.0),
        ("timestamp", "s", 10.0, 1.7e9 + np.arange(1000) / 10),
        ("timestamp", "ms", 100.0, 1.7e12 + np.arange(1000) * 10.0),
        ("timestamp", "us", 100.0, 1.7e15 + np.arange(1000) * 1e4),
        ("timestamp", "ns", 100.0, 1.7e18 + np.arange(1000) * 1e7),
        ("time", "ms", 250.0, np.arange(1000) * 4.0),
        ("elapsed", "min", 1 / 60, np.arange(1000.0)),
    ],
)
def test_unit_and_rate_of_numeric_times(name: str, unit: str, rate: float, values: Array) -> None:
    clock = _clock_of(name, values, "min" if unit == "min" else None)
    assert clock.unit == unit
    assert clock.sample_rate == pytest.approx(rate, rel=1e-6)


def test_rounded_stamps_and_pauses_do_not_bend_the_rate() -> None:
    stamps = np.rint(np.arange(20000) / 360 * 1000)  # whole ms: steps of 2 and 3
    stamps[5000:] += 60000  # a minute's pause
    stamps[12345] = np.nan
    assert _clock_of("time_ms", stamps).sample_rate == pytest.approx(360, rel=1e-3)


def test_a_clock_passes_midnight(tmp_path: Path) -> None:
    seconds = [(86398 + i / 2) % 86400 for i in range(12)]
    rows = [f"{s // 3600:02.0f}:{s // 60 % 60:02.0f}:{s % 60:04.1f},{s * 37 % 11}" for s in seconds]
    info = CODEC.probe(_save(tmp_path, "clock,x\n" + "\n".join(rows) + "\n"))
    assert info.sample_rate == pytest.approx(2.0)


@pytest.mark.parametrize(
    "stamp",
    [
        "2024-03-01T00:00:{:06.3f}Z",
        "2024-03-01 00:00:{:06.3f}",
        "2024/03/01 00:00:{:06.3f}",
        "2024-03-01T00:00:{:06.3f}+02:00",
    ],
)
def test_iso_stamps(tmp_path: Path, stamp: str) -> None:
    rows = "".join(f"{stamp.format(i / 50)},{i % 7}.5\n" for i in range(100))
    info = CODEC.probe(_save(tmp_path, "when,x\n" + rows))
    assert info.sample_rate == pytest.approx(50.0)
    assert info.columns == ("x",)


def test_times_that_step_back_are_still_never_cleaned(tmp_path: Path) -> None:
    times = np.arange(40) / 10
    times[20:] -= 0.5
    path = _save(
        tmp_path, "timestamp,x\n" + "".join(f"{t:.1f},{i * 37 % 11}.5\n" for i, t in enumerate(times))
    )
    assert CODEC.probe(path).columns == ("x",)


def test_a_given_rate_wins(tmp_path: Path) -> None:
    path = _save(tmp_path, TABLE)
    assert CODEC.probe(path, sample_rate=400).sample_rate == 400
    assert CODEC.probe(_save(tmp_path, "x\n1.5\n1.2\n1.9\n", "n.csv")).sample_rate is None
    with pytest.raises(UsageError, match="above 0"):
        CODEC.probe(path, sample_rate=-1)


numbers_of_cells = st.one_of(
    st.floats(-1e6, 1e6).map(lambda value: f"{value:.3f}"),
    st.integers(-(10**6), 10**6).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["", "NaN", "-", "NA"]),
)
# Whether a giant is a reading or a gap depends on how many different values are beside it, and rounding
# makes some of them equal: those of a table are examples.
cells_without_giants = numbers_of_cells.filter(
    lambda cell: cell in ("", "NaN", "-", "NA") or abs(float(cell)) < 1e15
)
texts_of_cells = st.text(st.characters(codec="latin-1", categories=["L", "N", "P", "Zs"]), max_size=6)


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    delimiter = draw(st.sampled_from(",;\t|"))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    rows = draw(st.integers(1, 30))
    lines = [delimiter.join(["time", "a", "note", "b"])] if draw(st.booleans()) else []
    for index in range(rows):
        note = '"' + draw(texts_of_cells).replace('"', '""') + '"'
        # A first row with a note may be taken for names, and two columns of one name are refused: no other
        # number looks like these.
        first = [f"{index / 8 + 0.0625}", f"{index % 3}.2571"]
        lines.append(delimiter.join([*first, note, draw(cells_without_giants)]))
        if draw(st.integers(0, 9)) == 0:
            lines.append(draw(st.sampled_from(["# a comment, of sorts", "", "  "])))
    text = end.join(lines) + (end if draw(st.booleans()) else "")
    return (b"\xef\xbb\xbf" if draw(st.booleans()) else b"") + text.encode("latin-1")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=tables(), block=st.integers(1, 40), chunk=st.integers(1, 200))
@example(
    content=b'0.0625,0.2571,"",8.988465674311579e+307\n0.1875,1.2571,"",8.98846567431158e+307',
    block=1,
    chunk=1,
)
@example(
    content=b'0.0625,0.2571,"",0.000\n0.1875,1.2571,"",999999\n0.3125,2.2571,"",8.98846567431158e+307',
    block=1,
    chunk=1,
)
def test_any_table_comes_back_whatever_the_block_and_the_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, block: int, chunk: int
) -> None:
    path = _save(tmp_path, content)
    whole, _ = _read(path)
    with monkeypatch.context() as patch:
        patch.setattr(sensor_text, "CHUNK_BYTES", chunk)
        pieces, _ = _read(path, block=block)
        np.testing.assert_array_equal(pieces, whole)
        assert _round_trip(path, block=block).read_bytes() == content
        changed = _round_trip(path, lambda values: values * 0.5 + 0.25, block=block)
        changed_bytes = changed.read_bytes()
    assert _round_trip(path, lambda values: values * 0.5 + 0.25).read_bytes() == changed_bytes
    assert changed_bytes.count(b"\n") == content.count(b"\n")
    gaps = np.isnan(_read(changed, columns=CODEC.probe(path).columns)[0])
    np.testing.assert_array_equal(gaps, np.isnan(whole))


@settings(max_examples=100, deadline=None)
@given(cells=st.lists(numbers_of_cells, min_size=1, max_size=20))
def test_the_quick_ways_and_the_careful_way_agree(cells: list[str]) -> None:
    point, comma = NumberForm("."), NumberForm(",")
    one_by_one = np.array([point.number(cell) for cell in cells])
    np.testing.assert_array_equal(point.parse(cells), one_by_one)
    commas = [cell.replace(".", ",") for cell in cells]
    np.testing.assert_array_equal(comma.parse(commas), one_by_one)


@pytest.mark.parametrize("name", ["x", "time"])
@pytest.mark.parametrize(
    "values",
    [
        [-1.7e308, 1.7e308, -1.7e308, 1.7e308],
        [-1.7e308, 0.0, 1.7e308, 1.7e308],
        [0.0, 5e-324, 1e-323, 1.5e-323],
        [1e300, 2e300, 3e300, 4e300],
    ],
)
def test_the_largest_and_smallest_floats_are_no_trouble(
    tmp_path: Path, name: str, values: list[float]
) -> None:
    path = _save(tmp_path, f"{name},y\n" + "".join(f"{v!r},{i * 37 % 11}.5\n" for i, v in enumerate(values)))
    assert CODEC.probe(path).sample_rate is None
    assert _round_trip(path, columns=(name,)).read_bytes() == path.read_bytes()
    target = _round_trip(path, lambda block: block / 2, columns=(name,))
    np.testing.assert_array_equal(_read(target, columns=(name,))[0], [np.array(values) / 2])


def test_chunks_of_a_large_log_join_seamlessly(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    data = np.round(rng.normal(size=(52_000, 2)), 4)
    rows = "".join(f"{i},{a},{b}\n" for i, (a, b) in enumerate(data.tolist()))
    path = _save(tmp_path, "n,a,b\n" + rows)
    assert path.stat().st_size > sensor_text.CHUNK_BYTES
    values, _ = _read(path, block=7777)
    np.testing.assert_array_equal(values, data.T)
    assert _round_trip(path, block=7777).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (b"", UnreadableError, ["empty"]),
        (b"\n\n# nothing\n", UnreadableError, ["no rows"]),
        (b"time,x\n", InputError, ["header and no rows"]),
        (b"name,place\nanna,rome\nbert,oslo\n", InputError, ["text", "numbers"]),
        (b"t,x\n0.1,1\n0.2,2\n0.3,3,4\n0.4,4\n0.5,1\n", UnreadableError, ["line 4", "3 cells", "expected 2"]),
        (b"0.1,1.5\n0.2\n0.3,3\n0.4,4\n0.5,1\n", UnreadableError, ["line 2", "1 cell;", "expected 2"]),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", UnreadableError, ["PNG data"]),
        (b"t,x\n0.1,1\n0.2,\0\n0.3,1\n", UnreadableError, ["line 3", "binary data"]),
        ("t,x\n0,1\n".encode("utf-16") + b"\0", UnreadableError, ["UTF-16"]),
        (
            b't,x,y\n0.1,1,"a"\n0.2,2,"b\n0.3,3,c\n' + b"0.4,4,d\n" * 8500,
            UnreadableError,
            ["line 3", "quote"],
        ),
        (b"t,x\n0.1,\n0.2,\n", InputError, ["no column"]),
    ],
)
def test_bad_text_gives_one_clear_sentence(
    tmp_path: Path, content: bytes, error: type[DenoiseError], words: list[str]
) -> None:
    path = _save(tmp_path, content, "a broken läg.csv")
    with pytest.raises(error) as caught:
        CODEC.probe(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    for word in [*words, "expected" if content else "empty"]:
        assert word in message


def test_a_word_among_numbers_is_named_with_its_line(tmp_path: Path) -> None:
    path = _save(
        tmp_path,
        "t,x,y\n" + "".join(f"{i / 10},{i % 7}.5,{'LOW' if i == 300 else i % 5}\n" for i in range(400)),
    )
    assert any("line 302 holds 'LOW'" in note for note in CODEC.probe(path).notes)
    with pytest.raises(InputError, match="line 302 holds 'LOW'"):
        CODEC.probe(path, columns=("y",))


@pytest.mark.parametrize("chunk", [1, 50, 1 << 20])
def test_lines_are_counted_across_chunks_comments_and_quoted_line_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(sensor_text, "CHUNK_BYTES", chunk)
    rows = ["t,note,x", *(f"{i / 10},a,{i % 7}.5" for i in range(30))]
    rows[9:9] = ["# a comment", "", '0.75,"two', 'lines",1.5']  # lines 10 to 13
    rows[20] = "2.0,b,inf"  # line 21
    path = _save(tmp_path, "\n".join(rows) + "\n")
    assert any("infinity in x, line 21, is kept as a gap" in note for note in CODEC.probe(path).notes)
    assert ",b,inf\n" in _round_trip(path, lambda values: values + 1).read_text()
    rows[20] = "2.0,b"
    path = _save(tmp_path, "\n".join(rows) + "\n")
    with pytest.raises(UnreadableError, match="line 21 has 2 cells"):
        CODEC.probe(path)


def test_the_delimiter_is_the_one_that_leaves_numbers(tmp_path: Path) -> None:
    path = _save(tmp_path, "t,tags,x\n" + "".join(f"{i / 10},a;b|c d,{i * 37 % 11}.5\n" for i in range(9)))
    assert CODEC.probe(path).columns == ("x",)


def test_missing_and_ambiguous_columns(tmp_path: Path) -> None:
    path = _save(
        tmp_path, "time,accel_x,accel_y,dup,dup\n0.1,1.5,2.5,3,4\n0.2,1.7,2.1,3,5\n0.3,1.1,2.2,7,4\n"
    )
    with pytest.raises(
        InputError, match=r"no column 'accel_z'; did you mean 'accel_[xy]' or .*It has: time, accel_x"
    ):
        CODEC.probe(path, columns=("accel_z",))
    with pytest.raises(InputError, match="'dup' appears 2 times"):
        CODEC.probe(path, columns=("dup",))
    with pytest.raises(UsageError, match="empty"):
        CODEC.probe(path, columns=())


def test_a_directory_a_missing_file_and_a_forbidden_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    loop = tmp_path / "loop.csv"
    loop.symlink_to(loop)
    for path, reason in [
        (folder, "directory"),
        (tmp_path / "none.csv", "No such file"),
        (loop, "symbolic links"),
    ]:
        with pytest.raises(UnreadableError, match=reason):
            CODEC.probe(path)

    def forbidden(self: Path, *_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(self))

    path = _save(tmp_path, TABLE)
    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(UnreadableError, match="Permission denied"):
        CODEC.probe(path)


def _sources(folder: Path) -> dict[str, Path]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    values = np.round(np.random.default_rng(3).normal(size=(50, 2)), 3)
    text = _save(folder, "a,b\n" + "".join(f"{a},{b}\n" for a, b in values.tolist()))
    np.save(folder / "log.npy", values)
    np.savez(folder / "log.npz", a=values[:, 0], b=values[:, 1])
    pq.write_table(pa.table({"a": values[:, 0], "b": values[:, 1]}), folder / "log.parquet")
    return {"csv": text, **{suffix: folder / f"log.{suffix}" for suffix in ("npy", "npz", "parquet")}}


@pytest.mark.parametrize("suffix", ["csv", "npy", "npz", "parquet"])
def test_every_writer_is_atomic_and_checks_what_it_gets(tmp_path: Path, suffix: str) -> None:
    source = _sources(tmp_path)[suffix]
    target = tmp_path / f"target.{suffix}"
    target.write_bytes(b"old")
    values, info = _read(source)
    assert values.shape == (2, 50)

    def attempt(*blocks: Array) -> None:
        with CODEC.writer(target, info) as sink:
            for block in blocks:
                sink.write(block)

    for blocks, words in [
        ((values[:, :20],), "20 samples were given; expected 50"),
        ((values, values[:, :1]), "no more samples"),
        ((values[:1],), "expected 2 channels"),
        ((values * np.inf,), "infinity"),
        ((values[0],), "expected \\(channels, samples\\)"),
    ]:
        with np.errstate(invalid="ignore"), pytest.raises(OutputError, match=words):
            attempt(*blocks)
        assert target.read_bytes() == b"old"
    with contextlib.suppress(KeyboardInterrupt), CODEC.writer(target, info) as sink:
        sink.write(values[:, :10])
        raise KeyboardInterrupt
    assert target.read_bytes() == b"old"
    assert not list(tmp_path.glob(".*"))
    given = values.copy()
    attempt(given[:, :20], given[:, 20:])
    np.testing.assert_array_equal(_read(target)[0], values)
    np.testing.assert_array_equal(given, values)


@pytest.mark.parametrize("suffix", ["csv", "npy", "npz", "parquet"])
@pytest.mark.parametrize("block", [1, 7, 50])
def test_every_format_reads_and_writes_alike_for_any_block(tmp_path: Path, suffix: str, block: int) -> None:
    source = _sources(tmp_path)[suffix]
    values, _ = _read(source)
    with CODEC.reader(source, block=block) as reader:
        sizes = [piece.shape[1] for piece in reader]
        again = np.concatenate(list(reader), axis=1)
    assert sizes == [block] * (50 // block) + ([50 % block] if 50 % block else [])
    np.testing.assert_array_equal(again, values)
    assert _round_trip(source, block=block).read_bytes() == source.read_bytes()
    np.testing.assert_array_equal(_read(_round_trip(source, np.rint, block=block))[0], np.rint(values))


def test_a_log_may_be_cleaned_in_place_but_not_into_another_format(tmp_path: Path) -> None:
    path = _save(tmp_path, TABLE)
    values, info = _read(path)
    with CODEC.writer(path, info) as sink:
        sink.write(values)
    assert path.read_text() == TABLE
    with pytest.raises(UsageError, match=r"ends in \.csv"):
        CODEC.writer(tmp_path / "log.npy", info)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((500,), (1, 500)),
        ((500, 3), (3, 500)),
        ((3, 500), (3, 500)),
        ((64, 512), (512, 64)),
        ((64, 513), (64, 513)),
        ((1, 9), (1, 9)),
        ((1, 8), (8, 1)),
    ],
)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2", "u1", ">i4"])
def test_npy_axes_dtypes_and_orders(
    tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...], order: Any, dtype: str
) -> None:
    data = (np.random.default_rng(4).normal(size=shape) * 20 + 100).astype(dtype, order=order)
    path = tmp_path / "a.npy"
    np.save(path, data)
    values, info = _read(path, block=13)
    assert values.shape == expected == info.shape
    time_first = data.reshape(-1, 1) if len(shape) == 1 else data if shape[0] == expected[1] else data.T
    np.testing.assert_array_equal(values, time_first.T.astype(np.float64))
    if len(shape) == 2:
        assert any("axis" in note for note in info.notes)
    target = _round_trip(path, lambda block: block + 1, block=13)
    back = np.load(target)
    assert back.dtype == data.dtype
    assert back.flags.f_contiguous == data.flags.f_contiguous
    np.testing.assert_allclose(back.astype(float), data.astype(float) + 1, rtol=1e-6)
    assert _round_trip(path, block=5).read_bytes() == path.read_bytes()


def test_npy_integers_are_rounded_clipped_and_counted(tmp_path: Path) -> None:
    path, target = tmp_path / "a.npy", tmp_path / "b.npy"
    np.save(path, np.array([0, 100, 200, 250], dtype=np.uint8))
    _, info = _read(path)
    with CODEC.writer(target, info) as sink:
        sink.write(np.array([[-3.0, 100.6, 200.4, 300.0]]))
    np.testing.assert_array_equal(np.load(target), [0, 101, 200, 255])
    assert sink.clipped == 2
    with (
        pytest.raises(OutputError, match="gap cannot be written as uint8"),
        CODEC.writer(target, info) as sink,
    ):
        sink.write(np.array([[0.0, np.nan, 0.0, 0.0]]))


def test_npy_large_integers_that_do_not_change_keep_every_bit(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    data = np.array([2**63 - 1, 2**53 + 1, -(2**63), 7], dtype=np.int64)
    np.save(path, data)
    target = _round_trip(path, lambda block: np.where(block == 7, 8.2, block))
    np.testing.assert_array_equal(np.load(target), [2**63 - 1, 2**53 + 1, -(2**63), 8])


def test_npy_gaps(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.array([1.5, np.nan, 2.5], dtype=np.float32))
    back = np.load(_round_trip(path, lambda block: block * 2))
    np.testing.assert_array_equal(back, [3.0, np.nan, 5.0])


def _npy_bytes(array: Array, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (_npy_bytes(np.arange(99.0))[:-8], UnreadableError, "cut short"),
        (_npy_bytes(np.arange(99.0))[:40], UnreadableError, "expected a numpy array"),
        (_npy_bytes(np.zeros(9)).replace(b"(9,)", b"((9,"), UnreadableError, "expected a numpy array"),
        (b"no array at all", UnreadableError, "holds text data; expected a sensor log"),
        (_npy_bytes(np.array([1, "a", None], dtype=object), allow_pickle=True), UnsupportedError, "pickled"),
        (_npy_bytes(np.zeros((3, 4, 5))), UnsupportedError, "3x4x5"),
        (_npy_bytes(np.array(1.0)), UnsupportedError, "1-D or 2-D"),
        (_npy_bytes(np.zeros(0)), UnsupportedError, "empty"),
        (_npy_bytes(np.zeros(9, complex)), UnsupportedError, "complex128"),
        (_npy_bytes(np.zeros(9, bool)), UnsupportedError, "bool"),
        (_npy_bytes(np.array(["a"])), UnsupportedError, "real numbers"),
        (_npy_bytes(np.zeros(9)).replace(b"(9,)", b"(9**9,)"), UnreadableError, "numpy array"),
        (
            _npy_bytes(np.zeros(9)).replace(b"(9,), }  ", b"(99999999999,), }"),
            UnreadableError,
            "cut short|numpy array",
        ),
    ],
)
def test_bad_npy(tmp_path: Path, content: bytes, error: type[DenoiseError], words: str) -> None:
    path = _save(tmp_path, content, "a.npy")
    with pytest.raises(error, match=words):
        CODEC.probe(path)


def test_npz_finds_signals_time_and_rate_and_leaves_the_rest(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    path = tmp_path / "a.npz"
    arrays = {
        "notes": np.array(["hello"]),
        "t": np.arange(400) / 200,
        "ecg": rng.normal(size=400).astype(np.float32),
        "xyz": (rng.normal(size=(400, 3)) * 100).astype(np.int16),
        "labels": rng.integers(0, 4, 400),
        "objects": np.array([{}], dtype=object),
    }
    np.savez_compressed(path, allow_pickle=True, **arrays)
    values, info = _read(path)
    assert info.columns == ("ecg", "xyz")
    assert info.shape == values.shape == (4, 400)
    assert info.sample_rate == 200
    np.testing.assert_array_equal(values[1:], arrays["xyz"].T)
    target = _round_trip(path, lambda block: block + 0.6, block=111)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target) as new:
        assert new.namelist() == old.namelist()
        assert [e.compress_type for e in new.infolist()] == [e.compress_type for e in old.infolist()]
        for name in ("notes", "t", "labels", "objects"):
            assert new.read(f"{name}.npy") == old.read(f"{name}.npy")
    with np.load(target) as back:
        assert back["xyz"].dtype == np.int16
        np.testing.assert_array_equal(back["xyz"], arrays["xyz"] + 1)
        np.testing.assert_allclose(back["ecg"], arrays["ecg"] + np.float32(0.6), atol=1e-6)
    assert CODEC.probe(path, columns=("xyz",)).shape == (3, 400)
    with pytest.raises(InputError, match="pickled"):
        CODEC.probe(path, columns=("objects",))


def test_npz_of_unequal_lengths_is_read_recording_by_recording(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    path, target = tmp_path / "a.npz", tmp_path / "b.npz"
    first, second = rng.normal(size=90), rng.normal(size=(40, 2))
    np.savez(path, first=first, second=second, fs=np.array(125))
    info = CODEC.probe(path)
    assert (info.pages, info.shape, info.sample_rate) == (2, (1, 90), 125)
    with CODEC.writer(target, info) as sink:
        for number in range(info.pages):
            with CODEC.reader(path, recording=number, block=17) as source:
                for block in source:
                    sink.write(block * 2)
    with np.load(target) as back:
        np.testing.assert_array_equal(back["first"], first * 2)
        np.testing.assert_array_equal(back["second"], second * 2)
        assert back["fs"] == 125
    with (
        pytest.raises(OutputError, match="90 samples were given; expected 130"),
        CODEC.writer(target, info) as sink,
    ):
        sink.write(first[None])
    with pytest.raises(UsageError, match="no recording 2"):
        CODEC.reader(path, recording=2)


@pytest.mark.parametrize("cut", [10, 300, 5])
def test_bad_npz(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.random.default_rng(7).normal(size=500))
    content = path.read_bytes()
    path.write_bytes(content[:-cut] if cut > 5 else b"text")
    with pytest.raises(UnreadableError, match="NPZ" if cut > 5 else "holds text data"):
        CODEC.probe(path)
    if cut == 300:  # a flipped byte inside breaks the checksum
        path.write_bytes(content[:400] + bytes([content[400] ^ 255]) + content[401:])
        with pytest.raises(UnreadableError, match="Bad CRC"):
            CODEC.probe(path)


def test_parquet_keeps_schema_metadata_groups_and_nulls(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(8)
    stamps = np.datetime64("2024-01-01", "us") + np.arange(1000) * np.timedelta64(4000, "us")
    volts = [None if i % 50 == 3 else float(v) for i, v in enumerate(rng.normal(size=1000))]
    counts = [None if i % 90 == 5 else int(v) for i, v in enumerate(rng.normal(size=1000) * 1000)]
    table = pa.table(
        {
            "when": stamps,
            "volts": pa.array(volts, pa.float32()),
            "counts": pa.array(counts, pa.int16()),
            "state": ["on"] * 1000,
            "flag": pa.array([i % 2 for i in range(1000)], pa.int8()),
        }
    ).replace_schema_metadata({"owner": "lab"})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=300, compression="gzip")
    values, info = _read(path, block=77)
    assert info.columns == ("volts", "counts")
    assert info.sample_rate == 250
    np.testing.assert_array_equal(np.isnan(values[0]), [v is None for v in volts])
    target = _round_trip(path, lambda block: block + 1.2, block=77)
    old, new = pq.ParquetFile(path), pq.ParquetFile(target)
    with old, new:
        assert new.schema_arrow.equals(old.schema_arrow, check_metadata=True)
        assert [new.metadata.row_group(i).num_rows for i in range(4)] == [300, 300, 300, 100]
        assert new.metadata.row_group(0).column(1).compression == "GZIP"
        back = new.read()
    assert back.column("when").equals(table.column("when"))
    assert back.column("flag").equals(table.column("flag"))
    assert back.column("volts").null_count == table.column("volts").null_count
    assert back.column("counts").to_pylist() == [None if c is None else c + 1 for c in counts]
    assert _round_trip(path, block=77).read_bytes() == path.read_bytes()


def test_parquet_keeps_encodings(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def encodings(path: Path) -> list[tuple[set[str], bool]]:
        with pq.ParquetFile(path) as file:
            chunks = [file.metadata.row_group(0).column(index) for index in range(4)]
        return [(set(chunk.encodings), chunk.has_dictionary_page) for chunk in chunks]

    values = np.random.default_rng(8).normal(size=1000)
    table = pa.table({"when": np.arange(1000), "split": values, "plain": values, "named": values})
    path = tmp_path / "a.parquet"
    coding = {"when": "DELTA_BINARY_PACKED", "split": "BYTE_STREAM_SPLIT"}
    pq.write_table(table, path, use_dictionary=["named"], column_encoding=coding)
    assert encodings(_round_trip(path, lambda block: block + 1.2)) == encodings(path)


def test_parquet_that_is_none_and_parquet_without_pyarrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _save(tmp_path, b"PAR1\0 or so", "a.parquet")
    with pytest.raises(UnreadableError, match="Parquet"):
        CODEC.probe(path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UnsupportedError, match=r"denoise-pipelines\[parquet\]"):
        CODEC.probe(path)


@pytest.mark.parametrize("newline", ["\r\n", "\n", "\r"])
@pytest.mark.parametrize(
    ("encoding", "mark"),
    [("utf-8", ""), ("utf-8", "\ufeff"), ("latin-1", ""), ("utf-16-le", "\ufeff"), ("utf-16-be", "\ufeff")],
)
@pytest.mark.parametrize("packed", [False, True])
def test_encodings_and_quoted_cells_come_back_byte_for_byte(
    tmp_path: Path, encoding: str, mark: str, newline: str, packed: bool
) -> None:
    rows = [f'"a ""b"", \u00b0",{i / 10:.1f},{20 + i % 3}.5,\u00b5' for i in range(200)]
    text = mark + newline.join(["place,t_s,temp_\u00b0C,\u00b5m", *rows])  # no line end after the last
    path = tmp_path / f"in.csv{'.gz' * packed}"
    path.write_bytes(gzip.compress(text.encode(encoding)) if packed else text.encode(encoding))

    def change(values: Array) -> Array:
        return np.where(np.arange(values.shape[1]) == 7, values + 0.25, values)

    assert CODEC.probe(path).columns == ("temp_\u00b0C",)
    target = _round_trip(path, change, block=1000)
    raw = gzip.decompress(target.read_bytes()) if packed else target.read_bytes()
    expected = text.split(newline)
    expected[8] = expected[8].replace("21.5", "21.750")
    assert raw == newline.join(expected).encode(encoding)


def _kinds(tmp_path: Path, header: str, *columns: Array) -> str:
    rows = np.column_stack([np.arange(len(columns[0])), *columns])
    text = "".join(",".join(f"{value:.5g}" for value in row) + "\n" for row in rows.tolist())
    return " ".join(CODEC.probe(_save(tmp_path, f"{header}\n{text}".encode())).notes)


@pytest.mark.parametrize("period", [360.0, 2 * np.pi])
@pytest.mark.parametrize("centred", [False, True])
def test_an_angle_is_told_by_where_it_jumps(tmp_path: Path, period: float, centred: bool) -> None:
    rng = np.random.default_rng(0)
    turning = np.cumsum(rng.normal(0, 0.02, 2000)) * period
    angle = (turning + period / 2) % period - period / 2 if centred else turning % period
    assert "ch1 (angle)" in _kinds(tmp_path, "t_s,ch1,ch2", angle, rng.normal(0, 1, 2000))


def test_loads_drop_outs_and_scatter_in_the_range_of_an_angle_are_none(tmp_path: Path) -> None:
    rng, t = np.random.default_rng(0), np.arange(2000)
    load = np.where(np.sin(t / 30) > 0, 355, 0) + rng.uniform(0, 4, 2000)
    drops = (190 + 165 * np.sin(t / 60)) * (rng.random(2000) > 0.02)
    notes = _kinds(tmp_path, "t_s,a,b,c", load, drops, rng.uniform(0, 360, 2000))
    assert "angle" not in notes


def test_unit_quaternions_are_told_by_their_norm_and_accelerations_are_none(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    turn = np.concatenate([np.ones((1, 500)), np.cumsum(rng.normal(0, 0.05, (3, 500)), axis=1)])
    turn /= np.linalg.norm(turn, axis=0)
    assert _kinds(tmp_path, "t_s,c1,c2,c3,c4,y", *turn, rng.normal(0, 1, 500)).count("(quaternion)") == 4
    gravity = rng.normal(0, 0.02, (4, 500)) + np.array([[0], [0], [0.98], [0]])
    assert "quaternion" not in _kinds(tmp_path, "t_s,c1,c2,c3,c4", *gravity)


def test_setpoints_empty_columns_and_times_that_run_backwards_are_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    levels = np.where(np.arange(200) % 50 > 25, 21, 19)
    assert "setpoint (setpoint)" in _kinds(tmp_path, "t_s,setpoint,y", levels, rng.normal(0, 1, 200))
    rows = "".join(f"{200 - i},{x:.3f},\n" for i, x in enumerate(rng.normal(0, 1, 200)))
    notes = " ".join(CODEC.probe(_save(tmp_path, f"t_s,y,z\n{rows}".encode())).notes)
    assert "z (empty)" in notes
    assert "the times in t_s run backwards" in notes
