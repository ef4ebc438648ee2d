"""The codes of the tokens of a batch of views, in the form that costs least, and what the passes need from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from infoscope.dictionaries.dense import encode_features, reconstruct, reduce_dense
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.dictionaries.sparse import (
    SparseCodes,
    count_active,
    decode_sparse,
    encode_sparse,
    reduce_images,
)
from infoscope.measurement.maps import ImageMaps, gather_maps, maps_of_dense
from infoscope.options import Reduction

# Features of one image whose maps are dense at a time.
MAPS_AT_ONCE = 4096


def encode_views(sae: SparseAutoencoder, tokens: Float[Tensor, "token width"], patches: int) -> ViewCodes:
    """Codes of whole views, one after the other, in the form that costs least.

    On a CPU, and where the activation function leaves few codes, that is a sparse list. Otherwise only the tokens are
    kept, and encoded when a reduction or maps are asked for.

    Raises:
        InfoscopeError: the tokens have another width, or hold NaN or infinity.
    """
    if sae.activation.pointwise or tokens.device.type != "cpu":
        return ViewCodes(sae, tokens, patches)
    return SparseViewCodes(sae, tokens, patches, encode_sparse(sae, tokens, patches))


@dataclass(frozen=True)
class ViewCodes:
    """Codes of a batch of views, which are computed from the tokens whenever they are needed.

    Attributes:
        sae: the dictionary.
        tokens: tokens of all views, ``[token, width]``.
        patches: patches of each view.
    """

    sae: SparseAutoencoder
    tokens: Tensor
    patches: int

    def reduce(self, how: Reduction) -> tuple[Float32[np.ndarray, "view feature"], Int64[np.ndarray, " feature"]]:
        """Each view's score for each feature, and how many tokens each feature is active on."""
        return reduce_dense(self.sae, self.tokens, self.patches, how)

    def reconstruct(self, tokens: slice) -> Float[Tensor, "token width"]:
        """Reconstructions of consecutive tokens."""
        return reconstruct(self.sae, self.tokens[tokens], self.patches)

    def active(self, tokens: slice) -> Int64[np.ndarray, " feature"]:
        """How many tokens of consecutive whole views each feature is active on."""
        return reduce_dense(self.sae, self.tokens[tokens], self.patches, "max")[1]

    def gather(
        self,
        index: Int64[np.ndarray, " image"],
        image: Int64[np.ndarray, " pair"],
        feature: Int64[np.ndarray, " pair"],
        views: Sequence[tuple[int, int]] = ((0, 1),),
        per_image: int = 2,
    ) -> list[ImageMaps]:
        """The maps of (image, feature) pairs, for each pair of an image's views in ``views``; see `gather_maps`."""
        parts = [[ImageMaps.empty(self.patches)] for _ in views]
        used = sorted({view for both in views for view in both})
        by_image = self.tokens.view(len(index), per_image, self.patches, -1)
        for row, number in enumerate(index):
            tokens = by_image[row, used].flatten(0, 1)
            of_image = feature[slice(*np.searchsorted(image, [number, number + 1]))]
            # Only a pointwise activation function can encode some features alone; any other encodes all, so only once.
            step = MAPS_AT_ONCE if self.sae.activation.pointwise else max(1, len(of_image))
            for first in range(0, len(of_image), step):
                chunk = of_image[first : first + step]
                codes = encode_features(self.sae, tokens, chunk).reshape(len(used), self.patches, -1)
                for part, both in zip(parts, views, strict=True):
                    pair = codes[[used.index(view) for view in both]].reshape(2 * self.patches, -1)
                    part.append(maps_of_dense(int(number), chunk, pair))
        return [ImageMaps.concatenate(part) for part in parts]


@dataclass(frozen=True)
class SparseViewCodes(ViewCodes):
    """Codes of a batch of views as a sparse list; see `ViewCodes`."""

    codes: SparseCodes

    def reduce(self, how: Reduction) -> tuple[Float32[np.ndarray, "view feature"], Int64[np.ndarray, " feature"]]:
        """See `ViewCodes`."""
        score = reduce_images(self.codes, self.patches, how, self.sae.features)
        return score, count_active(self.codes, self.sae.features)

    def reconstruct(self, tokens: slice) -> Float[Tensor, "token width"]:
        """See `ViewCodes`."""
        # The list has only codes above 0, and undoing a token norm takes the tokens.
        if self.sae.activation.signed or self.sae.token_norm is not None:
            return super().reconstruct(tokens)
        return decode_sparse(self.sae, self.codes.rows(tokens))

    def active(self, tokens: slice) -> Int64[np.ndarray, " feature"]:
        """See `ViewCodes`."""
        return count_active(self.codes.rows(tokens), self.sae.features)

    def gather(
        self,
        index: Int64[np.ndarray, " image"],
        image: Int64[np.ndarray, " pair"],
        feature: Int64[np.ndarray, " pair"],
        views: Sequence[tuple[int, int]] = ((0, 1),),
        per_image: int = 2,
    ) -> list[ImageMaps]:
        """See `ViewCodes`."""
        pairs = (index, image, feature, self.patches, self.sae.features)
        return [gather_maps(self.codes, *pairs, both, per_image) for both in views]
