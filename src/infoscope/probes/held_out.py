"""The part of the training examples that a choice is made on."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

from infoscope.errors import InfoscopeError
from infoscope.probes.reading import Index


def split_by_class(labels: Int64[np.ndarray, " image"], share: float, seed: int) -> tuple[Index, Index]:
    """Training and held-out images, every class in both as far as it has two images.

    Args:
        labels: each image's class.
        share: of each class's images, that is held out; rounded, at least one of two images or more.
        seed: decides which.

    Returns:
        The indices of those to train on and of those held out, ascending.

    Raises:
        InfoscopeError: no class has two images.

    Example:
        >>> train, held = split_by_class(np.array([0] * 5 + [1] * 10 + [2]), share=0.2, seed=0)
        >>> len(train), len(held)
        (13, 3)
    """
    random = np.random.default_rng((seed, 0))
    held: list[Index] = []
    for each in np.unique(labels):
        members = np.flatnonzero(labels == each)
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        held.append(random.permutation(members)[:count])
    return _both(np.concatenate(held) if held else np.zeros(0, np.int64), len(labels))


def split(count: int, share: float, seed: int) -> tuple[Index, Index]:
    """Training and held-out images, whatever they show.

    Example:
        >>> [len(part) for part in split(10, share=0.2, seed=0)]
        [8, 2]
    """
    chosen = np.random.default_rng((seed, 0)).permutation(count)
    return _both(chosen[: min(max(round(share * count), 1), max(count - 1, 0))].astype(np.int64), count)


def _both(held: Index, count: int) -> tuple[Index, Index]:
    if not len(held):
        raise InfoscopeError(
            f"{count} training images are too few to hold some out for the choice: give validation images, or two "
            "images of a class at least"
        )
    inside = np.zeros(count, bool)
    inside[held] = True
    return np.flatnonzero(~inside), np.flatnonzero(inside)
