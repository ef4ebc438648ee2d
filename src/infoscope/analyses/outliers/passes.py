"""The two passes over images: norms at every block first, then the tokens that the norms single out.

Only when all norms are known is it known which tokens are outliers, so vectors, pixels and codes take a second pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64, UInt8
from PIL import Image
from torch import Tensor

from infoscope.backbones.backbone import Backbone
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.dictionaries.sparse import SparseCodes, encode_sparse
from infoscope.errors import InfoscopeError
from infoscope.images.prefetch import Batch, all_unreadable, decode_ahead, decode_readable
from infoscope.images.source import ImageSource
from infoscope.images.views import Views
from infoscope.runtime.execution import Execution
from infoscope.runtime.progress import progress


@dataclass(frozen=True)
class Norms:
    """Norms of the residual stream of a sample of images, before any final normalisation layer.

    All norms are kept as float32, 4 bytes times images x (blocks x patches + 2 patches), so that nothing computed from
    them depends on how the images were batched.

    Attributes:
        image: position of each image in its source, ascending.
        patches: ``[image, block, patch]``, the full view, row-major.
        prefix: ``[image, block, token]``: CLS and register tokens, in the model's order.
        crops: ``[image, 2, patch]``: the two shifted crops, at the backbone's block.
        skipped: position and reason of each image that could not be read.
    """

    image: Int64[np.ndarray, " image"]
    patches: Float32[np.ndarray, "image block patch"]
    prefix: Float32[np.ndarray, "image block token"]
    crops: Float32[np.ndarray, "image 2 patch"]
    skipped: list[tuple[int, str]]

    @property
    def tokens(self) -> int:
        """Number of patch tokens at a block."""
        return int(self.patches.shape[0] * self.patches.shape[2])

    def outliers(self, block: int, threshold: float) -> Bool[np.ndarray, "image patch"]:
        """Which tokens of each image are above a threshold."""
        return self.patches[:, block] > threshold


@torch.no_grad()
def read_norms(
    backbone: Backbone,
    images: ImageSource,
    views: Views,
    sample: list[int],
    execution: Execution,
) -> Norms:
    """The norms of a sample: one forward pass for the full view, read at every block, and one for both crops.

    Args:
        backbone: the model at the block whose norms are also read in both crops.
        images: the source.
        views: the geometry of full view and crops.
        sample: positions in the source, ascending.
        execution: how the pass runs.

    Raises:
        InfoscopeError: no image of the sample can be read, or the model gives tokens that are not finite.
    """
    cells, blocks, prefix = backbone.grid**2, range(backbone.blocks), backbone.prefix_tokens
    full = np.empty((len(sample), len(blocks), prefix + cells), np.float32)
    crops = np.empty((len(sample), 2, cells), np.float32)
    read: list[int] = []
    skipped: list[tuple[int, str]] = []
    # The two crops of an image are two views.
    at_once = max(1, (execution.batch_size or backbone.batch_size) // 2)

    def view(image: Image.Image) -> np.ndarray:
        return np.concatenate([views.full(image)[None], views.crops(image)])

    with progress("Reading norms", len(sample), "images") as advance:
        for batch in decode_readable(images, sample, view, at_once, execution.threads, skipped, advance):
            rows = slice(len(read), len(read) + len(batch.index))
            norms = backbone.read_blocks(batch.pixels[:, 0], blocks, _norms)
            full[rows] = torch.stack(norms, dim=1).cpu().numpy()
            both = np.ascontiguousarray(batch.pixels[:, 1:]).reshape(-1, *batch.pixels.shape[2:])
            (shifted,) = backbone.read_blocks(both, [backbone.block], _norms)
            crops[rows] = shifted[:, prefix:].reshape(-1, 2, cells).cpu().numpy()
            _check_finite(backbone, images, batch.index, full[rows], crops[rows])
            read += batch.index
    if not read:
        raise all_unreadable(images, skipped[0][1])
    full, crops = full[: len(read)], crops[: len(read)]
    return Norms(np.array(read, np.int64), full[:, :, prefix:], full[:, :, :prefix], crops, skipped)


def _norms(block: int, tokens: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(tokens, dim=-1)
    return norms


def _check_finite(
    backbone: Backbone, images: ImageSource, index: list[int], full: np.ndarray, crops: np.ndarray
) -> None:
    """Refuse NaN and infinity, which would otherwise look like the absence of outliers."""
    broken = ~(np.isfinite(full).all((1, 2)) & np.isfinite(crops).all((1, 2)))
    if broken.any():
        raise InfoscopeError(
            f"{backbone.name} gives tokens that are NaN or infinite on {images.ids[index[int(np.argmax(broken))]]}: "
            "choose another --precision, or fetch the model again"
        )


@dataclass(frozen=True)
class TokenIndex:
    """Which tokens of a sample of images.

    Attributes:
        row: the image that each token is from, by its position in the sample.
        patch: each token's patch, row-major.
    """

    row: Int64[np.ndarray, " token"]
    patch: Int64[np.ndarray, " token"]

    def __len__(self) -> int:
        return len(self.row)

    def take(self, index: Int64[np.ndarray, " taken"] | Bool[np.ndarray, " token"]) -> TokenIndex:
        """The tokens that ``index`` selects."""
        return TokenIndex(self.row[index], self.patch[index])

    @classmethod
    def none(cls) -> TokenIndex:
        """No tokens."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True)
class FeatureSums:
    """Each feature's codes, summed over outlier tokens and over normal ones.

    Codes are added in float64, one by one in the order of the tokens, so that the sums do not depend on batches.

    Attributes:
        outlier: sums over the outlier tokens, ``[feature]``.
        normal: sums over the other patch tokens, ``[feature]``.
    """

    outlier: Float64[np.ndarray, " feature"]
    normal: Float64[np.ndarray, " feature"]

    @classmethod
    def empty(cls, features: int) -> FeatureSums:
        """Sums over no tokens."""
        return cls(np.zeros(features), np.zeros(features))

    def update(self, codes: SparseCodes, outlier: Bool[np.ndarray, " token"]) -> None:
        """Add the codes of tokens.

        Args:
            codes: the codes.
            outlier: which of the tokens are outliers.

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
class TokenReadings:
    """What the second pass read.

    Attributes:
        vectors: the chosen tokens at the block, ``[token, width]``, by the name of the choice.
        pixels: the pixels of their patches, ``[token, n * n * 3]``, by the same names.
        first: the first token, before the patches, of the images asked for, ``[image, width]``; CLS where there is one.
        sums: sums of the codes of all tokens; None without an SAE.
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
    chosen: Mapping[str, TokenIndex],
    first: Int64[np.ndarray, " row"],
    execution: Execution,
) -> TokenReadings:
    """Read the chosen tokens, and with an SAE the codes of all tokens, at the backbone's block.

    Args:
        backbone: the model at its block.
        sae: the dictionary, if there is one; without one, only images with a chosen token are read.
        images: the source.
        views: the geometry; the full view is read.
        image: positions of the sample in the source.
        outlier: which tokens of the sample are outliers.
        chosen: tokens to read, by name.
        first: rows of the sample whose first token is read too, ascending.
        execution: how the pass runs.

    Raises:
        InfoscopeError: an image that was read before cannot be read now.
    """
    n, prefix = backbone.patch_size, backbone.prefix_tokens
    vectors = {name: np.empty((len(index), backbone.width), np.float32) for name, index in chosen.items()}
    pixels = {name: np.empty((len(index), n * n * 3), np.uint8) for name, index in chosen.items()}
    first_tokens = np.empty((len(first), backbone.width), np.float32)
    sums = None if sae is None else FeatureSums.empty(sae.features)
    needed = np.unique(np.concatenate([first, *(index.row for index in chosen.values())]))
    # The codes of all tokens are summed, so that with an SAE all images have to be read.
    rows = np.arange(len(image)) if sae is not None else needed

    def take(batch: Batch) -> None:
        tokens = backbone.all_tokens(batch.pixels)
        batch_rows = np.searchsorted(image, batch.index)
        if sae is not None and sums is not None:
            codes = encode_sparse(sae, tokens[:, prefix:].flatten(0, 1), backbone.grid**2)
            sums.update(codes, outlier[batch_rows].ravel())
        host = tokens.cpu().numpy()
        patches = _patches(batch.pixels, backbone.grid, n)
        for name, index in chosen.items():
            in_batch = np.flatnonzero(np.isin(index.row, batch_rows))
            row = np.searchsorted(batch_rows, index.row[in_batch])
            vectors[name][in_batch] = host[row, prefix + index.patch[in_batch]]
            pixels[name][in_batch] = patches[row, index.patch[in_batch]]
        in_batch = np.flatnonzero(np.isin(first, batch_rows))
        first_tokens[in_batch] = host[np.searchsorted(batch_rows, first[in_batch]), 0]

    with progress("Reading tokens", len(rows), "images") as advance:
        batch_size = execution.batch_size or backbone.batch_size
        for batch in decode_ahead(images, image[rows].tolist(), views.full, batch_size, execution.threads):
            if batch.unreadable:
                index, reason = batch.unreadable[0]
                raise InfoscopeError(
                    f"{images.ids[index]} was read in the first pass and cannot be read now ({reason}); restore it"
                )
            take(batch)
            advance(len(batch.index))
    return TokenReadings(vectors, pixels, first_tokens, sums)


def _patches(
    pixels: UInt8[np.ndarray, "image row column 3"], grid: int, side: int
) -> UInt8[np.ndarray, "image patch channel"]:
    """The pixels of each patch, row by row, colours last."""
    split = pixels.reshape(len(pixels), grid, side, grid, side, 3).transpose(0, 1, 3, 2, 4, 5)
    return split.reshape(len(pixels), grid * grid, side * side * 3)
