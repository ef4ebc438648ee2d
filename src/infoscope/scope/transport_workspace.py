"""What the transport kernel writes into, made once for many problems: nothing is allocated for a pair of maps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Unsigned, so that numba does not test every index for counting from the end.
Nodes = NDArray[np.uint32]


class Workspace(NamedTuple):
    """Arrays that every problem uses anew. Nodes are the sources 0..m-1, then the sinks m..m+n-1."""

    cost: Ints  # [source * sink]
    supply: Ints  # [source]
    demand: Ints  # [sink]
    bias: Ints  # [sink]: minus the mean cost of a sink; CLOSED once it is full
    rank: Ints  # [source]: the lowest is served next
    nearest: Ints  # [source]
    flow: Ints  # [node]: on the route between a node and its parent
    potential: Ints  # [node]: cost + potential[source] - potential[sink] is 0 on the tree
    finished: Nodes  # [node]: in the order in which the first tree was made
    parent: Nodes  # [node]: the root is its own
    following: Nodes  # [node]: the next in preorder, in a circle
    preceding: Nodes  # [node]
    depth: NDArray[np.int32]  # [node]
    height: Floats  # [node]: the potential in the unit of the distances


def workspace(nodes: int, routes: int) -> Workspace:
    """Room for problems of up to ``nodes`` = m + n nodes and ``routes`` = m n routes."""
    whole, links = np.empty((7, nodes), np.int64), np.empty((4, nodes), np.uint32)
    return Workspace._make([np.empty(routes, np.int64), *whole, *links, np.empty(nodes, np.int32), np.empty(nodes)])
