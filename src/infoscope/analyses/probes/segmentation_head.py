"""A linear classifier of patches, scored at the size of each mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int32
from torch import Tensor, nn
from torch.nn import functional

from infoscope.analyses.probes.convex import KEEP_BYTES, fit_path
from infoscope.analyses.probes.dense_head import (
    DenseFit,
    DenseHead,
    DenseRecipe,
    bilinear_shares,
    upsampled,
)
from infoscope.analyses.probes.linear import Linear
from infoscope.analyses.probes.metrics import Confusion
from infoscope.analyses.probes.reading import DenseFeatures, Index, Target, Targets
from infoscope.analyses.probes.recipes import AdamW, LogisticPath
from infoscope.analyses.probes.targets import PatchTargets, Report, gather, once, patch_of
from infoscope.errors import InfoscopeError
from infoscope.runtime.progress import progress

# What a strip of a picture's logits may take, a few times over. Our choice: a processor's cache holds so much, which
# makes the training of 150 classes a fifth faster than 8 MiB do.
STRIP_BYTES = 2 * 2**20
# What `torch.nn.functional.cross_entropy` leaves out by default.
VOID = -100


@dataclass(frozen=True, kw_only=True)
class SegmentationRecipe(DenseRecipe):
    """How patches are given classes."""

    solver: LogisticPath | AdamW
    batch_norm: bool = False
    """Whether features go through a batch norm before the linear layer."""
    batch_norm_momentum: float = 0.1
    """Share of a batch in the running moments (torch's default)."""
    batch_norm_epsilon: float = 1e-5
    """Added to the variance (torch's default)."""
    choice_step: int = 4
    """The choice looks at every so many-th row and column of a held-out mask. Our choice: heads of neighbouring
    strengths differ little, and all pixels under all heads take longer than the training. Test scores are over every
    pixel."""


RECIPES = {
    # Our choice: there are hundreds of patches to an image, so that weak penalties are enough, in steps of ten, and a
    # mean over so many does not need the last digit.
    "simple": SegmentationRecipe(
        final_norm=True, solver=LogisticPath(strengths=(1e-2, 1e-3, 1e-4, 1e-5), tolerance=1e-5)
    ),
    "dinov2": SegmentationRecipe(
        final_norm=True,
        batch_norm=True,
        solver=AdamW(
            # One learning rate, as in DINOv2's configuration of the linear head for ADE20K.
            learning_rates=(1e-3,),
            weight_decay=1e-4,
            decay="linear",
            warmup=1500 / 40000,
            warmup_start=1e-6,
            clip=None,
        ),
    ),
}


@dataclass(frozen=True)
class SegmentationHead(DenseHead):
    """A trained classifier of patches, a batch norm folded into its layer; the score is mIoU."""

    def predict(self, features: DenseFeatures, index: int, shape: tuple[int, int]) -> Target:
        """The class of each pixel of an image, ``[row, column]`` of int64, at any size."""
        return _classes(self.linear, features, index, shape)


def fit_segmentation(
    features: DenseFeatures,
    targets: Targets,
    recipe: SegmentationRecipe,
    *,
    classes: int,
    validation: tuple[DenseFeatures, Targets] | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    keep_bytes: int = KEEP_BYTES,
) -> SegmentationHead:
    """Train a classifier of patches by its recipe.

    Args:
        features: of the training images; arrays or memmaps.
        targets: their masks.
        recipe: what is tried, and how it is trained.
        classes: how many there are; one that no training mask has is never predicted by logistic regression.
        validation: images and masks that the choice is made on; by default a share of the training images. Logistic
            regression is then trained once more on all of them.
        seed: decides the held-out share, the start and the order of images.
        device: where AdamW's steps run.
        keep_bytes: what logistic regression may hold of the features between its passes; no result depends on it.

    Raises:
        InfoscopeError: features and masks do not fit, a class is out of range, features are not finite, or the training
            images show one class only.

    Example:
        >>> class Masks(list):
        ...     def target(self, index):
        ...         return self[index]
        >>> random = np.random.default_rng(0)
        >>> masks = Masks(np.kron(random.integers(0, 2, (2, 2)), np.ones((4, 4))).astype(np.uint8) for _ in range(8))
        >>> patches = np.stack([mask[::4, ::4].reshape(4, 1) for mask in masks]).astype(np.float32)
        >>> head = fit_segmentation(DenseFeatures(patches), masks, RECIPES["simple"], classes=2)
        >>> head.chosen.score > 0.5, head.predict(DenseFeatures(patches), 0, (8, 8)).shape
        (True, (8, 8))
    """
    fit = _SegmentationFit(features, targets, recipe, classes, keep_bytes)
    return SegmentationHead(*fit.choose(validation, seed, device))


@dataclass(frozen=True)
class _SegmentationFit(DenseFit):
    recipe: SegmentationRecipe
    keep_bytes: int

    untrainable = "no pixel of the training masks counts: check --ignore-index and --reduce-zero-label"

    def convex(self, settings: Sequence[float], images: Index) -> list[Linear]:
        """Logistic regression, convex in the shares of classes that each patch holds."""
        assert isinstance(self.recipe.solver, LogisticPath)
        solver = replace(self.recipe.solver, strengths=tuple(settings))
        grid = self.features.grid

        def read() -> PatchTargets:
            with progress("Reading masks", len(images), "images") as advance:
                return class_shares(self.targets, images, grid, self.outputs, advance)

        shares = once(self.targets, (images.tobytes(), grid, self.outputs), read)
        heads = []
        with progress("Training", len(settings), "heads") as advance:
            for fitted in fit_path(shares.stream(self.features), solver, keep_bytes=self.keep_bytes):
                heads.append(fitted.linear)
                advance()
        return heads

    def start(self, solver: AdamW, seed: int) -> nn.Sequential:
        """The layer, and the recipe's batch norm before it."""
        head, recipe = super().start(solver, seed), self.recipe
        if recipe.batch_norm:
            norm = nn.BatchNorm1d(self.features.width, recipe.batch_norm_epsilon, recipe.batch_norm_momentum)
            head.insert(0, norm)
        return head

    def read(self, index: int) -> Int32[Tensor, "row column"]:
        """An image's mask, `VOID` where it does not count."""
        mask, counts = class_mask(self.targets, index, self.outputs)
        return torch.from_numpy(np.where(counts, mask, VOID).astype(np.int32))

    def backward(
        self,
        outputs: Float32[Tensor, "image row column class"],
        targets: Sequence[Int32[Tensor, "_ _"]],
        step: int,
    ) -> float | None:
        """The pixels' mean cross-entropy at the masks' size.

        It is taken strip by strip, and each strip's part is sent back to the patches' logits at once: the logits of all
        pixels of a batch would take gigabytes.
        """
        pixels = sum(int((mask != VOID).sum()) for mask in targets)
        if not pixels:
            return None
        loss, slopes, grid = 0.0, torch.zeros_like(outputs), outputs.shape[1]
        for of_image, mask, slope in zip(outputs.detach().transpose(2, 3), targets, slopes, strict=True):
            logits = of_image.contiguous().requires_grad_()
            across = bilinear_shares(grid, mask.shape[1], device=outputs.device)
            down = bilinear_shares(grid, mask.shape[0], device=outputs.device)
            for strip in _strips(mask.shape, self.outputs):
                at_pixels = upsampled(logits, down[strip], across)
                part = functional.cross_entropy(at_pixels, mask[strip].long(), ignore_index=VOID, reduction="sum")
                torch.autograd.backward(part)
                loss += part.item()
            assert logits.grad is not None
            slope.copy_(logits.grad.transpose(1, 2))
        torch.autograd.backward(outputs, slopes / pixels)
        return loss / pixels

    def judge(self, heads: Sequence[Linear], features: DenseFeatures, targets: Targets, images: Index) -> list[float]:
        """Each head's mIoU on every so many-th row and column of held-out masks."""
        counts = [Confusion(self.outputs) for _ in heads]
        with progress("Choosing", len(images), "images") as advance:
            for index in images:
                mask = targets.target(int(index))
                step = min(self.recipe.choice_step, *mask.shape)
                seen = mask[step // 2 :: step, step // 2 :: step]
                for confusion, linear in zip(counts, heads, strict=True):
                    shape = (mask.shape[0], mask.shape[1])
                    confusion.add(seen, _classes(linear, features, int(index), shape, step))
                advance()
        return [confusion.mean_iou for confusion in counts]


def _strips(shape: Sequence[int], classes: int) -> Iterator[slice]:
    """A picture's rows in strips, so that the logits of one stay within `STRIP_BYTES`."""
    size = max(1, STRIP_BYTES // (4 * classes * shape[1]))
    for start in range(0, shape[0], size):
        yield slice(start, min(start + size, shape[0]))


def _classes(linear: Linear, features: DenseFeatures, index: int, shape: tuple[int, int], step: int = 1) -> Target:
    """The class with the highest upsampled logit at each pixel, or at every ``step``-th; of equal ones the first."""
    grid = features.grid
    logits = torch.from_numpy(linear(features.read(index)).reshape(grid, grid, -1)).transpose(1, 2).contiguous()
    down, across = (bilinear_shares(grid, size, step) for size in shape)
    strips = _strips((len(down), len(across)), logits.shape[1])
    # torch's argmax gives the same and takes four times as long along a middle axis.
    return torch.cat([upsampled(logits, down[strip], across).max(1).indices for strip in strips]).numpy()


def class_mask(targets: Targets, index: int, classes: int) -> tuple[Target, Target]:
    """An image's classes as int64, 0 where they do not count, and where they do.

    Raises:
        InfoscopeError: a class is out of range.
    """
    mask = targets.target(index)
    counts = mask != np.iinfo(mask.dtype).max
    numbers = np.where(counts, mask, 0).astype(np.int64)
    if numbers.size and (numbers.max() >= classes or numbers.min() < 0):
        wrong = numbers.max() if numbers.max() >= classes else numbers.min()
        raise InfoscopeError(
            f"the mask of image {index} has class {wrong}, and there are {classes} classes, from 0; void pixels are "
            f"{np.iinfo(mask.dtype).max}"
        )
    return numbers, counts


def class_shares(
    targets: Targets, images: Index, grid: int, classes: int, report: Report = lambda *_: None
) -> PatchTargets:
    """The shares of classes among the pixels of each patch that count; patches without any are left out.

    Raises:
        InfoscopeError: a class is out of range.

    Example:
        >>> class Masks(list):
        ...     def target(self, index):
        ...         return self[index]
        >>> mask = np.array([[0, 0, 1, 255], [0, 1, 255, 255]], np.uint8)
        >>> found = class_shares(Masks([mask]), np.array([0]), grid=2, classes=2)
        >>> found.rows.tolist(), found.values.toarray().tolist(), found.weight.tolist()
        ([0, 1, 2], [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], [1.0, 0.5, 1.0])
    """

    def of(index: int) -> tuple[Float64[np.ndarray, "patch target"], Float64[np.ndarray, " patch"]]:
        mask, counts = class_mask(targets, index, classes)
        patch = patch_of(mask.shape, grid)
        seen = np.bincount((patch * classes + mask)[counts], minlength=grid * grid * classes).reshape(-1, classes)
        pixels = np.bincount(patch.ravel(), minlength=grid * grid)
        total = seen.sum(1)
        return seen / np.maximum(total, 1)[:, None], total / np.maximum(pixels, 1)

    return gather(of, images, grid, report)
