"""Fewer bits: nearly the same picture, chosen by the CPU."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from denoise import clean_file, io, load, machine
from denoise.errors import UsageError, WeightsError
from denoise.infer.cleaner import Cleaner
from denoise.infer.precision import at_precision
from denoise.metrics import score
from denoise.models.autoencoder import build
from denoise.models.base import Denoiser
from denoise.models.table import PRECISIONS
from denoise.options import CleanOptions
from denoise.signal import AudioInfo
from pipelines.batch.jobs import CleanJob

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
RANGES = [[4.0, 4.0]] * 3
MEASURED = {"ranges": RANGES, "loss_db": {"gaussian:sigma=25": 0.03, "real pairs": -0.01}}
VNNI, BF16 = "avx512_vnni", "avx512_bf16"


def cpu_with(monkeypatch: pytest.MonkeyPatch, *features: str) -> None:
    monkeypatch.setattr(machine, "cpu_features", lambda: frozenset(features))


@pytest.mark.parametrize("name", ["bf16", "int8"])
@pytest.mark.parametrize("model", ["photo", "photo-best"])
def test_fewer_bits_cost_hundredths_of_a_decibel(
    name: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu_with(monkeypatch, VNNI, BF16)
    clean = np.asarray(Image.open(SAMPLES / "reference" / "photos" / "coffee.png"))[:192, :192]
    noisy = np.asarray(Image.open(SAMPLES / "photos" / "coffee.png"))[:192, :192]
    wide, narrow = (load(model, precision=which).clean(noisy) for which in ("float32", name))
    assert (wide != narrow).any()
    psnr = [
        score(clean.transpose(2, 0, 1), image.transpose(2, 0, 1), "image", peak=255.0)["psnr_db"]
        for image in (noisy, wide, narrow)
    ]
    assert psnr[2] > psnr[0] + 3
    assert psnr[2] > psnr[1] - 0.05


@pytest.mark.parametrize(
    ("features", "photo", "sensor"),
    [
        ((VNNI, BF16), "int8", "bf16"),
        ((VNNI, BF16, "amx_bf16"), "bf16", "bf16"),
        ((VNNI,), "int8", "float32"),
        ((BF16,), "bf16", "bf16"),
        ((), "float32", "float32"),
    ],
)
def test_auto_is_the_fastest_that_the_cpu_has(
    features: tuple[str, ...], photo: str, sensor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu_with(monkeypatch, *features)
    assert load("photo").precision_of() == photo
    assert load("sensor").precision_of() == sensor
    chosen = load("auto", "image")
    assert chosen.precision_of(["photo"]) == photo
    assert chosen.precision_of(["photo-sharp"]) == sensor  # that of its prior: int8 is for noise alone
    assert chosen.precision_of(["none"]) is None


@pytest.mark.parametrize(("features", "expected"), [((VNNI, BF16), "bf16"), ((VNNI,), "float32")])
def test_recordings_take_bf16_where_the_cpu_has_it(
    features: tuple[str, ...], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu_with(monkeypatch, *features)
    assert [load(name).precision_of() for name in ("speech", "field")] == [expected] * 2
    assert load("auto", "audio").precision_of(["speech", "field"]) == expected
    assert load("speech-live").precision_of() == "float32"  # its single frames are computed in float32


@pytest.mark.parametrize(("model", "least_db"), [("speech", 50), ("field", 80)])
def test_a_recording_in_bf16_is_that_in_float32_to_the_ear(model: str, least_db: float) -> None:
    noisy, info = io.read(SAMPLES / "recordings" / "reading_stereo_44k.flac")
    assert isinstance(info, AudioInfo)
    wide, narrow = (
        load(model, precision=which).clean(noisy, info.sample_rate) for which in ("float32", "bf16")
    )
    assert (wide != narrow).any()
    assert 10 * np.log10(np.mean(wide**2) / np.mean((wide - narrow) ** 2)) > least_db


def small() -> Denoiser:
    return build(modality="image", channels=3, widths=[8, 8], blocks=1).eval()


@pytest.mark.parametrize(
    ("features", "facts", "expected"),
    [
        ((VNNI,), {"precision": {"int8": MEASURED}}, "int8"),
        ((), {"precision": {"int8": MEASURED}}, "float32"),
        ((BF16,), {"precision": {"int8": MEASURED}}, "bf16"),
        ((VNNI, BF16), {"precision": {"int8": {**MEASURED, "loss_db": {"real pairs": 0.04}}}}, "bf16"),
        ((VNNI, BF16), {"precision": {"int8": {"ranges": RANGES}}}, "bf16"),
        ((VNNI,), {}, "float32"),
        ((VNNI,), {"precision": "int8"}, "float32"),
    ],
)
def test_int8_needs_ranges_a_cpu_and_a_small_loss(
    features: tuple[str, ...], facts: Mapping[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu_with(monkeypatch, *features)
    assert at_precision(small(), facts, "int8").precision == expected


@pytest.mark.parametrize("ranges", [RANGES[:2], [[4.0]] * 3, [["a", 1]] * 3, [[[4.0] * 7, 1]] * 3, None])
def test_ranges_that_do_not_fit_are_one_sentence(ranges: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_with(monkeypatch, VNNI)
    facts = {"name": "mine", "precision": {"int8": {**MEASURED, "ranges": ranges}}}
    with pytest.raises(WeightsError, match="card of mine has no ranges"):
        at_precision(small(), facts, "int8")


def test_a_log_is_as_good_in_bfloat16() -> None:
    clean, noisy = (
        io.read(SAMPLES / folder / "sensors" / "accelerometer_100hz.csv")[0] for folder in ("reference", ".")
    )
    wide, narrow = (load("sensor", precision=which).clean(noisy, 100.0) for which in ("float32", "bf16"))
    assert (wide != narrow).any()
    snr = [score(clean, log, "sensor")["snr_db"] for log in (noisy, wide, narrow)]
    assert snr[2] > snr[0] + 3
    assert snr[2] > snr[1] - 0.05


@pytest.mark.parametrize("name", ["speech-live", "median"])
def test_what_has_no_use_for_it_works_in_float32(name: str) -> None:
    modality = "image" if name == "median" else None
    cleaner, plain = load(name, modality, "bf16"), load(name, modality)
    assert type(cleaner.model) is type(plain.model)
    assert cleaner.precision_of() == "float32"


def test_the_report_of_a_file_states_it(tmp_path: Path) -> None:
    source = tmp_path / "noisy.png"
    Image.open(SAMPLES / "photos" / "coffee.png").crop((0, 0, 96, 96)).save(source)
    for name in ("float32", "bf16"):
        report = clean_file(source, tmp_path / f"{name}.png", "photo", precision=name)
        assert report.precision == name


def test_workers_of_a_job_run_what_its_machine_chose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_with(monkeypatch, BF16)
    job = CleanJob(inputs=(tmp_path,), output=tmp_path)
    assert job.options.precision == "auto"
    assert job.for_workers(()).options.precision == "bf16"


def test_precision_tells_apart_jobs(tmp_path: Path) -> None:
    jobs = {
        CleanJob(inputs=(tmp_path,), output=tmp_path, options=CleanOptions(precision=name)).fingerprint(
            "image"
        )
        for name in PRECISIONS
    }
    assert len(jobs) == len(PRECISIONS)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'fp4'.*float32, bf16"):
        load("photo", precision="fp4")
    with pytest.raises(UsageError, match=r"'fp4'.*float32, bf16"):
        CleanOptions(precision="fp4")
    assert isinstance(load("photo", precision="float32"), Cleaner)
