"""Outlier and normal tokens: chosen, and passed over once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64, UInt8

from infoscope.backbones.backbone import Backbone
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.dictionaries.sparse import SparseCodes, encode_sparse
from infoscope.errors import InfoscopeError
from infoscope.images.prefetch import Batch, decode_ahead
from infoscope.images.source import ImageSource
from infoscope.images.views import Views
from infoscope.runtime.execution import Execution
from infoscope.runtime.progress import progress


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


@dataclass(frozen=True)
class FeatureSums:
    """Each feature's codes, summed over outlier tokens and over normal ones.

    Codes are added one by one in the order of the tokens, in float64, so that the sums do not depend on batches.

    Attributes:
        outlier: sum over the outlier tokens, ``[feature]``.
        normal: sum over the others.
    """

    outlier: Float64[np.ndarray, " feature"]
    normal: Float64[np.ndarray, " feature"]

    @classmethod
    def empty(cls, features: int) -> FeatureSums:
        """Of no tokens."""
        return cls(np.zeros(features), np.zeros(features))

    def update(self, codes: SparseCodes, outlier: Bool[np.ndarray, " token"]) -> None:
        """Take in some tokens' codes.

        Example:
            >>> sums = FeatureSums.empty(3)
            >>> codes = SparseCodes(np.array([0, 2, 3]), np.int32([0, 2, 0]), np.float32([1.0, 5.0, 2.0]))
            >>> sums.update(codes, np.array([True, False]))
            >>> sums.outlier.tolist(), sums.normal.tolist()
            ([1.0, 0.0, 5.0], [2.0, 0.0, 0.0])
        """
        of_outlier = np.repeat(outlier, np.diff(codes.start))
        for total, entries in ((self.outlier, of_outlier), (self.normal, ~of_outlier)):
            np.add.at(total, codes.feature[entries], codes.value[entries].astype(np.float64))


@dataclass(frozen=True)
class Tokens:
    """What the second pass found.

    Attributes:
        vectors: the chosen tokens at the block, by the name they were chosen under, ``[token, width]``.
        pixels: their patches' pixels, ``[token, n * n * 3]``, likewise.
        first: the token before the patches, ``[image, width]``, of the images asked for: CLS where there is one.
        sums: codes of all tokens; None without an SAE.
    """

    vectors: Mapping[str, Float32[np.ndarray, "_token width"]]
    pixels: Mapping[str, UInt8[np.ndarray, "_token _channel"]]
    first: Float32[np.ndarray, "image width"]
    sums: FeatureSums | None


@torch.no_grad()
def read_tokens(
    backbone: Backbone,
    sae: SparseAutoencoder | None,
    images: ImageSource,
    views: Views,
    image: Int64[np.ndarray, " image"],
    outlier: Bool[np.ndarray, "image patch"],
    chosen: Mapping[str, Chosen],
    first: Int64[np.ndarray, " row"],
    execution: Execution,
) -> Tokens:
    """Read the chosen tokens, and with an SAE the codes of all tokens, at the backbone's block.

    Args:
        backbone: the model at its block.
        sae: the dictionary, if there is one; without one only images with a chosen token are read.
        images: the source.
        views: the geometry; the full view is read.
        image: the sample's positions in the source.
        outlier: which of their tokens are outliers.
        chosen: tokens by name, as rows of ``image`` and patches.
        first: rows of ``image`` whose token before the patches is kept, ascending.
        execution: how the pass runs.

    Raises:
        InfoscopeError: an image that was read before cannot be read now.
    """
    n, prefix = backbone.patch_size, backbone.prefix_tokens
    vectors = {name: np.empty((len(those), backbone.width), np.float32) for name, those in chosen.items()}
    pixels = {name: np.empty((len(those), n * n * 3), np.uint8) for name, those in chosen.items()}
    before = np.empty((len(first), backbone.width), np.float32)
    sums = None if sae is None else FeatureSums.empty(sae.features)
    needed = np.unique(np.concatenate([first, *(those.row for those in chosen.values())]))
    rows = np.arange(len(image)) if sae is not None else needed

    def take(batch: Batch) -> None:
        tokens = backbone.all_tokens(batch.pixels)
        here = np.searchsorted(image, batch.index)
        if sae is not None and sums is not None:
            codes = encode_sparse(sae, tokens[:, prefix:].flatten(0, 1), backbone.grid**2)
            sums.update(codes, outlier[here].ravel())
        host = tokens.cpu().numpy()
        patches = _patches(batch.pixels, backbone.grid, n)
        for name, those in chosen.items():
            wanted = np.flatnonzero(np.isin(those.row, here))
            place = np.searchsorted(here, those.row[wanted])
            vectors[name][wanted] = host[place, prefix + those.patch[wanted]]
            pixels[name][wanted] = patches[place, those.patch[wanted]]
        wanted = np.flatnonzero(np.isin(first, here))
        before[wanted] = host[np.searchsorted(here, first[wanted]), 0]

    with progress("Reading tokens", len(rows), "images") as advance:
        count = execution.batch_size or backbone.batch_size
        for batch in decode_ahead(images, image[rows].tolist(), views.full, count, execution.threads):
            if batch.unreadable:
                index, reason = batch.unreadable[0]
                raise InfoscopeError(
                    f"{images.ids[index]} was read in the first pass and cannot be read now ({reason}); restore it"
                )
            take(batch)
            advance(len(batch.index))
    return Tokens(vectors, pixels, before, sums)


def _patches(
    pixels: UInt8[np.ndarray, "image row column 3"], grid: int, side: int
) -> UInt8[np.ndarray, "image patch channel"]:
    """Each patch's pixels, row by row with the colours last."""
    split = pixels.reshape(len(pixels), grid, side, grid, side, 3).transpose(0, 1, 3, 2, 4, 5)
    return split.reshape(len(pixels), grid * grid, side * side * 3)
