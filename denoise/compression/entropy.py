"""Range coding of integers with tables of logistic distributions (the extra `compress`).

Tables are integers that every machine computes alike (`fixed_point.exp`). A number outside its table is
stored as the outermost symbol of the table, and by how much it exceeds that beside.
"""

from __future__ import annotations

import functools
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from denoise.arrays import Doubles
from denoise.compression.fixed_point import exp
from denoise.errors import UnreadableError, UsageError

Integers = NDArray[np.int32]

LEVELS = 84  # scales with tables of their own
_LOWEST = -3.25  # logarithm of the smallest scale
_PER_NAT = 8  # scales per unit of the logarithm
_TAIL = 16.0  # scales from the middle to the end of a table
_MAX_REACH = 2047  # of a table on each side
_HYPER_REACH = 63  # of the table of a channel of the hyper-code
_TOTAL = 2**22  # of the counts of a table, about; each symbol has one at least
_MAX_EXCESS = 1 << 20  # of a number outside its table


def levels(log_scale: Doubles) -> NDArray[np.int64]:
    """Return the table of each scale, whose logarithms are given."""
    found = np.floor((log_scale - _LOWEST) * _PER_NAT + 0.5)
    return np.clip(found, 0, LEVELS - 1).astype(np.int64)


class Encoder:
    """Encodes groups of integers, one table each, in the order of the calls."""

    def __init__(self) -> None:
        self._coder = _library().stream.queue.RangeEncoder()
        self._excess: list[Integers] = []

    def add(self, numbers: Integers, counts: Doubles) -> None:
        """Encode numbers with the table of counts of -reach..reach."""
        if not len(numbers):
            return
        reach = len(counts) // 2
        clipped = np.clip(numbers, -reach, reach)
        over = np.abs(clipped) == reach
        self._excess.append(np.abs(numbers - clipped)[over])
        self._coder.encode((clipped + reach).astype(np.int32), _model(counts))

    def finish(self) -> tuple[bytes, bytes]:
        """Return the coded numbers, and by how much those outside their tables exceed them."""
        excess = np.concatenate([*self._excess, np.empty(0, np.int32)])
        words = self._coder.get_compressed().astype("<u4").tobytes()
        return words, zlib.compress(excess.astype("<i4").tobytes(), 9) if len(excess) else b""


class Decoder:
    """Decodes what an `Encoder` wrote, by the same calls.

    Raises:
        UnreadableError: The bytes are no such data.
    """

    def __init__(self, words: bytes, excess: bytes, most: int) -> None:
        if len(words) % 4:
            raise UnreadableError("its coded numbers are cut short")
        inflate = zlib.decompressobj()
        try:
            found = inflate.decompress(excess, 4 * most + 1) if excess else b""
        except zlib.error as error:
            raise UnreadableError("its list of large numbers is damaged") from error
        if len(found) % 4 or len(found) > 4 * most:
            raise UnreadableError("its list of large numbers is damaged")
        self._excess = np.frombuffer(found, "<i4")
        if len(self._excess) and not 0 <= self._excess.min() <= self._excess.max() <= _MAX_EXCESS:
            raise UnreadableError("its list of large numbers is damaged")
        self._coder = _library().stream.queue.RangeDecoder(np.frombuffer(words, "<u4").astype(np.uint32))

    def take(self, count: int, counts: Doubles) -> Integers:
        """Decode `count` numbers with a table."""
        if not count:
            return np.empty(0, np.int32)
        reach = len(counts) // 2
        try:
            numbers = self._coder.decode(_model(counts), count) - reach
        except AssertionError as error:  # how constriction calls data that no encoder writes
            raise UnreadableError("its coded numbers are damaged") from error
        over = np.flatnonzero(np.abs(numbers) == reach)
        if len(over) > len(self._excess):
            raise UnreadableError("its list of large numbers is too short")
        numbers[over] += np.sign(numbers[over]) * self._excess[: len(over)]
        self._excess = self._excess[len(over) :]
        return numbers.astype(np.int32)


@functools.cache
def logistic(level: int) -> Doubles:
    """Count the numbers -reach..reach of a logistic distribution around 0 with the scale of a level."""
    scale = exp(np.array(_LOWEST + level / _PER_NAT))
    reach = int(np.clip(np.ceil(_TAIL * scale), 4, _MAX_REACH))
    return _counts(_mass(np.arange(-reach, reach + 1.0), np.zeros(1), scale))


def mixture(weights: Doubles, means: Doubles, log_scales: Doubles) -> Doubles:
    """Count the numbers -63..63 of a mixture of logistic distributions, by logarithms of its weights."""
    shares = exp(np.clip(weights, -20, 20))
    numbers = np.arange(-_HYPER_REACH, _HYPER_REACH + 1.0)
    parts = [
        _mass(numbers, mean, exp(np.clip(scale, -4, 7))) * share
        for mean, scale, share in zip(means, log_scales, shares / shares.sum(), strict=True)
    ]
    return _counts(sum(parts[1:], parts[0]))


def _mass(numbers: Doubles, mean: Any, scale: Any) -> Doubles:
    """Probability of number - 1/2 .. number + 1/2 in a logistic distribution."""
    edges = (np.append(numbers - 0.5, numbers[-1] + 0.5) - mean) / scale
    below = 1 / (1 + exp(np.clip(-edges, -40, 40)))
    return np.diff(below)


def _counts(mass: Doubles) -> Doubles:
    return np.floor(np.maximum(mass, 0) * _TOTAL) + 1


def _model(counts: Doubles) -> Any:
    return _library().stream.model.Categorical(counts / counts.sum(), perfect=False)


def _library() -> Any:
    try:
        import constriction
    except ImportError as error:
        raise UsageError(
            "compression needs constriction, which is not installed; expected the extra: "
            "pip install 'denoise-pipelines[compress]'"
        ) from error
    return constriction
