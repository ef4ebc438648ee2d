"""The bars of a histogram, before anything is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

# Our choices: bars of 0.01 show shape without drawing noise; an axis never so short that a narrow spectrum looks broad.
BAR = 0.01
LEAST_RANGE = 0.45


def stacked_bars(
    values: Float64[np.ndarray, " _"],
    groups: Sequence[str],
    order: Sequence[str],
    edges: Float64[np.ndarray, " edge"],
) -> list[dict[str, Any]]:
    """Rows of a stacked histogram: where each group's part of a bar begins and ends.

    Args:
        values: what is counted.
        groups: of which group each is.
        order: the groups from the bottom up.
        edges: of the bars, ascending.

    Example:
        >>> rows = stacked_bars(np.array([0.1, 0.2, 0.9]), ["a", "b", "a"], ["a", "b"], np.array([0.0, 0.5, 1.0]))
        >>> [(row["from"], row["group"], row["low"], row["high"]) for row in rows]
        [(0.0, 'a', 0, 1), (0.5, 'a', 0, 1), (0.0, 'b', 1, 2)]
    """
    below = np.zeros(len(edges) - 1, np.int64)
    names = np.array(groups, dtype=object)
    rows, ends = [], edges.tolist()
    for group in order:
        counts, _ = np.histogram(values[names == group], edges)
        for place in np.flatnonzero(counts).tolist():
            low, high = int(below[place]), int(below[place] + counts[place])
            rows.append({"from": ends[place], "to": ends[place + 1], "low": low, "high": high, "group": group})
        below += counts
    return rows


def axis_end(cds: Float64[np.ndarray, " feature"]) -> float:
    """The end of the CDS axis: past every score, and never so near that a narrow spectrum looks broad."""
    return min(1.0, max(LEAST_RANGE, float(np.ceil(cds.max(initial=0.0) / 0.05 + 1e-9) * 0.05)))
