"""The mean patch token of each image and its mean codes: all that removals at the site need, read in one pass.

At the site a removal by `keep-error` and zero takes from every patch token the decoded codes of some features. The mean
over patches of what is left is then the mean token less the decoded mean codes, so that no image is read again for any
set of features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt32
from scipy.sparse import csc_matrix, csr_matrix

from infoscope.analyses.removal.edited import EditedBackbone
from infoscope.dictionaries.parts import encode_parts
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.images.prefetch import all_unreadable, decode_readable
from infoscope.images.source import ImageSource
from infoscope.images.views import Views
from infoscope.options import Resize
from infoscope.runtime.execution import Execution
from infoscope.runtime.partials import Arrays, Partials, shards
from infoscope.runtime.progress import progress

# Our choice: a stopped pass loses at most half a minute on a slow machine.
SHARD_IMAGES = 128


@dataclass(frozen=True, eq=False)
class PooledImages:
    """The images of a split that could be read.

    Attributes:
        rows: their positions in the source.
        tokens: mean patch token of each, as the model gives it.
        codes: mean code of each feature over an image's patches, on the scale of the token that has it.
        decoder: row j is the direction of feature j.
        skipped: position and reason of each image that could not be read.
    """

    rows: Int64[np.ndarray, " image"]
    tokens: Float32[np.ndarray, "image width"]
    codes: csr_matrix
    decoder: Float32[np.ndarray, "feature width"]
    skipped: dict[int, str]

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def _by_feature(self) -> csc_matrix:
        """The codes by column: sets of features are asked for by the thousand, and so one is found at once."""
        return csc_matrix(self.codes)

    def removed(self, features: UInt32[np.ndarray, " _"]) -> Float32[np.ndarray, "image width"]:
        """What the removal of some features takes out of each image's mean patch token."""
        chosen = features.astype(np.int64)
        found: np.ndarray = np.asarray(self._by_feature[:, chosen] @ self.decoder[chosen], np.float32)
        return found

    def without(self, features: UInt32[np.ndarray, " _"]) -> Float32[np.ndarray, "image width"]:
        """Each image's mean patch token without some features."""
        left: np.ndarray = self.tokens - self.removed(features)
        return left

    @property
    def mean_square(self) -> float:
        """Mean squared distance of the mean patch tokens from their mean over images."""
        away = self.tokens.astype(np.float64) - self.tokens.mean(0, dtype=np.float64)
        return float((away**2).sum(1).mean())


def read_pooled(
    edited: EditedBackbone,
    images: ImageSource,
    resize: Resize,
    execution: Execution,
    partials: Partials,
    split: str,
) -> PooledImages:
    """Read the mean patch token and the mean codes of every image.

    Args:
        edited: the model at its block, and the dictionary.
        images: the images.
        resize: how an image becomes square.
        execution: how the pass runs; it changes memory and speed, not the result.
        partials: where finished stretches are kept.
        split: their name there.

    Raises:
        InfoscopeError: no image can be read.
    """
    backbone, sae = edited.backbone, edited.sae
    parts: list[Arrays] = []
    with progress(f"Reading mean patches, {split}", len(images), "images") as advance:
        for shard in shards(len(images), SHARD_IMAGES):
            name = f"pooled-{split}-{shard.start:08}"
            kept = name in partials

            def compute(shard: range = shard) -> Arrays:
                return _read_shard(edited, images, shard, resize, execution, advance)

            parts.append(partials.get_or_compute(name, compute))
            if kept:
                advance(len(shard))
    skipped = {
        int(at): str(why)
        for part in parts
        for at, why in zip(part["skipped"].tolist(), part["reasons"].tolist(), strict=True)
    }
    if len(skipped) == len(images):
        raise all_unreadable(images, next(iter(skipped.values())))
    joined = {
        key: np.concatenate([part[key] for part in parts]) for key in ("rows", "tokens", "count", "feature", "value")
    }
    start = np.concatenate([[0], np.cumsum(joined["count"])])
    codes = csr_matrix((joined["value"], joined["feature"], start), (len(joined["rows"]), sae.features))
    decoder = sae.W_dec.detach().cpu().numpy()
    tokens = joined["tokens"].reshape(-1, backbone.width)
    if not np.isfinite(tokens).all():
        raise InfoscopeError(f"mean patches of {images.name} hold NaN or infinity: run the model in float32")
    return PooledImages(joined["rows"], tokens, codes, decoder, skipped)


def _read_shard(
    edited: EditedBackbone,
    images: ImageSource,
    shard: range,
    resize: Resize,
    execution: Execution,
    advance: Callable[[int], None],
) -> Arrays:
    """Arrays of the readable images of a shard: the codes in compressed rows, ``count`` of them to an image."""
    backbone, sae = edited.backbone, edited.sae
    views = Views(backbone.patch_size, backbone.grid, 0, resize)
    batch_size = execution.batch_size or backbone.batch_size
    skipped: list[tuple[int, str]] = []
    rows: list[int] = []
    tokens = [np.zeros((0, backbone.width), np.float32)]
    counts, features, values = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
    for batch in decode_readable(images, shard, views.full, batch_size, execution.threads, skipped, advance):
        read = backbone.all_tokens(batch.pixels)[:, backbone.prefix_tokens :]
        tokens.append(read.mean(1).cpu().numpy().astype(np.float32))
        codes = mean_codes(sae, read)
        counts.append(np.diff(codes.indptr).astype(np.int64))
        features.append(codes.indices.astype(np.int32))
        values.append(codes.data.astype(np.float32))
        rows += batch.index
    return {
        "rows": np.array(rows, np.int64),
        "tokens": np.concatenate(tokens).ravel(),
        "count": np.concatenate(counts),
        "feature": np.concatenate(features),
        "value": np.concatenate(values),
        "skipped": np.array([at for at, _ in skipped], np.int64),
        "reasons": np.array([why for _, why in skipped], np.str_),
    }


@torch.no_grad()
def mean_codes(sae: SparseAutoencoder, tokens: Float32[torch.Tensor, "image patch width"]) -> csr_matrix:
    """Mean code of each feature over each image's patches, on the scale of the token that has it.

    Args:
        sae: the dictionary.
        tokens: the patch tokens of some images.

    Example:
        >>> from infoscope.dictionaries.activations import ReLU
        >>> sae = SparseAutoencoder(torch.eye(2), torch.zeros(2), torch.eye(2), torch.zeros(2), ReLU())
        >>> mean_codes(sae, torch.tensor([[[1.0, 2.0], [3.0, -4.0]]])).toarray().tolist()
        [[2.0, 1.0]]
    """
    images, patches, _ = tokens.shape
    flat = tokens.flatten(0, 1)
    codes = encode_parts(sae, flat, patches)
    start, feature, value = (part.cpu().numpy() for part in (codes.start, codes.feature, codes.value))
    entries = np.diff(start)
    if sae.token_norm is not None:
        _, scale = sae.token_norm.statistics(flat)
        value = value * np.repeat(scale[:, 0].cpu().numpy(), entries)
    image = np.repeat(np.arange(images * patches) // patches, entries)
    # In float64, so that the sums over patches do not depend on their order.
    total = csr_matrix((value.astype(np.float64), (image, feature)), (images, sae.features))
    total.sum_duplicates()
    return total / patches
