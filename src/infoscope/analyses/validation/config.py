"""What a validation runs: which cases, on how many photographs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from infoscope.analyses.planted.config import LEAST_IMAGES, REAL_BACKGROUND, SETTINGS, PlantedConfig, Setting
from infoscope.errors import InfoscopeError

Axis = Literal["main", "noise", "background", "top_images", "shift", "cosine", "photographs"]
Dictionary = Literal["planted", "turned", "trained"]
World = Literal["planted", "real"]

# Where each curve is measured beside the defaults; powers of two and round numbers to both sides.
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
        setting: of the planted features.
        seed: of the planted features.
        dictionary: the planted directions; these turned away by an angle; or an SAE trained on the tokens.
        axis: which curve it belongs to.
        noise: standard deviation of the error of codes that are on, in peaks.
        background: that of the noise on all others; in a real model, that of its own tokens.
        top_images: k.
        shift: s.
        cosine: of the turned directions with the planted ones.
        photographs: how many.
        outlier_model: local and global features alone, as in the paper's picture of two groups.
    """

    world: World
    setting: Setting
    seed: int
    dictionary: Dictionary = "planted"
    axis: Axis = "main"
    noise: float = 0.3
    background: float = 0.015
    top_images: int = 16
    shift: int = 2
    cosine: float = 1.0
    photographs: int = 300
    outlier_model: bool = False

    @property
    def title(self) -> str:
        """What it is, for progress lines and file names.

        Example:
            >>> Case("planted", "default", 0, axis="noise", noise=0.5).title
            'planted default seed 0, planted dictionary, noise 0.5'
        """
        varied = {"main": "", "photographs": f", {self.photographs} photographs"}
        word = varied.get(self.axis)
        if word is None:
            word = f", {self.axis.replace('_', ' ')} {getattr(self, self.axis):g}"
        kinds = ", outlier model" if self.outlier_model else ""
        return f"{self.world} {self.setting} seed {self.seed}, {self.dictionary} dictionary{word}{kinds}"


@dataclass(frozen=True)
class ValidateConfig:
    """The options of a validation; the same options on the same photographs give the same tables.

    Raises:
        InfoscopeError: an option is out of range.

    Example:
        >>> len(ValidateConfig(seeds=2, curves=False, trained=False).cases(real=False))
        5
    """

    photographs: int = 300
    """How many photographs, spread evenly over the images. Our choice: a feature is at its peak in thirty of them,
    twice as many as make its score."""
    seeds: int = 5
    """Planted models to a setting. Method, section 9."""
    features: int = 200
    """Planted features to a model. Our choice."""
    top_images: int = 16
    """k, as in a measurement."""
    shift: int = 2
    """s, as in a measurement."""
    trained: bool = True
    """Also train an SAE on each planted model's tokens, and match its features to the planted ones."""
    trained_features: int = 400
    """Features of that SAE. Our choice: twice the planted ones."""
    trained_k: int = 16
    """Codes a token keeps in that SAE. Our choice: about as many as are planted on an outlier token."""
    tokens: int = 600_000
    """Tokens it is trained on, 512 to a step. Our choice: some ten passes over 300 photographs."""
    curves: bool = True
    """Also vary noise, background, top images, shift, SAE error and photographs, with each setting's first seed."""
    real_seeds: int = 1
    """Seeds of the features planted into a real model, where one is named: it takes a real model's passes."""

    def __post_init__(self) -> None:
        for name, least in (
            ("photographs", LEAST_IMAGES),
            ("seeds", 1),
            ("features", 8),
            ("top_images", 1),
            ("shift", 0),
            ("trained_features", 1),
            ("trained_k", 1),
            ("tokens", 1),
            ("real_seeds", 1),
        ):
            if getattr(self, name) < least:
                flag = name.replace("_", "-")
                raise InfoscopeError(f"--{flag} {getattr(self, name)} is out of range: choose {least} or more")
        most = PlantedConfig().grid - 2
        if self.shift > most:
            raise InfoscopeError(f"--shift {self.shift} leaves no overlap: choose 0 to {most}")
        if self.trained and self.trained_features < self.features:
            raise InfoscopeError(
                f"--trained-features {self.trained_features} cannot stand for {self.features} planted ones: "
                "choose as many or more"
            )
        if self.trained and self.trained_k > self.trained_features:
            raise InfoscopeError(f"--trained-k {self.trained_k} is more than --trained-features; lower it")

    def cases(self, real: bool) -> list[Case]:
        """All measurements, those of one planted model together.

        Args:
            real: whether features are planted into a real model too.
        """
        found = []
        for setting in SETTINGS:
            base = self._base(setting)
            for seed in range(self.seeds):
                found.append(replace(base, seed=seed))
                if self.trained:
                    found.append(replace(base, seed=seed, dictionary="trained"))
            if self.curves:
                found += self._curves(base)
        found.append(replace(self._base("default"), outlier_model=True))
        if real:
            seeds = range(self.real_seeds)
            found += [
                replace(self._base(setting), world="real", seed=seed, background=REAL_BACKGROUND)
                for setting in SETTINGS
                for seed in seeds
            ]
        return found

    def _base(self, setting: Setting) -> Case:
        return Case("planted", setting, 0, top_images=self.top_images, shift=self.shift, photographs=self.photographs)

    def _curves(self, base: Case) -> list[Case]:
        fewer = [round(share * self.photographs) for share in PHOTOGRAPHS]
        return [
            *[replace(base, axis="cosine", dictionary="turned", cosine=cosine) for cosine in COSINE],
            *[replace(base, axis="top_images", top_images=k) for k in TOP_IMAGES if k != self.top_images],
            *[replace(base, axis="shift", shift=shift) for shift in SHIFT if shift != self.shift],
            *[replace(base, axis="noise", noise=noise) for noise in NOISE],
            *[replace(base, axis="background", background=noise) for noise in BACKGROUND],
            *[replace(base, axis="photographs", photographs=count) for count in fewer if count >= LEAST_IMAGES],
        ]
