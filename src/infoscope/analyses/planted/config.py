"""What is planted: how many features of which kind, how strong, how noisy (method, section 9)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from infoscope.errors import InfoscopeError, check_choice
from infoscope.runtime.typed import AtLeast0, Count, Positive, Range, Share, check_fields

Kind = Literal["local", "global", "position-bound", "diffuse", "mixed-maps", "mixed-images"]
Setting = Literal["default", "adversarial", "noisy", "mixtures"]

PerKind = Annotated[tuple[float, float, float, float], Range(0)]
Rates = Annotated[float | tuple[float, ...], Range(0, 1)]
"""A share for all features; two, a range from which each feature draws; or one for each feature."""
Amounts = Annotated[float | tuple[float, ...], Range(0)]
"""A number from 0, likewise."""

KINDS: tuple[Kind, ...] = get_args(Kind)
PURE: tuple[Kind, ...] = KINDS[:4]
"""The kinds that are of one scope; the others are mixtures of local and global."""
MIXTURES: tuple[Kind, ...] = KINDS[4:]
SETTINGS: tuple[Setting, ...] = get_args(Setting)

REAL_BACKGROUND = 0.1
"""Of features planted into a real model. Our choice: a peak is ten times the spread of its tokens in that direction."""
LEAST_IMAGES = 8
"""Photographs that planting takes."""


@dataclass(frozen=True)
class PlantedConfig:
    """A planted model's settings. Shares, noise and false positives by default are those of method, section 9.

    Raises:
        InfoscopeError: a setting is out of range, or the tokens are too short for the features.

    Example:
        >>> list(PlantedConfig(features=40).counts.items())[:4]
        [('local', 16), ('global', 10), ('position-bound', 10), ('diffuse', 4)]
        >>> planted_config("adversarial", seed=3).cornered
        0.5
    """

    features: Annotated[int, Range(4)] = 200
    """How many features are planted. Our choice: a class is then known to one or two in a hundred."""
    shares: PerKind = (0.40, 0.25, 0.25, 0.10)
    """Share of each kind in the order of `PURE`, among the features that are no mixtures."""
    strengths: PerKind = (1.0, 1.0, 1.0, 1.0)
    """Peak of the codes of each kind, in the order of `PURE`; a mixture's is 1. Our choice: noise and peak alone then
    matter."""
    mixtures: Annotated[tuple[float, float], Range(0, 1)] = (0.0, 0.0)
    """Share of all features that are mixtures: *mixed-maps*, local with a part of its mass in the same view on the
    outlier patches; and *mixed-images*, local in some images and on the outlier patches in others."""
    mixed_share: Rates = 0.3
    """What a mixture has on the outlier patches: share of a map's mass, or of the images in which the feature fires.
    Our choice, because a mixture of 70 and 30 % was once called local with a trust of 0.80."""
    noise: Amounts = 0.3
    """Standard deviation of the error of a code that is on, in peaks of its feature; drawn anew for every view. Where a
    feature is off it stays so: what fires wrongly is set by ``false_positives``."""
    background: AtLeast0 = 0.015
    """Standard deviation of the noise on every other code, in peaks. Our choice: over a token of width 384, a noise
    vector as long as 0.3 of a peak."""
    false_positives: Share = 0.1
    """Share of images in which a feature fires on some patch it has no reason to, with the strength that it would have
    had where it belongs."""
    dropout: Rates = 0.0
    """Share of the places where a code is on at which it is lost, drawn anew for every view. What fires falsely is
    never lost."""
    dropout_at_peak: Rates | None = None
    """The same for a code at the maximum of its view's map, and ``dropout`` for one near 0; the chance is linear
    between. Default: that of ``dropout``, at every height."""
    stray: Rates = 0.0
    """Share of the patches where a feature is off on which it fires astray, drawn anew for every view, with the
    strength of a patch of the view where it is on; in a silent view it stays silent."""
    gain: Amounts = 0.0
    """Standard deviation of the logarithm of a factor that a feature's whole map has in a view, drawn anew for every
    view."""
    peaked: bool = False
    """Whether the codes of a local feature or mixture rise up to its strongest patch. By default all patches that it
    covers at its peak have the same strength, which makes what they are known and their maps more even than real ones.
    """
    areas: Annotated[tuple[float, ...], Range(1)] | None = None
    """Patches that each feature covers at its peak, where it is local or a mixture; ``side`` squared by
    default."""
    threshold: AtLeast0 | None = None
    """What a code must exceed in the planted dictionary, in peaks. Default: what the largest of a silent view's codes
    hardly exceeds, ``background`` times sqrt(2 ln p^2) (Donoho and Johnstone 1994), and at least 0.01."""
    side: Positive = 3
    """Patches per side of what a feature covers at its peak: a local one has so many patches, squared, at its peak in a
    tenth of the images, and a position-bound one's window is a block of that side. Our choice: a twentieth of the
    picture."""
    outliers: Positive = 5
    """Outlier patches of a view, on which the global features sit. 2.6 % of the patches; Darcet et al. 2024 (arXiv
    2309.16588) found some 2 %."""
    outlier_norm: AtLeast0 = 16.0
    """Length that an outlier token has in a direction of its own, in peaks. Our choice: some four times the length
    of the other tokens."""
    outlier_keeps: Share = 1 / 3
    """Share that an outlier token keeps of what its patch would say. As reported for CLIP B/16 (secondary source),
    low-CDS features have 10.39 there of 31.51 elsewhere."""
    two_instances: Share = 0.0
    """Share of the local features that are chosen for having distant instances in a picture."""
    centre_biased: Share = 0.0
    """Share of the local features that are chosen for firing towards the middle of a picture."""
    cornered: Share = 0.0
    """Share of the position-bound features that are glued to a corner of the grid."""
    same_patch: Share = 0.0
    """Share of views in which the global features sit on their usual patches: for one half of them the same places of
    the grid, for the other half the flattest patches of the picture, which the shift does not change."""
    width: int = 384
    """Length of a token. That of a small vision transformer."""
    patch_size: Annotated[int, Range(4)] = 16
    """n, pixels per patch side. With the grid, those of CLIP B/16, on which the method was published."""
    grid: Annotated[int, Range(4)] = 14
    """p, patches per side."""
    seed: Count = 0
    """Seed of directions, features and noise."""

    def __post_init__(self) -> None:
        check_fields(self, "planted ")
        for name in ("shares", "strengths"):
            self._check(name, len(getattr(self, name)) == len(PURE), f"one number for each of {', '.join(PURE)}")
        self._check("mixtures", sum(self.mixtures) <= 1, "at most 1 in all")
        for name in ("mixed_share", "noise", "dropout", "dropout_at_peak", "stray", "gain"):
            given = getattr(self, name)
            known = not isinstance(given, tuple) or len(given) in (2, self.features)
            self._check(name, known, f"one number, a range, or one for each of {self.features} features")
        self._check("areas", self.areas is None or len(self.areas) == self.features, "one number for each feature")
        self._check("shares", abs(sum(self.shares) - 1) < 1e-6, "they make 1")
        self._check("centre_biased", self.two_instances + self.centre_biased <= 1, "with two_instances at most 1")
        self._check("side", self.side <= self.grid // 2, "at most half of the grid")
        self._check("outliers", self.outliers <= self.grid**2 // 4, "at most a quarter of the patches")

    def _check(self, name: str, good: bool, advice: str) -> None:
        if not good:
            raise InfoscopeError(f"planted {name} {getattr(self, name)} is out of range: {advice}")

    @property
    def counts(self) -> dict[Kind, int]:
        """How many features of each kind; what rounding leaves goes to the largest remainders."""
        pure = 1 - sum(self.mixtures)
        exact = [share * pure * self.features for share in self.shares]
        exact += [share * self.features for share in self.mixtures]
        counts = [int(number) for number in exact]
        for place in sorted(range(len(KINDS)), key=lambda i: counts[i] - exact[i])[: self.features - sum(counts)]:
            counts[place] += 1
        return dict(zip(KINDS, counts, strict=True))

    @property
    def kinds(self) -> list[Kind]:
        """The kind of each feature; the kinds follow each other in the order of `KINDS`."""
        return [kind for kind, count in self.counts.items() for _ in range(count)]

    @property
    def least_code(self) -> float:
        """``threshold``, with its default.

        Example:
            >>> round(PlantedConfig().least_code, 3)
            0.049
        """
        if self.threshold is not None:
            return self.threshold
        return max(self.background * math.sqrt(2 * math.log(self.patches)), 0.01)

    @property
    def patches(self) -> int:
        """p^2."""
        return self.grid**2


NOISE: dict[str, object] = {"dropout": (0.0, 0.5), "stray": 0.01}
"""The noise of the setting ``noisy``, in every kind. Our choice: local features that lose half of their places and
fire astray on a hundredth of the patches were called global by the older rules."""

_SETTINGS: dict[Setting, dict[str, object]] = {
    "default": {},
    "adversarial": {"two_instances": 1 / 3, "centre_biased": 1 / 3, "cornered": 0.5, "same_patch": 0.7},
    "noisy": NOISE,
    "mixtures": {"mixtures": (0.25, 0.25), "mixed_share": (0.3, 0.7)},
}


def planted_config(setting: Setting, **options: object) -> PlantedConfig:
    """One of the settings fixed in method, section 9.

    Args:
        setting: ``default``; ``adversarial``, where a third of the local features have two distant instances in a
            picture and a third fire towards its middle, half of the position-bound ones are glued to corners, and the
            global ones sit on their usual patches in 70 % of views; ``noisy``, where each feature loses up to half of
            its places and fires astray on 1 % of the others; or ``mixtures``, where half of the features are mixtures
            of local and global, with 30 to 70 % of global.
        **options: what else is to differ, by name.

    Raises:
        InfoscopeError: there is no such setting, or an option is out of range.
    """
    check_choice("setting", setting, Setting)
    return PlantedConfig(**{**_SETTINGS[setting], **options})  # type: ignore[arg-type]
