"""Architecture `spectral-bigru`: a bidirectional GRU with look-ahead."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoise.errors import UsageError
from denoise.models.base import InputSpec
from denoise.models.config import config_from
from denoise.models.layers import multiplying_in
from denoise.models.recurrent import Gru
from denoise.models.speech.spectral_gru import (
    RENAMED,
    SLOPE,
    ShiftEnsemble,
    SpectralGruConfig,
    check_sizes,
    compress,
    init_mask,
    share_mask,
    training_gain,
)

_PART_FRAMES = 1024  # of a recording denoised at a time: 16 s
_AHEAD_FRAMES = 128  # look-ahead, from whose end the backward layer starts: 2 s
_QUIETEST = 0.7  # lowest gain that undoes a result louder than its source
_BASS_BINS = 2  # below any voice: their mask is 0, because training has hardly any rumble


@dataclass(frozen=True)
class SpectralBiGruConfig(SpectralGruConfig):
    """Sizes of a `SpectralBiGru`, in addition to those of a `SpectralGru`."""

    taps: int = 3  # frames that each convolution spans, an odd number
    backward: int = 192  # units of the backward recurrent layer
    dilations: tuple[int, ...] = (1, 3)  # frames between the taps of each context block before the decoder
    hidden: int = 64  # channels inside these blocks
    match_level: bool = False  # true: what is louder than the voice in the source is turned down


@dataclass(frozen=True)
class SpectralBiState:
    """State between parts of a recording."""

    history: Tensor  # last input samples: those without output yet, and the context before them, `(B, n)`
    memory: Tensor  # state of the forward layers before the next frame, `(layers, B, memory)`


class _ContextBlock(nn.Module):
    """A residual block over neighbouring frames and frequencies; the identity at first."""

    def __init__(self, width: int, hidden: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, hidden, 3, padding=(dilation, 1), dilation=(dilation, 1))
        self.mix = nn.Conv2d(hidden, width, 1)
        nn.init.zeros_(self.mix.weight)
        assert self.mix.bias is not None
        nn.init.zeros_(self.mix.bias)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.mix(F.leaky_relu(self.conv(x), SLOPE, inplace=True))
        return x + added


class SpectralBiGru(ShiftEnsemble):
    """A `SpectralGru` whose convolutions also span time, with a backward recurrent layer.

    The backward layer (Schuster & Paliwal 1997) runs over the code and the outputs of the forward ones.
    Training can start from a trained `SpectralGru`: all new weights start at zero, so the function is the
    same at first.

    Recordings of any length are denoised 16 s at a time. The forward state is carried on, and the backward
    layer starts 2 s later, the look-ahead of its training; digital silence at either end is skipped. The
    resulting `latency` suits files and not conversations.
    """

    follows_precision = True
    taper: Tensor

    def __init__(self, config: SpectralBiGruConfig) -> None:
        super().__init__(config.hop, config.n_shifts)
        sizes = (config.hop, config.code, config.memory, config.layers, config.backward, *config.widths)
        check_sizes("spectral-bigru", config, (*sizes, config.hidden, config.taps, *config.dilations))
        if not config.taps % 2:
            raise UsageError(f"spectral-bigru needs odd taps, found {config.taps}")
        self._config = config
        around = config.taps // 2
        # Receptive radius in frames of the encoder, and of context blocks and decoder.
        encoder_radius = around * len(config.widths)
        decoder_radius = encoder_radius + sum(config.dilations)
        # A part needs `_before` frames of past context, of which the first `_lead` feed only the encoder.
        self._lead, self._before = encoder_radius, encoder_radius + decoder_radius + 1
        if self._before > _PART_FRAMES:
            raise UsageError(
                f"spectral-bigru needs {_PART_FRAMES} frames of context at most, found {self._before} by "
                f"dilations {config.dilations}"
            )
        self._frames, self._ahead = _PART_FRAMES, _AHEAD_FRAMES
        self.hop = self._frames * config.hop
        self.latency = (self._ahead + 1) * config.hop + self._delays[-1]
        self.spec = InputSpec(
            "audio",
            halo=None,
            multiple_of=config.hop,
            sample_rate=config.sample_rate,
            joint_channels=True,
            removes_offset=True,
        )
        self.register_buffer("taper", torch.hann_window(config.window, device="cpu").sqrt(), persistent=False)
        self.bins = config.window // 2  # the Nyquist bin takes the mask of its neighbour

        channels = (3, *config.widths)
        self.encoder = nn.ModuleList(
            nn.Conv2d(i, o, (config.taps, 5), stride=(1, 2), padding=(around, 2))
            for i, o in itertools.pairwise(channels)
        )
        flat = config.widths[-1] * (self.bins >> len(config.widths))
        self.encode_proj = nn.Linear(flat, config.code)
        self.memory = Gru(config.code, config.memory, config.layers)
        self.backward_gru = Gru(config.code + config.memory, config.backward)
        self.decode_proj = nn.Linear(config.memory + config.code + config.backward, flat)
        self.blocks = nn.ModuleList(
            _ContextBlock(config.widths[-1], config.hidden, dilation) for dilation in config.dilations
        )
        outwards = (*config.widths[::-1], 2)
        self.decoder = nn.ModuleList(
            nn.ConvTranspose2d(i, o, (config.taps, 6), stride=(1, 2), padding=(around, 2))
            for i, o in itertools.pairwise(outwards)
        )
        init_mask(self.decoder[-1])
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def config(self) -> dict[str, Any]:
        """Return the fields of `SpectralBiGruConfig`."""
        return asdict(self._config)

    def warm_start(self, weights: Mapping[str, Tensor]) -> None:
        """Start from the weights of another run, or of a trained `SpectralGru`, with new weights at zero."""
        own = self.state_dict()
        if weights.keys() == own.keys():
            self.load_state_dict(weights)
            return
        grown = {key: value for key, value in own.items() if key not in weights}
        for key, value in weights.items():
            grown[key] = self._grow(key, value, torch.zeros_like(own[key])) if key in own else value
        self.load_state_dict(grown)

    def _grow(self, key: str, value: Tensor, zeros: Tensor) -> Tensor:
        """Return a weight of a `SpectralGru` in its place among zeros."""
        part = key.split(".")[0]
        if part in ("encoder", "decoder") and zeros.ndim == 4:
            zeros[:, :, self._config.taps // 2] = value
            return zeros
        width = self._config.widths[-1]
        if key == "encode_proj.weight":  # a frame is flattened channel by channel there, bin by bin here
            return value.view(len(value), width, -1).transpose(1, 2).flatten(1)
        if part == "decode_proj":
            value = value.view(width, -1, *value.shape[1:]).transpose(0, 1).flatten(0, 1)
            zeros[..., : value.shape[-1]] = value
            return zeros
        return value

    def training_step(self, noisy: Tensor, _target: Tensor, /) -> tuple[Tensor, Tensor]:
        """Denoise a whole patch, from a state of zero at either end."""
        hop = self._config.hop
        spectrum = self._spectrum(F.pad(noisy.flatten(0, 1), (hop, hop)))
        mask, _ = self._mask(spectrum, self.initial_state_one(len(spectrum)).memory, 0, spectrum.shape[1])
        return self._waveform(spectrum * mask).view_as(noisy), noisy.new_zeros(())

    def initial_state_one(self, batch: int) -> SpectralBiState:
        """Return the state before the first sample: silence."""
        like, c = self.taper, self._config
        samples = (self._before + self._ahead + 1) * c.hop
        return SpectralBiState(like.new_zeros(batch, samples), like.new_zeros(c.layers, batch, c.memory))

    def step_one(self, block: Tensor, state: SpectralBiState) -> tuple[Tensor, SpectralBiState]:
        """Denoise the next parts `(B, C, k * hop)` with one member."""
        out = []
        for start in range(0, block.shape[-1], self.hop):
            cleaned, state = self._part(block[..., start : start + self.hop], state)
            out.append(cleaned)
        return torch.cat(out, -1), state

    def _part(self, block: Tensor, state: SpectralBiState) -> tuple[Tensor, SpectralBiState]:
        """Take in one part and return the one `latency` before it.

        The input is `_before` frames of past context, the part, and 2 s of look-ahead.
        """
        signal = torch.cat([state.history, block.flatten(0, 1)], 1)
        history, memory = signal[:, self.hop :], state.memory
        spectrum = self._spectrum(signal)
        first, stop = _active_frames(spectrum)
        start = max(first, self._lead)  # the memory covers frames before; only the encoder needs them
        output = slice(self._before - 1, self._before + self._frames)
        cleaned = torch.zeros_like(spectrum[:, output])
        if start < stop:
            hop = self._config.hop
            level = signal[:, first * hop : (stop + 1) * hop].square().mean(1).sqrt()
            gain = training_gain(level.clamp(min=1e-9))[:, None, None]
            mask, memory = self._mask(
                spectrum[:, first:stop] * gain, memory, start - first, self._lead + self._frames - start
            )
            noisy = spectrum[:, start:stop]
            if block.shape[1] > 1:
                mask = share_mask(mask, noisy, block.shape[1])
            low, high = max(start, output.start), min(stop, output.stop)
            if low < high:
                if self._config.match_level:
                    mask = mask * self._level(noisy, noisy * mask, start - output.start, block.shape[1])
                part = (noisy * mask)[:, low - start : high - start]
                cleaned[:, low - output.start : high - output.start] = part
        return self._waveform(cleaned).view_as(block), SpectralBiState(history, memory)

    def _level(self, noisy: Tensor, cleaned: Tensor, first: int, channels: int) -> Tensor:
        """Return the gain of each frame that makes a result as loud as the voice in its source, at most 1.

        It is that of least squares, where noise does not count, having nothing in common with the result; the
        network alone makes voices up to 1.5 dB louder, which its loss does not hear. It is measured over
        `_AHEAD_FRAMES` at a time and interpolated; the last of these are the first of the next part.

        Args:
            noisy: Spectra of the frames, `(B, k, bins)`.
            cleaned: The same of the result.
            first: Number of the first frame, from that of the output on.
            channels: Channels that share a gain.
        """
        size, count = self._ahead, self._frames // self._ahead + 1
        products = [(noisy * cleaned.conj()).real, cleaned.abs().square(), noisy.abs().square()]
        skip = max(-first, 0)
        measured = torch.stack([values[:, skip:].sum(-1) for values in products])  # (3, B, k)
        measured = measured.view(3, -1, channels, measured.shape[-1]).sum(2)
        measured = measured[..., : size * count - max(first, 0)]
        measured = F.pad(measured, (max(first, 0), size * count - max(first, 0) - measured.shape[-1]))
        sums = measured.view(3, -1, count, size).sum(-1)
        common, own, whole = sums + 0.3 * sums.sum(-1, keepdim=True)  # in pauses that of the rest counts
        gain = ((common + 0.01 * whole) / (own + 0.01 * whole).clamp(min=1e-20)).clamp(_QUIETEST, 1)
        place = (torch.arange(noisy.shape[1], device=gain.device) + first).clamp(0, self._frames) / size
        below = place.long().clamp(max=count - 2)
        levels = torch.lerp(gain[:, below], gain[:, below + 1], place - below)  # (files, k)
        return levels.repeat_interleave(channels, 0)[..., None]

    def _spectrum(self, signal: Tensor) -> Tensor:
        """Return the spectra of half-overlapping frames, `(B, k, bins + 1)`."""
        frames = signal.unfold(1, self._config.window, self._config.hop)
        return torch.fft.rfft(frames * self.taper)

    def _waveform(self, spectrum: Tensor) -> Tensor:
        """Return the samples between the middles of the first and the last frame, `(B, (k - 1) hop)`."""
        frames = torch.fft.irfft(spectrum, n=self._config.window) * self.taper
        hop = self._config.hop
        return (frames[:, 1:, :hop] + frames[:, :-1, hop:]).flatten(1)

    def _mask(self, spectrum: Tensor, memory: Tensor, skip: int, carry: int) -> tuple[Tensor, Tensor]:
        """Return the complex gain of every bin of all frames but the first `skip`, `(B, k - skip, bins + 1)`.

        Args:
            spectrum: `(B, k, bins + 1)`.
            memory: State of the forward layers before the first frame that is not skipped.
            skip: Frames that feed only the encoder.
            carry: Number of the other frames after which to return the state of the forward layers.
        """
        x = compress(spectrum[..., : self.bins]).permute(0, 3, 1, 2)  # (B, 3, k, bins), channels last
        with multiplying_in(self.precision, x):
            x, memory = self._layers(x, memory, skip, carry)
        x = torch.tanh(x.float())
        x = torch.cat([torch.zeros_like(x[..., :_BASS_BINS]), x[..., _BASS_BINS:], x[..., -1:]], -1)
        return torch.complex(1.2 * x[:, 0], 1.2 * x[:, 1]), memory

    def _layers(self, x: Tensor, memory: Tensor, skip: int, carry: int) -> tuple[Tensor, Tensor]:
        """Return the mask before its limit, `(B, 2, k - skip, bins)`, from features `(B, 3, k, bins)`."""
        batch, count, width = x.shape[0], x.shape[2] - skip, self._config.widths[-1]
        skips = []
        for conv in self.encoder:
            x = F.leaky_relu(conv(x), SLOPE, inplace=True)  # (B, width, k, half the bins)
            skips.append(x[:, :, skip:])
        code = F.relu(self.encode_proj(skips[-1].permute(0, 2, 3, 1).flatten(2))).float()  # (B, k, code)
        with torch.autocast(code.device.type, enabled=False):  # many small products gain nothing in bfloat16
            past, memory = self._run_forward(code, memory, carry)
            future = self.backward_gru(torch.cat([code, past], -1).flip(1))[0].flip(1)
        x = self.decode_proj(torch.cat([past, code, future], -1))
        x = x.view(batch, count, -1, width).permute(0, 3, 1, 2)
        for i, conv in enumerate(self.decoder):
            x = x + skips.pop()
            if i == 0:
                for block in self.blocks:
                    x = block(x)
            x = conv(x)  # (B, width, k, double the bins)
            if skips:
                x = F.leaky_relu(x, SLOPE, inplace=True)
        return x, memory

    def _run_forward(self, code: Tensor, memory: Tensor, carry: int) -> tuple[Tensor, Tensor]:
        """Return the outputs of the forward layers at each frame, and their state after `carry` frames."""
        if carry <= 0:
            return self.memory(code, memory)[0], memory
        now, memory = self.memory(code[:, :carry], memory)
        if carry >= code.shape[1]:
            return now, memory
        later, _ = self.memory(code[:, carry:], memory)
        return torch.cat([now, later], 1), memory


def _active_frames(spectrum: Tensor) -> tuple[int, int]:
    """Return the first and end frame that are not digital silence; (0, 0) if all are silent."""
    frames = spectrum.abs().amax((0, 2)).nonzero().flatten().tolist()
    return (frames[0], frames[-1] + 1) if frames else (0, 0)


def build(**config: Any) -> SpectralBiGru:
    """Build a model from the fields of its config."""
    return SpectralBiGru(config_from(SpectralBiGruConfig, config, RENAMED))
