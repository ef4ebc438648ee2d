"""The settings of the second family of planted models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from infoscope.errors import InfoscopeError, check_choice
from infoscope.runtime.typed import AtLeast0, Count, Positive, Range, Share, check_fields

BlobKind = Literal["local", "global", "position-bound", "diffuse", "mixed-maps", "mixed-images"]
BlobSetting = Literal["default", "adversarial", "noisy", "mixtures"]
BLOB_KINDS: tuple[BlobKind, ...] = get_args(BlobKind)

PerFeature = Annotated[float | tuple[float, ...], Range(0)]
"""A number for all features; two, a range from which each draws; or one for each."""

LEAST_MOVED = 0.75
"""A parked feature is *global* where its seats are drawn anew in at least this share of pairs of views, by the
specified definition of the class; with less it is a mixture over images."""

LEAST_PHOTOGRAPHS = 8
"""Photographs that limits are set on. Our choice: a feature then fires in two of them."""


@dataclass(frozen=True)
class BlobsConfig:
    """A planted model of the second family.

    Raises:
        InfoscopeError: a setting is out of range.

    Example:
        >>> BlobsConfig(features=40).numbers
        (16, 10, 10, 4, 0, 0)
        >>> blobs_config("noisy").dropout
        (0.0, 0.5)
    """

    features: Annotated[int, Range(8)] = 200
    """How many are planted. Our choice: as many as in the first family."""
    shares: Annotated[tuple[float, float, float, float], Range(0)] = (0.40, 0.25, 0.25, 0.10)
    """Shares of local, parked, position-bound and diffuse features among those that are no mixtures. Method, section 9.
    """
    mixtures: Annotated[tuple[float, float], Range(0, 1)] = (0.0, 0.0)
    """Shares of mixtures within maps and over images."""
    mixed_share: Annotated[float | tuple[float, ...], Range(0, 1)] = 0.3
    """Parked share of a mixture. Our choice, as in the first family."""
    textured: Share = 1 / 3
    """Share of the local features that fire on regions of texture; the others are blobs."""
    instances: Annotated[tuple[int, int], Range(1)] = (1, 3)
    """Fewest and most blobs in a picture in which a feature fires; each feature has its number in between."""
    radius: Annotated[tuple[float, float], Range(above=0)] = (0.5, 1.1)
    """Standard deviation of a blob in patches, each feature's own. Our choice: it covers 2 to 9 patches."""
    areas: Annotated[tuple[float, ...], Range(1)] | None = None
    """Patches that each local feature or mixture covers, in place of what ``radius`` gives: blobs share it."""
    distant: Share = 0.0
    """Share of the blobs that are chosen for having their two strongest instances far apart."""
    centred: Share = 0.0
    """Share of the blobs that are chosen for firing towards the middle of a picture."""
    edged: Share = 0.4
    """Share of the position-bound features that lie along the border or in a corner of the view."""
    rates: Annotated[tuple[float, ...], Range(0, 1)] = (0.3, 0.6, 1.0)
    """Shares of views in which the seats of parked features are drawn anew; each feature has one of them. Our choice:
    the rare, the frequent and the certain."""
    seats: Positive = 2
    """Patches that a parked feature is on, the same for all of one rate. Our choice: three rates make six outlier
    tokens of a view, one more than in the first family."""
    home: Share = 0.0
    """Share of the views in which the parked features of a rate sit at fixed places of the grid."""
    error: PerFeature = 0.3
    """Standard deviation of the logarithm of a code's error, drawn anew for every view. Method, section 9, has 0.3 of a
    peak; here the error multiplies."""
    background: AtLeast0 = 0.015
    """Standard deviation of the noise of a token along any direction. Our choice, as in the first family."""
    false_positives: Share = 0.1
    """Share of pictures in which a feature fires on a wrong patch. Method, section 9."""
    dropout: Annotated[float | tuple[float, ...], Range(0, 1)] = 0.0
    """Share of the places where a code is on at which it is lost in a view."""
    dropout_at_peak: Annotated[float | tuple[float, ...], Range(0, 1)] | None = None
    """The same for the largest code of a view's map; linear in a code's height between. Default: ``dropout``."""
    stray: Annotated[float | tuple[float, ...], Range(0, 1)] = 0.0
    """Share of the patches without a code on which one appears in a view in which the feature fires."""
    gain: PerFeature = 0.0
    """Standard deviation of the logarithm of a factor of a feature's whole map in a view."""
    outlier_norm: AtLeast0 = 16.0
    """Length of the seats' tokens along a direction of their own. Our choice, as in the first family."""
    width: Positive = 320
    """Length of a token. Our choice: a half more than there are features."""
    patch_size: Annotated[int, Range(4)] = 16
    """n, pixels; even, because places are found on half patches."""
    grid: Annotated[int, Range(6)] = 14
    """p, patches per side."""
    seed: Count = 0
    """Seed of everything that is drawn."""

    def __post_init__(self) -> None:
        check_fields(self, "planted blobs' ")
        self._check("shares", abs(sum(self.shares) - 1) < 1e-6, "they make 1")
        self._check("mixtures", sum(self.mixtures) <= 1, "at most 1 in all")
        self._check("patch_size", self.patch_size % 2 == 0, "choose an even number")
        self._check("instances", self.instances[0] <= self.instances[1], "the fewest first")
        self._check("width", self.width > self.features, f"more than the {self.features} features")
        self._check("seats", self.seats <= self.grid**2 // 5, "at most a fifth of the patches")
        self._check("distant", self.distant + self.centred <= 1, "with centred at most 1")
        for name in ("mixed_share", "error", "dropout", "dropout_at_peak", "stray", "gain"):
            given = getattr(self, name)
            known = not isinstance(given, tuple) or len(given) in (2, self.features)
            self._check(name, known, f"one number, a range, or one for each of {self.features} features")
        self._check("areas", self.areas is None or len(self.areas) == self.features, "one number for each feature")

    def _check(self, name: str, good: bool, advice: str) -> None:
        if not good:
            raise InfoscopeError(f"planted blobs' {name} {getattr(self, name)} is out of range: {advice}")

    @property
    def numbers(self) -> tuple[int, int, int, int, int, int]:
        """Features made as local, parked, position-bound, diffuse, mixture within maps, mixture over images."""
        maps, images = (int(share * self.features + 0.5) for share in self.mixtures)
        pure = self.features - maps - images
        parked, bound, diffuse = (int(share * pure + 0.5) for share in self.shares[1:])
        return pure - parked - bound - diffuse, parked, bound, diffuse, maps, images


_NAMED: dict[BlobSetting, dict[str, object]] = {
    "default": {},
    "adversarial": {"instances": (2, 3), "distant": 1 / 3, "centred": 1 / 3, "edged": 0.8, "home": 0.4},
    "noisy": {"dropout": (0.0, 0.5), "stray": 0.01},
    "mixtures": {"mixtures": (0.25, 0.25), "mixed_share": (0.3, 0.7)},
}


def blobs_config(setting: BlobSetting, **options: object) -> BlobsConfig:
    """A setting of the second family.

    Args:
        setting: ``default``; ``adversarial``, where no blob is alone in its picture, a third of them have distant
            instances and a third fire towards the middle, most position-bound features lie on the border, and parked
            ones sit at fixed places in 40 % of views; ``noisy``, where each feature loses up to
            half of its places and fires astray on 1 % of the others; or ``mixtures``, with half of the features
            mixtures of 30 to 70 %.
        **options: what else is to differ, by name.

    Raises:
        InfoscopeError: there is no such setting, or an option is out of range.
    """
    check_choice("setting", setting, BlobSetting)
    return BlobsConfig(**{**_NAMED[setting], **options})  # type: ignore[arg-type]
