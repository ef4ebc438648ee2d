"""What 13 learning rates cost over one, and what a probe of ImageNet's size costs, from a sample.

    python benchmarks/heads.py            # ratios, classification and dense heads
    python benchmarks/heads.py --plan     # the plan for 1.28 million images of 768 features and 1,000 classes

Processor seconds of one thread, so that a busy machine changes little. One rate and 13 take turns, and the fastest of
the turns counts. Features are random: no cost here depends on what they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
import tyro

from infoscope.analyses.probes import classification_head, depth_head, segmentation_head
from infoscope.analyses.probes.classification_head import (
    ClassificationInput,
    ClassificationRecipe,
    Products,
    fit_classification,
)
from infoscope.analyses.probes.convex import Examples, fit_path, moments_of
from infoscope.analyses.probes.dense_head import DenseRecipe
from infoscope.analyses.probes.depth_head import fit_depth
from infoscope.analyses.probes.reading import DenseFeatures, in_order
from infoscope.analyses.probes.recipes import AdamW, LogisticPath, Sgd
from infoscope.analyses.probes.segmentation_head import fit_segmentation

RATES = Sgd().learning_rates
PRODUCTS: tuple[Products, ...] = ("float32", "bfloat16")
IMAGENET, CLASSES, WIDTH = 1_281_167, 1000, 768
LAST = ClassificationInput()

R = TypeVar("R", bound=DenseRecipe)


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark."""

    plan: bool = False
    """Measure the plan for ImageNet in place of the ratios."""
    turns: int = 3
    """How often each is timed."""


class Random:
    """Targets held in memory."""

    def __init__(self, maps: np.ndarray) -> None:
        self.maps = maps

    def __len__(self) -> int:
        return len(self.maps)

    def target(self, index: int) -> np.ndarray:
        """Of image ``index``."""
        found: np.ndarray = self.maps[index]
        return found


def main(options: Benchmark) -> None:
    torch.set_num_threads(1)
    if options.plan:
        plan()
        return
    print("| head | features | outputs | products | one rate | 13 rates | ratio |\n|---|---|---|---|---|---|---|")
    for width in (384, 768):
        for classes, images in ((10, 20480), (1000, 4096)):
            for products in PRODUCTS:
                run = classification(width, classes, images, products)
                line("classification", width, classes, products, images, run, options.turns)
            line(
                "torch's own, one rate", width, classes, "float32", images, plain(width, classes, images), options.turns
            )
    line("segmentation", 384, 11, "float32", 16, segmentation(16), options.turns)
    line("depth", 384, 256, "float32", 4, depth(4), 1)


def line(
    name: str, width: int, outputs: int, products: str, images: int, run: Callable[[int], object], turns: int
) -> None:
    """A row of the table: microseconds an image and pass."""
    both = (1,) if "one rate" in name else (1, 13)
    spent: dict[int, list[float]] = {rates: [] for rates in both}
    for _ in range(turns):
        for rates in both:
            start = time.process_time()
            run(rates)
            spent[rates].append((time.process_time() - start) / images * 1e6)
    found = [min(each) for each in spent.values()]
    cells = [name, str(width), str(outputs), products, *(f"{each:,.0f} µs" for each in found)]
    print(
        "| " + " | ".join([*cells, *([f"{found[1] / found[0]:.2f}"] if len(found) > 1 else ["", ""])]) + " |",
        flush=True,
    )


def rows_of(images: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(images, width)).astype(np.float16)


def classification(width: int, classes: int, images: int, products: Products) -> Callable[[int], object]:
    features, labels = rows_of(images, width), np.random.default_rng(1).integers(0, classes, images)
    judged = (features[:8], labels[:8])

    def run(rates: int) -> object:
        solver = Sgd(learning_rates=RATES[-rates:], epochs=1, least_steps=1)
        recipe = ClassificationRecipe((LAST,), final_norm=True, solver=solver)
        return fit_classification(features, labels, recipe, classes=classes, validation=judged, products=products)

    return run


def plain(width: int, classes: int, images: int) -> Callable[[int], object]:
    """One learning rate as anyone would train it: a linear layer, cross-entropy, autograd and torch's SGD."""
    features, labels = rows_of(images, width), np.random.default_rng(1).integers(0, classes, images)

    def run(rates: int) -> object:
        layer = torch.nn.Linear(width, classes)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
        order = np.random.default_rng(0).permutation(images)
        for start in range(0, images, 1024):
            some = order[start : start + 1024]
            optimizer.zero_grad()
            logits = layer(torch.from_numpy(features[some]).float())
            torch.autograd.backward(torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels[some])))
            optimizer.step()
        return layer

    return run


def segmentation(images: int) -> Callable[[int], object]:
    features = DenseFeatures(rows_of(images * 256, 384).reshape(images, 256, 384))
    masks = Random(np.random.default_rng(1).integers(0, 11, (images, 360, 480), dtype=np.uint8))
    judged = (DenseFeatures(features.patches[:1]), Random(masks.maps[:1, :16, :16]))
    recipe = segmentation_head.RECIPES["dinov2"]

    def run(rates: int) -> object:
        return fit_segmentation(features, masks, _short(recipe, rates), classes=11, validation=judged)

    return run


def depth(images: int) -> Callable[[int], object]:
    patches = rows_of(images * 256, 384).reshape(images, 256, 384)
    features = DenseFeatures(patches, patches[:, 0])
    maps = Random(np.random.default_rng(1).uniform(0, 9, (images, 480, 640)).astype(np.float32))
    judged = (DenseFeatures(patches[:1], patches[:1, 0]), Random(maps.maps[:1, :16, :16]))
    recipe = depth_head.RECIPES["dinov2"]

    def run(rates: int) -> object:
        return fit_depth(features, maps, _short(recipe, rates), validation=judged)

    return run


def _short(recipe: R, rates: int) -> R:
    """The recipe for one pass, with so many learning rates."""
    assert isinstance(recipe.solver, AdamW)
    return replace(recipe, solver=replace(recipe.solver, learning_rates=RATES[-rates:], epochs=1, least_steps=1))


def plan() -> None:
    """Cost by image, and what that comes to for ImageNet."""
    print("| what | an image | for ImageNet |\n|---|---|---|")
    images = 4096
    recipe = classification_head.RECIPES["dinov2"]
    labels = np.random.default_rng(1).integers(0, CLASSES, images)
    stored = rows_of(images, WIDTH * len(recipe.parts))
    for products in PRODUCTS:
        for inputs in (recipe.inputs[:1], recipe.inputs):
            short = replace(recipe, inputs=inputs, solver=Sgd(epochs=1, least_steps=1))
            some = stored[:, : WIDTH * len(short.parts)]
            start = time.process_time()
            fit_classification(
                some, labels, short, classes=CLASSES, validation=(some[:8], labels[:8]), products=products
            )
            each = (time.process_time() - start) / images
            name = f"SGD, 13 rates x {len(inputs)} inputs, {products}"
            print(
                f"| {name} | {each * 1e6:,.0f} µs a pass | {each * IMAGENET * 10 / 3600:,.1f} h for 10 passes |",
                flush=True,
            )
    features = rows_of(images, WIDTH)
    kinds = np.eye(CLASSES, dtype=np.float32)

    def stream() -> Iterator[Examples]:
        for rows, which in in_order(features, np.arange(images)):
            yield Examples(rows, kinds[labels[which]], np.ones(len(which), np.float32))

    start = time.process_time()
    moments = moments_of(stream)
    each = (time.process_time() - start) / images
    print(f"| moments | {each * 1e6:,.0f} µs | {each * IMAGENET / 3600:,.2f} h |")
    start = time.process_time()
    [fitted] = fit_path(stream, LogisticPath((1.0,), iterations=4), moments=moments, keep_bytes=0)
    each = (time.process_time() - start) / images / fitted.passes
    print(f"| L-BFGS | {each * 1e6:,.0f} µs a pass | {each * IMAGENET / 3600:,.2f} h a pass |")


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
