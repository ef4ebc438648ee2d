"""The sets of features that a selection tries, step by step along a column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from infoscope.errors import InfoscopeError
from infoscope.groups.group import FeatureGroup
from infoscope.groups.match import Match
from infoscope.groups.matched import matched_groups
from infoscope.groups.naming import quantile_group
from infoscope.removal.config import RemovalConfig
from infoscope.removal.variant import Variant
from infoscope.selection.config import End, SelectConfig
from infoscope.storage.run import Run


@dataclass(frozen=True)
class Step:
    """One set that is tried.

    Attributes:
        variant: the backbone without it.
        end: which end it was taken from; None where nothing was removed.
        share: which share of the ordered features.
        match: what a random set matches; None for the set itself.
    """

    variant: Variant
    end: End | None
    share: float
    match: Match | None


def plan_steps(
    run: Run, mass: Float64[np.ndarray, " feature"], config: SelectConfig, removal: RemovalConfig
) -> list[Step]:
    """All sets to try at one site, the untouched model first.

    Args:
        run: whose features.
        mass: activation mass of every feature, for the random sets.
        config: which sets.
        removal: how they are removed; its first site is taken.

    Raises:
        InfoscopeError: there is no such column, it is known for too few features, or the removal has two sites.
    """
    if len(removal.sites) != 1:
        raise InfoscopeError("a selection is made at one site: give --sites rerun or --sites site")
    return list(_steps(run, mass, config, removal))


def planned_sets(run: Run, config: SelectConfig) -> Iterator[tuple[End, float, FeatureGroup]]:
    """The sets that are not random: the end, the share, the features.

    Args:
        run: whose features.
        config: which sets.

    Raises:
        InfoscopeError: there is no such column, or it is known for too few features.
    """
    for share in config.shares:
        for end in config.ends:
            between = (1 - share, 1.0) if end == "top" else (0.0, share)
            group = quantile_group(run, config.column, *between)
            if not len(group.features):
                raise InfoscopeError(
                    f"{share:g} of the features with a {config.column} in {run.path} is none: choose larger --shares"
                )
            yield end, share, FeatureGroup(f"{end} {share:g} by {config.column}", group.kind, group.features)


def _steps(
    run: Run, mass: Float64[np.ndarray, " feature"], config: SelectConfig, removal: RemovalConfig
) -> Iterator[Step]:
    site = removal.sites[0]
    yield Step(Variant("untouched", site=site), None, 0.0, None)
    for end, share, group in planned_sets(run, config):
        own = Variant(f"minus {group.name}", group, removal.method, removal.replacement, site)
        yield Step(own, end, share, None)
        if not config.random_draws or not (mass[group.features] > 0).any():
            continue
        for match in config.match:
            for number, drawn in enumerate(matched_groups(group, mass, match, config.random_draws, config.seed), 1):
                variant = Variant(f"minus {drawn.name}", drawn, removal.method, removal.replacement, site, number)
                yield Step(variant, end, share, match)
