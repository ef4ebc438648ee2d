"""Where on the grid outlier tokens are, and how far their mask moves between two crops (method, section 6)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from infoscope.analyses.outliers.record import MaskDistance, Places, Stability
from infoscope.scope.emd import emd_pairs
from infoscope.scope.geometry import patch_distances
from infoscope.scope.maps import SparseMaps

# The masks that the outlier mask is compared with.
OTHERS = ("next", "random", "complement")


@dataclass(frozen=True)
class MaskShifts:
    """How far each image's outlier mask moves between the crops, and how far other masks move.

    A mask has a mass of 1, spread evenly over its patches. Distances are shares of the overlap's diagonal D, like CDS;
    they are NaN where a mask is empty in either crop.

    Attributes:
        sizes: outlier tokens on the overlap, in the first and the second crop.
        outlier: distance of the outlier mask.
        next: distance of a mask of equal size: in each crop, the tokens of the next highest norms.
        random: distance of a mask of equal size: in each crop, other tokens drawn at random. A mask that has nothing to
            do with the picture moves this far.
        complement: distance of the mask of all other tokens, which fills the grid and cannot move.
        on_pixels: outlier tokens of the first crop's overlap that are outliers in the second crop too.
        at_place: those at whose place in the second crop there is an outlier.
    """

    sizes: Int64[np.ndarray, "image 2"]
    outlier: Float64[np.ndarray, " image"]
    next: Float64[np.ndarray, " image"]
    random: Float64[np.ndarray, " image"]
    complement: Float64[np.ndarray, " image"]
    on_pixels: Int64[np.ndarray, " image"]
    at_place: Int64[np.ndarray, " image"]

    @property
    def valid(self) -> Bool[np.ndarray, " image"]:
        """Images with an outlier token on the overlap in both crops."""
        return np.logical_and(self.sizes[:, 0] > 0, self.sizes[:, 1] > 0)

    @property
    def vanished(self) -> float:
        """Of the images with outlier tokens on the overlap, the share with any in only one crop; NaN without images."""
        any_crop = int((self.sizes > 0).any(1).sum())
        return 1.0 - int(self.valid.sum()) / any_crop if any_crop else float("nan")


def shift_masks(
    norms: Float32[np.ndarray, "image 2 patch"],
    threshold: float,
    *,
    grid: int,
    shift: int,
    image: Int64[np.ndarray, " image"],
    seed: int = 0,
) -> MaskShifts:
    """The distances of the masks of every image.

    Args:
        norms: norms of the patch tokens of both crops, row-major on the full p x p grid.
        threshold: the norm above which a token is an outlier.
        grid: p, patches per side.
        shift: s, patches between the crops.
        image: each image's position in its source; random masks depend on this and on the seed alone.
        seed: seed of the random masks.

    Example:
        >>> norms = np.ones((1, 2, 16), np.float32)
        >>> norms[0, 0, 5] = norms[0, 1, 2] = 9.0     # on the overlap of 3 x 3: its first patch, and the last of row 0
        >>> shifts = shift_masks(norms, 3.0, grid=4, shift=1, image=np.array([0]))
        >>> shifts.sizes.tolist(), round(float(shifts.outlier[0]), 3)     # 2 of a diagonal of 2.83
        ([[1, 1]], 0.707)
    """
    side = grid - shift
    square = norms.reshape(-1, 2, grid, grid)
    overlap = np.stack([square[:, 0, shift:, shift:], square[:, 1, :side, :side]], axis=1).reshape(-1, 2, side * side)
    outlier = overlap > threshold
    sizes = outlier.sum(2)
    runners_up, drawn = np.zeros_like(outlier), np.zeros_like(outlier)
    for row, number in enumerate(image.tolist()):
        random = np.random.default_rng([seed, number])
        for crop in range(2):
            others = np.flatnonzero(~outlier[row, crop])
            count = int(sizes[row, crop])
            # With too few other tokens there is no mask of equal size; the masks stay empty, and the distance NaN.
            if count > len(others):
                continue
            by_norm = others[np.argsort(-overlap[row, crop, others], kind="stable")]
            runners_up[row, crop, by_norm[:count]] = True
            drawn[row, crop, random.permutation(others)[:count]] = True
    distances = patch_distances(side)
    scale = float(distances.max()) or 1.0

    def moved(masks: Bool[np.ndarray, "image 2 cell"]) -> Float64[np.ndarray, " image"]:
        first, second = (SparseMaps.from_dense(masks[:, crop].astype(np.float32)) for crop in range(2))
        return emd_pairs(first, second, distances) / scale

    at_place = outlier[:, 0] & (square[:, 1, shift:, shift:].reshape(-1, side * side) > threshold)
    distances_of = (moved(outlier), moved(runners_up), moved(drawn), moved(~outlier))
    return MaskShifts(sizes, *distances_of, outlier.all(1).sum(1), at_place.sum(1))


def judge_places(outlier: Bool[np.ndarray, "image patch"], grid: int) -> Places:
    """Where on the grid the outlier tokens are.

    Example:
        >>> outlier = np.zeros((2, 16), bool)
        >>> outlier[0, 0] = outlier[1, 0] = outlier[0, 1] = outlier[1, 5] = True
        >>> places = judge_places(outlier, grid=4)
        >>> places.patches, places.likeliest, places.corner_share, places.border_share, places.border_even
        (3, 0, 0.5, 0.75, 0.75)
    """
    count = outlier.sum(0)
    total = int(count.sum())
    square = count.reshape(grid, grid)
    corners = int(square[np.ix_([0, -1], [0, -1])].sum()) if grid > 1 else total
    border = total - int(square[1:-1, 1:-1].sum())
    cells = grid * grid
    likeliest = int(np.argmax(count))
    return Places(
        patches=int((count > 0).sum()),
        cells=cells,
        likeliest=likeliest if total else None,
        likeliest_share=int(count[likeliest]) / total if total else None,
        corner_share=corners / total if total else None,
        corner_even=min(4, cells) / cells,
        border_share=border / total if total else None,
        border_even=(cells - max(grid - 2, 0) ** 2) / cells,
    )


def judge_stability(shifts: MaskShifts) -> Stability:
    """Mean distances over images, with standard errors.

    Example:
        >>> norms = np.ones((1, 2, 16), np.float32)
        >>> norms[0, 0, 5] = norms[0, 1, 2] = 9.0
        >>> stability = judge_stability(shift_masks(norms, 3.0, grid=4, shift=1, image=np.array([0])))
        >>> stability.pairs, stability.size, round(stability.masks[0].mean, 3), stability.on_pixels, stability.at_place
        (1, 1.0, 0.707, 0.0, 0.0)
    """
    valid = shifts.valid
    masks = []
    for name in ("outlier", *OTHERS):
        distance: Float64[np.ndarray, " image"] = getattr(shifts, name)
        counted = valid & ~np.isnan(distance)
        mean, error = _mean(distance[counted])
        below, below_error = (None, None) if name == "outlier" else _mean((shifts.outlier - distance)[counted])
        masks.append(MaskDistance(name, int(counted.sum()), mean, error, below, below_error))
    return Stability(
        images=len(valid),
        pairs=int(valid.sum()),
        vanished=None if math.isnan(shifts.vanished) else shifts.vanished,
        size=float(shifts.sizes[valid].mean()) if valid.any() else None,
        masks=masks,
        tokens=(tokens := int(shifts.sizes[:, 0].sum())),
        on_pixels=int(shifts.on_pixels.sum()) / tokens if tokens else None,
        at_place=int(shifts.at_place.sum()) / tokens if tokens else None,
    )


def _mean(values: Float64[np.ndarray, " value"]) -> tuple[float | None, float | None]:
    """The mean and its standard error; None without values, and with one value for the error."""
    if not len(values):
        return None, None
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    return float(values.mean()), error
