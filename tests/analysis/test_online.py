"""Rows are judged by those before them alone, rarely wrong on noise, and an event gives one alarm."""

import numpy as np
import pytest
from numpy.typing import NDArray

from denoise.analysis.online import SILENCE, WARM_UP, OnlineDetector
from denoise.errors import InputError

DAY = 48


def days(count: int, seed: int) -> NDArray[np.float64]:
    """A load that is on for half of each day, with noise."""
    rng = np.random.default_rng(seed)
    on = (np.arange(count * DAY) % DAY) < DAY // 2
    return 20.0 + 60 * on + rng.normal(0, 2, count * DAY)


def scores(values: NDArray[np.float64], day: float | None = None) -> NDArray[np.float64]:
    times = np.arange(len(values)) * 86400 / day if day else None
    return np.array(OnlineDetector().scores(values[:, None], times))


def test_no_row_depends_on_later_ones() -> None:
    series = days(12, 0)
    whole, first = scores(series, DAY), scores(series[:300], DAY)
    np.testing.assert_array_equal(whole[:300], first)
    assert (whole[:WARM_UP] == [0.0, 1.0]).all()


def test_rows_of_noise_have_uniform_p_values_and_a_level_or_unit_changes_nothing() -> None:
    several = [np.random.default_rng(seed).normal(size=900) for seed in range(1, 5)]
    found, *others = map(scores, several)
    noise = several[0]
    # Windows overlap, so one series of 900 rows holds few independent ones.
    shares = [(one[200:, 1] <= 0.05).mean() for one in (found, *others)]
    assert np.mean(shares) == pytest.approx(0.05, abs=0.03)
    np.testing.assert_allclose(found[:, 0], scores(1000 + 7 * noise)[:, 0], rtol=1e-4, atol=1e-4)


def test_the_first_verdicts_are_no_alarms() -> None:
    """The first evidence has no past to be compared with."""
    first = [scores(np.random.default_rng(seed).normal(size=120))[:, 1] for seed in range(60)]
    assert (np.array(first) <= 1e-3).mean() < 2e-3


@pytest.mark.parametrize("event", ["peak", "level", "dead", "flat"])
def test_events_are_found_at_once_and_raise_one_alarm(event: str) -> None:
    series, start = days(20, 2), 15 * DAY + 6
    length = {"peak": 1, "level": 5 * DAY - 6, "dead": 12, "flat": 30}[event]
    part = slice(start, start + length)
    series[part] = {"peak": 140, "level": series[part] + 50, "dead": 0, "flat": 50}[event]
    found = scores(series, DAY)
    worst = int(found[5 * DAY :, 0].argmax()) + 5 * DAY
    assert start <= worst < start + min(length, 12)
    alarms = np.flatnonzero((found[:, 0] > 0) & (found[:, 1] <= 1e-3))
    assert len(alarms[(alarms >= start) & (alarms < start + SILENCE)]) <= 6


def test_a_load_that_stays_away_is_seen_by_the_clock() -> None:
    """A value that is common, at a time of the day when it is not."""
    series, start = days(20, 3), 15 * DAY
    series[start : start + DAY // 2] -= 60
    with_clock, without = scores(series, DAY), scores(series)
    part = slice(start, start + 6)
    assert with_clock[part, 1].min() < 0.005
    assert with_clock[part, 0].max() > without[part, 0].max()


def test_one_kind_of_evidence_is_enough() -> None:
    """A day of as usual values in an unusual order, which neither a single row nor eight of them show."""
    time = np.arange(20 * DAY)
    series = np.sin(2 * np.pi * time / DAY) + np.random.default_rng(5).normal(0, 0.05, time.size)
    start = 15 * DAY + 10
    series[start : start + DAY] = series[start : start + DAY][::-1]
    found = scores(series, DAY)
    later = found[5 * DAY :, 0]
    assert start <= 5 * DAY + int(later.argmax()) < start + DAY + 32
    assert later.max() > 2.5


def alarms(found: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.flatnonzero((found[:, 0] > 0) & (found[:, 1] <= 1e-3))


@pytest.mark.parametrize("row", [900, 2000, 3500])
def test_the_first_days_do_not_blind_a_young_log(row: int) -> None:
    """Offices, whose first nights, days and weekend each resemble nothing before."""
    rng, time = np.random.default_rng(6), np.arange(row + 2) / 144
    busy = (time // 1 % 7 < 5) * np.sin(np.pi * np.clip((time % 1 - 0.3) / 0.45, 0, 1))
    series = 200 * busy * rng.uniform(0.9, 1.1, time.size) + rng.gamma(4, 3, time.size)
    series[row] += 12 * np.diff(series[row - 300 : row]).std()
    assert row in alarms(scores(series, 144))


def test_an_event_does_not_hide_the_next() -> None:
    series = np.random.default_rng(7).normal(size=3450)
    series[2500:2520] += 35
    series[3400:3410] += 28
    found = alarms(scores(series))
    assert ((found >= 2500) & (found < 2532)).any()
    assert ((found >= 3400) & (found < 3432)).any()


@pytest.mark.parametrize("persistence", [0.0, 0.95])
def test_as_many_normal_rows_are_alarms_as_are_due(persistence: float) -> None:
    """One in a thousand, also after the memory is full, and of a series that wanders."""
    found = []
    for seed in range(3):
        steps = np.random.default_rng(seed).normal(size=6000)
        series = steps.copy()
        for row in range(1, len(series)):
            series[row] += persistence * series[row - 1]
        found.append(len(alarms(scores(series))))
    assert 3 <= sum(found) <= 30


def test_gaps_and_constant_series_do_no_harm() -> None:
    series = days(10, 4)
    series[200:220] = np.nan
    assert np.isfinite(scores(series, DAY)).all()
    constant = np.full(300, 5.0)
    constant[250] = 6
    found = scores(constant)
    assert found[:, 0].argmax() == 250
    assert (found[:250, 1] > 0.5).all()
    with pytest.raises(InputError, match="expected"):
        OnlineDetector(2).update([1.0])


def test_pauses_do_not_shift_the_time_of_the_day() -> None:
    """A log that loses a few hours now and then is compared with the same hours of other days."""
    series, times = days(20, 3), np.arange(20 * DAY) * 86400 / DAY
    start = 15 * DAY
    series[start : start + DAY // 2] -= 60
    kept = np.ones(len(series), bool)
    for day in (7, 9, 12, 14):
        kept[day * DAY + 30 : day * DAY + 37] = False
    found = np.array(OnlineDetector().scores(series[kept][:, None], times[kept]))
    place = int(np.flatnonzero(kept).searchsorted(start))
    assert found[place : place + 6, 1].min() < 0.005
    later = found[5 * DAY : place, 1]
    assert later.min() > found[place : place + 6, 1].min()


def test_the_first_flag_is_less_strange_than_a_spike() -> None:
    """Equal values have no distance, and so no tail: the first other one is as rare as a row, not more."""
    rng = np.random.default_rng(8)
    rows = np.stack([np.sin(np.arange(4000) / 229) + rng.normal(0, 0.1, 4000), rng.random(4000) < 0.003], 1)
    rows[3000] = 9, 0
    found = np.array(OnlineDetector(2).scores(rows, np.arange(4000) * 60.0))
    assert rows[:3000, 1].any()
    assert found[:, 0].argmax() == 3000
