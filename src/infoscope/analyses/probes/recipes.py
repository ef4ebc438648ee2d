"""Probe recipes by name, and the ways to train that they are made of.

A recipe is a named, versioned preset. A published score belongs to its recipe, so every constant is in a recipe, with
its source or a word that it is our choice, and none is in the heads. Each task keeps its own presets beside its head;
`docs/probes.md` says what they do and how they differ from what was published.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from infoscope.errors import InfoscopeError

# The version rises whenever a constant or a step changes in any task; a result names both.
RECIPES = {"simple": 1, "dinov2": 1}


def check_recipe(name: str) -> None:
    """Refuse a recipe that there is not.

    Raises:
        InfoscopeError: there is none of that name.

    Example:
        >>> check_recipe("best")
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: --recipe 'best' is not known: choose simple or dinov2
    """
    if name not in RECIPES:
        raise InfoscopeError(f"--recipe {name!r} is not known: choose {' or '.join(RECIPES)}")


@dataclass(frozen=True)
class LogisticPath:
    """Multinomial logistic regression by L-BFGS over a path of L2 strengths, strongest first, each from the last.

    The objective is the mean cross-entropy + strength / 2 * the sum of squared weights of standardised features; the
    bias is free. scikit-learn's C is 1 / (strength * rows).
    """

    strengths: tuple[float, ...] = (1.0, 10**-0.5, 1e-1, 10**-1.5, 1e-2, 10**-2.5, 1e-3, 10**-3.5, 1e-4)
    """Our choice: from all but no fit to all but no penalty. Ten times weaker still, 160 steps leave the objective of
    400 photographs 0.3 % apart for two orders of the same rows."""
    tolerance: float = 1e-8
    """A strength is done when a step lowers the objective by less (scipy's ``ftol``; a share of it where it is over 1).
    Measured on 400 photographs: at 1e-6 the order of rows moves weak strengths' objective by 1 %, at 1e-8 by 0.01 %."""
    iterations: int = 300
    """At most so many steps a strength. Measured on the same photographs: 17 for the strongest, 150 for the weakest."""


@dataclass(frozen=True)
class RidgePath:
    """Ridge regression in closed form, all strengths from one pass.

    The objective is that of `LogisticPath` with half of the mean squared error in place of the cross-entropy.
    scikit-learn's alpha is strength * rows.
    """

    strengths: tuple[float, ...] = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    """Our choice: from a heavy penalty to none; a strength costs a solve of [width, width], so seven are tried."""


class Descent:
    """What all ways of training by gradient steps share."""

    batch: int
    epochs: int
    least_steps: int

    def plan(self, images: int) -> tuple[int, int]:
        """Images to a batch, and how many steps there are.

        Example:
            >>> Sgd().plan(images=1_281_167), Sgd().plan(images=320)
            ((1024, 12510), (320, 1250))
        """
        batch = min(self.batch, images)
        return batch, max(self.least_steps, self.epochs * (images // batch))


@dataclass(frozen=True)
class Sgd(Descent):
    """Stochastic gradient descent with momentum, its learning rate falling along half a cosine."""

    learning_rates: tuple[float, ...] = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)
    """For a batch of 256; times batch / 256 (DINOv2's code, eval/linear.py)."""
    momentum: float = 0.9
    """DINOv2's code."""
    batch: int = 1024
    """Images. DINOv2's code: 128 on each of 8 GPUs."""
    epochs: int = 10
    """DINOv2's code: 12,500 steps of 1,024 are ten passes over ImageNet."""
    least_steps: int = 1250
    """Our choice: small sets are passed over until there are as many steps as in a tenth of the published training."""
    start_std: float = 0.01
    """Of the normal weights at the start; biases start at 0 (DINOv2's code)."""
    window: int = 65536
    """Rows that are mixed in one go. Our choice: sets of up to so many are shuffled as a whole, and of larger ones no
    more is held in memory."""

    def pace(self, step: int, steps: int) -> float:
        """Share of the learning rate at a step, along half a cosine from 1 to 0.

        Example:
            >>> Sgd().pace(0, 10), round(Sgd().pace(5, 10), 3)
            (1.0, 0.5)
        """
        return (1 + math.cos(math.pi * step / steps)) / 2


@dataclass(frozen=True)
class AdamW(Descent):
    """AdamW on whole pictures; warmed up linearly, then falling."""

    learning_rates: tuple[float, ...]
    weight_decay: float
    decay: str
    """``linear`` or ``cosine``, to 0."""
    warmup: float
    """Share of the steps."""
    warmup_start: float
    """Share of the learning rate at the first step."""
    clip: float | None
    """Largest norm of all of a head's gradients."""
    batch: int = 16
    """Images. DINOv2's configurations: 2 on each of 8 GPUs."""
    epochs: int = 32
    """40,000 steps of 16 are 32 passes over ADE20K."""
    least_steps: int = 1000
    """Our choice: small sets are passed over until there are so many steps."""
    start_std: float = 0.01
    """Of the normal weights at the start; biases start at 0 (mmsegmentation's decode heads)."""
    betas: tuple[float, float] = (0.9, 0.999)
    """DINOv2's configurations."""

    def pace(self, step: int, steps: int) -> float:
        """Share of the learning rate at a step: a line up, times a line or half a cosine down.

        Example:
            >>> solver = AdamW((1e-3,), 1e-4, decay="linear", warmup=1500 / 40000, warmup_start=1e-6, clip=None)
            >>> [round(solver.pace(step, 40000), 4) for step in (0, 750, 1500, 20000)]
            [0.0, 0.4906, 0.9625, 0.5]
        """
        done = step / steps
        falling = 1 - done if self.decay == "linear" else (1 + math.cos(math.pi * done)) / 2
        warm = step / (self.warmup * steps) if self.warmup * steps >= 1 else 1.0
        return falling * (1 - (1 - min(warm, 1.0)) * (1 - self.warmup_start))
