"""bf16: nearly the same picture, and a note where it has no effect."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from denoise.errors import UsageError
from denoise.infer import precision
from denoise.infer.catalogue import load
from denoise.infer.cleaner import Cleaner
from denoise.infer.file import clean_file
from denoise.metrics import score
from denoise.models.autoencoder import build
from denoise.options import CleanOptions
from pipelines.batch.jobs import CleanJob

SAMPLES = Path(__file__).parents[2] / "data" / "samples"


def test_bf16_costs_hundredths_of_a_decibel() -> None:
    clean = np.asarray(Image.open(SAMPLES / "reference" / "photos" / "coffee.png"))[:192, :192]
    noisy = np.asarray(Image.open(SAMPLES / "photos" / "coffee.png"))[:192, :192]
    wide, narrow = (load("photo", precision=name).clean(noisy) for name in ("float32", "bf16"))
    assert (wide != narrow).any()
    psnr = [
        score(clean.transpose(2, 0, 1), image.transpose(2, 0, 1), "image", peak=255.0)["psnr_db"]
        for image in (noisy, wide, narrow)
    ]
    assert psnr[2] > psnr[0] + 3
    assert psnr[2] > psnr[1] - 0.05


def test_the_image_itself_does_not_go_through_so_few_digits() -> None:
    model = build(modality="image", channels=3, widths=[4])
    model.backbone.tail.weight.data.zero_()  # it estimates no noise
    image = torch.linspace(0, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)
    assert torch.equal(precision.Bfloat16(model)(image), image)


@pytest.mark.parametrize("name", ["speech", "sensor", "median"])
def test_what_has_no_use_for_it_says_so_and_works_in_float32(name: str) -> None:
    modality = "image" if name == "median" else None
    cleaner, plain = load(name, modality, "bf16"), load(name, modality)
    assert type(cleaner.model) is type(plain.model)
    assert cleaner.digest == plain.digest
    assert f"{name} worked in float32" in cleaner.notes[0]


def test_the_note_reaches_the_report_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("x\n" + "\n".join(f"{value:.3f}" for value in np.sin(np.arange(99))))
    report = clean_file(tmp_path / "log.csv", tmp_path / "out.csv", load("sensor", precision="bf16"))
    assert "worked in float32" in report.notes[0]


@pytest.mark.parametrize("fast", [True, False])
def test_a_cpu_without_it_is_told_of(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda: fast)
    cleaner = load("photo", precision="bf16")
    assert isinstance(cleaner.model, precision.Bfloat16)
    assert [("slower" in note) for note in cleaner.notes] == [True] * (not fast)


def test_auto_runs_what_it_chooses_in_bf16() -> None:
    models = load("auto", precision="bf16").selector.models
    assert {name: type(model).__name__ for name, model in models.items() if name != "none"} == {
        name: "Bfloat16" for name in models if name != "none"
    }
    assert len(models) > 1


def test_precision_tells_apart_cleaners_and_jobs(tmp_path: Path) -> None:
    cleaners = {load("photo", precision=name).digest for name in ("float32", "bf16")}
    jobs = {
        CleanJob(inputs=(tmp_path,), output=tmp_path, options=CleanOptions(precision=name)).fingerprint(
            "image"
        )
        for name in ("float32", "bf16")
    }
    assert len(cleaners) == len(jobs) == 2


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'fp4'.*float32, bf16"):
        load("photo", precision="fp4")
    with pytest.raises(UsageError, match=r"'fp4'.*float32, bf16"):
        CleanOptions(precision="fp4")
    assert isinstance(load("photo", precision="float32"), Cleaner)
