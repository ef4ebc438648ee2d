"""A linear classifier of patches, scored at the size of each mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64

from infoscope.analyses.probes.batch_norm import RunningMoments
from infoscope.analyses.probes.convex import KEEP_BYTES, Candidate, Linear, best, fit_path
from infoscope.analyses.probes.descent import Layers, Steps, batches, plan
from infoscope.analyses.probes.metrics import Confusion
from infoscope.analyses.probes.pixel_losses import cross_entropy
from infoscope.analyses.probes.reading import DenseFeatures, Index, Target, Targets, check_pairs, class_mask, split
from infoscope.analyses.probes.recipes import SegmentationRecipe
from infoscope.analyses.probes.solvers import AdamW, LogisticPath
from infoscope.analyses.probes.targets import class_shares
from infoscope.analyses.probes.upsampling import Upsampling
from infoscope.errors import InfoscopeError
from infoscope.runtime.progress import progress

INPUT = "patches"


@dataclass(frozen=True)
class SegmentationHead:
    """A trained classifier of patches.

    Attributes:
        linear: the layer on raw patch tokens; a batch norm is folded in.
        chosen: the candidate it is; its score is mIoU.
        candidates: all that were tried, with their scores on the held-out images.
        trained_on: images behind the weights.
        held_out: images behind the choice.
    """

    linear: Linear
    chosen: Candidate
    candidates: tuple[Candidate, ...]
    trained_on: int
    held_out: int

    def predict(self, features: DenseFeatures, index: int, shape: tuple[int, int]) -> Target:
        """The class of each pixel of an image, ``[row, column]`` of int64, at any size."""
        return _classes(self.linear, features, index, shape)

    def predictions(self, features: DenseFeatures, targets: Targets) -> Iterator[tuple[Target, Target]]:
        """Image by image, what is predicted at the mask's own size, and the mask."""
        check_pairs(features, targets)
        with progress("Predicting", len(features), "images") as advance:
            for index in range(len(features)):
                mask = targets.target(index)
                yield self.predict(features, index, (mask.shape[0], mask.shape[1])), mask
                advance()


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
        >>> from infoscope.analyses.probes.recipes import find_recipe
        >>> class Masks(list):
        ...     def target(self, index):
        ...         return self[index]
        >>> random = np.random.default_rng(0)
        >>> masks = Masks(np.kron(random.integers(0, 2, (2, 2)), np.ones((4, 4))).astype(np.uint8) for _ in range(8))
        >>> patches = np.stack([mask[::4, ::4].reshape(4, 1) for mask in masks]).astype(np.float32)
        >>> head = fit_segmentation(DenseFeatures(patches), masks, find_recipe("simple").segmentation, classes=2)
        >>> head.chosen.score > 0.5, head.predict(DenseFeatures(patches), 0, (8, 8)).shape
        (True, (8, 8))
    """
    check_pairs(features, targets)
    every = np.arange(len(features))
    if validation is None:
        train, held = split(len(features), recipe.held_out, seed)
        judged = (features, targets, held)
    else:
        check_pairs(*validation)
        train, judged = every, (*validation, np.arange(len(validation[0])))
    fit = _Fit(features, targets, classes, keep_bytes)
    solver = recipe.solver
    if isinstance(solver, AdamW):
        settings, heads = solver.learning_rates, fit.by_adamw(recipe, solver, train, seed, torch.device(device))
    else:
        settings, heads = solver.strengths, fit.by_logistic(solver, solver.strengths, train)
    scores = _mean_ious(heads, judged, classes, recipe.choice_step)
    candidates = tuple(
        Candidate(INPUT, setting, score, np.nan) for setting, score in zip(settings, scores, strict=True)
    )
    at = best(candidates)
    linear = heads[at]
    if validation is None and isinstance(solver, LogisticPath):
        linear, train = fit.by_logistic(solver, settings[: at + 1], every)[-1], every
    return SegmentationHead(linear, candidates[at], candidates, len(train), len(judged[2]))


@dataclass(frozen=True)
class _Fit:
    """What all ways of training share."""

    features: DenseFeatures
    targets: Targets
    classes: int
    keep_bytes: int

    def by_logistic(self, solver: LogisticPath, strengths: Sequence[float], train: Index) -> list[Linear]:
        """A head a strength: convex in the shares of classes that each patch holds."""
        from dataclasses import replace

        with progress("Reading masks", len(train), "images") as advance:
            shares = class_shares(self.targets, train, self.features.grid, self.classes, advance)
        path = fit_path(
            shares.stream(self.features), replace(solver, strengths=tuple(strengths)), keep_bytes=self.keep_bytes
        )
        heads = []
        with progress("Training", len(strengths), "heads") as advance:
            for fitted in path:
                heads.append(fitted.linear)
                advance()
        return heads

    def by_adamw(
        self, recipe: SegmentationRecipe, solver: AdamW, train: Index, seed: int, device: torch.device
    ) -> list[Linear]:
        """A head a learning rate: pixels' cross-entropy at the masks' size, all heads on the same batches."""
        width = self.features.width
        layers = Layers.start(width, self.classes, solver, batch_norm=recipe.batch_norm, seed=seed, device=device)
        moments = RunningMoments(width, recipe.batch_norm_momentum, recipe.batch_norm_epsilon, device)
        batch, count = plan(solver, len(train))
        steps = Steps(layers, solver, count)
        seen = 0
        with progress("Training", count, "steps") as advance:
            for images in batches(train, batch, count, seed):
                rows = torch.from_numpy(np.concatenate([self.features.read(int(i)) for i in images])).to(device)
                rows = moments.normalise(rows) if recipe.batch_norm else rows
                pixels, loss, slope = self._slope(layers, rows, images)
                if pixels:
                    steps.take(layers.slopes(rows, slope / pixels))
                seen += pixels
                advance(1, f"loss {loss / max(pixels, 1):.3f}")
        if not seen:
            raise InfoscopeError(
                "there is nothing to train on: no pixel of the training masks counts"
                ": check --ignore-index and --reduce-zero-label"
            )
        weight, bias = layers.folded()
        heads = []
        for head in range(layers.heads):
            layer = moments.fold(weight[head], bias[head]) if recipe.batch_norm else (weight[head], bias[head])
            heads.append(Linear(*(each.cpu().numpy().copy() for each in layer)))
        return heads

    def _slope(self, layers: Layers, rows: torch.Tensor, images: Index) -> tuple[int, float, torch.Tensor]:
        """Pixels that count in a batch, the best head's summed loss, and the slope of the outputs.

        One image and one head after the other, so that memory holds a strip of one head's pixels.
        """
        grid = self.features.grid
        outputs = layers.outputs(rows)
        slope = torch.zeros_like(outputs)
        losses, pixels = np.zeros(layers.heads), 0
        values = outputs.view(len(images), grid, grid, *outputs.shape[1:])
        slopes = slope.view_as(values)
        for at, image in enumerate(images):
            mask, counts = class_mask(self.targets, int(image), self.classes)
            pixels += int(counts.sum())
            target, some = torch.from_numpy(mask).to(rows.device), torch.from_numpy(counts).to(rows.device)
            upsampling = Upsampling.between(grid, (mask.shape[0], mask.shape[1]), str(rows.device))
            for head in range(layers.heads):
                logits = values[at, :, :, head].transpose(1, 2).contiguous()
                loss, change = cross_entropy(logits, target, some, upsampling)
                losses[head] += loss
                slopes[at, :, :, head] = change.transpose(1, 2)
        return pixels, float(losses.min()), slope


def _classes(linear: Linear, features: DenseFeatures, index: int, shape: tuple[int, int], step: int = 1) -> Target:
    """The class with the highest upsampled logit at each pixel, or at every ``step``-th."""
    grid = features.grid
    logits = torch.from_numpy(linear(features.read(index)).reshape(grid, grid, -1)).transpose(1, 2).contiguous()
    upsampling = Upsampling.between(grid, shape).thinned(step)
    found = [_first_largest(upsampling.up(logits, strip)) for strip in upsampling.strips(logits.shape[1])]
    return torch.cat(found).numpy()


def _first_largest(values: Float32[torch.Tensor, "row channel column"]) -> Int64[torch.Tensor, "row column"]:
    """Which channel is largest; of equal ones the first. torch's argmax is slow along a middle axis."""
    largest = values[:, 0].clone()
    place = torch.zeros(largest.shape, dtype=torch.int64, device=values.device)
    for channel in range(1, values.shape[1]):
        higher = values[:, channel] > largest
        place.masked_fill_(higher, channel)
        torch.maximum(largest, values[:, channel], out=largest)
    return place


def _mean_ious(
    heads: Sequence[Linear], judged: tuple[DenseFeatures, Targets, Index], classes: int, step: int
) -> list[float]:
    """Each head's mIoU on every ``step``-th row and column of held-out masks."""
    features, targets, held = judged
    found = [Confusion(classes) for _ in heads]
    with progress("Choosing", len(held), "images") as advance:
        for index in held:
            mask = targets.target(int(index))
            thin = min(step, *mask.shape)
            seen = mask[thin // 2 :: thin, thin // 2 :: thin]
            for confusion, linear in zip(found, heads, strict=True):
                shape = (mask.shape[0], mask.shape[1])
                confusion.add(seen, _classes(linear, features, int(index), shape, thin))
            advance()
    return [confusion.mean_iou for confusion in found]
