"""Features that resemble a feature: by the direction they write, and by the patches they fire on together.

Both are computed a block of features at a time, so that memory is bounded by the block and not by the square of the
dictionary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt32
from scipy.sparse import csr_array

from infoscope.runtime.progress import progress

# Our choice: a row of neighbours that fits a phone.
NEIGHBOURS = 6
# Our choice: beyond a map's strongest patches little is left of its mass, and the cost grows with their square.
PATCHES_KEPT = 16
BLOCK = 512


@dataclass(frozen=True)
class Neighbours:
    """Each feature's nearest others, nearest first.

    Attributes:
        feature: ``[feature, neighbour]``; -1 where there are fewer.
        likeness: cosine, ``[feature, neighbour]``; NaN there.
    """

    feature: Int64[np.ndarray, "feature neighbour"]
    likeness: Float64[np.ndarray, "feature neighbour"]

    def of(self, feature: int) -> list[tuple[int, float]]:
        """A feature's neighbours and their likeness."""
        rows = zip(self.feature[feature].tolist(), self.likeness[feature].tolist(), strict=True)
        return [(other, value) for other, value in rows if other >= 0]


def by_direction(decoder: Float32[np.ndarray, "feature width"], count: int = NEIGHBOURS) -> Neighbours:
    """The features whose decoder rows point most nearly the same way, by cosine; ties go to the lower number.

    Args:
        decoder: ``W_dec``, ``[feature, width]``; a row of zeros is nobody's neighbour and has none.
        count: neighbours a feature.

    Example:
        >>> rows = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0], [0.0, 0.0]], np.float32)
        >>> [(other, round(cosine, 2)) for other, cosine in by_direction(rows, count=1).of(0)]
        [(2, 0.95)]
    """
    norm = np.linalg.norm(decoder, axis=1, keepdims=True)
    silent = norm[:, 0] == 0
    rows = decoder / np.where(norm > 0, norm, 1)
    total = len(rows)
    count = min(count, total - 1)
    feature, likeness = np.full((total, count), -1), np.full((total, count), np.nan)
    with progress("Comparing directions", total, "features") as advance:
        for start in range(0, total, BLOCK):
            part = slice(start, min(start + BLOCK, total))
            cosines = rows[part] @ rows.T
            cosines[:, silent] = -np.inf
            cosines[np.arange(len(cosines)), np.arange(part.start, part.stop)] = -np.inf
            feature[part], likeness[part] = _highest(cosines, count)
            advance(len(cosines))
    feature[silent], likeness[silent] = -1, np.nan
    gone = ~np.isfinite(likeness)
    feature[gone], likeness[gone] = -1, np.nan
    return Neighbours(feature, likeness)


def by_cofiring(
    feature: UInt32[np.ndarray, " entry"],
    token: Int64[np.ndarray, " entry"],
    code: Float32[np.ndarray, " entry"],
    n_features: int,
    count: int = NEIGHBOURS,
) -> Neighbours:
    """The features whose codes lie most on the same tokens, by cosine; ties go to the lower number.

    A run knows a feature's codes on its own top images alone, so two features that share no top image have no cosine,
    and a token that is among the top images of one of them counts in its length only.

    Args:
        feature: of each entry.
        token: a number for each image and patch.
        code: of that feature on that token.
        n_features: of the dictionary.
        count: neighbours a feature.

    Example:
        >>> entries = np.array([0, 0, 1, 2], np.uint32), np.array([5, 6, 5, 9]), np.array([3, 4, 1, 1], np.float32)
        >>> by_cofiring(*entries, n_features=3).of(0)
        [(1, 0.6...)]
    """
    _, place = np.unique(token, return_inverse=True)
    codes = csr_array(
        (code.astype(np.float64), (feature.astype(np.int64), place)), shape=(n_features, place.max(initial=0) + 1)
    )
    norm = np.sqrt(np.asarray(codes.multiply(codes).sum(axis=1)).ravel())
    codes = csr_array(codes.multiply(1 / np.where(norm > 0, norm, 1)[:, None]))
    other_way = csr_array(codes.T)
    count = min(count, max(n_features - 1, 0))
    found, likeness = np.full((n_features, count), -1), np.full((n_features, count), np.nan)
    with progress("Comparing where features fire", n_features, "features") as advance:
        for start in range(0, n_features, BLOCK):
            stop = min(start + BLOCK, n_features)
            cosines = csr_array(codes[start:stop] @ other_way)
            for row in range(stop - start):
                entries = slice(cosines.indptr[row], cosines.indptr[row + 1])
                others, values = cosines.indices[entries], cosines.data[entries]
                others, values = others[others != start + row], values[others != start + row]
                nearest = np.lexsort((others, -values))[:count]
                found[start + row, : len(nearest)] = others[nearest]
                likeness[start + row, : len(nearest)] = values[nearest]
            advance(stop - start)
    return Neighbours(found, likeness)


def _highest(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The places of each row's ``count`` highest values, highest first, ties by place; and those values."""
    chosen = np.sort(np.argpartition(-values, max(count - 1, 0), axis=1)[:, :count], axis=1)
    kept = np.take_along_axis(values, chosen, axis=1)
    order = np.argsort(-kept, axis=1, kind="stable")
    return np.take_along_axis(chosen, order, axis=1), np.take_along_axis(kept, order, axis=1)
