"""Clean what comes in through a pipe and send it on: nothing is kept, nothing waits for the end."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import BinaryIO

from denoise.errors import InputError, OutputError, UnreadableError, UsageError, reason
from denoise.io.audio.pipe import PipeFormat
from denoise.models import LIVE_MODEL

__all__ = ["Live", "Passed"]


@dataclass(frozen=True)
class Passed:
    """What went through.

    Args:
        model: The name of the model.
        samples: Of each channel.
        sample_rate: Hz.
        latency_samples: The most that output lagged input; None where all of it came at the end.
        clipped: Values that did not fit the format.
        broken: Whether the reader of the output went away before the end.
    """

    model: str
    samples: int
    sample_rate: int
    latency_samples: int | None
    clipped: int
    broken: bool


@dataclass(frozen=True, kw_only=True)
class Live:
    """Sound to clean while it comes.

    Args:
        model: Name or weights file; None takes `LIVE_MODEL`.
        strength: 1 is fully cleaned, 0 is the input.
        max_attenuation: No part is turned down by more, in dB; None sets no limit.
        headless: What the bytes mean; None expects a WAV.
    """

    model: str | None = None
    strength: float = 1.0
    max_attenuation: float | None = None
    headless: PipeFormat | None = None

    def run(self, source: BinaryIO, sink: BinaryIO) -> Passed:
        """Clean `source` into `sink` until it ends.

        Raises:
            InputError: The source cannot be understood; what came before that is written.
            OutputError: The sink takes no more, for another reason than that its reader went away.
        """
        from denoise.infer import load
        from denoise.infer.stream import Stream, limited
        from denoise.io.audio.pipe import PipeReader, PipeWriter

        cleaner = load(self.model or LIVE_MODEL, "audio")
        if cleaner.spec.centre or cleaner.spec.scale:
            raise UsageError(f"the model {cleaner.name} needs to hear everything first; it cannot work live")
        strength = limited(self.strength, self.max_attenuation)
        reader = PipeReader(source, self.headless)
        layout = reader.format
        stream = Stream(cleaner, layout.channels, layout.sample_rate, strength)
        samples, broken, writer = 0, False, None
        try:
            writer = PipeWriter(sink, layout)
            for block in reader:
                samples += block.shape[1]
                writer.write(stream.feed(block))
            writer.write(stream.flush())
        except UnreadableError:
            if writer:
                writer.write(stream.flush())
            raise
        except InputError as error:  # the stream's own, which knows of no file
            raise InputError(f"standard input: {error}") from error
        except BrokenPipeError:
            broken = True
            _forget(sink)
        except OSError as error:
            raise OutputError(f"standard output: cannot be written ({reason(error)})") from error
        clipped = writer.clipped if writer else 0
        return Passed(cleaner.name, samples, layout.sample_rate, stream.latency_samples, clipped, broken)


def _forget(sink: BinaryIO) -> None:
    """Let what is still buffered go nowhere, or the interpreter would complain of it at its end."""
    try:
        descriptor = sink.fileno()
    except OSError:  # a buffer in memory has none
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
