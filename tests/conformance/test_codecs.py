"""Promises of every suffix in the table of formats; a new format needs one sample builder here."""

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pylibjxl
import pytest
from numpy.typing import NDArray

from denoise import io
from denoise.errors import DenoiseError, InputError
from denoise.infer.file import clean_file
from denoise.io.formats import FORMATS, modality_of, writable_suffixes
from denoise.signal import MODALITIES, AudioInfo, SignalInfo
from tests.io.sensor.makers import make_fif, make_mseed, make_tdms, make_xlsx

NOBODY = 65534  # a user who owns nothing
MEDIA = [
    suffix for row in FORMATS.values() if row.extra == "media" and row.writable for suffix in row.suffixes
]
EXACT_MEDIA = {".mkv", ".mka", ".ogv", ".caf", ".au", ".w64", ".wv", ".tta", ".avi"}
LOSSY = (
    {".jpg", ".jpeg", ".heic", ".heif", ".hif", ".avif", ".ogg", ".oga", ".opus", ".mp3", *MEDIA}
    - EXACT_MEDIA
    - {".wav"}
)
# Text cut in half is shorter text: no byte in it reveals the cut. Streams of packets may end after each.
NOT_FRAMED = {
    ".csv",
    ".tsv",
    ".aac",
    ".mts",
    ".m2ts",
    ".mpg",
    ".mpeg",
    ".vob",
    ".flv",
    ".ac3",
    ".amr",
    ".ogv",
    ".wv",
}
TWO_FILES = {".hea"}  # a header, and beside it the samples, which are whole


def _picture(path: Path, **options: Any) -> None:
    from PIL import Image

    Image.fromarray(_waves()).save(path, **options)


def _waves() -> NDArray[np.uint8]:
    y, x = np.mgrid[:45, :67]
    return np.stack([128 + 100 * np.sin((x * k + y) / 9) for k in (1, 2, 3)], axis=-1).astype(np.uint8)


def _heic(path: Path) -> None:
    pillow_heif.register_heif_opener()
    _picture(path, format="HEIF", quality=92)


def _sound(path: Path, container: str, subtype: str, rate: int = 48000) -> None:
    import soundfile

    t = np.arange(rate) / rate
    waves = np.stack([0.4 * np.sin(2 * np.pi * 440 * t), 0.3 * np.sin(2 * np.pi * 660 * t)], axis=1)
    soundfile.write(path, waves, rate, format=container, subtype=subtype)


def _media(path: Path) -> None:
    """Write a recording by the writer itself, at a rate that the format has."""
    rate, channels = (8000, 1) if path.suffix == ".amr" else (48000, 2)
    t = np.arange(2 * rate) / rate
    waves = np.stack([0.4 * np.sin(2 * np.pi * 440 * t), 0.3 * np.sin(2 * np.pi * 660 * t)])[:channels]
    info = AudioInfo(path.with_name("new"), "audio", waves.shape, "float32", 1.0, float(rate))
    io.write(path, waves.astype(np.float32), info)


def _log() -> NDArray[np.float64]:
    t = np.arange(300) / 100
    return np.stack([np.sin(2 * np.pi * t), np.cos(2 * np.pi * t)])


def _table(path: Path, delimiter: str) -> None:
    rows = [delimiter.join(("x", "y"))]
    rows += [delimiter.join(f"{value:.6f}" for value in row) for row in _log().T]
    path.write_text("\n".join(rows) + "\n")


def _parquet(path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    x, y = _log()
    pyarrow.parquet.write_table(pyarrow.table({"x": x, "y": y}), path)


def _wfdb(path: Path) -> None:
    stored = np.rint(_log() * 1000).astype("<i2")
    path.with_name("record.dat").write_bytes(stored.T.tobytes())
    sums = [int((row.sum(dtype=np.int64) + 0x8000) % 0x10000 - 0x8000) for row in stored]
    lines = [
        f"record.dat 16 1000(0)/mV 16 0 {row[0]} {s} 0 {name}"
        for row, s, name in zip(stored, sums, "xy", strict=True)
    ]
    path.write_text("\n".join(["record 2 100 300", *lines]) + "\n")


def _edf(path: Path, *, wide: bool = False) -> None:
    limit = 8388607 if wide else 32767
    stored = np.rint(_log() * limit / 2).astype("<i4").reshape(2, 3, 100)
    version = b"\xffBIOSEMI" if wide else b"0       "
    values = ["", "", "01.01.24", "00.00.00", 768, "", 3, 1, 2]
    sizes = (80, 80, 8, 8, 8, 44, 8, 8, 4)
    head = version + b"".join(str(v).ljust(n).encode() for v, n in zip(values, sizes, strict=True))
    rows = (("x", "y"), "", "mV", -2, 2, -limit, limit, "", 100, "")
    for row, size in zip(rows, (16, 80, 8, 8, 8, 8, 8, 80, 8, 32), strict=True):
        pair = row if isinstance(row, tuple) else (row, row)
        head += b"".join(str(value).ljust(size).encode() for value in pair)
    octets = stored.transpose(1, 0, 2).ravel().view(np.uint8).reshape(-1, 4)
    path.write_bytes(head + octets[:, : 3 if wide else 2].tobytes())


def _mat(path: Path) -> None:
    import scipy.io

    scipy.io.savemat(path, {"signal": _log().T, "name": "run"}, do_compression=True)


def _hdf5(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["signal"] = _log().T


SAMPLES: dict[str, Callable[[Path], None]] = {
    **dict.fromkeys(MEDIA, _media),
    ".png": _picture,
    ".jpg": lambda path: _picture(path, quality=92),
    ".jpeg": lambda path: _picture(path, quality=92),
    ".webp": lambda path: _picture(path, lossless=True),
    ".tif": _picture,
    ".tiff": lambda path: _picture(path, compression="tiff_lzw"),
    ".bmp": _picture,
    **dict.fromkeys((".heic", ".heif", ".hif"), _heic),
    ".avif": _picture,
    ".jxl": lambda path: path.write_bytes(pylibjxl.encode(_waves(), lossless=True)),
    ".wav": lambda path: _sound(path, "WAV", "PCM_16"),
    ".rf64": lambda path: _sound(path, "RF64", "PCM_16"),
    ".flac": lambda path: _sound(path, "FLAC", "PCM_16"),
    ".ogg": lambda path: _sound(path, "OGG", "VORBIS"),
    ".oga": lambda path: _sound(path, "OGG", "VORBIS"),
    ".opus": lambda path: _sound(path, "OGG", "OPUS"),
    ".mp3": lambda path: _sound(path, "MP3", "MPEG_LAYER_III"),
    ".aif": lambda path: _sound(path, "AIFF", "PCM_16"),
    ".aiff": lambda path: _sound(path, "AIFF", "PCM_24"),
    ".csv": lambda path: _table(path, ","),
    ".tsv": lambda path: _table(path, "\t"),
    ".npy": lambda path: np.save(path, _log().T),
    ".npz": lambda path: np.savez(path, signal=_log().T),
    ".parquet": _parquet,
    ".hea": _wfdb,
    ".edf": _edf,
    ".bdf": lambda path: _edf(path, wide=True),
    ".mat": _mat,
    ".h5": _hdf5,
    ".hdf5": _hdf5,
    ".xlsx": lambda path: make_xlsx(path, _log()),
    ".xlsm": lambda path: make_xlsx(path, _log()),
    ".tdms": lambda path: make_tdms(path, _log()),
    ".mseed": lambda path: make_mseed(path, _log()[:1]),
    ".miniseed": lambda path: make_mseed(path, _log()[:1]),
    ".fif": lambda path: make_fif(path, _log()),
}
SUFFIXES = [suffix for modality in MODALITIES for suffix in writable_suffixes(modality)]
every_suffix = pytest.mark.parametrize("suffix", SUFFIXES)


def test_the_tables_agree() -> None:
    assert set(MODALITIES) == set(io.CODECS)
    assert sorted(SAMPLES) == sorted(SUFFIXES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with spaces and letters beyond ASCII in its name."""
    folder = tmp_path / "mit Leerzeichen ü"
    folder.mkdir()
    return folder


@pytest.fixture
def sample(folder: Path, suffix: str) -> Path:
    path = folder / f"Probe 测{suffix}"
    SAMPLES[suffix](path)
    return path


def _rate_options(path: Path) -> dict[str, Any]:
    """State the rate of logs without timestamps."""
    return {"sample_rate": 100.0} if modality_of(path).name == "sensor" else {}


def _read(path: Path, **options: Any) -> NDArray[Any]:
    return io.read(path, **_rate_options(path), **options)[0]


def _same(found: NDArray[Any], expected: NDArray[Any], suffix: str) -> None:
    """Compare exactly, or within 20 dB for lossy formats."""
    if suffix in LOSSY:
        assert found.shape == expected.shape
        share = 1.0 if suffix == ".amr" else 0.01  # 12 kbit/s keep the sound of speech, not a waveform
        assert np.var(found.astype(np.float64) - expected) < share * np.var(expected.astype(np.float64))
    else:
        np.testing.assert_array_equal(found, expected)


def _probe_and_read(path: Path) -> NDArray[Any]:
    io.probe(path, **_rate_options(path))
    return _read(path)


def _refused(path: Path) -> None:
    """Expect a refusal by `probe` or by the reader, in a sentence that names the file."""
    with pytest.raises(InputError) as caught:
        _probe_and_read(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


@every_suffix
def test_round_trip(sample: Path, suffix: str, folder: Path) -> None:
    array, info = io.read(sample, **_rate_options(sample))
    before = array.copy()
    again = folder / f"again{suffix}"
    io.write(again, array, info)
    back, back_info = io.read(again, **_rate_options(again))
    np.testing.assert_array_equal(array, before)  # the writer does not change its input
    assert back.shape == array.shape
    assert back.dtype == array.dtype
    assert (back_info.sample_rate, back_info.peak, back_info.pages) == (
        info.sample_rate,
        info.peak,
        info.pages,
    )
    _same(back, array, suffix)


@every_suffix
def test_probe_says_what_the_reader_gives(sample: Path, suffix: str) -> None:
    info = io.probe(sample, **_rate_options(sample))
    array = _read(sample)
    assert info.source == sample
    assert suffix in writable_suffixes(info.modality)
    assert info.shape == array.shape
    assert info.dtype == array.dtype
    assert array.ndim == MODALITIES[info.modality].ndim + 1


@every_suffix
def test_blocks_make_the_whole(sample: Path) -> None:
    whole = _read(sample)
    options = {} if modality_of(sample).name == "image" else {"block": 97}
    with io.reader(sample, **_rate_options(sample), **options) as blocks:
        parts = list(blocks)
    if options:
        assert len(parts) > 1
        assert all(part.shape[-1] <= 97 for part in parts)
    np.testing.assert_array_equal(np.concatenate(parts, axis=-1), whole)


@every_suffix
def test_written_blockwise_is_written_whole(sample: Path, suffix: str, folder: Path) -> None:
    array, info = io.read(sample, **_rate_options(sample))
    cuts = [array] if info.modality == "image" else np.array_split(array, 7, axis=-1)
    one, many = folder / f"one{suffix}", folder / f"many{suffix}"
    io.write(one, array, info)
    with io.writer(many, info) as sink:
        for cut in cuts:
            sink.write(cut)
    _same(_read(many), _read(one), suffix)  # a lossy encoder may cut its frames where the writes end


@every_suffix
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_cut_short(sample: Path, suffix: str, share: float) -> None:
    content, whole = sample.read_bytes(), _read(sample).shape[-1]
    sample.write_bytes(content[: int(len(content) * share)])
    if suffix in NOT_FRAMED:
        # A cut inside a row may show as a row that is too short; values are never invented.
        with contextlib.suppress(InputError):
            assert _read(sample).shape[-1] <= whole * share + (6000 if suffix in MEDIA else 1)
    elif suffix not in TWO_FILES or share < 0.5:
        _refused(sample)


@every_suffix
def test_zero_length(folder: Path, suffix: str) -> None:
    path = folder / f"empty{suffix}"
    path.touch()
    _refused(path)


@every_suffix
def test_text_with_the_wrong_name(folder: Path, suffix: str) -> None:
    path = folder / f"letter{suffix}"
    path.write_text("Dear reader,\nthis is a letter and no signal at all.\n" * 20)
    _refused(path)


@every_suffix
def test_random_bytes(folder: Path, suffix: str) -> None:
    path = folder / f"noise{suffix}"
    path.write_bytes(np.random.default_rng(0).bytes(4000))
    _refused(path)


@every_suffix
def test_directory(folder: Path, suffix: str) -> None:
    path = folder / f"folder{suffix}"
    path.mkdir()
    _refused(path)


@every_suffix
def test_missing(folder: Path, suffix: str) -> None:
    _refused(folder / f"missing{suffix}")


@every_suffix
def test_symlink_loop(folder: Path, suffix: str) -> None:
    path = folder / f"loop{suffix}"
    path.symlink_to(path)
    _refused(path)


@contextmanager
def _as_nobody() -> Iterator[None]:
    """Read as an ordinary user, because root may read everything."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@every_suffix
def test_no_permission(sample: Path) -> None:
    _read(sample)  # import the lazy modules as a user with permission
    sample.chmod(0)
    with _as_nobody():
        _refused(sample)
    sample.chmod(0o600)


def _interrupted_write(target: Path, array: NDArray[Any], info: SignalInfo) -> None:
    with io.writer(target, info) as sink:
        sink.write(array if info.modality == "image" else array[..., : array.shape[-1] // 2])
        raise KeyboardInterrupt


@every_suffix
@pytest.mark.parametrize("old", [b"an older result", None])
def test_an_interrupted_write_leaves_the_old_file_or_none(
    sample: Path, suffix: str, folder: Path, old: bytes | None
) -> None:
    array, info = io.read(sample, **_rate_options(sample))
    target = folder / f"target{suffix}"
    if old is not None:
        target.write_bytes(old)
    before = {path.name for path in folder.iterdir()}
    with pytest.raises(KeyboardInterrupt):
        _interrupted_write(target, array, info)
    assert (target.read_bytes() if target.exists() else None) == old
    assert {path.name for path in folder.iterdir()} == before


@every_suffix
def test_a_missing_folder_is_an_error(sample: Path, suffix: str, folder: Path) -> None:
    array, info = io.read(sample, **_rate_options(sample))
    target = folder / "nowhere" / f"target{suffix}"
    with pytest.raises(DenoiseError, match="target"):
        io.write(target, array, info)


COPIED = [suffix for name in ("image", "audio") for suffix in writable_suffixes(name) if suffix not in MEDIA]


@pytest.mark.parametrize("suffix", COPIED)
def test_three_passes_that_remove_nothing_keep_every_byte(sample: Path, suffix: str, folder: Path) -> None:
    path = sample
    for number in range(3):
        following = folder / f"{number}{suffix}"
        clean_file(path, following, "none")
        assert following.read_bytes() == sample.read_bytes()
        path = following
