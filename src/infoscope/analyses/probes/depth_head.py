"""A linear predictor of depth from patches, scored at the size of each depth map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from infoscope.analyses.probes.convex import moments_of, ridge_path
from infoscope.analyses.probes.dense_head import (
    DenseFit,
    DenseHead,
    DenseRecipe,
    Grid,
    bilinear_shares,
    upsampled,
)
from infoscope.analyses.probes.linear import Linear
from infoscope.analyses.probes.reading import DenseFeatures, Index, Targets
from infoscope.analyses.probes.recipes import AdamW, RidgePath
from infoscope.analyses.probes.targets import PatchTargets, Report, gather, once, patch_of
from infoscope.errors import InfoscopeError
from infoscope.runtime.progress import progress

DepthMap = Float32[np.ndarray, "row column"]


@dataclass(frozen=True, kw_only=True)
class DepthRecipe(DenseRecipe):
    """How patches are given depths."""

    solver: RidgePath | AdamW
    cls: bool = False
    """Whether each patch token has the CLS token beside it."""
    bins: int | None = None
    """Depths that are weighed against each other, evenly spread; None predicts a depth itself."""
    upsampling: int = 1
    """Times the patch grid's side at which bins are weighed."""
    bin_floor: float = 0.1
    """Added to each bin's weight before they are made to sum to 1 (DINOv2's code, after AdaBins)."""
    least_depth: float = 0.001
    """Metres; predictions are never nearer (DINOv2's code)."""
    most_depth: float = 10.0
    """Metres; predictions are never farther (DINOv2's code, for NYU)."""
    mean_weight: float = 0.15
    """Of the squared mean of log ratios, beside their variance (DINOv2's code)."""
    log_shift: float = 0.001
    """Metres added before a logarithm is taken (DINOv2's code)."""
    mean_steps: int = 100
    """First steps, in which only the mean of log ratios counts (DINOv2's code)."""

    @property
    def with_cls(self) -> bool:
        """As ``cls`` says."""
        return self.cls

    def without_cls(self) -> DepthRecipe:
        """The recipe for patches alone."""
        return replace(self, cls=False)

    def depths(self, outputs: Grid) -> Float32[Tensor, "row2 column2"]:
        """The depths that a head's outputs stand for, on the finer grid where bins are weighed, not clipped yet.

        A bin's weight is max(output, 0) + floor; the depth is the mean of the bins by weight (the linear normalisation
        of Bhat et al. 2021, as in DINOv2).

        Example:
            >>> recipe = DepthRecipe(final_norm=False, solver=RidgePath(), bins=2, least_depth=1.0, most_depth=3.0)
            >>> recipe.depths(torch.tensor([[[-5.0], [0.3]]])).item()
            2.6...
        """
        if self.bins is None:
            return outputs[:, 0]
        grid = len(outputs)
        shares = bilinear_shares(grid, grid * self.upsampling, device=outputs.device)
        weights = upsampled(outputs, shares, shares).relu() + self.bin_floor
        bins = torch.linspace(self.least_depth, self.most_depth, self.bins, device=outputs.device)
        return torch.einsum("rkc,k->rc", weights, bins) / weights.sum(1)


RECIPES = {
    "simple": DepthRecipe(final_norm=True, solver=RidgePath()),
    "dinov2": DepthRecipe(
        # DINOv2's hub/depthers.py reads the blocks as they are.
        final_norm=False,
        cls=True,
        bins=256,
        upsampling=4,
        solver=AdamW(
            # One learning rate, as in DINOv2's configurations of its linear depth heads.
            learning_rates=(1e-4,),
            weight_decay=0.01,
            decay="cosine",
            warmup=12800 / 38400,
            warmup_start=1e-3,
            clip=35.0,
            # 38,400 steps of 16 over some 24,000 frames.
            epochs=26,
        ),
    ),
}


@dataclass(frozen=True)
class DepthHead(DenseHead):
    """A trained predictor of depth; the score is the RMSE in metres, the mean over held-out images.

    Attributes:
        recipe: how its outputs become depths.
    """

    recipe: DepthRecipe

    def predict(self, features: DenseFeatures, index: int, shape: tuple[int, int]) -> DepthMap:
        """The depth of each pixel of an image in metres, ``[row, column]``, at any size."""
        return _depths(self.recipe, self.linear, features, index, shape)

    def read(self, targets: Targets, index: int) -> DepthMap:
        """The map, 0 for holes."""
        return depth_map(targets, index)


def fit_depth(
    features: DenseFeatures,
    targets: Targets,
    recipe: DepthRecipe,
    *,
    validation: tuple[DenseFeatures, Targets] | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> DepthHead:
    """Train a predictor of depth by its recipe.

    Args:
        features: of the training images; arrays or memmaps.
        targets: their depth maps in metres; 0 where there is none.
        recipe: what is tried, and how it is trained.
        validation: images and depth maps that the choice is made on; by default a share of the training images. Ridge
            regression is then trained once more on all of them.
        seed: decides the held-out share, the start and the order of images.
        device: where AdamW's steps run.

    Raises:
        InfoscopeError: features and maps do not fit, a depth is negative or not finite, no pixel has one, or features
            are not finite.

    Example:
        >>> class Maps(list):
        ...     def target(self, index):
        ...         return self[index]
        >>> random = np.random.default_rng(0)
        >>> patches = random.uniform(1, 5, (10, 4, 1)).astype(np.float32)
        >>> maps = Maps(np.kron(each.reshape(2, 2), np.ones((3, 3))).astype(np.float32) for each in patches)
        >>> head = fit_depth(DenseFeatures(patches), maps, RECIPES["simple"])
        >>> head.linear.weight.round(2).tolist(), head.predict(DenseFeatures(patches), 0, (6, 6)).shape
        ([[1.0]], (6, 6))
    """
    fit = _DepthFit(features, targets, recipe, recipe.bins or 1)
    return DepthHead(*fit.choose(validation, seed, device), recipe)


@dataclass(frozen=True)
class _DepthFit(DenseFit):
    recipe: DepthRecipe

    lowest_is_best = True
    untrainable = "no pixel of the training images has a depth: check --depth-scale, --least-depth and --most-depth"

    def convex(self, settings: Sequence[float], images: Index) -> list[Linear]:
        """Ridge regression from each patch's token to the mean depth of its pixels, which count by their share."""
        grid = self.features.grid

        def read() -> PatchTargets:
            with progress("Reading depths", len(images), "images") as advance:
                return mean_depths(self.targets, images, grid, advance)

        depths = once(self.targets, (images.tobytes(), grid), read)
        return ridge_path(moments_of(depths.stream(self.features)), RidgePath(tuple(settings)))

    def read(self, index: int) -> Float32[Tensor, "row column"]:
        """An image's depths in metres, 0 where there is none."""
        return torch.from_numpy(depth_map(self.targets, index))

    def backward(
        self,
        outputs: Float32[Tensor, "image row column bin"],
        targets: Sequence[Float32[Tensor, "_ _"]],
        step: int,
    ) -> float | None:
        """sqrt(variance + weight * mean squared) of g, the logarithm of predicted over true depth at each pixel.

        The variance is over all pixels of the batch, of which sums are enough. So each image's bins and pixels are made
        once for its sums and once more for the gradient, and memory holds those of one image.
        """
        images = zip(outputs.transpose(2, 3), targets, strict=True)
        sums = [
            checkpoint(self._sums, grid, depths, use_reentrant=False, preserve_rng_state=False)
            for grid, depths in images
        ]
        count, first, second = torch.stack(sums).sum(0)
        if count < 2:
            return None
        mean = first / count
        square = self.recipe.mean_weight * mean**2
        if step >= self.recipe.mean_steps:
            square = square + (second - count * mean**2) / (count - 1)
        # A root's slope has no bound at 0.
        loss = square.clamp(min=1e-24).sqrt()
        torch.autograd.backward(loss)
        return float(loss.detach())

    def _sums(self, outputs: Grid, truth: Float32[Tensor, "row2 column2"]) -> Float64[Tensor, " sum"]:
        """Of the pixels of an image that have a depth: how many there are, and the sums of g and of its square."""
        known, shift = truth > 0, self.recipe.log_shift
        predicted = _at_pixels(self.recipe.depths(outputs), (truth.shape[0], truth.shape[1]))
        # Not by an index, whose gradient is summed up pixel by pixel.
        predicted, truth = predicted.masked_select(known), truth.masked_select(known)
        ratio = torch.log(predicted + shift) - torch.log(truth + shift)
        # In float64, since the variance is a small difference of large sums.
        first, second = ratio.sum(dtype=torch.float64), (ratio**2).sum(dtype=torch.float64)
        return torch.stack([torch.full_like(first, len(ratio)), first, second])

    def judge(self, heads: Sequence[Linear], features: DenseFeatures, targets: Targets, images: Index) -> list[float]:
        """Each head's RMSE over the pixels that have a depth, the mean over held-out images that have any."""
        errors = []
        with progress("Choosing", len(images), "images") as advance:
            for index in images:
                truth = depth_map(targets, int(index))
                known = truth > 0
                if known.any():
                    shape = (truth.shape[0], truth.shape[1])
                    predicted = [_depths(self.recipe, linear, features, int(index), shape) for linear in heads]
                    squares = [(each[known] - truth[known]).astype(np.float64) ** 2 for each in predicted]
                    errors.append([np.sqrt(square.mean()) for square in squares])
                advance()
        return np.mean(errors, axis=0).tolist() if errors else [float("nan")] * len(heads)


def _depths(
    recipe: DepthRecipe, linear: Linear, features: DenseFeatures, index: int, shape: tuple[int, int]
) -> DepthMap:
    grid = features.grid
    outputs = linear(features.read(index, with_cls=recipe.cls)).reshape(grid, grid, -1)
    depths = recipe.depths(torch.from_numpy(outputs).transpose(1, 2).contiguous())
    return _at_pixels(depths, shape).clamp_(recipe.least_depth, recipe.most_depth).numpy()


def _at_pixels(depths: Float32[Tensor, "row column"], shape: tuple[int, int]) -> Float32[Tensor, "row2 column2"]:
    down, across = (bilinear_shares(len(depths), size, device=depths.device) for size in shape)
    return upsampled(depths[:, None], down, across)[:, 0]


def mean_depths(targets: Targets, images: Index, grid: int, report: Report = lambda *_: None) -> PatchTargets:
    """The mean depth of the pixels of each patch that have one; patches without any are left out.

    Raises:
        InfoscopeError: a depth is negative or not finite.
    """

    def of(index: int) -> tuple[Float64[np.ndarray, "patch target"], Float64[np.ndarray, " patch"]]:
        depth = depth_map(targets, index)
        patch = patch_of(depth.shape, grid).ravel()
        valid = (depth > 0).ravel().astype(np.float64)
        total = np.bincount(patch, weights=valid, minlength=grid * grid)
        summed = np.bincount(patch, weights=depth.ravel(), minlength=grid * grid)
        pixels = np.bincount(patch, minlength=grid * grid)
        return (summed / np.maximum(total, 1))[:, None], total / np.maximum(pixels, 1)

    return gather(of, images, grid, report)


def depth_map(targets: Targets, index: int) -> DepthMap:
    """An image's depths in metres, 0 where there is none.

    Raises:
        InfoscopeError: a depth is negative or not finite.
    """
    depth = np.asarray(targets.target(index), dtype=np.float32)
    if not np.isfinite(depth).all() or (depth < 0).any():
        raise InfoscopeError(f"the depths of image {index} are negative or not finite somewhere: mark holes by 0")
    return depth
