"""Earth mover's distance between pairs of sparse maps: exact, balanced optimal transport (method, section 3).

Both maps are normalised to mass 1 in float64. Mass common to both at a cell stays there, which is exact because the
ground distance is a metric: going through another cell never pays. A transportation simplex moves what is left. Pairs
know nothing of each other: a distance is the same to the last bit in any batch, in any order, on any number of threads,
and with the two maps exchanged.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float, Float64, Int64

from infoscope.cores import available_cores
from infoscope.errors import InfoscopeError
from infoscope.scope.maps import SparseMaps
from infoscope.scope.remainder_kernel import remainders
from infoscope.scope.transport_kernel import transport, whole_costs
from infoscope.scope.transport_workspace import workspace

# What a thread takes at a time, in units of about 10 ns: enough that the taking costs nothing, little enough that all
# threads end together and an interrupt is heard at once.
CHUNK = 1_000_000

# Row pointers from 0, cells and values of some maps.
Rows = tuple[Int64[np.ndarray, " _row_plus_one"], Int64[np.ndarray, " _entry"], Float64[np.ndarray, " _entry"]]


def emd_pairs(
    first: SparseMaps, second: SparseMaps, distances: Float64[np.ndarray, "cell cell"], *, threads: int | None = None
) -> Float64[np.ndarray, " pair"]:
    """Earth mover's distance between the maps ``first[i]`` and ``second[i]``, for every i.

    Args:
        first: the first map of every pair.
        second: the second map of every pair, on the same grid.
        distances: ground distances, ``[cell, cell]``: any metric, since common mass is cancelled.
        threads: how many to use; by default one for each CPU that this process may run on.

    Returns:
        Distances in the units of ``distances``, ``[pair]`` (a CDS divides them by the largest ground distance); NaN
        where a map has no mass. The error is below 1e-9 at worst, and about 1e-14 on activation maps.

    Raises:
        InfoscopeError: ``distances`` is not a metric; a map's cells do not ascend within the grid, or it has a value
            that is negative or not finite.
        ValueError: numbers of maps or of cells disagree, or row pointers do not fit their entries.

    Example:
        >>> from infoscope.scope.grid import patch_distances
        >>> first = SparseMaps.from_dense(np.array([[3.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]))
        >>> second = SparseMaps.from_dense(np.array([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]))
        >>> emd_pairs(first, second, patch_distances(2))    # a quarter of the mass moves by one patch
        array([0.25,  nan])
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} first and {len(second)} second maps do not make pairs")
    if not first.cells == second.cells == len(distances):
        raise ValueError(f"maps of {first.cells} and of {second.cells} cells, distances between {len(distances)}")
    for maps in (first, second):
        ends_fit = maps.start[0] == 0 and maps.start[-1] == len(maps.patch) == len(maps.value)
        if not ends_fit or np.any(np.diff(maps.start) < 0):
            raise ValueError("row pointers of the maps do not fit their entries")
    distances = _metric(distances)
    costs = whole_costs(distances)
    out = np.empty(len(first))

    def solve(pairs: slice) -> None:
        out[pairs] = _solve(_rows(first, pairs), _rows(second, pairs), distances, costs)

    chunks = _chunks(np.diff(first.start), np.diff(second.start))
    if threads is None:
        threads = available_cores()
    if threads == 1 or len(chunks) <= 1:
        for pairs in chunks:
            solve(pairs)
    else:
        # Not numba's parallel loops: with some threading layers a second caller, or a forked child, aborts the process.
        pool = ThreadPoolExecutor(min(threads, len(chunks)))
        try:
            for _ in pool.map(solve, chunks):
                pass
        finally:
            pool.shutdown(cancel_futures=True)
    if np.any(out < 0):
        raise InfoscopeError(
            f"map {np.argmax(out < 0)} of {len(out)} is malformed: its cells must ascend from 0 to {first.cells - 1}, "
            "its values be finite and not negative"
        )
    np.minimum(out, distances.max(), out=out)
    return out


def emd(
    first: Float[np.ndarray, " cell"], second: Float[np.ndarray, " cell"], distances: Float64[np.ndarray, "cell cell"]
) -> float:
    """Earth mover's distance between two dense maps of any total mass; see `emd_pairs`.

    Args:
        first: weights, ``[cell]``, not negative.
        second: weights on the same cells.
        distances: ground distances, ``[cell, cell]``, a metric.

    Returns:
        The distance, in the units of ``distances``; NaN where a map has no mass.

    Raises:
        InfoscopeError: ``distances`` is not a metric, or a weight is negative or not finite.
        ValueError: numbers of cells disagree.

    Example:
        >>> line = np.abs(np.subtract.outer(np.arange(4.0), np.arange(4.0)))
        >>> emd(np.array([1.0, 0.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0, 1.0]), line)
        2.0
    """
    if not first.shape == second.shape == (len(distances),):
        raise ValueError(f"maps of shapes {first.shape} and {second.shape}, distances between {len(distances)} cells")
    distances = _metric(distances)
    pair = _solve(_row(first), _row(second), distances, whole_costs(distances))
    return float(min(pair[0], distances.max()))


def _metric(distances: Float64[np.ndarray, "cell cell"]) -> Float64[np.ndarray, "cell cell"]:
    """The distances, contiguous; refused where they cannot be a metric. The triangle is tried through one cell only."""
    if distances.ndim != 2 or distances.shape[0] != distances.shape[1] or not distances.size:
        raise ValueError(f"ground distances are a square matrix, not {distances.shape}")
    largest = distances.max()
    middle = len(distances) // 2
    if not np.isfinite(largest) or distances.min() < 0 or distances.diagonal().any():
        problem = "are negative or not finite, or a cell is away from itself"
    elif np.abs(distances - distances.T).max() > 1e-12 * largest:
        problem = "differ by direction"
    elif np.any(distances > np.add.outer(distances[:, middle], distances[middle]) + 1e-9 * largest):
        problem = "are longer than a way round (squared distances?)"
    else:
        return np.array(distances, np.float64, order="C")
    raise InfoscopeError(f"ground distances {problem}: common mass cancels for a metric only, so pass one")


def _chunks(first: Int64[np.ndarray, " pair"], second: Int64[np.ndarray, " pair"]) -> list[slice]:
    """Runs of pairs of about equal work, from the numbers of entries of their maps."""
    work = np.cumsum(64 + 16 * (first + second) + first * second)
    ends = [*(1 + np.flatnonzero(np.diff(work // CHUNK))).tolist(), len(work)]
    return [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True) if start < end]


def _rows(maps: SparseMaps, pairs: slice) -> Rows:
    """Some maps in the types that the kernels are compiled for."""
    start = maps.start[pairs.start : pairs.stop + 1]
    entries = slice(start[0], start[-1])
    return start - start[0], maps.patch[entries].astype(np.int64), maps.value[entries].astype(np.float64)


def _row(weights: Float[np.ndarray, " cell"]) -> Rows:
    """One dense map, likewise."""
    largest = weights.max()
    if not (np.isfinite(largest) and weights.min() >= 0):
        raise InfoscopeError("a map has weights that are negative or not finite: pass activations of at least 0")
    cells = np.flatnonzero(weights)
    # By a power of two, which costs no bit: the sum of weights near the end of float64's range would overflow.
    scaled = np.ldexp(weights[cells].astype(np.float64), -np.frexp(largest)[1])
    return np.array([0, len(cells)]), cells, scaled


def _solve(
    first: Rows,
    second: Rows,
    distances: Float64[np.ndarray, "cell cell"],
    costs: Int64[np.ndarray, "cell cell"],
) -> Float64[np.ndarray, " pair"]:
    """The pairs' distances, in this thread."""
    pairs, entries = len(first[0]) - 1, len(first[1]) + len(second[1])
    cell, mass = np.empty(entries, np.int64), np.empty(entries)
    parts, out = np.empty((pairs, 4), np.int64), np.empty(pairs)
    remainders(*first, *second, len(costs), cell, mass, parts, out)
    sources, sinks = parts[:, 1], parts[:, 3]
    work = workspace(int((sources + sinks).max(initial=0)), int((sources * sinks).max(initial=0)))
    transport(cell, mass, parts, distances, costs, work, out)
    return out
