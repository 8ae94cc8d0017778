"""Conversations for training: two talkers of unequal level who take turns, and voices in rooms.

Denoisers of speech learn from single voices that whatever is quieter than the voice is noise. In these
patches both voices and their rooms are the target.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from denoise.corruptions.audio import Reverb
from denoise.corruptions.levels import RandomLevel

_QUIET_DB = (-22.0, 0.0)  # level of the quieter talker, relative to the louder one
_TURN_S = (0.7, 4.0)
_OVERLAP = (-0.3, 0.5)  # sine of the phase by which turns overlap; below 0 they leave a pause
_RAMP_S = 0.03
_ACTIVE = 0.01  # share of a talker's mean power above which a sample counts for the level
_ROOM = Reverb(rt60_s=RandomLevel(0.15, 0.7), direct_db=RandomLevel(0.0, 12.0))


def conversations(voices: Tensor, others: Tensor, sample_rate: float, generator: Generator) -> Tensor:
    """Let each talker take turns with another, one of them up to 22 dB quieter.

    Shape:
        `(B, 1, T)` each, in and out. The first talker keeps the level of its voice.
    """
    count, samples = voices.shape[0], voices.shape[-1]

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, generator=generator, device=generator.device)

    turn = between(*_TURN_S) * sample_rate
    time = torch.arange(samples, device=voices.device)
    phase = torch.sin(math.pi * time / turn + between(0.0, 2 * math.pi))  # above 0 the first talker speaks
    overlap = between(*_OVERLAP)
    slope = turn / (math.pi * _RAMP_S * sample_rate)
    first, second = (torch.clamp((sign * phase + overlap) * slope, 0.0, 1.0) for sign in (1.0, -1.0))
    level = _level(voices) / _level(others) * 10 ** (between(*_QUIET_DB) / 20)
    return voices * first + others * level * second


def in_rooms(voices: Tensor, sample_rate: float, generator: Generator) -> Tensor:
    """Put each voice into a room of its own, `(B, 1, T)`."""
    return _ROOM.apply(voices, generator, sample_rate)


def _level(voices: Tensor) -> Tensor:
    """Return the RMS of the samples that are not pauses, `(B, 1, 1)`."""
    power = voices.square()
    active = power >= _ACTIVE * power.mean(-1, keepdim=True)
    return ((power * active).sum(-1, keepdim=True) / active.sum(-1, keepdim=True).clamp(min=1) + 1e-10).sqrt()
