"""Chance that is a function of a view's pixels: the same view always gets the same noise, in whatever batch it is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64, UInt8


@dataclass(frozen=True)
class Draws:
    """What chance decides of one view.

    Attributes:
        usual: uniform on 0..1, for whether the outliers sit on their usual patches.
        order: the patches in a random order, ``[patch]``.
        place: a random patch for each feature, where it fires falsely.
        noise: standard normal, ``[patch, feature]``.
    """

    usual: float
    order: Int64[np.ndarray, " patch"]
    place: Int64[np.ndarray, " feature"]
    noise: Float32[np.ndarray, "patch feature"]


def draw(view: UInt8[np.ndarray, "row column 3"], seed: int, patches: int, features: int) -> Draws:
    """The draws of a view, seeded by a hash of all its pixels: a shift by one patch changes all of them.

    Example:
        >>> view = np.zeros((8, 8, 3), np.uint8)
        >>> first, again, other = (draw(v, 0, 4, 2) for v in (view, view.copy(), view + 1))
        >>> bool((first.noise == again.noise).all()), bool((first.noise == other.noise).any())
        (True, False)
    """
    digest = hashlib.blake2b(np.ascontiguousarray(view).tobytes(), digest_size=16).digest()
    generator = np.random.default_rng([seed, int.from_bytes(digest, "little")])
    return Draws(
        usual=float(generator.random()),
        order=generator.permutation(patches).astype(np.int64),
        place=generator.integers(patches, size=features).astype(np.int64),
        noise=generator.standard_normal((patches, features), dtype=np.float32),
    )
