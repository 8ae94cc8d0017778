"""Clean a recording from one pipe into another as it comes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import BinaryIO

from denoise.errors import InputError, OutputError, UnreadableError, UsageError, reason
from denoise.io.audio.pipe import PipeFormat
from denoise.models.table import LIVE_MODEL
from denoise.options import CleanOptions

LIVE_OPTIONS = (
    "model",
    "fast",
    "strength",
    "max_attenuation_db",
    "purpose",
)  # fields of CleanOptions that a stream takes


@dataclass(frozen=True)
class LiveReport:
    """Result of cleaning a stream."""

    model: str
    samples: int  # samples of each channel
    sample_rate: int  # Hz
    latency_samples: int | None  # maximum lag of the output; None where all of it comes at the end
    clipped: int  # values outside the range of the format
    broken: bool  # the reader of the output closed it early


def clean_stream(
    source: BinaryIO, sink: BinaryIO, options: CleanOptions, headless: PipeFormat | None = None
) -> LiveReport:
    """Clean `source` into `sink` until it ends; only the latency of the model is kept in memory.

    Args:
        source: WAV, or headerless PCM.
        sink: Receives the same format.
        options: How to clean, of which `LIVE_OPTIONS` count; the default model is `LIVE_MODEL`.
        headless: Format of headerless PCM; None expects a WAV.

    Raises:
        InputError: The source cannot be read; everything before that is written.
        OutputError: The sink cannot be written, for another reason than that its reader closed it.
    """
    from denoise.infer.catalogue import load
    from denoise.infer.stream import Stream
    from denoise.io.audio.pipe import PipeReader, PipeWriter

    cleaner = load(options.model or LIVE_MODEL, "audio")
    if cleaner.spec.centre or cleaner.spec.scale:
        raise UsageError(f"the model {cleaner.name} needs the whole recording first; it cannot work live")
    reader = PipeReader(source, headless)
    layout = reader.format
    stream = Stream(cleaner, layout.channels, layout.sample_rate, options.bounded_strength)
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
    except InputError as error:  # of the stream, which has no file name
        raise InputError(f"standard input: {error}") from error
    except BrokenPipeError:
        broken = True
        _redirect_to_null(sink)
    except OSError as error:
        raise OutputError(f"standard output: cannot be written ({reason(error)})") from error
    clipped = writer.clipped if writer else 0
    return LiveReport(cleaner.name, samples, layout.sample_rate, stream.latency_samples, clipped, broken)


def _redirect_to_null(sink: BinaryIO) -> None:
    """Send what is still buffered to the null device, or the interpreter complains at its end."""
    try:
        descriptor = sink.fileno()
    except OSError:  # a buffer in memory has none
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
