"""Labelled mixtures of sounds, on which the classifier of recordings is trained."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from denoise.arrays import Array
from denoise.errors import InputError
from denoise.models.sound_kind import KINDS, SAMPLE_RATE, SEGMENT_SAMPLES
from denoise.training.data import read_clean
from denoise.training.recipe import Recipe

_SHARES = (0.4, 0.2, 0.25, 0.15)  # of the examples, by kind
_ACCOMPANIED = 0.6  # share of the singing that has music behind it
_BACKED = 0.1  # share of the speech that has quiet music behind it


class KindMixtures:
    """Random labelled segments, mixed from clean sounds of each kind.

    Args:
        sounds: For each of `KINDS`, recordings at 16 kHz as 16-bit integers.
    """

    @classmethod
    def read(cls, data: Path | Mapping[Path, float], recipe: Recipe) -> KindMixtures:
        """Read folders that each hold a folder for every kind, `speech/`, `singing/`, `music/`, `noise/`.

        Raises:
            InputError: There is no recording of a kind.
        """
        sounds: list[list[Array]] = [[] for _ in KINDS]
        digests, skipped = [], list[str]()
        for folder in [data] if isinstance(data, Path) else data:
            files = read_clean(folder, recipe)
            digests.append(files.digest)
            skipped += files.skipped
            for name, array in zip(files.names, files.arrays, strict=True):
                kind = Path(name).relative_to(folder).parts[0]
                if kind in KINDS:
                    mono = array.mean(0).clip(-1, 1) * 32767
                    sounds[KINDS.index(kind)].append(mono.astype(np.int16))
        if missing := [kind for kind, found in zip(KINDS, sounds, strict=True) if not found]:
            raise InputError(
                f"{folder}: holds no recordings of {', '.join(missing)}; expected the folders "
                f"{', '.join(kind + '/' for kind in KINDS)}"
            )
        return cls(sounds, hashlib.sha256("".join(digests).encode()).hexdigest(), tuple(skipped))

    def __init__(
        self, sounds: Sequence[Sequence[Array]], digest: str = "", skipped: tuple[str, ...] = ()
    ) -> None:
        self._sounds, self.digest, self.skipped = sounds, digest, skipped
        self.files = sum(map(len, sounds))

    def batch(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw segments `(size, 1, SEGMENT_SAMPLES)`, and the probability of each kind `(size, kinds)`."""
        self._rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        kinds = self._rng.choice(len(KINDS), size, p=_SHARES)
        rows = np.stack([self._example(int(kind)) for kind in kinds]).astype(np.float32)
        return torch.from_numpy(rows)[:, None], torch.eye(len(KINDS))[torch.from_numpy(kinds)]

    def _example(self, kind: int) -> Array:
        rng = self._rng
        x = self._excerpt(kind)
        if KINDS[kind] == "singing" and rng.random() < _ACCOMPANIED:
            x = _add(x, self._excerpt(KINDS.index("music")), rng.uniform(-6, 12))
        if KINDS[kind] == "speech" and rng.random() < _BACKED:
            x = _add(x, self._excerpt(KINDS.index("music")), rng.uniform(10, 25))
        if rng.random() < 0.3:
            x = self._room(x)
        if KINDS[kind] != "noise" or rng.random() < 0.3:
            low = 0 if KINDS[kind] == "speech" else 8
            x = _add(x, self._noise(), rng.uniform(low, 45))
        return self._microphone(x)

    def _excerpt(self, kind: int) -> Array:
        """Return recordings of a kind, one after the other, that fill a segment."""
        rng, found = self._rng, self._sounds[kind]
        if KINDS[kind] == "noise" and rng.random() < 0.35:
            return self._noise()
        parts: list[Array] = []
        while sum(map(len, parts)) < SEGMENT_SAMPLES:
            sound = found[int(rng.integers(len(found)))].astype(np.float32) / 32768
            start = rng.integers(max(1, len(sound) - SEGMENT_SAMPLES))
            part = sound[start : start + SEGMENT_SAMPLES]
            if KINDS[kind] in ("speech", "singing"):
                parts.append(np.zeros(rng.integers(1, 12_000), np.float32))
            parts.append(part / (np.sqrt(np.mean(part**2)) + 1e-4) * 0.1)
        return np.concatenate(parts)[:SEGMENT_SAMPLES]

    def _noise(self) -> Array:
        rng = self._rng
        if rng.random() < 0.5:
            found = self._sounds[KINDS.index("noise")]
            return np.resize(found[int(rng.integers(len(found)))].astype(np.float32) / 32768, SEGMENT_SAMPLES)
        if rng.random() < 0.2:
            t, hz = np.arange(SEGMENT_SAMPLES) / SAMPLE_RATE, rng.choice([50, 60])
            return np.asarray(sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, rng.integers(2, 12))))
        tilt = rng.uniform(-1, 0.2)
        spectrum = np.fft.rfft(rng.standard_normal(SEGMENT_SAMPLES))
        return np.asarray(np.fft.irfft(spectrum * np.arange(1, len(spectrum) + 1) ** tilt))

    def _room(self, x: Array) -> Array:
        size = 8192
        decay = np.exp(-np.arange(size) / self._rng.uniform(400, 3000)) * self._rng.standard_normal(size)
        decay[0] = self._rng.uniform(2, 12)
        n = 2 * SEGMENT_SAMPLES
        return np.asarray(np.fft.irfft(np.fft.rfft(x, n) * np.fft.rfft(decay, n), n)[:SEGMENT_SAMPLES])

    def _microphone(self, x: Array) -> Array:
        """Equalise smoothly at random, and sometimes limit the band."""
        rng, n = self._rng, SEGMENT_SAMPLES
        knots = np.cumsum(rng.normal(0, 2.5, 8))
        gain_db = np.interp(np.linspace(0, 7, n // 2 + 1), np.arange(8), knots - knots.mean())
        hz = np.linspace(0, SAMPLE_RATE / 2, n // 2 + 1)
        if rng.random() < 0.2:
            gain_db[hz > rng.uniform(3300, 7000)] -= 40
        if rng.random() < 0.2:
            gain_db[hz < rng.uniform(80, 300)] -= 30
        out = np.fft.irfft(np.fft.rfft(x) * 10 ** (gain_db / 20), n)
        return np.asarray(out / (np.sqrt(np.mean(out**2)) + 1e-9) * 0.1)


def _add(x: Array, other: Array, snr_db: float) -> Array:
    power = np.mean(x**2) / (np.mean(other**2) + 1e-12) / 10 ** (snr_db / 10)
    return np.asarray(x + np.sqrt(power) * other)
