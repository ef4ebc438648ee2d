"""A linear predictor of depth from patches, scored at the size of each depth map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32

from infoscope.analyses.probes.convex import Candidate, Linear, best, moments_of, ridge_path
from infoscope.analyses.probes.descent import Layers, Steps, batches, plan
from infoscope.analyses.probes.pixel_losses import Binned, Grid, LogRatios
from infoscope.analyses.probes.reading import DenseFeatures, Index, Targets, check_pairs, split
from infoscope.analyses.probes.recipes import DepthRecipe
from infoscope.analyses.probes.solvers import AdamW, RidgePath
from infoscope.analyses.probes.targets import depth_map, mean_depths
from infoscope.analyses.probes.upsampling import Upsampling
from infoscope.errors import InfoscopeError
from infoscope.runtime.progress import progress

Depths = Float32[np.ndarray, "row column"]


@dataclass(frozen=True)
class DepthHead:
    """A trained predictor of depth.

    Attributes:
        recipe: how its outputs become depths.
        linear: the layer on raw patch tokens, the CLS token after each where the recipe has it.
        chosen: the candidate it is; its score is the RMSE in metres, the mean over held-out images.
        candidates: all that were tried, with their scores.
        trained_on: images behind the weights.
        held_out: images behind the choice.
    """

    recipe: DepthRecipe
    linear: Linear
    chosen: Candidate
    candidates: tuple[Candidate, ...]
    trained_on: int
    held_out: int

    def predict(self, features: DenseFeatures, index: int, shape: tuple[int, int]) -> Depths:
        """The depth of each pixel of an image in metres, ``[row, column]``, at any size."""
        return _depths(self.recipe, self.linear, features, index, shape)

    def predictions(self, features: DenseFeatures, targets: Targets) -> Iterator[tuple[Depths, Depths]]:
        """Image by image, what is predicted at the map's own size, and the map with 0 for holes."""
        check_pairs(features, targets)
        with progress("Predicting", len(features), "images") as advance:
            for index in range(len(features)):
                truth = depth_map(targets, index)
                yield self.predict(features, index, (truth.shape[0], truth.shape[1])), truth
                advance()


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
        >>> from infoscope.analyses.probes.recipes import find_recipe
        >>> class Maps(list):
        ...     def target(self, index):
        ...         return self[index]
        >>> random = np.random.default_rng(0)
        >>> patches = random.uniform(1, 5, (10, 4, 1)).astype(np.float32)
        >>> maps = Maps(np.kron(each.reshape(2, 2), np.ones((3, 3))).astype(np.float32) for each in patches)
        >>> head = fit_depth(DenseFeatures(patches), maps, find_recipe("simple").depth)
        >>> head.linear.weight.round(2).tolist(), head.predict(DenseFeatures(patches), 0, (6, 6)).shape
        ([[1.0]], (6, 6))
    """
    check_pairs(features, targets)
    every = np.arange(len(features))
    if validation is None:
        train, held = split(len(features), recipe.held_out, seed)
        judged = (features, targets, held)
    else:
        check_pairs(*validation)
        train, judged = every, (*validation, np.arange(len(validation[0])))
    solver = recipe.solver
    if isinstance(solver, AdamW):
        settings = solver.learning_rates
        heads = _Descent(features, targets, recipe, solver).heads(train, seed, torch.device(device))
    else:
        settings = solver.strengths
        heads = _by_ridge(features, targets, solver, train)
    scores = _errors(recipe, heads, judged)
    candidates = tuple(
        Candidate("patches + cls" if recipe.cls else "patches", setting, score, float("nan"))
        for setting, score in zip(settings, scores, strict=True)
    )
    at = best(candidates, lowest=True)
    linear = heads[at]
    if validation is None and isinstance(solver, RidgePath):
        linear = _by_ridge(features, targets, RidgePath(settings[at : at + 1]), every)[0]
        train = every
    return DepthHead(recipe, linear, candidates[at], candidates, len(train), len(judged[2]))


def _by_ridge(features: DenseFeatures, targets: Targets, solver: RidgePath, train: Index) -> list[Linear]:
    """A head a strength, from each patch's token to the mean depth of its pixels, which count by their share."""
    with progress("Reading depths", len(train), "images") as advance:
        depths = mean_depths(targets, train, features.grid, advance)
    return ridge_path(moments_of(depths.stream(features)), solver)


@dataclass(frozen=True)
class _Descent:
    """Training by AdamW on pixels' log ratios, all heads on the same batches."""

    features: DenseFeatures
    targets: Targets
    recipe: DepthRecipe
    solver: AdamW

    def heads(self, train: Index, seed: int, device: torch.device) -> list[Linear]:
        """A head a learning rate."""
        width = self.features.width * (2 if self.recipe.cls else 1)
        assert self.recipe.bins is not None
        layers = Layers.start(width, self.recipe.bins, self.solver, batch_norm=False, seed=seed, device=device)
        binned = Binned.of(self.recipe, self.features.grid, str(device))
        batch, count = plan(self.solver, len(train))
        steps = Steps(layers, self.solver, count)
        with progress("Training", count, "steps") as advance:
            for images in batches(train, batch, count, seed):
                rows = np.concatenate([self.features.read(int(i), with_cls=self.recipe.cls) for i in images])
                maps = [torch.from_numpy(depth_map(self.targets, int(i))).to(device) for i in images]
                read = torch.from_numpy(rows).to(device)
                only_mean = steps.step < self.recipe.mean_steps
                loss, slope = self._slope(layers, binned, read, maps, only_mean)
                if slope is not None:
                    steps.take(layers.slopes(read, slope))
                advance(1, f"loss {loss:.3f}")
        if not steps.step:
            raise InfoscopeError(
                "there is nothing to train on: no pixel of the training images has a depth"
                ": check --depth-scale, --least-depth and --most-depth"
            )
        return [
            Linear(layers.weight[head].cpu().numpy().copy(), layers.bias[head].cpu().numpy().copy())
            for head in range(layers.heads)
        ]

    def _slope(
        self, layers: Layers, binned: Binned, rows: torch.Tensor, maps: list[torch.Tensor], only_mean: bool
    ) -> tuple[float, torch.Tensor | None]:
        """The best head's loss and the slope of the outputs, None where no pixel has a depth.

        The loss is of all pixels of the batch together, so each head's depths are made twice: once for the sums, once
        for the slopes. Memory holds the bins of one image and one head.
        """
        outputs = layers.outputs(rows)
        slope = torch.zeros_like(outputs)
        grid = self.features.grid
        values = outputs.view(len(maps), grid, grid, *outputs.shape[1:])
        slopes = slope.view_as(values)
        losses = []
        for head in range(layers.heads):
            sums = LogRatios()
            logits: list[Grid] = [each[:, :, head].transpose(1, 2).contiguous() for each in values]
            fine = [binned.depth(each) for each in logits]
            for depth, truth in zip(fine, maps, strict=True):
                ratio, _, _ = self._ratio(depth, truth)
                sums.add(ratio[truth > 0])
            if sums.count < 2:
                return float("nan"), None
            losses.append(sums.loss(self.recipe, only_mean=only_mean))
            for at, truth in enumerate(maps):
                ratio, predicted, up = self._ratio(fine[at], truth)
                change = sums.slope(ratio, self.recipe, only_mean=only_mean) * (truth > 0)
                change = change / (predicted + self.recipe.log_shift)
                fine_slope = up.back(change[:, None], slice(None))[:, 0]
                slopes[at, :, :, head] = binned.back(logits[at], fine_slope).transpose(1, 2)
        return min(losses), slope

    def _ratio(self, depth: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, Upsampling]:
        """Log of predicted over true depth at each pixel, the prediction, and how it was upsampled."""
        up = Upsampling.between(len(depth), (truth.shape[0], truth.shape[1]), str(depth.device))
        predicted = up.whole(depth[:, None])[:, 0]
        shift = self.recipe.log_shift
        return torch.log(predicted + shift) - torch.log(truth + shift), predicted, up


def _depths(recipe: DepthRecipe, linear: Linear, features: DenseFeatures, index: int, shape: tuple[int, int]) -> Depths:
    grid = features.grid
    outputs = linear(features.read(index, with_cls=recipe.cls)).reshape(grid, grid, -1)
    values = torch.from_numpy(outputs).transpose(1, 2).contiguous()
    fine = values[:, 0] if recipe.bins is None else Binned.of(recipe, grid).depth(values)
    whole = Upsampling.between(len(fine), shape).whole(fine[:, None])[:, 0]
    found: np.ndarray = whole.clamp_(recipe.least_depth, recipe.most_depth).numpy()
    return found


def _errors(recipe: DepthRecipe, heads: Sequence[Linear], judged: tuple[DenseFeatures, Targets, Index]) -> list[float]:
    """Each head's RMSE of the pixels that have a depth, the mean over held-out images that have any."""
    features, targets, held = judged
    errors, count = np.zeros(len(heads)), 0
    with progress("Choosing", len(held), "images") as advance:
        for index in held:
            truth = depth_map(targets, int(index))
            some = truth > 0
            advance()
            if not some.any():
                continue
            count += 1
            for at, linear in enumerate(heads):
                found = _depths(recipe, linear, features, int(index), (truth.shape[0], truth.shape[1]))
                errors[at] += np.sqrt(((found[some] - truth[some]).astype(np.float64) ** 2).mean())
    return [float(each) for each in errors / count] if count else [float("nan")] * len(heads)
