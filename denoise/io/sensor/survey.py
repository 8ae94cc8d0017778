"""Statistics of a column of a sensor log, gathered chunk by chunk in constant memory."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from denoise.arrays import Array, Doubles, Mask
from denoise.io.sensor.clock import StampSurvey, unwrapped
from denoise.io.sensor.numerals import word_set
from denoise.signal import SECONDS, Domain

_UNIT_WORDS = {
    **{unit: unit for unit in SECONDS if unit not in ("d", "ticks")},
    **dict.fromkeys(("day", "days"), "d"),
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("msec", "millis", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("usec", "µs", "μs", "micros", "microsecond", "microseconds"), "us"),
    **dict.fromkeys(("nsec", "nanos", "nanosecond", "nanoseconds"), "ns"),
    **dict.fromkeys(("minute", "minutes"), "min"),
    **dict.fromkeys(("hour", "hours"), "h"),
}
# A column with such a name is never a measurement; the weaker words count only if the values also grow.
_TIME_WORDS = word_set("time timestamp timestamps datetime date epoch unixtime utc elapsed")
_WEAK_TIME_WORDS = {"t", "ts", "clock", "zeit", "temps", "tiempo", "tempo", *_UNIT_WORDS}
_OF_TIMES = word_set("local gmt start end stamp unix of day record sys gps rtc sample")
# Numbers that loggers, databases and formats of files store for a reading that is not there: nines, and the
# ends of a range of numbers.
_NINES = [  # no more digits than float32 holds
    float(f"{'9' * digits}.{'9' * decimals}")
    for digits in range(2, 8)
    for decimals in range(min(3, 8 - digits))
]
_WRITTEN_CODES = (
    *(*_NINES, *(-code for code in _NINES), -9.0, -127.0, -777.0, -888.0, -888.8, -7777.0, -8888.0),
    *(-999.25, -9999.25, 6553.5, 655.35, 3276.7, -3276.8, 327.67, -327.68, 1e31, 1e35, -1e35),
    *(-6999.0, 6999.0, -7999.0, 7999.0),
    *(32767.0, -32767.0, -32768.0, 65535.0, 65534.0, 2147483647.0, -2147483647.0, -2147483648.0),
    *(4294967295.0, -88888.0, 9.91e37, 9.9e37, 9.999e20, 1.70141e38, 1e34, -1e34, 1e36, -1e36, 1e37, 1e38),
    *(1e20, -1e20, 1e30, -1e30, -1e31, -1e38, -9e33, 1e33, -1e32, 1e32),
    # The default of netCDF, the ends of float32, and what ESRI and ISIS (USGS) make of the lower one.
    *(9.96921e36, -9.96921e36, 9.969209968386869e36, 3.4028234663852886e38, -3.4028234663852886e38),
    *(3.4028235e38, -3.4028235e38, -3.4028230607370965e38, -3.4028226550889045e38),
)
_LONG_NINES = (
    *(99999.999, 999999.99, 999999.999, 9999999.9, 9999999.99, 99999999.0, 99999999.99, 999999999.0),
    *(9223372036854775806.0, 9223372036854775807.0, 18446744073709551614.0, 1.7976931348623157e308),
)
# Also as float32 holds them, -999.900024, but for the longest, of which it makes round numbers.
_CODES = np.unique(
    [
        *(*_LONG_NINES, *(-code for code in _LONG_NINES)),
        *(*_WRITTEN_CODES, *np.array(_WRITTEN_CODES, np.float32).tolist()),
    ]
)
_CODE_DISTANCE = 1.0  # of a code from the range of all other values, in lengths of that range
# What no list has is a code if the very same number repeats, far beyond the others and larger than they are.
_GIANT_DISTANCE = 10.0  # in lengths of their range
_GIANT_SIZE = 5.0  # relative to the largest of them
_GIANT_REPEATS = 3
_MAX_GIANTS = 8  # different ones at an end
_MIN_OTHERS = 16  # different values among the others: fewer are levels of a load that switches
_ROUNDING = 1e-12  # of a code that a file stores by a scale, relative to it
_MAX_ROUNDING = 1e-4  # the same, where the scale is coarse
MAX_LEVELS = 64  # different values that are counted
_PIECE = 65536  # samples of an array that are surveyed at once
_FIRST = 256  # samples that are kept


def _words(name: str) -> list[str]:
    split_units = re.sub(r"(time|timestamp)([munµ]s)\b", r"\1 \2", name.lower())
    return [word for word in re.split(r"[^a-zµμ]+", split_units) if word]


def is_time_name(name: str) -> bool:
    """True for a name that says nothing but time: `timestamp`, `Time (s)`, but not `response_time`."""
    words = set(_words(name))
    return bool(words & _TIME_WORDS) and words <= _TIME_WORDS | _WEAK_TIME_WORDS | _OF_TIMES


def unit_in(text: str) -> str | None:
    """Time unit at the end of a column name (`t [ms]`, `time_us`, `millis`) or of a cell of a units row."""
    words = _words(text)
    return _UNIT_WORDS.get(words[-1]) if words else None


class _Turns:
    """Tells whether values go round a circle: they fill half of it or more, and jump only where it closes."""

    def __init__(self, period: float) -> None:
        self.period = period
        self._possible = True
        self._sectors = np.zeros(8, np.int64)  # values in each
        self._steps = self._far = self._jumps = self._wraps = 0

    def add(self, values: Doubles, steps: Doubles, low: float, high: float) -> None:
        """Add values, the step to each, and the bounds of all so far."""
        period = self.period
        limit = 1.0001 * period
        self._possible &= (low >= 0.0 and high <= limit) or (low >= -limit / 2 and high <= limit / 2)
        if not self._possible:
            return
        self._sectors += np.bincount(np.floor(values * (8 / period)).astype(int) % 8, minlength=8)
        sizes = np.abs(steps[np.isfinite(steps)])
        self._steps += sizes.size
        self._jumps += int((sizes > 0.5 * period).sum())
        self._wraps += int((sizes > 0.75 * period).sum())
        self._far += int((np.abs(sizes - period * np.rint(sizes / period)) > 0.25 * period).sum())

    @property
    def are_circular(self) -> bool:
        """True if at least two jumps of nearly a circle, and hardly any others, join its ends."""
        smooth = self._far <= 0.03 * self._steps and self._wraps >= max(2, 0.8 * self._jumps)
        return self._possible and smooth and int((self._sectors > 0.005 * self._steps).sum()) >= 4


@dataclass(frozen=True)
class Declared:
    """Missing values of an array, as its file declares them."""

    codes: tuple[float, ...] = ()
    low: float = -np.inf  # the smallest valid value
    high: float = np.inf  # the largest

    def gaps(self, values: Doubles) -> Mask | None:
        """Return a mask of the missing ones; None without any declaration."""
        if self == Declared():
            return None
        return np.asarray(np.isin(values, self.codes) | (values < self.low) | (values > self.high))


class _Ends:
    """The lowest different values of a channel, and how often each occurs; of negated values the highest."""

    size = _MAX_GIANTS + _MIN_OTHERS

    def __init__(self) -> None:
        self.values, self.counts = np.empty(0), np.empty(0, np.int64)  # ascending

    def add(self, values: Doubles) -> None:
        """Add finite values; what is among the lowest of all was so from its first occurrence on."""
        if self.values.size == self.size:
            values = values[values <= self.values[-1]]
        if not values.size:
            return
        found, counts = np.unique(values, return_counts=True)
        self.values, places = np.unique(np.append(self.values, found), return_inverse=True)
        self.counts = np.bincount(places, np.append(self.counts, counts)).astype(np.int64)[: self.size]
        self.values = self.values[: self.size]


class CodeSurvey:
    """Finds the codes of missing values in each of some channels.

    They are numbers of a list far from all others, and any other number that repeats exactly and is a giant
    beside the others.

    Args:
        channels: Number of channels.
        step: Distance of the numbers that the file can store, which rounds codes, too.
        declared: What the file says of missing values.
    """

    def __init__(self, channels: int = 1, step: float = 0.0, declared: Declared | None = None) -> None:
        self._rounding = np.clip(0.5 * step, _ROUNDING * np.abs(_CODES), _MAX_ROUNDING * np.abs(_CODES))
        with np.errstate(over="ignore"):
            self._ends = _CODES + self._rounding
        self._counts: dict[tuple[int, float], int] = {}  # channel and number of the list: how often it occurs
        self._lows, self._highs = ([_Ends() for _ in range(channels)] for _ in range(2))
        self._known: tuple[Doubles, tuple[dict[float, int], ...]] | None = None
        self._repeated = True
        self.declared = declared or Declared()
        self.declared_codes: dict[float, int] = {}  # how often each occurs, in any channel
        self.invalid = 0  # values beyond the valid ones

    def only_known(self) -> None:
        """Take a giant that repeats for a reading."""
        self._repeated, self._known = False, None

    def add(self, values: Doubles) -> Mask:
        """Add the next samples `(C, n)`; return a mask of numbers of the list and of declared gaps."""
        self._known = None
        gaps = self.declared.gaps(values)
        if gaps is not None:
            codes, counts = np.unique(values[np.isin(values, self.declared.codes)], return_counts=True)
            for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
                self.declared_codes[code] = self.declared_codes.get(code, 0) + count
            self.invalid += int(gaps.sum() - counts.sum())
            values = np.where(gaps, np.nan, values)
        at = np.minimum(np.searchsorted(self._ends, values), _CODES.size - 1)
        with np.errstate(invalid="ignore", over="ignore"):
            listed = np.abs(values - _CODES[at]) <= self._rounding[at]  # in a fifth of the time of np.isin
        for channel in np.flatnonzero(listed.any(axis=1)).tolist():
            found = np.unique(values[channel, listed[channel]], return_counts=True)
            for code, count in zip(*(each.tolist() for each in found), strict=True):
                self._counts[channel, code] = self._counts.get((channel, code), 0) + count
        others = np.isfinite(values) & ~listed
        for low, high, row, real in zip(self._lows, self._highs, values, others, strict=True):
            low.add(row[real])
            high.add(-row[real])
        return np.asarray(listed if gaps is None else listed | gaps)

    @property
    def unlisted(self) -> frozenset[float]:
        """Codes that repeat far from all others, and are in no list."""
        listed = {code for _, code in self._counts}
        return frozenset(code for codes in self.codes for code in codes if code not in listed)

    @property
    def ranges(self) -> Doubles:
        """The smallest and largest value of each channel, `(2, C)`, codes aside; infinities without any."""
        return self._found()[0]

    @property
    def codes(self) -> tuple[dict[float, int], ...]:
        """Numbers that stand for missing values in each channel, and how often each occurs."""
        return self._found()[1]

    @property
    def has_only_listed(self) -> bool:
        """True if every value is a number of the list."""
        return bool(self._counts) and not any(low.values.size for low in self._lows)

    def domain(self, channel: int = 0, **bounds: float) -> Domain:
        """Give the domain of a channel, with the bounds of its values."""
        codes = (*self.codes[channel], *self.declared.codes)
        return Domain(codes=codes, valid=(self.declared.low, self.declared.high), **bounds)

    @property
    def single(self) -> bool:
        """True for one channel."""
        return len(self._lows) == 1

    def _found(self) -> tuple[Doubles, tuple[dict[float, int], ...]]:
        if self._known is None:
            each = [self._of(channel) for channel in range(len(self._lows))]
            self._known = np.array([bounds for bounds, _ in each]).T, tuple(codes for _, codes in each)
        return self._known

    def _of(self, channel: int) -> tuple[tuple[float, float], dict[float, int]]:
        """Find the range of a channel, and its codes."""
        low, high = self._lows[channel], self._highs[channel]
        listed = {code: count for (place, code), count in self._counts.items() if place == channel}
        if not low.values.size:
            return (min(listed, default=np.inf), max(listed, default=-np.inf)), {}
        values = np.unique(np.concatenate([low.values, -high.values]))
        below, above = _giants(values) if self._repeated else (0, 0)
        least, most = values[below], values[-1 - above]
        codes: dict[float, int] = {}
        for ends, count, sign in ((low, below, 1.0), (high, above, -1.0)):
            repeats = [*zip(ends.values[:count].tolist(), ends.counts[:count].tolist(), strict=True)]
            kept = {sign * code for code, times in repeats if times < _GIANT_REPEATS}
            codes |= {sign * code: times for code, times in repeats if times >= _GIANT_REPEATS}
            least, most = min([least, *kept]), max([most, *kept])
        with np.errstate(over="ignore"):
            inner = values[below : values.size - above]
            margin = _CODE_DISTANCE * max(np.ptp(inner), 1e-3 * np.abs(inner[[0, -1]]).max())
            near = inner[0] - margin, inner[-1] + margin
        for code, count in listed.items():
            if not near[0] <= code <= near[1]:
                codes[code] = count
            else:
                least, most = min(least, code), max(most, code)
        return (float(least), float(most)), codes


def _giants(values: Doubles) -> tuple[int, int]:
    """Count the values at the lower and upper end that are far beyond all others, and larger than they are.

    Args:
        values: Different ones, ascending: all, or those at either end.
    """
    best = (0, 0)
    most = min(_MAX_GIANTS, values.size - _MIN_OTHERS)
    with np.errstate(over="ignore"):
        for below in range(most + 1):
            for above in range(most + 1 - below):
                low, high = values[below], values[-1 - above]
                beyond, size = _GIANT_DISTANCE * (high - low), _GIANT_SIZE * max(abs(low), abs(high))
                at_low = not below or values[below - 1] < min(low - beyond, -size)
                at_high = not above or values[-above] > max(high + beyond, size)
                if at_low and at_high and below + above > sum(best):
                    best = below, above
    return best


class ColumnSurvey:
    """Statistics of one column, updated chunk by chunk.

    Args:
        name: The name that the user types.
        unit: The time unit that the file states (an ISO column, a units row); None takes that of the name.
        stamps: The type of a column of stamps, whose unit overrides the caller's; empty for others.
        wraps: True if the values are times of day in seconds: a step back of half a day or more is midnight.
        step: Distance of the numbers that the file can store; 0 if nothing is known.
    """

    def __init__(
        self, name: str, unit: str | None = None, stamps: str = "", wraps: bool = False, step: float = 0.0
    ) -> None:
        words = set(_words(name))
        self.name = name
        self.unit = unit or unit_in(name)
        self.stamp_type = stamps
        self.wraps = wraps
        self.time_named = bool(stamps) or bool(words & _TIME_WORDS)
        self.maybe_time_named = self.time_named or bool(words & _WEAK_TIME_WORDS)
        self.unit_text = ""  # the unit of the readings, as the file writes it
        self.numeric = True  # cleared by the codec for text, objects, booleans
        self.reject_reason = ""  # then: what is there, and where
        self.zero_padded = False  # a whole number of a text begins with a zero
        self.flagged = 0  # cells of a text with a mark such as `*` or `<`
        self.first_flagged = ""
        self.infinite = ""  # where the first infinity is, if any
        self.values = 0  # samples that are not gaps
        self.integers = True
        self.levels: set[float] = set()  # the first different values, one more than `MAX_LEVELS` at most
        self.samples = 0  # gaps included
        self.changes = 0  # steps that are not 0
        self.falls = 0  # steps down
        self.zeros = 0
        self._sums = np.zeros(4)  # of values, their squares and those of steps, and their number
        self.max_jump = 0.0  # the largest step, up or down
        self.listed = CodeSurvey(step=step)
        self._lowest, self._highest = np.inf, -np.inf  # of values, numbers of the list aside
        self._before = np.nan  # the last value that is no gap
        self.first_values = np.empty(0)  # of the first samples, gaps included
        self._turns = [_Turns(period) for period in (360.0, 2.0 * np.pi)]
        self.increasing = True  # never a step back
        self.step: float | None = None  # between neighbours, while it is always the same
        self.constant_step = True
        self.steps = 0
        self.steps_back = 0
        self.regular_steps = 0  # within half to one and a half of the median
        self.span = 0.0  # sum of all steps
        self.stamps = StampSurvey(wraps)
        self._last = np.nan
        self.largest = 0.0

    def add(self, values: Doubles) -> None:
        """Add the next samples; NaN is a gap."""
        finite = values[np.isfinite(values)]
        if not self.samples:
            self.first_values = values[:_FIRST].copy()
        self.samples += values.size
        if finite.size:
            self.values += finite.size
            self.largest = max(self.largest, float(np.abs(finite).max()))
            self.integers = self.integers and bool((finite == np.rint(finite)).all())
            self._add_levels(finite)
        if self.maybe_time_named or self.increasing:
            with np.errstate(over="ignore", invalid="ignore"):  # near the largest float: not a clock
                self._add_steps(values)
            self.stamps.add(values)

    def _add_levels(self, finite: Doubles) -> None:
        finite = finite[~self.listed.add(finite[None])[0]]
        if not finite.size:
            return
        if len(self.levels) <= MAX_LEVELS:
            self.levels.update(np.unique(finite)[: MAX_LEVELS + 1].tolist())
        self.zeros += int((finite == 0).sum())
        self._lowest, self._highest = min(self._lowest, finite.min()), max(self._highest, finite.max())
        with np.errstate(over="ignore"):
            steps = np.diff(finite, prepend=self._before)
        self.changes += int((np.abs(steps) > 0).sum())
        self.falls += int((steps < 0).sum())
        self.max_jump = max(self.max_jump, float(np.nanmax(np.abs(steps), initial=0.0)))
        for turns in self._turns:
            turns.add(finite, steps, self._lowest, self._highest)
        if len(self.levels) <= MAX_LEVELS:
            with np.errstate(over="ignore", invalid="ignore"):
                squares = float((finite**2).sum()), float(np.nansum(steps**2))
                self._sums += (float(finite.sum()), *squares, finite.size)
        self._before = float(finite[-1])

    @property
    def scatter(self) -> float:
        """Squared steps relative to the variance of few values: 2 for rows without an order.

        The ratio of von Neumann ("Distribution of the ratio of the mean square successive difference to the
        variance", 1941).
        """
        total, squares, steps, count = self._sums.tolist()
        return steps / max(squares - total * total / max(count, 1.0), 1e-12)

    @property
    def period(self) -> float:
        """The full circle of values that go round it, as headings do, in their unit; 0 for others."""
        return next((turns.period for turns in self._turns if turns.are_circular), 0.0)

    @property
    def codes(self) -> dict[float, int]:
        """Numbers that stand for missing values, and how often each occurs; of an array, in any channel."""
        found: dict[float, int] = {}
        for channel in self.listed.codes:
            for code, count in channel.items():
                found[code] = found.get(code, 0) + count
        return found

    @property
    def is_code_only(self) -> bool:
        """True if every value is a number that may stand for a missing one."""
        return self.listed.has_only_listed

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and largest value, codes of missing values aside; infinities for several channels."""
        if not self.listed.single:
            return np.inf, -np.inf
        low, high = self.listed.ranges[:, 0].tolist()
        return low, high

    def _add_steps(self, values: Doubles) -> None:
        steps = np.diff(values, prepend=self._last)
        if values.size:
            self._last = float(values[-1])
        steps = steps[np.isfinite(steps)]
        if not steps.size:
            return
        if self.wraps:
            steps = unwrapped(steps)
        self.steps += steps.size
        self.steps_back += int((steps < 0).sum())
        self.increasing = self.steps_back == 0
        self.span += float(steps.sum())
        self.step = float(steps[0]) if self.step is None else self.step
        self.constant_step = self.constant_step and bool((steps == self.step).all())
        median = float(np.median(steps))
        self.regular_steps += int((np.abs(steps - median) <= 0.5 * abs(median)).sum())

    @property
    def interval(self) -> float:
        """Usual time between two stamps, in the column's unit; 0 if there is none."""
        return self.stamps.interval

    @property
    def is_index(self) -> bool:
        """True for a counter of rows: integers in constant steps."""
        return self.integers and self.constant_step and self.steps >= 2 and bool(self.step)

    @property
    def is_time(self) -> bool:
        """True for times, by name and values."""
        grows = self.steps >= 1 and self.span > 0 and self.steps_back <= 0.1 * self.steps
        if self.time_named:
            return grows
        steady = self.increasing or min(self.regular_steps, self.changes) >= 0.9 * self.steps  # it restarts
        return self.maybe_time_named and grows and steady

    @property
    def is_regular_ramp(self) -> bool:
        """True for values that grow in nearly equal steps, as those of a time column with an unknown name."""
        regular = self.steps >= 3 and self.regular_steps >= 0.95 * self.steps
        return self.increasing and regular and self.interval > 0


def without_codes(signals: Array) -> Array:
    """Replace the codes of missing values in each signal by NaN; without any, return the same array.

    Shape:
        `(C, T)` in and out; integers with codes become float64.
    """
    survey = CodeSurvey(len(signals))
    for start in range(0, signals.shape[1], _PIECE):
        survey.add(signals[:, start : start + _PIECE].astype(np.float64))
    found = survey.codes
    if not any(found):
        return signals
    out = signals.astype(signals.dtype if signals.dtype.kind == "f" else np.float64)
    for row, codes in zip(out, found, strict=True):
        row[np.isin(row, [*codes])] = np.nan
    return out
