"""Which probes can be made of a sample, the tokens they need, and their scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Int64, Shaped

from infoscope.analyses.outliers.probes import FOLDS, LEAST_TOKENS, probe_labels, probe_pixels, probe_position
from infoscope.analyses.outliers.record import Probes
from infoscope.analyses.outliers.tokens import Chosen, Pairs, Tokens, pair_within_images, pair_within_patches
from infoscope.runtime.progress import progress

T = TypeVar("T")

# Our choice: every part of the images that is left out then leaves some of the label to train on.
LEAST_OF_LABEL = 2 * FOLDS


@dataclass(frozen=True)
class Probing:
    """The tokens of the probes, by probe; a probe that cannot be made has none, and a note says why.

    Attributes:
        position: outlier tokens and normal ones at the same patches.
        pixels: outlier tokens and normal ones of the same images.
        labels: one outlier token an image and one normal one.
        label: the label of each of these images.
        notes: why a probe is missing.
    """

    position: Pairs
    pixels: Pairs
    labels: Pairs
    label: Shaped[np.ndarray, " token"]
    notes: list[str]

    @property
    def chosen(self) -> dict[str, Chosen]:
        """The tokens by name, for the pass that reads them."""
        pairs = {"position": self.position, "pixels": self.pixels, "labels": self.labels}
        return {
            f"{name}_{kind}": tokens
            for name, pair in pairs.items()
            for kind, tokens in (("outlier", pair.outlier), ("normal", pair.normal))
            if len(tokens)
        }

    @property
    def label_rows(self) -> Int64[np.ndarray, " row"]:
        """The images of the label probe, ascending."""
        return self.labels.outlier.row

    def score(self, tokens: Tokens, special: bool, grid: int) -> Probes:
        """Train and test every probe that can be made.

        Args:
            tokens: what `read_tokens` found.
            special: whether the token before the patches is a CLS token.
            grid: p, patches per side.
        """
        vectors, label, rows = tokens.vectors, self.label, self.label_rows
        has_special = special and len(rows) > 0
        with progress("Probing", len(self.chosen) + has_special, "probes") as advance:

            def both(pair: Pairs, probe: Callable[[str, Chosen], T]) -> tuple[T | None, T | None]:
                """A probe on outlier and on normal tokens, where there are any."""
                if not len(pair.outlier):
                    return None, None
                outlier = probe("outlier", pair.outlier)
                advance()
                normal = probe("normal", pair.normal)
                advance()
                return outlier, normal

            position = both(
                self.position,
                lambda kind, those: probe_position(vectors[f"position_{kind}"], those.patch, those.row, grid),
            )
            pixels = both(
                self.pixels,
                lambda kind, those: probe_pixels(vectors[f"pixels_{kind}"], tokens.pixels[f"pixels_{kind}"], those.row),
            )
            labels = both(self.labels, lambda kind, those: probe_labels(vectors[f"labels_{kind}"], label, those.row))
            of_special = probe_labels(tokens.first, label, rows) if has_special else None
            advance(int(has_special))
        return Probes(*position, *pixels, *labels, labels_special=of_special, notes=self.notes)


def plan_probes(outlier: Bool[np.ndarray, "image patch"], label: list[str] | None, most: int, seed: int) -> Probing:
    """Choose the tokens of every probe.

    Args:
        outlier: which tokens of each image are outliers.
        label: each image's label, if there are labels.
        most: at most so many tokens of a kind.
        seed: of what is drawn.

    Example:
        >>> plan_probes(np.zeros((3, 16), bool), None, 100, 0).notes[0]
        'position: 0 outlier tokens have a normal one at the same patch, in 0 images; a probe needs 50 in 5'
    """
    notes: list[str] = []
    nothing = Pairs(Chosen.none(), Chosen.none())
    position = pair_within_patches(outlier, most, np.random.default_rng([seed, 0]))
    patches = len(np.unique(position.outlier.patch))
    # Here the normal tokens are of other images, and may be of fewer.
    images = min(len(np.unique(position.outlier.row)), len(np.unique(position.normal.row)))
    if len(position.outlier) < LEAST_TOKENS or images < FOLDS:
        notes.append(
            f"position: {len(position.outlier)} outlier tokens have a normal one at the same patch, in {images} "
            f"images; a probe needs {LEAST_TOKENS} in {FOLDS}"
        )
        position = nothing
    elif patches < 2:
        notes.append("position: all outlier tokens that can be compared sit on one patch")
        position = nothing
    pixels = pair_within_images(outlier, most, np.random.default_rng([seed, 1]))
    if len(pixels.outlier) < LEAST_TOKENS or len(np.unique(pixels.outlier.row)) < FOLDS:
        notes.append(
            f"pixels: {len(pixels.outlier)} outlier tokens in {len(np.unique(pixels.outlier.row))} images; "
            f"a probe needs {LEAST_TOKENS} in {FOLDS}"
        )
        pixels = nothing
    labels, named = nothing, np.array([], np.str_)
    if label is None:
        notes.append("labels: none were given")
    else:
        labels = pair_within_images(outlier, most, np.random.default_rng([seed, 2]), one_per_image=True)
        named = np.array(label)[labels.outlier.row]
        values, counts = np.unique(named, return_counts=True)
        frequent = np.isin(named, values[counts >= LEAST_OF_LABEL])
        if len(np.unique(named[frequent])) < 2 or int(frequent.sum()) < LEAST_TOKENS:
            notes.append(
                f"labels: {int(frequent.sum())} images with outlier tokens are of a label with {LEAST_OF_LABEL} of "
                f"them; a probe needs {LEAST_TOKENS} and two such labels"
            )
            labels, named = nothing, np.array([], np.str_)
        else:
            labels, named = Pairs(labels.outlier.take(frequent), labels.normal.take(frequent)), named[frequent]
    return Probing(position, pixels, labels, named, notes)
