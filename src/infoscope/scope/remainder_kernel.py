"""What is left of two maps without their common mass, compiled: what the transport of a pair starts from."""

from __future__ import annotations

import numpy as np
from numba import njit

from infoscope.compilation import compiled
from infoscope.scope.transport_workspace import Floats, Ints

# Two normalised masses closer than 4 units of float64 rounding are the same.
SAME = 8.9e-16


@njit(nogil=True)
def _total(patch: Ints, value: Floats, cells: int) -> float:
    """Mass of one map; -1 where its cells do not ascend within the grid or a value is negative or not finite."""
    total, previous = 0.0, -1
    for entry in range(len(patch)):
        if not (previous < patch[entry] < cells and 0.0 <= value[entry] < np.inf):
            return -1.0
        previous = patch[entry]
        total += value[entry]
    return total


@compiled()
def remainders(
    first_start: Ints,
    first_patch: Ints,
    first_value: Floats,
    second_start: Ints,
    second_patch: Ints,
    second_value: Floats,
    cells: int,
    cell: Ints,
    mass: Floats,
    parts: Ints,
    out: Floats,
) -> None:
    """Normalise both maps of every pair and keep, cell by cell, only what one has more than the other.

    Args:
        first_start: row pointers of the first maps, ``[pair + 1]``, from 0.
        first_patch: cells of their entries, ``[entry]``.
        first_value: values of their entries, ``[entry]``.
        second_start: likewise of the second maps.
        second_patch: likewise.
        second_value: likewise.
        cells: number of cells of the grid.
        cell: written: cells with something left, ``[first entries + second entries]``.
        mass: written: how much, as a part of the map's mass.
        parts: written: where in these a pair's sources begin and how many there are, and the same for its sinks,
            ``[pair, 4]``. The sources are the side with fewer cells, or with the first cell where both have as many:
            a pair and its mirror image are one problem.
        out: written: 0; NaN where a map has no mass; -1 where a map is malformed.
    """
    for pair in range(len(out)):
        p, p_end = first_start[pair], first_start[pair + 1]
        q, q_end = second_start[pair], second_start[pair + 1]
        surplus = p + q
        deficit = p_end + q
        m, n = 0, 0
        parts[pair] = 0
        out[pair] = 0.0
        first_total = _total(first_patch[p:p_end], first_value[p:p_end], cells)
        second_total = _total(second_patch[q:q_end], second_value[q:q_end], cells)
        if first_total < 0.0 or second_total < 0.0:
            out[pair] = -1.0
            continue
        if first_total == 0.0 or second_total == 0.0:
            out[pair] = np.nan
            continue
        while p < p_end or q < q_end:
            first_cell = first_patch[p] if p < p_end else cells
            second_cell = second_patch[q] if q < q_end else cells
            first, second = 0.0, 0.0
            if first_cell <= second_cell:
                first = first_value[p] / first_total
                p += 1
            if second_cell <= first_cell:
                second = second_value[q] / second_total
                q += 1
            difference = first - second
            if abs(difference) <= SAME * max(first, second):
                continue
            if difference > 0.0:
                cell[surplus + m] = first_cell
                mass[surplus + m] = difference
                m += 1
            else:
                cell[deficit + n] = second_cell
                mass[deficit + n] = -difference
                n += 1
        # Rounding alone can leave something on one side only: nothing is left to move.
        if m > 0 and n > 0:
            if m < n or (m == n and cell[surplus] < cell[deficit]):
                parts[pair] = (surplus, m, deficit, n)
            else:
                parts[pair] = (deficit, n, surplus, m)
