"""Synthetic logs of events for training: loads, rain, counters, impacts, bursts and pulses.

Denoisers learn from smooth and rough recordings that what is rare and sudden is noise. In these logs it is
the signal, over a floor that is exactly quiet or nearly so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Generator, Tensor


def events(count: int, length: int, generator: Generator) -> Tensor:
    """Draw logs of random rows of `EVENTS`, a third of them over a slow drift.

    Shape:
        `(count, 1, length)`, of unit variance unless constant.
    """
    kinds = list(EVENTS.values())
    picks = torch.randint(len(kinds), (count,), generator=generator, device=generator.device)
    logs = torch.empty(count, length, device=generator.device)
    for index, kind in enumerate(kinds):
        if chosen := int((picks == index).sum()):
            logs[picks == index] = _standard(kind(chosen, length, generator))
    drift = _standard(_normal((count, length), generator).cumsum(1).cumsum(1))
    share = 0.7 * _uniform((count, 1), generator) * (_uniform((count, 1), generator) < 0.33)
    return _standard(logs + share * drift)[:, None]


def _loads(count: int, length: int, generator: Generator) -> Tensor:
    """Draw appliances that switch on and off, some with several levels or a surge at the start."""
    on, start = _switching(count, length, generator)
    levels = 1.0 + _uniform((count, length), generator) * (_uniform((count, 1), generator) < 0.5)
    age = torch.arange(length, device=on.device) - start
    surge = 1.0 + 2.0 * _uniform((count, 1), generator) * torch.exp(
        -age / (1 + 9 * _uniform((count, 1), generator))
    )
    surge = torch.where(_uniform((count, 1), generator) < 0.4, surge, torch.ones_like(surge))
    ripple = 1.0 + 0.03 * _uniform((count, 1), generator) * _normal((count, length), generator)
    return on * levels.gather(1, start) * surge * ripple


def _levels(count: int, length: int, generator: Generator) -> Tensor:
    """Draw piecewise constant logs: set points, valves, modes of a machine, mean traffic of a server."""
    rate = _log_uniform((count, 1), 3.0 / length, 0.05, generator)
    changes = _uniform((count, length), generator) < rate
    values = _normal((count, length), generator)
    steps = 2.0 + (10.0 * _uniform((count, 1), generator)).floor()
    values = torch.where(_uniform((count, 1), generator) < 0.5, (values * steps / 2).round() / steps, values)
    return values.gather(1, _last(changes))


def _tips(count: int, length: int, generator: Generator) -> Tensor:
    """Draw tips of a rain gauge or pulses of a meter: zeros, and multiples of one step in showers."""
    shower, _ = _switching(count, length, generator)
    rate = _log_uniform((count, 1), 2.0 / length, 0.3, generator)
    wet = torch.where(_uniform((count, 1), generator) < 0.5, shower, torch.ones_like(shower))
    tips = (_uniform((count, length), generator) < rate * wet).float()
    mean = 3.0 * _uniform((count, 1), generator)
    return tips * (1.0 - mean * torch.log1p(-_uniform((count, length), generator))).floor().clamp(min=1.0)


def _counters(count: int, length: int, generator: Generator) -> Tensor:
    """Draw totals that only grow, some reset once."""
    total = _tips(count, length, generator).cumsum(1)
    at = (_uniform((count, 1), generator) * length).long()
    resets = (torch.arange(length, device=total.device) >= at) & (_uniform((count, 1), generator) < 0.3)
    return total - resets * total.gather(1, at)


def _impacts(count: int, length: int, generator: Generator) -> Tensor:
    """Draw taps and shocks: damped oscillations at random times, over rest."""
    rate = _log_uniform((count, 1), 2.0 / length, 0.01, generator)
    hits = (_uniform((count, length), generator) < rate) * _normal((count, length), generator).exp()
    return _ringing(hits * _signs((count, length), generator), generator)


def _bearings(count: int, length: int, generator: Generator) -> Tensor:
    """Draw the periodic impacts of a damaged bearing, their strength modulated by the turning shaft."""
    period = _log_uniform((count, 1), 30.0, 400.0, generator)
    slip = 0.02 * period * _normal((count, length), generator).cumsum(1) / length**0.5
    phase = (torch.arange(length, device=period.device) + slip) / period + _uniform((count, 1), generator)
    hits = (phase.floor().diff(dim=1, prepend=phase[:, :1].floor()) > 0).float()
    shaft = 1.0 + 0.8 * torch.sin(2 * math.pi * phase / (3.0 + 8.0 * _uniform((count, 1), generator)))
    floor = 0.15 * _uniform((count, 1), generator) * _normal((count, length), generator)
    return _standard(_ringing(hits * shaft, generator)) + floor


def _saturations(count: int, length: int, generator: Generator) -> Tensor:
    """Draw smooth signals that a range or a physical limit cuts off."""
    smooth = _standard(_tones(count, length, generator))
    high, low = (0.3 + 1.2 * _uniform((count, 1), generator) for _ in range(2))
    low = torch.where(_uniform((count, 1), generator) < 0.5, low, torch.full_like(low, 9.0))
    return smooth.minimum(high).maximum(-low)


def _bursts(count: int, length: int, generator: Generator) -> Tensor:
    """Draw rare bursts of activity, of a muscle, a machine or the ground, over a nearly quiet floor."""
    rate = _log_uniform((count, 1), 1.0 / length, 6.0 / length, generator)
    starts = _uniform((count, length), generator) < rate
    age = (torch.arange(length, device=starts.device) - _last(starts)).float()
    rise = _log_uniform((count, 1), 1.0, 60.0, generator)
    decay = _log_uniform((count, 1), 30.0, 600.0, generator)
    envelope = (1.0 - torch.exp(-age / rise)) * torch.exp(-age / decay) * (starts.cumsum(1) > 0)
    quiet = 0.02 * _uniform((count, 1), generator)
    return _coloured(count, length, generator) * (envelope + quiet)


def _traffic(count: int, length: int, generator: Generator) -> Tensor:
    """Draw loads of servers and roads: a daily rhythm times heavy-tailed variation, and lone peaks."""
    day = 0.6 * torch.sin(2 * math.pi * torch.arange(length, device=generator.device) / 288.0)
    rough = (0.03 + 0.3 * _uniform((count, 1), generator)) * _normal((count, length), generator)
    log = torch.exp(day * (_uniform((count, 1), generator) < 0.6) + rough)
    peaks = (_uniform((count, length), generator) < 0.003) * (
        3.0 + 12.0 * _uniform((count, length), generator)
    )
    return log + peaks


def _pulses(count: int, length: int, generator: Generator) -> Tensor:
    """Draw pulse waves: a sharp upstroke, a slow decay with a notch, rate and height varying slowly."""
    period = _log_uniform((count, 1), 25.0, 400.0, generator)
    wander = 0.3 * _tones(count, length, generator)
    phase = (torch.arange(length, device=period.device) / period + wander) % 1.0
    up = 0.1 + 0.1 * _uniform((count, 1), generator)
    main = torch.exp(-((phase - up) / (0.6 * up)).square())
    notch = 0.45 * torch.exp(-((phase - up - 0.3) / 0.12).square())
    return (main + notch) * (1.0 + 0.2 * _tones(count, length, generator))


EVENTS: Mapping[str, Callable[[int, int, Generator], Tensor]] = {
    "loads": _loads,
    "levels": _levels,
    "tips": _tips,
    "counters": _counters,
    "impacts": _impacts,
    "bearings": _bearings,
    "saturations": _saturations,
    "bursts": _bursts,
    "traffic": _traffic,
    "pulses": _pulses,
}


# ---- parts ------------------------------------------------------------------------------------------------


def _uniform(shape: tuple[int, ...], generator: Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)


def _normal(shape: tuple[int, ...], generator: Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device)


def _log_uniform(shape: tuple[int, ...], low: float, high: float, generator: Generator) -> Tensor:
    return low * (high / low) ** _uniform(shape, generator)


def _signs(shape: tuple[int, ...], generator: Generator) -> Tensor:
    return 2.0 * (_uniform(shape, generator) < 0.5).float() - 1.0


def _standard(logs: Tensor) -> Tensor:
    """Give each log `(count, length)` zero mean and unit variance; a constant one becomes zero."""
    centred = logs - logs.mean(-1, keepdim=True)
    deviation = centred.std(-1, keepdim=True)
    return torch.where(deviation > 1e-6, centred / deviation.clamp(min=1e-6), torch.zeros_like(centred))


def _last(marks: Tensor) -> Tensor:
    """Return, at each sample, the index of the last mark up to it, or 0."""
    at = torch.arange(marks.shape[1], device=marks.device)
    return torch.where(marks, at, 0).cummax(1).values


def _switching(count: int, length: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Draw states 0 or 1 that last for random times, and the sample at which each began."""
    on, off = (_log_uniform((count, 1), 1.0, length / 4.0, generator) for _ in range(2))
    times = -torch.log1p(-_uniform((count, 256), generator))
    times = 1.0 + times * torch.where(torch.arange(256, device=times.device) % 2 == 0, off, on)
    edges = times.cumsum(1).long()
    changes = torch.zeros(count, length + 1, device=times.device)
    changes.scatter_add_(1, edges.clamp(max=length), torch.ones_like(times))
    changes = changes[:, :length]
    return (changes.cumsum(1) % 2), _last(changes > 0)


def _ringing(hits: Tensor, generator: Generator) -> Tensor:
    """Return the responses to impacts `(count, length)` of a resonance each, some overdamped."""
    count, length = hits.shape
    time = torch.arange(min(512, length), device=hits.device)
    decay = _log_uniform((count, 1), 1.5, 80.0, generator)
    turn = math.pi * (0.02 + 0.78 * _uniform((count, 1), generator))
    turn = torch.where(_uniform((count, 1), generator) < 0.25, torch.zeros_like(turn), turn)
    response = torch.exp(-time / decay) * torch.cos(turn * time)
    size = 2 * length
    rung: Tensor = torch.fft.irfft(torch.fft.rfft(hits, size) * torch.fft.rfft(response, size), size)
    return rung[:, :length]


def _tones(count: int, length: int, generator: Generator) -> Tensor:
    """Draw sums of slow sines."""
    time = torch.linspace(0, 1, length, device=generator.device)
    logs = torch.zeros(count, length, device=generator.device)
    for _ in range(4):
        cycles = _log_uniform((count, 1), 0.5, 40.0, generator)
        turns = cycles * time + _uniform((count, 1), generator)
        logs = logs + torch.sin(2 * math.pi * turns) / cycles.sqrt()
    return logs


def _coloured(count: int, length: int, generator: Generator) -> Tensor:
    """Draw noise in a random band."""
    spectrum = torch.fft.rfft(_normal((count, length), generator))
    frequency = torch.linspace(0, 1, spectrum.shape[1], device=spectrum.device)
    centre = _log_uniform((count, 1), 0.01, 0.5, generator)
    width = centre * (0.1 + 0.6 * _uniform((count, 1), generator))
    band = torch.exp(-((frequency - centre) / width).square())
    return _standard(torch.fft.irfft(spectrum * band, length))
