"""Noise profiles: noise alone, from a recording or a passage of the input."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from denoise.arrays import Array, Floats
from denoise.errors import InputError, UsageError

if TYPE_CHECKING:
    from denoise.infer.cleaner import Cleaner

_MAX_PROFILE_S = 30.0  # of a profile: more does not improve it
_SPAN = re.compile(r"(\d+\.?\d*|\.\d+):(\d+\.?\d*|\.\d+)")


@dataclass(frozen=True)
class NoiseProfile:
    """A passage with noise alone."""

    path: Path | None  # a recording of noise; None for a stretch of each recording itself
    start_s: float = 0.0  # seconds from the beginning
    stop_s: float = float("inf")  # seconds from the beginning; infinite takes all

    @classmethod
    def parse(cls, text: str) -> NoiseProfile:
        """Parse `START:END` in seconds, or the name of a file.

        Raises:
            UsageError: The stretch ends before it begins, or there is no such file.
        """
        span = _SPAN.fullmatch(text)
        if span is None:
            if not Path(text).is_file():
                raise UsageError(
                    f"noise profile {text}: no such file; expected a recording, or START:END in seconds"
                )
            return cls(Path(text))
        start_s, stop_s = float(span[1]), float(span[2])
        if not start_s < stop_s:
            raise UsageError(f"noise profile {text}: ends before it begins; expected START:END in seconds")
        return cls(None, start_s, stop_s)

    def read(self, source: Path, sample_rate: float) -> Floats:
        """Read the noise for a recording, `(C, n)`, at most 30 s.

        Args:
            sample_rate: Hz of the result.

        Raises:
            InputError: The stretch lies past the recording's end, or the file cannot be read.
        """
        from denoise import io
        from denoise.dsp.resample import resample

        path = self.path or source
        found = io.modality(path).name
        if found != "audio":
            raise InputError(f"{path}: is {found}, expected a recording of noise")
        pieces: list[Array] = []
        with io.reader(path) as blocks:
            rate = blocks.info.sample_rate or sample_rate
            start, at = round(self.start_s * rate), 0
            stop = start + round(min(self.stop_s - self.start_s, _MAX_PROFILE_S) * rate)
            for block in blocks:
                pieces.append(block[:, max(start - at, 0) : max(stop - at, 0)])
                at += block.shape[1]
                if at >= stop:
                    break
        if at <= start:
            raise InputError(f"{path}: lasts {at / rate:.3g} s, expected noise from {self.start_s:g} s on")
        return resample(np.concatenate(pieces, axis=1), rate, sample_rate)


def profiled(cleaner: Cleaner, profile: NoiseProfile, source: Path) -> Cleaner:
    """Give the cleaner the noise profile of a recording.

    Raises:
        UsageError: Its model takes no profile, or the profile is too short.
        InputError: The profile cannot be read.
    """
    from denoise.models.classical.restoration import AudioRestoration

    model = cleaner.model
    if not isinstance(model, AudioRestoration):
        raise UsageError(f"the model {cleaner.name} takes no noise profile; expected the model audio")
    from denoise import io

    model = model.for_sample_rate(io.probe(source).sample_rate)
    rate = model.spec.sample_rate
    assert rate is not None
    return replace(cleaner, model=model.with_profile(profile.read(source, rate)))
