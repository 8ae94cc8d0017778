"""Metrics: identity, scale, reference values, gaps, blocks."""

import importlib
import math
import warnings
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from denoise import metrics
from denoise.errors import InputError, UsageError
from denoise.options import CleanOptions
from pipelines.batch import run as batch
from pipelines.batch.jobs import CleanJob
from pipelines.benchmark.job import BenchmarkJob
from pipelines.benchmark.run import benchmark
from pipelines.score import score_file

Array = NDArray[np.float64]

RATIOS = ["psnr_db", "snr_db", "si_sdr_db"]
SUMMED = [*RATIOS, "mse", "rmse"]


def pair(shape: tuple[int, ...] = (2, 4000), noise: float = 0.1, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    reference = rng.normal(size=shape)
    return reference, reference + noise * rng.normal(size=shape)


@pytest.mark.parametrize("name", metrics.METRICS)
def test_every_row_is_a_documented_function_of_the_module(name: str) -> None:
    function = metrics.metric(name).function
    assert function is getattr(metrics, name)
    assert function.__doc__


def test_a_new_metric_is_one_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A row is reported by `score`, `benchmark` and `clean --reference`, with a streaming form or without."""

    def error_sum(reference: Array, estimate: Array, **_: object) -> float:
        """Sum of the absolute errors."""
        return float(np.abs(estimate - reference).sum())

    def half_mse(sums: Any, _: float | None) -> float:
        return float(sums.mse() / 2)

    rows = {
        "error_sum": metrics.Metric(error_sum, ("image", "audio", "sensor")),
        "half_mse": metrics.Metric(error_sum, ("audio",), half_mse),
    }
    monkeypatch.setattr(metrics, "METRICS", {**metrics.METRICS, **rows})
    reference, estimate = pair((1, 500))
    scorer = metrics.Scorer("audio")
    for block in (np.s_[:, :200], np.s_[:, 200:]):
        scorer.update(reference[block], estimate[block])
    assert scorer.result()["error_sum"] == pytest.approx(error_sum(reference, estimate))
    assert scorer.result()["half_mse"] == pytest.approx(metrics.mse(reference, estimate) / 2)

    clean, noisy = tmp_path / "clean.csv", tmp_path / "noisy.csv"
    for path, signal in ((clean, reference), (noisy, estimate)):
        rows_of_text = "".join(f"{n / 100:.2f},{value:.6f}\n" for n, value in enumerate(signal[0]))
        path.write_text("time_s,x\n" + rows_of_text)
    assert score_file(clean, noisy)[0]["error_sum"] == pytest.approx(error_sum(reference, estimate), rel=1e-3)
    job = BenchmarkJob(inputs=(clean,), noise="gaussian", levels=(10,), models=("none",))
    (row,) = benchmark(job).rows
    assert row.metrics["error_sum"] == row.noisy_metrics["error_sum"]
    options = CleanOptions(model="none", reference=clean)
    (entry,) = batch.run(CleanJob(inputs=(noisy,), output=tmp_path / "out", options=options)).entries
    assert entry.metrics["error_sum"] == pytest.approx(error_sum(reference, estimate), rel=1e-3)


def test_an_unknown_metric_is_refused_with_a_hint() -> None:
    with pytest.raises(UsageError, match="psnr_db"):
        metrics.metric("psnr")


@pytest.mark.parametrize("name", RATIOS)
def test_identical_arrays_are_infinitely_good(name: str) -> None:
    reference, _ = pair()
    assert metrics.metric(name)(reference, reference.copy(), peak=1.0) == math.inf


def test_identical_arrays_have_no_error() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (3, 20, 30), dtype=np.uint8)
    assert metrics.mse(picture, picture) == metrics.rmse(picture, picture) == 0.0
    assert metrics.ssim(picture, picture, peak=255.0) == pytest.approx(1.0)
    assert metrics.seg_snr_db(*[pair()[0]] * 2, sample_rate=8000.0) == 35.0


def test_psnr_of_a_known_error() -> None:
    reference = np.full((3, 4, 4), 100, dtype=np.uint8)
    estimate = reference + 5  # MSE 25
    assert metrics.psnr_db(reference, estimate, peak=255.0) == pytest.approx(10 * math.log10(255**2 / 25))
    assert metrics.psnr_db(estimate, reference, peak=255.0) == metrics.psnr_db(
        reference, estimate, peak=255.0
    )


def test_psnr_depends_on_error_over_peak_only() -> None:
    rng = np.random.default_rng(2)
    reference = rng.integers(0, 200, (1, 32, 32)).astype(np.uint8)
    estimate = reference + rng.integers(0, 20, reference.shape).astype(np.uint8)
    eight = metrics.psnr_db(reference, estimate, peak=255.0)
    sixteen = metrics.psnr_db(
        reference.astype(np.uint16) * 257, estimate.astype(np.uint16) * 257, peak=65535.0
    )
    assert sixteen == pytest.approx(eight)


@pytest.mark.parametrize("name", ["psnr_db", "ssim"])
def test_the_peak_is_never_guessed(name: str) -> None:
    with pytest.raises(UsageError, match="peak"):
        metrics.metric(name)(np.zeros((1, 20, 20)), np.ones((1, 20, 20)))


@pytest.mark.parametrize("name", ["seg_snr_db", "pesq", "estoi"])
def test_the_rate_is_never_guessed(name: str) -> None:
    with pytest.raises(UsageError, match="sample_rate"):
        metrics.metric(name)(*pair((1, 400)))


def test_snr_of_a_known_error() -> None:
    reference = np.array([[1.0, -1.0, 1.0, -1.0]])  # variance 1
    assert metrics.snr_db(reference, reference + 0.1) == pytest.approx(20.0)
    assert metrics.snr_db(reference, np.zeros((1, 4))) == pytest.approx(0.0)


def test_snr_is_about_the_mean_and_unaffected_by_a_large_offset() -> None:
    reference, estimate = pair((1, 5000))
    assert metrics.snr_db(reference + 101_325.0, estimate + 101_325.0) == pytest.approx(
        metrics.snr_db(reference, estimate), abs=1e-6
    )


def test_snr_does_not_depend_on_the_units_of_a_channel() -> None:
    reference, estimate = pair((2, 1000))
    units = np.array([[1.0], [1000.0]])
    assert metrics.snr_db(reference * units, estimate * units) == pytest.approx(
        metrics.snr_db(reference, estimate)
    )


def test_a_channel_without_signal_is_left_out() -> None:
    reference, estimate = pair((1, 1000))
    silent = np.zeros((1, 1000))
    both = metrics.snr_db(np.concatenate([reference, silent]), np.concatenate([estimate, silent + 0.1]))
    assert both == pytest.approx(metrics.snr_db(reference, estimate))
    assert metrics.snr_db(silent, silent) == math.inf
    assert metrics.snr_db(silent, silent + 0.1) == -math.inf
    assert metrics.si_sdr_db(silent, estimate) == -math.inf


@given(
    gain=st.floats(0.01, 100.0),
    sign=st.sampled_from([-1.0, 1.0]),
    offset=st.floats(-10.0, 10.0),
    noise=st.floats(0.01, 10.0),
)
@settings(max_examples=40, deadline=None)
def test_si_sdr_ignores_gain_and_offset(gain: float, sign: float, offset: float, noise: float) -> None:
    reference, estimate = pair((1, 500), noise)
    expected = metrics.si_sdr_db(reference, estimate)
    assert metrics.si_sdr_db(reference, sign * gain * estimate + offset) == pytest.approx(expected, abs=1e-4)
    assert metrics.si_sdr_db(gain * reference + offset, estimate) == pytest.approx(expected, abs=1e-4)


def test_si_sdr_by_its_definition() -> None:
    reference, estimate = pair((1, 3000), 0.5)
    r, e = reference[0] - reference.mean(), estimate[0] - estimate.mean()
    target = (e @ r) / (r @ r) * r
    expected = 10 * math.log10((target @ target) / ((e - target) @ (e - target)))
    assert metrics.si_sdr_db(reference, estimate) == pytest.approx(expected, abs=1e-9)


def test_si_sdr_of_nothing_but_error() -> None:
    reference = np.array([[1.0, -1.0, 1.0, -1.0]])
    assert metrics.si_sdr_db(reference, 3.0 * reference) == math.inf
    assert metrics.si_sdr_db(reference, np.zeros((1, 4))) == -math.inf
    assert metrics.si_sdr_db(reference, np.array([[1.0, 1.0, -1.0, -1.0]])) == -math.inf  # orthogonal


def test_segmental_snr_averages_frames_in_decibels() -> None:
    rate = 1000.0  # frames of 30 samples
    reference = np.tile([1.0, -1.0], 45)[None]
    error = np.repeat([0.1, 1.0, 100.0], 30)[None]  # 20 dB, 0 dB, and -40 that counts as -10
    assert metrics.seg_snr_db(reference, reference + error, sample_rate=rate) == pytest.approx(10.0 / 3.0)
    reference[:, 30:60] = 0.0  # silent: left out
    assert metrics.seg_snr_db(reference, reference + error, sample_rate=rate) == pytest.approx(5.0)


@pytest.mark.parametrize("shape", [(1, 40, 50), (3, 33, 12), (3, 300, 1000)])
def test_ssim_agrees_with_scikit_image(shape: tuple[int, ...]) -> None:
    from skimage.metrics import structural_similarity

    rng = np.random.default_rng(5)
    reference = rng.integers(0, 256, shape, dtype=np.uint8)
    estimate = (reference * 0.8 + rng.integers(0, 40, shape)).astype(np.uint8)
    expected = structural_similarity(  # type: ignore[no-untyped-call]
        reference,
        estimate,
        data_range=255,
        channel_axis=0,
        gaussian_weights=True,
        use_sample_covariance=False,
        sigma=1.5,
    )
    assert metrics.ssim(reference, estimate, peak=255.0) == pytest.approx(expected, abs=1e-6)


def test_ssim_of_small_and_gray_pictures() -> None:
    rng = np.random.default_rng(6)
    for shape in ((1, 1, 1), (1, 1, 30), (3, 7, 5)):
        reference = rng.random(shape)
        assert metrics.ssim(reference, reference, peak=1.0) == pytest.approx(1.0)
        assert metrics.ssim(reference, 1.0 - reference, peak=1.0) < 1.0
    flat = rng.random((20, 20))
    assert metrics.ssim(flat, flat**2, peak=1.0) == metrics.ssim(flat[None], flat[None] ** 2, peak=1.0)


@pytest.mark.parametrize("name", SUMMED)
@pytest.mark.parametrize("holed", ["reference", "estimate"])
def test_gaps_are_left_out_pairwise(name: str, holed: str) -> None:
    reference, estimate = pair((1, 600))
    expected = metrics.metric(name)(reference[:, 100:], estimate[:, 100:], peak=1.0)
    {"reference": reference, "estimate": estimate}[holed][:, :100] = np.nan
    assert metrics.metric(name)(reference, estimate, peak=1.0) == pytest.approx(expected)


def test_gaps_in_frames_and_pictures() -> None:
    reference, estimate = pair((1, 600))
    estimate[:, 3] = np.nan
    assert math.isfinite(metrics.seg_snr_db(reference, estimate, sample_rate=1000.0))
    picture, other = pair((1, 40, 40))
    expected = metrics.ssim(picture[:, :, 12:], other[:, :, 12:], peak=1.0)
    other[:, :, 6] = np.nan  # spoils the windows up to column 11; with the border, the rest begins at 12 + 5
    picture[:, :, 12:17] = np.nan
    assert metrics.ssim(picture, other, peak=1.0) != pytest.approx(expected)
    assert math.isfinite(metrics.ssim(picture, other, peak=1.0))


@pytest.mark.parametrize("name", SUMMED)
def test_nothing_to_compare_is_an_error(name: str) -> None:
    with pytest.raises(InputError, match="no pair"):
        metrics.metric(name)(np.full((1, 9), np.nan), np.zeros((1, 9)), peak=1.0)


@pytest.mark.parametrize("name", [*SUMMED, "ssim", "seg_snr_db"])
def test_shapes_must_agree(name: str) -> None:
    with pytest.raises(InputError, match=r"\(1, 21, 20\).*\(1, 20, 20\)"):
        metrics.metric(name)(np.zeros((1, 20, 20)), np.zeros((1, 21, 20)), peak=1.0, sample_rate=10.0)


def test_integers_do_not_wrap() -> None:
    assert metrics.mse(np.array([[0, 255]], np.uint8), np.array([[255, 0]], np.uint8)) == 255.0**2


@pytest.mark.parametrize(
    ("modality", "shape", "known", "given"),
    [
        ("image", (1, 40, 40), {"psnr_db", "ssim"}, {"peak": 1.0}),
        ("audio", (2, 500), {"snr_db", "si_sdr_db"}, {"peak": 1.0, "sample_rate": 16_000.0}),
        ("sensor", (2, 500), {"snr_db", "rmse"}, {}),
    ],
)
def test_scores_of_each_modality(
    modality: str, shape: tuple[int, ...], known: set[str], given: dict[str, float]
) -> None:
    reference, estimate = pair(shape)
    scores = metrics.score(reference, estimate, modality, **given)
    assert known <= scores.keys()
    assert scores == pytest.approx(
        {name: metrics.metric(name)(reference, estimate, **given) for name in metrics.reported(modality)}
    )


def test_an_unknown_modality_is_refused() -> None:
    with pytest.raises(UsageError, match="modality"):
        metrics.score(*pair(), "video")


@given(cuts=st.lists(st.integers(0, 900), max_size=6), modality=st.sampled_from(["audio", "sensor"]))
@settings(max_examples=30, deadline=None)
def test_scoring_in_blocks_is_scoring_the_whole(cuts: list[int], modality: str) -> None:
    reference, estimate = pair((2, 900))
    reference[:, :20] = np.nan
    edges = [0, *sorted(cuts), 900]
    scorer = metrics.Scorer(modality)
    for start, stop in pairwise(edges):
        scorer.update(reference[:, start:stop], estimate[:, start:stop])
    assert scorer.result() == pytest.approx(metrics.score(reference, estimate, modality), abs=1e-9)


def test_pages_are_scored_together() -> None:
    first, second = pair((1, 30, 30)), pair((1, 30, 30), noise=0.3, seed=1)
    scorer = metrics.Scorer("image", peak=1.0)
    scorer.update(*first)
    scorer.update(*second)
    mse = (metrics.mse(*first) + metrics.mse(*second)) / 2
    assert scorer.result()["psnr_db"] == pytest.approx(-10 * math.log10(mse))
    assert scorer.result()["ssim"] == pytest.approx(
        (metrics.ssim(*first, peak=1.0) + metrics.ssim(*second, peak=1.0)) / 2
    )


def test_mean_leaves_out_what_is_not_finite() -> None:
    assert metrics.finite_mean([1.0, math.inf, None, math.nan, 3.0]) == 2.0
    assert metrics.finite_mean([math.inf]) is None


@pytest.mark.parametrize(("name", "package"), [("pesq", "pesq"), ("estoi", "pystoi")])
def test_a_missing_extra_is_named(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(module: str) -> object:
        raise ImportError(module)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(UsageError, match=rf"{package}.*denoise-pipelines\[metrics\]"):
        getattr(metrics, name)(*pair((1, 100)), sample_rate=16_000.0)


class NoUtterancesError(Exception):
    """Stand-in for the error of the package `pesq`."""


def test_pesq_is_asked_at_a_rate_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fake_pesq(rate: int, reference: Array, estimate: Array, mode: str) -> float:
        if not reference.any():
            raise NoUtterancesError
        asked.append((rate, mode, reference.shape, estimate.shape))
        return float(len(asked))

    package = SimpleNamespace(pesq=fake_pesq, PesqError=NoUtterancesError)
    monkeypatch.setattr(importlib, "import_module", lambda _: package)
    reference, estimate = pair((1, 8000))
    metrics.pesq(reference, estimate, sample_rate=8_000.0)
    metrics.pesq(reference, estimate, sample_rate=16_000.0)
    metrics.pesq(reference, estimate, sample_rate=48_000.0)
    assert [(rate, mode) for rate, mode, *_ in asked] == [(8_000, "nb"), (16_000, "wb"), (16_000, "wb")]
    assert asked[2][2] == asked[2][3] == pytest.approx((8000 // 3,), abs=2)
    assert metrics.pesq(*pair((2, 100)), sample_rate=16_000.0) == 4.5  # the mean of the fourth and the fifth
    with pytest.raises(InputError, match="NoUtterancesError"):
        metrics.pesq(np.zeros((1, 100)), estimate[:, :100], sample_rate=16_000.0)


def test_estoi_of_too_little_speech_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake_stoi(reference: Array, estimate: Array, rate: int, *, extended: bool) -> float:
        assert extended
        assert rate == 16_000
        if reference.size < 1000:
            warnings.warn("Not enough STFT frames", RuntimeWarning, stacklevel=1)
        return 0.7 if reference.shape == estimate.shape else 0.0

    monkeypatch.setattr(importlib, "import_module", lambda _: SimpleNamespace(stoi=fake_stoi))
    assert metrics.estoi(*pair((2, 4000)), sample_rate=16_000.0) == pytest.approx(0.7)
    with pytest.raises(InputError, match="speech"):
        metrics.estoi(*pair((1, 500)), sample_rate=16_000.0)
