"""Anomalies are detected and located, at the promised rate of false alarms."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

import denoise
from denoise import AnomalyDetector
from denoise.errors import InputError, UsageError, WeightsError

SIZE = 32
SMALL: dict[str, Any] = {"config": {"widths": (64, 32)}}


def waves(count: int, seed: int) -> NDArray[np.float32]:
    """Sines of one frequency with random phases and levels, and a little noise."""
    rng = np.random.default_rng(seed)
    phase, loudness = rng.uniform(0, 2 * np.pi, (count, 1)), rng.uniform(0.7, 1.3, (count, 1))
    clean = loudness * np.sin(2 * np.pi * np.arange(SIZE) / 16 + phase)
    return (clean + rng.normal(0, 0.03, clean.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def detector() -> AnomalyDetector:
    return AnomalyDetector(quantile=0.95, code_size=3, steps=400, settings=SMALL).fit(waves(2000, 0))


def test_unseen_normal_items_raise_as_many_alarms_as_promised(detector: AnomalyDetector) -> None:
    unseen = waves(4000, 1)
    deviation = np.sqrt(0.05 * 0.95 * (1 / 400 + 1 / len(unseen)))  # 400 were held out for the threshold
    assert (detector.predict(unseen) == -1).mean() == pytest.approx(0.05, abs=4 * deviation)


def test_what_is_unlike_is_found_whatever_it_is(detector: AnomalyDetector) -> None:
    normal = waves(200, 2)
    spiked, faster, louder, silent = normal.copy(), np.zeros_like(normal), 3 * normal, 0 * normal
    spiked[:, 13] += 0.5
    faster[:] = np.sin(2 * np.pi * np.arange(SIZE) / 8)
    for strange in (spiked, faster, louder, silent):
        assert (detector.predict(strange) == -1).mean() > 0.95


def test_an_error_counts_for_more_where_there_is_none_normally() -> None:
    """Loud noise in half of each item masks, in the mean squared error, anomalies of the quiet half."""
    rng = np.random.default_rng(0)
    deviation = np.r_[np.full(16, 1.0), np.full(16, 0.02)]
    learned, normal, strange = (rng.normal(0, 1, (n, 32)) * deviation for n in (2000, 400, 400))
    strange[:, 20] += 0.5
    detector = AnomalyDetector(code_size=2, steps=100, settings=SMALL, kind="windows").fit(learned)
    judged = np.concatenate([normal, strange])
    measured = detector.measure(judged)
    anomalous = np.arange(800) >= 400
    assert roc_auc_score(anomalous, measured.score) > 0.95
    assert roc_auc_score(anomalous, measured.error) < 0.65


def test_the_place_of_a_defect_is_named(detector: AnomalyDetector) -> None:
    strange = waves(50, 3)
    places = np.random.default_rng(4).integers(0, SIZE, 50)
    strange[np.arange(50), places] += 0.5
    where = detector.explain(strange)
    assert where.shape == (50, 1, SIZE)
    assert (where[:, 0].argmax(axis=1) == places).mean() > 0.95
    assert float(detector.explain(waves(500, 5)).mean()) == pytest.approx(1, abs=0.3)


def test_a_variational_one_gives_its_evidence() -> None:
    settings = {"config": {"widths": (64, 32), "bottleneck": "variational", "beta": 0.1}}
    detector = AnomalyDetector(code_size=3, steps=400, settings=settings).fit(waves(1000, 0))
    normal, strange = waves(300, 1), waves(300, 2)
    strange[:, 13] += 3
    elbo = detector.measure(normal).elbo
    unlike = detector.measure(strange).elbo
    assert elbo is not None
    assert unlike is not None
    assert roc_auc_score(np.arange(600) >= 300, -np.r_[elbo, unlike]) > 0.95
    embedding = detector.embedding_
    code = embedding.transform(normal)
    squares = np.square((normal - embedding.inverse_transform(code)) / embedding.scale_).sum(1)
    nats = -elbo - squares
    assert (nats >= 0.5 * np.square(code).sum(1) - 1e-3).all()  # of a normal distribution about the code


def test_a_saved_one_judges_as_before(detector: AnomalyDetector, tmp_path: Path) -> None:
    path, items = tmp_path / "m.safetensors", waves(300, 6) * np.linspace(0.5, 2, 300)[:, None]
    detector.save(path, "waves", denoise.Segmentation("sensor", (SIZE,)))
    loaded, cut = AnomalyDetector.load(path)
    assert cut == denoise.Segmentation("sensor", (SIZE,))
    np.testing.assert_allclose(loaded.score_samples(items), detector.score_samples(items), atol=1e-6)
    np.testing.assert_array_equal(loaded.predict(items), detector.predict(items))
    assert AnomalyDetector.load(path, 0.999)[0].threshold_ > detector.threshold_
    assert len(denoise.embed("data/samples/sensors/ecg_200hz.csv", path).codes)


def test_few_units_widen_the_threshold_and_a_saved_one_keeps_it(
    detector: AnomalyDetector, tmp_path: Path
) -> None:
    """Louder and quieter days: what four of them say of a fifth."""
    path, held = tmp_path / "m.safetensors", waves(800, 9)
    units = np.arange(800) // 200
    held *= np.array([0.7, 1.0, 1.3, 1.6])[units, None].astype(np.float32)
    alone, few = AnomalyDetector(quantile=0.99), AnomalyDetector(quantile=0.99)
    alone.calibrate(detector.embedding_, waves(500, 0), held)
    few.calibrate(detector.embedding_, waves(500, 0), held, units)
    assert few.threshold_ > alone.threshold_ + 0.5
    assert not alone.notes_
    assert few.notes_ == (
        "4 normal files or stretches set the threshold: too few to count one in 100, which takes about 248 "
        "normal files, or a quantile of 0.8 at most",
    )
    few.save(path, "waves", denoise.Segmentation("sensor", (SIZE,)))
    loaded, _ = AnomalyDetector.load(path)
    assert (loaded.threshold_, loaded.unit_nats_) == pytest.approx((few.threshold_, few.unit_nats_))
    assert loaded.notes_ == few.notes_
    with pytest.raises(UsageError, match="one unit; expected at least two"):
        few.calibrate(detector.embedding_, waves(500, 0), held, np.zeros(800))


def test_what_says_nothing_of_normal_is_refused(detector: AnomalyDetector, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    detector.embedding_.save(path, "waves", denoise.Segmentation("sensor", (SIZE,)))
    with pytest.raises(UsageError, match="has no threshold"):
        AnomalyDetector.load(path)
    for known in ({}, {"quantile": 0.9, "middle": [0, 0, 0], "unit": [1, 1, -1]}, {"quantile": "x"}, 7):
        detector.embedding_.save(path, "waves", denoise.Segmentation("sensor", (SIZE,)), anomalies=known)
        with pytest.raises(WeightsError, match="has no valid threshold"):
            AnomalyDetector.load(path)


def test_the_protocol_of_outlier_detectors(detector: AnomalyDetector) -> None:
    from sklearn.utils import get_tags
    from sklearn.utils.validation import check_is_fitted

    assert get_tags(detector).estimator_type == "outlier_detector"
    check_is_fitted(detector)
    copy = clone(detector).set_params(steps=3, kind="windows")
    assert copy.get_params() == {**detector.get_params(), "steps": 3, "kind": "windows"}
    items = waves(60, 7)
    np.testing.assert_allclose(
        detector.decision_function(items), detector.score_samples(items) - detector.offset_
    )
    assert ((detector.decision_function(items) < 0) == (detector.predict(items) == -1)).all()
    assert set(copy.fit_predict(items)) <= {1, -1}
    with pytest.raises(ValueError, match="expected one of quantile"):
        copy.set_params(quantil=1)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="not fitted"):
        AnomalyDetector().predict(waves(3, 0))
    with pytest.raises(InputError, match="24 items; expected at least 20"):
        AnomalyDetector(kind="windows").fit(waves(24, 0))
    with pytest.raises(InputError, match="9 rows; expected at least 10"):
        AnomalyDetector().fit(waves(9, 0))
    for wrong in ({"quantile": 1.0}, {"held_out": 0.0}, {"tail": "normal"}, {"code_size": 0}, {"kind": "x"}):
        with pytest.raises(UsageError, match=r"expected|known"):
            AnomalyDetector(steps=1, **{"kind": "windows", **wrong}).fit(waves(40, 0))


def test_a_file_says_when(detector: AnomalyDetector, tmp_path: Path) -> None:
    cut = denoise.Segmentation("sensor", (SIZE,), step=SIZE // 2)
    rng = np.random.default_rng(8)
    wave = np.sin(2 * np.pi * np.arange(3200) / 16) + rng.normal(0, 0.03, 3200)
    for name, values in (("good", wave), ("bad", wave.copy())):
        if name == "bad":
            values[1600:1616] = 0  # a stuck sensor
        lines = [f"{n / 100:.2f},{value:.4f}\n" for n, value in enumerate(values)]
        (tmp_path / f"{name}.csv").write_text("time,x\n" + "".join(lines))
    strict = AnomalyDetector(quantile=0.999)
    strict.calibrate(detector.embedding_, waves(2000, 0), waves(1000, 9))
    good, bad = (denoise.anomalies(tmp_path / f"{name}.csv", (strict, cut)) for name in ("good", "bad"))
    assert not good.anomalous
    assert bad.anomalous
    assert bad.p_value < 1e-4 < good.p_value
    times = [(bad.segments[n].start_s, bad.segments[n].stop_s) for n in np.flatnonzero(bad.flags)]
    assert times
    assert all(
        start is not None and stop is not None and start < 16.16 and stop > 16 for start, stop in times
    )


def areas(digit: int) -> list[float]:
    """Area under the curve without one digit in training: ours, PCA, isolation forest, one-class SVM."""
    pixels, shown = load_digits(return_X_y=True)
    normal = np.random.default_rng(digit).permutation(np.flatnonzero(shown != digit))
    learned, others = (pixels[part] / 16 for part in np.split(normal, [len(normal) // 2]))
    judged = np.concatenate([others, pixels[shown == digit] / 16])
    anomalous = np.arange(len(judged)) >= len(others)
    pca = PCA(0.9, svd_solver="full").fit(learned)
    machine = make_pipeline(StandardScaler(), OneClassSVM(nu=0.1))
    scores = [
        -AnomalyDetector(steps=400).fit(learned).score_samples(judged),
        np.square(judged - pca.inverse_transform(pca.transform(judged))).sum(1),
        -IsolationForest(n_estimators=200, random_state=0).fit(learned).score_samples(judged),
        -machine.fit(learned).decision_function(judged),
    ]
    return [float(roc_auc_score(anomalous, score)) for score in scores]


def test_a_digit_that_was_never_learned_is_told_better_than_by_others() -> None:
    ours, *others = areas(3)
    assert ours > max(others) + 0.1


@pytest.mark.slow
def test_so_it_is_in_the_mean_of_all_ten() -> None:
    ours, *others = np.mean([areas(digit) for digit in range(10)], axis=0)
    assert ours > 0.93
    assert ours > max(others) + 0.08


FEW_VALUES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "counts": lambda rng, n: rng.poisson(3, (n, 1)),
    "whole numbers": lambda rng, n: rng.integers(20, 80, (n, 1)),
    "flags": lambda rng, n: rng.integers(0, 2, (n, 3)),
    "ratings": lambda rng, n: rng.integers(1, 6, (n, 2)),
    "tenths and a flag": lambda rng, n: np.stack([rng.normal(20, 2, n).round(1), rng.integers(0, 2, n)], 1),
    "one value": lambda _rng, n: np.full((n, 2), 7),
}


@pytest.mark.parametrize("values", FEW_VALUES.values(), ids=FEW_VALUES)
def test_items_that_equal_normal_ones_pass(values: Callable[..., np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    detector = denoise.AnomalyDetector().fit(values(rng, 1000).astype(float))
    new = values(rng, 2000).astype(float)
    assert np.mean(detector.predict(new) < 0) < 0.025
    wild = new[:5].copy()
    wild[:, -1] += 100
    assert (detector.predict(wild) < 0).all()
    assert -detector.score_samples(wild).max() > -np.median(detector.score_samples(new)) + 1
