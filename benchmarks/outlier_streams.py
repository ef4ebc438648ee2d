"""Tokens of which a few are much longer than the rest, edited and weighted, and SAEs that are trained on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import infoscope
from infoscope.dictionaries.activations import Activation, JumpReLU, TopK
from infoscope.images.labels import folder_labels
from infoscope.images.source import spread_evenly
from infoscope.images.views import Views
from infoscope.training.config import TrainConfig
from infoscope.training.loop import train_on_tokens

LONG = 3.0
"""A token this many times as long as the median one is an outlier, as in `infoscope outliers`."""
BATCH = 16
"""Photographs read at a time."""


@dataclass(frozen=True)
class Variation:
    """What differs from the baseline."""

    options: dict[str, Any] = field(default_factory=dict)
    """Of the training."""
    share: float = 0.0
    """Outlier tokens are repeated until they are this share of all."""
    edit: Literal["", "length", "direction"] = ""
    """length: all tokens have length 1; direction: they have no part along what tells outliers from normal tokens, and
    the SAE is given that as one more feature."""
    photographs: int = 1
    """Times as many."""
    tokens: int = 1
    """Times as many."""


@dataclass(frozen=True)
class Tokens:
    """Patch tokens of photographs.

    Attributes:
        batches: a few photographs' each, ``[token, width]``.
        labels: the folder of each photograph.
        limit: tokens longer than this are outliers.
    """

    batches: list[Tensor]
    labels: list[str]
    limit: float

    @classmethod
    def read(cls, backbone: infoscope.Backbone, images: str, count: int, limit: float | None = None) -> Tokens:
        """Tokens of full views in a random order; the limit is taken from them where none is given."""
        source = infoscope.open_images(images)
        order = np.random.default_rng(0).permutation(sorted(spread_evenly(len(source), count))).tolist()
        full, folders = Views(backbone.patch_size, backbone.grid, shift=0).full, folder_labels(source)
        batches = [
            backbone.tokens(np.stack([full(source[i]) for i in order[first : first + BATCH]])).flatten(0, 1).cpu()
            for first in range(0, len(order), BATCH)
        ]
        lengths = torch.cat([batch.norm(dim=1) for batch in batches])
        return cls(batches, [folders[i] for i in order], limit or LONG * float(lengths.median()))

    def long(self, tokens: Tensor) -> Tensor:
        """Which tokens are outliers."""
        long: Tensor = tokens.norm(dim=1) > self.limit
        return long

    def of_kind(self, outliers: bool) -> Tensor:
        """All outlier tokens, or all others."""
        return torch.cat([batch[self.long(batch) == outliers] for batch in self.batches])

    def folders(self) -> np.ndarray:
        """Of each outlier token, its photograph's folder."""
        long = torch.cat([self.long(batch) for batch in self.batches])
        folders: np.ndarray = np.repeat(self.labels, len(long) // len(self.labels))[long.numpy()]
        return folders


@dataclass(frozen=True)
class Stream:
    """Tokens to train on, the same in each pass: edited, and outliers repeated.

    Attributes:
        tokens: as they are.
        variation: what is done to them.
        repeats: how often each outlier token comes.
        mean: of normal tokens.
        along: from there to the mean outlier token, of length 1.
    """

    tokens: Tokens
    variation: Variation
    repeats: int
    mean: Tensor
    along: Tensor

    @classmethod
    def of(cls, tokens: Tokens, variation: Variation) -> Stream:
        """The stream, with its mean and direction taken from all the tokens."""
        normal, outliers = tokens.of_kind(False), tokens.of_kind(True)
        repeats = round(len(normal) / len(outliers) * variation.share / (1 - variation.share)) if variation.share else 1
        mean = normal.mean(0)
        return cls(tokens, variation, repeats, mean, functional.normalize(outliers.mean(0) - mean, dim=0))

    def __iter__(self) -> Iterator[Tensor]:
        for batch in self.tokens.batches:
            times = 1 + (self.repeats - 1) * self.tokens.long(batch).long()
            edited = batch
            if self.variation.edit == "direction":
                edited = batch - ((batch - self.mean) @ self.along)[:, None] * self.along
            yield self.scaled(edited)[0].repeat_interleave(times, 0)

    def scaled(self, tokens: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Tokens of one length, where the variation says so, and what brings reconstructions back."""
        if self.variation.edit != "length":
            return tokens, lambda made: made
        lengths = tokens.norm(dim=1, keepdim=True)
        return tokens / lengths, lambda made: made * lengths


def train(stream: Stream, config: TrainConfig) -> infoscope.SparseAutoencoder:
    """An SAE on the model's own tokens; one trained without the outliers' direction gets that as its last feature."""
    sae = train_on_tokens(stream, config).sae
    if stream.variation.edit != "direction":
        return sae
    along, level = stream.along, stream.mean @ stream.along
    without = torch.eye(len(along)) - along[:, None] * along
    activation: Activation = TopK(config.k + 1)
    if isinstance(sae.activation, JumpReLU):
        activation = JumpReLU(torch.cat([sae.activation.threshold, sae.activation.threshold[:1]]))
    return infoscope.SparseAutoencoder(
        torch.cat([without @ sae.W_enc, along[:, None]], dim=1),
        torch.cat([sae.b_enc + level * (along @ sae.W_enc), -level[None]]),
        torch.cat([sae.W_dec @ without, along[None]]),
        sae.b_dec @ without + level * along,
        activation,
    )
