"""Learned denoisers of speech and field recordings: an autoencoder over spectra, with memory over time."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoise.errors import UsageError
from denoise.models.autoencoder import LineConv, LineConvTranspose
from denoise.models.base import CausalDenoiser, InputSpec

__all__ = ["Shifted", "ShiftedState", "SpectralGru", "SpectralGruConfig", "SpectralState", "build", "linked"]

QUIET = 0.02  # root mean square: what is fainter is heard as loud as this, for no fainter was learned from
LOUDEST = 1e4  # times louder, at most
SLOPE = 0.1  # of the leaky rectifiers
_FADE_DB_S = 1.0


@dataclass(frozen=True)
class SpectralGruConfig:
    """Sizes of a `SpectralGru`.

    Args:
        sample_rate: Hz.
        window: Samples per frame.
        hop: Samples between frames, half a window.
        widths: Channels of the strided convolutions over frequency, outermost first.
        code: Numbers per frame between encoder and memory.
        memory: Units of each recurrent layer.
        layers: Recurrent layers.
        shifts: Analyses of the signal, evenly shifted within a hop, whose answers are averaged.
    """

    sample_rate: float = 16_000.0
    window: int = 512
    hop: int = 256
    widths: tuple[int, ...] = (16, 32, 48)
    code: int = 192
    memory: int = 192
    layers: int = 2
    shifts: int = 2


@dataclass(frozen=True)
class ShiftedState:
    """What passes from block to block of a `Shifted` model.

    Args:
        late: Input samples that the analyses have not all heard, `(B, n)`.
        owed: Answers that wait for those of later analyses, `(shifts, B, n)`.
        state: Of the model, for all analyses.
    """

    late: Tensor
    owed: Tensor
    state: Any


class Shifted(CausalDenoiser):
    """A model that looks at the signal several times, each time at frames that begin a little later.

    Where frames begin is arbitrary, and the mistakes that a model makes at one place it mostly does not make
    at another, so the mean of the answers is nearer to the truth. All looks are items of one batch. Training
    takes one, and so do several channels: each is a look of its own at what they share.

    Args:
        frame_hop: Samples between frames.
        shifts: How many looks.
    """

    def __init__(self, frame_hop: int, shifts: int) -> None:
        super().__init__()
        if shifts < 1 or frame_hop % shifts:
            raise UsageError(f"shifts is {shifts}; expected a part of the {frame_hop} samples between frames")
        self._delays = [index * frame_hop // shifts for index in range(shifts)]

    def once_state(self, batch: int) -> Any:
        """The state of one look before the first sample."""
        raise NotImplementedError

    def once(self, block: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One look at the next block, as `step`."""
        raise NotImplementedError

    def training_step(self, noisy: Tensor, _target: Tensor, /) -> tuple[Tensor, Tensor]:
        """One look at a patch."""
        samples, late = noisy.shape[-1], self.latency - self._delays[-1]
        padded = F.pad(noisy, (0, -(-(samples + late) // self.hop) * self.hop - samples))
        out, _ = self.once(padded, self.once_state(noisy.shape[0] * noisy.shape[1]))
        return out[..., late : late + samples], noisy.new_zeros(())

    def _looks(self, channels: int) -> list[int]:
        """By how many samples each look at so many channels is later than the first."""
        return self._delays if channels == 1 else self._delays[-1:]

    def initial_state(self, batch: int, channels: int = 1) -> ShiftedState:
        """Silence before the first sample."""
        looks, most, rows = len(self._looks(channels)), self._delays[-1], batch * channels
        like = next(self.parameters())
        return ShiftedState(
            like.new_zeros(rows, most), like.new_zeros(looks, rows, most), self.once_state(looks * rows)
        )

    def step(self, block: Tensor, state: ShiftedState) -> tuple[Tensor, ShiftedState]:
        """Denoise the next block `(B, C, k * hop)`."""
        size, most, delays = block.shape[-1], self._delays[-1], self._looks(block.shape[1])
        heard = torch.cat([state.late, block.flatten(0, 1)], 1)
        looks = [heard[:, most - delay : most - delay + size].view_as(block) for delay in delays]
        answers, inner = self.once(torch.cat(looks), state.state)
        answers = answers.reshape(len(looks), -1, size)
        ready = torch.cat([state.owed, answers], -1)
        # What was heard later was answered later: each look waits for the last.
        aligned = [look[:, delay : delay + size] for look, delay in zip(ready, delays, strict=True)]
        mean = torch.stack(aligned).mean(0).view_as(block)
        return mean, ShiftedState(heard[:, size:], ready[..., size:], inner)


@dataclass(frozen=True)
class SpectralState:
    """What passes from block to block of one look.

    Args:
        heard: The last `window - hop` input samples, `(B, window - hop)`.
        owed: Output samples that the next frame still adds to, `(B, window - hop)`.
        memory: Of the recurrent layers, `(layers, B, memory)`.
        level: How loud the loudest frame was, which fades: its root mean square, `(B,)`.
    """

    heard: Tensor
    owed: Tensor
    memory: Tensor
    level: Tensor


class SpectralGru(Shifted):
    """A complex ratio mask (Williamson et al. 2016) from compressed spectra, by encoder, GRU and decoder.

    The encoder strides over frequency only, so that each frame is a small picture of its own; all memory of
    the past is in the recurrent layers (Cho et al. 2014), which makes the state small and streaming
    exact. Each encoder scale is also added to the decoder scale of its size.

    Channels of one recording share one mask, the mean of theirs weighted by power: of all single masks the
    one that is nearest to what each channel's own would give (least squares).

    Shape:
        `(B, C, T)` in and out; `latency` is `window - hop` samples, and what the shifts take.
    """

    taper: Tensor

    def __init__(self, config: SpectralGruConfig) -> None:
        super().__init__(config.hop, config.shifts)
        sizes = (config.hop, config.code, config.memory, config.layers, *config.widths)
        if min(sizes) < 1 or config.window != 2 * config.hop or config.hop % 2 ** len(config.widths):
            raise UsageError(f"spectral-gru sizes do not go together, found {config}")
        if not 0 < config.sample_rate < math.inf:
            raise UsageError(f"spectral-gru works at a sample rate in Hz above 0, found {config.sample_rate}")
        self._config = config
        self._overlap = config.window - config.hop
        self.hop, self.latency = config.hop, self._overlap + self._delays[-1]
        self.spec = InputSpec(
            "audio", halo=None, multiple_of=config.hop, sample_rate=config.sample_rate, joint_channels=True
        )
        # The square root of a periodic Hann window, twice, adds up to one at half overlap.
        self.register_buffer("taper", torch.hann_window(config.window, device="cpu").sqrt(), persistent=False)

        self.bins = config.window // 2  # the Nyquist bin takes the mask of its neighbour
        channels = (3, *config.widths)
        self.encoder = nn.ModuleList(
            LineConv(i, o, 5, stride=2, padding=2) for i, o in itertools.pairwise(channels)
        )
        flat = config.widths[-1] * (self.bins >> len(config.widths))
        self.into = nn.Linear(flat, config.code)
        self.memory = nn.GRU(config.code, config.memory, config.layers, batch_first=True)
        self.out_of = nn.Linear(config.memory + config.code, flat)
        outwards = (*config.widths[::-1], 2)
        self.decoder = nn.ModuleList(
            LineConvTranspose(i, o, 6, stride=2, padding=2) for i, o in itertools.pairwise(outwards)
        )
        last = self.decoder[-1]
        assert isinstance(last, LineConvTranspose)
        assert last.bias is not None
        nn.init.constant_(last.bias[:1], 1.0)  # start near "let everything pass"

    def config(self) -> dict[str, Any]:
        """The fields of `SpectralGruConfig`."""
        return asdict(self._config)

    def once_state(self, batch: int) -> SpectralState:
        """Silence before the first sample."""
        like, c = self.taper, self._config
        zeros = like.new_zeros(batch, self._overlap)
        memory = like.new_zeros(c.layers, batch, c.memory)
        return SpectralState(zeros, zeros, memory, like.new_zeros(batch))

    def once(self, block: Tensor, state: SpectralState) -> tuple[Tensor, SpectralState]:
        """One look at the next block `(B, C, k * hop)`."""
        window, hop, channels = self._config.window, self.hop, block.shape[1]
        # From here on, B counts every channel of every item.
        signal = torch.cat([state.heard, block.flatten(0, 1)], 1)  # (B, window - hop + k hop)
        frames = signal.unfold(1, window, hop) * self.taper  # (B, k, window)
        spectrum = torch.fft.rfft(frames)  # (B, k, window/2 + 1)
        louder, level = _louder(spectrum, state.level, hop / self._config.sample_rate)
        mask, memory = self._mask(spectrum * louder, state.memory)
        if channels > 1:
            mask = linked(mask, spectrum, channels)
        cleaned = torch.fft.irfft(spectrum * mask, n=window) * self.taper

        count = frames.shape[1]
        late = cleaned[..., hop:].flatten(1)  # (B, k hop): second halves
        out = cleaned[..., :hop].flatten(1)  # first halves
        out = out + torch.cat([state.owed, late[:, : (count - 1) * hop]], 1)
        return out.view_as(block), SpectralState(
            signal[:, -self._overlap :], late[:, (count - 1) * hop :], memory, level
        )

    def _mask(self, spectrum: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """The complex gain of every bin, `(B, k, bins + 1)`, and the memory after the last frame."""
        batch, count = spectrum.shape[:2]
        x = spectrum[..., : self.bins]
        power = x.real.square() + x.imag.square() + 1e-10
        magnitude = power.pow(0.15)  # |X|^0.3: what was quiet is heard, whatever the level
        compressed = magnitude * power.rsqrt()
        x = torch.stack([magnitude, x.real * compressed, x.imag * compressed], -1)
        # Frames as the lines of one picture, channels last: several times faster than as a batch.
        x = x.view(1, batch * count, self.bins, 3).permute(0, 3, 1, 2)
        across = []
        for conv in self.encoder:
            x = F.leaky_relu(conv(x), SLOPE, inplace=True)
            across.append(x)  # (1, width, B k, half the bins)
        code = F.relu(self.into(x[0].transpose(0, 1).flatten(1))).view(batch, count, -1)  # (B, k, code)
        remembered, memory = self.memory(code, memory)
        x = self.out_of(torch.cat([remembered, code], -1))
        x = x.view(batch * count, self._config.widths[-1], -1).transpose(0, 1).unsqueeze(0)
        for conv in self.decoder:
            x = conv(across.pop() + x)  # double the bins
            if across:
                x = F.leaky_relu(x, SLOPE, inplace=True)
        x = torch.tanh(x[0].float()).view(2, batch, count, self.bins)
        x = torch.cat([x, x[..., -1:]], -1)
        return torch.complex(1.2 * x[0], 1.2 * x[1]), memory


def _louder(spectrum: Tensor, level: Tensor, frame_s: float) -> tuple[Tensor, Tensor]:
    """By how much each frame of a faint recording is to be heard louder, `(B, k, 1)`, and the last level.

    What counts is the loudest frame so far, fading by `_FADE_DB_S`: speech is heard at once as loud as it is.
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
    return (QUIET / loudest).clamp(1.0, LOUDEST)[..., None], loudest[:, -1]


def linked(mask: Tensor, spectrum: Tensor, channels: int) -> Tensor:
    """One mask for every `channels` rows: their mean, weighted by power."""
    power = spectrum.real.square() + spectrum.imag.square() + 1e-20  # of silence, the plain mean
    power, masks = (x.view(-1, channels, *x.shape[1:]) for x in (power, mask))
    mean: Tensor = (masks * power).sum(1, keepdim=True) / power.sum(1, keepdim=True)
    return mean.expand_as(masks).flatten(0, 1)


def build(**config: Any) -> SpectralGru:
    """A model from the fields of its config."""
    config["widths"] = tuple(config.get("widths", SpectralGruConfig.widths))
    return SpectralGru(SpectralGruConfig(**config))
