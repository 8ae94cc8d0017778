"""`denoise benchmark --protocol anomalies`: detectors side by side on labelled tables."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from pipelines.benchmark import detection

Run = Callable[..., Any]


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, distance in (("near", 1.5), ("far", 30.0)):
        X = np.concatenate([rng.normal(size=(80, 4)), rng.normal(size=(20, 4)) + distance])
        np.savez(tmp_path / f"{name}.npz", X=X, y=np.arange(100) >= 80)
    return tmp_path


def test_each_detector_has_its_area_and_a_bad_set_stops_nothing(sets: Path, denoise: Run) -> None:
    (sets / "broken.npz").write_bytes((sets / "far.npz").read_bytes()[:100])
    np.savez(sets / "other.npz", a=np.zeros(3))
    names = "denoise,knn,mahalanobis"
    reports = ("--json", sets / "r.json", "--csv", sets / "r.csv", "--markdown", sets / "r.md")
    result = denoise("benchmark", sets, "--protocol", "anomalies", "--models", names, *reports)
    assert result.exit_code == 1
    assert "broken.npz: cannot be read" in result.stdout
    assert "other.npz: is no labelled table" in result.stdout
    rows = json.loads((sets / "r.json").read_text())["rows"]
    assert [(row["set"], row["model"]) for row in rows] == [
        (name, model) for name in ("far", "near") for model in names.split(",")
    ]
    assert all(row["auroc"] == 1 for row in rows[:3])
    assert all(0.7 < row["auroc"] < 1 for row in rows[3:])
    assert all((row["false_alarms"] is not None) == (row["model"] == "denoise") for row in rows)
    assert (sets / "r.csv").read_text().startswith("set,model,")
    assert "| near | 100 | 20 |" in (sets / "r.md").read_text()
    again = denoise("benchmark", sets, "--protocol", "anomalies", "--models", "knn", *reports)
    assert "Failed" in again.stdout  # and the reports are replaced


def test_both_areas_are_those_of_scikit_learn_with_ties() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.random(200) < 0.3, rng.integers(0, 9, 200).astype(float)
    assert detection._area(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    expected = average_precision_score(labels, scores)
    assert detection._mean_precision(labels, scores) == pytest.approx(expected)


def test_calls_that_cannot_work(sets: Path, denoise: Run) -> None:
    for arguments, sentence in (
        (("--models", "knnn"), "did you mean knn"),
        (("--noise", "gaussian"), "cannot be set with --protocol anomalies"),
    ):
        result = denoise("benchmark", sets, "--protocol", "anomalies", *arguments)
        assert result.exit_code == 2
        assert sentence in result.stderr
