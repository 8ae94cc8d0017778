"""Architecture `floor-gain`: gains of a spectrum from its noise floor, refined by two small networks."""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoise.errors import UsageError
from denoise.models.base import CausalDenoiser, InputSpec
from denoise.models.config import config_from
from denoise.models.layers import multiplying_in

_FRAME, _HOP = 2048, 512  # samples: 43 ms and 11 ms at 48 kHz
_BINS = _FRAME // 2  # the Nyquist bin takes the gain of its neighbour
_BLOCK = 8  # frames whose mean power enters the statistics
_STEP = 4  # blocks between estimates of the floor: 0.34 s
_STEP_FRAMES = _STEP * _BLOCK
_STEP_SAMPLES = _STEP_FRAMES * _HOP
_SHORT, _LONG = 12, 48  # blocks each way of the windows of the statistics: 1 s and 4 s
_AROUND_BINS = 32  # each way, of the mean floor around a bin
_FOLD_FRAMES, _FOLD_BINS = 4, 4  # of a cell of the second network
_CONTEXT = 32  # frames each way that its convolutions span at most
_PART_STEPS = 16  # steps denoised at a time: 5.5 s
_AHEAD_STEPS = 16  # steps of look-ahead: the long window, and the convolutions on top of it
_KEPT_BLOCKS = _LONG + 4 * _STEP  # blocks of context before a part
_TINY = 1e-15  # power of a bin, in units of white noise of variance 1
_SILENT = 50.0  # log power that marks blocks with digital silence, which minima skip
_LINE_BINS, _MAX_LINE = 6, 1.5  # each way of a line, and the log ratio of power by which hiss may exceed it
_MAX_EXCESS = (-4.0, 12.0)  # limits of the log ratio of power and floor
_N_FEATURES = 8
# Calls of birds and insects lie above 2.5 kHz, and the noise beside them is the place: noise of that share of
# the power is left, the more the louder it is.
_BASS_HZ, _TREBLE_HZ = 200.0, 2500.0
_CALLS = (0.4, 0.6)  # share of the sound above the floor that is treble
_AMBIENCE_DB = (-20.0, -17.0)  # power of the floor over that of the recording
# The hiss of a recorder has one density at most frequencies; the steady noise of a place has not.
_BAND_BINS = 32  # 750 Hz at 48 kHz
_EMPTY = 1e-6  # power of a band over the mean of all: nothing is there
_WHITE, _HISS_MARGIN = 0.23, 0.46  # log ratios of power by which bands of hiss differ at most: 1 dB, and 2 dB
_WHITE_SHARE = (0.45, 0.65)  # of the bands that are not empty


@dataclass(frozen=True)
class FloorGainConfig:
    """Sizes of a `FloorGain`."""

    sample_rate: float = 48_000.0  # Hz
    floor_width: int = 24  # channels of the network that estimates the floor
    width: int = 32  # channels of the network that estimates gains
    dilations: tuple[int, ...] = (1, 2, 2)  # cells between the taps in time of each of its residual layers
    min_gain: float = 0.1  # gain where there is nothing but noise


@dataclass(frozen=True)
class FloorGainState:
    """State between parts of a recording, N = B * C."""

    tail: Tensor  # last input samples, which the next frame begins with, `(N, frame - hop)`
    spectrum: Tensor  # frames without output yet, and the context before them, `(N, frames, bins, 2)`
    blocks: Tensor  # log power of the last blocks minus that which marks silence, `(B, blocks, bins)`


class FloorGain(CausalDenoiser):
    """Gains between a Wiener gain of the noise floor and 1.

    The floor of each frequency comes from minimum statistics (Martin 2001) of 1 s and 4 s each way, which a
    convolutional network over frequency corrects: steady noise fluctuates in a known way around its minimum,
    sustained notes do not. A second network over frequency and time turns the ratio of power and floor into
    gains. Joint channels share one gain, of their mean power.

    Recordings of any length are denoised 5.5 s at a time, with 5.5 s of look-ahead.
    """

    follows_precision = True
    window: Tensor
    position: Tensor

    def __init__(self, config: FloorGainConfig) -> None:
        super().__init__()
        sizes = (config.floor_width, config.width, *config.dilations)
        if min(sizes, default=0) < 1 or not 0.0 <= config.min_gain < 1.0:
            raise UsageError("floor-gain: expected sizes of 1 or more and min_gain from 0 to below 1")
        halo = _FOLD_FRAMES * (3 + sum(config.dilations)) - 1
        if halo > _CONTEXT:
            raise UsageError(f"floor-gain: the dilations span {halo} frames; expected at most {_CONTEXT}")
        self._config = config
        self._white_only = False
        self.hop = _PART_STEPS * _STEP_SAMPLES
        self.latency = _AHEAD_STEPS * _STEP_SAMPLES + _FRAME - _HOP
        self.spec = InputSpec(
            "audio", halo=None, multiple_of=_STEP_SAMPLES, sample_rate=config.sample_rate, joint_channels=True
        )
        window = torch.hann_window(_FRAME, device="cpu")
        self.register_buffer("window", window / window.square().sum().sqrt(), persistent=False)
        position = torch.arange(_BINS, device="cpu", dtype=torch.float32)
        self.register_buffer("position", torch.log2(1 + position) / 5 - 1, persistent=False)

        wide, narrow = config.width, config.floor_width
        self.floor_in = nn.Conv2d(_N_FEATURES, narrow, (1, 5), padding=(0, 2))
        self.floor_layers = nn.ModuleList(
            nn.Conv2d(narrow, narrow, (taps, 5), padding=(taps // 2, 2 * dilation), dilation=(1, dilation))
            for taps, dilation in ((3, 2), (1, 8))
        )
        self.floor_out = nn.Conv2d(narrow, 1, 1)
        self.condition = nn.Conv2d(narrow, wide, (1, _FOLD_BINS), stride=(1, _FOLD_BINS))
        cell = _FOLD_FRAMES * _FOLD_BINS
        self.gain_in = nn.Conv2d(cell, wide, 3, padding=1)
        self.gain_layers = nn.ModuleList(
            nn.Conv2d(wide, wide, 3, padding=(dilation, 1), dilation=(dilation, 1))
            for dilation in config.dilations
        )
        self.gain_out = nn.Conv2d(wide, cell, 3, padding=1)
        for layer, bias in ((self.floor_out, 1.0), (self.gain_out, 0.0)):
            assert layer.bias is not None
            nn.init.zeros_(layer.weight)
            nn.init.constant_(layer.bias, bias)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def config(self) -> dict[str, Any]:
        """Return the fields of `FloorGainConfig`."""
        return asdict(self._config)

    def for_places(self) -> FloorGain:
        """Return a model with these weights that leaves steady noise which is not white: rain, a fan."""
        model = copy.copy(self)
        model._white_only = True
        return model

    def training_step(self, noisy: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Denoise patches, and return the error of the floor and the harm done as well."""
        samples, rows = noisy.shape[-1], noisy.shape[0]
        margin = _STEP_SAMPLES + _FRAME - _HOP
        pad = (margin, _STEP_SAMPLES + -samples % _STEP_SAMPLES)
        signal = F.pad(noisy.flatten(0, 1), pad)
        with torch.no_grad(), torch.autocast(noisy.device.type, enabled=False):
            spectrum = self._analyse(signal)
            power = self._power(spectrum, rows)
            blocks = self._block_powers(power, signal.view(rows, -1, signal.shape[-1]))
            noise = self._power(self._analyse(F.pad((noisy - target).flatten(0, 1), pad)), rows)
            features, low, active, _ = _statistics(blocks, self.position)
            true_floor = torch.maximum(torch.log(_smooth_steps(noise) + _TINY), low - 4.0)
        floor, condition = self._floor(features, low)
        gain = self._gain(power, floor, condition, 0)
        estimate = self._synthesise(spectrum, gain)[:, margin:][:, :samples].view_as(noisy)
        miss = F.smooth_l1_loss(floor, true_floor, reduction="none") * active
        added = 0.1 * miss.sum() / active.expand_as(miss).sum().clamp(min=1.0)
        return estimate, added + 2.0 * _harm(estimate, noisy, target)

    def initial_state(self, batch: int, channels: int = 1) -> FloorGainState:
        """Return the state before the first sample: silence."""
        like, rows = self.window, batch * channels
        return FloorGainState(
            like.new_zeros(rows, _FRAME - _HOP),
            like.new_zeros(rows, (_AHEAD_STEPS + 1) * _STEP_FRAMES, _BINS + 1, 2),
            like.new_zeros(batch, _KEPT_BLOCKS + _AHEAD_STEPS * _STEP, _BINS),
        )

    def step(self, block: Tensor, state: FloorGainState) -> tuple[Tensor, FloorGainState]:
        """Denoise the next parts `(B, C, k * hop)`."""
        parts = []
        for part in torch.split(block, self.hop, -1):
            out, state = self._step_one(part, state)
            parts.append(out)
        return torch.cat(parts, -1), state

    def _step_one(self, part: Tensor, state: FloorGainState) -> tuple[Tensor, FloorGainState]:
        rows, _, size = part.shape
        signal = torch.cat([state.tail, part.flatten(0, 1)], 1)
        fresh = self._analyse(signal)
        fresh_blocks = self._block_powers(self._power(fresh, rows), signal.view(*part.shape[:2], -1))
        spectrum = torch.cat([state.spectrum, torch.view_as_real(fresh)], 1)
        blocks = torch.cat([state.blocks + _SILENT, fresh_blocks], 1)
        frames, steps = size // _HOP, size // _STEP_SAMPLES
        # Output belongs to the frames from one step on; `blocks` begin _KEPT_BLOCKS earlier.
        first = _KEPT_BLOCKS - 3 * _STEP - _LONG  # so that the statistics begin three steps before the output
        features, low, _, power = _statistics(blocks[:, first:], self.position)
        begin = _LONG // _STEP
        context = slice(begin, begin + steps + 6)
        with multiplying_in(self.precision, part):
            floor, condition = self._floor(features[:, :, context], low[:, context])
        if self._white_only:
            hiss, white = _hiss(power[:, context], floor)
            floor, left = torch.minimum(floor, hiss), 1 - white
        else:
            left = self._ambience(power[:, context], floor)
        # Two more steps each way than the output, between which the context of the frames is interpolated.
        inner = slice(1, steps + 5)
        start = _STEP_FRAMES - _CONTEXT
        near = torch.view_as_complex(spectrum[:, start : start + frames + 2 * _CONTEXT])
        near_power = self._power(near, rows)
        skip = 2 * _STEP_FRAMES - _CONTEXT
        with multiplying_in(self.precision, part):
            gain = self._gain(near_power, floor[:, inner], condition[:, :, inner], skip)
        left = _over_time(left[:, None, inner], _STEP_FRAMES)
        gain = gain.lerp(torch.ones_like(gain), left[:, 0, skip:][:, : gain.shape[1]])
        before = _FRAME // _HOP - 1
        cut = slice(_CONTEXT - before, _CONTEXT + frames)
        out = self._synthesise(near[:, cut], gain[:, cut])[:, _FRAME - _HOP :][:, :size]
        return out.view_as(part), FloorGainState(
            signal[:, size:], spectrum[:, frames:], blocks[:, steps * _STEP :] - _SILENT
        )

    def _analyse(self, signal: Tensor) -> Tensor:
        """Return the spectrum `(N, frames, bins)` of the frames that start at multiples of the hop."""
        return torch.fft.rfft(signal.unfold(1, _FRAME, _HOP) * self.window)

    def _synthesise(self, spectrum: Tensor, gain: Tensor) -> Tensor:
        """Overlap-add frames `(N, frames, bins)` under gains `(B, frames, bins - 1)`."""
        gain = torch.cat([gain, gain[..., -1:]], -1).float()
        scaled = spectrum.view(len(gain), -1, *spectrum.shape[1:]) * gain[:, None]
        frames = torch.fft.irfft(scaled.flatten(0, 1), _FRAME) * (
            self.window / (1.5 * self.window.max() ** 2)
        )
        pieces = _FRAME // _HOP
        count = frames.shape[1]
        chunks = frames.view(len(frames), count, pieces, _HOP)
        out = sum(F.pad(chunks[:, :, i], (0, 0, i, pieces - 1 - i)) for i in range(pieces))
        assert isinstance(out, Tensor)
        return out.flatten(1)

    @staticmethod
    def _power(spectrum: Tensor, rows: int) -> Tensor:
        """Return the mean power over the channels of each recording, `(B, frames, bins - 1)`."""
        power = torch.view_as_real(spectrum[..., :_BINS]).square().sum(-1)
        return power.view(rows, -1, *power.shape[1:]).mean(1)

    @staticmethod
    def _block_powers(power: Tensor, signal: Tensor) -> Tensor:
        """Return the log power of blocks, `(B, blocks, bins)`; those with digital silence are marked."""
        rows, frames, bins = power.shape
        chunks = signal.abs().amax(1).unfold(1, _HOP, _HOP).amax(-1)  # (B, frames + 3)
        sounding = (chunks > 0).unfold(1, _FRAME // _HOP, 1).all(-1)[:, :frames]
        mean = torch.log(power.view(rows, -1, _BLOCK, bins).mean(2) + _TINY)
        return torch.where(sounding.view(rows, -1, _BLOCK).all(2)[..., None], mean, _SILENT)

    def _floor(self, features: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log floor `(B, steps, bins)`, and features for the gains `(B, width, steps, cells)`."""
        x = F.relu(self.floor_in(features))
        for layer in self.floor_layers:
            x = x + F.relu(layer(x))
        correction = self.floor_out(x)[:, 0].float()
        return _without_lines(low + correction.clamp(-6.0, 3.0)), self.condition(x)

    def _ambience(self, power: Tensor, floor: Tensor) -> Tensor:
        """Return the share of the noise around each step to leave, `(B, steps, 1)`.

        Args:
            power: Mean power over the long window, `(B, steps, bins)`.
            floor: Log floor, `(B, steps, bins)`.
        """
        hz = torch.arange(_BINS, device=power.device) * (self._config.sample_rate / _FRAME)
        noise = torch.exp(floor)
        sound = (power - 1.5 * noise).clamp(min=0) * (hz > _BASS_HZ)
        total = noise.sum(2) + _TINY
        treble = sound[..., hz > _TREBLE_HZ].sum(2) / (sound.sum(2) + 0.05 * total)
        level_db = 10 * torch.log10(total / (power.sum(2) + _TINY))
        return (_ramp(treble, _CALLS) * _ramp(level_db, _AMBIENCE_DB))[..., None]

    def _gain(self, power: Tensor, floor: Tensor, condition: Tensor, skip: int) -> Tensor:
        """Return gains `(B, frames, bins)` of frames that begin `skip` frames after the first step."""
        rows, frames, bins = power.shape
        time = _over_time(floor[:, None], _STEP_FRAMES)[:, 0, skip:][:, :frames]
        excess = (torch.log(power + _TINY) - time).clamp(*_MAX_EXCESS)
        cells = excess.view(rows, frames // _FOLD_FRAMES, _FOLD_FRAMES, bins // _FOLD_BINS, _FOLD_BINS)
        cells = cells.permute(0, 2, 4, 1, 3).flatten(1, 2) / 4
        cells = cells.contiguous(memory_format=torch.channels_last)
        around = _over_time(condition, _STEP_FRAMES // _FOLD_FRAMES)
        around = around[:, :, skip // _FOLD_FRAMES :][:, :, : cells.shape[2]]
        x = F.relu(self.gain_in(cells) + around)
        for layer in self.gain_layers:
            x = x + F.relu(layer(x))
        change = self.gain_out(x).float().view(rows, _FOLD_FRAMES, _FOLD_BINS, *cells.shape[2:])
        change = change.permute(0, 3, 1, 4, 2).reshape(rows, frames, bins)
        minimum = self._config.min_gain
        return minimum + (1 - minimum) * torch.sigmoid(excess - 0.5 + 4 * change)


def _hiss(power: Tensor, floor: Tensor) -> tuple[Tensor, Tensor]:
    """Find the density that most bands of a noise floor share.

    Args:
        power: Mean power over the long window, `(B, steps, bins)`.
        floor: Log floor, `(B, steps, bins)`.

    Returns:
        Its log with a margin, and how surely the floor is white, 0 to 1; both `(B, steps, 1)`.
    """
    shape = (*power.shape[:2], -1, _BAND_BINS)
    bands = power.reshape(shape).mean(3)
    sounding = (bands > _EMPTY * bands.mean(2, keepdim=True)).to(floor)
    levels = floor.reshape(shape).mean(3)
    alike = ((levels[..., None] - levels[..., None, :]).abs() < _WHITE) * sounding[..., None, :]
    count, band = (alike.sum(3) * sounding).max(2, keepdim=True)
    share = count / sounding.sum(2, keepdim=True).clamp(min=1)
    return levels.gather(2, band) + _HISS_MARGIN, _ramp(share, _WHITE_SHARE)


def _without_lines(floor: Tensor) -> Tensor:
    """Limit a log floor `(B, steps, bins)` to what lies on both sides of a bin: a steady buzz is no hiss."""
    wide = F.pad(floor, (_LINE_BINS, _LINE_BINS), mode="replicate")
    lowest = -F.max_pool1d(-wide, _LINE_BINS, 1)
    beside = torch.maximum(lowest[..., : floor.shape[-1]], lowest[..., _LINE_BINS + 1 :])
    return torch.minimum(floor, beside + _MAX_LINE)


def _statistics(blocks: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Measure log powers of blocks around each step.

    Args:
        blocks: Log power of blocks, `(B, blocks, bins)`; `_SILENT` marks those to skip.
        position: Of each bin, `(bins,)`.

    Returns:
        Features `(B, 8, steps, bins)`, minima over the long window, 1 where it has sound `(B, steps, 1)`, and
        mean power over it `(B, steps, bins)`.
    """
    x = blocks.transpose(1, 2)  # (B, bins, blocks)
    sounding = (x[:, :1] < _SILENT).to(x)
    levels = torch.where(x < _SILENT, x, 0.0)

    def minimum(x: Tensor, radius: int, stride: int) -> Tensor:
        return -F.max_pool1d(-x, 2 * radius + stride, stride, radius)

    def mean(x: Tensor, radius: int) -> Tensor:
        size = 2 * radius + _STEP
        return F.avg_pool1d(x, size, _STEP, radius)

    low = minimum(x, _LONG, _STEP)
    active = (low[:, :1] < _SILENT).to(x)
    long_count, step_count = mean(sounding, _LONG).clamp(min=1e-3), mean(sounding, 0).clamp(min=1e-3)
    long_mean = mean(levels, _LONG) / long_count
    centre = levels.mean(2, keepdim=True)  # against cancellation
    square = mean((sounding * (levels - centre)).square(), _LONG) / long_count
    deviation = (square - (long_mean - centre).square()).clamp(min=0).add(1e-4).sqrt()
    step_mean = torch.where(mean(sounding, 0) > 0, mean(levels, 0) / step_count, long_mean)
    power = torch.exp(levels) * sounding
    step_power = torch.log(F.avg_pool1d(power, _STEP, _STEP) + _TINY)
    whole = (F.avg_pool1d(sounding, _STEP, _STEP) == 1.0).to(x)
    step_power = torch.where(whole > 0, step_power, _SILENT)
    low_steps = minimum(step_power, _LONG // _STEP, 1)
    long_power = mean(power, _LONG) / long_count
    total = torch.log(long_power.mean(1, keepdim=True) + _TINY)
    around = F.avg_pool1d(low.transpose(1, 2), 2 * _AROUND_BINS + 1, 1, _AROUND_BINS, count_include_pad=False)
    low_short = minimum(x, _SHORT, _STEP)
    features = torch.stack(
        [
            torch.where(low_short < _SILENT, low_short - low, 0.0),
            low_steps - low,
            long_mean - low,
            step_mean - low,
            2 * deviation,
            low - around.transpose(1, 2),
            (low - total) / 4 + 1.5,
            position[None, :, None].expand_as(low),
        ],
        1,
    )
    features = (active[:, None] * features.clamp(-12, 12) / 2).transpose(2, 3)
    low = torch.where(active > 0, low, math.log(_TINY)).transpose(1, 2)
    features = features.contiguous(memory_format=torch.channels_last)
    return features, low, active.transpose(1, 2), long_power.transpose(1, 2)


def _ramp(x: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Return 0 below the bounds, 1 above them, and a line in between."""
    return ((x - bounds[0]) / (bounds[1] - bounds[0])).clamp(0, 1)


def _over_time(x: Tensor, factor: int) -> Tensor:
    """Interpolate `(B, C, steps, n)` linearly between the middles of steps."""
    return F.interpolate(x.float(), scale_factor=(factor, 1), mode="bilinear", align_corners=False)


def _smooth_steps(power: Tensor) -> Tensor:
    """Return the mean of `(B, frames, bins)` over seven steps around each, without the first and last."""
    steps = F.avg_pool1d(power.transpose(1, 2), _STEP_FRAMES, _STEP_FRAMES)
    inside = F.pad(torch.ones_like(steps[:, :1, 2:]), (1, 1))
    mean, share = (F.avg_pool1d(x, 7, 1, 3) for x in (steps * inside, inside))
    return (mean / share).transpose(1, 2)


def _harm(estimate: Tensor, noisy: Tensor, target: Tensor) -> Tensor:
    """Return how far the error exceeds that of the input, in nepers of energy, beyond -40 dB."""
    energy = target.square().flatten(1).mean(1) + 1e-12
    before = (noisy - target).square().flatten(1).mean(1) / energy
    after = (estimate.float() - target).square().flatten(1).mean(1) / energy
    return torch.log((after + 3e-5) / (before + 1e-4)).clamp(min=0.0).mean()


def build(**config: Any) -> FloorGain:
    """Build a model from the fields of its config."""
    return FloorGain(config_from(FloorGainConfig, config, {}))
