"""View of a recording: an excerpt to hear before, after and what was removed, and its spectrograms."""

from __future__ import annotations

import io as memory
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from denoise import io
from denoise.arrays import Array
from denoise.dsp.resample import resample
from pipelines.view.budget import NAMES, Budget, data_uri, encode_pictures

_MAX_EXCERPT_S = 20.0
_MIN_EXCERPT_S = 1.0
_FRAME_S = 0.1
_RATES = (16000, 24000, 44100, 48000)  # of MPEG audio that every browser plays
_BYTES_PER_S = {16000: 4500, 24000: 6000, 44100: 11000, 48000: 11500}  # measured on noise
_RANGE_DB = 80.0
_FFT_S = 0.032
_MAX_WIDTH_PX, _MAX_HEIGHT_PX = 560, 200
_BLOCK = 1 << 18
# Colours of a spectrogram from quiet to loud: black, violet, red, yellow, white.
_COLOURS = np.array(
    [[8, 6, 20], [62, 15, 98], [160, 40, 96], [236, 108, 50], [250, 200, 70], [255, 255, 230]]
)


@dataclass(frozen=True)
class Spectrogram:
    """Picture of one signal over time and frequency."""

    name: str
    picture: str


@dataclass(frozen=True)
class SoundView:
    """Media of one recording."""

    kind: ClassVar[str] = "sound"

    start_s: float  # start of the excerpt
    stop_s: float  # end of the excerpt
    duration_s: float  # of the file
    top_hz: float  # highest frequency of the spectrograms
    clips: tuple[tuple[str, str], ...]  # name and data URI of each signal to hear
    spectrograms: tuple[Spectrogram, ...]  # one for each of input and output
    marks: tuple[tuple[float, float], ...] = ()  # start and end of places to mark, as shares of the excerpt


def sound_view(
    before: Path,
    after: Path | None,
    budget: Budget,
    *,
    names: tuple[str, str, str] = NAMES,
    marks_s: Sequence[tuple[float, float]] = (),
) -> SoundView:
    """Read the excerpt of one or two recordings in which most was removed."""
    info = io.probe(before, salvage=True)  # of a damaged recording, what was cleaned
    rate, duration = float(info.sample_rate or 1.0), info.shape[-1] / float(info.sample_rate or 1.0)
    heard = min(_RATES, key=lambda known: abs(known - min(rate, 48000)))
    if 3 * _BYTES_PER_S[heard] * _MAX_EXCERPT_S > budget.share(0.75):
        heard = 16000
    room_s = budget.share(0.75) / (3 * _BYTES_PER_S[heard])
    length_s = float(np.clip(room_s, _MIN_EXCERPT_S, _MAX_EXCERPT_S))
    start = _most_removed(before, after, rate, length_s, marks_s)
    stop = start + int(length_s * rate)
    signals = [_excerpt(path, start, stop) for path in (before, after) if path is not None]
    length = min(signal.shape[-1] for signal in signals)
    signals = [signal[..., :length] for signal in signals]
    media = _clips(signals, rate, heard)
    while sum(map(len, media)) > budget.share(0.75) and length > _MIN_EXCERPT_S * rate:
        share = 0.95 * budget.share(0.75) / sum(map(len, media))
        length = max(int(length * share), int(_MIN_EXCERPT_S * rate))
        signals = [signal[..., :length] for signal in signals]
        media = _clips(signals, rate, heard)
    start_s, stop_s = start / rate, (start + length) / rate
    seen = spectrograms(
        {name: signal.mean(axis=0) for name, signal in zip(names, signals, strict=False)},
        rate,
        budget.share(0.25),
    )
    span = max(stop_s - start_s, 1e-9)
    shares = [((a - start_s) / span, (b - start_s) / span) for a, b in marks_s if b > start_s and a < stop_s]
    return SoundView(
        start_s,
        stop_s,
        duration,
        rate / 2,
        tuple((name, data_uri(clip, "audio/mpeg")) for name, clip in zip(names, media, strict=False)),
        tuple(Spectrogram(name, picture) for name, picture in seen.items()),
        tuple((max(a, 0.0), min(b, 1.0)) for a, b in shares),
    )


def _excerpt(path: Path, start: int, stop: int) -> Array:
    """Samples `(C, n)`, as floats of full scale 1."""
    parts, at = [], 0
    with io.reader(path, block=_BLOCK, salvage=True) as blocks:
        peak = blocks.info.peak or 1.0
        for block in blocks:
            if at + block.shape[-1] > start:
                parts.append(block[:, max(start - at, 0) : stop - at])
            at += block.shape[-1]
            if at >= stop:
                break
    joined = np.concatenate(parts, axis=-1) if parts else np.zeros((1, 1))
    return np.nan_to_num(np.asarray(joined, np.float32) / np.float32(peak))


def _most_removed(
    before: Path, after: Path | None, rate: float, length_s: float, marks_s: Sequence[tuple[float, float]]
) -> int:
    """First sample of the excerpt in which most energy was removed; with marks, shortly before the first."""
    if after is None:
        return int(max(0.0, marks_s[0][0] - 0.2 * length_s) * rate) if marks_s else 0
    frame = max(1, int(_FRAME_S * rate))
    energies: list[Array] = []
    reading = {"block": frame * 512, "salvage": True}
    with io.reader(before, **reading) as noisy, io.reader(after, **reading) as clean:
        peaks = [np.float32(reader.info.peak or 1.0) for reader in (noisy, clean)]
        for a, b in zip(noisy, clean, strict=False):
            length = min(a.shape[-1], b.shape[-1])
            removed = np.nan_to_num(a[:, :length] / peaks[0] - b[:, :length] / peaks[1]).mean(axis=0)
            energies.append(np.add.reduceat(removed**2, np.arange(0, length, frame)) if length else removed)
    energy = np.concatenate(energies) if energies else np.zeros(1)
    window = min(len(energy), max(1, int(length_s / _FRAME_S)))
    sums = np.convolve(energy, np.ones(window), "valid")
    return int(sums.argmax()) * frame


def _clips(signals: Sequence[Array], rate: float, heard: int) -> list[bytes]:
    """Encode the signals, and of two their difference."""
    removed = [signals[0] - signals[1]] if len(signals) > 1 else []
    return [_mp3(signal, rate, heard) for signal in (*signals, *removed)]


def _mp3(signal: Array, rate: float, heard: int) -> bytes:
    """Encode a signal `(C, n)` as mono MPEG audio."""
    import soundfile as sf

    mono = signal.mean(axis=0, keepdims=True)
    if rate != heard:
        mono = resample(mono, rate, heard)
    coded = memory.BytesIO()
    sf.write(
        coded,
        np.clip(mono[0], -1, 1),
        heard,
        format="MP3",
        subtype="MPEG_LAYER_III",
        compression_level=0.3,
        bitrate_mode="VARIABLE",
    )
    return coded.getvalue()


def spectrograms(signals: dict[str, Array], rate: float, size_bytes: float) -> dict[str, str]:
    """Draw signals `(n,)` with one range of colours: 80 dB below the loudest point.

    Returns:
        A picture by the name of its signal, as a data URI.
    """
    powers = [_power_db(signal, rate) for signal in signals.values()]
    top = max(float(power.max()) for power in powers)
    pictures = [_coloured((power - top) / _RANGE_DB + 1) for power in powers]
    coded, _ = encode_pictures(pictures, _MAX_WIDTH_PX, size_bytes)
    return {name: data_uri(picture, "image/webp") for name, picture in zip(signals, coded, strict=True)}


def _power_db(signal: Array, rate: float) -> Array:
    """Power `(frequency, time)` in dB, of at most as many columns and rows as are drawn."""
    size = max(64, 1 << round(np.log2(max(_FFT_S * rate, 2))))
    padded = np.pad(signal, (0, max(0, size - len(signal))))
    columns = min(_MAX_WIDTH_PX * 2, max(1, (len(padded) - size) // (size // 4) + 1))
    starts = np.linspace(0, len(padded) - size, columns).astype(int)
    frames = padded[starts[:, None] + np.arange(size)] * np.hanning(size)
    power = np.abs(np.fft.rfft(frames, axis=1)).T[1:] ** 2
    power = _fewer(_fewer(power, _MAX_HEIGHT_PX).T, _MAX_WIDTH_PX).T
    return 10 * np.log10(power[::-1] + 1e-12)


def _fewer(rows: Array, most: int) -> Array:
    """Average neighbouring rows down to `most`."""
    if len(rows) <= most:
        return rows
    edges = np.linspace(0, len(rows), most + 1).astype(int)[:-1]
    counts = np.diff([*edges, len(rows)])
    return np.add.reduceat(rows, edges, axis=0) / counts[:, None]


def _coloured(share: Array) -> Array:
    """Colours of shares in 0..1."""
    at = share.clip(0, 1) * (len(_COLOURS) - 1)
    planes = [np.interp(at, np.arange(len(_COLOURS)), _COLOURS[:, plane]) for plane in range(3)]
    return np.rint(np.stack(planes, -1)).astype(np.uint8)
