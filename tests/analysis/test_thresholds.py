"""Thresholds keep their promised rate of false alarms on new scores."""

import numpy as np
import pytest

from denoise.analysis.thresholds import TAILS, Tail, UnitScores, combined_p_value, combined_score
from denoise.errors import UsageError


@pytest.mark.parametrize("kind", TAILS)
@pytest.mark.parametrize("quantile", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("draw", ["normal", "exponential", "standard_t"])
def test_as_many_false_alarms_as_promised(kind: str, quantile: float, draw: str) -> None:
    rng = np.random.default_rng(0)
    known, unseen = (
        rng.standard_t(5, n) if draw == "standard_t" else getattr(rng, draw)(size=n) for n in (3000, 30_000)
    )
    tail = Tail.of(known, kind)
    rare = 1 - quantile
    deviation = np.sqrt(rare * quantile * (1 / len(known) + 1 / len(unseen)))  # of threshold and of count
    assert (unseen > tail.threshold(quantile)).mean() == pytest.approx(rare, abs=4 * deviation)
    assert (tail.p_values(unseen) <= rare).mean() == pytest.approx(rare, abs=4 * deviation)


def test_the_fit_goes_beyond_what_was_seen() -> None:
    """One in 20 000 exponential values exceeds 9.9; 2000 draws reach only about 8."""
    found = []
    for seed in range(20):
        known = np.random.default_rng(seed).exponential(size=2000)
        found.append(Tail.of(known).threshold(1 - 5e-5))
        assert Tail.of(known, "quantile").threshold(1 - 5e-5) == np.inf
        assert Tail.of(known, "quantile").p_values(1e9) == pytest.approx(1 / 2001)
    assert np.median(found) == pytest.approx(9.9, rel=0.15)


@pytest.mark.parametrize("windows", [5, 40])
def test_files_of_many_windows_raise_no_more_alarms_than_promised(windows: int) -> None:
    rng, rates = np.random.default_rng(4), []
    for _ in range(25):  # one threshold may be off by half of the rate: so the mean over many
        tail = Tail.of(rng.normal(size=1000))
        files = tail.p_values(rng.normal(size=(500, windows)))
        rates.append(np.mean([combined_p_value(file) <= 0.05 for file in files]))
    assert (
        0.01 < np.mean(rates) < 0.055
    )  # fewer, as a normal distribution's tail is lighter than the fit allows
    alike = tail.p_values(np.repeat(rng.normal(size=(2000, 1)), windows, axis=1))
    assert np.mean([combined_p_value(file) <= 0.05 for file in alike]) < 0.05


def test_the_fit_knows_a_heavy_tail() -> None:
    known = np.random.default_rng(2).pareto(1 / 0.3, size=20_000)
    found = Tail.of(known).peaks
    assert found is not None
    assert found[2] == pytest.approx(0.3, abs=0.08)


@pytest.mark.parametrize("kind", TAILS)
def test_larger_scores_are_never_more_likely_and_agree_with_the_threshold(kind: str) -> None:
    tail = Tail.of(np.random.default_rng(3).normal(size=200), kind)
    scores = np.linspace(-4, 12, 2001)
    p = tail.p_values(scores)
    assert (np.diff(p) <= 1e-15).all()
    assert ((p <= 0.05) == (scores > tail.threshold(0.95))).all()


def test_few_or_equal_scores_are_not_fitted() -> None:
    assert Tail.of(np.arange(19)).peaks is None
    assert Tail.of(np.ones(100)).peaks is None
    assert Tail.of(np.arange(3)).threshold(0.99) == np.inf
    for scores, kind in (([], "pareto"), ([np.nan], "pareto"), ([1.0], "gauss")):
        with pytest.raises(UsageError, match=r"expected|known"):
            Tail.of(scores, kind)


def unlike_units(count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Log scores of two kinds, of 200 items in each of `count` units, whose levels and spreads differ."""
    return [rng.normal(rng.normal(0, 1), rng.uniform(0.5, 1.5), (2, 200)) for _ in range(count)]


@pytest.mark.parametrize(("count", "most"), [(3, 0.02), (5, 0.0125), (12, 0.01)])
def test_items_of_new_units_raise_no_more_alarms_than_promised(count: int, most: float) -> None:
    """Counted as independent items they raise 0.043, 0.035 and 0.015, and the units 0.046, 0.027, 0.008."""
    rng, items, files = np.random.default_rng(5), [], []
    for _ in range(60):
        known, new = unlike_units(count, rng), unlike_units(20, rng)
        logs, units = np.concatenate(known, axis=1), np.repeat(np.arange(count), 200)
        found = UnitScores.of(logs, units, "pareto", 0.99)
        tails = [Tail.of(line) for line in logs]
        p_values = [found.tail.p_values(combined_score(tails, unit)) for unit in new]
        items += [(p <= 0.01).mean() for p in p_values]
        files += [combined_p_value(p, count, found.nats) <= 0.01 for p in p_values]
    assert np.mean(items) <= most
    assert np.mean(files) <= 0.005


def test_counted_units_promise_no_more_than_their_number() -> None:
    """Of 9 pictures none is as strange as this one: so may one in 10 be, however many tiles they have."""
    tail = Tail.of(np.random.default_rng(6).normal(size=9000), "quantile", units=9)
    assert tail.p_values(1e9) == pytest.approx(0.1)
    assert tail.threshold(0.99) == np.inf
    assert np.isfinite(tail.threshold(0.85))
