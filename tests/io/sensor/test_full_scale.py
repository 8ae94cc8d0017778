"""Integers beyond the range of a log are clipped and counted in every format: a wrapped one is a jump."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from denoise import io
from denoise.errors import OutputError
from tests.conformance.test_codecs import _edf, _wfdb
from tests.io.sensor.makers import make_tdms

RNG = np.random.default_rng(0)
WAVE = 0.9 * np.sin(np.arange(600) / 15) + RNG.normal(0, 0.01, 600)
FIF_UNIT = 1e-9  # volts a count


def _integers(bits: int) -> NDArray[Any]:
    return np.rint(WAVE * 2.0 ** (bits - 1)).astype(f"i{bits // 8}")


def _npy(path: Path) -> None:
    np.save(path, _integers(16))


def _npz(path: Path) -> None:
    np.savez(path, x=_integers(32))


def _mat(path: Path) -> None:
    import scipy.io

    scipy.io.savemat(path, {"x": _integers(16)})


def _hdf5(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["x"] = _integers(8)


def _parquet(path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"x": _integers(16)}), path)


def _tdms(path: Path) -> None:
    make_tdms(path, _integers(16)[None])


def _fif(path: Path, form: str) -> None:
    import mne

    info = mne.create_info(["Cz"], 100.0, ["eeg"], verbose="error")
    raw = mne.io.RawArray(_integers(16 if form == "short" else 32)[None] * FIF_UNIT, info, verbose="error")
    raw.info["chs"][0]["cal"] = FIF_UNIT
    raw.save(path, fmt=form, verbose="error")


def _mseed(path: Path, encoding: int, bits: int = 32) -> None:
    import pymseed

    with pymseed.MS3TraceList() as traces:
        samples = _integers(bits).astype(np.int32)
        traces.add_data("FDSN:XX_STA__B_H_Z", samples, "i", 100.0, starttime=0)
        traces.to_file(path, max_record_length=512, encoding=pymseed.DataEncoding(encoding))


def _of(make: Callable[..., None], *options: Any) -> Callable[[Path], None]:
    return lambda path: make(path, *options)


CASES: dict[str, tuple[str, Callable[[Path], None], int, float]] = {  # suffix, maker, bits, unit
    "npy": ("a.npy", _npy, 16, 1),
    "npz": ("a.npz", _npz, 32, 1),
    "mat": ("a.mat", _mat, 16, 1),
    "hdf5": ("a.h5", _hdf5, 8, 1),
    "parquet": ("a.parquet", _parquet, 16, 1),
    "tdms": ("a.tdms", _tdms, 16, 1),
    "fif short": ("a_raw.fif", _of(_fif, "short"), 16, FIF_UNIT),
    "fif int": ("a_raw.fif", _of(_fif, "int"), 32, FIF_UNIT),
    "mseed int16": ("a.mseed", _of(_mseed, 1, 16), 16, 1),
    "mseed int32": ("a.mseed", _of(_mseed, 3), 32, 1),
    "mseed steim1": ("a.mseed", _of(_mseed, 10), 32, 1),
    "mseed steim2": ("a.mseed", _of(_mseed, 11, 16), 32, 1),
    "wfdb": ("a.hea", _wfdb, 16, 1e-3),
    "edf": ("a.edf", _edf, 16, 0),
    "bdf": ("a.bdf", lambda path: _edf(path, wide=True), 24, 0),
}


@pytest.mark.parametrize("name", CASES)
def test_integers_beyond_full_scale_are_clipped_and_counted(tmp_path: Path, name: str) -> None:
    file, make, bits, unit = CASES[name]
    (tmp_path / "out").mkdir()
    path, out = tmp_path / file, tmp_path / "out" / file
    make(path)
    array, info = io.read(path)
    low, high = -(2.0 ** (bits - 1)) * unit, (2.0 ** (bits - 1) - 1) * unit
    if not unit:  # EDF states its range in its own unit, of which the wave takes half
        low, high = 2 * float(array.min()), 2 * float(array.max())
    loud = array * 1.5 * max(high / np.abs(array).max(), 1)
    with io.writer(out, info) as sink:
        sink.write(loud)
    got = io.read(out)[0]
    step = unit or (high - low) / 2**bits
    np.testing.assert_allclose(got, np.clip(loud, low, high), atol=1.001 * step)
    assert sink.clipped == pytest.approx(((loud < low) | (loud > high)).sum(), abs=2)
    assert sink.clipped > 0
    assert f"clipped {sink.clipped} samples to the range of the file's numbers" in sink.notes


def test_a_gap_has_no_place_among_packed_integers(tmp_path: Path) -> None:
    path = tmp_path / "a_raw.fif"
    _fif(path, "short")
    array, info = io.read(path)
    array[0, 7] = np.nan
    with pytest.raises(OutputError, match="a gap cannot be written as an integer"):
        io.write(tmp_path / "b_raw.fif", array, info)


def test_counts_of_meg_are_rounded_not_cut(tmp_path: Path) -> None:
    import mne

    path, out = tmp_path / "a_raw.fif", tmp_path / "b_raw.fif"
    _fif(path, "short")
    array, info = io.read(path)
    io.write(out, array + 0.6 * FIF_UNIT, info)
    counts = [
        np.rint(mne.io.read_raw_fif(file, verbose="error").get_data()[0] / FIF_UNIT) for file in (path, out)
    ]
    np.testing.assert_array_equal(counts[1], counts[0] + 1)
