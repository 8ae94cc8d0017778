"""Select the model for a recording: for speech, or for all other sounds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from denoise.dsp.resample import resample
from denoise.infer.selection import Selection, Selector
from denoise.models.base import InputSpec
from denoise.models.table import AUDIO_PICKS, LIVE_MODEL

__all__ = ["AudioSelection", "AudioSelector", "SpeechFeatures", "sample_excerpts", "speech_features"]

Array = NDArray[np.floating]

_RATE_HZ = 16_000
_EXCERPT_S = 10.0
_MAX_EXCERPTS = 12  # of a long recording, evenly spread: two minutes suffice for an hour
_FRAME, _HOP = 1024, 256  # samples: two periods of the deepest voice, 16 ms
_VOICE_HZ = (50, 440)  # fundamental frequencies of voices
_BAND_HZ = (250.0, 4000.0)  # most of the content of speech; without thumps and hum
_SYLLABLE_HZ = (2, 9)
_DRIFT_HZ = 0.3  # slower fluctuations of the level do not count
_MIN_PERIODICITY = 0.6  # of a voiced frame: the normalised correlation at its pitch
_MIN_LOUDNESS = 0.01  # of a voiced frame: its energy over that of the loudest
_MAX_MOVE_CENTS = 180  # larger changes of the pitch are between voices, or errors of an octave
_MIN_MOVES = 6
_SILENT_RMS = 1e-5  # 100 dB below full scale
_DETECTION_RMS = 0.05  # excerpts are amplified to this level, usual in the training of the detector
_MIN_SPEECH_SHARE = 0.25  # of the excerpts, for a recording to count as speech

# A sound is speech above all of these bounds. They are set by hand; docs/models.md has their error rates.
MIN_PASSED_DB = -9.0
MIN_VOICED = 0.2
MIN_MOVING_CENTS = 8.0
MIN_SYLLABIC = 0.15


@dataclass(frozen=True)
class SpeechFeatures:
    """Features that separate speech from music, machines and nature in a few seconds of sound.

    Args:
        passed_db: Energy in the band of speech that a speech denoiser passes.
        voiced: Share of the frames with a pitch.
        moving_cents: Median change of the pitch in 16 ms: voices glide, notes stand.
        syllabic: Share of the fluctuations of the level at the rate of syllables, 2 to 9 Hz.
    """

    passed_db: float
    voiced: float
    moving_cents: float
    syllabic: float

    @property
    def is_speech(self) -> bool:
        """True if all features exceed their bounds."""
        return (
            self.passed_db > MIN_PASSED_DB
            and self.voiced > MIN_VOICED
            and self.moving_cents > MIN_MOVING_CENTS
            and self.syllabic > MIN_SYLLABIC
        )


def speech_features(noisy: Array, passed: Array) -> SpeechFeatures:
    """Measure a sound `(n,)` at 16 kHz, of at least 0.2 s, and what a speech denoiser passes of it."""
    noisy_powers, passed_powers = (_powers(x) for x in (noisy, passed))
    energy = passed_powers.sum(1)
    tiny = np.finfo(np.float64).tiny
    passed_db = 10 * math.log10((energy.sum() + tiny) / (noisy_powers.sum() + tiny))

    level = 10 * np.log10(energy + 1e-3 * energy.max() + tiny)
    rate_hz = np.fft.rfftfreq(len(level), _HOP / _RATE_HZ)
    fluctuation = np.abs(np.fft.rfft((level - level.mean()) * np.hanning(len(level)))) ** 2
    slowest, fastest = _SYLLABLE_HZ
    at_syllables = fluctuation[(rate_hz >= slowest) & (rate_hz <= fastest)].sum()
    syllabic = at_syllables / (fluctuation[rate_hz > _DRIFT_HZ].sum() + tiny)

    pitch_hz, voiced = _pitch(passed)
    moves = np.abs(np.diff(1200 * np.log2(pitch_hz)))[voiced[1:] & voiced[:-1]]
    moves = moves[moves < _MAX_MOVE_CENTS]
    moving_cents = float(np.median(moves)) if moves.size >= _MIN_MOVES else 0.0
    return SpeechFeatures(passed_db, float(voiced.mean()), moving_cents, float(syllabic))


def _powers(x: Array) -> NDArray[np.float64]:
    """Power in the band of speech, `(frames, bins)`."""
    size = _FRAME // 2
    frames = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), size)[::_HOP] * np.hanning(size)
    low, high = (round(hz * size / _RATE_HZ) for hz in _BAND_HZ)
    power: NDArray[np.float64] = np.abs(np.fft.rfft(frames, axis=1)[:, low:high]) ** 2
    return power


def _pitch(x: Array) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Pitch of each frame in Hz, and True if it is voiced, by autocorrelation (Boersma 1993)."""
    window = np.hanning(_FRAME)
    frames = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), _FRAME)[::_HOP] * window
    power = np.abs(np.fft.rfft(frames, 2 * _FRAME, axis=1)) ** 2
    min_lag, max_lag = (_RATE_HZ // hz for hz in reversed(_VOICE_HZ))
    correlation = np.fft.irfft(power, axis=1)[:, : max_lag + 2]
    of_window = np.fft.irfft(np.abs(np.fft.rfft(window, 2 * _FRAME)) ** 2)[: max_lag + 2]
    energy = correlation[:, :1]
    correlation = correlation / np.maximum(energy, 1e-12) / (of_window / of_window[0])
    lag = correlation[:, min_lag:max_lag].argmax(1) + min_lag
    row = np.arange(len(lag))
    before, top, after = (correlation[row, lag + step] for step in (-1, 0, 1))
    bend = before - 2 * top + after
    lag = lag + np.divide(before - after, 2 * bend, out=np.zeros_like(bend), where=bend < 0).clip(-1, 1)
    loud = energy[:, 0] > _MIN_LOUDNESS * energy.max()
    return _RATE_HZ / lag, loud & (top > _MIN_PERIODICITY)


def sample_excerpts(blocks: Iterable[Array], samples: int, sample_rate: float) -> Iterator[Array]:
    """Yield evenly spread excerpts of a recording in blocks `(C, n)`: mono, at 16 kHz.

    Args:
        blocks: Blocks of any sizes.
        samples: Expected length; a shorter recording gives fewer excerpts.
        sample_rate: Hz.
    """
    size = min(samples, round(_EXCERPT_S * sample_rate))
    count = max(1, min(_MAX_EXCERPTS, samples // max(size, 1)))
    starts = [round(index * (samples - size) / max(1, count - 1)) for index in range(count)]
    parts: list[Array] = []
    position = 0
    for block in blocks:
        mono = np.asarray(block, np.float32).mean(0)
        while starts and starts[0] < position + mono.size:
            low, high = max(starts[0] - position, 0), min(starts[0] + size - position, mono.size)
            parts.append(mono[low:high])
            if starts[0] + size > position + mono.size:
                break
            yield resample(np.concatenate(parts)[None], sample_rate, _RATE_HZ)[0]
            parts = []
            del starts[0]
        position += mono.size
        if not starts:
            return
    if parts:
        yield resample(np.concatenate(parts)[None], sample_rate, _RATE_HZ)[0]


@dataclass(frozen=True)
class AudioSelection(Selection):
    """The model for one recording.

    Args:
        speech_share: Share of the excerpts with speech.
    """

    speech_share: float = 0.0


class AudioSelector(Selector):
    """Selects one of `AUDIO_PICKS` for each recording.

    Detection runs the speech denoiser `LIVE_MODEL`, which passes speech almost unchanged and attenuates
    almost everything else. It needs several seconds of audio, so streaming callers select before they open
    the stream.

    Args:
        models: Those of `AUDIO_PICKS`, and `LIVE_MODEL`.
    """

    spec = InputSpec("audio", halo=None, sample_rate=float(_RATE_HZ), joint_channels=True)

    @torch.inference_mode()
    def select(
        self, blocks: Iterable[Array], peak: float | None, samples: int, sample_rate: float | None
    ) -> AudioSelection:
        """Select the model for a recording; unsigned samples are silent at `peak`."""
        assert sample_rate is not None
        full = peak or 1.0
        scaled = ((x - (full if x.dtype.kind == "u" else 0.0)) / full for x in blocks)
        found = []
        for excerpt in sample_excerpts(scaled, samples, sample_rate):
            rms = float(np.sqrt(np.mean(np.square(excerpt)))) if excerpt.size >= 2 * _FRAME else 0.0
            if rms > _SILENT_RMS:
                noisy = (excerpt * (_DETECTION_RMS / rms)).astype(np.float32)
                passed = self.models[LIVE_MODEL].eval()(torch.from_numpy(noisy)[None, None])[0, 0].numpy()
                found.append(speech_features(noisy, passed).is_speech)
        speech, other = AUDIO_PICKS
        if not found:
            return AudioSelection(other, 1.0, f"{other}: silent")
        share = sum(found) / len(found)
        model = speech if share >= _MIN_SPEECH_SHARE else other
        return AudioSelection(model, 1.0, f"{model}: speech in {sum(found)} of {len(found)} excerpts", share)
