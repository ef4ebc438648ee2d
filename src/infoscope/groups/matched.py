"""Random feature groups to compare a group with: as many features, or as much activation mass."""

from __future__ import annotations

import zlib

import numpy as np
from jaxtyping import Float64

from infoscope.errors import InfoscopeError
from infoscope.groups.group import FeatureGroup
from infoscope.groups.match import Match


def matched_groups(
    group: FeatureGroup, mass: Float64[np.ndarray, " feature"], match: Match, draws: int, seed: int = 0
) -> list[FeatureGroup]:
    """Random groups that match a group (method, section 7).

    Drawn from all features that are ever active, those of the group among them: of the others alone there may be too
    few, and they differ from the group by what it was chosen for. By ``size``, each has as many active features as
    the group has. By ``mass``, as many features are taken, in random order, as bring the sum nearest to the group's; it
    is off by half of one feature's mass at most. Features of more than twice the group's mass, which would be worse
    than none, are not drawn.

    Args:
        group: the group to match.
        mass: activation mass of every feature: sum of its codes times its decoder row's norm.
        match: what to match.
        draws: how many to draw.
        seed: of the draws.

    Raises:
        InfoscopeError: no feature of the group is ever active.

    Example:
        >>> mass = np.array([0.0, 5.0, 1.0, 1.0, 3.0])
        >>> group = FeatureGroup("global", "class", np.uint32([0, 1]))
        >>> [len(drawn.features) for drawn in matched_groups(group, mass, "size", draws=2)]
        [1, 1]
        >>> [float(mass[drawn.features].sum()) for drawn in matched_groups(group, mass, "mass", draws=2, seed=1)]
        [3.0, 4.0]
    """
    active = np.flatnonzero(mass > 0)
    inside = group.features[mass[group.features] > 0]
    wanted = float(mass[inside].sum())
    if not len(inside):
        raise InfoscopeError(
            f"no feature of {group.name} is active in the sample: there is nothing to match"
            "; remove another group, or give --random-draws 0"
        )
    candidates = active if match == "size" else active[mass[active] <= 2 * wanted]
    of_group = zlib.crc32(group.features.tobytes())
    drawn = []
    for number in range(draws):
        # The draws of two kinds, or of two groups, are independent, and each of how many there are.
        random = np.random.default_rng([seed, number, match == "mass", of_group])
        order = random.permutation(candidates)
        count = len(inside) if match == "size" else _nearest(mass[order], wanted)
        name = f"random of equal {match} as {group.name}"
        drawn.append(FeatureGroup(name, "random", np.sort(order[:count]).astype(np.uint32)))
    return drawn


def _nearest(mass: Float64[np.ndarray, " feature"], wanted: float) -> int:
    """How many of the first features come nearest to a mass; one at least."""
    return int(np.abs(np.cumsum(mass) - wanted).argmin()) + 1
