"""Shipped models: each has a complete card, is small, and beats the classical ones on the samples."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import denoise
from denoise import io, metrics, weights
from denoise.corruptions import corrupt, parse
from denoise.infer.apply import apply
from denoise.io.formats import writable_suffixes
from denoise.models.table import DEFAULT_MODELS, FAST_MODELS, MODELS, PICKS
from denoise.signal import MODALITIES

SAMPLES = Path(__file__).parent.parent / "data" / "samples"


def gain(model: str, modality: str) -> float:
    """Mean gain of a model in dB, over all samples of a modality with a reference."""
    root, gains = SAMPLES / "reference", []
    cleaner = denoise.load(model, modality)
    headline = metrics.metric(MODALITIES[modality].headline)
    for path in sorted(p for p in root.rglob("*.*") if p.suffix in writable_suffixes(modality)):
        noisy, info = io.read(SAMPLES / path.relative_to(root))
        truth, _ = io.read(path)
        cleaned, _ = cleaner.apply(
            noisy, peak=info.peak, keep=info.passthrough_channels, sample_rate=info.sample_rate
        )
        after, before = (headline(truth, x, peak=info.peak) for x in (cleaned, noisy))
        gains.append(after - before)
    return float(np.mean(gains))


@pytest.mark.parametrize("modality", sorted(MODALITIES))
def test_the_default_beats_every_classical_method_on_the_samples(modality: str) -> None:
    ours = gain(DEFAULT_MODELS[modality], modality)
    rows = {name: gain(name, modality) for name, row in MODELS.items() if modality in row}
    assert ours > max(rows.values()) > 0.0, (ours, rows)


@pytest.mark.parametrize("name", sorted(weights.pretrained()))
def test_a_card_says_what_it_is_made_of(name: str) -> None:
    path = weights.pretrained()[name]
    card = weights.card(path)
    fit, data = card["recipe"]["fit"], card["recipe"]["data"]
    seen = card["training"]["steps"] * fit["batch"] * data["patch"] ** MODALITIES[card["modality"]].ndim
    assert seen > 100 * card["parameters"]  # a mere smoke run of the loop has a tenth
    assert card["training"]["data_digest"]
    assert card["recipe"]["sources"]
    assert card["recipe"]["limits"]
    assert card["results"]
    assert path.stat().st_size < 11_000_000


def test_every_default_ships() -> None:
    for models in (DEFAULT_MODELS, FAST_MODELS):
        assert set(models) == set(MODALITIES)
        picks = [PICKS.get(name, {}).get(modality, (name,)) for modality, name in models.items()]
        assert set(sum(picks, ())) <= set(weights.pretrained())


def test_the_far_edges_of_a_photo_are_cleaned_as_well_as_the_near_ones() -> None:
    """Sides that are no multiple of the network's stride require edge padding."""
    rows, columns = np.mgrid[:161, :161] / 25.0
    clean = np.stack([0.5 + level * np.sin(rows) * np.cos(columns) for level in (0.1, 0.2, 0.2)])
    noisy = corrupt(clean.astype(np.float32), parse("gaussian:sigma=50"), seed=0, peak=1.0)
    error = (apply(denoise.load("photo", "image").model, noisy, peak=1.0) - clean) ** 2
    near = (error[:, :4].mean() + error[:, :, :4].mean()) / 2
    far = (error[:, -4:].mean() + error[:, :, -4:].mean()) / 2
    assert far < 2 * near


@pytest.mark.parametrize("name", ["camera.tiff", "chelsea.jpg", "coffee.png", "retina.png"])
def test_what_is_sharp_and_clean_is_not_sharpened(name: str) -> None:
    photo, info = io.read(SAMPLES / "reference" / "photos" / name)
    model = denoise.load("photo-sharp", "image").model
    np.testing.assert_array_equal(apply(model, photo, peak=info.peak, keep=info.passthrough_channels), photo)
    soft = np.stack([ndimage.gaussian_filter(channel, 1.0) for channel in photo]).astype(photo.dtype)
    sharpened = apply(model, soft, peak=info.peak, keep=info.passthrough_channels)
    assert (
        metrics.psnr_db(photo, sharpened, peak=info.peak) > metrics.psnr_db(photo, soft, peak=info.peak) + 0.5
    )


@pytest.mark.parametrize(
    ("noise", "least_db"),
    [
        ("gaussian:snr_db=5", 5.0),
        ("mixture:snr_db=5", 4.0),
        ("pink:snr_db=5", 1.0),
        ("impulses:snr_db=5", 15.0),
        ("rails:snr_db=5", 8.0),
        ("hum:snr_db=5,drift_hz=0.1", 15.0),
    ],
)
def test_a_log_gains_whatever_its_noise_is(noise: str, least_db: float) -> None:
    gains = []
    for path in sorted((SAMPLES / "reference" / "sensors").glob("*.csv")):
        truth, info = io.read(path)
        noisy = corrupt(truth, parse(noise), seed=1, peak=None, sample_rate=info.sample_rate)
        if not np.array_equal(noisy, truth, equal_nan=True):  # hum of 50 Hz is impossible at 100 Hz
            cleaned = denoise.load("sensor").clean(noisy.T, info.sample_rate).T
            gains.append(metrics.snr_db(truth, cleaned) - metrics.snr_db(truth, noisy))
    assert min(gains) > 0.0
    assert float(np.mean(gains)) > least_db


def test_a_log_without_noise_is_left_alone() -> None:
    for path in sorted((SAMPLES / "reference" / "sensors").glob("*.csv")):
        truth, info = io.read(path)
        assert metrics.snr_db(truth, denoise.load("sensor").clean(truth.T, info.sample_rate).T) > 30.0
