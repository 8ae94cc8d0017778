"""Switch between models within a recording, in one pass: each passage gets the model for its kind."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from itertools import zip_longest

import numpy as np
from numpy.typing import ArrayLike

from denoise.arrays import Array, with_gaps
from denoise.infer.select_audio import (
    LOOK_AHEAD_STEPS,
    OTHER,
    SILENCE,
    SPEECH,
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
from denoise.models.table import AUTO, PICKS

_FADE_S = 0.5
_CONTEXT_S = 6.0  # read before and after a passage: more than the models look back and ahead
# The same of speech: what a model removes of other sounds would count as the noise of the voice.
_SPEECH_CONTEXT_S = 0.5


class AudioSelector(Selector):
    """Models for the kinds of passages of a recording.

    Args:
        models: By kind: `SPEECH`, `MUSIC` and `OTHER` of `denoise.infer.select_audio`.
        names: Of the model for speech, and of that for everything else.
    """

    spec = InputSpec("audio", halo=None, sample_rate=48_000.0, joint_channels=True)

    def __init__(self, models: Mapping[str, Denoiser], names: tuple[str, ...]) -> None:
        super().__init__(models)
        self._denoisers, self._names = dict(models), names

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
        return SwitchedStream(
            self._denoisers, channels, sample_rate, strength, zero, full, block, names=self._names
        )


class SwitchedStream:
    """Cleans a recording in blocks, each passage by the model for its kind, with crossfades between them.

    A model runs only on its passages and some seconds around them. The result does not depend on the blocks.

    Args:
        channels: Number of channels. Groups of them are decided on by themselves, and so are the channels of
            a group that are not one scene.
    """

    notes: tuple[str, ...] = ()

    def __init__(
        self,
        models: Mapping[str, Denoiser],
        channels: int,
        sample_rate: float,
        strength: float = 1.0,
        zero: float = 0.0,
        full: float = 1.0,
        block: int = DEFAULT_BLOCK,
        *,
        names: tuple[str, ...] = PICKS[AUTO]["audio"],
    ) -> None:
        self._rows = channel_groups(channels)
        self._groups = [
            _Group(models, names, rows.stop - rows.start, sample_rate, strength, zero, full, block)
            for rows in self._rows
        ]
        self._ready = [SampleQueue(rows.stop - rows.start) for rows in self._rows]
        self._samples = 0

    @property
    def diagnostics(self) -> Mapping[str, float]:
        """Mean of each figure of the models over their passages."""
        found = [figures for group in self._groups for figures in group.diagnostics()]
        names = dict.fromkeys(name for figures in found for name in figures)
        return {name: float(np.mean([f[name] for f in found if name in f])) for name in names}

    @property
    def selection(self) -> AudioSelection:
        """Selection of all that was cleaned so far."""
        passages, channels = list[list[Passage]](), list[slice]()
        for rows, group in zip(self._rows, self._groups, strict=True):
            found = group.passages()
            if all(other == found[0] for other in found):
                passages.append(found[0])
                channels.append(rows)
            else:
                passages += found
                channels += [slice(channel, channel + 1) for channel in range(rows.start, rows.stop)]
        return describe(passages, channels)

    def feed(self, block: ArrayLike, _stamps_s: object = None, *, last: bool = False) -> Array:
        """Take the next samples `(C, n)`, and return the finished ones.

        Raises:
            InputError: A sample is not a finite number.
        """
        block = with_gaps(block)
        check_finite(block, self._samples)
        self._samples += block.shape[1]
        for rows, group, ready in zip(self._rows, self._groups, self._ready, strict=True):
            ready.append(group.feed(block[rows], last))
        size = min(ready.size for ready in self._ready)
        return np.concatenate([ready.take(size) for ready in self._ready])


class _Group:
    """Channels that may be one scene."""

    def __init__(
        self,
        models: Mapping[str, Denoiser],
        names: tuple[str, ...],
        channels: int,
        sample_rate: float,
        strength: float,
        zero: float,
        full: float,
        block: int,
    ) -> None:
        self._models, self._names = models, names
        self._channels, self._rate = channels, sample_rate
        self._strength, self._zero, self._full, self._block = strength, zero, full, block
        self._step, self._context = round(STEP_S * sample_rate), round(_CONTEXT_S * sample_rate)
        self._speech_context = round(_SPEECH_CONTEXT_S * sample_rate)
        self._half_fade = round(_FADE_S * sample_rate / 2)
        self._tracker = KindTracker(sample_rate, channels)
        self._held = np.empty((channels, 0), np.float32)  # input from `_origin` on
        self._origin = self._end = 0  # samples
        self._decided = self._emitted = 0
        self._kinds: list[
            tuple[tuple[str, ...], int]
        ] = []  # of each channel in passages, and where they begin
        self._runs: list[_Run] = []
        self._past: list[Mapping[str, float]] = []  # diagnostics of the runs that ended, whose models may go

    def diagnostics(self) -> list[Mapping[str, float]]:
        """Return the figures of the models of all runs so far."""
        return [*self._past, *(figures for run in self._runs for figures in run.diagnostics())]

    def passages(self) -> list[list[Passage]]:
        """Return the passages of each channel so far, without silence before the first sound."""
        end, found = self._decided / self._rate, []
        for channel in range(self._channels):
            kinds = [(kinds[channel], start / self._rate) for kinds, start in self._kinds]
            kinds = [
                kind
                for kind, last in zip(kinds, [None, *kinds], strict=False)
                if not last or kind[0] != last[0]
            ]
            stops = [*(start for _, start in kinds[1:]), end]
            row = [
                Passage(kind, start, stop, self._names[kind != SPEECH])
                for (kind, start), stop in zip(kinds, stops, strict=True)
            ]
            found.append(row[1:] if len(row) > 1 and row[0].kind == SILENCE else row)
        return found

    def feed(self, block: Array, last: bool) -> Array:
        """Take the next samples, and return the finished ones."""
        block = block.astype(np.float32 if block.dtype == np.float32 else np.float64)
        self._held = np.concatenate([self._held, block], axis=1, dtype=block.dtype)
        self._end += block.shape[1]
        for kinds in self._tracker.feed((block - self._zero) / self._full, last):
            self._extend(kinds)
        self._decided = min(self._decided, self._end)
        for run in self._runs:
            stop = min(self._end, run.stop + run.context)
            run.feed(self._held[:, run.fed - self._origin : stop - self._origin], last or stop < self._end)
        done = self._emit(last)
        ended = [run for run in self._runs if run.stop <= self._emitted]
        if ended:
            self._past += [figures for run in ended for figures in run.diagnostics()]
            self._runs = [run for run in self._runs if run.stop > self._emitted]
        needed = [run.fed for run in self._runs]
        keep = max(self._origin, min([self._decided - self._half_fade - self._context, *needed]))
        self._held, self._origin = self._held[:, keep - self._origin :].copy(), keep
        return done

    def _extend(self, kinds: tuple[str, ...]) -> None:
        """Add a step; a channel that is silent in it has the kind of before, or that of another channel."""
        start = self._decided
        self._decided += self._step
        before = self._kinds[-1][0] if self._kinds else (SILENCE,) * self._channels
        heard = [*(kind for kind in kinds if kind != SILENCE), SILENCE][0]
        kinds = tuple(
            kind if kind != SILENCE else last if last != SILENCE else heard
            for kind, last in zip(kinds, before, strict=True)
        )
        if self._kinds and kinds == before:
            return
        self._kinds.append((kinds, start))
        models = [self._models[OTHER if kind == SILENCE else kind] for kind in kinds]
        if self._runs and self._runs[-1].models == models:
            return
        speech = all(model is self._models[SPEECH] for model in models)
        context = self._speech_context if speech else self._context
        begin = max(0, start - self._half_fade - context)
        levels = Levels(self._channels)
        levels.update(
            self._held[:, begin - self._origin :][:, : start + LOOK_AHEAD_STEPS * self._step - begin]
        )
        joint = all(model is models[0] for model in models)
        streams = []
        for rows in [slice(0, self._channels)] if joint else [slice(c, c + 1) for c in range(self._channels)]:
            model = models[rows.start]
            offset, _ = levels.offset_and_scale(model.spec, self._zero, self._full)
            size = rows.stop - rows.start
            streams.append(
                Stream(model, size, self._rate, self._strength, None, offset[rows], self._full, self._block)
            )
        if self._runs:
            self._runs[-1].stop = start + self._half_fade
        self._runs.append(_Run(models, streams, begin, start - self._half_fade if start else 0, context))

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
    """Models that run on one passage and its context.

    Args:
        models: Of each channel.
        streams: One for all channels, or one for each.
        begin: First sample that it reads.
        start: First sample of its output that counts.
        context: Samples that it reads after the last one that counts.
    """

    def __init__(
        self, models: list[Denoiser], streams: list[Stream], begin: int, start: int, context: int
    ) -> None:
        self.models, self._streams, self.fed, self.start = models, streams, begin, start
        self.context = context
        self.stop = sys.maxsize  # of the output that counts
        self._out = [SampleQueue(len(models) // len(streams)) for _ in streams]
        self._at = begin  # first sample in `_out`
        self._closed = False

    @property
    def ready(self) -> int:
        """First sample without output that counts."""
        return max(self.start, self._at + min(out.size for out in self._out))

    def diagnostics(self) -> list[Mapping[str, float]]:
        """Return the figures of each model."""
        return [stream.model.diagnostics() for stream in self._streams]

    def feed(self, block: Array, last: bool) -> None:
        """Take the next samples."""
        if not self._closed:
            self.fed += block.shape[1]
            for rows, stream, out in zip(
                np.split(block, len(self._streams)), self._streams, self._out, strict=True
            ):
                out.append(stream.feed(rows, last=last))
            self._closed = last

    def take(self, first: int, end: int) -> Array:
        """Return output, and forget what is before it."""
        for out in self._out:
            out.take(first - self._at)
        self._at = end
        return np.concatenate([out.take(end - first) for out in self._out])
