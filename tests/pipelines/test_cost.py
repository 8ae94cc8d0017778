"""Cost of models: counted exactly, timed in turns."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from denoise.errors import UsageError
from denoise.infer.apply import apply
from denoise.models.autoencoder import build
from denoise.models.speech.spectral_gru import build as build_speech
from pipelines.benchmark import cost
from pipelines.benchmark.cost import REFERENCES, kmac_per_sample
from pipelines.benchmark.job import CostJob

Run = Callable[..., Any]


def test_references_have_the_multiply_adds_of_their_papers() -> None:
    kmac = {name: kmac_per_sample(shape()) for name, shape in REFERENCES.items()}
    assert kmac["CDnCNN-B shape"] == pytest.approx(9 * (2 * 3 * 64 + 18 * 64 * 64) / 1e3)
    assert kmac["NAFNet-w16 shape"] == pytest.approx(63, rel=0.05)  # of width 32: 16 GMAC for 256 x 256 px
    assert kmac["FFDNet shape"] == pytest.approx(9 * (15 * 96 + 10 * 96 * 96 + 96 * 12) / 4 / 1e3)


@pytest.mark.parametrize("name", list(REFERENCES))
def test_references_have_the_halo_that_they_need(name: str) -> None:
    model = REFERENCES[name]()
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)).numpy()
    whole, tiled = (apply(model, image, peak=1.0, tile=tile) for tile in (64, 32))
    assert abs(whole - tiled).max() < 1e-5


def test_multiply_adds_of_a_network_are_those_of_its_layers() -> None:
    model = build(modality="image", channels=3, widths=[8, 16], fold=2)
    outer, inner = (
        4 * 9 * 8 * 8 + 2 * 9 * 12 * 8,
        4 * 9 * 16 * 16 + 2 * 4 * 8 * 16,
    )  # a position of each scale
    assert kmac_per_sample(model) == pytest.approx((outer / 4 + inner / 16) / 1e3)
    sizes = {"code": 8, "memory": 8, "layers": 1, "widths": [4], "window": 16, "hop": 8}
    frame = 4 * (5 * 3 * 4 + 6 * 4 * 2) + 2 * 8 * (4 * 4) + 8 * 4 * 4 + 2 * 3 * 8 * 8
    for looks, hops in ((1, 65), (2, 66)):  # 64, and those that push the rest out
        gru = build_speech(**sizes, n_shifts=looks)
        assert kmac_per_sample(gru) == pytest.approx(looks * frame / 8 / 1e3 * hops / 64)


def test_cost_measures_each_kind_and_sets_images_against_the_references(tmp_path: Path, denoise: Run) -> None:
    sizes = ("--side", 48, "--samples", 3000, "--rounds", 1, "--threads", 1)
    result = denoise("models", "cost", "photo", "median", *sizes, "--json", tmp_path / "cost.json")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "cost.json").read_text())
    rows = {(row["model"], row["modality"], row["precision"]): row for row in found["rows"]}
    assert list(rows) == [
        *(("photo", "image", precision) for precision in (*cost._PRECISIONS, "float32 (ONNX Runtime)")),
        ("median", "image", "float32"),
        ("median", "sensor", "float32"),
        *((name, "image", "float32") for name in REFERENCES),
    ]
    assert found["threads"] == 1
    for (_, modality, _), row in rows.items():
        assert row["seconds"] > 0
        assert set(row["of_reference"]) == (set(REFERENCES) if modality == "image" else set())
    ours, dncnn = rows["photo", "image", "float32"], rows["CDnCNN-B shape", "image", "float32"]
    assert ours["of_reference"]["CDnCNN-B shape"] == pytest.approx(ours["seconds"] / dncnn["seconds"])
    assert ours["gflops"] == pytest.approx(2 * ours["kmac"] / ours["seconds"])
    assert ours["of_matrix"] == pytest.approx(ours["gflops"] / found["matrix_gflops"])
    assert rows["median", "image", "float32"]["kmac"] is None
    assert "CDnCNN-B shape" in result.stdout
    assert "GFLOP/s" in result.stdout


def test_only_the_precisions_that_are_asked_for_are_timed() -> None:
    rows = cost.measure(CostJob(models=("photo-fast",), side_px=48, rounds=1, precision=("bf16",))).rows
    assert [row.precision for row in rows[: -len(REFERENCES)]] == ["bf16"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_memory_of_a_run_is_its_maximum_not_what_it_leaves() -> None:
    assert cost._peak_bytes(lambda: np.ones(2**24).sum()) == pytest.approx(2**27, rel=0.1)
    assert cost._peak_bytes(lambda: None) == pytest.approx(0, abs=2**23)


def test_threads_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(cost, "_entrants", lambda _: seen.append(torch.get_num_threads()) or iter(()))
    cost.measure(CostJob(models=(), threads=before + 1, rounds=1))
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("wrong", [{"side_px": 0}, {"rounds": 0}, {"threads": 0}, {"samples": 0}])
def test_sizes_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(wrong))} is 0"):
        CostJob(models=("photo",), **wrong)
