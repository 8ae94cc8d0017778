"""Thresholds keep their promised rate of false alarms on new scores."""

import numpy as np
import pytest

from denoise.analysis.thresholds import TAILS, Tail, combined_p_value
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
