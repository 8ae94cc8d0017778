"""Codes of missing values in every format of logs: no filter sees them, and the file keeps them."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
from numpy.typing import NDArray

from denoise import io
from denoise.infer.gaps import GapFiller
from denoise.io.sensor.survey import CodeSurvey, ColumnSurvey
from denoise.signal import SensorInfo
from tests.io.sensor.makers import make_fif, make_fit, make_mseed, make_tdms, make_xlsx
from tests.io.sensor.test_formats import record

Floats = NDArray[np.float64]
COUNT = 600
AT = np.arange(COUNT) % 50 == 20  # where the code stands


def coded(code: float, kind: str) -> Floats:
    """Two channels of a noisy sine about 300, whole if the kind is; the code is in the first."""
    wave = 300 + 40 * np.sin(np.arange(COUNT) / 20) + np.random.default_rng(4).normal(size=(2, COUNT))
    log = np.rint(wave) if kind[0] in "iu" else wave.astype(kind).astype(np.float64)
    log[0, AT] = code
    return log


def _csv(path: Path, log: Floats, kind: str) -> None:
    text = "%d" if kind[0] in "iu" else "%.17g"
    np.savetxt(path, log.T, text, ",", header="x,y", comments="")


def _parquet(path: Path, log: Floats, kind: str) -> None:
    pq.write_table(pa.table(dict(zip("xy", log.astype(kind), strict=True))), path)


def _hdf5(path: Path, log: Floats, kind: str) -> None:
    with h5py.File(path, "w") as file:
        file["x"], file["y"] = log.astype(kind)


def _two_lengths(path: Path, log: Floats, kind: str) -> None:
    np.savez(path, x=log[0].astype(kind), y=log[1, :300].astype(kind))


def _edf(path: Path, log: Floats) -> None:
    """Write one signal in tenths, which no binary fraction is."""
    cells = (("EEG", 16), ("", 80), ("uV", 8), (-3276.8, 8), (3276.7, 8), (-32768, 8), (32767, 8), ("", 80))
    head = "0".ljust(8) + "X".ljust(160) + "01.01.2400.00.00" + "512".ljust(8) + "".ljust(44) + "6".ljust(8)
    head += "1".ljust(8) + "1".ljust(4)
    head += "".join(str(cell).ljust(size) for cell, size in (*cells, (100, 8), ("", 32)))
    path.write_bytes(head.encode() + np.rint(10 * log[0]).astype("<i2").tobytes())


def _wfdb(path: Path, log: Floats) -> None:
    path.with_suffix(".dat").write_bytes(log.T.astype("<i2").tobytes())
    lines = "".join(f"a.dat 16 1(0)/mV 16 0 0 0 0 {name}\n" for name in "xy")
    path.write_text(f"a 2 100 {COUNT}\n" + lines)


MAKERS: dict[str, tuple[Callable[[Path, Floats, str], None], tuple[str, ...]]] = {
    "a.csv": (_csv, ("f8", "i2")),
    "a.parquet": (_parquet, ("f8", "f4", "i2", "i8")),
    "a.npz": (lambda p, log, k: np.savez(p, x=log[0].astype(k), y=log[1].astype(k)), ("f8", "f4", "i2")),
    "table.npz": (lambda p, log, k: np.savez(p, a=log.T.astype(k)), ("f8", "i2")),
    "two.npz": (_two_lengths, ("f8", "i2")),
    "one.npy": (lambda p, log, k: np.save(p, log[0].astype(k)), ("f8", "f4", "i2")),
    "a.npy": (lambda p, log, k: np.save(p, log.astype(k)), ("f8", "i4")),
    "a.mat": (
        lambda p, log, k: scipy.io.savemat(p, dict(zip("xy", log.astype(k), strict=True))),
        ("f8", "i2"),
    ),
    "a.h5": (_hdf5, ("f8", "i2")),
    "a.tdms": (lambda p, log, k: make_tdms(p, log.astype(k)), ("f8", "i2")),
    "a.xlsx": (lambda p, log, _: make_xlsx(p, log), ("f8", "i2")),
    "a.mseed": (lambda p, log, k: make_mseed(p, log[::-1].astype(k)), ("f8", "i4")),
    "a.fif": (lambda p, log, _: make_fif(p, log), ("f8",)),
    "a.edf": (lambda p, log, _: _edf(p, log), ("i2",)),
    "a.hea": (lambda p, log, _: _wfdb(p, log), ("i2",)),
}


def whole(path: Path, filled: bool = False) -> tuple[Floats, SensorInfo]:
    """Read all samples of the first recording, and fill its gaps if wanted."""
    with io.reader(path) as reader:
        values = np.concatenate(list(reader), axis=1)
        info = reader.info
    assert isinstance(info, SensorInfo)
    return (GapFiller(len(values), 5)(values, True) if filled else values), info


def stored(path: Path) -> Floats:
    """Read the samples of the first recording as the file holds them, codes as numbers."""
    with io.reader(path) as reader:
        return np.concatenate(list(reader.pieces()), axis=1)  # type: ignore[attr-defined]


@pytest.mark.parametrize("code", [-999.0, -9999.0])
@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, (_, kinds) in MAKERS.items() for kind in kinds]
)
def test_a_code_is_a_gap_for_a_filter_and_stays_in_the_file(
    tmp_path: Path, name: str, kind: str, code: float
) -> None:
    if name == "a.edf":
        code = max(code, -999.0)
    (tmp_path / "out").mkdir()
    path, out = tmp_path / name, tmp_path / "out" / name
    MAKERS[name][0](path, coded(code, kind), kind)
    values, info = whole(path)
    np.testing.assert_array_equal(np.isnan(values[0]), AT)
    assert not np.isnan(values[1:]).any()
    words = (
        f"{code:g} in {'channel 0' if name.endswith('npy') else info.columns[0]} stands for a missing value"
    )
    assert [note for note in info.notes if note.startswith(words)] == [f"{words} (12 samples): kept"]
    rest = [whole_of(path, page) for page in range(1, info.pages)]

    def write(samples: Floats) -> Floats:
        with io.writer(out, info) as sink:
            for each in (samples, *rest):
                sink.write(each)
        return stored(out)

    before = stored(path)
    after = write(values + 7)
    np.testing.assert_array_equal(after[0, AT], before[0, AT])
    np.testing.assert_allclose(after[0, AT], code, rtol=1e-9)
    np.testing.assert_allclose(after[0, ~AT], before[0, ~AT] + 7, rtol=1e-6)
    np.testing.assert_allclose(after[1:], before[1:] + 7, rtol=1e-6)
    np.testing.assert_array_equal(write(values), before)
    filled = write(whole(path, filled=True)[0])
    assert np.abs(filled[0] - 300).max() < 60


def whole_of(path: Path, recording: int) -> Floats:
    """Read another recording."""
    return np.concatenate(list(io.reader(path, recording=recording)), axis=1)


def test_the_codes_of_a_second_recording_stay_too(tmp_path: Path) -> None:
    log = coded(-999, "i2")
    np.savez(tmp_path / "a.npz", y=log[1, :300].astype("i2"), x=log[0].astype("i2"))
    first, second = whole(tmp_path / "a.npz"), whole_of(tmp_path / "a.npz", 1)
    np.testing.assert_array_equal(np.isnan(second[0]), AT)
    with io.writer(tmp_path / "b.npz", first[1]) as sink:
        sink.write(first[0] + 3)
        sink.write(second + 3)
    new = np.load(tmp_path / "b.npz")["x"]
    np.testing.assert_array_equal(new, np.where(AT, -999, log[0] + 3))


def test_a_scale_rounds_codes() -> None:
    # In steps of 0.0306, -999 is stored as -999.01.
    step = 2000 / 65535
    survey = CodeSurvey(step=step)
    values = np.rint(coded(-999, "f8")[:1] / step) * step
    assert not (values == -999).any()
    survey.add(values)
    assert [*survey.codes[0].values()] == [12]
    plain = CodeSurvey()
    plain.add(values)
    assert not plain.codes[0]


def test_an_activity_keeps_its_codes(tmp_path: Path) -> None:
    power = np.where(AT, 9999, np.rint(200 + 30 * np.sin(np.arange(COUNT) / 9))).astype(np.uint16)
    make_fit(tmp_path / "a.fit", power)
    values, info = whole(tmp_path / "a.fit")
    row = [*info.columns].index("power")
    np.testing.assert_array_equal(np.isnan(values[row]), AT)
    io.write(tmp_path / "b.csv", values + 1, info)
    names, *lines = (tmp_path / "b.csv").read_text().splitlines()
    cells = np.array([float(line.split(",")[names.split(",").index("power")]) for line in lines])
    np.testing.assert_array_equal(cells, np.where(AT, 9999, power + 1.0))


def test_a_record_has_its_own_gaps_and_other_codes(tmp_path: Path) -> None:
    numbers = record(tmp_path, "16")
    values, _ = whole(tmp_path / "r1.hea")
    np.testing.assert_array_equal(np.isnan(values), (numbers == -(1 << 15)).T)


def survey_of(log: Floats) -> ColumnSurvey:
    survey = ColumnSurvey("x")
    for start in range(0, log.size, 100):  # in pieces, as files come
        survey.add(log[start : start + 100])
    return survey


@pytest.mark.parametrize("code", [-7777777.0, 1e10, -9.99e8, -1000000.0, 12345.0])
def test_a_giant_that_repeats_exactly_is_a_code_whatever_number_it_is(tmp_path: Path, code: float) -> None:
    log = coded(code, "f8")
    _csv(tmp_path / "a.csv", log, "f8")
    values, info = whole(tmp_path / "a.csv")
    np.testing.assert_array_equal(np.isnan(values[0]), AT)
    assert (
        f"{code:.9g} in x, 12 times, is far from all others: kept, and left out of the cleaning" in info.notes
    )
    assert not np.isnan(values[1]).any()
    low, high = survey_of(log[0]).bounds
    assert low > 200  # of the readings alone
    assert high < 400
    np.savez(tmp_path / "a.npz", x=log[0])
    np.testing.assert_array_equal(np.isnan(whole(tmp_path / "a.npz")[0][0]), AT)
    np.save(tmp_path / "a.npy", log)
    np.testing.assert_array_equal(np.isnan(whole(tmp_path / "a.npy")[0][0]), AT)


def test_two_codes_and_a_glitch_hide_nothing() -> None:
    log = coded(-7777777.0, "f8")[0]
    log[AT.nonzero()[0][::2] + 1] = 1e10
    log[30] = -999.0
    log[31] = 1e12  # once: a reading, however wild
    survey = survey_of(log)
    assert survey.codes == {-7777777.0: 12, 1e10: 6, -999.0: 1}
    assert survey.bounds[1] == 1e12


def _load(levels: tuple[float, ...]) -> Floats:
    return np.resize(np.repeat(levels, 20), COUNT)


WAVE = coded(300.0, "f8")[1]
REAL = {
    "once": np.where(np.arange(COUNT) == 20, -7777777.0, WAVE),
    "twice": np.where(np.isin(np.arange(COUNT), [20, 70]), -7777777.0, WAVE),
    "unlike": np.where(AT, 1e6 + np.arange(COUNT), WAVE),
    "near": np.where(AT, 1000.0, WAVE),
    "zero": np.where(AT, 0.0, np.random.default_rng(1).normal(1013.0, 0.5, COUNT)),
    "a load of few levels": _load((0.0, 3.0, 4.0, 2000.0)),
    "counts": np.where(AT, 5000.0, np.arange(COUNT) % 4),
    "rain": np.where(AT, np.arange(COUNT) % 7 * 0.2, 0.0),
    "saturated": np.clip(WAVE, 270.0, 330.0),
}


@pytest.mark.parametrize("kind", REAL)
def test_what_is_real_is_no_code(kind: str) -> None:
    survey = survey_of(REAL[kind])
    assert not survey.codes
    assert survey.bounds == (REAL[kind].min(), REAL[kind].max())


def test_anomalies_take_a_giant_that_repeats_for_readings(tmp_path: Path) -> None:
    for name, save in (("a.csv", lambda p, log: _csv(p, log, "f8")), ("a.npy", np.save)):
        save(tmp_path / name, coded(-7777777.0, "f8"))
        with io.reader(tmp_path / name, judged=True) as reader:
            assert not np.isnan(np.concatenate(list(reader), axis=1)).any()


@pytest.mark.parametrize(("fill", "kind"), [(0.0, "f4"), (305.0, "i2"), (-2147483647.0, "i4"), (1e20, "f4")])
@pytest.mark.parametrize("name", ["_FillValue", "missing_value"])
def test_values_that_a_file_declares_missing_are_gaps_and_stay(
    tmp_path: Path, fill: float, kind: str, name: str
) -> None:
    log = np.rint(coded(fill, "f8")[0])
    log[~AT & (log == fill)] += 1
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = log.astype(kind)
        file["x"].attrs[name] = np.asarray(fill, kind)
        file["y"] = np.where(AT, 305.0 if fill == 305.0 else 300.0, log).astype(kind)  # says nothing
    values, info = whole(tmp_path / "a.h5")
    np.testing.assert_array_equal(np.isnan(values[0]), AT)
    assert not np.isnan(values[1]).any()
    shown = f"{float(np.asarray(fill, kind)):.9g}"
    assert f"{shown} in x stands for a missing value, says the file (12 samples): kept" in info.notes
    with io.writer(tmp_path / "b.h5", info) as sink:
        sink.write(values + 7)
    with h5py.File(tmp_path / "b.h5") as file:
        np.testing.assert_array_equal(file["x"][()], np.where(AT, fill, log + 7).astype(kind))


@pytest.mark.parametrize("how", ["valid_min", "valid_max", "valid_range"])
def test_values_beyond_the_valid_ones_are_gaps_and_stay(tmp_path: Path, how: str) -> None:
    log = np.rint(coded(300.0, "f8")[1])
    log[AT] = np.arange(AT.sum()) + (400 if how == "valid_max" else 200)
    limits = {"valid_min": 250, "valid_max": 350, "valid_range": np.array([250, 350], "i2")}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = log.astype("i2")
        file["x"].attrs[how] = limits[how]
    values, info = whole(tmp_path / "a.h5")
    np.testing.assert_array_equal(np.isnan(values[0]), AT)
    assert any(note.startswith("12 samples of x outside") and "kept" in note for note in info.notes)
    with io.writer(tmp_path / "b.h5", info) as sink:
        sink.write(values + 1)
    with h5py.File(tmp_path / "b.h5") as file:
        np.testing.assert_array_equal(file["x"][()], np.where(AT, log, log + 1))


def test_a_range_of_unpacked_values_is_not_of_packed_ones(tmp_path: Path) -> None:
    log = np.rint(coded(300.0, "f8")[1]).astype("i2")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = log
        file["x"].attrs.update({"scale_factor": 0.001, "add_offset": 20.0, "valid_range": [0.0, 40.0]})
    assert not np.isnan(whole(tmp_path / "a.h5")[0]).any()
