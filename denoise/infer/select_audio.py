"""Which model a recording needs: the one for speech where somebody speaks, else the one that keeps sounds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from denoise.models import AUDIO_PICKS
from denoise.models.base import Denoiser, InputSpec

__all__ = ["AutomaticAudio", "Hearing", "Signs", "excerpts", "signs"]

Array = NDArray[np.floating]

_RATE = 16_000  # Hz
_EXCERPT_S = 10.0
_EXCERPTS = 12  # of a long recording, evenly spread: two minutes tell as much as an hour
_FRAME, _HOP = 1024, 256  # samples: two periods of the deepest voice, 16 ms
_VOICE_HZ = (50, 440)  # fundamental frequencies of voices
_BAND_HZ = (250.0, 4000.0)  # where speech has most of its content, and thumps and hum have none
_SILENT = 1e-5  # root mean square: 100 dB below full scale
_LISTENING = 0.05  # the root mean square at which the model hears, for it learned from usual levels
_SPEAKS = 0.25  # share of the excerpts with speech from which a recording is one of speech


@dataclass(frozen=True)
class Signs:
    """By what speech is told from music, machines and nature, in a few seconds of sound.

    The bounds are set by hand; docs/models.md says how often they err.

    Args:
        passed_db: Energy that a model of speech leaves in the band of speech.
        voiced: Share of the frames with a pitch.
        moving_cents: Median change of the pitch in 16 ms: a voice glides, a note stands.
        syllabic: Share of the fluctuations of the level that is at the rate of syllables, 2 to 9 Hz.
    """

    passed_db: float
    voiced: float
    moving_cents: float
    syllabic: float

    @property
    def speech(self) -> bool:
        """Whether somebody speaks."""
        return (
            self.passed_db > -9.0 and self.voiced > 0.2 and self.moving_cents > 8.0 and self.syllabic > 0.15
        )


@dataclass(frozen=True)
class Hearing:
    """What to do to one recording, and why.

    Args:
        model: Of `AUDIO_PICKS`.
        speech_share: Of the excerpts that were listened to, those in which somebody speaks.
        reason: For the user.
    """

    model: str
    speech_share: float
    reason: str

    @property
    def figures(self) -> Mapping[str, float]:
        """What was decided by."""
        return {"speech_share": self.speech_share}


def signs(noisy: Array, passed: Array) -> Signs:
    """The signs of speech in a sound at 16 kHz, and in what a model of speech leaves of it.

    Shape:
        `(n,)` both, at least 0.2 s.
    """
    heard, left = (_powers(x) for x in (noisy, passed))
    energy = left.sum(1)
    tiny = np.finfo(np.float64).tiny
    passed_db = 10 * math.log10((energy.sum() + tiny) / (heard.sum() + tiny))

    level = 10 * np.log10(energy + 1e-3 * energy.max() + tiny)
    rate = np.fft.rfftfreq(len(level), _HOP / _RATE)
    fluctuation = np.abs(np.fft.rfft((level - level.mean()) * np.hanning(len(level)))) ** 2
    syllabic = fluctuation[(rate >= 2) & (rate <= 9)].sum() / (fluctuation[rate > 0.3].sum() + tiny)

    pitch, voiced = _pitch(passed)
    moves = np.abs(np.diff(1200 * np.log2(pitch)))[voiced[1:] & voiced[:-1]]
    moves = moves[moves < 180]  # jumps are between voices, or errors of an octave
    moving = float(np.median(moves)) if moves.size > 5 else 0.0
    return Signs(passed_db, float(voiced.mean()), moving, float(syllabic))


def _powers(x: Array) -> NDArray[np.float64]:
    """Power in the band of speech, `(frames, bins)`."""
    size = _FRAME // 2
    frames = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), size)[::_HOP] * np.hanning(size)
    low, high = (round(hz * size / _RATE) for hz in _BAND_HZ)
    power: NDArray[np.float64] = np.abs(np.fft.rfft(frames, axis=1)[:, low:high]) ** 2
    return power


def _pitch(x: Array) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Of each frame its pitch in Hz, and whether it has one: by autocorrelation (Boersma 1993)."""
    window = np.hanning(_FRAME)
    frames = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), _FRAME)[::_HOP] * window
    power = np.abs(np.fft.rfft(frames, 2 * _FRAME, axis=1)) ** 2
    shortest, longest = (_RATE // hz for hz in reversed(_VOICE_HZ))
    likeness = np.fft.irfft(power, axis=1)[:, : longest + 2]
    of_window = np.fft.irfft(np.abs(np.fft.rfft(window, 2 * _FRAME)) ** 2)[: longest + 2]
    energy = likeness[:, :1]
    likeness = likeness / np.maximum(energy, 1e-12) / (of_window / of_window[0])
    lag = likeness[:, shortest:longest].argmax(1) + shortest
    row = np.arange(len(lag))
    before, top, after = (likeness[row, lag + step] for step in (-1, 0, 1))
    bend = before - 2 * top + after
    lag = lag + np.divide(before - after, 2 * bend, out=np.zeros_like(bend), where=bend < 0).clip(-1, 1)
    loud = energy[:, 0] > 0.01 * energy.max()
    return _RATE / lag, loud & (top > 0.6)


def excerpts(blocks: Iterable[Array], samples: int, sample_rate: float) -> Iterator[Array]:
    """What is listened to of a recording that comes in blocks `(C, n)`: mono, at 16 kHz.

    Args:
        blocks: Of any sizes.
        samples: How many there will be; if there are fewer, so are the excerpts.
        sample_rate: Hz.
    """
    from denoise.dsp.resample import resample

    size = min(samples, round(_EXCERPT_S * sample_rate))
    count = max(1, min(_EXCERPTS, samples // max(size, 1)))
    starts = [round(index * (samples - size) / max(1, count - 1)) for index in range(count)]
    held: list[Array] = []
    at = 0
    for block in blocks:
        mono = np.asarray(block, np.float32).mean(0)
        while starts and starts[0] < at + mono.size:
            low, high = max(starts[0] - at, 0), min(starts[0] + size - at, mono.size)
            held.append(mono[low:high])
            if starts[0] + size > at + mono.size:
                break
            yield resample(np.concatenate(held)[None], sample_rate, _RATE)[0]
            held = []
            del starts[0]
        at += mono.size
        if not starts:
            return
    if held:
        yield resample(np.concatenate(held)[None], sample_rate, _RATE)[0]


class AutomaticAudio(Denoiser):
    """Runs, on each recording, the model that it needs.

    Whether somebody speaks takes more than a block, so what streams files asks first: see `decide` and
    `chosen`. To tell it, a model of speech listens: what it leaves of speech is nearly all, and of nearly
    everything else, little.

    Args:
        models: Those of `AUDIO_PICKS`.
        ear: The model of speech that listens.
    """

    spec = InputSpec("audio", halo=None, sample_rate=float(_RATE), joint_channels=True)

    def __init__(self, models: Mapping[str, Denoiser], ear: Denoiser) -> None:
        super().__init__()
        self.models, self.ear = nn.ModuleDict(models), ear

    @torch.inference_mode()
    def decide(self, listened: Iterable[Array]) -> Hearing:
        """What to do to a recording of which these are the `excerpts`."""
        self.ear.eval()
        found = []
        for excerpt in listened:
            level = float(np.sqrt(np.mean(np.square(excerpt)))) if excerpt.size >= 2 * _FRAME else 0.0
            if level > _SILENT:
                heard = (excerpt * (_LISTENING / level)).astype(np.float32)
                left = self.ear(torch.from_numpy(heard)[None, None])[0, 0].numpy()
                found.append(signs(heard, left).speech)
        share = sum(found) / len(found) if found else 0.0
        speech, other = AUDIO_PICKS
        if not found:
            return Hearing(other, 0.0, f"{other}: nothing to hear")
        model = speech if share >= _SPEAKS else other
        return Hearing(model, share, f"{model}: speech in {sum(found)} of {len(found)} excerpts")

    def chosen(self, hearing: Hearing) -> Denoiser:
        """The model that was decided for."""
        model: Denoiser = self.models[hearing.model]  # type: ignore[assignment]
        return model

    def forward(self, noisy: Tensor) -> Tensor:
        """Decide for each recording of the batch, and clean it."""
        from denoise.infer.apply import apply

        cleaned = [apply(self, x, peak=1.0, sample_rate=_RATE) for x in noisy.detach().cpu().numpy()]
        return torch.from_numpy(np.stack(cleaned)).to(noisy)
