"""Tally of events in a log before and after cleaning."""

import numpy as np
import pytest

from denoise.infer.tally import EventTally


def test_peaks_and_the_shift_of_the_mean_are_counted_whatever_the_blocks() -> None:
    rng = np.random.default_rng(0)
    noisy = rng.standard_normal((2, 1000))
    noisy[0, [100, 500, 900]] = 20.0, -15.0, 12.0
    cleaned = noisy.copy()
    cleaned[0, 100] = 9.0  # less than half of its height
    cleaned[0, 500] = -8.0
    cleaned[1] += 0.3
    noisy[1, 7] = np.nan
    tally = EventTally(np.zeros(2), np.ones(2))
    tally.update(noisy[:, :300], cleaned[:, :0])
    tally.update(noisy[:, 300:], cleaned[:, :700])
    tally.update(None, cleaned[:, 700:])
    assert tally.metrics == {
        **{"mean_shift": pytest.approx(0.3), "peaks": 3, "peaks_kept": 2},
        **{"peaks_sum_before": pytest.approx(47.0), "peaks_sum_after": pytest.approx(29.0)},
    }
    assert tally.notes[0].startswith("1 of 3 readings beyond 4 standard deviations lost half")


def test_what_is_unchanged_needs_no_figures() -> None:
    log = np.sin(np.arange(100.0))[None]
    tally = EventTally(log.mean(1), log.std(1))
    tally.update(log, log)
    assert tally.metrics == {}
    assert tally.notes == ()
    constant = EventTally(np.ones(1), np.zeros(1))
    constant.update(np.ones((1, 5)), np.ones((1, 5)))
    assert constant.metrics == {}
