"""Codes of files: their positions, archives, quantisation, and reconstruction."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import tifffile
from PIL import Image

import denoise
from denoise import io
from denoise.analysis import codes as coding
from denoise.analysis.segments import Segmentation, Segments
from denoise.errors import InputError, UnreadableError, UsageError

RNG = np.random.default_rng(0)
SETTINGS = {"code_size": 4, "steps": 150, "lr": 1e-2, "config": {"widths": (16,), "activation": "linear"}}


def fitted(path: Path, cut: Segmentation, weights: Path) -> Path:
    """A weights file of a model trained on a file's own segments."""
    items = np.stack([segment.values for segment in Segments(path, cut)])
    embedding = denoise.AutoencoderEmbedding(modality=cut.modality, **SETTINGS).fit(items)  # type: ignore[arg-type]
    embedding.save(weights, "mine", cut)
    return weights


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Two columns, each window determined by four numbers; one column has a gap."""
    time = np.arange(640) / 50
    values = [np.sin(time) + 0.3 * time + 40, 1000 * np.cos(2 * time)]
    rows = [f"{t:.2f},{a:.6f},{b:.6f}\n" for t, a, b in zip(time, *values, strict=True)]
    rows[100] = "2.00,,1.5\n"
    (tmp_path / "a.csv").write_text("time_s,x,y\n" + "".join(rows))
    return tmp_path / "a.csv"


CUT = Segmentation("sensor", (32,), standardise=True)


def test_codes_know_their_places_and_what_they_lose(log: Path, tmp_path: Path) -> None:
    model = fitted(log, CUT, tmp_path / "m.safetensors")
    codes = denoise.embed(log, model)
    assert (codes.name, codes.codes.shape) == ("a.csv", (39, 4))
    assert [place.channel for place in codes.places(CUT)][:8] == [0, 1, 0, 1, 0, 1, 1, 0]
    values = np.stack([segment.values for segment in Segments(log, CUT)])
    embedding, _ = denoise.AutoencoderEmbedding.load(model)
    np.testing.assert_array_equal(codes.codes, embedding.transform(values))
    assert codes.squared_error == pytest.approx(embedding.reconstruction_error(values).mean() * values.size)
    assert codes.energy == pytest.approx(values.var() * values.size)


def test_a_log_comes_back_with_its_clock_its_names_and_its_gaps(log: Path, tmp_path: Path) -> None:
    model = fitted(log, CUT, tmp_path / "m.safetensors")
    codes = denoise.embed(log, model)
    pages = denoise.reconstruct(codes, model)
    coding.write_pages(tmp_path / "back.csv", pages, codes, "sensor")
    truth, info = io.read(log)
    back, found = io.read(tmp_path / "back.csv")
    assert found.sample_rate == pytest.approx(info.sample_rate)
    assert found.columns == info.columns
    assert np.isnan(back[0, 96:128]).all()
    assert np.isnan(back).sum() == 32
    there = ~np.isnan(back)
    noise = (truth - back)[there].var() / truth[there].var()
    assert noise < 3e-3


@pytest.mark.parametrize("bits", [None, 12, 6])
def test_an_archive_gives_back_what_went_in_to_half_a_step(
    log: Path, tmp_path: Path, bits: int | None
) -> None:
    model = fitted(log, CUT, tmp_path / "m.safetensors")
    walk = RNG.standard_normal((500, 1)).cumsum(0)
    walk[77] = np.nan
    np.save(tmp_path / "b.npy", walk)
    files = [denoise.embed(path, model) for path in (log, tmp_path / "b.npy")]
    coding.save(tmp_path / "c.npz", CUT, files, model, keep_model=True, bits=bits)
    archive = coding.load(tmp_path / "c.npz")
    assert archive.cut == CUT
    assert archive.model == model.read_bytes()
    every = np.concatenate([file.codes for file in files])
    step = 0.0 if bits is None else np.ptp(every, axis=0) / (2**bits - 1)
    for file, back in zip(files, archive.files, strict=True):
        assert (back.name, back.pages) == (file.name, file.pages)
        np.testing.assert_array_equal(back.index, file.index)
        assert (np.abs(back.codes - file.codes) <= step / 2 + 1e-5).all()
        np.testing.assert_array_equal(back.offset, file.offset)
        np.testing.assert_allclose(back.scale, file.scale, rtol=0.0 if bits is None else 0.005)
    with np.load(tmp_path / "c.npz") as plain:  # numpy alone can locate every code
        assert plain["file"].tolist() == [0] * 39 + [1] * 15
        assert ("start" in plain.files) is (bits is None)


def test_fewer_bits_make_smaller_files(log: Path, tmp_path: Path) -> None:
    model = fitted(log, CUT, tmp_path / "m.safetensors")
    np.save(tmp_path / "b.npy", RNG.standard_normal((40_000, 1)).cumsum(0))
    codes = denoise.embed(tmp_path / "b.npy", model)
    sizes = []
    for bits in (None, 8, 4, 2):
        coding.save(tmp_path / "c.npz", CUT, [codes], model, bits=bits)
        sizes.append((tmp_path / "c.npz").stat().st_size)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < 0.4 * sizes[0]
    with pytest.raises(UsageError, match="17 bits"):
        coding.save(tmp_path / "c.npz", CUT, [codes], model, bits=17)


def test_pictures_come_back_with_all_their_pages(tmp_path: Path) -> None:
    ramps = [np.add.outer(np.arange(rows), np.arange(40)).astype(np.uint8) * 2 for rows in (33, 21)]
    tifffile.imwrite(tmp_path / "a.tif", ramps[0])
    tifffile.imwrite(tmp_path / "a.tif", ramps[1], append=True)
    cut = Segmentation("image", (8, 8))
    model = fitted(tmp_path / "a.tif", cut, tmp_path / "m.safetensors")
    codes = denoise.embed(tmp_path / "a.tif", model)
    assert coding.suffix_of(codes, "image") == ".tif"
    coding.write_pages(tmp_path / "back.tif", denoise.reconstruct(codes, model), codes, "image")
    for number, ramp in enumerate(ramps):
        back = tifffile.imread(tmp_path / "back.tif", key=number)
        assert back.shape == ramp.shape
        assert np.abs(back.astype(int) - ramp).max() <= 4


def test_a_picture_as_a_whole_comes_back_in_its_own_size(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 50 * 30).reshape(50, 30).astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    cut = Segmentation("image", (8, 8), whole=True)
    model = fitted(tmp_path / "a.png", cut, tmp_path / "m.safetensors")
    (page,) = denoise.reconstruct(denoise.embed(tmp_path / "a.png", model), model)
    assert page.shape == (1, 50, 30)
    assert np.corrcoef(page.ravel(), ramp.ravel())[0, 1] > 0.98


def test_a_recording_comes_back_at_its_rate(tmp_path: Path) -> None:
    tone = 0.4 * np.sin(2 * np.pi * 200 * np.arange(16_000) / 16_000)
    sf.write(tmp_path / "a.wav", tone, 16_000, subtype="FLOAT")
    cut = Segmentation("audio", (64,), sample_rate=8000)
    model = fitted(tmp_path / "a.wav", cut, tmp_path / "m.safetensors")
    codes = denoise.embed(tmp_path / "a.wav", model)
    coding.write_pages(tmp_path / "back.wav", denoise.reconstruct(codes, model), codes, "audio")
    back, rate = sf.read(tmp_path / "back.wav")
    assert (rate, len(back)) == (16_000, 16_000)
    assert np.square(back - tone)[200:-200].mean() < 1e-3 * np.square(tone).mean()


def test_an_archive_of_arrays_comes_back_as_one_and_a_page_of_gaps_as_gaps(tmp_path: Path) -> None:
    arrays = {
        "one": RNG.standard_normal(64),
        "two": RNG.standard_normal((96, 2)),
        "holes": np.where(np.arange(32) == 9, np.nan, RNG.standard_normal(32)),
    }
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    model = fitted(tmp_path / "a.npz", CUT, tmp_path / "m.safetensors")
    codes = denoise.embed(tmp_path / "a.npz", model)
    coding.save(tmp_path / "c.npz", CUT, [codes], model)
    (again,) = coding.load(tmp_path / "c.npz").files
    coding.write_pages(tmp_path / "back.npz", denoise.reconstruct(again, model), again, "sensor")
    with np.load(tmp_path / "back.npz") as back:
        assert {name: back[name].shape for name in back} == {
            "one": (64,), "two_0": (96,), "two_1": (96,), "holes": (32,)
        }  # fmt: skip
        assert np.isnan(back["holes"]).all()
        assert np.isfinite(back["two_1"]).all()


def test_a_file_of_nothing_but_gaps_has_no_code(log: Path, tmp_path: Path) -> None:
    model = fitted(log, CUT, tmp_path / "m.safetensors")
    holes = RNG.standard_normal(64)
    holes[::20] = np.nan
    np.save(tmp_path / "b.npy", holes)
    with pytest.raises(InputError, match=r"b\.npy: each of its 2 segments holds a gap"):
        denoise.embed(tmp_path / "b.npy", model)


def test_what_is_no_archive_is_told_in_a_sentence(log: Path, tmp_path: Path) -> None:
    model = fitted(log, CUT, tmp_path / "m.safetensors")
    coding.save(tmp_path / "c.npz", CUT, [denoise.embed(log, model)], model)
    with np.load(tmp_path / "c.npz") as whole:
        arrays = dict(whole)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "c.npz").read_bytes()[:-100])
    (tmp_path / "empty.npz").write_bytes(b"")
    np.savez(tmp_path / "other.npz", codes=np.zeros(3))
    np.savez(
        tmp_path / "short.npz",
        **{k: v for k, v in arrays.items() if k not in ("file", "codes")},
        codes=arrays["codes"][:5],
    )
    about = (
        arrays["about"]
        .tobytes()
        .replace(b'"length": 640', b'"length": 640')
        .replace(b"[2, 640]", b"[2, 9999999999999]")
    )
    np.savez(
        tmp_path / "bomb.npz",
        **{k: v for k, v in arrays.items() if k not in ("file", "about")},
        about=np.frombuffer(about, np.uint8),
    )
    for name in ("cut", "empty", "other", "short", "bomb", "none"):
        with pytest.raises(UnreadableError, match=f"{name}.npz: .*expected"):
            coding.load(tmp_path / f"{name}.npz")
