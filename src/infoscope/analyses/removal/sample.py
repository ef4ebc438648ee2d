"""A sample of tokens with their codes, on which removed energy is measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int32, Int64
from torch import Tensor

from infoscope.dictionaries.parts import Codes
from infoscope.dictionaries.sae import SparseAutoencoder

# Method, section 7.
SAMPLE_TOKENS = 10_000


@dataclass(frozen=True)
class TokenSample:
    """Tokens drawn from a sample of images, with their codes.

    Attributes:
        tokens: the tokens as the model gives them.
        start: row pointers of the codes, ``[token + 1]``, beginning with 0.
        feature: feature of each code, ascending within a token.
        value: each code.
        image_id: the id of each token's image.
        position: each token's position among the tokens of its image that the SAE reads.
    """

    tokens: Float32[np.ndarray, "token width"]
    start: Int64[np.ndarray, " token_plus_one"]
    feature: Int32[np.ndarray, " entry"]
    value: Float32[np.ndarray, " entry"]
    image_id: tuple[str, ...]
    position: Int64[np.ndarray, " token"]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def mean_square(self) -> float:
        """Mean squared distance of the tokens from their mean."""
        tokens = self.tokens.astype(np.float64)
        tokens -= tokens.mean(0)
        return float(np.einsum("tw,tw->", tokens, tokens)) / len(tokens)

    def scale(self, sae: SparseAutoencoder) -> Float64[np.ndarray, " token"]:
        """What each token's decoded codes are multiplied by; 1 where the SAE does not scale tokens by themselves."""
        if sae.token_norm is None:
            return np.ones(len(self))
        _, scale = sae.token_norm.statistics(torch.from_numpy(self.tokens).double())
        found: np.ndarray = scale[:, 0].numpy()
        return found


class SampleReader:
    """Collects a `TokenSample` from batches of images.

    Which tokens are drawn depends on each image's place in the sample alone, not on batches or on images that cannot be
    read. They are drawn at random within an image: at regular steps they would all lie on a few columns of the grid.

    Args:
        images: how many images are going to be read.
        tokens: how many tokens to draw from them altogether; all, if there are fewer.

    Example:
        >>> reader = SampleReader(images=2, tokens=3)
        >>> codes = Codes(torch.tensor([0, 1, 1, 3, 4]), torch.tensor([0, 0, 1, 1], dtype=torch.int32), torch.ones(4))
        >>> reader.add(torch.arange(8.0).reshape(2, 2, 2), codes, [0, 1], ["a", "b"])
        >>> sample = reader.sample()
        >>> len(sample), sample.image_id
        (3, ('a', 'b', 'b'))
    """

    def __init__(self, images: int, tokens: int = SAMPLE_TOKENS):
        self._images, self._wanted = images, tokens
        # The largest part of it is written where it stays: a list of parts would be there twice while it is joined.
        self._tokens: np.ndarray | None = None
        self._filled = 0
        self._counts: list[np.ndarray] = []
        self._features: list[np.ndarray] = []
        self._values: list[np.ndarray] = []
        self._ids: list[str] = []
        self._positions: list[np.ndarray] = []

    def add(
        self, tokens: Float32[Tensor, "image token width"], codes: Codes, places: list[int], ids: list[str]
    ) -> None:
        """Draw from some images.

        Args:
            tokens: their tokens.
            codes: the codes of all these tokens, image after image.
            places: each image's place in the sample of images.
            ids: each image's id.
        """
        start, feature, value = (part.cpu().numpy() for part in (codes.start, codes.feature, codes.value))
        per_image = tokens.shape[1]
        if self._tokens is None:
            most = min(self._wanted, self._images * per_image)
            self._tokens = np.empty((most, tokens.shape[2]), np.float32)
        for row, (place, image_id) in enumerate(zip(places, ids, strict=True)):
            drawn = self._drawn(place, per_image)
            rows = row * per_image + drawn
            first, last = start[rows], start[rows + 1]
            self._tokens[self._filled : self._filled + len(drawn)] = tokens[row].cpu().numpy()[drawn]
            self._filled += len(drawn)
            self._counts.append(last - first)
            entries = [np.arange(begin, end) for begin, end in zip(first, last, strict=True)]
            taken = np.concatenate(entries) if entries else np.zeros(0, np.int64)
            self._features.append(feature[taken])
            self._values.append(value[taken])
            self._ids += [image_id] * len(drawn)
            self._positions.append(drawn)

    def sample(self) -> TokenSample:
        """What was drawn, in the order in which it was added."""
        assert self._tokens is not None, "nothing was added"
        start = np.concatenate([[0], np.cumsum(np.concatenate(self._counts))])
        return TokenSample(
            self._tokens[: self._filled],
            start.astype(np.int64),
            np.concatenate(self._features).astype(np.int32),
            np.concatenate(self._values).astype(np.float32),
            tuple(self._ids),
            np.concatenate(self._positions),
        )

    def _drawn(self, place: int, per_image: int) -> Int64[np.ndarray, " token"]:
        """Which tokens of an image are drawn, ascending."""
        # Shares that add up to the number wanted exactly, however it divides among the images.
        count = (place + 1) * self._wanted // self._images - place * self._wanted // self._images
        drawn = np.random.default_rng([place, per_image]).permutation(per_image)[:count]
        return np.sort(drawn).astype(np.int64)
