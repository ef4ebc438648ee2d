"""What else the two maps of a pair show on the overlap (method, section 4): how broad they are and how they differ."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float64

from infoscope.scope.companions_kernel import (
    DIVERGENCE,
    ENTROPY,
    GYRATION,
    IOU,
    MORAN,
    PARTICIPATION,
    PEAK,
    map_shapes,
    pair_overlaps,
)
from infoscope.scope.maps import SparseMaps


@dataclass(frozen=True)
class Companions:
    """Breadth and change of pairs of maps; every array is ``[pair]``, NaN where either map is empty.

    The first four are means of both maps.

    Attributes:
        entropy: of the normalised map, in nats: 0 for one patch, log of the number of patches for an even map.
        participation: participation ratio, 1 / sum of squared shares, in patches.
        gyration: radius of gyration, the root mean squared distance from the map's own centre, in patches (Euclidean).
        moran: Moran's I with weight 1 between each two of the up to eight patches around a patch and itself, over all
            patches of the overlap: 1 for smooth maps, about 0 for scattered ones; also NaN where a map is even.
        peak_displacement: distance between the two peaks, in patches; of equal peaks, the first in row-major order.
        support_iou: patches above 0 in both maps over those above 0 in either; near 1, only the weights change.
        jensen_shannon: Jensen-Shannon divergence of the normalised maps, in bits, 0 to 1.
    """

    entropy: Float64[np.ndarray, " pair"]
    participation: Float64[np.ndarray, " pair"]
    gyration: Float64[np.ndarray, " pair"]
    moran: Float64[np.ndarray, " pair"]
    peak_displacement: Float64[np.ndarray, " pair"]
    support_iou: Float64[np.ndarray, " pair"]
    jensen_shannon: Float64[np.ndarray, " pair"]

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name, as the constructor takes them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def compare_maps(
    first: SparseMaps, second: SparseMaps, side: int, distances: Float64[np.ndarray, "cell cell"]
) -> Companions:
    """Breadth and change of pairs of maps on a square grid.

    Args:
        first: maps of the first crop on the overlap.
        second: maps of the second crop, pair by pair.
        side: patches per side of the overlap.
        distances: ground distances between its patches, for the peaks.

    Example:
        >>> from infoscope.scope.geometry import patch_distances
        >>> first = SparseMaps.from_dense(np.array([[1.0, 1.0, 0.0, 0.0]]))
        >>> second = SparseMaps.from_dense(np.array([[0.0, 3.0, 0.0, 1.0]]))
        >>> shown = compare_maps(first, second, 2, patch_distances(2))
        >>> shown.participation.tolist(), shown.peak_displacement.tolist(), shown.support_iou.round(3).tolist()
        ([1.8], [1.0], [0.333])
    """
    shapes = np.stack([_shapes(first, side), _shapes(second, side)])
    empty = np.isnan(shapes[:, :, PEAK]).any(0)
    mean = np.where(empty[:, None], np.nan, shapes.mean(0))
    overlaps = np.empty((len(first), 2))
    pair_overlaps(first.start, first.patch, first.value, second.start, second.patch, second.value, overlaps)
    peaks = np.where(empty, 0, shapes[:, :, PEAK]).astype(np.int64)
    return Companions(
        entropy=mean[:, ENTROPY],
        participation=mean[:, PARTICIPATION],
        gyration=mean[:, GYRATION],
        moran=mean[:, MORAN],
        peak_displacement=np.where(empty, np.nan, distances[peaks[0], peaks[1]]),
        support_iou=overlaps[:, IOU],
        jensen_shannon=overlaps[:, DIVERGENCE],
    )


def _shapes(maps: SparseMaps, side: int) -> Float64[np.ndarray, "pair number"]:
    out = np.empty((len(maps), 5))
    map_shapes(maps.start, maps.patch, maps.value, side, out)
    return out
