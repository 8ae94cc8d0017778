"""Switch between models within a recording, in one pass: each passage gets the model for its kind."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from itertools import zip_longest
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from denoise.arrays import Array
from denoise.infer.select_audio import (
    LOOK_AHEAD_STEPS,
    OTHER,
    SILENCE,
    STEP_S,
    AudioSelection,
    KindTracker,
    Passage,
    channel_groups,
    describe,
)
from denoise.infer.selection import Selector
from denoise.infer.stages import DEFAULT_BLOCK, SampleQueue
from denoise.infer.stream import Levels, Stream, check_finite
from denoise.models.base import Denoiser, InputSpec

_FADE_S = 0.5
_CONTEXT_S = 6.0  # read before and after a passage: more than the models look back and ahead


class AudioSelector(Selector):
    """Models for the kinds of passages of a recording.

    Args:
        models: By kind: `SPEECH`, `MUSIC` and `OTHER` of `denoise.infer.select_audio`.
    """

    spec = InputSpec("audio", halo=None, sample_rate=48_000.0, joint_channels=True)

    def stream(
        self,
        channels: int,
        sample_rate: float,
        strength: float = 1.0,
        zero: float = 0.0,
        full: float = 1.0,
        block: int = DEFAULT_BLOCK,
    ) -> SwitchedStream:
        """Return a stream for one recording; arguments as for `SwitchedStream`."""
        return SwitchedStream(self.models, channels, sample_rate, strength, zero, full, block)


class SwitchedStream:
    """Cleans a recording in blocks, each passage by the model for its kind, with crossfades between them.

    A model runs only on its passages and some seconds around them. The result does not depend on the blocks.

    Args:
        channels: Number of channels; groups of them are decided on by themselves.
    """

    notes: tuple[str, ...] = ()
    diagnostics: Mapping[str, float] = MappingProxyType({})

    def __init__(
        self,
        models: Mapping[str, Denoiser],
        channels: int,
        sample_rate: float,
        strength: float = 1.0,
        zero: float = 0.0,
        full: float = 1.0,
        block: int = DEFAULT_BLOCK,
    ) -> None:
        self._rows = channel_groups(channels)
        self._groups = [
            _Group(models, rows.stop - rows.start, sample_rate, strength, zero, full, block)
            for rows in self._rows
        ]
        self._ready = [SampleQueue(rows.stop - rows.start) for rows in self._rows]
        self._samples = 0

    @property
    def selection(self) -> AudioSelection:
        """Selection of all that was cleaned so far."""
        return describe([group.passages() for group in self._groups], self._rows)

    def feed(self, block: ArrayLike, _stamps_s: object = None, *, last: bool = False) -> Array:
        """Take the next samples `(C, n)`, and return the finished ones.

        Raises:
            InputError: A sample is not a finite number.
        """
        block = np.asarray(block)
        check_finite(block, self._samples)
        self._samples += block.shape[1]
        for rows, group, ready in zip(self._rows, self._groups, self._ready, strict=True):
            ready.append(group.feed(block[rows], last))
        size = min(ready.size for ready in self._ready)
        return np.concatenate([ready.take(size) for ready in self._ready])


class _Group:
    """Channels of one decision."""

    def __init__(
        self,
        models: Mapping[str, Denoiser],
        channels: int,
        sample_rate: float,
        strength: float,
        zero: float,
        full: float,
        block: int,
    ) -> None:
        self._models, self._channels, self._rate = models, channels, sample_rate
        self._strength, self._zero, self._full, self._block = strength, zero, full, block
        self._step, self._context = round(STEP_S * sample_rate), round(_CONTEXT_S * sample_rate)
        self._half_fade = round(_FADE_S * sample_rate / 2)
        self._tracker = KindTracker(sample_rate)
        self._held = np.empty((channels, 0), np.float32)  # input from `_origin` on
        self._origin = self._end = 0  # samples
        self._decided = self._emitted = 0
        self._kinds: list[tuple[str, int]] = []  # of passages, and where they begin
        self._runs: list[_Run] = []

    def passages(self) -> list[Passage]:
        """Return the passages so far, without silence before the first sound."""
        starts = [start / self._rate for _, start in self._kinds]
        stops = [*starts[1:], self._decided / self._rate]
        found = [
            Passage(kind, start, stop)
            for (kind, _), start, stop in zip(self._kinds, starts, stops, strict=True)
        ]
        return found[1:] if len(found) > 1 and found[0].kind == SILENCE else found

    def feed(self, block: Array, last: bool) -> Array:
        """Take the next samples, and return the finished ones."""
        block = block.astype(np.float32 if block.dtype == np.float32 else np.float64)
        self._held = np.concatenate([self._held, block], axis=1, dtype=block.dtype)
        self._end += block.shape[1]
        mono = (block.mean(0) - self._zero) / self._full
        for kind in self._tracker.feed(mono, last):
            self._extend(kind)
        self._decided = min(self._decided, self._end)
        for run in self._runs:
            stop = min(self._end, run.stop + self._context)
            run.feed(self._held[:, run.fed - self._origin : stop - self._origin], last or stop < self._end)
        done = self._emit(last)
        self._runs = [run for run in self._runs if run.stop > self._emitted]
        needed = [run.fed for run in self._runs]
        keep = max(self._origin, min([self._decided - self._half_fade - self._context, *needed]))
        self._held, self._origin = self._held[:, keep - self._origin :].copy(), keep
        return done

    def _extend(self, kind: str) -> None:
        """Add a step; one that is silent belongs to the passage before it."""
        start = self._decided
        self._decided += self._step
        if self._kinds and kind in (SILENCE, self._kinds[-1][0]):
            return
        self._kinds.append((kind, start))
        model = self._models[OTHER if kind == SILENCE else kind]
        if self._runs and self._runs[-1].model is model:
            return
        begin = max(0, start - self._half_fade - self._context)
        levels = Levels(self._channels)
        levels.update(
            self._held[:, begin - self._origin :][:, : start + LOOK_AHEAD_STEPS * self._step - begin]
        )
        offset, _ = levels.offset_and_scale(model.spec, self._zero, self._full)
        stream = Stream(
            model, self._channels, self._rate, self._strength, None, offset, self._full, self._block
        )
        if self._runs:
            self._runs[-1].stop = start + self._half_fade
        self._runs.append(_Run(model, stream, self._channels, begin, start - self._half_fade if start else 0))

    def _emit(self, last: bool) -> Array:
        """Return the next samples that no later decision changes."""
        limit = self._end if last else self._decided - self._half_fade
        stop = min([limit, *(run.ready for run in self._runs if run.ready < run.stop)])
        stop = max(stop, self._emitted)
        mixed = np.zeros((self._channels, stop - self._emitted), self._held.dtype)
        for run, following in zip_longest(self._runs, self._runs[1:]):
            first, end = max(run.start, self._emitted), min(run.stop, stop)
            if first >= end:
                continue
            part = run.take(first, end)
            if run.start:
                part = part * self._rise(run.start, first, end)
            if following:
                part = part * (1 - self._rise(following.start, first, end))
            mixed[:, first - self._emitted : end - self._emitted] += part
        self._emitted = stop
        return mixed

    def _rise(self, start: int, first: int, end: int) -> Array:
        """Return the weight of a run that fades in at `start`, for the samples from `first` to `end`."""
        return ((np.arange(first, end) - start + 0.5) / (2 * self._half_fade)).clip(0, 1)


class _Run:
    """Model that runs on one passage and its context.

    Args:
        begin: First sample that it reads.
        start: First sample of its output that counts.
    """

    def __init__(self, model: Denoiser, stream: Stream, channels: int, begin: int, start: int) -> None:
        self.model, self._stream, self.fed, self.start = model, stream, begin, start
        self.stop = sys.maxsize  # of the output that counts
        self._out = SampleQueue(channels)
        self._at = begin  # first sample in `_out`
        self._closed = False

    @property
    def ready(self) -> int:
        """First sample without output that counts."""
        return max(self.start, self._at + self._out.size)

    def feed(self, block: Array, last: bool) -> None:
        """Take the next samples."""
        if not self._closed:
            self.fed += block.shape[1]
            self._out.append(self._stream.feed(block, last=last))
            self._closed = last

    def take(self, first: int, end: int) -> Array:
        """Return output, and forget what is before it."""
        self._out.take(first - self._at)
        self._at = end
        return self._out.take(end - first)
