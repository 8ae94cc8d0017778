"""Codes from the encoders of shipped models."""

import numpy as np
import pytest

from denoise.analysis.encoder import SOURCES, PretrainedEncoder
from denoise.analysis.segments import Segmentation
from denoise.errors import InputError, UsageError


def test_kinds_of_signals_are_apart_at_any_level() -> None:
    """Tones, noise and clicks: the nearest other code is of the same kind, whatever the level."""
    rng, t = np.random.default_rng(0), np.arange(16_384) / 16_000
    clicks = (rng.random((6, 16_384)) < 0.001).astype(float)
    tones = np.array([np.sin(2 * np.pi * rng.uniform(200, 2000) * t) for _ in range(6)])
    signals = np.concatenate([tones, rng.normal(size=(6, 16_384)), clicks]) * rng.uniform(0.01, 0.5, (18, 1))
    codes = PretrainedEncoder("speech").encode(signals[:, None])
    assert codes.shape[0] == 18
    off = codes - codes.mean(0)
    off /= np.linalg.norm(off, axis=1, keepdims=True)
    cosines = off @ off.T - 2 * np.eye(18)
    assert np.array_equal(cosines.argmax(1) // 6, np.arange(18) // 6)


def test_the_place_of_a_shape_counts_and_a_batch_does_not() -> None:
    encoder = PretrainedEncoder("photo", Segmentation("image", (44, 44), 3, whole=True))
    pictures = np.zeros((2, 3, 44, 44), np.float32)
    pictures[0, :, 4:14, 4:14] = pictures[1, :, 30:40, 30:40] = 1
    codes = encoder.encode(pictures)
    assert np.allclose(codes[:1], encoder.encode(pictures[:1]), atol=1e-4)
    assert np.abs(codes[0] - codes[1]).max() > 0.1
    with pytest.raises(InputError, match="expected"):
        encoder.encode(pictures[:, :1])


def test_every_source_encodes_and_no_other() -> None:
    for name, source in SOURCES.items():
        found = PretrainedEncoder(name).encode(np.random.default_rng(0).random((1, *source.cut.shape)))
        assert np.isfinite(found).all()
        assert found.shape == (1, {"photo": 1760, "speech": 1216, "sensor": 736}[name])
    with pytest.raises(UsageError, match="encoder"):
        PretrainedEncoder("music")
