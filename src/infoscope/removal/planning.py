"""The variants of a table: untouched, reconstructed, without each group, and without random groups like it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from jaxtyping import Float64

from infoscope.errors import InfoscopeError, check_choice
from infoscope.groups.group import FeatureGroup
from infoscope.groups.matched import Match, matched_groups
from infoscope.removal.variant import Method, Replacement, Site, Variant, check_variants


@dataclass(frozen=True)
class RemovalConfig:
    """How feature groups are removed.

    Raises:
        InfoscopeError: a choice is none of those there are, or a number is out of range.

    Example:
        >>> RemovalConfig(random_draws=-1)
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: --random-draws -1 is out of range: choose 0 or more
    """

    sites: tuple[Site, ...] = ("rerun",)
    """Where the edit acts: rerun runs the rest of the network on from the edited tokens; site reads the block's own
    edited tokens. Both may be given. Our choice: what the model loses is what its own output loses."""
    method: Method = "keep-error"
    """keep-error takes the group's contribution from the token and leaves what the SAE does not explain; reconstruct
    decodes the codes that are left. Our choice, so that only the group differs from the untouched model."""
    replacement: Replacement = "zero"
    """What the group's codes become: zero (as the paper), their mean over a sample of images, or those of another image
    (resampled)."""
    random_draws: int = 5
    """Random groups of equal size, and as many of equal activation mass, for each group. 0 for none. Our choice: enough
    for a spread."""
    seed: int = 0
    """Of the random groups and of the images whose codes are taken."""

    def __post_init__(self) -> None:
        for site in self.sites:
            check_choice("sites", site, Site)
        if not self.sites or len(set(self.sites)) < len(self.sites):
            raise InfoscopeError(f"--sites {' '.join(self.sites) or '(none)'}: name rerun, site or both, each once")
        check_choice("method", self.method, Method)
        check_choice("replacement", self.replacement, Replacement)
        for flag, number in (("--random-draws", self.random_draws), ("--seed", self.seed)):
            if number < 0:
                raise InfoscopeError(f"{flag} {number} is out of range: choose 0 or more")


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
            drawn = matched_groups(group, mass, match, config.random_draws, config.seed)
            for number, random in enumerate(drawn, start=1):
                yield Variant(f"minus {random.name}", random, config.method, config.replacement, site, number)
