"""A linear classifier of images: trained by its recipe, chosen on held-out images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count, islice, product
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn
from torch.nn import functional

from infoscope.analyses.probes.convex import Examples, Stream, fit_path
from infoscope.analyses.probes.linear import Candidate, Head, Linear, best
from infoscope.analyses.probes.reading import Index, Rows, in_order, mixed, split_by_class
from infoscope.analyses.probes.recipes import LogisticPath, Sgd
from infoscope.errors import InfoscopeError, check_choice
from infoscope.options import TokenSet
from infoscope.runtime.progress import progress

Labels = Int64[np.ndarray, " _"]
# The type in which products are taken.
Products = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class ClassificationInput:
    """What a classification head reads of an image.

    Attributes:
        blocks: of how many of the last blocks the CLS token is read, the earliest first.
        cls: whether CLS tokens are read.
        mean: whether the mean patch token of the last block is read; it comes after the CLS tokens.

    Example:
        >>> both = ClassificationInput(blocks=4, mean=True)
        >>> both.name, both.parts
        ('cls x4 + mean', (('cls', -4), ('cls', -3), ('cls', -2), ('cls', -1), ('mean', -1)))
    """

    blocks: int = 1
    cls: bool = True
    mean: bool = False

    def __post_init__(self) -> None:
        if self.blocks < 1 or not (self.cls or self.mean) or (self.blocks > 1 and not self.cls):
            raise InfoscopeError(f"{self} reads nothing: take CLS tokens of one block or more, the mean patch, or both")

    @property
    def name(self) -> str:
        """As reports name it."""
        cls = f"cls x{self.blocks}" if self.blocks > 1 else "cls"
        return " + ".join([*([cls] if self.cls else []), *(["mean"] if self.mean else [])])

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """Each vector read: ``cls`` or ``mean``, and the block counted from the end, -1 the last."""
        cls = tuple(("cls", -back) for back in range(self.blocks, 0, -1)) if self.cls else ()
        return cls + ((("mean", -1),) if self.mean else ())


@dataclass(frozen=True)
class ClassificationRecipe:
    """How images are classified.

    Attributes:
        inputs: those that are tried; the best is chosen together with the strength or learning rate.
        final_norm: whether the model's own final norm is applied to the tokens that are read.
        solver: how the head is trained.
        held_out: share of each class's training images that the choice is made on where no validation images are given.
    """

    inputs: tuple[ClassificationInput, ...]
    final_norm: bool
    solver: LogisticPath | Sgd
    held_out: float = 0.2

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """The vectors that are stored for an image, side by side: all that any input reads."""
        blocks = max((each.blocks for each in self.inputs if each.cls), default=0)
        mean = any(each.mean for each in self.inputs)
        return ClassificationInput(max(blocks, 1), cls=blocks > 0, mean=mean).parts

    def columns(self, chosen: ClassificationInput, width: int) -> slice:
        """Where an input is among the stored columns; it is always one stretch of them.

        Args:
            chosen: one of ``inputs``.
            width: length of a token.

        Example:
            >>> recipe = RECIPES["dinov2"]
            >>> recipe.columns(ClassificationInput(blocks=1, mean=True), width=384)
            slice(1152, 1920, None)
        """
        start = self.parts.index(chosen.parts[0])
        return slice(start * width, (start + len(chosen.parts)) * width)

    def at_site(self, token_set: TokenSet) -> ClassificationRecipe:
        """The recipe for the SAE's own block, where nothing is run on: what was edited is read, and nothing else.

        Args:
            token_set: the tokens that are edited.

        Example:
            >>> recipe = RECIPES["dinov2"]
            >>> [[each.name for each in recipe.at_site(tokens).inputs] for tokens in ("patch", "cls", "all")]
            [['mean'], ['cls'], ['cls', 'cls + mean']]
        """
        if token_set == "all":
            inputs = tuple(each for each in self.inputs if each.blocks == 1)
        else:
            inputs = (ClassificationInput(cls=token_set == "cls", mean=token_set == "patch"),)
        return replace(self, inputs=inputs, final_norm=False)


RECIPES = {
    "simple": ClassificationRecipe(
        inputs=(
            ClassificationInput(),
            ClassificationInput(cls=False, mean=True),
            ClassificationInput(mean=True),
        ),
        final_norm=True,
        solver=LogisticPath(),
    ),
    "dinov2": ClassificationRecipe(
        inputs=tuple(ClassificationInput(blocks, mean=mean) for blocks in (1, 4) for mean in (False, True)),
        final_norm=True,
        solver=Sgd(),
    ),
}


@dataclass(frozen=True)
class ClassificationHead(Head):
    """A trained classifier.

    Attributes:
        input: what it reads.
        columns: where that is among the stored features.
    """

    input: ClassificationInput
    columns: slice

    def logits(self, features: Rows) -> Float32[np.ndarray, "image class"]:
        """Of images, from their stored features.

        Raises:
            InfoscopeError: the features are of another width, or not finite.
        """
        if features.shape[1] < self.columns.stop:
            raise InfoscopeError(
                f"the head reads columns {self.columns.start} to {self.columns.stop} of an image's features, and these "
                f"have {features.shape[1]}: extract them with the head's own recipe"
            )
        every = np.arange(len(features))
        return np.concatenate([self.linear(rows) for rows, _ in in_order(features[:, self.columns], every)])


def fit_classification(
    features: Rows,
    labels: Labels,
    recipe: ClassificationRecipe,
    *,
    classes: int,
    validation: tuple[Rows, Labels] | None = None,
    seed: int = 0,
    products: Products = "float32",
    device: str | torch.device = "cpu",
) -> ClassificationHead:
    """Train a classifier by its recipe.

    Features are read a batch at a time, so that a memmap need not fit into memory.

    Args:
        features: ``[image, part * width]``, float16 or float32: the vectors of ``recipe.parts`` side by side.
        labels: each image's class, from 0.
        recipe: what is tried, and how it is trained.
        classes: how many there are; one that no training image has is never predicted by logistic regression, and
            by SGD as its start has it.
        validation: images and classes that the choice is made on; by default a share of the training images, by class.
            Logistic regression is then trained once more on all of them.
        seed: decides the held-out share, the start and the order of images.
        products: the type in which SGD's products are taken.
        device: where SGD runs.

    Raises:
        InfoscopeError: shapes do not fit, a label is out of range, features are not finite, there is one class only,
            or nothing can be held out.

    Example:
        >>> random = np.random.default_rng(0)
        >>> labels = np.arange(60) % 3
        >>> features = np.concatenate([np.eye(3)[labels], random.normal(size=(60, 3))], axis=1).astype(np.float32)
        >>> head = fit_classification(features, labels, RECIPES["simple"], classes=3)
        >>> head.input.name, head.chosen.score, head.logits(features).argmax(1)[:4].tolist()
        ('cls', 1.0, [0, 1, 2, 0])
    """
    check_choice("products", products, Products)
    width = _check(features, labels, recipe, classes)
    every = np.arange(len(labels))
    if validation is None:
        train, held = split_by_class(labels, recipe.held_out, seed)
        judged = (features, labels, held)
    else:
        train = every
        _check(validation[0], validation[1], recipe, classes)
        judged = (*validation, np.arange(len(validation[1])))
    if len(np.unique(labels[train])) < 2:
        raise InfoscopeError(
            "all training images are of one class, and a classifier needs two: check the labels or the split"
        )
    solver = recipe.solver
    columns = {each: recipe.columns(each, width) for each in recipe.inputs}
    heads: Iterable[Linear]
    if isinstance(solver, LogisticPath):
        settings, title = solver.strengths, "Training"
        streams = (_stream(features[:, own], labels, train, classes) for own in columns.values())
        heads = (fitted.linear for stream in streams for fitted in fit_path(stream, solver))
    else:
        settings, title = solver.learning_rates, "Choosing"
        heads = _by_sgd(features, labels, train, list(columns.values()), solver, classes, seed, products, device)
    tried: list[tuple[Candidate, ClassificationInput, Linear]] = []
    with progress(title, len(columns) * len(settings), "heads") as advance:
        for (each, setting), linear in zip(product(columns, settings), heads, strict=True):
            score, loss = _judge(linear, columns[each], judged)
            tried.append((Candidate(each.name, setting, score, loss), each, linear))
            advance(1, f"held-out top-1 {score:.3f}")
    candidates = tuple(candidate for candidate, _, _ in tried)
    chosen, own, linear = tried[best(candidates)]
    if validation is None and isinstance(solver, LogisticPath):
        path = replace(solver, strengths=solver.strengths[: solver.strengths.index(chosen.setting) + 1])
        train = every
        with progress("Training on all images", len(path.strengths), "strengths") as advance:
            for fitted in fit_path(_stream(features[:, columns[own]], labels, train, classes), path):
                linear = fitted.linear
                advance()
    # A copy, so that the chosen head does not keep all those beside it in memory.
    linear = replace(linear, weight=linear.weight.copy(), bias=linear.bias.copy())
    return ClassificationHead(linear, chosen, candidates, len(train), len(judged[2]), own, columns[own])


def _check(features: Rows, labels: Labels, recipe: ClassificationRecipe, classes: int) -> int:
    """The width of a token."""
    if len(features) != len(labels):
        raise InfoscopeError(f"there are {len(features)} images' features and {len(labels)} labels: give one each")
    if not len(labels):
        raise InfoscopeError("there are no images to train or choose on: check the split")
    if features.shape[1] % len(recipe.parts):
        raise InfoscopeError(
            f"features of length {features.shape[1]} are not {len(recipe.parts)} vectors of one width: store "
            + ", ".join(f"{kind} of block {block}" for kind, block in recipe.parts)
        )
    if labels.min() < 0 or labels.max() >= classes:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise InfoscopeError(f"class {wrong} is out of range: there are {classes} classes, from 0")
    return int(features.shape[1]) // len(recipe.parts)


def _stream(features: Rows, labels: Labels, index: Index, classes: int) -> Stream:
    """The images as examples, a batch at a time."""

    def examples() -> Iterator[Examples]:
        for rows, which in in_order(features, index):
            shares = np.zeros((len(which), classes), np.float32)
            shares[np.arange(len(which)), labels[which]] = 1
            yield Examples(rows, shares, np.ones(len(which), np.float32))

    return examples


def _judge(linear: Linear, columns: slice, judged: tuple[Rows, Labels, Index]) -> tuple[float, float]:
    """Top-1 and mean cross-entropy on held-out images."""
    features, labels, held = judged
    right, loss = 0, 0.0
    for rows, which in in_order(features[:, columns], held):
        logits, target = torch.from_numpy(linear(rows)), torch.from_numpy(labels[which])
        right += int((logits.argmax(1) == target).sum())
        loss += float(functional.cross_entropy(logits, target, reduction="sum"))
    return right / len(held), loss / len(held)


class Stack(nn.Module):
    """Heads on one input, one for each learning rate, in one product.

    All start from the same weights, and no head's numbers enter another's: a sum over heads of their losses gives each
    the gradient that it would have alone.

    Args:
        features: how many a head reads.
        classes: how many there are.
        solver: the learning rates, and how weights start.
        generator: draws the weights.

    Example:
        >>> stack = Stack(2, 3, Sgd(learning_rates=(0.1, 1.0)), torch.Generator())
        >>> stack(torch.ones(5, 2)).shape
        torch.Size([2, 3, 5])
    """

    def __init__(self, features: int, classes: int, solver: Sgd, generator: torch.Generator) -> None:
        super().__init__()
        heads = len(solver.learning_rates)
        first = torch.empty(classes, features).normal_(0, solver.start_std, generator=generator)
        self.weight = nn.Parameter(first.repeat(heads, 1, 1))
        self.bias = nn.Parameter(torch.zeros(heads, classes, 1))

    def forward(self, rows: Float[Tensor, "row feature"]) -> Float[Tensor, "head class row"]:
        """Logits of all heads; rows last, so that a softmax over classes runs along rows of memory."""
        return torch.einsum("hcf,rf->hcr", self.weight, rows) + self.bias

    def layers(self) -> Iterator[Linear]:
        """The heads, in the order of the learning rates; on a CPU they share the stack's memory."""
        for weight, bias in zip(self.weight.detach().cpu().numpy(), self.bias.detach().cpu().numpy(), strict=True):
            yield Linear(weight, bias[:, 0])


@torch.enable_grad()
def _by_sgd(
    features: Rows,
    labels: Labels,
    train: Index,
    columns: Sequence[slice],
    solver: Sgd,
    classes: int,
    seed: int,
    products: Products,
    device: str | torch.device,
) -> list[Linear]:
    """A head for each input and learning rate; an image's features are read once a step for all of them."""
    batch, steps = solver.plan(len(train))
    generator = torch.Generator().manual_seed(seed)
    stacks = [Stack(own.stop - own.start, classes, solver, generator).to(device) for own in columns]
    # A loss times the learning rate, at a rate of 1, takes the step of that learning rate: momentum is linear.
    optimizer = torch.optim.SGD(
        [parameter for stack in stacks for parameter in stack.parameters()], lr=1.0, momentum=solver.momentum
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: solver.pace(step, steps))
    rates = torch.tensor(solver.learning_rates, device=device) * (batch / 256)
    epochs = (mixed(features, train, batch, solver.window, (seed, 1, epoch)) for epoch in count())
    with progress("Training", steps, "steps") as advance:
        for rows, which in islice(chain.from_iterable(epochs), steps):
            read, target = torch.from_numpy(rows).to(device), torch.from_numpy(labels[which]).to(device)
            optimizer.zero_grad()
            for own, stack in zip(columns, stacks, strict=True):
                with torch.autocast(read.device.type, torch.bfloat16, enabled=products == "bfloat16"):
                    logits = stack(read[:, own])
                # One input after the other, so that memory holds the logits of one.
                losses = functional.cross_entropy(logits.float(), target.expand(len(rates), -1), reduction="none")
                torch.autograd.backward(losses.mean(1) @ rates)
            optimizer.step()
            schedule.step()
            advance()
    return [layer for stack in stacks for layer in stack.layers()]
