"""What differs between two views of the same picture: hashed chance, and the noise of codes that is drawn from it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def view_chance(view: UInt8[Tensor, "row column 3"], seed: int) -> np.random.Generator:
    """A generator that depends on every pixel of a view.

    Example:
        >>> view = torch.zeros(4, 4, 3, dtype=torch.uint8)
        >>> view_chance(view, 0).random() == view_chance(view.clone(), 0).random() != view_chance(view + 1, 0).random()
        True
    """
    digest = hashlib.sha256(seed.to_bytes(8, "big") + view.cpu().contiguous().numpy().tobytes()).digest()
    return np.random.Generator(np.random.SFC64(int.from_bytes(digest[:16], "big")))


def layout_chance(view: UInt8[Tensor, "row column 3"], seed: int) -> np.random.Generator:
    """A generator that depends on what is where in a view, and hardly on pixel noise.

    A dozen coarse colours of ninths of the view are hashed. What is parked by them moves when the crop does and stays
    when only noise differs.

    Example:
        >>> view = torch.full((9, 9, 3), 100, dtype=torch.uint8)
        >>> layout_chance(view, 0).random() == layout_chance(view + 1, 0).random()
        True
        >>> layout_chance(view, 0).random() == layout_chance(view + 100, 0).random()
        False
    """
    colours = view.cpu().float().permute(2, 0, 1)
    ninths = torch.nn.functional.adaptive_avg_pool2d(colours, 3)
    steps = ((ninths + 8.0) / 21.0).floor().to(torch.uint8)
    digest = hashlib.sha256(b"layout" + seed.to_bytes(8, "big") + steps.contiguous().numpy().tobytes()).digest()
    return np.random.Generator(np.random.SFC64(int.from_bytes(digest[:16], "big")))


def uniform(chance: np.random.Generator, *shape: int) -> Float[Tensor, ...]:
    """Uniform numbers on 0..1."""
    return torch.from_numpy(chance.random(shape, dtype=np.float32))


def normal(chance: np.random.Generator, *shape: int) -> Float[Tensor, ...]:
    """Standard normal numbers."""
    return torch.from_numpy(chance.standard_normal(shape, dtype=np.float32))


@dataclass(frozen=True)
class CodeNoise:
    """The noise of each feature's codes, ``[feature]`` each.

    Attributes:
        lost: chance that a weak code is lost.
        lost_at_peak: chance that a map's largest code is lost; linear in the height between.
        stray: chance that a patch without a code gets one, in a view in which the feature fires.
        gain: spread of the logarithm of a whole map's factor.
        error: spread of the logarithm of each code's own.
    """

    lost: Float[Tensor, " feature"]
    lost_at_peak: Float[Tensor, " feature"]
    stray: Float[Tensor, " feature"]
    gain: Float[Tensor, " feature"]
    error: Float[Tensor, " feature"]

    def applied(
        self,
        codes: Float[Tensor, "patch feature"],
        chance: np.random.Generator,
        peak: Float[Tensor, " feature"] | None = None,
    ) -> Float[Tensor, "patch feature"]:
        """Codes as a view with this chance has them.

        A code astray is as strong as that of a patch drawn from those where the feature is on. An error has the mean 1.
        Heights are relative to ``peak``, by default each map's largest code.

        Example:
            >>> none, half = torch.zeros(2), torch.full((2,), 0.5)
            >>> noise = CodeNoise(half, half, none, none, none)
            >>> codes = noise.applied(torch.ones(1000, 2), np.random.default_rng(0))
            >>> bool(((codes.mean(0) > 0.45) & (codes.mean(0) < 0.55)).all()), codes.unique().tolist()
            (True, [0.0, 1.0])
        """
        patches, features = codes.shape
        device = codes.device
        fate, error = uniform(chance, patches, features).to(device), normal(chance, patches, features).to(device)
        gain = normal(chance, features).to(device)
        appears, source = uniform(chance, patches, features).to(device), uniform(chance, patches, features).to(device)
        fires = codes > 0
        relative = (codes / (codes.amax(0) if peak is None else peak).clamp_min(1e-9)).clamp(max=1)
        kept = fires & (fate >= self.lost * (1 - relative) + self.lost_at_peak * relative)
        # A random order of the patches that fire: the one a stray code copies is the n-th of them.
        order = torch.argsort(torch.where(fires, fate, 2.0), dim=0)
        count = fires.sum(0)
        nth = (source * count).long().clamp(max=patches - 1)
        copied = codes.gather(0, order.gather(0, nth))
        strays = ~fires & (appears < self.stray) & (count > 0)
        noisy = torch.where(kept, codes, 0.0) + torch.where(strays, copied, 0.0)
        noisy = noisy * torch.exp(self.error * error - self.error**2 / 2)
        return noisy * torch.exp(self.gain * gain)
