"""Architecture `spectral-gru`: a causal autoencoder of spectra with a GRU."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoise.errors import UsageError
from denoise.models.base import CausalDenoiser, InputSpec
from denoise.models.config import config_from
from denoise.models.layers import Conv1dAs2d, ConvTranspose1dAs2d
from denoise.models.recurrent import Gru
from denoise.models.speech.single_frames import SingleFrames

MIN_RMS = 0.02  # quieter frames are amplified to this level, because training had none below it
MAX_RMS = 1.0  # louder frames are brought to the usual level
USUAL_RMS = 0.1
# RMS beyond any headroom over full scale: such samples are at that of integers of 16 or 32 bits.
HEADROOM, FULL_SCALES = 32.0, (2.0**15, 2.0**31)
MAX_GAIN = 1e4
MAX_MASK = 1.2  # of its real and imaginary part
SLOPE = 0.1  # of the leaky rectifiers
RENAMED = {"shifts": "n_shifts"}  # fields of recipes and weights files before
_FADE_DB_S = 1.0


@dataclass(frozen=True)
class SpectralGruConfig:
    """Sizes of a `SpectralGru`."""

    sample_rate: float = 16_000.0  # Hz
    window: int = 512  # samples per frame
    hop: int = 256  # samples between frames, half a window
    # channels of the strided convolutions over frequency, outermost first
    widths: tuple[int, ...] = (16, 32, 48)
    code: int = 192  # numbers per frame between encoder and GRU
    memory: int = 192  # units of each recurrent layer
    layers: int = 2  # recurrent layers
    n_shifts: int = 2  # members of the ensemble, see `ShiftEnsemble`


@dataclass(frozen=True)
class ShiftState:
    """State of a `ShiftEnsemble` between blocks."""

    history: Tensor  # last input samples, which the delayed members still need, `(B, n)`
    delayed: Tensor  # outputs that wait for those of later members, `(n_shifts, B, n)`
    state: Any  # state of the model, for all members


class ShiftEnsemble(CausalDenoiser):
    """A model whose output is the mean over several framings of the signal, evenly shifted within a hop.

    The position of frames is arbitrary, and errors at different positions are largely independent, so the
    mean is more accurate. The members are items of one batch. Training runs one member, and so do recordings
    of several channels, whose shared mask is already a mean.

    Args:
        frame_hop: Samples between frames.
        n_shifts: Number of members.
    """

    def __init__(self, frame_hop: int, n_shifts: int) -> None:
        super().__init__()
        if n_shifts < 1 or frame_hop % n_shifts:
            raise UsageError(f"n_shifts is {n_shifts}; expected a divisor of the hop, {frame_hop} samples")
        self._delays = [index * frame_hop // n_shifts for index in range(n_shifts)]

    def initial_state_one(self, batch: int) -> Any:
        """Return the state of one member before the first sample."""
        raise NotImplementedError

    def step_one(self, block: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Denoise the next block with one member, as `step` does with all."""
        raise NotImplementedError

    def training_step(self, noisy: Tensor, _target: Tensor, /) -> tuple[Tensor, Tensor]:
        """Denoise a patch with one member."""
        samples, delay = noisy.shape[-1], self.latency - self._delays[-1]
        padded = F.pad(noisy, (0, -(-(samples + delay) // self.hop) * self.hop - samples))
        out, _ = self.step_one(padded, self.initial_state_one(noisy.shape[0] * noisy.shape[1]))
        return out[..., delay : delay + samples], noisy.new_zeros(())

    def _delays_for(self, channels: int) -> list[int]:
        """Return the delay in samples of each member for a recording of `channels` channels."""
        return self._delays if channels == 1 else self._delays[-1:]

    def initial_state(self, batch: int, channels: int = 1) -> ShiftState:
        """Return the state before the first sample: silence."""
        members, max_delay, rows = len(self._delays_for(channels)), self._delays[-1], batch * channels
        like = next(self.parameters())
        return ShiftState(
            like.new_zeros(rows, max_delay),
            like.new_zeros(members, rows, max_delay),
            self.initial_state_one(members * rows),
        )

    def step(self, block: Tensor, state: ShiftState) -> tuple[Tensor, ShiftState]:
        """Denoise the next block `(B, C, k * hop)`."""
        size, max_delay, delays = block.shape[-1], self._delays[-1], self._delays_for(block.shape[1])
        signal = torch.cat([state.history, block.flatten(0, 1)], 1)
        shifted = [signal[:, max_delay - delay : max_delay - delay + size].view_as(block) for delay in delays]
        outputs, inner = self.step_one(torch.cat(shifted), state.state)
        ready = torch.cat([state.delayed, outputs.reshape(len(delays), -1, size)], -1)
        # A member with a smaller delay is ahead of the last one by the difference.
        aligned = [row[:, delay : delay + size] for row, delay in zip(ready, delays, strict=True)]
        mean = torch.stack(aligned).mean(0).view_as(block)
        return mean, ShiftState(signal[:, size:], ready[..., size:], inner)


@dataclass(frozen=True)
class SpectralState:
    """State of one member between blocks."""

    history: Tensor  # last `window - hop` input samples, `(B, window - hop)`
    overlap: Tensor  # output samples that the next frame is added to, `(B, window - hop)`
    memory: Tensor  # state of the recurrent layers, `(layers, B, memory)`
    level: Tensor  # fading maximum of the frames' root mean squares, `(B,)`


class SpectralGru(ShiftEnsemble):
    """A complex ratio mask (Williamson et al. 2016) from compressed spectra, by encoder, GRU and decoder.

    The encoder strides over frequency only. The recurrent layers (Cho et al. 2014) carry all past context,
    which keeps the state small and makes streaming exact. Each encoder scale is added to the decoder scale of
    its size.

    Channels of one recording share one mask: the mean of theirs weighted by power, which is the single mask
    closest to the separate ones (least squares).

    Shape:
        `(B, C, T)` in and out; `latency` is `window - hop` samples plus the largest shift.
    """

    taper: Tensor

    def __init__(self, config: SpectralGruConfig) -> None:
        super().__init__(config.hop, config.n_shifts)
        sizes = (config.hop, config.code, config.memory, config.layers, *config.widths)
        check_sizes("spectral-gru", config, sizes)
        self._config = config
        self._overlap = config.window - config.hop
        self._fade = np.float32(10 ** (-_FADE_DB_S * config.hop / config.sample_rate / 20))
        self.hop, self.latency = config.hop, self._overlap + self._delays[-1]
        self.spec = InputSpec(
            "audio",
            halo=None,
            multiple_of=config.hop,
            sample_rate=config.sample_rate,
            joint_channels=True,
            removes_offset=True,
        )
        # The square root of a periodic Hann window, twice, adds up to one at half overlap.
        self.register_buffer("taper", torch.hann_window(config.window, device="cpu").sqrt(), persistent=False)

        self.bins = config.window // 2  # the Nyquist bin takes the mask of its neighbour
        channels = (3, *config.widths)
        self.encoder = nn.ModuleList(
            Conv1dAs2d(i, o, 5, stride=2, padding=2) for i, o in itertools.pairwise(channels)
        )
        flat = config.widths[-1] * (self.bins >> len(config.widths))
        self.encode_proj = nn.Linear(flat, config.code)
        self.memory = Gru(config.code, config.memory, config.layers)
        self.decode_proj = nn.Linear(config.memory + config.code, flat)
        outwards = (*config.widths[::-1], 2)
        self.decoder = nn.ModuleList(
            ConvTranspose1dAs2d(i, o, 6, stride=2, padding=2) for i, o in itertools.pairwise(outwards)
        )
        init_mask(self.decoder[-1])
        self._frames: SingleFrames | None = None  # made when first used, from weights that are final

    def train(self, mode: bool = True) -> SpectralGru:
        """Change between training and use, which begins with the weights as they are then."""
        if mode:
            self._frames = None
        return super().train(mode)

    def _load_from_state_dict(self, *args: Any) -> None:
        self._frames = None
        super()._load_from_state_dict(*args)

    def __getstate__(self) -> dict[str, Any]:
        """Copy and pickle the network without what runs single frames, which cannot be copied."""
        return {**self.__dict__, "_frames": None}

    def config(self) -> dict[str, Any]:
        """Return the fields of `SpectralGruConfig`."""
        return asdict(self._config)

    def initial_state_one(self, batch: int) -> SpectralState:
        """Return the state before the first sample: silence."""
        like, c = self.taper, self._config
        zeros = like.new_zeros(batch, self._overlap)
        memory = like.new_zeros(c.layers, batch, c.memory)
        return SpectralState(zeros, zeros, memory, like.new_zeros(batch))

    def step(self, block: Tensor, state: ShiftState) -> tuple[Tensor, ShiftState]:
        """Denoise the next block `(B, C, k * hop)`; a single frame of one channel without torch."""
        live = block.shape[1] == 1 and block.shape[-1] == self.hop and torch.is_inference_mode_enabled()
        if live and not self.training and block.device.type == "cpu":
            return self._step_frame(block, state)
        return super().step(block, state)

    def step_one(self, block: Tensor, state: SpectralState) -> tuple[Tensor, SpectralState]:
        """Denoise the next block `(B, C, k * hop)` with one member."""
        window, hop, channels = self._config.window, self.hop, block.shape[1]
        # From here on, B counts every channel of every item.
        signal = torch.cat([state.history, block.flatten(0, 1)], 1)  # (B, window - hop + k hop)
        frames = signal.unfold(1, window, hop) * self.taper  # (B, k, window)
        spectrum = torch.fft.rfft(frames)  # (B, k, window/2 + 1)
        gain, level = _quiet_gain(spectrum, state.level, hop / self._config.sample_rate)
        mask, memory = self._mask(spectrum * gain, state.memory)
        if channels > 1:
            mask = share_mask(mask, spectrum, channels)
        cleaned = torch.fft.irfft(spectrum * mask, n=window) * self.taper

        count = frames.shape[1]
        second = cleaned[..., hop:].flatten(1)  # (B, k hop): second halves of the frames
        out = cleaned[..., :hop].flatten(1)
        out = out + torch.cat([state.overlap, second[:, : (count - 1) * hop]], 1)
        return out.view_as(block), SpectralState(
            signal[:, -self._overlap :], second[:, (count - 1) * hop :], memory, level
        )

    def _step_frame(self, block: Tensor, state: ShiftState) -> tuple[Tensor, ShiftState]:
        """Denoise the next frame `(B, 1, hop)` as `step` does, in numpy: its calls cost less than torch's."""
        frames = self._frames = self._frames or SingleFrames(self, SLOPE)
        inner: SpectralState = state.state
        taper, hop, overlap, delays = self.taper.numpy(), self.hop, self._overlap, self._delays
        heard = np.concatenate([state.history.numpy(), block[:, 0].numpy()], 1)
        shifted = [heard[:, delays[-1] - delay :][:, :hop] for delay in delays]
        signal = np.concatenate([inner.history.numpy(), np.concatenate(shifted)], 1)
        spectrum = np.fft.rfft(signal * taper)
        power = spectrum.real**2 + spectrum.imag**2
        rms = np.sqrt(power.sum(1)) * np.float32(1 / hop)
        level = np.maximum(np.maximum(inner.level.numpy() * self._fade, rms), np.float32(1e-9))
        scale = np.ones_like(level)  # and so on, as in `training_gain`
        for last, full in itertools.pairwise((1.0, *FULL_SCALES)):
            scale = np.where(level > HEADROOM * last, np.float32(1 / full), scale)
        usual = level * scale
        raised = np.minimum(np.maximum(MIN_RMS / usual, 1), MAX_GAIN)
        gain = (scale * np.where(usual > MAX_RMS, USUAL_RMS / usual, raised)).astype(np.float32)[:, None]
        scaled = power[:, :-1] * gain**2 + np.float32(1e-10)
        magnitude = scaled ** np.float32(0.15)
        scale = magnitude / np.sqrt(scaled) * gain
        bins = spectrum[:, :-1]
        features = np.stack([magnitude, bins.real * scale, bins.imag * scale], 1)
        mask, memory = frames.mask(features, inner.memory.numpy())
        mask = np.float32(MAX_MASK) * (mask[:, 0] + np.complex64(1j) * mask[:, 1])
        bins *= mask
        spectrum[:, -1] *= mask[:, -1]
        cleaned = np.fft.irfft(spectrum) * taper
        out = (cleaned[:, :hop] + inner.overlap.numpy()).reshape(len(delays), -1, hop)
        ready = np.concatenate([state.delayed.numpy(), out], 2)
        mean = sum(row[:, delay : delay + hop] for row, delay in zip(ready, delays, strict=True)) / len(
            delays
        )
        arrays = (signal[:, -overlap:], cleaned[:, hop:], memory, level)
        after = SpectralState(*map(torch.from_numpy, arrays))
        history, delayed = (torch.from_numpy(x[..., hop:]) for x in (heard, ready))
        return torch.from_numpy(mean)[:, None], ShiftState(history, delayed, after)

    def _mask(self, spectrum: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return the complex gain of every bin, `(B, k, bins + 1)`, and the memory after the last frame."""
        batch, count = spectrum.shape[:2]
        x = spectrum[..., : self.bins]
        x = compress(x)
        # Treat frames as rows of one channels-last image: on a CPU several times faster than batching.
        x = x.view(1, batch * count, self.bins, 3).permute(0, 3, 1, 2)
        skips = []
        for conv in self.encoder:
            x = F.leaky_relu(conv(x), SLOPE, inplace=True)
            skips.append(x)  # (1, width, B k, half the bins)
        code = F.relu(self.encode_proj(x[0].transpose(0, 1).flatten(1))).view(
            batch, count, -1
        )  # (B, k, code)
        context, memory = self.memory(code, memory)
        x = self.decode_proj(torch.cat([context, code], -1))
        x = x.view(batch * count, self._config.widths[-1], -1).transpose(0, 1).unsqueeze(0)
        for conv in self.decoder:
            x = conv(skips.pop() + x)  # double the bins
            if skips:
                x = F.leaky_relu(x, SLOPE, inplace=True)
        x = torch.tanh(x[0].float()).view(2, batch, count, self.bins)
        x = torch.cat([x, x[..., -1:]], -1)
        return torch.complex(MAX_MASK * x[0], MAX_MASK * x[1]), memory


def _quiet_gain(spectrum: Tensor, level: Tensor, frame_s: float) -> tuple[Tensor, Tensor]:
    """Return the gain that brings frames to the levels of the training, `(B, k, 1)`, and the last level.

    The level is the running maximum of the frames' RMS, fading by `_FADE_DB_S`, so it follows the onset of
    speech at once.
    """
    size = 2 * (spectrum.shape[-1] - 1)
    rms = (spectrum.real.square() + spectrum.imag.square()).sum(-1).sqrt() * (2.0 / size)  # of a Hann window
    fade = math.log(10) / 20 * _FADE_DB_S * frame_s  # nepers
    if rms.shape[1] == 1:  # live, and in ONNX, which has no running maximum
        loudest = torch.maximum(level[:, None] * math.exp(-fade), rms).clamp(min=1e-9)
    else:
        faded = torch.arange(1, rms.shape[1] + 1, device=rms.device) * fade
        logs = torch.cat([level[:, None], rms], 1).clamp(min=1e-9).log() + F.pad(faded, (1, 0))
        loudest = (torch.cummax(logs, 1).values[:, 1:] - faded).exp()  # (B, k)
    return training_gain(loudest)[..., None], loudest[:, -1]


def training_gain(rms: Tensor) -> Tensor:
    """Return the gain that brings a level into the range of the training; 1 within it.

    The scale of integers is divided out first, so that they give what floats of full scale 1 give.
    """
    scale = torch.ones_like(rms)
    for last, full in itertools.pairwise((1.0, *FULL_SCALES)):
        scale = torch.where(rms > HEADROOM * last, 1 / full, scale)
    level = rms * scale
    return scale * torch.where(level > MAX_RMS, USUAL_RMS / level, (MIN_RMS / level).clamp(1.0, MAX_GAIN))


def compress(x: Tensor) -> Tensor:
    """Return magnitude, real and imaginary part of bins (last axis), with |X|^0.3 to raise weak ones."""
    power = x.real.square() + x.imag.square() + 1e-10
    magnitude = power.pow(0.15)
    scale = magnitude * power.rsqrt()
    return torch.stack([magnitude, x.real * scale, x.imag * scale], -1)


def init_mask(last: nn.Module) -> None:
    """Initialise the last layer of a decoder near a mask of one."""
    assert isinstance(last.bias, Tensor)
    nn.init.constant_(last.bias[:1], 1.0)


def check_sizes(name: str, config: SpectralGruConfig, sizes: Iterable[int]) -> None:
    """Check a config, of which `sizes` must be above 0.

    Raises:
        UsageError: A size is out of its range.
    """
    if min(sizes) < 1 or config.window != 2 * config.hop or config.hop % 2 ** len(config.widths):
        raise UsageError(
            f"{name} needs sizes above 0, a window of two hops, and a hop that 2**len(widths) divides; "
            f"found {config}"
        )
    if not 0 < config.sample_rate < math.inf:
        raise UsageError(f"{name} needs a sample rate in Hz above 0, found {config.sample_rate}")


def share_mask(mask: Tensor, spectrum: Tensor, channels: int) -> Tensor:
    """Replace the masks of every `channels` rows by their mean, weighted by power."""
    power = spectrum.real.square() + spectrum.imag.square() + 1e-20  # silence gets the plain mean
    power, masks = (x.view(-1, channels, *x.shape[1:]) for x in (power, mask))
    mean: Tensor = (masks * power).sum(1, keepdim=True) / power.sum(1, keepdim=True)
    return mean.expand_as(masks).flatten(0, 1)


def build(**config: Any) -> SpectralGru:
    """Build a model from the fields of its config."""
    return SpectralGru(config_from(SpectralGruConfig, config, RENAMED))
