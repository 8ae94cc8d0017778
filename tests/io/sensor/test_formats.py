"""Recordings of scaled integers, MATLAB and HDF5, checked by independent readers or bit by bit."""

import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray

from denoise import io
from denoise.errors import OutputError, UnreadableError, UnsupportedError
from denoise.io.sensor.clock import missing_samples
from denoise.io.sensor.integers import CODES
from pipelines.batch.discover import find

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_every_code_gives_its_numbers_back(name: str, size: int) -> None:
    code = CODES[name]
    numbers = RNG.integers(code.low, code.high + 1, size)
    numbers[:1] = code.low
    data = code.encode(numbers)
    assert len(data) == code.size_bytes(size)
    np.testing.assert_array_equal(code.decode(data, size), numbers)


def test_format_212_is_packed_as_its_manual_says() -> None:
    # signal(5): the low 8 bits of the first, 4 high bits of both (first in the low half), the second's low 8
    assert CODES["212"].encode(np.array([0x123, 0x456])) == bytes([0x23, 0x41, 0x56])
    assert CODES["212"].decode(bytes([0xFF, 0x0F, 0x00]), 2).tolist() == [-1, 0]


def record(folder: Path, code: str = "212", samples: int = 301) -> NDArray[np.int64]:
    """Write a WFDB record of three signals with comments and annotations; return its stored numbers."""
    limits = CODES[code]
    stored = RNG.integers(limits.low + 20, limits.high - 20, (samples, 3))
    stored[5, 0] = limits.low  # a gap
    (folder / "r1.dat").write_bytes(limits.encode(stored.ravel()))
    (folder / "r1.atr").write_bytes(bytes([1, 4, 2, 4, 0, 0]))
    (folder / "r1.hea").write_bytes(
        f"r1 3 360 {samples}\r\n".encode()
        + b"".join(
            f"r1.dat {code} 200(10)/mV 12 0 {stored[0, c]} 0 0 lead {c}\r\n".encode() for c in range(3)
        )
        + b"# age 60\r\n"
    )
    return stored


@pytest.mark.parametrize("code", ["212", "16", "80"])
def test_a_record_keeps_its_scale_its_gaps_and_its_annotations(tmp_path: Path, code: str) -> None:
    stored = record(tmp_path, code)
    values, info = io.read(tmp_path / "r1.hea")
    expected = np.where(CODES[code].low == stored.T, np.nan, (stored.T - 10) / 200)
    np.testing.assert_array_equal(values, expected)
    assert info.sample_rate == 360
    assert info.columns == ("lead 0", "lead 1", "lead 2")
    out = tmp_path / "out"
    out.mkdir()
    io.write(out / "r1.hea", values, info)
    for name in ("r1.hea", "r1.dat", "r1.atr"):
        assert (out / name).read_bytes() == (tmp_path / name).read_bytes()
    io.write(out / "r2.hea", values + 3 / 200, info)
    new = CODES[code].decode((out / "r2.dat").read_bytes(), stored.size).reshape(-1, 3)
    np.testing.assert_array_equal(new, np.where(stored == CODES[code].low, stored, stored + 3))
    lines = (out / "r2.hea").read_bytes().split(b"\r\n")
    assert lines[0] == b"r2 3 360 301"
    assert lines[4] == b"# age 60"
    checksum = (int(new[:, 1].sum()) + 0x8000) % 0x10000 - 0x8000
    assert lines[2] == f"r2.dat {code} 200(10)/mV 12 0 {new[0, 1]} {checksum} 0 lead 1".encode()
    assert (out / "r2.atr").read_bytes() == (tmp_path / "r1.atr").read_bytes()


def test_a_record_never_writes_over_its_source_and_names_no_other_folder(tmp_path: Path) -> None:
    record(tmp_path)
    values, info = io.read(tmp_path / "r1.hea")
    before = (tmp_path / "r1.dat").read_bytes()
    (tmp_path / "sub").symlink_to(tmp_path)
    with pytest.raises(OutputError, match="would replace"):
        io.write(tmp_path / "sub" / "r1.hea", values, info)
    assert (tmp_path / "r1.dat").read_bytes() == before
    header = (tmp_path / "r1.hea").read_text()
    (tmp_path / "r1.hea").write_text(header.replace("r1.dat", "../r1.dat"))
    with pytest.raises(UnsupportedError, match="beside the header"):
        io.probe(tmp_path / "r1.hea")
    (tmp_path / "r1.hea").write_text(header.replace(" 212 ", " 310 "))
    with pytest.raises(UnsupportedError, match="format 310"):
        io.probe(tmp_path / "r1.hea")
    (tmp_path / "r1.hea").write_text(header)
    (tmp_path / "r1.dat").write_bytes(before[:-9])
    with pytest.raises(UnreadableError, match="cut short"):
        io.probe(tmp_path / "r1.hea")


def test_the_parts_of_a_record_are_no_inputs_of_their_own(tmp_path: Path) -> None:
    record(tmp_path)
    (tmp_path / "r1.dat").write_bytes(b"\xff\xfb\x90\x00" + (tmp_path / "r1.dat").read_bytes()[4:])
    found = find([tmp_path])
    assert [source.path.name for source in found.sources] == ["r1.hea"]
    assert not found.problems
    assert not found.ignored


@pytest.mark.parametrize("compressed", [False, True])
def test_matlab_variables_that_are_no_signals_keep_their_bytes(tmp_path: Path, compressed: bool) -> None:
    x = RNG.normal(size=(90, 2))
    counts = (np.arange(90, dtype=np.int16) * 37) % 11
    others: dict[str, Any] = {"fs": 250.0, "note": "hi", "meta": {"a": np.eye(2)}, "z": np.array([1j, 2])}
    scipy.io.savemat(tmp_path / "a.mat", {"x": x, "counts": counts, **others}, do_compression=compressed)
    values, info = io.read(tmp_path / "a.mat")
    assert info.sample_rate == 250
    io.write(tmp_path / "b.mat", values, info)
    assert (tmp_path / "b.mat").read_bytes() == (tmp_path / "a.mat").read_bytes()
    io.write(tmp_path / "b.mat", values + 1.25, info)
    before, after = scipy.io.loadmat(tmp_path / "a.mat"), scipy.io.loadmat(tmp_path / "b.mat")
    np.testing.assert_array_equal(after["x"], x + 1.25)
    np.testing.assert_array_equal(after["counts"], before["counts"] + 1)
    assert after["counts"].dtype == np.int16
    for name in others:
        assert repr(after[name]) == repr(before[name])


def test_hdf5_keeps_attributes_chunks_and_other_data(tmp_path: Path) -> None:
    x = RNG.normal(size=(90, 2)).astype("f4")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("run/x", data=x, chunks=(30, 2), compression="gzip")
        data.attrs["fs"], file["label"] = 100.0, "walk"
        file["link"] = h5py.ExternalLink("other.h5", "/x")
    values, info = io.read(tmp_path / "a.h5")
    assert (info.sample_rate, info.columns) == (100, ("run/x",))
    io.write(tmp_path / "b.h5", values, info)
    assert (tmp_path / "b.h5").read_bytes() == (tmp_path / "a.h5").read_bytes()
    io.write(tmp_path / "b.h5", values + 1, info)
    with h5py.File(tmp_path / "b.h5") as file:
        np.testing.assert_allclose(file["run/x"][()], x + 1, rtol=1e-6)
        assert (file["run/x"].compression, file["run/x"].attrs["fs"]) == ("gzip", 100)
        assert file["label"][()] == b"walk"


def edf(path: Path, *, interrupted: bool = False) -> NDArray[np.int16]:
    """Two signals of 10 and 5 samples a record and annotations, eight records of 1 s."""
    head = "0".ljust(8) + "X".ljust(160) + "01.01.2400.00.00" + str(256 * 4).ljust(8)
    head += ("EDF+D" if interrupted else "EDF+C").ljust(44) + "8".ljust(8) + "1".ljust(8) + "3".ljust(4)
    rows = (["EEG", "Resp", "EDF Annotations"], [""] * 3, ["uV", "l", ""], [-100, 0, -1], [100, 5, 1])
    rows += ([-1000, -500, -32768], [1000, 500, 32767], [""] * 3, [10, 5, 8], [""] * 3)
    for row, size in zip(rows, (16, 80, 8, 8, 8, 8, 8, 80, 8, 32), strict=True):
        head += "".join(str(cell).ljust(size) for cell in row)
    stored = RNG.integers(-400, 400, (8, 15)).astype("<i2")
    records = b""
    for number, samples in enumerate(stored):
        onset = number + 60 * (interrupted and number > 3)
        records += samples.tobytes() + f"+{onset}\x14\x14\0".encode().ljust(16, b"\0")
    path.write_bytes(head.encode() + records)
    return stored


def test_edf_signals_of_two_rates_are_scaled_clipped_and_put_back(tmp_path: Path) -> None:
    stored = edf(tmp_path / "a.edf")
    first, second = (io.reader(tmp_path / "a.edf", recording=number) for number in (0, 1))
    assert (first.info.sample_rate, second.info.sample_rate, first.info.pages) == (10, 5, 2)
    eeg, resp = (np.concatenate(list(reader), axis=1) for reader in (first, second))
    np.testing.assert_allclose(eeg[0], stored[:, :10].ravel() / 10)
    np.testing.assert_allclose(resp[0], (stored[:, 10:].ravel() + 500) / 200)
    with io.writer(tmp_path / "b.edf", first.info) as sink:
        for part in (eeg[:, :13] + 80, eeg[:, 13:] + 80, resp):
            sink.write(part)
    before, after = (tmp_path / "a.edf").read_bytes(), (tmp_path / "b.edf").read_bytes()
    assert after[:1024] == before[:1024]
    new, old = (np.frombuffer(data[1024:], "<i2").reshape(8, 23) for data in (after, before))
    np.testing.assert_array_equal(new[:, :10], np.minimum(old[:, :10] + 800, 1000))
    np.testing.assert_array_equal(new[:, 10:], old[:, 10:])
    assert sink.clipped == (old[:, :10] > 200).sum() > 0


def test_records_beyond_those_that_an_edf_states_are_cleaned_too(tmp_path: Path) -> None:
    edf(tmp_path / "a.edf")
    whole, info = io.read(tmp_path / "a.edf")
    assert not any("states" in note for note in info.notes)
    data = (tmp_path / "a.edf").read_bytes()
    for stated, noted in ((b"3", True), (b"-1", False)):
        (tmp_path / "b.edf").write_bytes(data[:236] + stated.ljust(8) + data[244:])
        found, info = io.read(tmp_path / "b.edf")
        np.testing.assert_array_equal(found, whole)
        assert ("its header states 3 records, and it holds 8: all are cleaned" in info.notes) == noted
        with io.writer(tmp_path / "c.edf", info) as sink:
            for number in (0, 1):
                for block in io.reader(tmp_path / "b.edf", recording=number):
                    sink.write(block)
        assert (tmp_path / "c.edf").read_bytes() == (tmp_path / "b.edf").read_bytes()


def test_an_interrupted_edf_tells_its_pauses(tmp_path: Path) -> None:
    edf(tmp_path / "a.edf", interrupted=True)
    reader: Any = io.reader(tmp_path / "a.edf")
    clock = reader.info.clock
    assert clock.pauses == 1
    missing = missing_samples(clock, np.concatenate(list(reader.stamps())))
    assert np.flatnonzero(missing).tolist() == [40]
    assert missing[40] == 600


def test_variables_whose_names_end_in_time_are_signals(tmp_path: Path) -> None:
    """Case Western Reserve University names the accelerometer of a bearing `X105_DE_time`."""
    signal = RNG.normal(size=(900, 1))
    arrays = {"X105_DE_time": signal, "X105_FE_time": signal * 2, "X105RPM": 1797}
    scipy.io.savemat(tmp_path / "105.mat", arrays)
    values, info = io.read(tmp_path / "105.mat")
    assert info.columns == ("X105_DE_time", "X105_FE_time")
    np.testing.assert_allclose(values, np.stack([signal[:, 0], signal[:, 0] * 2]))


def test_a_header_without_a_length_takes_that_of_its_samples(tmp_path: Path) -> None:
    (tmp_path / "r1.dat").write_bytes(np.arange(50, dtype="<i2").tobytes())
    (tmp_path / "r1.hea").write_text("r1 2 360\nr1.dat 16 100/mV\nr1.dat 16 100/mV\n")
    values, info = io.read(tmp_path / "r1.hea")
    assert info.shape == values.shape == (2, 25)
    assert values[1, 24] == pytest.approx(0.49)


def test_a_workbook_is_refused_with_the_way_to_convert_it(tmp_path: Path) -> None:
    (tmp_path / "a.xls").write_bytes(b"PK\x03\x04" + bytes(60))
    with pytest.raises(UnsupportedError, match=r"a\.xls: .*save the sheet as CSV"):
        io.probe(tmp_path / "a.xls")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    """The first was once replaced by what had been the second."""
    one, two = np.sin(np.arange(400) / 9), np.cos(np.arange(400) / 7) + 50
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for values in (one, two):
            np.save(member := BytesIO(), values)
            archive.writestr("x.npy", member.getvalue())
    scipy.io.savemat(tmp_path / "one.mat", {"x": one})
    scipy.io.savemat(tmp_path / "two.mat", {"x": two})
    joined = (tmp_path / "one.mat").read_bytes() + (tmp_path / "two.mat").read_bytes()[128:]
    (tmp_path / "a.mat").write_bytes(joined)
    for name in ("a.npz", "a.mat"):
        with pytest.raises(UnsupportedError, match="two arrays are named 'x'; expected different names"):
            io.probe(tmp_path / name)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("r1 3 -360 301", "a rate of -360"),
        ("r1 3 360 -5", "a number of samples of -5"),
        ("r1 3 fast", "a rate of fast"),
        ("r1/2 3 360 301", "several segments"),
    ],
)
def test_a_record_of_impossible_numbers_is_refused(tmp_path: Path, line: str, words: str) -> None:
    record(tmp_path)
    first, rest = (tmp_path / "r1.hea").read_bytes().split(b"\r\n", 1)
    assert first.startswith(b"r1 3")
    (tmp_path / "r1.hea").write_bytes(line.encode() + b"\r\n" + rest)
    with pytest.raises((UnreadableError, UnsupportedError), match=words):
        io.probe(tmp_path / "r1.hea")


def test_a_shape_below_zero_and_an_endless_one_are_refused_in_a_sentence(tmp_path: Path) -> None:
    for shape in ("(-5,)", "(" * 3000):
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}".encode()
        path = tmp_path / "a.npy"
        path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(100))
        with pytest.raises(UnreadableError, match="expected a numpy array") as caught:
            io.probe(path)
        assert len(str(caught.value)) < 400 + len(str(path))
