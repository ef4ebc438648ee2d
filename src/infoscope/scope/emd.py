"""Exact earth mover's distances between maps, and the transport plans that attain them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64

from infoscope.errors import InfoscopeError
from infoscope.runtime.execution import available_cores
from infoscope.scope.maps import SparseMaps
from infoscope.scope.transport_kernel import SORTED, Workspace, remainders, transport, whole_costs, workspace

# Work that a thread takes at a time, in units of about 10 ns: enough that handing it over costs nothing, little enough
# that all threads end together and an interrupt takes effect at once.
THREAD_WORK = 1_000_000

# Row pointers from 0, cells and values of consecutive maps.
Rows = tuple[Int64[np.ndarray, " _row_plus_one"], Int64[np.ndarray, " _entry"], Float64[np.ndarray, " _entry"]]


def emd_pairs(
    first: SparseMaps, second: SparseMaps, distances: Float64[np.ndarray, "cell cell"], *, threads: int | None = None
) -> Float64[np.ndarray, " pair"]:
    """Earth mover's distance between the maps ``first[i]`` and ``second[i]``, for every i.

    Args:
        first: the first map of every pair.
        second: the second map of every pair, on the same grid.
        distances: ground distances, ``[cell, cell]``: any metric, since common mass is cancelled.
        threads: threads to use; by default one for each CPU that this process may run on.

    Returns:
        Distances in the units of ``distances``, ``[pair]`` (a CDS divides them by the largest ground distance); NaN
        where a map has no mass. The error is below 1e-9 at worst, and about 1e-14 on activation maps.

    Raises:
        InfoscopeError: ``distances`` is not a metric; a map's cells do not ascend within the grid, or it has a value
            that is negative or not finite.
        ValueError: the numbers of maps or cells disagree, or row pointers do not fit their entries.

    Example:
        >>> from infoscope.scope.geometry import patch_distances
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

    shares = _equal_shares(np.diff(first.start), np.diff(second.start))
    threads = available_cores() if threads is None else threads
    if threads == 1 or len(shares) <= 1:
        for pairs in shares:
            solve(pairs)
    else:
        # Not numba's parallel loops: with some threading layers a second caller, or a forked child, aborts the process.
        pool = ThreadPoolExecutor(min(threads, len(shares)))
        try:
            for _ in pool.map(solve, shares):
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


def partner_distances(
    first: SparseMaps,
    second: SparseMaps,
    partner: Int64[np.ndarray, " pair"],
    distances: Float64[np.ndarray, "cell cell"],
    largest: float = 1.0,
) -> Float64[np.ndarray, " pair"]:
    """Distances between maps and the maps of their partners, as shares of the largest; NaN without a partner or mass.

    Args:
        first: a map of every pair.
        second: the maps that partners are taken from.
        partner: which of them is compared with each of the first; -1 for none.
        distances: ground distances, as for `emd_pairs`.
        largest: the largest of them, which the result is a share of.

    Example:
        >>> from infoscope.scope.geometry import patch_distances
        >>> maps = SparseMaps.from_dense(np.eye(2, 4))
        >>> partner_distances(maps, maps, np.array([1, -1]), patch_distances(2))
        array([ 1., nan])
    """
    shares = np.full(len(partner), np.nan)
    known = np.flatnonzero(partner >= 0)
    shares[known] = np.minimum(emd_pairs(first.take(known), second.take(partner[known]), distances) / largest, 1.0)
    return shares


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
        ValueError: the numbers of cells disagree.

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
    """The distances, contiguous; refused unless they can be a metric. Triangles are tried through one cell only."""
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


def _equal_shares(first: Int64[np.ndarray, " pair"], second: Int64[np.ndarray, " pair"]) -> list[slice]:
    """Consecutive pairs of about equal work each, by the numbers of entries of their maps."""
    work = np.cumsum(64 + 16 * (first + second) + first * second)
    ends = [*(1 + np.flatnonzero(np.diff(work // THREAD_WORK))).tolist(), len(work)]
    return [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True) if start < end]


def _rows(maps: SparseMaps, pairs: slice) -> Rows:
    """Consecutive maps, in the types that the kernels are compiled for."""
    start = maps.start[pairs.start : pairs.stop + 1]
    entries = slice(start[0], start[-1])
    return start - start[0], maps.patch[entries].astype(np.int64), maps.value[entries].astype(np.float64)


def _row(weights: Float[np.ndarray, " cell"]) -> Rows:
    """One dense map, in the same types."""
    largest = weights.max()
    if not (np.isfinite(largest) and weights.min() >= 0):
        raise InfoscopeError("a map has weights that are negative or not finite: pass activations of at least 0")
    cells = np.flatnonzero(weights)
    # The sum of weights near the end of float64's range would overflow; scaling by a power of two is exact.
    scaled = np.ldexp(weights[cells].astype(np.float64), -np.frexp(largest)[1])
    return np.array([0, len(cells)]), cells, scaled


def _solve(
    first: Rows,
    second: Rows,
    distances: Float64[np.ndarray, "cell cell"],
    costs: Int64[np.ndarray, "cell cell"],
) -> Float64[np.ndarray, " pair"]:
    """The distances of pairs, in this thread."""
    pairs, entries = len(first[0]) - 1, len(first[1]) + len(second[1])
    cell, mass = np.empty(entries, np.int64), np.empty(entries)
    parts, out = np.empty((pairs, 4), np.int64), np.empty(pairs)
    remainders(*first, *second, len(costs), cell, mass, parts, out)
    sources, sinks = parts[:, 1], parts[:, 3]
    work = workspace(int((sources + sinks).max(initial=0)), int((sources * sinks).max(initial=0)))
    transport(cell, mass, parts, distances, costs, work, out)
    return out


# The kernel breaks ties by quanta of mass; a route that carries no more than this exists only for that reason.
LEAST_MASS = 1e-12

# The ends of each route, as positions among the sources and the sinks, and the mass that it carries.
Routes = tuple[Int64[np.ndarray, "_route 2"], Float64[np.ndarray, " _route"]]


@dataclass(frozen=True)
class TransportPlan:
    """Routes of an optimal transport plan, the heaviest first; ties in the order of their cells.

    Attributes:
        source: cell of the first map, ``[route]``.
        sink: cell of the second map, ``[route]``.
        mass: share of the map's mass that takes the route, ``[route]``; mass that stays in place takes none.
    """

    source: Int64[np.ndarray, " route"]
    sink: Int64[np.ndarray, " route"]
    mass: Float64[np.ndarray, " route"]

    def __len__(self) -> int:
        return len(self.mass)


def transport_plans(
    first: SparseMaps, second: SparseMaps, distances: Float64[np.ndarray, "cell cell"]
) -> list[TransportPlan]:
    """How the mass of ``first[i]`` becomes that of ``second[i]``, for every i; for the few pairs that are shown.

    Args:
        first: the first map of every pair.
        second: the second map of every pair, on the same grid.
        distances: ground distances, ``[cell, cell]``, a metric; see `infoscope.scope.emd.emd_pairs`.

    Returns:
        One plan a pair, without routes where a map has no mass or nothing moves.

    Example:
        >>> from infoscope.scope.geometry import patch_distances
        >>> first = SparseMaps.from_dense(np.array([[3.0, 1.0, 0.0, 0.0]]))
        >>> second = SparseMaps.from_dense(np.array([[1.0, 1.0, 0.0, 0.0]]))
        >>> plan = transport_plans(first, second, patch_distances(2))[0]    # a quarter of the mass, by one patch
        >>> plan.source.tolist(), plan.sink.tolist(), plan.mass.tolist()
        ([0], [1], [0.25])
    """
    costs = whole_costs(distances)
    most = int((np.diff(first.start) + np.diff(second.start)).max(initial=0))
    work = workspace(most + 1, (most // 2 + 1) ** 2)
    pairs = [slice(pair, pair + 1) for pair in range(len(first))]
    return [_plan(_rows(first, pair), _rows(second, pair), distances, costs, work) for pair in pairs]


def _plan(
    first: Rows,
    second: Rows,
    distances: Float64[np.ndarray, "cell cell"],
    costs: Int64[np.ndarray, "cell cell"],
    work: Workspace,
) -> TransportPlan:
    """The plan of one pair."""
    entries = len(first[1]) + len(second[1])
    cell, mass = np.empty(entries, np.int64), np.empty(entries)
    parts, out = np.empty((1, 4), np.int64), np.empty(1)
    remainders(*first, *second, len(costs), cell, mass, parts, out)
    source_start, m, sink_start, n = parts[0].tolist()
    sources, sinks = cell[source_start : source_start + m], cell[sink_start : sink_start + n]
    supply, demand = mass[source_start : source_start + m], mass[sink_start : sink_start + n]
    if m == 0 or not np.isfinite(out[0]):
        ends, moved = np.empty((0, 2), np.int64), np.empty(0)
    elif m == 1:
        ends, moved = np.column_stack([np.zeros(n, np.int64), np.arange(n)]), demand
    elif m == 2 and n <= SORTED:
        ends, moved = _from_two(sources, sinks, supply, demand, distances)
    else:
        transport(cell, mass, parts, distances, costs, work, out)
        ends, moved = _from_tree(m, n, float(supply.sum()), work)
    ends, moved = ends[moved > LEAST_MASS], moved[moved > LEAST_MASS]
    source, sink = sources[ends[:, 0]], sinks[ends[:, 1]]
    # The kernel calls the side with fewer cells the sources, whichever map that is.
    if source_start != 0:
        source, sink = sink, source
    order = np.lexsort((sink, source, -moved))
    return TransportPlan(source[order], sink[order], moved[order])


def _from_two(
    sources: Int64[np.ndarray, " 2"],
    sinks: Int64[np.ndarray, " sink"],
    supply: Float64[np.ndarray, " 2"],
    demand: Float64[np.ndarray, " sink"],
    distances: Float64[np.ndarray, "cell cell"],
) -> Routes:
    """Routes from two sources: the first serves the sinks that it is nearer to than the second is."""
    order = np.argsort(distances[sources[0], sinks] - distances[sources[1], sinks], kind="stable")
    reached = np.minimum(np.cumsum(demand[order]), supply[0])
    near = np.diff(reached, prepend=0.0)
    far = demand[order] - near
    ends = np.column_stack([np.repeat([0, 1], len(order)), np.tile(order, 2)])
    return ends, np.concatenate([near, far])


def _from_tree(m: int, n: int, total: float, work: Workspace) -> Routes:
    """Routes of the spanning tree that the kernel left in its workspace."""
    node = np.arange(m + n)
    parent, flow = work.parent[: m + n].astype(np.int64), work.flow[: m + n].astype(np.float64)
    routes = node[parent != node]
    is_source = routes < m
    ends = np.column_stack(
        [np.where(is_source, routes, parent[routes]), np.where(is_source, parent[routes], routes) - m]
    )
    # Sources have one quantum more than their mass, which only breaks ties and is far below what is shown.
    return ends, total * flow[routes] / flow[routes].sum()
