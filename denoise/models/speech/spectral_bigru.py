"""The learned denoiser of speech in files: the causal one, grown so that it hears what comes after, too."""

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
from denoise.models.speech.spectral_gru import LOUDEST, QUIET, SLOPE, Shifted, SpectralGruConfig, linked

__all__ = ["HeardState", "SpectralBiGru", "SpectralBiGruConfig", "build"]

_PART_FRAMES = 1024  # of a long recording that are cleaned at a time: 16 s
_AHEAD_FRAMES = 128  # beyond them from which the backward memory starts: 2 s


@dataclass(frozen=True)
class SpectralBiGruConfig(SpectralGruConfig):
    """Sizes of a `SpectralBiGru`, beside those of a `SpectralGru`.

    Args:
        taps: Frames that each convolution spans, an odd number.
        backward: Units of the recurrent layer that runs from the end.
        dilations: Frames between the taps of each block before the decoder.
        hidden: Channels inside these blocks.
    """

    taps: int = 3
    backward: int = 192
    dilations: tuple[int, ...] = (1, 3)
    hidden: int = 64


@dataclass(frozen=True)
class HeardState:
    """What passes from part to part of a recording.

    Args:
        heard: The last input samples, those of which the answer is not out and those before them that it
            needs, `(B, n)`.
        memory: Of the forward layers, before the first frame that is computed next, `(layers, B, memory)`.
    """

    heard: Tensor
    memory: Tensor


class _Block(nn.Module):
    """Context around each frame and frequency, added to what is there; at first nothing."""

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


class SpectralBiGru(Shifted):
    """A `SpectralGru` whose convolutions also span time, and which has a memory of the future as well.

    A recurrent layer runs from the end to the beginning (Schuster & Paliwal 1997) over what the forward ones
    remember. The frames around a frame are seen by the convolutions. A trained `SpectralGru` can be its
    start: all that is new begins at zero, so that training goes on from where that one arrived.

    Of a recording of any length, 16 s are cleaned at a time. The forward memory is carried on, and the
    backward memory starts 2 s beyond them, which is as much as it learned to use; digital silence at either
    end is not listened to. So it is causal but for a `latency` that suits files and not conversations.

    Shape:
        `(B, C, T)` in and out.
    """

    taper: Tensor

    def __init__(self, config: SpectralBiGruConfig) -> None:
        super().__init__(config.hop, config.shifts)
        sizes = (config.hop, config.code, config.memory, config.layers, config.backward, *config.widths)
        odd = config.window == 2 * config.hop and not config.hop % 2 ** len(config.widths) and config.taps % 2
        if min(*sizes, config.hidden, config.taps, *config.dilations, 1) < 1 or not odd:
            raise UsageError(f"spectral-bigru sizes do not go together, found {config}")
        if not 0 < config.sample_rate < float("inf"):
            raise UsageError(
                f"spectral-bigru works at a sample rate in Hz above 0, found {config.sample_rate}"
            )
        self._config = config
        around = config.taps // 2
        # Frames from which the convolutions reach a frame, through the encoder, and through all of it.
        encoder_reach = around * len(config.widths)
        decoder_reach = encoder_reach + sum(config.dilations)
        # A part is computed from so many frames before it, the first of which only the encoder needs.
        self._lead, self._before = encoder_reach, encoder_reach + decoder_reach + 1
        self._frames, self._ahead = _PART_FRAMES, _AHEAD_FRAMES
        self.hop = self._frames * config.hop
        self.latency = (self._ahead + 1) * config.hop + self._delays[-1]
        self.spec = InputSpec(
            "audio", halo=None, multiple_of=config.hop, sample_rate=config.sample_rate, joint_channels=True
        )
        self.register_buffer("taper", torch.hann_window(config.window, device="cpu").sqrt(), persistent=False)
        self.bins = config.window // 2  # the Nyquist bin takes the mask of its neighbour

        channels = (3, *config.widths)
        self.encoder = nn.ModuleList(
            nn.Conv2d(i, o, (config.taps, 5), stride=(1, 2), padding=(around, 2))
            for i, o in itertools.pairwise(channels)
        )
        flat = config.widths[-1] * (self.bins >> len(config.widths))
        self.into = nn.Linear(flat, config.code)
        self.memory = nn.GRU(config.code, config.memory, config.layers, batch_first=True)
        self.after = nn.GRU(config.code + config.memory, config.backward, batch_first=True)
        self.out_of = nn.Linear(config.memory + config.code + config.backward, flat)
        self.blocks = nn.ModuleList(
            _Block(config.widths[-1], config.hidden, dilation) for dilation in config.dilations
        )
        outwards = (*config.widths[::-1], 2)
        self.decoder = nn.ModuleList(
            nn.ConvTranspose2d(i, o, (config.taps, 6), stride=(1, 2), padding=(around, 2))
            for i, o in itertools.pairwise(outwards)
        )
        last = self.decoder[-1]
        assert isinstance(last, nn.ConvTranspose2d)
        assert last.bias is not None
        nn.init.constant_(last.bias[:1], 1.0)  # start near "let everything pass"
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def config(self) -> dict[str, Any]:
        """The fields of `SpectralBiGruConfig`."""
        return asdict(self._config)

    def warm_start(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of another run, or of a trained `SpectralGru`: what that one lacks is zero."""
        own = self.state_dict()
        if weights.keys() == own.keys():
            self.load_state_dict(weights)
            return
        grown = {key: value for key, value in own.items() if key not in weights}
        for key, value in weights.items():
            grown[key] = self._grown(key, value, torch.zeros_like(own[key])) if key in own else value
        self.load_state_dict(grown)

    def _grown(self, key: str, value: Tensor, into: Tensor) -> Tensor:
        """A weight of a `SpectralGru` in its place among zeros."""
        part = key.split(".")[0]
        if part in ("encoder", "decoder") and into.ndim == 4:
            into[:, :, self._config.taps // 2] = value
            return into
        width = self._config.widths[-1]
        if key == "into.weight":  # there, the numbers of a frame lie channel by channel, here bin by bin
            return value.view(len(value), width, -1).transpose(1, 2).flatten(1)
        if part == "out_of":
            value = value.view(width, -1, *value.shape[1:]).transpose(0, 1).flatten(0, 1)
            into[..., : value.shape[-1]] = value
            return into
        return value

    def training_step(self, noisy: Tensor, _target: Tensor, /) -> tuple[Tensor, Tensor]:
        """A patch as it is, from no memory at either end."""
        hop = self._config.hop
        spectrum = self._spectrum(F.pad(noisy.flatten(0, 1), (hop, hop)))
        mask, _ = self._mask(spectrum, self.once_state(len(spectrum)).memory, 0, spectrum.shape[1])
        return self._waveform(spectrum * mask).view_as(noisy), noisy.new_zeros(())

    def once_state(self, batch: int) -> HeardState:
        """Silence before the first sample."""
        like, c = self.taper, self._config
        heard = (self._before + self._ahead + 1) * c.hop
        return HeardState(like.new_zeros(batch, heard), like.new_zeros(c.layers, batch, c.memory))

    def once(self, block: Tensor, state: HeardState) -> tuple[Tensor, HeardState]:
        """One look at the next parts `(B, C, k * hop)`."""
        out = []
        for start in range(0, block.shape[-1], self.hop):
            cleaned, state = self._part(block[..., start : start + self.hop], state)
            out.append(cleaned)
        return torch.cat(out, -1), state

    def _part(self, block: Tensor, state: HeardState) -> tuple[Tensor, HeardState]:
        """One hop in, and one that was heard before out: `_before` frames of the past, it, and 2 s more."""
        signal = torch.cat([state.heard, block.flatten(0, 1)], 1)
        heard, memory = signal[:, self.hop :], state.memory
        spectrum = self._spectrum(signal)
        first, stop = _sounding(spectrum)
        start = max(first, self._lead)  # frames before are in the memory, and only the encoder looks at them
        turn = slice(self._before - 1, self._before + self._frames)  # the frames that are to come out
        cleaned = torch.zeros_like(spectrum[:, turn])
        if start < stop:
            hop = self._config.hop
            level = signal[:, first * hop : (stop + 1) * hop].square().mean(1).sqrt()
            louder = (QUIET / level.clamp(min=1e-9)).clamp(1.0, LOUDEST)[:, None, None]
            mask, memory = self._mask(
                spectrum[:, first:stop] * louder, memory, start - first, self._lead + self._frames - start
            )
            noisy = spectrum[:, start:stop]
            if block.shape[1] > 1:
                mask = linked(mask, noisy, block.shape[1])
            low, high = max(start, turn.start), min(stop, turn.stop)
            if low < high:
                cleaned[:, low - turn.start : high - turn.start] = (noisy * mask)[
                    :, low - start : high - start
                ]
        return self._waveform(cleaned).view_as(block), HeardState(heard, memory)

    def _spectrum(self, signal: Tensor) -> Tensor:
        """Of frames half over each other, `(B, k, bins + 1)`."""
        frames = signal.unfold(1, self._config.window, self._config.hop)
        spectrum: Tensor = torch.fft.rfft(frames * self.taper)
        return spectrum

    def _waveform(self, spectrum: Tensor) -> Tensor:
        """What lies between the middles of the first and of the last frame, `(B, (k - 1) hop)`."""
        frames = torch.fft.irfft(spectrum, n=self._config.window) * self.taper
        hop = self._config.hop
        samples: Tensor = (frames[:, 1:, :hop] + frames[:, :-1, hop:]).flatten(1)
        return samples

    def _mask(self, spectrum: Tensor, memory: Tensor, skip: int, turn: int) -> tuple[Tensor, Tensor]:
        """The complex gain of every bin of all frames but the first `skip`, `(B, k - skip, bins + 1)`.

        Args:
            spectrum: `(B, k, bins + 1)`.
            memory: Of the forward layers, before the first frame that is not skipped.
            skip: Frames that only the encoder looks at.
            turn: Of the others, those after which the memory is given back.
        """
        batch, count, width = spectrum.shape[0], spectrum.shape[1] - skip, self._config.widths[-1]
        x = spectrum[..., : self.bins]
        power = x.real.square() + x.imag.square() + 1e-10
        magnitude = power.pow(0.15)  # |X|^0.3: what was quiet is heard, whatever the level
        compressed = magnitude * power.rsqrt()
        x = torch.stack([magnitude, x.real * compressed, x.imag * compressed], -1)
        x = x.permute(0, 3, 1, 2)  # (B, 3, k, bins), channels last
        across = []
        for conv in self.encoder:
            x = F.leaky_relu(conv(x), SLOPE, inplace=True)  # (B, width, k, half the bins)
            across.append(x[:, :, skip:])
        code = F.relu(self.into(across[-1].permute(0, 2, 3, 1).flatten(2))).float()  # (B, k, code)
        with torch.autocast(code.device.type, enabled=False):  # many small products gain nothing in bfloat16
            past, memory = self._remember(code, memory, turn)
            future = self.after(torch.cat([code, past], -1).flip(1))[0].flip(1)
        x = self.out_of(torch.cat([past, code, future], -1)).view(batch, count, -1, width).permute(0, 3, 1, 2)
        for i, conv in enumerate(self.decoder):
            x = x + across.pop()
            if i == 0:
                for block in self.blocks:
                    x = block(x)
            x = conv(x)  # (B, width, k, double the bins)
            if across:
                x = F.leaky_relu(x, SLOPE, inplace=True)
        x = torch.tanh(x.float())
        x = torch.cat([x, x[..., -1:]], -1)
        return torch.complex(1.2 * x[:, 0], 1.2 * x[:, 1]), memory

    def _remember(self, code: Tensor, memory: Tensor, turn: int) -> tuple[Tensor, Tensor]:
        """What the forward layers know at each frame, and their state after the first `turn`."""
        if turn <= 0:
            return self.memory(code, memory)[0], memory
        now, memory = self.memory(code[:, :turn], memory)
        if turn >= code.shape[1]:
            return now, memory
        later, _ = self.memory(code[:, turn:], memory)
        return torch.cat([now, later], 1), memory


def _sounding(spectrum: Tensor) -> tuple[int, int]:
    """The first frame that is not digital silence, and the one behind the last; (0, 0) where all are."""
    frames = spectrum.abs().amax((0, 2)).nonzero().flatten().tolist()
    return (frames[0], frames[-1] + 1) if frames else (0, 0)


def build(**config: Any) -> SpectralBiGru:
    """A model from the fields of its config."""
    for key in ("widths", "dilations"):
        config[key] = tuple(config.get(key, getattr(SpectralBiGruConfig, key)))
    return SpectralBiGru(SpectralBiGruConfig(**config))
