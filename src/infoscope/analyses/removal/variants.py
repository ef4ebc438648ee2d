"""The variants of a model that an analysis compares, and the plan for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from jaxtyping import Float64

from infoscope.analyses.removal.config import Method, RemovalConfig, Replacement, Site
from infoscope.analyses.removal.groups import FeatureGroup, matched_groups
from infoscope.errors import InfoscopeError, check_choice
from infoscope.runtime.choices import Match


@dataclass(frozen=True)
class Variant:
    """One way a backbone is edited (method, section 7).

    Attributes:
        name: what it is called in tables.
        group: the features that are removed; None for none.
        method: what is written back.
        replacement: what the group's codes become.
        site: where the edit acts.
        draw: which of several random controls of this name it is, from 1; None where there is one of its name.

    Raises:
        InfoscopeError: a choice is none of those there are, or codes that are not removed are to be replaced.

    Example:
        >>> Variant("untouched").edited, Variant("reconstruction", method="reconstruct").edited
        (False, True)
    """

    name: str
    group: FeatureGroup | None = None
    method: Method = "keep-error"
    replacement: Replacement = "zero"
    site: Site = "rerun"
    draw: int | None = None

    def __post_init__(self) -> None:
        check_choice("method", self.method, Method)
        check_choice("replacement", self.replacement, Replacement)
        check_choice("site", self.site, Site)
        if self.group is None and self.replacement != "zero":
            raise InfoscopeError(f"{self.name} removes no features, so there is nothing for a {self.replacement}")

    @property
    def label(self) -> str:
        """The name, with the draw."""
        return self.name if self.draw is None else f"{self.name}, draw {self.draw}"

    @property
    def edited(self) -> bool:
        """Whether anything changes."""
        return self.group is not None or self.method == "reconstruct"

    def mass_share(self, mass: Float64[np.ndarray, " feature"]) -> float:
        """The share of the activation mass that its group has, 0 where nothing is removed or there is no mass."""
        total = float(mass.sum())
        return float(mass[self.group.features].sum()) / total if self.group is not None and total else 0.0


def check_variants(variants: Sequence[Variant]) -> None:
    """Refuse variants that cannot be told apart.

    Raises:
        InfoscopeError: two of one name at one site, or there are none.
    """
    if not variants:
        raise InfoscopeError("there is no variant to read: name at least one")
    seen: set[tuple[str, str]] = set()
    for variant in variants:
        if (variant.label, variant.site) in seen:
            raise InfoscopeError(f"two variants are called {variant.label} at {variant.site}: give each its own name")
        seen.add((variant.label, variant.site))


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
