"""A linear classifier of images: trained by its recipe, chosen on held-out images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float32, Int64

from infoscope.analyses.probes.convex import Candidate, Examples, Linear, Stream, best, fit_path
from infoscope.analyses.probes.many_rates import Stack, pace, steps_of
from infoscope.analyses.probes.precision import Products, product_type
from infoscope.analyses.probes.reading import Index, Rows, in_order, mixed, split_by_class
from infoscope.analyses.probes.recipes import ClassificationInput, ClassificationRecipe
from infoscope.analyses.probes.solvers import LogisticPath, Sgd
from infoscope.errors import InfoscopeError, check_choice
from infoscope.runtime.progress import Advance, progress

Labels = Int64[np.ndarray, " _"]


@dataclass(frozen=True)
class ClassificationHead:
    """A trained classifier.

    Attributes:
        input: what it reads.
        columns: where that is among the stored features.
        linear: the layer.
        chosen: the candidate it is.
        candidates: all that were tried, with their scores on the held-out images.
        trained_on: images behind the weights.
        held_out: images behind the choice.
    """

    input: ClassificationInput
    columns: slice
    linear: Linear
    chosen: Candidate
    candidates: tuple[Candidate, ...]
    trained_on: int
    held_out: int

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
        >>> from infoscope.analyses.probes.recipes import find_recipe
        >>> random = np.random.default_rng(0)
        >>> labels = np.arange(60) % 3
        >>> features = np.concatenate([np.eye(3)[labels], random.normal(size=(60, 3))], axis=1).astype(np.float32)
        >>> head = fit_classification(features, labels, find_recipe("simple").classification, classes=3)
        >>> head.input.name, head.chosen.score, head.logits(features).argmax(1)[:4].tolist()
        ('cls', 1.0, [0, 1, 2, 0])
    """
    check_choice("products", products, Products)
    width = _check(features, labels, recipe, classes)
    index = np.arange(len(labels))
    if validation is None:
        train, held = split_by_class(labels, recipe.held_out, seed)
        judged = (features, labels, held)
    else:
        train = index
        _check(validation[0], validation[1], recipe, classes)
        judged = (*validation, np.arange(len(validation[1])))
    if len(np.unique(labels[train])) < 2:
        raise InfoscopeError(
            "all training images are of one class, and a classifier needs two: check the labels or the split"
        )
    inputs = [(each, recipe.columns(each, width)) for each in recipe.inputs]
    if isinstance(recipe.solver, LogisticPath):
        trained = _by_logistic(features, labels, train, inputs, recipe.solver, classes, judged)
    else:
        trained = _by_sgd(
            features,
            labels,
            train,
            inputs,
            recipe.solver,
            classes,
            judged,
            seed,
            product_type(products),
            torch.device(device),
        )
    candidates = tuple(candidate for candidate, _ in trained)
    at = best(candidates)
    chosen, linear = candidates[at], trained[at][1]()
    each, columns = next((each, columns) for each, columns in inputs if each.name == chosen.input)
    if validation is None and isinstance(recipe.solver, LogisticPath):
        again = replace(recipe.solver, strengths=recipe.solver.strengths[: _place(recipe.solver, chosen) + 1])
        stream = _stream(features, labels, index, columns, classes)
        with progress("Training on all images", len(again.strengths), "strengths") as advance:
            for fitted in fit_path(stream, again):
                linear = fitted.linear
                advance()
        train = index
    return ClassificationHead(each, columns, linear, chosen, candidates, len(train), len(judged[2]))


def _place(solver: LogisticPath, chosen: Candidate) -> int:
    return solver.strengths.index(chosen.setting)


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


def _stream(features: Rows, labels: Labels, index: Index, columns: slice, classes: int) -> Stream:
    """The images as examples, a batch at a time."""
    kinds = np.eye(classes, dtype=np.float32) if classes <= 4096 else None

    def examples() -> Iterator[Examples]:
        for rows, which in in_order(features[:, columns], index):
            if kinds is not None:
                shares = kinds[labels[which]]
            else:
                shares = np.zeros((len(which), classes), np.float32)
                shares[np.arange(len(which)), labels[which]] = 1
            yield Examples(rows, shares, np.ones(len(which), np.float32))

    return examples


Inputs = list[tuple[ClassificationInput, slice]]
Judged = tuple[Rows, Labels, Index]
# The layer is made when it is asked for, so that those not chosen need not be copied.
Trained = list[tuple[Candidate, Callable[[], Linear]]]


def _by_logistic(
    features: Rows, labels: Labels, train: Index, inputs: Inputs, solver: LogisticPath, classes: int, judged: Judged
) -> Trained:
    trained: Trained = []
    total = len(inputs) * len(solver.strengths)
    with progress("Training", total, "heads") as advance:
        for each, columns in inputs:
            for fitted in fit_path(_stream(features, labels, train, columns, classes), solver):
                score, loss = _judge(fitted.linear, columns, judged)
                trained.append((Candidate(each.name, fitted.strength, score, loss), partial(_same, fitted.linear)))
                advance(1, f"held-out top-1 {score:.3f}")
    return trained


def _same(linear: Linear) -> Linear:
    return linear


def _judge(linear: Linear, columns: slice, judged: Judged) -> tuple[float, float]:
    """Top-1 and mean cross-entropy on held-out images."""
    features, labels, held = judged
    right, loss = 0, 0.0
    for rows, which in in_order(features[:, columns], held):
        logits = torch.from_numpy(linear(rows))
        target = torch.from_numpy(labels[which])
        right += int((logits.argmax(1) == target).sum())
        loss += float(torch.nn.functional.cross_entropy(logits, target, reduction="sum"))
    return right / len(held), loss / len(held)


def _by_sgd(
    features: Rows,
    labels: Labels,
    train: Index,
    inputs: Inputs,
    solver: Sgd,
    classes: int,
    judged: Judged,
    seed: int,
    product: torch.dtype,
    device: torch.device,
) -> Trained:
    batch, steps = steps_of(solver, len(train))
    generator = torch.Generator().manual_seed(seed)
    stacks = [
        Stack.start(columns.stop - columns.start, classes, solver, batch, generator, device, product)
        for _, columns in inputs
    ]
    with progress("Training", steps, "steps") as advance:
        _descend(stacks, features, labels, train, inputs, solver, (batch, steps), seed, product, device, advance)
    trained: Trained = []
    for (each, columns), stack in zip(inputs, stacks, strict=True):
        for head, rate in enumerate(solver.learning_rates):
            linear = stack.linear(head)
            score, loss = _judge(linear, columns, judged)
            trained.append((Candidate(each.name, rate, score, loss), partial(stack.linear, head)))
    return trained


def _descend(
    stacks: list[Stack],
    features: Rows,
    labels: Labels,
    train: Index,
    inputs: Inputs,
    solver: Sgd,
    plan: tuple[int, int],
    seed: int,
    product: torch.dtype,
    device: torch.device,
    advance: Advance,
) -> None:
    """All steps of all heads; an image's features are read once a step, whatever the number of heads."""
    batch, steps = plan
    step = epoch = 0
    while step < steps:
        for rows, which in mixed(features, train, batch, solver.window, (seed, 1, epoch)):
            if step == steps:
                break
            read = torch.from_numpy(rows).to(device, product)
            target = torch.from_numpy(labels[which]).to(device)
            for (_, columns), stack in zip(inputs, stacks, strict=True):
                some = torch.cat([read[:, columns], read.new_ones(len(read), 1)], 1)
                stack.step(some, target, pace(step, steps), solver.momentum)
            step += 1
            advance()
        epoch += 1
