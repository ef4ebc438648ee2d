"""A few images for what needs not all of them."""

from __future__ import annotations

import numpy as np


def spread_evenly(count: int, most: int) -> frozenset[int]:
    """At most ``most`` of ``count`` positions, from the first to the last, evenly apart.

    Example:
        >>> sorted(spread_evenly(9, 3)), len(spread_evenly(2, 3))
        ([0, 4, 8], 2)
    """
    return frozenset(np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist())
