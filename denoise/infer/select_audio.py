"""Select the model for a recording: for speech, or for all other sounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from denoise.dsp.resample import resample
from denoise.infer.selection import Selection, Selector
from denoise.models import sound_kind
from denoise.models.base import InputSpec
from denoise.models.sound_kind import KINDS, SEGMENT_SAMPLES
from denoise.models.table import AUDIO_PICKS
from denoise.weights import DETECTOR

__all__ = ["AudioSelection", "AudioSelector", "kind_probabilities", "sample_excerpts"]

Array = NDArray[np.floating]

_RATE_HZ = sound_kind.SAMPLE_RATE
_EXCERPT_S = 10.0
_MAX_EXCERPTS = 12  # of a long recording, evenly spread: two minutes suffice for an hour
_MIN_SAMPLES = 3200  # of an excerpt that can be classified: 0.2 s
_SILENT_RMS = 1e-5  # 100 dB below full scale
# Probability of speech of an excerpt that counts as such: above all music and nature that was tried.
_MIN_PROBABILITY = 0.4
# Of the excerpts that are not silent, for a recording to count as speech: a model for speech would destroy
# the others, while that for other sounds leaves noise in these.
_MIN_SPEECH_SHARE = 0.7


@torch.inference_mode()
def kind_probabilities(excerpt: Array) -> NDArray[np.float64]:
    """Return the probability of each of `KINDS` in a sound `(n,)` at 16 kHz; its level does not count."""
    if excerpt.size < SEGMENT_SAMPLES:
        excerpt = np.pad(excerpt, (0, SEGMENT_SAMPLES - excerpt.size))
    count = -(-excerpt.size // SEGMENT_SAMPLES)
    starts = np.linspace(0, excerpt.size - SEGMENT_SAMPLES, count).astype(int)
    segments = np.stack([excerpt[start : start + SEGMENT_SAMPLES] for start in starts]).astype(np.float32)
    segments /= np.abs(segments).max() + 1e-12
    logits = sound_kind.load(DETECTOR)(torch.from_numpy(segments))
    return np.asarray(logits.softmax(1).mean(0).double().numpy())


def sample_excerpts(blocks: Iterable[Array], samples: int, sample_rate: float) -> Iterator[Array]:
    """Yield evenly spread excerpts of a recording in blocks `(C, n)`: mono, at 16 kHz.

    Args:
        blocks: Blocks of any sizes.
        samples: Expected length; a shorter recording gives fewer excerpts.
        sample_rate: Hz.
    """
    size = min(samples, round(_EXCERPT_S * sample_rate))
    count = max(1, min(_MAX_EXCERPTS, samples // max(size, 1)))
    starts = [round(index * (samples - size) / max(1, count - 1)) for index in range(count)]
    parts: list[Array] = []
    position = 0
    for block in blocks:
        mono = np.asarray(block, np.float32).mean(0)
        while starts and starts[0] < position + mono.size:
            low, high = max(starts[0] - position, 0), min(starts[0] + size - position, mono.size)
            parts.append(mono[low:high])
            if starts[0] + size > position + mono.size:
                break
            yield resample(np.concatenate(parts)[None], sample_rate, _RATE_HZ)[0]
            parts = []
            del starts[0]
        position += mono.size
        if not starts:
            return
    if parts:
        yield resample(np.concatenate(parts)[None], sample_rate, _RATE_HZ)[0]


@dataclass(frozen=True)
class AudioSelection(Selection):
    """The model for one recording.

    Args:
        speech_share: Share of the excerpts with speech among those that are not silent.
    """

    speech_share: float = 0.0


class AudioSelector(Selector):
    """Selects one of `AUDIO_PICKS` for each recording, by a small trained classifier.

    It needs several seconds of audio, so streaming callers select before they open the stream.

    Args:
        models: Those of `AUDIO_PICKS`.
    """

    spec = InputSpec("audio", halo=None, sample_rate=float(_RATE_HZ), joint_channels=True)

    def select(
        self, blocks: Iterable[Array], peak: float | None, samples: int, sample_rate: float | None
    ) -> AudioSelection:
        """Select the model for a recording; unsigned samples are silent at `peak`."""
        assert sample_rate is not None
        full = peak or 1.0
        scaled = ((x - (full if x.dtype.kind == "u" else 0.0)) / full for x in blocks)
        found: list[str] = []
        for excerpt in sample_excerpts(scaled, samples, sample_rate):
            centred = excerpt - excerpt.mean() if excerpt.size else excerpt
            rms = float(np.sqrt(np.mean(np.square(centred)))) if excerpt.size >= _MIN_SAMPLES else 0.0
            if rms > _SILENT_RMS:
                speech, *others = kind_probabilities(centred)
                found.append(KINDS[0] if speech >= _MIN_PROBABILITY else KINDS[1 + int(np.argmax(others))])
        for_speech, for_others = AUDIO_PICKS
        if not found:
            return AudioSelection(for_others, 1.0, f"{for_others}: silent")
        share = found.count(KINDS[0]) / len(found)
        model = for_speech if share >= _MIN_SPEECH_SHARE else for_others
        kinds = ", ".join(f"{kind} in {found.count(kind)}" for kind in dict.fromkeys(found))
        return AudioSelection(model, 1.0, f"{model}: {kinds} of {len(found)} excerpts", share)
