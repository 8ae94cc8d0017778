"""Another strength of a cleaned file without the model: the input minus a share of what was removed."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path

import numpy as np

from denoise import io
from denoise.arrays import Array
from denoise.errors import UsageError
from denoise.io.atomic import replacing
from denoise.io.formats import record_parts
from denoise.signal import SensorInfo


def remix_file(source: Path, cleaned: Path, destination: Path, strength: float) -> None:
    """Write what cleaning with another strength would give, to within the rounding of the cleaned file.

    Args:
        source: Input.
        cleaned: Its result of strength 1.
        destination: File to write, of the format of `cleaned`.
        strength: In 0..1: 0 gives the input, 1 the result, both byte for byte; but the input of a format
            that is only read is converted.

    Raises:
        UsageError: The strength is out of range.
        InputError: A file cannot be read.
        OutputError: The result cannot be written.
    """
    if not 0 <= strength <= 1:
        raise UsageError(f"the strength is {strength}; expected 0 to 1")
    converts = io.sniff(source).written_suffix != ""
    several = record_parts(source, destination)  # whose names the header holds
    same = not converts and not several and (strength == 0 or filecmp.cmp(source, cleaned, shallow=False))
    if same or (strength == 1 and not several):
        with replacing(destination, source) as partial:
            shutil.copyfile(source if strength == 0 else cleaned, partial)
        return
    modality = io.modality(source).name
    options = {"only_measurements": True} if modality == "sensor" else {}
    info = io.probe(source, **options)
    recordings = 1 if modality == "image" else info.pages  # a reader yields all pages of an image
    with io.writer(destination, info) as sink:
        for recording in range(recordings):
            reading = {**options, **({"recording": recording} if recording else {})}
            result = {"columns": info.columns} if converts and isinstance(info, SensorInfo) else reading
            with io.reader(source, **reading) as before, io.reader(cleaned, **result) as after:
                for noisy, clean in zip(before, after, strict=True):
                    sink.write(_mix(noisy, clean, strength))


def _mix(noisy: Array, clean: Array, strength: float) -> Array:
    mixed = noisy + strength * (clean.astype(np.float64) - noisy)
    if np.issubdtype(noisy.dtype, np.integer):
        limits = np.iinfo(noisy.dtype)
        mixed = np.rint(mixed).clip(limits.min, limits.max)
    return mixed.astype(noisy.dtype)
