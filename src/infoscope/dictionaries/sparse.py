"""Sparse codes: tokens encoded into lists without zeros, which are then reduced over images or decoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32, Int64
from torch import Tensor
from torch.nn import functional

from infoscope.dictionaries.activations import Activation, TopK
from infoscope.dictionaries.codes_kernel import entries_above, image_maximum, image_sum
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.dictionaries.topk_kernel import select_topk
from infoscope.errors import InfoscopeError
from infoscope.options import Reduction

# Pre-activations in memory at once: on a CPU what its cache holds, on a GPU a small part of its memory.
CPU_BYTES = 8 * 2**20
DEVICE_BYTES = 256 * 2**20
# About how many tokens a product has on a CPU; measured, with fewer it is slower (with 64: by half).
CPU_TOKENS = 512
# Blocks have multiples of this many features, so that they fill vector registers.
STEP = 64

Blocks = Iterator[tuple[int, Float[Tensor, "token feature"]]]


def checked_tokens(sae: SparseAutoencoder, tokens: Float[Tensor, "token width"]) -> Float[Tensor, "token width"]:
    """The tokens in float32 on the SAE's device, as its encoder takes them: after its ``token_norm``, if it has one.

    Raises:
        InfoscopeError: their width differs from the SAE's, or they hold NaN or infinity.
    """
    if tokens.shape[1] != sae.width:
        raise InfoscopeError(
            f"SAE {sae.name} takes tokens of width {sae.width}, not {tokens.shape[1]}: "
            "give the SAE trained on this model"
        )
    if not torch.isfinite(tokens).all():
        raise InfoscopeError(
            "the model's tokens hold NaN or infinity; check the checkpoint, or run the model in float32"
        )
    tokens = tokens.to(sae.W_enc.device, torch.float32)
    return tokens if sae.token_norm is None else sae.token_norm.apply(tokens)


def pre_activation_chunks(
    sae: SparseAutoencoder, tokens: Float[Tensor, "token width"], multiple: int = 1
) -> Iterator[tuple[int, int, Blocks]]:
    """Pre-activations, some tokens and some features at a time.

    On a CPU every chunk has the same number of tokens, the last one padded with zeros: matrix products with few rows
    are summed in another order, and a code must not depend on the other tokens in its chunk.

    Args:
        sae: the dictionary.
        tokens: as `checked_tokens` gives them.
        multiple: chunks are multiples of this many tokens, such as an image's, so that little is padded.

    Yields:
        The chunk's first token, how many tokens it has, and blocks: their first feature and their pre-activations
        ``[token, feature]``, which the next block overwrites. All blocks of a chunk must be used before the next chunk
        is asked for.

    Example:
        >>> from infoscope.dictionaries.activations import ReLU
        >>> sae = SparseAutoencoder(torch.eye(3, 4), torch.ones(4), torch.eye(4, 3), torch.zeros(3), ReLU())
        >>> chunks = pre_activation_chunks(sae, torch.zeros(1, 3))
        >>> [(first, count, [(j, pre.tolist()) for j, pre in blocks]) for first, count, blocks in chunks]
        [(0, 1, [(0, [[1.0, 1.0, 1.0, 1.0]])])]
    """
    if tokens.device.type != "cpu":
        for first, pre in device_chunks(sae, tokens, multiple):
            yield first, len(pre), iter([(0, pre)])
        return
    size = max(1, round(CPU_TOKENS / multiple)) * multiple
    columns = min(sae.features, max(CPU_BYTES // (4 * size) // STEP, 1) * STEP)
    memory = torch.empty(size * columns)
    for first in range(0, len(tokens), size):
        chunk = tokens[first : first + size]
        count = len(chunk)
        if count < size:
            chunk = torch.cat([chunk, chunk.new_zeros(size - count, sae.width)])
        yield first, count, _blocks(sae, chunk, count, columns, memory)


def _blocks(sae: SparseAutoencoder, tokens: Tensor, count: int, columns: int, memory: Tensor) -> Blocks:
    for first in range(0, sae.features, columns):
        block = slice(first, min(first + columns, sae.features))
        pre = memory[: len(tokens) * (block.stop - first)].view(len(tokens), -1)
        torch.mm(tokens, sae.W_enc[:, block], out=pre)
        pre += sae.b_enc[block]
        yield first, pre[:count]


def device_chunks(sae: SparseAutoencoder, tokens: Float[Tensor, "token width"], multiple: int = 1) -> Blocks:
    """First token and pre-activations of all features, in large chunks for a GPU, of a multiple of tokens each."""
    size = max(multiple, DEVICE_BYTES // (4 * sae.features) // multiple * multiple)
    for first in range(0, len(tokens), size):
        yield first, sae.pre_activations(tokens[first : first + size])


def all_features(blocks: Blocks) -> Float[Tensor, "token feature"]:
    """All pre-activations of a chunk's tokens side by side, for codes that depend on those of other features.

    Example:
        >>> blocks = iter([(0, torch.ones(2, 2)), (2, torch.zeros(2, 1))])
        >>> all_features(blocks).tolist()
        [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]
    """
    # Copied, because the next block overwrites this one.
    return torch.cat([pre.clone() for _, pre in blocks], dim=1)


# How many codes each token has, then their features and values: token by token, features ascending within a token.
Entries = tuple[Int64[np.ndarray, " token"], Int32[np.ndarray, " entry"], Float32[np.ndarray, " entry"]]


@dataclass(frozen=True)
class SparseCodes:
    """Codes above 0 in compressed rows: token t holds entries ``start[t]:start[t + 1]``.

    Attributes:
        start: row pointers, ``[token + 1]``, beginning with 0.
        feature: feature of each entry, ascending within a token.
        value: code of each entry, greater than 0.

    Example:
        >>> codes = SparseCodes(np.array([0, 2, 3]), np.int32([1, 3, 0]), np.float32([0.5, 2.0, 1.0]))
        >>> len(codes), codes.dense(4).tolist()
        (2, [[0.0, 0.5, 0.0, 2.0], [1.0, 0.0, 0.0, 0.0]])
    """

    start: Int64[np.ndarray, " token_plus_one"]
    feature: Int32[np.ndarray, " entry"]
    value: Float32[np.ndarray, " entry"]

    def __len__(self) -> int:
        return len(self.start) - 1

    def rows(self, tokens: slice) -> SparseCodes:
        """The codes of consecutive tokens; entries are shared, not copied."""
        first, last, step = tokens.indices(len(self))
        if step != 1:
            raise ValueError(f"rows must be consecutive, not in steps of {step}")
        start = self.start[first : max(first, last) + 1]
        entries = slice(int(start[0]), int(start[-1]))
        return SparseCodes(start - start[0], self.feature[entries], self.value[entries])

    def dense(self, features: int) -> Float32[np.ndarray, "token feature"]:
        """The codes as a dense array; only for a few tokens at a time."""
        codes = np.zeros((len(self), features), np.float32)
        codes[np.repeat(np.arange(len(self)), np.diff(self.start)), self.feature] = self.value
        return codes


@torch.no_grad()
def encode_sparse(sae: SparseAutoencoder, tokens: Float[Tensor, "token width"], multiple: int = 1) -> SparseCodes:
    """Codes above 0 of many tokens, sparse and in main memory.

    Pre-activations are computed a chunk at a time (`pre_activation_chunks`), so memory stays bounded.

    Args:
        sae: the dictionary; tokens are moved to its device.
        tokens: ``[token, width]``.
        multiple: tokens are encoded in multiples of this many, such as an image's.

    Raises:
        InfoscopeError: the tokens have another width, or hold NaN or infinity.

    Example:
        >>> from infoscope.dictionaries.activations import TopK
        >>> sae = SparseAutoencoder(torch.eye(3, 4), torch.zeros(4), torch.eye(4, 3), torch.zeros(3), TopK(1))
        >>> encode_sparse(sae, torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.0, 3.0]])).feature
        array([1, 2], dtype=int32)
    """
    chunks = pre_activation_chunks(sae, checked_tokens(sae, tokens), multiple)
    return SparseCodes(*join_entries(_positives(sae, blocks) for _, _, blocks in chunks))


def join_entries(chunks: Iterable[Entries]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The codes of consecutive chunks of tokens in compressed rows: row pointers, features and values.

    Example:
        >>> start, feature, value = join_entries([(np.array([1]), np.int32([4]), np.float32([0.5]))] * 2)
        >>> start.tolist(), feature.tolist(), value.tolist()
        ([0, 1, 2], [4, 4], [0.5, 0.5])
    """
    counts, features, values = [np.zeros(1, np.int64)], [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
    for count, feature, value in chunks:
        counts.append(count)
        features.append(feature)
        values.append(value)
    return np.concatenate(counts).cumsum(), np.concatenate(features), np.concatenate(values)


@torch.no_grad()
def decode_sparse(sae: SparseAutoencoder, codes: SparseCodes) -> Float[Tensor, "token width"]:
    """Reconstructions of tokens from their sparse codes, on the SAE's device.

    Codes above 0 are not enough where codes below 0 count too, or where each token has a scale of its own; use
    `infoscope.dictionaries.dense.reconstruct` there.

    Raises:
        ValueError: it is such an SAE.
    """
    if sae.activation.signed or sae.token_norm is not None:
        raise ValueError("codes above 0 do not determine the reconstruction")
    device = sae.W_dec.device
    total = functional.embedding_bag(
        torch.from_numpy(codes.feature).to(device, torch.int64),
        sae.W_dec,
        torch.from_numpy(codes.start[:-1]).to(device),
        mode="sum",
        per_sample_weights=torch.from_numpy(codes.value).to(device),
    )
    return total + sae.b_dec


def count_active(codes: SparseCodes, features: int) -> Int64[np.ndarray, " feature"]:
    """How many tokens each feature is active on.

    Example:
        >>> count_active(SparseCodes(np.array([0, 2, 3]), np.int32([1, 3, 1]), np.float32([0.5, 2.0, 1.0])), 4)
        array([0, 2, 0, 1])
    """
    return np.bincount(codes.feature, minlength=features).astype(np.int64)


def reduce_images(
    codes: SparseCodes, patches: int, how: Reduction, features: int
) -> Float32[np.ndarray, "image feature"]:
    """Each image's score by feature: the reduction of its tokens' codes (method, section 3).

    Args:
        codes: codes of whole images, one after the other.
        patches: tokens to an image.
        how: ``max``, ``mean`` or ``sum`` over an image's tokens; sums are float64.
        features: features of the dictionary.

    Example:
        >>> codes = SparseCodes(np.array([0, 2, 3]), np.int32([1, 3, 1]), np.float32([0.5, 2.0, 1.0]))
        >>> reduce_images(codes, 2, "max", 4).tolist(), reduce_images(codes, 2, "mean", 4).tolist()
        ([[0.0, 1.0, 0.0, 2.0]], [[0.0, 0.75, 0.0, 1.0]])
    """
    if len(codes) % patches:
        raise ValueError(f"{len(codes)} tokens are not whole images of {patches} patches")
    reduced = np.zeros((len(codes) // patches, features), np.float32)
    if how == "max":
        image_maximum(codes.start, codes.feature, codes.value, patches, reduced)
    else:
        divisor = float(patches) if how == "mean" else 1.0
        image_sum(codes.start, codes.feature, codes.value, patches, divisor, reduced)
    return reduced


def _positives(sae: SparseAutoencoder, blocks: Blocks) -> Entries:
    """The codes above 0 of a chunk."""
    if sae.W_enc.device.type == "cpu":
        # Not a subclass, whose codes may differ from TopK's.
        if type(sae.activation) is TopK:
            return _largest(min(sae.activation.k, sae.features), blocks)
        if sae.activation.pointwise:
            return _positives_of_blocks(sae.activation, blocks)
        count, feature, value = entries_above(sae.activation(all_features(blocks)).contiguous().numpy())
        return count, feature.astype(np.int32, copy=False), value
    ((_, pre),) = blocks
    return _positives_on_device(sae, pre)


def _largest(k: int, blocks: Blocks) -> Entries:
    kept = None
    for first, pre in blocks:
        kept = select_topk(pre.numpy(), k, first, kept)
    assert kept is not None  # every dictionary has features
    feature, value, count = kept
    filled = np.arange(k) < count[:, None]
    return count, feature[filled], value[filled]


def _positives_of_blocks(activation: Activation, blocks: Blocks) -> Entries:
    parts = []
    for first, pre in blocks:
        codes = activation.at(torch.arange(first, first + pre.shape[1]))(pre)
        parts.append((first, *entries_above(codes.numpy())))
    count = np.sum([part[1] for part in parts], axis=0)
    token = np.concatenate([np.repeat(np.arange(len(count)), part[1]) for part in parts])
    # Blocks come one after the other; a stable sort by token keeps features ascending within each.
    order = np.argsort(token, kind="stable")
    feature = np.concatenate([first + feature for first, _, feature, _ in parts])
    return count, feature[order].astype(np.int32), np.concatenate([part[3] for part in parts])[order]


def _positives_on_device(sae: SparseAutoencoder, pre: Tensor) -> Entries:
    codes = sae.activation(pre)
    active = codes > 0
    feature = active.nonzero()[:, 1].to(torch.int32)
    return active.sum(1).cpu().numpy(), feature.cpu().numpy(), codes[active].cpu().numpy()
