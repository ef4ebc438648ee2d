"""Shape and overlap of pairs of sparse maps on a square grid, compiled; `infoscope.scope.companions` explains them."""

from __future__ import annotations

import numpy as np

from infoscope.runtime.compilation import compiled

# The columns of `map_shapes`, one row a map.
ENTROPY, PARTICIPATION, GYRATION, MORAN, PEAK = range(5)
# The columns of `pair_overlaps`, one row a pair.
IOU, DIVERGENCE = range(2)


@compiled()
def map_shapes(start: np.ndarray, patch: np.ndarray, value: np.ndarray, side: int, out: np.ndarray) -> None:
    """Entropy, participation ratio, radius of gyration, Moran's I and the peak's cell of every map.

    Args:
        start: row pointers, ``[map + 1]``.
        patch: cells, row-major on ``side`` x ``side``, ascending within a map.
        value: codes above 0.
        side: cells a side.
        out: float64 ``[map, 5]``; NaN where a map is empty, and for Moran's I where all cells hold the same.
    """
    cells = side * side
    # Pairs of neighbouring cells, of up to eight neighbours each; the sum of the weights is twice their number.
    pairs = 2.0 * side * (side - 1) + 2.0 * (side - 1) * (side - 1)
    dense = np.zeros(cells)
    for i in range(len(start) - 1):
        begin, end = start[i], start[i + 1]
        if begin == end:
            out[i] = np.nan
            continue
        mass = 0.0
        peak, peak_cell = -1.0, 0
        for e in range(begin, end):
            mass += value[e]
            if value[e] > peak:
                peak, peak_cell = value[e], int(patch[e])
        entropy = squares = row_sum = column_sum = radius = 0.0
        for e in range(begin, end):
            share = value[e] / mass
            row, column = patch[e] // side, patch[e] % side
            entropy -= share * np.log(share)
            squares += share * share
            row_sum += share * row
            column_sum += share * column
            dense[patch[e]] = share
        neighbours = weighted = 0.0
        for e in range(begin, end):
            row, column = int(patch[e]) // side, int(patch[e]) % side
            share = dense[patch[e]]
            radius += share * ((row - row_sum) ** 2 + (column - column_sum) ** 2)
            degree, around = 0, 0.0
            for r in range(max(row - 1, 0), min(row + 2, side)):
                for c in range(max(column - 1, 0), min(column + 2, side)):
                    degree += 1
                    around += dense[r * side + c]
            neighbours += share * (around - share)
            weighted += share * (degree - 1)
        for e in range(begin, end):
            dense[patch[e]] = 0.0
        mean = 1.0 / cells
        spread = squares - mean
        # A constant map has no spread, but rounding leaves about 1e-16 of it.
        moran = np.nan
        if pairs > 0.0 and spread > 1e-12 * squares:
            cross = neighbours - 2.0 * mean * weighted + mean * mean * 2.0 * pairs
            moran = cells / (2.0 * pairs) * cross / spread
        out[i, ENTROPY] = max(entropy, 0.0)
        out[i, PARTICIPATION] = 1.0 / squares
        out[i, GYRATION] = np.sqrt(radius)
        out[i, MORAN] = moran
        out[i, PEAK] = peak_cell


@compiled()
def pair_overlaps(
    start_a: np.ndarray,
    patch_a: np.ndarray,
    value_a: np.ndarray,
    start_b: np.ndarray,
    patch_b: np.ndarray,
    value_b: np.ndarray,
    out: np.ndarray,
) -> None:
    """Intersection over union of the supports, and Jensen-Shannon divergence in bits, of every pair of maps.

    Args:
        start_a: row pointers of the first maps; the next two are their cells, ascending, and codes.
        patch_a: cells.
        value_a: codes above 0.
        start_b: of the second maps, and so on.
        patch_b: cells.
        value_b: codes above 0.
        out: float64 ``[pair, 2]``; NaN where either map is empty.
    """
    for i in range(len(start_a) - 1):
        a, end_a, b, end_b = start_a[i], start_a[i + 1], start_b[i], start_b[i + 1]
        if a == end_a or b == end_b:
            out[i] = np.nan
            continue
        mass_a = mass_b = 0.0
        for e in range(a, end_a):
            mass_a += value_a[e]
        for e in range(b, end_b):
            mass_b += value_b[e]
        both = either = 0
        bits = 0.0
        while a < end_a or b < end_b:
            p = q = 0.0
            take_a = a < end_a and (b >= end_b or patch_a[a] <= patch_b[b])
            take_b = b < end_b and (a >= end_a or patch_b[b] <= patch_a[a])
            if take_a:
                p = value_a[a] / mass_a
                a += 1
            if take_b:
                q = value_b[b] / mass_b
                b += 1
            either += 1
            middle = 0.5 * (p + q)
            if take_a and take_b:
                both += 1
                bits += 0.5 * (p * np.log2(p / middle) + q * np.log2(q / middle))
            else:
                bits += middle  # log2 of 2 is 1
        out[i, IOU] = both / either
        out[i, DIVERGENCE] = min(max(bits, 0.0), 1.0)
