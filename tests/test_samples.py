"""The samples exist, are small and readable, and match their README."""

from pathlib import Path

import numpy as np
import pytest

from denoise import io
from denoise.metrics import score
from denoise.signal import MODALITIES

SAMPLES = Path(__file__).parents[1] / "data" / "samples"
KINDS = {"photos": "image", "recordings": "audio", "sensors": "sensor"}
NOISY = sorted(path for kind in KINDS for path in (SAMPLES / kind).iterdir())
REFERENCES = sorted(path for kind in KINDS for path in (SAMPLES / "reference" / kind).iterdir())

every_sample = pytest.mark.parametrize("path", NOISY, ids=lambda path: path.name)


def named(name: str) -> Path:
    return next(path for path in NOISY if path.name == name)


def test_together_they_are_below_3_mb() -> None:
    assert sum(path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file()) < 3_000_000


@every_sample
def test_its_source_and_licence_are_told(path: Path) -> None:
    rows = (SAMPLES / "README.md").read_text(encoding="utf-8").splitlines()
    (row,) = [row for row in rows if row.startswith(f"| `{path.name}` |")]
    assert any(licence in row for licence in ("CC0", "public domain", "MIT", "BSD-3-Clause"))


@every_sample
def test_it_is_read_by_the_codec_of_its_kind(path: Path) -> None:
    array, info = io.read(path)
    assert info.modality == KINDS[path.parent.name]
    assert array.shape == info.shape
    assert np.nanstd(array) > 0


def test_there_are_enough_of_each() -> None:
    counts = {kind: len([path for path in NOISY if path.parent.name == kind]) for kind in KINDS}
    assert counts["photos"] >= 4
    assert counts["recordings"] >= 3
    assert counts["sensors"] >= 2


def test_photos_cover_depth_alpha_and_orientation() -> None:
    from PIL import Image

    assert io.probe(named("rocket_16bit.png")).dtype == "uint16"
    assert io.probe(named("retina.png")).passthrough_channels == 1
    with Image.open(named("chelsea.jpg")) as image:
        assert image.getexif()[0x0112] == 6


def test_recordings_cover_rates_channels_and_depth() -> None:
    import soundfile

    facts = {path.name: soundfile.info(str(path)) for path in NOISY if path.parent.name == "recordings"}
    found = {(fact.samplerate, fact.channels, fact.subtype) for fact in facts.values()}
    assert found == {(16_000, 1, "PCM_16"), (44_100, 2, "PCM_16"), (48_000, 1, "PCM_24")}


def test_sensor_logs_cover_timestamps_a_gap_and_three_axes() -> None:
    ecg, info = io.read(named("ecg_200hz.csv"))
    assert info.sample_rate == 200
    assert ecg.shape[0] == 1
    gap = np.flatnonzero(np.isnan(ecg[0]))
    assert gap.size == gap[-1] - gap[0] + 1 == 90
    axes, info = io.read(named("accelerometer_100hz.csv"))
    assert info.sample_rate == 100
    assert axes.shape[0] == 3


@pytest.mark.parametrize("path", REFERENCES, ids=lambda path: path.name)
def test_a_reference_is_aligned_with_its_sample_and_better(path: Path) -> None:
    truth, info = io.read(path)
    noisy, noisy_info = io.read(SAMPLES / path.relative_to(SAMPLES / "reference"))
    assert (noisy.shape, noisy.dtype, noisy_info.sample_rate) == (truth.shape, truth.dtype, info.sample_rate)
    headline = MODALITIES[info.modality].headline
    colours = truth.shape[0] - info.passthrough_channels
    options = {"peak": info.peak, "sample_rate": info.sample_rate}
    aligned = score(truth[:colours], noisy[:colours], info.modality, **options)[headline]
    shifted = score(truth[:colours], np.roll(noisy[:colours], 3, axis=-1), info.modality, **options)[headline]
    assert np.isfinite(aligned)
    assert aligned > shifted + 1
    assert np.array_equal(noisy[colours:], truth[colours:])  # alpha has no noise
