"""Losses of a picture's pixels, and their slopes for the values on the patch grid."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from infoscope.analyses.probes.recipes import DepthRecipe
from infoscope.analyses.probes.upsampling import Upsampling

Grid = Float32[Tensor, "grid channel grid"]


def cross_entropy(
    logits: Grid, mask: Int64[Tensor, "row column"], counts: Bool[Tensor, "row column"], upsampling: Upsampling
) -> tuple[float, Grid]:
    """Summed cross-entropy of the upsampled logits at the pixels that count, and its slope for the logits.

    Args:
        logits: on the grid, a channel a class.
        mask: each pixel's class.
        counts: which pixels count.
        upsampling: from the grid to the mask's size.

    Example:
        >>> up = Upsampling.between(1, (1, 2))
        >>> mask, counts = torch.tensor([[0, 1]]), torch.tensor([[True, False]])
        >>> loss, slope = cross_entropy(torch.zeros(1, 2, 1), mask, counts, up)
        >>> round(loss, 4), slope.ravel().tolist()
        (0.6931, [-0.5, 0.5])
    """
    loss, slope = 0.0, torch.zeros_like(logits)
    for strip in upsampling.strips(logits.shape[1]):
        shares = upsampling.up(logits, strip).log_softmax(1)
        at, some = mask[strip][:, None], counts[strip][:, None]
        loss -= float((shares.gather(1, at) * some).sum(dtype=torch.float64))
        error = shares.exp_()
        error.scatter_add_(1, at, error.new_full((1, 1, 1), -1.0).expand_as(at))
        slope += upsampling.back(error.mul_(some), strip)
    return loss, slope


@dataclass(frozen=True, eq=False)
class Binned:
    """Depths from bins that are weighed against each other, with linear normalisation (Bhat et al. 2021, as in DINOv2).

    A bin's weight is max(logit, 0) + floor; the depth is the mean of the bins by weight.

    Attributes:
        bins: each bin's depth, in metres.
        floor: what each bin has at least.
        upsampling: from the patch grid to the finer grid on which bins are weighed.
    """

    bins: Float32[Tensor, " bin"]
    floor: float
    upsampling: Upsampling

    @staticmethod
    def of(recipe: DepthRecipe, grid: int, device: str = "cpu") -> Binned:
        """As a recipe has them."""
        assert recipe.bins is not None
        fine = grid * recipe.upsampling
        bins = torch.linspace(recipe.least_depth, recipe.most_depth, recipe.bins, device=device)
        return Binned(bins, recipe.bin_floor, Upsampling.between(grid, (fine, fine), device))

    def depth(self, logits: Grid) -> Float32[Tensor, "fine fine"]:
        """Depths on the finer grid."""
        weights = self.upsampling.whole(logits).relu_().add_(self.floor)
        return torch.einsum("rkc,k->rc", weights, self.bins) / weights.sum(1)

    def back(self, logits: Grid, slope: Float32[Tensor, "fine fine"]) -> Grid:
        """What slopes of the depths are for the logits."""
        raw = self.upsampling.whole(logits)
        weights = raw.relu() + self.floor
        total = weights.sum(1)
        depth = torch.einsum("rkc,k->rc", weights, self.bins) / total
        change = (self.bins[None, :, None] - depth[:, None]) * (slope / total)[:, None]
        return self.upsampling.back(change * (raw > 0), slice(None))


@dataclass
class LogRatios:
    """Sums over a batch's pixels of g, the logarithm of predicted over true depth."""

    count: float = 0.0
    first: float = 0.0
    second: float = 0.0

    def add(self, ratio: Float32[Tensor, " pixel"]) -> None:
        """Take some pixels in."""
        self.count += len(ratio)
        self.first += float(ratio.sum(dtype=torch.float64))
        self.second += float((ratio.double() ** 2).sum())

    def loss(self, recipe: DepthRecipe, *, only_mean: bool) -> float:
        """sqrt(variance + weight * mean squared) of g; without the variance where only the mean counts."""
        mean, variance = self._moments()
        return float(((0.0 if only_mean else variance) + recipe.mean_weight * mean**2) ** 0.5)

    def slope(
        self, ratio: Float32[Tensor, "row column"], recipe: DepthRecipe, *, only_mean: bool
    ) -> Float32[Tensor, "row column"]:
        """Of the loss for each pixel's g."""
        mean, _ = self._moments()
        loss = max(self.loss(recipe, only_mean=only_mean), 1e-12)
        level = recipe.mean_weight * mean / self.count
        if only_mean:
            return torch.full_like(ratio, level / loss)
        return ((ratio - mean) / (self.count - 1) + level) / loss

    def _moments(self) -> tuple[float, float]:
        mean = self.first / self.count
        return mean, max(self.second - self.count * mean**2, 0.0) / max(self.count - 1, 1)
