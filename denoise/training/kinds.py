"""Train the classifier of recordings on folders of sounds: `python -m denoise.training.sound_kind`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from denoise.io.atomic import replacing
from denoise.models.sound_kind import KINDS, SAMPLE_RATE, SEGMENT_SAMPLES, SoundKind

__all__ = ["Mixer", "train"]

Array = NDArray[Any]

_SHARES = (0.4, 0.2, 0.25, 0.15)  # of the examples, by kind
_ACCOMPANIED = 0.6  # share of the singing that has music behind it
_BACKED = 0.1  # share of the speech that has quiet music behind it


class Mixer:
    """Random labelled segments, mixed from clean sounds of each kind.

    Args:
        sounds: For each of `KINDS`, recordings at 16 kHz.
        seed: Of the mixtures.
    """

    def __init__(self, sounds: Sequence[Sequence[Array]], seed: int) -> None:
        self._sounds, self._rng = sounds, np.random.default_rng(seed)

    def batch(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return segments `(size, SEGMENT_SAMPLES)` and the index of the kind of each."""
        kinds = self._rng.choice(len(KINDS), size, p=_SHARES)
        rows = np.stack([self._example(int(kind)) for kind in kinds]).astype(np.float32)
        return torch.from_numpy(rows), torch.from_numpy(kinds)

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


def train(sounds: Sequence[Sequence[Array]], steps: int, batch: int = 32, seed: int = 0) -> SoundKind:
    """Train a classifier.

    Args:
        sounds: For each of `KINDS`, recordings at 16 kHz as 16-bit integers.
        steps: Number of batches.
        batch: Segments in a batch.
        seed: Of weights and mixtures.
    """
    torch.manual_seed(seed)
    model, mixer = SoundKind().train(), Mixer(sounds, seed)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    right, started = 0.5, time.perf_counter()
    for step in range(1, steps + 1):
        segments, kinds = mixer.batch(batch)
        logits = model(segments)
        loss = F.cross_entropy(logits, kinds, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        right += 0.02 * (float((logits.argmax(1) == kinds).float().mean()) - right)
        if step % 100 == 0:
            seconds = time.perf_counter() - started
            print(f"step {step}: loss {float(loss):.3f}, right {right:.3f}, {seconds:.0f} s", flush=True)
    return model.eval()


def _read(folders: Sequence[Path], limit_s: float) -> list[Array]:
    """Read recordings of folders, in random order, up to a duration; 16-bit integers at 16 kHz."""
    from denoise import io
    from denoise.dsp.resample import resample

    paths = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    np.random.default_rng(0).shuffle(paths)
    sounds, seconds = [], 0.0
    for path in paths:
        if seconds > limit_s:
            break
        samples, info = io.read(path)
        mono = resample(samples.mean(0, keepdims=True), info.sample_rate or SAMPLE_RATE, SAMPLE_RATE)[0]
        sounds.append((mono.clip(-1, 1) * 32767).astype(np.int16))
        seconds += len(mono) / SAMPLE_RATE
    return sounds


def main() -> None:
    """Train on the folders named on the command line, and write the weights."""
    from safetensors.torch import save

    parser = argparse.ArgumentParser(description=__doc__)
    for kind in KINDS:
        parser.add_argument(f"--{kind}", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--hours", type=float, default=1.5, help="read at most so much of each kind")
    options = parser.parse_args()
    model = train([_read(getattr(options, kind), 3600 * options.hours) for kind in KINDS], options.steps)
    tensors = {name: tensor.half() for name, tensor in model.state_dict().items() if tensor.ndim}
    with replacing(options.output) as partial:
        partial.write_bytes(save(tensors))


if __name__ == "__main__":
    main()
