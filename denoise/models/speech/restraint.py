"""Restraint on good voices: no more is removed than there is noise in pauses."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_WINDOW, _HOP = 512, 256  # samples
HALF_TAPS = 256  # of the filter of what is removed
_EDGES_HZ = (80, 250, 500, 1000, 1500, 2000, 3000, 4000, 5500)  # of the bands; rumble is below the first
_PAUSE_DB = 35.0  # what is so far below the loud frames is a pause
_LOUD = 0.95  # quantile of the levels of frames that is loud
_MIN_PAUSES, _MIN_SHARE = 8, 0.08  # frames, and share of them, that count as pauses at least
_FORGETTING = 0.5  # weight of the parts before
# Fades, in dB.
_GOOD_DB = (30.0, 37.0)  # a voice so far above its noise is left as it is
_RUMBLE_DB = (16.5, 18.0)  # all this is for voices so far above noise and rumble
_ROOM_DB = (22.0, 29.0)  # rumble is the room of a voice so far above its other noise, and stays


@dataclass(frozen=True)
class RestraintState:
    """State between parts of a recording."""

    powers: Tensor  # sums over frames of the bands of noise in pauses, removed and voice, `(3, B, bands)`
    counts: Tensor  # frames in these sums, `(3, B, 1)`
    loud_db: Tensor  # level of loud frames, `(B,)`
    shares: Tensor  # of what is to be removed in each band, `(B, bands)`; below 0 before the first part
    removed: Tensor  # last samples of what a model would remove, `(B, C, 2 * HALF_TAPS)`


class Restraint:
    """Limits what a model removes from a voice that stands far above its noise.

    A model's error is a share of the voice, so below some noise it does more harm than good. What it removes
    is noise minus its error. If these are independent, the share that is best by least squares is the
    ratio of the energies of the noise and of what is removed, in each band. The noise is that in pauses:
    what is louder under the voice (a keyboard) stays in part. Shares follow parts of a recording.

    Args:
        sample_rate: Hz.
    """

    def __init__(self, sample_rate: float) -> None:
        hz = torch.arange(_WINDOW // 2 + 1, device="cpu") * (sample_rate / _WINDOW)
        self._wanted = self._kept = 0.0  # energy that a model would remove, and that it may
        self._voice_db: list[float] = []  # above the noise of pauses, of each part with a voice
        self._band = torch.bucketize(hz, torch.tensor(_EDGES_HZ, device="cpu"), right=True)

    def diagnostics(self) -> dict[str, float]:
        """Return the level of the voice above its noise, and the share of the correction that is left out."""
        if not self._voice_db:
            return {}
        share = 1 - math.sqrt(self._kept / self._wanted) if self._wanted else 0.0
        return {
            "voice_snr_db": sum(self._voice_db) / len(self._voice_db),
            "restrained_share": max(0.0, share),
        }

    def initial_state(self, like: Tensor, batch: int, channels: int) -> RestraintState:
        """Return the state before the first part."""
        bands = len(_EDGES_HZ) + 1
        return RestraintState(
            like.new_zeros(3, batch, bands),
            like.new_zeros(3, batch, 1),
            like.new_full((batch,), -300.0),
            like.new_full((batch, bands), -1.0),
            like.new_zeros(batch, channels, 2 * HALF_TAPS),
        )

    def __call__(
        self, noisy: Tensor, cleaned: Tensor, state: RestraintState
    ) -> tuple[Tensor, RestraintState]:
        """Return what to remove, `HALF_TAPS` samples late, and the state after the part.

        Shape:
            `(B, C, n)` each.
        """
        removed = torch.cat([state.removed, noisy - cleaned], -1)
        powers, counts, loud_db = self._measure(noisy, cleaned, state)
        shares = torch.where(
            (counts[0] > 0) & (counts[2] > 0), _shares(powers / counts.clamp(min=1)), state.shares.abs()
        ).to(noisy)
        before = torch.where(state.shares < 0, shares, state.shares)
        late = removed[..., HALF_TAPS:-HALF_TAPS]
        if not bool((shares == before).all()):
            ramp = torch.linspace(0, 1, late.shape[-1], device=late.device)
            kept = torch.lerp(self._filter(removed, before), self._filter(removed, shares), ramp)
        elif bool((shares == shares[:, :1]).all()):
            kept = late * shares[:, :1, None]
        else:
            kept = self._filter(removed, shares)
        self._wanted += float(late.square().sum())
        self._kept += float(kept.square().sum())
        if bool(counts[0].any()):
            self._voice_db.append(float(_above_db(powers / counts.clamp(min=1)).mean()))
        return kept, RestraintState(powers, counts, loud_db, shares, removed[..., -2 * HALF_TAPS :])

    def _measure(
        self, noisy: Tensor, cleaned: Tensor, state: RestraintState
    ) -> tuple[Tensor, Tensor, Tensor]:
        spectra = [_spectrum(x) for x in (noisy, cleaned)]
        bins = [x.real.square() + x.imag.square() for x in (spectra[0], spectra[0] - spectra[1], spectra[1])]
        bands = [(x.sum(1) @ F.one_hot(self._band).to(x)).double() for x in bins]  # (B, frames, bands)
        sounding = bands[0].sum(-1) > 1e-12  # digital silence tells nothing
        level_db = 10 * torch.log10(bands[2][..., 1:].sum(-1) + 1e-20)
        level_db = torch.where(sounding, level_db, torch.nan)
        loud_db = torch.nanquantile(level_db, _LOUD, 1).nan_to_num(-300.0).maximum(state.loud_db - 3)
        fewest = (_MIN_SHARE * sounding.sum(1)).clamp(min=_MIN_PAUSES)
        rank = level_db.nan_to_num(torch.inf).argsort(1).argsort(1)
        pause = sounding & (level_db < loud_db[:, None] - _PAUSE_DB)
        pause = torch.where((pause.sum(1) < _MIN_PAUSES)[:, None], sounding & (rank < fewest[:, None]), pause)
        masks = torch.stack([pause, sounding, sounding])[..., None]
        powers = _FORGETTING * state.powers + (torch.stack(bands) * masks).sum(2)
        return powers, _FORGETTING * state.counts + masks.sum(2), loud_db

    def _filter(self, removed: Tensor, shares: Tensor) -> Tensor:
        """Return the share of each band without delay, from `HALF_TAPS` samples after the first on."""
        taps = torch.fft.irfft(shares[:, self._band]).roll(HALF_TAPS, -1) * _window(shares.device).square()
        size = removed.shape[-1]
        product = torch.fft.rfft(removed) * torch.fft.rfft(taps, size)[:, None]
        kept = torch.fft.irfft(product, size)[..., 2 * HALF_TAPS :]  # what wraps around is before
        blocks = F.pad(removed, (0, -size % HALF_TAPS)).unfold(-1, HALF_TAPS, HALF_TAPS).any(-1)
        sounding = (blocks[..., :-2] | blocks[..., 1:-1] | blocks[..., 2:]).repeat_interleave(HALF_TAPS, -1)
        return kept * sounding[..., : kept.shape[-1]]  # digital silence stays silent


def _spectrum(signal: Tensor) -> Tensor:
    """Return the spectra of half-overlapping frames, `(B, C, frames, bins)`."""
    return torch.fft.rfft(signal.unfold(-1, _WINDOW, _HOP) * _window(signal.device))


@functools.cache
def _window(device: torch.device) -> Tensor:
    return torch.hann_window(_WINDOW, device=device).sqrt()


def _above_db(means: Tensor) -> Tensor:
    """Return the level of a voice above its noise without rumble, `(B, 1)`."""
    noise, _, voice = means[..., 1:].sum(-1, keepdim=True) + 1e-20
    return 10 * torch.log10(voice / noise)


def _shares(means: Tensor) -> Tensor:
    """Return the share to remove of each band, `(B, bands)`, from the mean powers of `RestraintState`."""
    noise, removed, voice = means + 1e-20
    above_all = 10 * torch.log10(voice[:, 1:].sum(1, keepdim=True) / noise.sum(1, keepdim=True))
    above = _above_db(means)
    shares = (noise / removed).clamp(max=1) * _fade(above, _GOOD_DB)
    shares[:, :1] = _fade(above, _ROOM_DB)
    return shares.maximum(_fade(above_all, _RUMBLE_DB))


def _fade(value_db: Tensor, ends_db: tuple[float, float]) -> Tensor:
    """Return 1 up to the first of two levels, 0 from the second on, and a line between."""
    low, high = ends_db
    return ((high - value_db) / (high - low)).clamp(0, 1)
