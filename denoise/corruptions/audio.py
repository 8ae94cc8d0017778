"""Corruptions of waveforms: noise, hum, reverberation and distortion."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from denoise.corruptions.base import Corruption, TimedCorruption, add_at_snr, fill_gaps, sampling_rate
from denoise.corruptions.levels import Level, Number, SnrDb, Word, draw, normal, uniform
from denoise.errors import UsageError


@dataclass(frozen=True)
class _FixedColour(Corruption):
    """Stationary noise whose power density falls as `1 / f^exponent`."""

    modalities = ("audio", "sensor")
    identity = math.inf
    exponent: ClassVar[float]

    snr_db: SnrDb = 10.0

    def apply(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        noise = _coloured(clean, torch.tensor(self.exponent), generator)
        return add_at_snr(clean, noise, draw(self.snr_db, clean, generator))


@dataclass(frozen=True)
class White(_FixedColour):
    """White noise, equal power at every frequency: thermal noise of an amplifier.

    Args:
        snr_db: Variance of the clean channel over power of the noise, met exactly in each channel.
    """

    name = "white"
    exponent = 0.0


@dataclass(frozen=True)
class Pink(_FixedColour):
    """Pink noise, -3 dB per octave: flicker noise of electronics, wind, distant traffic.

    Args:
        snr_db: Variance of the clean channel over power of the noise, met exactly in each channel.
    """

    name = "pink"
    exponent = 1.0


@dataclass(frozen=True)
class Brown(_FixedColour):
    """Brown (red) noise, -6 dB per octave: a random walk, rumble, slow thermal wandering.

    Args:
        snr_db: Variance of the clean channel over power of the noise, met exactly in each channel.
    """

    name = "brown"
    exponent = 2.0


@dataclass(frozen=True)
class Coloured(Corruption):
    """Noise of any colour between and beyond white (0), pink (1) and brown (2); -1 is blue.

    Timmer and Koenig, "On generating power law noise", Astronomy and Astrophysics 1995.

    Args:
        snr_db: Variance of the clean channel over power of the noise, met exactly in each channel.
        exponent: Slope of the power density, `1 / f^exponent`: -3 dB per octave and unit.
    """

    name = "coloured"
    modalities = ("audio", "sensor")
    identity = math.inf

    snr_db: SnrDb = 10.0
    exponent: Annotated[Level, Number("powers of 1/f", -4, 4)] = 1.0

    def apply(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        noise = _coloured(clean, draw(self.exponent, clean, generator), generator)
        return add_at_snr(clean, noise, draw(self.snr_db, clean, generator))


def _coloured(clean: Tensor, exponent: Tensor, generator: torch.Generator) -> Tensor:
    """Return noise of mean 0 and any scale whose power density falls as `1 / f^exponent`.

    It is the inverse transform of a shaped Gaussian spectrum. Because that is periodic, it is drawn at twice
    the length and cut, so that the end of the noise does not continue into its beginning.
    """
    samples = clean.shape[-1]
    if not bool(exponent.any()):
        noise = normal(clean.shape, clean, generator)
    else:
        length = _fast_even_length(2 * samples)
        bins = torch.arange(length // 2 + 1, dtype=clean.dtype, device=clean.device)
        shape = bins.clamp(min=1) ** (-exponent.to(bins) / 2)
        shape[..., 0] = 0.0
        parts = normal((*clean.shape[:2], bins.numel(), 2), clean, generator)
        noise = torch.fft.irfft(torch.view_as_complex(parts) * shape, n=length)[..., :samples]
    return noise - noise.mean(-1, keepdim=True)


def _fast_even_length(samples: int) -> int:
    """Return the next even length with a fast Fourier transform: a power of two, or 3/4 or 5/8 of one."""
    power = 1 << max(samples - 1, 1).bit_length()
    return min(size for size in (power, power * 3 // 4, power * 5 // 8) if size >= samples and size % 2 == 0)


_DRIFT_PERIOD_S = 20.0  # of the mains frequency


@dataclass(frozen=True)
class Hum(TimedCorruption):
    """Mains hum: the frequency of the power grid and its harmonics up to half the sample rate.

    The k-th harmonic has 1/k of the amplitude of the first and a random phase, the same in all channels.

    Args:
        snr_db: Variance of the clean channel over power of the hum, met exactly in each channel.
        frequency_hz: Mains frequency: 50 in most of the world, 60 in the Americas.
        harmonics: Number of harmonics, the first included.
        drift_hz: Amplitude of a sinusoidal drift of the frequency, with a period of 20 s.
    """

    name = "hum"
    modalities = ("audio", "sensor")
    identity = math.inf

    snr_db: SnrDb = 10.0
    frequency_hz: Annotated[Level, Number("Hz", 1e-6)] = 50.0
    harmonics: Annotated[float, Number("harmonics", 1, 100, fixed=True)] = 5.0
    drift_hz: Annotated[float, Number("Hz", 0, fixed=True)] = 0.0

    def apply(self, clean: Tensor, generator: torch.Generator, sample_rate: float | None = None) -> Tensor:
        frequency = draw(self.frequency_hz, clean, generator).double() / sampling_rate(self, sample_rate)
        # Count cycles in double precision and drop whole ones, so that hours of hum stay in tune.
        time = torch.arange(clean.shape[-1], dtype=torch.float64, device=clean.device)
        cycles = frequency * time
        if self.drift_hz:
            period = _DRIFT_PERIOD_S * sampling_rate(self, sample_rate)
            phase = 2 * math.pi * (time / period + uniform(frequency.shape, clean, generator).double())
            cycles = cycles + self.drift_hz * _DRIFT_PERIOD_S / (2 * math.pi) * torch.sin(phase)
        cycles = cycles.remainder_(1.0).to(clean.dtype)  # (B, 1, n)
        hum = torch.zeros_like(cycles)
        for harmonic in range(1, int(self.harmonics) + 1):
            phase = uniform(frequency.shape, clean, generator)
            amplitude = (harmonic * frequency < 0.5).to(clean.dtype) / harmonic
            hum += amplitude * torch.sin(2 * math.pi * (harmonic * cycles + phase))
        return add_at_snr(clean, hum, draw(self.snr_db, clean, generator))


@dataclass(frozen=True)
class Background(TimedCorruption):
    """A stretch of a real noise recording mixed under the signal: cafés, streets, engines.

    Each item gets its own stretch from a random place, the same in all channels; short recordings repeat.

    Args:
        snr_db: Variance of the clean channel over power of the stretch, met exactly in each channel.
        path: A recording, or a folder of them; mixed to mono and resampled to the signal's rate. Each column
            of a sensor log is a recording; without a clock, it has the signal's rate.
        noise: Samples at the signal's rate `(n,)` or `(recordings, n)` instead of `path`, at any scale.
        equalise_db: Largest gain, up or down, of a smooth random equaliser that varies the stretches.
    """

    name = "background"
    modalities = ("audio", "sensor")
    identity = math.inf

    snr_db: SnrDb = 10.0
    path: Annotated[str | None, Word()] = None
    noise: Tensor | None = field(default=None, repr=False, compare=False)
    equalise_db: Annotated[float, Number("dB", 0, fixed=True)] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noise is not None and self.path is not None:
            raise UsageError("background takes path or noise, not both")
        if self.noise is not None and (self.noise.ndim not in (1, 2) or self.noise.numel() == 0):
            shape = tuple(self.noise.shape)
            raise UsageError(f"background: noise of shape {shape} is not (n,) or (recordings, n)")

    def apply(self, clean: Tensor, generator: torch.Generator, sample_rate: float | None = None) -> Tensor:
        noise = self._recordings(sample_rate)
        noise = noise if noise.ndim == 2 else noise[None]
        exact = clean.new_empty(0, dtype=torch.float64)  # float32 cannot count an hour of samples
        places = uniform((2, clean.shape[0], 1), exact, generator).to(noise.device)
        row = (places[0] * noise.shape[0]).long()
        length = noise.shape[1]
        places_left = length - clean.shape[-1] + 1 if length >= clean.shape[-1] else length
        start = (places[1] * places_left).long()
        time = torch.arange(clean.shape[-1], device=noise.device)
        stretch = noise[row, (start + time) % length].to(clean)  # (B, n)
        stretch = (stretch - stretch.mean(-1, keepdim=True)).unsqueeze(1)
        if self.equalise_db:
            stretch = equalised(stretch, self.equalise_db, generator)
        return add_at_snr(clean, stretch, draw(self.snr_db, clean, generator))

    def _recordings(self, sample_rate: float | None) -> Tensor:
        if self.noise is not None:
            return self.noise
        if self.path is None:
            raise UsageError("background needs path= (a recording, or a folder of them)")
        return _read_mono(self.path, sampling_rate(self, sample_rate))


def equalised(x: Tensor, max_db: float, generator: torch.Generator) -> Tensor:
    """Apply gains drawn at eight log-spaced frequencies, and smooth between them, to signals `(B, C, n)`."""
    bins = x.shape[-1] // 2 + 1
    knots = max_db * (2 * uniform((x.shape[0], 1, 8), x, generator) - 1)
    octaves = F.interpolate(knots, size=256, mode="linear", align_corners=True)  # (B, 1, 256)
    place = torch.log(torch.arange(bins, device=x.device) + 1.0) / math.log(bins) * 255
    gain = 10 ** (octaves[..., place.round().long()] / 20)
    return torch.fft.irfft(torch.fft.rfft(x) * gain, n=x.shape[-1])


@functools.lru_cache(maxsize=4)
def _read_mono(path: str, sample_rate: float) -> Tensor:
    """Join all recordings at `path`, mixed to mono (but each column of a log by itself) and resampled."""
    import soxr

    from denoise import io
    from denoise.io.formats import writable_suffixes

    place = Path(path)
    suffixes = writable_suffixes("audio")
    files = [place]
    if place.is_dir():
        files = sorted(file for file in place.rglob("*") if file.suffix.lower() in suffixes)
    if not files:
        raise UsageError(f"background: {path} holds no recording ({' '.join(suffixes)})")
    parts = []
    for file in files:
        samples, info = io.read(file)
        rows = samples if info.modality == "sensor" else samples.mean(axis=0, keepdims=True)
        rate = info.sample_rate or sample_rate
        parts += [soxr.resample(row.astype(np.float32), rate, sample_rate) for row in rows]
    joined = np.concatenate(parts).astype(np.float32)
    if joined.size == 0:
        raise UsageError(f"background: {path} holds no samples")
    return torch.from_numpy(joined)


@dataclass(frozen=True)
class Clip(Corruption):
    """Hard clipping at the converter's limit; samples below the limit keep their value.

    Args:
        overdrive_db: Peak of the clean item over the clipping limit; 0 clips nothing.
    """

    name = "clip"
    modalities = ("audio", "sensor")

    overdrive_db: Annotated[Level, Number("dB", 0)] = 10.0

    def apply(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        peak = clean.abs().nan_to_num(0.0).amax((1, 2), keepdim=True)
        limit = peak * 10 ** (-draw(self.overdrive_db, clean, generator) / 20)
        return clean.clamp(-limit, limit)


@dataclass(frozen=True)
class Reverb(TimedCorruption):
    """A synthetic room: the unchanged direct sound and a Gaussian tail that decays exponentially.

    Polack, "Playing billiards in the concert hall: the mathematical foundations of geometrical room
    acoustics", Applied Acoustics 1993.

    Args:
        rt60_s: Time in which the tail falls by 60 dB: 0 outdoors, 0.4 in a living room, several in a church.
        direct_db: Energy of the direct sound over that of the tail; lower is farther away.
    """

    name = "reverb"
    modalities = ("audio",)

    rt60_s: Annotated[Level, Number("seconds", 0, 60)] = 0.4
    direct_db: Annotated[Level, Number("dB", -200)] = 3.0

    def apply(self, clean: Tensor, generator: torch.Generator, sample_rate: float | None = None) -> Tensor:
        samples = clean.shape[-1]
        rt60 = draw(self.rt60_s, clean, generator) * sampling_rate(self, sample_rate)  # samples
        direct_db = draw(self.direct_db, clean, generator)
        # Cut the tail at RT60, where it is 60 dB down, or at the end of the signal.
        taps = min(samples, 1 + math.ceil(float(rt60.max())))
        # Amplitude falls as exp(-k decay) with decay = 3 ln 10 / RT60, so the energy of unit noise from k = 1
        # is the geometric sum 1 / (exp(2 decay) - 1).
        decay = 3 * math.log(10) / rt60
        delay = torch.arange(taps, dtype=clean.dtype, device=clean.device)
        gain = (10 ** (-direct_db / 10) * torch.expm1(2 * decay)).sqrt()
        envelope = torch.where((delay > 0) & (rt60 > 0), gain * torch.exp(-decay * delay), 0.0)
        tail = normal((*clean.shape[:2], taps), clean, generator) * envelope.nan_to_num(0.0)
        length = _fast_even_length(samples + taps - 1)
        spectrum = torch.fft.rfft(fill_gaps(clean), n=length) * torch.fft.rfft(tail, n=length)
        echoes: Tensor = torch.fft.irfft(spectrum, n=length)
        return clean + echoes[..., :samples]


@dataclass(frozen=True)
class BandLimit(TimedCorruption):
    """A narrow band: telephone (300 to 3400 Hz), small loudspeaker, slow sensor.

    Butterworth magnitude of order 8 (48 dB per octave) without phase shift; edges are at -3 dB.

    Args:
        high_hz: Upper edge; infinite passes everything.
        low_hz: Lower edge; 0 passes everything.
    """

    name = "band-limit"
    modalities = ("audio", "sensor")
    identity = math.inf

    high_hz: Annotated[Level, Number("Hz", 1e-9)] = 3400.0
    low_hz: Annotated[Level, Number("Hz", 0)] = 0.0

    def apply(self, clean: Tensor, generator: torch.Generator, sample_rate: float | None = None) -> Tensor:
        # Append the mirrored signal, so that the period has no jump.
        filled = fill_gaps(clean)
        mirrored = torch.cat((filled, filled.flip(-1)), dim=-1)
        length = mirrored.shape[-1]
        frequency = torch.fft.rfftfreq(length, 1 / sampling_rate(self, sample_rate)).to(clean)
        above = frequency / draw(self.high_hz, clean, generator)
        below = draw(self.low_hz, clean, generator) / frequency.clamp(min=torch.finfo(clean.dtype).tiny)
        passed = ((1 + above**16) * (1 + below**16)).rsqrt()
        # Subtract the stop band, so that an all-pass returns the input exactly.
        removed: Tensor = torch.fft.irfft(torch.fft.rfft(mirrored) * (1 - passed), n=length)
        return clean - removed[..., : clean.shape[-1]]
