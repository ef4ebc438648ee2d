"""What the heads of dense tasks share: upsampling to pixels, training by AdamW, and the choice on held-out images."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torch.nn import functional

from infoscope.analyses.probes.linear import Candidate, Head, Linear, best
from infoscope.analyses.probes.reading import DenseFeatures, Index, Target, Targets, check_pairs, split
from infoscope.analyses.probes.recipes import AdamW, LogisticPath, RidgePath
from infoscope.errors import InfoscopeError
from infoscope.options import TokenSet
from infoscope.runtime.progress import progress

# Rows first and columns last, so that a softmax over channels runs along rows of memory.
Grid = Float32[Tensor, "row channel column"]


@dataclass(frozen=True, kw_only=True)
class DenseRecipe:
    """How patches are given classes, depths or the like; reads the patch tokens of the last block."""

    final_norm: bool
    """Whether the model's own final norm is applied to the tokens that are read."""
    solver: LogisticPath | RidgePath | AdamW
    """How the head is trained."""
    held_out: float = 0.2
    """Share of the training images that the choice is made on where no validation images are given."""

    @property
    def with_cls(self) -> bool:
        """Whether each patch token has the CLS token beside it."""
        return False

    def without_cls(self) -> DenseRecipe:
        """The recipe for patches alone."""
        return self

    def at_site(self, token_set: TokenSet) -> DenseRecipe:
        """The recipe for the SAE's own block, where nothing is run on: what was edited is read, and nothing else.

        Args:
            token_set: the tokens that are edited.
        """
        own = replace(self, final_norm=False)
        return own if token_set == "all" else own.without_cls()


@dataclass(frozen=True)
class DenseHead(Head, ABC):
    """A trained layer on patch tokens, whose outputs become a value at each pixel."""

    @abstractmethod
    def predict(self, features: DenseFeatures, index: int, shape: tuple[int, int]) -> Target:
        """The value of each pixel of an image, ``[row, column]``, at any size."""

    def read(self, targets: Targets, index: int) -> Target:
        """The target that a prediction for an image is held against."""
        return targets.target(index)

    def predictions(self, features: DenseFeatures, targets: Targets) -> Iterator[tuple[Target, Target]]:
        """Image by image, what is predicted at the target's own size, and the target."""
        check_pairs(features, targets)
        with progress("Predicting", len(features), "images") as advance:
            for index in range(len(features)):
                target = self.read(targets, index)
                yield self.predict(features, index, (target.shape[0], target.shape[1])), target
                advance()


@dataclass(frozen=True)
class DenseFit(ABC):
    """The training of one task's heads, all on the same images, and the choice among them.

    Attributes:
        features: of the training images; arrays or memmaps.
        targets: their targets.
        recipe: what is tried, and how it is trained.
        outputs: how many numbers a head gives for a patch.
    """

    features: DenseFeatures
    targets: Targets
    recipe: DenseRecipe
    outputs: int

    lowest_is_best: ClassVar[bool] = False
    untrainable: ClassVar[str]
    """What is wrong, and what to do, where no pixel of the training images counts."""

    @abstractmethod
    def convex(self, settings: Sequence[float], images: Index) -> list[Linear]:
        """A head for each strength, by the recipe's convex solver."""

    @abstractmethod
    def read(self, index: int) -> Tensor:
        """The target of a training image, as `backward` takes it."""

    @abstractmethod
    def backward(
        self, outputs: Float32[Tensor, "image row column output"], targets: Sequence[Tensor], step: int
    ) -> float | None:
        """Give the parameters behind a batch's outputs their gradients.

        Returns:
            The loss; None where no pixel of these images counts, and so nothing was done.
        """

    @abstractmethod
    def judge(self, heads: Sequence[Linear], features: DenseFeatures, targets: Targets, images: Index) -> list[float]:
        """Each head's score on held-out images."""

    def choose(
        self, validation: tuple[DenseFeatures, Targets] | None, seed: int, device: str | torch.device
    ) -> tuple[Linear, Candidate, tuple[Candidate, ...], int, int]:
        """Train a head for each setting of the recipe, and choose one.

        Args:
            validation: images and targets that the choice is made on; by default a share of the training images. Convex
                heads are then trained once more on all of them.
            seed: decides the held-out share, the start and the order of images.
            device: where AdamW's steps run.

        Returns:
            The fields of a `Head`.
        """
        check_pairs(self.features, self.targets)
        every, solver = np.arange(len(self.features)), self.recipe.solver
        if validation is None:
            train, held = split(len(every), self.recipe.held_out, seed)
            judged = (self.features, self.targets, held)
        else:
            check_pairs(*validation)
            train, judged = every, (*validation, np.arange(len(validation[0])))
        if isinstance(solver, AdamW):
            settings, heads = solver.learning_rates, self._descend(solver, train, seed, torch.device(device))
        else:
            settings, heads = solver.strengths, self.convex(solver.strengths, train)
        kind = "patches + cls" if self.recipe.with_cls else "patches"
        scores = zip(settings, self.judge(heads, *judged), strict=True)
        candidates = tuple(Candidate(kind, setting, score, math.nan) for setting, score in scores)
        at = best(candidates, lowest=self.lowest_is_best)
        linear = heads[at]
        # A convex head depends on its strength alone, so the choice holds for more images; a learning rate's would not.
        if validation is None and not isinstance(solver, AdamW):
            linear, train = self.convex(settings[: at + 1], every)[-1], every
        return linear, candidates[at], candidates, len(train), len(judged[2])

    @torch.enable_grad()
    def _descend(self, solver: AdamW, train: Index, seed: int, device: torch.device) -> list[Linear]:
        """A head for each learning rate, all on the same batches.

        Each is a module with an optimiser of its own: nearly all time goes into the pixels of each head, so there would
        be nothing to gain from training them as one, and memory holds the pixels of one head at a time.
        """
        grid, with_cls = self.features.grid, self.recipe.with_cls
        batch, steps = solver.plan(len(train))
        heads = [self.start(solver, seed).to(device) for _ in solver.learning_rates]
        optimizers = [
            torch.optim.AdamW(head.parameters(), lr=rate, betas=solver.betas, weight_decay=solver.weight_decay)
            for head, rate in zip(heads, solver.learning_rates, strict=True)
        ]
        schedules = [
            torch.optim.lr_scheduler.LambdaLR(each, lambda step: solver.pace(step, steps)) for each in optimizers
        ]
        taken = 0
        with progress("Training", steps, "steps") as advance:
            for images in batches(train, batch, steps, seed):
                rows = np.concatenate([self.features.read(int(index), with_cls=with_cls) for index in images])
                tokens = torch.from_numpy(rows).to(device)
                targets = [self.read(int(index)).to(device) for index in images]
                losses = []
                for head, optimizer, schedule in zip(heads, optimizers, schedules, strict=True):
                    optimizer.zero_grad()
                    loss = self.backward(head(tokens).view(len(images), grid, grid, -1), targets, taken)
                    if loss is not None:
                        losses.append(loss)
                        if solver.clip is not None:
                            nn.utils.clip_grad_norm_(head.parameters(), solver.clip)
                        optimizer.step()
                        # A batch without a pixel that counts takes no step, and so uses up none of the schedule.
                        schedule.step()
                taken += bool(losses)
                advance(1, f"loss {min(losses, default=math.nan):.3f}")
        if not taken:
            raise InfoscopeError(f"there is nothing to train on: {self.untrainable}")
        return [folded(head) for head in heads]

    def start(self, solver: AdamW, seed: int) -> nn.Sequential:
        """A head before its first step, the same for every learning rate."""
        width = self.features.width * (2 if self.recipe.with_cls else 1)
        # Empty at first: torch's own start would draw from the generator that all of a program shares.
        layer = nn.Linear(width, self.outputs, device="meta").to_empty(device="cpu")
        nn.init.normal_(layer.weight, std=solver.start_std, generator=torch.Generator().manual_seed(seed))
        nn.init.zeros_(layer.bias)
        return nn.Sequential(layer)


@torch.no_grad()
def folded(head: nn.Sequential) -> Linear:
    """A linear layer, with the batch norm before it if there is one, as one layer on features as they are.

    Example:
        >>> norm, layer = torch.nn.BatchNorm1d(1), torch.nn.Linear(1, 1)
        >>> head = torch.nn.Sequential(norm, layer)
        >>> _ = head(torch.tensor([[1.0], [3.0]])), head.eval()
        >>> bool(np.allclose(folded(head)(np.float32([[5.0]])), head(torch.tensor([[5.0]])).detach()))
        True
    """
    # By the running moments, as torch's batch norm has it once training is over.
    layer = head[-1]
    assert isinstance(layer, nn.Linear)
    weight, bias = layer.weight.detach(), layer.bias.detach()
    for norm in list(head.children())[:-1]:
        assert isinstance(norm, nn.BatchNorm1d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        bias = bias + weight @ (norm.bias - norm.running_mean * scale)
        weight = weight * scale
    return Linear(weight.cpu().numpy().copy(), bias.cpu().numpy().copy())


def upsampled(
    values: Grid, down: Float32[Tensor, "row2 row"], across: Float32[Tensor, "column2 column"]
) -> Float32[Tensor, "row2 channel column2"]:
    """Values on the patch grid, upsampled bilinearly to a picture, or to those of its rows and columns that are given.

    It is what `torch.nn.functional.interpolate` gives, as two products with small matrices: those are several times as
    fast on a CPU, forward and back, and give a strip of a picture without the rest of it.

    Args:
        values: on the grid.
        down: `bilinear_shares` of the rows.
        across: `bilinear_shares` of the columns.

    Example:
        >>> across = bilinear_shares(2, 4)
        >>> upsampled(torch.tensor([[[0.0, 4.0]], [[0.0, 4.0]]]), across, across)[0, 0].tolist()
        [0.0, 1.0, 3.0, 4.0]
    """
    return torch.einsum("rg,gck,wk->rcw", down, values, across)


@lru_cache(maxsize=64)
def bilinear_shares(
    grid: int, size: int, step: int = 1, device: str | torch.device = "cpu"
) -> Float32[Tensor, "pixel grid"]:
    """The share of each of a row of patches in each of a row of pixels.

    Args:
        grid: patches.
        size: pixels.
        step: only every so many-th pixel is given, from the middle of the first so many.
        device: where it is wanted.
    """
    patches = torch.eye(grid)[None]
    shares = functional.interpolate(patches, size=size, mode="linear", align_corners=False)[0].T
    return shares[step // 2 :: step].contiguous().to(device)


def batches(index: Index, batch: int, steps: int, seed: int) -> Iterator[Index]:
    """Images of each step: all of them in random order, again and again; a last batch that is not full is dropped."""
    done = epoch = 0
    while done < steps:
        order = np.random.default_rng((seed, 1, epoch)).permutation(index)
        for start in range(0, len(order) - batch + 1, batch):
            if done == steps:
                return
            yield order[start : start + batch]
            done += 1
        epoch += 1
