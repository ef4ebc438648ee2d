"""The codes of some views' tokens, in whichever form costs least, and what the passes ask of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from infoscope.dictionaries.dense import encode_features, reconstruct, reduce_dense
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.dictionaries.sparse import (
    Reduction,
    SparseCodes,
    count_active,
    decode_sparse,
    encode_sparse,
    reduce_images,
)
from infoscope.measurement.maps import ImageMaps, gather_maps, maps_of_dense

# Features of one image whose maps are laid out densely at a time.
MAPS_AT_ONCE = 4096


@runtime_checkable
class ViewCodes(Protocol):
    """Codes of some views, each of the same number of patches."""

    def reduce(self, how: Reduction) -> tuple[Float32[np.ndarray, "view feature"], Int64[np.ndarray, " feature"]]:
        """Each view's score by feature, and how many tokens each feature is active on."""
        ...

    def reconstruct(self, tokens: slice) -> Float[Tensor, "token width"]:
        """Reconstructions of consecutive tokens."""
        ...

    def active(self, tokens: slice) -> Int64[np.ndarray, " feature"]:
        """How many of the tokens of consecutive whole views each feature is active on."""
        ...

    def gather(
        self,
        index: Int64[np.ndarray, " image"],
        image: Int64[np.ndarray, " pair"],
        feature: Int64[np.ndarray, " pair"],
        views: Sequence[tuple[int, int]] = ((0, 1),),
        per_image: int = 2,
    ) -> list[ImageMaps]:
        """The maps of (image, feature) pairs in some pairs of an image's views; see `gather_maps`."""
        ...


def encode_views(sae: SparseAutoencoder, tokens: Float[Tensor, "token width"], patches: int) -> ViewCodes:
    """Codes of whole views, one after the other.

    Sparse where an activation function leaves few on a CPU. Elsewhere nothing is kept but the tokens: they are encoded
    when a reduction or a map is asked for, and of a map's codes only the features asked for where the activation
    function allows it.

    Raises:
        InfoscopeError: the tokens have another width, or hold NaN or infinity.
    """
    if sae.activation.pointwise or tokens.device.type != "cpu":
        return DenseViews(sae, tokens, patches)
    return SparseViews(sae, tokens, encode_sparse(sae, tokens, patches), patches)


@dataclass(frozen=True)
class SparseViews:
    """Codes as a sparse list; see `ViewCodes`."""

    sae: SparseAutoencoder
    tokens: Tensor
    codes: SparseCodes
    patches: int

    def reduce(self, how: Reduction) -> tuple[Float32[np.ndarray, "view feature"], Int64[np.ndarray, " feature"]]:
        """From the list."""
        score = reduce_images(self.codes, self.patches, how, self.sae.features)
        return score, count_active(self.codes, self.sae.features)

    def reconstruct(self, tokens: slice) -> Float[Tensor, "token width"]:
        """From the list, where it says all."""
        if self.sae.activation.signed or self.sae.token_norm is not None:
            return reconstruct(self.sae, self.tokens[tokens], self.patches)
        return decode_sparse(self.sae, self.codes.rows(tokens))

    def active(self, tokens: slice) -> Int64[np.ndarray, " feature"]:
        """From the list."""
        return count_active(self.codes.rows(tokens), self.sae.features)

    def gather(
        self,
        index: Int64[np.ndarray, " image"],
        image: Int64[np.ndarray, " pair"],
        feature: Int64[np.ndarray, " pair"],
        views: Sequence[tuple[int, int]] = ((0, 1),),
        per_image: int = 2,
    ) -> list[ImageMaps]:
        """From the list."""
        asked = (index, image, feature, self.patches, self.sae.features)
        return [gather_maps(self.codes, *asked, both, per_image) for both in views]


@dataclass(frozen=True)
class DenseViews:
    """Tokens that are encoded when asked; see `ViewCodes`."""

    sae: SparseAutoencoder
    tokens: Tensor
    patches: int

    def reduce(self, how: Reduction) -> tuple[Float32[np.ndarray, "view feature"], Int64[np.ndarray, " feature"]]:
        """Chunk by chunk."""
        return reduce_dense(self.sae, self.tokens, self.patches, how)

    def reconstruct(self, tokens: slice) -> Float[Tensor, "token width"]:
        """Chunk by chunk."""
        return reconstruct(self.sae, self.tokens[tokens], self.patches)

    def active(self, tokens: slice) -> Int64[np.ndarray, " feature"]:
        """Chunk by chunk."""
        return reduce_dense(self.sae, self.tokens[tokens], self.patches, "max")[1]

    def gather(
        self,
        index: Int64[np.ndarray, " image"],
        image: Int64[np.ndarray, " pair"],
        feature: Int64[np.ndarray, " pair"],
        views: Sequence[tuple[int, int]] = ((0, 1),),
        per_image: int = 2,
    ) -> list[ImageMaps]:
        """Image by image, the features asked for and the views they are asked of."""
        parts = [[ImageMaps.empty(self.patches)] for _ in views]
        used = sorted({view for both in views for view in both})
        grouped = self.tokens.view(len(index), per_image, self.patches, -1)
        for place, number in enumerate(index):
            tokens = grouped[place, used].flatten(0, 1)
            asked = feature[slice(*np.searchsorted(image, [number, number + 1]))]
            # Where every feature is encoded anyway, once.
            step = MAPS_AT_ONCE if self.sae.activation.pointwise else max(1, len(asked))
            for first in range(0, len(asked), step):
                some = asked[first : first + step]
                codes = encode_features(self.sae, tokens, some).reshape(len(used), self.patches, -1)
                for part, both in zip(parts, views, strict=True):
                    pair = codes[[used.index(view) for view in both]].reshape(2 * self.patches, -1)
                    part.append(maps_of_dense(int(number), some, pair))
        return [ImageMaps.concatenate(part) for part in parts]
