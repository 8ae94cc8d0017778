"""Fixtures and options shared by all tests."""

import os

import browser
import pytest
from hypothesis import HealthCheck, settings

# Where a failure stops others, the same examples every time; at a desk, new ones.
settings.register_profile(
    "reproducible", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("exploring", deadline=None)
settings.load_profile("reproducible" if os.environ.get("CI") else "exploring")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes minutes; left out unless --slow is given")
    config.addinivalue_line("markers", "browser: needs Chromium; left out where there is none")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests that take minutes, and those of the browser where there is none; none is skipped."""
    absent = {"slow": not config.getoption("--slow"), "browser": browser.find() is None}
    left_out = {
        item for item in items for name, off in absent.items() if off and item.get_closest_marker(name)
    }
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
