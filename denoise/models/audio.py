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
from denoise.models.base import CausalDenoiser, InputSpec

__all__ = ["SpectralGru", "SpectralGruConfig", "SpectralState", "build"]


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
    """

    sample_rate: float = 16_000.0
    window: int = 512
    hop: int = 256
    widths: tuple[int, ...] = (16, 32, 48)
    code: int = 192
    memory: int = 192
    layers: int = 2


@dataclass(frozen=True)
class SpectralState:
    """What passes from block to block.

    Args:
        heard: The last `window - hop` input samples, `(B, window - hop)`.
        owed: Output samples that the next frame still adds to, `(B, window - hop)`.
        memory: Of the recurrent layers, `(layers, B, memory)`.
    """

    heard: Tensor
    owed: Tensor
    memory: Tensor


class SpectralGru(CausalDenoiser):
    """A complex ratio mask (Williamson et al. 2016) from compressed spectra, by encoder, GRU and decoder.

    The encoder strides over frequency only, so that each frame is a small picture of its own; all memory of
    the past is in the recurrent layers (Cho et al. 2014), which makes the state small and streaming
    exact. Each encoder scale is also added to the decoder scale of its size.

    Channels of one recording share one mask, the mean of theirs weighted by power: of all single masks the
    one that is nearest to what each channel's own would give (least squares).

    Shape:
        `(B, C, T)` in and out; `latency` is `window - hop` samples.
    """

    taper: Tensor

    def __init__(self, config: SpectralGruConfig) -> None:
        super().__init__()
        sizes = (config.hop, config.code, config.memory, config.layers, *config.widths)
        if min(sizes) < 1 or config.window != 2 * config.hop or config.hop % 2 ** len(config.widths):
            raise UsageError(f"spectral-gru sizes do not go together, found {config}")
        if not 0 < config.sample_rate < math.inf:
            raise UsageError(f"spectral-gru works at a sample rate in Hz above 0, found {config.sample_rate}")
        self._config = config
        self.hop, self.latency = config.hop, config.window - config.hop
        self.spec = InputSpec(
            "audio", halo=None, multiple_of=config.hop, sample_rate=config.sample_rate, linked=True
        )
        # The square root of a periodic Hann window, twice, adds up to one at half overlap.
        self.register_buffer("taper", torch.hann_window(config.window, device="cpu").sqrt(), persistent=False)

        self.bins = config.window // 2  # the Nyquist bin takes the mask of its neighbour
        channels = (3, *config.widths)
        self.encoder = nn.ModuleList(
            nn.Conv1d(i, o, 5, stride=2, padding=2) for i, o in itertools.pairwise(channels)
        )
        self.down = nn.ModuleList(nn.LeakyReLU(0.1) for _ in config.widths)
        flat = config.widths[-1] * (self.bins >> len(config.widths))
        self.into = nn.Linear(flat, config.code)
        self.memory = nn.GRU(config.code, config.memory, config.layers, batch_first=True)
        self.out_of = nn.Linear(config.memory + config.code, flat)
        outwards = (*config.widths[::-1], 2)
        self.decoder = nn.ModuleList(
            nn.ConvTranspose1d(i, o, 6, stride=2, padding=2) for i, o in itertools.pairwise(outwards)
        )
        self.up = nn.ModuleList(nn.LeakyReLU(0.1) for _ in outwards[1:-1])
        last = self.decoder[-1]
        assert isinstance(last, nn.ConvTranspose1d)
        assert last.bias is not None
        nn.init.constant_(last.bias[:1], 1.0)  # start near "let everything pass"

    def config(self) -> dict[str, Any]:
        """The fields of `SpectralGruConfig`."""
        return asdict(self._config)

    def initial_state(self, batch: int) -> SpectralState:
        """Silence before the first sample."""
        like, c = self.taper, self._config
        zeros = like.new_zeros(batch, self.latency)
        return SpectralState(zeros, zeros, like.new_zeros(c.layers, batch, c.memory))

    def step(self, block: Tensor, state: SpectralState) -> tuple[Tensor, SpectralState]:
        """Denoise the next block `(B, C, k * hop)`."""
        window, hop, channels = self._config.window, self.hop, block.shape[1]
        # From here on, B counts every channel of every item.
        signal = torch.cat([state.heard, block.flatten(0, 1)], 1)  # (B, window - hop + k hop)
        frames = signal.unfold(1, window, hop) * self.taper  # (B, k, window)
        spectrum = torch.fft.rfft(frames)  # (B, k, window/2 + 1)
        mask, memory = self._mask(spectrum, state.memory)
        if channels > 1:
            mask = linked(mask, spectrum, channels)
        cleaned = torch.fft.irfft(spectrum * mask, n=window) * self.taper

        count = frames.shape[1]
        late = cleaned[..., hop:].flatten(1)  # (B, k hop): second halves
        out = cleaned[..., :hop].flatten(1)  # first halves
        out = out + torch.cat([state.owed, late[:, : (count - 1) * hop]], 1)
        return out.view_as(block), SpectralState(
            signal[:, -self.latency :], late[:, (count - 1) * hop :], memory
        )

    def _mask(self, spectrum: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """The complex gain of every bin, `(B, k, bins + 1)`, and the memory after the last frame."""
        batch, count = spectrum.shape[:2]
        x = spectrum[..., : self.bins]
        power = x.real.square() + x.imag.square() + 1e-10
        compressed = power.pow(-0.35)  # |X|^0.3 / |X|: what was quiet is heard, whatever the level
        x = torch.stack([power.pow(0.15), x.real * compressed, x.imag * compressed], 2)  # (B, k, 3, bins)
        x = x.flatten(0, 1)
        across = []
        for conv, act in zip(self.encoder, self.down, strict=True):
            x = act(conv(x))  # (B k, width, half the bins)
            across.append(x)
        code = F.relu(self.into(x.flatten(1))).view(batch, count, -1)  # (B, k, code)
        remembered, memory = self.memory(code, memory)
        x = self.out_of(torch.cat([remembered, code], -1)).flatten(0, 1).view_as(across[-1])
        for i, conv in enumerate(self.decoder):
            x = conv(x + across.pop())  # (B k, width, double the bins)
            if i < len(self.up):
                x = self.up[i](x)
        x = torch.tanh(x).view(batch, count, 2, self.bins)  # (B, k, 2, bins)
        x = torch.cat([x, x[..., -1:]], -1)
        return torch.complex(1.2 * x[:, :, 0], 1.2 * x[:, :, 1]), memory


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
