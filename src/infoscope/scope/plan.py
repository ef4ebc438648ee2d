"""Where the mass of a map went: the optimal plan behind an earth mover's distance.

`emd_pairs` gives the least distance; this gives one plan that has it. Mass common to both maps at a cell stays there.
Several plans may be as short as each other, and then one of them is given: the distance is unique, the routes are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from infoscope.scope.maps import SparseMaps
from infoscope.scope.remainder_kernel import remainders
from infoscope.scope.transport_kernel import SORTED, transport, whole_costs
from infoscope.scope.transport_workspace import Workspace, workspace

# A route that exists only because the kernel breaks ties by quanta of mass.
NOTHING = 1e-12

Row = tuple[Int64[np.ndarray, " _two"], Int64[np.ndarray, " _entry"], Float64[np.ndarray, " _entry"]]
Routes = tuple[Int64[np.ndarray, "_route 2"], Float64[np.ndarray, " _route"]]


@dataclass(frozen=True)
class Plan:
    """Routes of an optimal plan, the heaviest first; ties in the order of their cells.

    Attributes:
        source: cell of the first map, ``[route]``.
        sink: cell of the second map, ``[route]``.
        mass: share of the map's mass that moves, ``[route]``; they add up to what does not stay where it is.
    """

    source: Int64[np.ndarray, " route"]
    sink: Int64[np.ndarray, " route"]
    mass: Float64[np.ndarray, " route"]

    def __len__(self) -> int:
        return len(self.mass)


def plans(first: SparseMaps, second: SparseMaps, distances: Float64[np.ndarray, "cell cell"]) -> list[Plan]:
    """How the mass of ``first[i]`` becomes that of ``second[i]``, for every i; for the few pairs that are shown.

    Args:
        first: the first map of every pair.
        second: the second map of every pair, on the same grid.
        distances: ground distances, ``[cell, cell]``, a metric; see `infoscope.scope.emd.emd_pairs`.

    Returns:
        A plan a pair, without routes where a map has no mass or where nothing moves.

    Example:
        >>> from infoscope.scope.grid import patch_distances
        >>> first = SparseMaps.from_dense(np.array([[3.0, 1.0, 0.0, 0.0]]))
        >>> second = SparseMaps.from_dense(np.array([[1.0, 1.0, 0.0, 0.0]]))
        >>> plan = plans(first, second, patch_distances(2))[0]    # a quarter of the mass, by one patch
        >>> plan.source.tolist(), plan.sink.tolist(), plan.mass.tolist()
        ([0], [1], [0.25])
    """
    costs = whole_costs(distances)
    most = int((np.diff(first.start) + np.diff(second.start)).max(initial=0))
    work = workspace(most + 1, (most // 2 + 1) ** 2)
    return [_plan(_row(first, pair), _row(second, pair), distances, costs, work) for pair in range(len(first))]


def _row(maps: SparseMaps, index: int) -> Row:
    entries = slice(maps.start[index], maps.start[index + 1])
    patch = maps.patch[entries].astype(np.int64)
    return np.array([0, len(patch)]), patch, maps.value[entries].astype(np.float64)


def _plan(
    first: Row,
    second: Row,
    distances: Float64[np.ndarray, "cell cell"],
    costs: Int64[np.ndarray, "cell cell"],
    work: Workspace,
) -> Plan:
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
    ends, moved = ends[moved > NOTHING], moved[moved > NOTHING]
    source, sink = sources[ends[:, 0]], sinks[ends[:, 1]]
    # The kernel calls the side with fewer cells the sources, whichever map that is.
    if source_start != 0:
        source, sink = sink, source
    order = np.lexsort((sink, source, -moved))
    return Plan(source[order], sink[order], moved[order])


def _from_two(
    sources: Int64[np.ndarray, " 2"],
    sinks: Int64[np.ndarray, " sink"],
    supply: Float64[np.ndarray, " 2"],
    demand: Float64[np.ndarray, " sink"],
    distances: Float64[np.ndarray, "cell cell"],
) -> Routes:
    """Routes from two sources: the first serves the sinks that it is nearest to by comparison."""
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
    # Sources have a quantum more than their mass, which only breaks ties; it is far below what is shown.
    return ends, total * flow[routes] / flow[routes].sum()
