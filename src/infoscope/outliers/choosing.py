"""Which tokens the probes look at: outlier tokens, and as many normal ones that differ from them in nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64


@dataclass(frozen=True)
class Chosen:
    """Some tokens.

    Attributes:
        row: which image of the sample each is of.
        patch: its patch, row-major.
    """

    row: Int64[np.ndarray, " token"]
    patch: Int64[np.ndarray, " token"]

    def __len__(self) -> int:
        return len(self.row)

    def take(self, index: Int64[np.ndarray, " taken"] | Bool[np.ndarray, " token"]) -> Chosen:
        """Some of them."""
        return Chosen(self.row[index], self.patch[index])

    @classmethod
    def none(cls) -> Chosen:
        """No token."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True)
class Pairs:
    """Outlier tokens and as many normal ones, one for one."""

    outlier: Chosen
    normal: Chosen


def pair_within_images(
    outlier: Bool[np.ndarray, "image patch"], most: int, random: np.random.Generator, *, one_per_image: bool = False
) -> Pairs:
    """Each outlier token with a normal token of the same image, so that both kinds have the same pictures and labels.

    Args:
        outlier: which tokens of each image are outliers.
        most: at most so many pairs, drawn evenly from all there are.
        random: what draws them.
        one_per_image: one outlier token of each image.

    Example:
        >>> outlier = np.array([[True, False, False], [False, False, False], [False, True, False]])
        >>> pairs = pair_within_images(outlier, 10, np.random.default_rng(0))
        >>> pairs.outlier.row.tolist(), pairs.outlier.patch.tolist()
        ([0, 2], [0, 1])
        >>> pairs.normal.row.tolist(), bool(outlier[pairs.normal.row, pairs.normal.patch].any())
        ([0, 2], False)
    """
    rows, outliers, normals = [], [], []
    for row in np.flatnonzero(outlier.any(1)).tolist():
        these, others = np.flatnonzero(outlier[row]), np.flatnonzero(~outlier[row])
        count = min(len(these), len(others), 1 if one_per_image else len(these))
        # All of an image's in order, some of them at random.
        outliers.append(these[:count] if count == len(these) else np.sort(random.permutation(these)[:count]))
        normals.append(random.permutation(others)[:count])
        rows.append(np.full(count, row))
    if not rows:
        return Pairs(Chosen.none(), Chosen.none())
    all_rows = np.concatenate(rows)
    kept = _some(len(all_rows), most, random)
    return Pairs(
        Chosen(all_rows, np.concatenate(outliers)).take(kept),
        Chosen(all_rows, np.concatenate(normals)).take(kept),
    )


def pair_within_patches(outlier: Bool[np.ndarray, "image patch"], most: int, random: np.random.Generator) -> Pairs:
    """Each outlier token with a normal token at the same patch of another image, so that both sit alike on the grid.

    Outlier tokens without one are left out: on a patch that is always an outlier nothing can be compared.

    Args:
        outlier: which tokens of each image are outliers.
        most: at most so many pairs, drawn evenly from all there are.
        random: what draws them.

    Example:
        >>> outlier = np.array([[True, False, True], [False, True, True]])
        >>> pairs = pair_within_patches(outlier, 10, np.random.default_rng(0))
        >>> pairs.outlier.patch.tolist(), pairs.outlier.row.tolist(), pairs.normal.row.tolist()
        ([0, 1], [0, 1], [1, 0])
    """
    patches, outliers, normals = [], [], []
    for patch in np.flatnonzero(outlier.any(0)).tolist():
        these, others = np.flatnonzero(outlier[:, patch]), np.flatnonzero(~outlier[:, patch])
        count = min(len(these), len(others))
        outliers.append(these if count == len(these) else np.sort(random.permutation(these)[:count]))
        normals.append(random.permutation(others)[:count])
        patches.append(np.full(count, patch))
    if not patches:
        return Pairs(Chosen.none(), Chosen.none())
    all_patches = np.concatenate(patches)
    kept = _some(len(all_patches), most, random)
    return Pairs(
        Chosen(np.concatenate(outliers), all_patches).take(kept),
        Chosen(np.concatenate(normals), all_patches).take(kept),
    )


def _some(count: int, most: int, random: np.random.Generator) -> Int64[np.ndarray, " kept"]:
    """All, or ``most`` of them drawn without replacement, ascending."""
    return np.arange(count) if count <= most else np.sort(random.permutation(count)[:most])
