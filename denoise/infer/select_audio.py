"""Select the model for each passage of a recording: for speech, for music, or for all other sounds."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from denoise import weights
from denoise.arrays import Array, Doubles
from denoise.dsp.resample import resampler
from denoise.infer.selection import Selection
from denoise.models.base import Denoiser
from denoise.models.sound_kind import HOP, KINDS, SAMPLE_RATE, SEGMENT_SAMPLES, SoundKind

SPEECH, MUSIC, OTHER, SILENCE = "speech", "music", "other sounds", "silence"

_NOISE = np.array([kind == "noise" for kind in KINDS[1:]], float)

_STEP = SEGMENT_SAMPLES // 2  # between windows, at the rate of the classifier
STEP_S = _STEP / SAMPLE_RATE
_BEFORE, _AFTER = 2, 1  # windows around a step whose probabilities count
_AROUND = _BEFORE + _AFTER + 1  # 10 s together, also at the start of a recording
LOOK_AHEAD_STEPS = (
    _AFTER + SEGMENT_SAMPLES // _STEP
)  # from the start of a step to the end of the last of these
_MIN_SAMPLES = 3200  # of a recording that can be classified: 0.2 s
_SILENT_RMS = 1e-5  # 100 dB below full scale
# Mean probability of speech from which a model for speech runs: it would destroy other sounds, while that for
# music leaves noise in speech. No window of a step with speech may be music.
_MIN_SPEECH = 0.4
# Correlation of the spectrograms (dB) of two channels from which they are one scene, with one decision.
_MIN_CORRELATION = 0.5
_MIN_MUSIC = 0.5  # probability of singing or music from which a window is no speech
_SURE_MUSIC = 0.7  # the same of a step; below it, what is removed is limited
# A window with a probability of speech between these is classified again after a model for speech.
_DOUBT = (0.15, 0.6)
_MIN_FOUND = 0.5  # probability of speech afterwards that counts
# Power that this model leaves, at least: of speech in noise, and of what the classifier took for speech.
_FOUND_DB, _LEFT_DB = -6.3, -15.0
_PAUSE = 0.1  # probability of speech below which a step is no speech, whatever is around it
# A window with less sound than this tells little: it is speech only if what is left is, by this much.
_SHORT_S, _MIN_SHORT = 3.0, 0.65
_CLEAN_DB = -22.0  # power that this model removes from it, below which there is nothing to clean
_FRAME = SAMPLE_RATE // 50  # samples of a moment that is silent or not
_FAINT = 1e-4  # RMS of a silent moment over that of the window, at most

# Channels of the layouts that WAV and FLAC define: front left and right, centre, low frequencies, pairs.
_LAYOUTS = {3: (2, 1), 4: (2, 2), 5: (2, 1, 2), 6: (2, 1, 1, 2), 7: (2, 1, 1, 1, 2), 8: (2, 1, 1, 2, 2)}


@functools.cache
def _classifier() -> SoundKind:
    network, _ = weights.load(weights.DETECTOR)
    assert isinstance(network, SoundKind)
    return network


@functools.cache
def _live() -> Denoiser:
    return weights.load(weights.pretrained()["speech-live"])[0].eval()


@torch.inference_mode()
def band_powers(window: Array, before: torch.Tensor | None = None) -> torch.Tensor:
    """Return what the classifier reads of channels `(C, n)` of at most 4 s at 16 kHz, `(C, frames, bands)`.

    Args:
        window: The channels.
        before: That of the window a step before it, with which it shares frames.
    """
    network = _classifier()
    samples = torch.from_numpy(window.astype(np.float32, copy=False))
    samples = functional.pad(samples, (0, SEGMENT_SAMPLES - samples.shape[-1]))
    if before is None:
        return network.powers(samples)
    shared = before[:, _STEP // HOP :]
    return torch.cat([shared, network.powers(samples[:, shared.shape[1] * HOP :])], 1)


@torch.inference_mode()
def kind_probabilities(powers: torch.Tensor) -> Doubles:
    """Return the probability of each of `KINDS` for each channel, `(C, kinds)`; the level does not count."""
    return np.asarray(_classifier().classify(powers).softmax(1).double().numpy())


@torch.inference_mode()
def second_look(samples: Array, first: Doubles) -> Doubles:
    """Classify a window again by what a model for speech leaves of it.

    Noise hides speech from the classifier, and a bird may sound like a voice. The model leaves speech, and
    little of a bird. Of a short sound there is no more to judge by, and so it is speech only if that is sure,
    and only if there is noise to remove.

    Args:
        samples: A channel at 16 kHz, `(n,)`.
        first: Its probabilities so far, `(kinds,)`.
    """
    not_speech = np.append(0.0, first[1:] + first[0] * _NOISE)
    level = torch.from_numpy(samples.astype(np.float32, copy=False))
    level = 0.1 * level / level.square().mean().sqrt()
    left = _live()(level[None, None])[0]
    left_db, removed_db = _power_db(left, level), _power_db(level - left, level)
    short = is_short(samples)
    if left_db < _LEFT_DB or (short and removed_db < _CLEAN_DB):
        return not_speech
    sure = first[0] > _MIN_FOUND and not short
    if sure or left_db < _FOUND_DB or _music(first) > _MIN_MUSIC:
        return not_speech if short else first
    second = kind_probabilities(band_powers(left.numpy()))[0]
    if second[0] > (_MIN_SHORT if short else _MIN_FOUND):
        return second
    return not_speech if short else first


def _power_db(part: torch.Tensor, whole: torch.Tensor) -> float:
    return 10 * float(torch.log10(part.square().mean() / whole.square().mean() + 1e-20))


def is_short(samples: Array) -> bool:
    """Tell whether a window `(n,)` at 16 kHz holds less sound than a decision takes; the rest is silence."""
    frames = samples[: samples.size // _FRAME * _FRAME].reshape(-1, _FRAME)
    return bool((frames.std(1) > _FAINT * samples.std()).sum() * _FRAME < _SHORT_S * SAMPLE_RATE)


def are_one_scene(powers: torch.Tensor) -> bool:
    """Tell whether the sounds of channels come and go together in the same bands.

    Args:
        powers: `(C, frames, bands)`.
    """
    if len(powers) == 1:
        return True
    floor = 1e-4 * powers.mean((1, 2), keepdim=True)
    levels = (powers + floor).log()
    rows = (levels - levels.mean(1, keepdim=True)).flatten(1)
    return bool(torch.corrcoef(rows).min() > _MIN_CORRELATION)


class KindTracker:
    """Decides the kind of each step of 2 s of a recording as it streams.

    A window of 4 s begins at each step. The kind of a step follows from the mean probabilities of the windows
    around it, which last 10 s together and end 4 s after it; of the first steps, from the first 10 s.
    Channels that are one scene have their powers in common, and so their kind.

    Args:
        channels: Number of channels.
    """

    def __init__(self, sample_rate: float, channels: int = 1) -> None:
        ratio = SAMPLE_RATE / sample_rate
        self._resample = resampler(ratio, channels) if ratio != 1.0 else None
        self._held = np.empty((channels, 0), np.float32)  # at the rate of the classifier
        self._next = 0  # start of the next window in it
        self._powers: torch.Tensor | None = None  # of the last window
        self._windows: list[Doubles] = []  # `(C, kinds)`, NaN for silence
        self._steps = 0  # decided

    def feed(self, channels: Array, last: bool) -> list[tuple[str, ...]]:
        """Take the next samples `(C, n)`, and return the kinds of the channels in each step decided."""
        block = channels.astype(np.float32, copy=False)
        if self._resample:
            block = self._resample(block, last)
        self._held = np.concatenate([self._held, block], axis=1)
        while self._held.shape[1] >= self._next + SEGMENT_SAMPLES:
            self._held = self._held[:, self._next :]
            self._classify(self._held[:, :SEGMENT_SAMPLES])
            self._next = _STEP
        if last and (not self._windows or self._held.shape[1] > self._next + _STEP):
            self._powers = None
            self._classify(self._held[:, -SEGMENT_SAMPLES:])
        # A last step that is shorter than others is the only one without a window of its own.
        known = len(self._windows)
        end = known + 1 if last else known - _AFTER if known >= _AROUND else 0
        kinds = [
            tuple(self._decided(step, channel) for channel in range(len(self._held)))
            for step in range(self._steps, end)
        ]
        self._steps = max(self._steps, end)
        return kinds

    def _classify(self, window: Array) -> None:
        found = np.full((len(window), len(KINDS)), np.nan)
        sounding = np.flatnonzero((window.std(1) > _SILENT_RMS) & (window.shape[1] >= _MIN_SAMPLES))
        if sounding.size:
            self._powers = band_powers(window, self._powers)
            powers = self._powers[torch.from_numpy(sounding)]
            loudest = window[sounding]
            if are_one_scene(powers):
                loudest = loudest[[int(powers.sum((1, 2)).argmax())]]
                powers = powers.sum(0, keepdim=True)
            found[sounding] = [
                second_look(samples, row)
                if _DOUBT[0] < row[0] and (row[0] < _DOUBT[1] or is_short(samples))
                else row
                for samples, row in zip(loudest, kind_probabilities(powers), strict=True)
            ]
        else:
            self._powers = None
        self._windows.append(found)

    def _decided(self, step: int, channel: int) -> str:
        def sounding(first: int, stop: int) -> list[Doubles]:
            rows = [window[channel] for window in self._windows[max(0, first) : stop]]
            return [row for row in rows if not np.isnan(row).any()]

        first = min(step - _BEFORE, len(self._windows) - _AROUND)  # at the end of a recording
        around = sounding(first, max(step + _AFTER + 1, _AROUND))
        own = sounding(step - 1, step + 1)
        if not around:
            return SILENCE
        speech, *_ = mean = np.mean(around, axis=0)
        music = _music(mean)
        is_pause = own and max(x[0] for x in own) < _PAUSE
        if speech >= _MIN_SPEECH and not is_pause and all(_music(x) < max(_MIN_MUSIC, x[0]) for x in own):
            return SPEECH
        return MUSIC if music >= _SURE_MUSIC else OTHER


def _music(probabilities: Doubles) -> float:
    return float(probabilities[KINDS.index("singing")] + probabilities[KINDS.index("music")])


def channel_groups(channels: int) -> list[slice]:
    """Return the channels that may be one scene: pairs and single ones of the layouts up to 7.1.

    Channels of a group share their gains where they are of one kind. Of unknown layouts every channel is a
    group.
    """
    sizes = _LAYOUTS.get(channels, (channels,) if channels <= 2 else (1,) * channels)
    stops = np.cumsum(sizes)
    return [slice(int(stop) - size, int(stop)) for size, stop in zip(sizes, stops, strict=True)]


@dataclass(frozen=True)
class Passage:
    """Part of a recording that one model cleans."""

    kind: str  # one of `SPEECH`, `MUSIC`, `OTHER`, `SILENCE`
    start_s: float  # where it begins
    stop_s: float  # where it ends
    model: str  # name of its model


@dataclass(frozen=True)
class AudioSelection(Selection):
    """The models for the passages of one recording."""

    speech_share: float = 0.0  # share of speech in the time that is not silent


_MAX_PASSAGES = 12  # that are named


def describe(groups: Sequence[Sequence[Passage]], channels: Sequence[slice]) -> AudioSelection:
    """Return what was selected for each group of channels."""
    passages = [passage for group in groups for passage in group]
    models = dict.fromkeys(p.model for p in sorted(passages, key=lambda p: p.start_s))
    sounding = [p for p in passages if p.kind != SILENCE]
    total = sum(p.stop_s - p.start_s for p in sounding)
    speech = sum(p.stop_s - p.start_s for p in sounding if p.kind == SPEECH)
    reasons = [_sentence(group) for group in groups]
    if len(set(reasons)) > 1:
        names = [
            f"{rows.start + 1}" + (f"-{rows.stop}" if rows.stop - rows.start > 1 else "") for rows in channels
        ]
        reasons = [f"channel {name}: {reason}" for name, reason in zip(names, reasons, strict=True)]
    reason = "; ".join(dict.fromkeys(reasons))
    return AudioSelection(" and ".join(models), 1.0, reason, speech / total if total else 0.0)


def _sentence(passages: Sequence[Passage]) -> str:
    if len(passages) == 1:
        return f"{passages[0].model}: {passages[0].kind} throughout"
    named = [
        f"{_clock(p.start_s)}-{_clock(p.stop_s)} {p.model} ({p.kind})"
        if p.kind != p.model
        else f"{_clock(p.start_s)}-{_clock(p.stop_s)} {p.model}"
        for p in passages[:_MAX_PASSAGES]
    ]
    more = len(passages) - len(named)
    return ", ".join(named) + (f" and {more} more passages" if more else "")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
