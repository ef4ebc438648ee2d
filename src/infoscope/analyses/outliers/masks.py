"""How far the mask of outlier tokens moves between two crops, beside masks of equal size (method, section 6)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from infoscope.scope.emd import emd_pairs
from infoscope.scope.geometry import patch_distances
from infoscope.scope.maps import SparseMaps

OTHERS = ("next", "random", "complement")


@dataclass(frozen=True)
class MaskShifts:
    """Each image's outlier mask in both crops, and how far it and the masks it is compared with move.

    A mask has the mass 1, spread evenly over its patches. Distances are shares of the overlap's diagonal D, as a CDS
    is; NaN where a mask is empty in either crop.

    Attributes:
        sizes: outlier tokens on the overlap, in the first and the second crop.
        outlier: the outlier mask's distance.
        next: that of as many of the highest-norm other tokens, crop by crop.
        random: that of as many other tokens drawn at random in each crop: what a mask that knows nothing of the
            picture moves.
        complement: that of all other tokens. It fills the grid and cannot move.
    """

    sizes: Int64[np.ndarray, "image 2"]
    outlier: Float64[np.ndarray, " image"]
    next: Float64[np.ndarray, " image"]
    random: Float64[np.ndarray, " image"]
    complement: Float64[np.ndarray, " image"]

    @property
    def valid(self) -> Bool[np.ndarray, " image"]:
        """Images with an outlier token on the overlap in both crops."""
        return np.logical_and(self.sizes[:, 0] > 0, self.sizes[:, 1] > 0)

    @property
    def vanished(self) -> float:
        """Of the images with an outlier token on the overlap, the share with one in exactly one crop; NaN without."""
        some = int((self.sizes > 0).any(1).sum())
        return 1.0 - int(self.valid.sum()) / some if some else float("nan")


def shift_masks(
    norms: Float32[np.ndarray, "image 2 patch"],
    threshold: float,
    *,
    grid: int,
    shift: int,
    image: Int64[np.ndarray, " image"],
    seed: int = 0,
) -> MaskShifts:
    """The distances of every image.

    Args:
        norms: norms of the patch tokens of both crops, row-major on the full p x p grid.
        threshold: a token is an outlier above it.
        grid: p, patches per side.
        shift: s, patches between the crops.
        image: each image's position in its source: what is drawn at random depends on it and on the seed alone.
        seed: of the random masks.

    Example:
        >>> norms = np.ones((1, 2, 16), np.float32)
        >>> norms[0, 0, 5] = norms[0, 1, 2] = 9.0     # on the overlap of 3 x 3: its first patch, and the last of row 0
        >>> found = shift_masks(norms, 3.0, grid=4, shift=1, image=np.array([0]))
        >>> found.sizes.tolist(), round(float(found.outlier[0]), 3)     # 2 of a diagonal of 2.83
        ([[1, 1]], 0.707)
    """
    side = grid - shift
    square = norms.reshape(-1, 2, grid, grid)
    overlap = np.stack([square[:, 0, shift:, shift:], square[:, 1, :side, :side]], axis=1).reshape(-1, 2, side * side)
    outlier = overlap > threshold
    sizes = outlier.sum(2)
    upcoming, drawn = np.zeros_like(outlier), np.zeros_like(outlier)
    for row, number in enumerate(image.tolist()):
        random = np.random.default_rng([seed, number])
        for crop in range(2):
            others = np.flatnonzero(~outlier[row, crop])
            count = int(sizes[row, crop])
            # With too few others there is no mask of equal size, and so no distance.
            if count > len(others):
                continue
            by_norm = others[np.argsort(-overlap[row, crop, others], kind="stable")]
            upcoming[row, crop, by_norm[:count]] = True
            drawn[row, crop, random.permutation(others)[:count]] = True
    distances = patch_distances(side)
    scale = float(distances.max()) or 1.0

    def moved(masks: Bool[np.ndarray, "image 2 cell"]) -> Float64[np.ndarray, " image"]:
        first, second = (SparseMaps.from_dense(masks[:, crop].astype(np.float32)) for crop in range(2))
        return emd_pairs(first, second, distances) / scale

    return MaskShifts(sizes, moved(outlier), moved(upcoming), moved(drawn), moved(~outlier))
