"""What all tests share."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Where a failure stops others, the same examples every time; at a desk, new ones.
settings.register_profile(
    "reproducible", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("exploring", deadline=None)
settings.load_profile("reproducible" if os.environ.get("CI") else "exploring")
