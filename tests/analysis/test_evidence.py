"""Evidence against items is exact for duplicates, honest for its own rows, and says what it leaves out."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from denoise import AnomalyDetector, Segmentation
from denoise.analysis.evidence import RowEvidence, is_signal
from denoise.analysis.neighbours import Neighbours
from denoise.errors import InputError, UsageError


def table(count: int, columns: int, seed: int) -> NDArray[np.float64]:
    """Correlated columns of very different units."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(count, columns)) @ np.random.default_rng(99).normal(size=(columns, columns))
    return mixed * 10.0 ** (np.arange(columns) % 7 - 3) + 5


@pytest.mark.parametrize("count", [300, 2500])
def test_neighbours_are_those_of_a_plain_search(count: int) -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(count, 7)).astype(np.float16).astype(np.float32)
    queries = rng.normal(size=(50, 7)).astype(np.float16).astype(np.float32)
    every = np.linalg.norm(queries[:, None] - points[None], axis=2)
    distances, indices = Neighbours(points).nearest(queries, 4)
    np.testing.assert_allclose(distances, np.sort(every, axis=1)[:, :4], atol=1e-5)
    np.testing.assert_array_equal(indices, np.argsort(every, axis=1)[:, :4])
    own = np.arange(50)
    distances, indices = Neighbours(points).nearest(points[:50], 4, own)
    every = np.linalg.norm(points[:50, None] - points[None], axis=2)
    every[own, own] = np.inf
    np.testing.assert_array_equal(indices, np.argsort(every, axis=1)[:, :4])


@pytest.mark.parametrize("count", [100, 2500])
def test_a_copy_has_distance_nought_and_a_point_is_not_its_own_neighbour(count: int) -> None:
    points = 30 + np.random.default_rng(0).normal(size=(count, 9))
    points[7] = points[3]
    near = Neighbours(points)
    assert near.nearest(points, 1)[0].max() == 0
    distances, indices = near.nearest(points, 1, np.arange(count))
    assert (indices[:, 0] != np.arange(count)).all()
    assert (indices[3, 0], indices[7, 0], distances[3, 0]) == (7, 3, 0)


@pytest.mark.parametrize("rows", [25, 90, 400])
def test_few_rows_raise_no_more_false_alarms_than_promised(rows: int) -> None:
    alarms = [
        (AnomalyDetector(0.95).fit(table(rows, 20, seed)).predict(table(500, 20, 1000 + seed)) == -1).mean()
        for seed in range(6)
    ]
    assert np.mean(alarms) < 0.05 + 4 * np.sqrt(0.05 * 0.95 * (1 / rows + 1 / 500) / 6)


def test_a_broken_relation_of_two_columns_is_found_from_thirty_rows() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(33, 1))
    learned = np.hstack([x, 1000 * x + rng.normal(0, 30, x.shape)])
    detector = AnomalyDetector().fit(learned)
    assert detector.embedding_ is None
    assert detector.predict([[1.0, 1000.0], [1.0, -1000.0]]).tolist() == [1, -1]
    where = detector.explain([[0.0, 0.0], [0.0, 9000.0]])
    assert where.shape == (2, 2)
    assert where[1].argmax() == 1


@pytest.mark.parametrize(("usual", "other"), [(7, 9), (7e-6, 9e-6), (0, 1), (1000, 1001)])
@pytest.mark.parametrize(("rows", "columns"), [(40, 12), (60, 4), (400, 12)])
def test_a_constant_column_is_kept_and_named(usual: float, other: float, rows: int, columns: int) -> None:
    rng = np.random.default_rng(0)
    learned, judged = rng.normal(size=(rows, columns)), rng.normal(size=(100, columns))
    learned[:, 2] = judged[:, 2] = usual
    detector = AnomalyDetector().fit(learned)
    note = f"column 2 is {usual:g} in every normal row: any other value counts as rare"
    assert detector.notes_ == (note,)
    assert (detector.predict(judged) == -1).mean() < 0.08
    judged[:, 2] = np.float32(usual)  # the same value, rounded
    assert (detector.predict(judged) == -1).mean() < 0.08
    judged[:, 2] = other
    assert (detector.predict(judged) == -1).all()


def test_flattened_signals_and_images_are_told_from_tables() -> None:
    rng = np.random.default_rng(0)
    wave = np.sin(np.arange(64) / 3 + rng.uniform(0, 6, (300, 1))) + rng.normal(0, 0.1, (300, 64))
    smooth = uniform_filter(rng.normal(size=(300, 20, 20)), (0, 3, 3)).reshape(300, 400)
    assert is_signal(wave)
    assert is_signal(smooth)
    assert not is_signal(table(300, 40, 0))
    assert not is_signal(rng.normal(size=(300, 1)) + rng.normal(size=(300, 40)))  # all columns alike


def test_rows_that_cannot_be_judged_are_refused(tmp_path: Path) -> None:
    detector = AnomalyDetector().fit(table(50, 4, 0))
    with pytest.raises(InputError, match="3 columns; expected 4"):
        detector.predict(np.zeros((2, 3)))
    with pytest.raises(InputError, match="NaN"):
        detector.predict(np.full((2, 4), np.nan))
    with pytest.raises(UsageError, match="no weights; expected one of windows"):
        detector.save(tmp_path / "m.safetensors", "m", Segmentation("sensor", (4,)))


def test_scores_do_not_depend_on_units_and_more_rows_than_columns_are_not_needed() -> None:
    learned, judged = table(40, 60, 0), table(20, 60, 1)
    factor = 10.0 ** np.linspace(-4, 4, 60)
    plain = RowEvidence(learned).scores(judged)
    scaled = RowEvidence(learned * factor).scores(judged * factor)
    np.testing.assert_allclose(plain, scaled, atol=0.02)


def test_a_smooth_patch_of_a_rough_texture_is_found_and_survives_a_file(tmp_path: Path) -> None:
    """Each of its values is common, and so is its level: only its spectrum is not."""
    rng = np.random.default_rng(0)
    rough = rng.normal(0.5, 0.2, (700, 1, 16, 16))
    smooth = np.full((40, 1, 16, 16), 0.5) + rng.normal(0, 0.01, (40, 1, 16, 16))
    detector = AnomalyDetector(steps=20).fit(rough[:500])
    assert detector.evidence_.names[-1] == "spectrum"
    assert (detector.predict(smooth) == -1).all()
    assert (detector.predict(rough[500:]) == -1).mean() < 0.04
    detector.save(tmp_path / "a.safetensors", "a", Segmentation("image", (16, 16), 1))
    again, _ = AnomalyDetector.load(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(again.measure(smooth).score, detector.measure(smooth).score)
