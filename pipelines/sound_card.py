"""Clean sound on its way from an input to an output device of this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from denoise.arrays import Floats
from denoise.errors import UsageError
from denoise.models.table import LIVE_MODEL
from denoise.options import Option, Options

if TYPE_CHECKING:
    from denoise.infer.stream import Stream


_EVERY_S = 0.25  # between two readings of the status
_MAX_LATE_S = 1.0
_SILENCE = 1e-6  # -120 dBFS


@dataclass(frozen=True, kw_only=True)
class ListenJob(Options):
    """Clean what a microphone hears."""

    source: Annotated[
        str | None,
        Option("Input: number or part of a name.", metavar="DEVICE", unset="the system's", flag="--input"),
    ] = None
    sink: Annotated[
        str | None,
        Option("Output, such as a virtual cable.", metavar="DEVICE", unset="the system's", flag="--output"),
    ] = None
    model: Annotated[str, Option("A model that works live.", metavar="NAME|FILE")] = LIVE_MODEL
    strength: Annotated[float, Option("1 removes the noise, 0 returns the input.", low=0, high=1)] = 1.0
    block_ms: Annotated[
        float,
        Option("Block: longer ones are later, shorter ones need a faster machine.", "ms", low=2, high=500),
    ] = 20.0


@dataclass(frozen=True)
class LiveStatus:
    """Readings since the last status."""

    input_dbfs: float  # level of the input
    output_dbfs: float  # level of the output
    latency_ms: float  # delay from the input to the output: both devices, the block and the model
    load: float  # maximum share of a block's duration that its cleaning took; above 1 the sound breaks
    overruns: int  # blocks so far that the devices lost or repeated

    def __str__(self) -> str:
        levels = f"in {self.input_dbfs:6.1f} dBFS, out {self.output_dbfs:6.1f} dBFS"
        return f"{levels}, {self.latency_ms:.0f} ms late, load {self.load:4.0%}, {self.overruns} overruns"


class Passage:
    """Callback of a device: takes a block of the input, and gives as much of the cleaned sound.

    Args:
        stream: Cleans one channel.
        sample_rate: Hz.
    """

    def __init__(self, stream: Stream, sample_rate: float) -> None:
        self._stream, self._rate = stream, sample_rate
        # As much silence first as the model is late, so that every block can be filled.
        self._ready = np.zeros((1, stream.latency_samples or 0), np.float32)
        self._overruns = 0
        self._start()

    def _start(self) -> None:
        self._squares, self._samples, self._load = np.zeros(2), 0, 0.0

    def __call__(self, taken: Floats, given: Floats, frames: int, _time: Any, status: Any) -> None:
        started = time.perf_counter()
        self._overruns += bool(status)
        block = taken[:, :1].T
        self._ready = np.concatenate([self._ready, self._stream.feed(block)], axis=1)
        given[:] = self._ready[:, :frames].T
        self._ready = self._ready[:, frames:]
        self._squares += [float(np.square(block).sum()), float(np.square(given[:, 0]).sum())]
        self._samples += frames
        self._load = max(self._load, (time.perf_counter() - started) * self._rate / frames)

    def status(self, devices_s: float) -> LiveStatus:
        """Return the readings since the last call, given the delay of the devices."""
        power = self._squares / max(1, self._samples)
        levels = 20 * np.log10(np.maximum(np.sqrt(power), _SILENCE))
        late_s = devices_s + (self._stream.latency_samples or 0) / self._rate
        found = LiveStatus(float(levels[0]), float(levels[1]), 1000 * late_s, self._load, self._overruns)
        self._start()
        return found


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError as error:
        raise UsageError(
            "denoise live needs sounddevice: install it with pip install 'denoise-pipelines[live]'"
        ) from error
    except OSError as error:
        raise UsageError("denoise live needs PortAudio: install it (Debian: libportaudio2)") from error
    return sounddevice


def device_list() -> str:
    """List the devices of this machine, with their numbers."""
    return str(_sounddevice().query_devices())


def listen(job: ListenJob, on_status: Callable[[LiveStatus], None]) -> None:
    """Clean the input device into the output device until Ctrl-C.

    Args:
        job: Devices and model.
        on_status: Receives the readings four times a second.

    Raises:
        UsageError: The model needs the whole recording, or a device cannot be opened.
    """
    sounddevice = _sounddevice()
    from denoise.infer.catalogue import load
    from denoise.infer.stream import Stream

    cleaner = load(job.model, "audio")
    devices = [_device(name) for name in (job.source, job.sink)]
    try:
        sink = sounddevice.query_devices(devices[1], "output")
        rate = sink["default_samplerate"]
        stream = Stream(cleaner, 1, rate, job.strength)
        if stream.latency_samples is None or stream.latency_samples > _MAX_LATE_S * rate:
            raise UsageError(
                f"the model {cleaner.name} is more than {_MAX_LATE_S:g} s late; use {LIVE_MODEL} live"
            )
        passage = Passage(stream, rate)
        with (
            suppress(KeyboardInterrupt),
            sounddevice.Stream(
                samplerate=rate,
                blocksize=round(job.block_ms * rate / 1000),
                device=devices,
                channels=(1, min(2, sink["max_output_channels"])),
                dtype="float32",
                callback=passage,
            ) as opened,
        ):
            while opened.active:
                time.sleep(_EVERY_S)
                on_status(passage.status(sum(opened.latency)))
    except (sounddevice.PortAudioError, ValueError) as error:
        raise UsageError(f"the devices cannot be opened: {error}; see denoise live --devices") from error


def _device(name: str | None) -> str | int | None:
    return int(name) if name and name.isdecimal() else name
