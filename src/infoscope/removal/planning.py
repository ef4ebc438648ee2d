"""The variants of a table: untouched, reconstructed, without each group, and without random groups like it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

import numpy as np
from jaxtyping import Float64

from infoscope.groups.group import FeatureGroup
from infoscope.groups.match import Match
from infoscope.groups.matched import matched_groups
from infoscope.removal.config import RemovalConfig, Site
from infoscope.removal.variant import Variant, check_variants


def plan_variants(
    groups: Sequence[FeatureGroup],
    mass: Float64[np.ndarray, " feature"],
    config: RemovalConfig,
    reconstruction: bool = True,
) -> list[Variant]:
    """All variants of a table, in the order of its rows.

    Args:
        groups: the groups to remove, each by itself.
        mass: activation mass of every feature, for the random groups.
        config: how they are removed.
        reconstruction: whether the SAE's reconstruction is a row; not for a dictionary that reconstructs nothing.

    Raises:
        InfoscopeError: two groups have one name, or one that has no active feature is to be matched.

    Example:
        >>> group = FeatureGroup("global", "class", np.uint32([0, 1]))
        >>> config = RemovalConfig(random_draws=1)
        >>> [variant.label for variant in plan_variants([group], np.ones(4), config)]
        ['untouched', 'reconstruction', 'minus global', 'minus random of equal size as global, draw 1',
         'minus random of equal mass as global, draw 1']
    """
    variants = [variant for site in config.sites for variant in _of_site(groups, mass, config, site, reconstruction)]
    check_variants(variants)
    return variants


def _of_site(
    groups: Sequence[FeatureGroup],
    mass: Float64[np.ndarray, " feature"],
    config: RemovalConfig,
    site: Site,
    reconstruction: bool,
) -> Iterator[Variant]:
    yield Variant("untouched", site=site)
    if reconstruction:
        yield Variant("reconstruction", method="reconstruct", site=site)
    for group in groups:
        yield Variant(f"minus {group.name}", group, config.method, config.replacement, site)
        if not config.random_draws:
            continue
        for match in get_args(Match):
            drawn = matched_groups(group, mass, match, config.random_draws, config.random_seed)
            for number, random in enumerate(drawn, start=1):
                yield Variant(f"minus {random.name}", random, config.method, config.replacement, site, number)
