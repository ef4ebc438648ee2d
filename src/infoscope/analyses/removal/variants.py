"""The variants of a model that an analysis compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from jaxtyping import Float64

from infoscope.analyses.removal.config import RemovalConfig
from infoscope.analyses.removal.groups import FeatureGroup, matched_groups
from infoscope.analyses.removal.ladder import Ladder, LadderSet
from infoscope.errors import InfoscopeError, check_choice
from infoscope.options import Match, ReadFrom, RemovalMethod, Replacement, Side


@dataclass(frozen=True)
class Variant:
    """A model with one removal, or with none (method, section 7).

    Attributes:
        name: its name in tables.
        group: the features that are removed; None for none.
        method: what is written back.
        replacement: what the group's codes become.
        site: where the edit acts.
        draw: its number among several random controls of the same name, from 1; None where the name is unique.
        control_of: of a random set, the name of the group that it is compared with.
        overlap: of a random set, the share of that group's features that it has.
        step: of a set of a ladder, the wanted removed energy as a share of the tokens' mean square.
        side: of a set of a ladder, whether it is a subset of the group or disjoint from it.

    Raises:
        InfoscopeError: a choice is not one of those offered, or codes are to be replaced where none are removed.

    Example:
        >>> Variant("untouched").edited, Variant("reconstruction", method="reconstruct").edited
        (False, True)
    """

    name: str
    group: FeatureGroup | None = None
    method: RemovalMethod = "keep-error"
    replacement: Replacement = "zero"
    site: ReadFrom = "rerun"
    draw: int | None = None
    control_of: str | None = None
    overlap: float | None = None
    step: float | None = None
    side: Side | None = None

    def __post_init__(self) -> None:
        check_choice("method", self.method, RemovalMethod)
        check_choice("replacement", self.replacement, Replacement)
        check_choice("site", self.site, ReadFrom)
        if self.group is None and self.replacement != "zero":
            raise InfoscopeError(f"{self.name} removes no features, so there is nothing for a {self.replacement}")

    @property
    def label(self) -> str:
        """The name, with the draw."""
        return self.name if self.draw is None else f"{self.name}, draw {self.draw}"

    @property
    def edited(self) -> bool:
        """Whether the variant changes any token."""
        return self.group is not None or self.method == "reconstruct"

    def mass_share(self, mass: Float64[np.ndarray, " feature"]) -> float:
        """The group's share of the activation mass; 0 where nothing is removed or there is no mass."""
        total = float(mass.sum())
        return float(mass[self.group.features].sum()) / total if self.group is not None and total else 0.0

    @property
    def control_columns(self) -> dict[str, Any]:
        """A random set's entries in `infoscope.analyses.removal.columns.CONTROL`."""
        return {"control_of": self.control_of, "overlap": self.overlap, "step": self.step, "side": self.side}


def check_variants(variants: Sequence[Variant]) -> None:
    """Refuse variants that cannot be told apart.

    Raises:
        InfoscopeError: two have the same name at the same site, or there are none.
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
    ladders: Sequence[Ladder] = (),
) -> list[Variant]:
    """All variants of a table, in the order of its rows.

    Args:
        groups: the groups to remove, each on its own.
        mass: activation mass of every feature, for the random groups.
        config: how the groups are removed.
        reconstruction: whether the SAE's reconstruction is a variant; not for a dictionary that reconstructs nothing.
        ladders: the ladder of each group; none where groups are not compared on one.

    Raises:
        InfoscopeError: two groups have the same name, or a group to be matched has no active feature.

    Example:
        >>> group = FeatureGroup("global", "class", np.uint32([0, 1]))
        >>> config = RemovalConfig(random_draws=1)
        >>> [variant.label for variant in plan_variants([group], np.ones(4), config)]
        ['untouched', 'reconstruction', 'minus global', 'minus random of equal size as global, draw 1',
         'minus random of equal mass as global, draw 1']
    """
    variants = []
    for site in config.sites:
        variants.append(Variant("untouched", site=site))
        if reconstruction:
            variants.append(Variant("reconstruction", method="reconstruct", site=site))
        for group in groups:
            variants.append(Variant(f"minus {group.name}", group, config.method, config.replacement, site))
            for match in get_args(Match) if config.random_draws else ():
                drawn = matched_groups(group, mass, match, config.random_draws, config.random_seed)
                variants += [_control(random, group, config, site, draw) for draw, random in enumerate(drawn, start=1)]
            for ladder in ladders:
                if ladder.group.name == group.name:
                    variants += [_of_ladder(each, group, config, site) for each in ladder.sets]
    check_variants(variants)
    return variants


def _control(random: FeatureGroup, group: FeatureGroup, config: RemovalConfig, site: ReadFrom, draw: int) -> Variant:
    """A random set that a group is compared with."""
    overlap = float(np.isin(group.features, random.features).mean())
    name = f"minus {random.name}"
    return Variant(name, random, config.method, config.replacement, site, draw, group.name, overlap)


def _of_ladder(drawn: LadderSet, group: FeatureGroup, config: RemovalConfig, site: ReadFrom) -> Variant:
    """A set of a group's ladder."""
    where = "subset of" if drawn.side == "subset" else "disjoint from"
    random = FeatureGroup(f"{drawn.step:.0%} {where} {group.name}", "random", drawn.features)
    return replace(_control(random, group, config, site, drawn.draw), step=drawn.step, side=drawn.side)
