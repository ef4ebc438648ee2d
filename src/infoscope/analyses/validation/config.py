"""The options of a validation: which cases it measures, on how many photographs."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal, get_args

from infoscope.analyses.planted.config import REAL_BACKGROUND, SETTINGS, PlantedConfig, Setting
from infoscope.analyses.planted_blobs.config import LEAST_PHOTOGRAPHS
from infoscope.errors import InfoscopeError
from infoscope.runtime.typed import Count, Positive, Range, check_fields

Axis = Literal["main", "noise", "background", "top_images", "shift", "cosine", "photographs"]
Dictionary = Literal["planted", "turned", "trained"]
World = Literal["planted", "real"]
PlantedFamily = Literal["patches", "blobs"]
"""The two families of generators: features of single patches (`infoscope.plant`), and blobs and regions
(`infoscope.plant_blobs`). Rules that are chosen on one are reported on the other."""
CaseSetting = Literal["default", "adversarial", "noisy", "mixtures", "like-real"]

FAMILIES: tuple[PlantedFamily, ...] = get_args(PlantedFamily)
BASIC: tuple[Setting, ...] = ("default", "adversarial")
"""The settings of which curves are measured, that SAEs are trained on, and that are planted into a real model."""

# Where each curve is measured besides the defaults: powers of two and round numbers on both sides.
NOISE = (0.0, 0.6, 1.0)
BACKGROUND = (0.1, 0.2, 0.3, 0.5)
TOP_IMAGES = (4, 8, 32, 64)
SHIFT = (1, 4, 6, 9)
COSINE = (0.8, 0.5, 0.3)
PHOTOGRAPHS = (0.2, 0.5)
"""Shares of the photographs."""


@dataclass(frozen=True)
class Case:
    """One measurement of a validation.

    Attributes:
        world: a planted model, or a real one with planted features.
        setting: setting of the planted features.
        family: the generators that they are of.
        seed: seed of the planted features.
        dictionary: the planted directions; these turned by an angle; or an SAE trained on the tokens.
        axis: the curve that the case belongs to.
        noise: standard deviation of the error of codes that are on, in peaks.
        background: standard deviation of all other codes; in a real model, of its own tokens.
        top_images: k.
        shift: s.
        cosine: cosine of the turned directions with the planted ones.
        photographs: number of photographs.
        outlier_model: whether there are local and global features alone, the two kinds of the paper.
    """

    world: World
    setting: CaseSetting
    seed: int
    family: PlantedFamily = "patches"
    dictionary: Dictionary = "planted"
    axis: Axis = "main"
    noise: float = 0.3
    background: float = 0.015
    top_images: int = 16
    shift: int = 2
    cosine: float = 1.0
    photographs: int = 300
    outlier_model: bool = False

    def recorded(self) -> dict[str, Any]:
        """The case as columns of the tables; a number that does not apply is None."""
        return {name: None if value != value else value for name, value in asdict(self).items()}

    @property
    def title(self) -> str:
        """The case in words, for progress lines.

        Example:
            >>> Case("planted", "default", 0, axis="noise", noise=0.5).title
            'planted default seed 0, patches, planted dictionary, noise 0.5'
        """
        words = {"main": "", "photographs": f", {self.photographs} photographs"}
        varied = words.get(self.axis)
        if varied is None:
            varied = f", {self.axis.replace('_', ' ')} {getattr(self, self.axis):g}"
        kinds = ", outlier model" if self.outlier_model else ""
        return (
            f"{self.world} {self.setting} seed {self.seed}, {self.family}, {self.dictionary} dictionary{varied}{kinds}"
        )


@dataclass(frozen=True)
class ValidateConfig:
    """The options of a validation; the same options on the same photographs give the same tables.

    Raises:
        InfoscopeError: an option is out of range.

    Example:
        >>> len(ValidateConfig(seeds=2, curves=False, trained=False).cases(real=False))
        17
    """

    photographs: Annotated[int, Range(LEAST_PHOTOGRAPHS)] = 300
    """How many photographs, spread evenly over the images. Our choice: a feature is at its peak in thirty of them,
    twice as many as make its score."""
    seeds: Positive = 5
    """Planted models to a setting. Method, section 9."""
    first_seed: Count = 0
    """The first of these seeds. For a last look at seeds that served for no choice."""
    features: Annotated[int, Range(8)] = 200
    """Planted features to a model. Our choice."""
    top_images: Positive = 16
    """k, as in a measurement."""
    shift: Count = 2
    """s, as in a measurement."""
    trained: bool = True
    """Also train an SAE on each planted model's tokens, and match its features to the planted ones."""
    trained_features: Positive = 400
    """Features of that SAE. Our choice: twice the planted ones."""
    trained_k: Positive = 16
    """Codes a token keeps in that SAE. Our choice: about as many as are planted on an outlier token."""
    tokens: Positive = 600_000
    """Tokens it is trained on, 512 to a step. Our choice: some ten passes over 300 photographs."""
    curves: bool = True
    """Also vary noise, background, top images, shift, SAE error and photographs, with each setting's first seed."""
    real_seeds: Positive = 1
    """Seeds of the features planted into a real model, where one is named: it takes a real model's passes."""

    def __post_init__(self) -> None:
        check_fields(self)
        most = PlantedConfig.grid - 2
        if self.shift > most:
            raise InfoscopeError(f"--shift {self.shift} leaves no overlap: choose 0 to {most}")
        if self.trained and self.trained_features < self.features:
            raise InfoscopeError(
                f"--trained-features {self.trained_features} cannot stand for {self.features} planted ones: "
                "choose as many or more"
            )
        if self.trained and self.trained_k > self.trained_features:
            raise InfoscopeError(f"--trained-k {self.trained_k} is more than --trained-features; lower it")

    @property
    def planted_seeds(self) -> range:
        """The seeds of the planted models.

        Example:
            >>> list(ValidateConfig(seeds=2, first_seed=100).planted_seeds)
            [100, 101]
        """
        return range(self.first_seed, self.first_seed + self.seeds)

    def cases(self, real: bool) -> list[Case]:
        """All cases, with those of one planted model next to each other.

        Args:
            real: whether features are also planted into a real model.
        """
        cases = []
        for setting in SETTINGS:
            base = self._base(setting)
            for seed in self.planted_seeds:
                cases.append(replace(base, seed=seed))
                if self.trained and setting in BASIC:
                    cases.append(replace(base, seed=seed, dictionary="trained"))
            if self.curves and setting in BASIC:
                cases += self._curves(base)
        cases.append(replace(self._base("default"), outlier_model=True))
        for setting in SETTINGS:
            cases += [replace(self._base(setting), seed=seed, family="blobs") for seed in self.planted_seeds]
        if real:
            seeds = range(self.first_seed, self.first_seed + self.real_seeds)
            cases += [
                replace(self._base(setting), world="real", seed=seed, background=REAL_BACKGROUND)
                for setting in BASIC
                for seed in seeds
            ]
        return cases

    def like_real(self) -> list[Case]:
        """The cases of planted models like a real run, whose options these are."""
        # Each feature has its own noise, so that there is none to record for all.
        base = replace(self._base("default"), setting="like-real", noise=math.nan)
        return [replace(base, family=family, seed=seed) for family in FAMILIES for seed in self.planted_seeds]

    def _base(self, setting: Setting) -> Case:
        seed, k = self.first_seed, self.top_images
        return Case("planted", setting, seed, top_images=k, shift=self.shift, photographs=self.photographs)

    def _curves(self, base: Case) -> list[Case]:
        fewer = [round(share * self.photographs) for share in PHOTOGRAPHS]
        return [
            *[replace(base, axis="cosine", dictionary="turned", cosine=cosine) for cosine in COSINE],
            *[replace(base, axis="top_images", top_images=k) for k in TOP_IMAGES if k != self.top_images],
            *[replace(base, axis="shift", shift=shift) for shift in SHIFT if shift != self.shift],
            *[replace(base, axis="noise", noise=noise) for noise in NOISE],
            *[replace(base, axis="background", background=noise) for noise in BACKGROUND],
            *[replace(base, axis="photographs", photographs=count) for count in fewer if count >= LEAST_PHOTOGRAPHS],
        ]
