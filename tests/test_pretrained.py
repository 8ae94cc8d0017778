"""What ships: each model says where it comes from, is small, and beats the classical methods on a sample."""

from __future__ import annotations

from pathlib import Path

import pytest

import denoise
from denoise import io, metrics, weights
from denoise.infer.apply import apply
from denoise.models import DEFAULT_MODELS, MODELS
from denoise.signal import MODALITIES

SAMPLES = Path(__file__).parent.parent / "data" / "samples"

# A sample of each kind, noisy in a way that is stated in data/samples/README.md.
NOISY = {
    "image": "photos/coffee.png",
    "audio": "recordings/reading_stereo_44k.flac",
    "sensor": "sensors/ecg_200hz.csv",
}


def gain(model: str, modality: str) -> float:
    """How many dB a model wins on the sample of a modality."""
    noisy, info = io.read(SAMPLES / NOISY[modality])
    truth, _ = io.read(SAMPLES / "reference" / NOISY[modality])
    cleaned = apply(denoise.load(model, modality).model, noisy, peak=info.peak, sample_rate=info.sample_rate)
    headline = metrics.metric(MODALITIES[modality].headline)
    after, before = (headline(truth, x, peak=info.peak) for x in (cleaned, noisy))
    return float(after - before)


@pytest.mark.parametrize("modality", sorted(MODALITIES))
def test_the_default_beats_every_classical_method_on_the_sample(modality: str) -> None:
    ours = gain(DEFAULT_MODELS[modality], modality)
    rows = {name: gain(name, modality) for name, row in MODELS.items() if modality in row}
    assert ours > 3.0
    assert all(ours > other for other in rows.values()), rows


@pytest.mark.parametrize("name", sorted(DEFAULT_MODELS.values()))
def test_a_card_says_what_it_is_made_of(name: str) -> None:
    path = weights.pretrained()[name]
    card = weights.card(path)
    assert card["training"]["minutes"] >= 40
    assert card["training"]["data_digest"]
    assert card["recipe"]["sources"]
    assert card["recipe"]["limits"]
    assert card["results"]
    assert path.stat().st_size < 3_000_000


def test_every_default_ships() -> None:
    assert set(DEFAULT_MODELS) == set(MODALITIES)
    assert set(DEFAULT_MODELS.values()) <= set(weights.pretrained())
