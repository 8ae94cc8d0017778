"""Types of arrays, by the numbers in them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]


def with_gaps(samples: Any) -> Array:
    """Array of numbers, in which masked ones (`numpy.ma`) are NaN; without any, as it is given."""
    if np.ma.is_masked(samples) and samples.dtype.kind in "uif":
        wide = np.result_type(samples.dtype, np.float32 if samples.dtype.kind == "f" else np.float64)
        return np.asarray(samples.astype(wide).filled(np.nan))
    return np.asarray(samples)
