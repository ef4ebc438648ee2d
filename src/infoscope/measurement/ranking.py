"""Each feature's strongest images: a running top k that merges in any order to the same answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from infoscope.measurement.maps import ImageMaps
from infoscope.measurement.ranking_kernel import insert


@dataclass(frozen=True)
class Ranking:
    """The k strongest images of each feature among those seen, and what was seen.

    The order is total, score first and lower image index second, so neither the order of arrival nor the way images
    were split between rankings can change the result. An image with score 0 is never in it.

    Attributes:
        score: ``[feature, rank]``, descending; 0 where there is no image.
        image: ``[feature, rank]``, index of the image; -1 where there is none.
        images_active: ``[feature]``, images with a score above 0.
        tokens_active: ``[feature]``, patch tokens with a code above 0.
        seen: ``[images, patch tokens]``, how many were seen.

    Example:
        >>> ranking = Ranking.empty(features=1, top_images=2)
        >>> ranking.update(np.array([7, 3, 5]), np.float32([[1.0], [1.0], [2.0]]), np.array([4]), tokens=12)
        >>> ranking.image.tolist(), ranking.score.tolist()
        ([[5, 3]], [[2.0, 1.0]])
    """

    score: Float32[np.ndarray, "feature rank"]
    image: Int64[np.ndarray, "feature rank"]
    images_active: Int64[np.ndarray, " feature"]
    tokens_active: Int64[np.ndarray, " feature"]
    seen: Int64[np.ndarray, " 2"]

    @classmethod
    def empty(cls, features: int, top_images: int) -> Ranking:
        """A ranking of no images."""
        return cls(
            score=np.zeros((features, top_images), np.float32),
            image=np.full((features, top_images), -1, np.int64),
            images_active=np.zeros(features, np.int64),
            tokens_active=np.zeros(features, np.int64),
            seen=np.zeros(2, np.int64),
        )

    def update(
        self,
        index: Int64[np.ndarray, " image"],
        score: Float32[np.ndarray, "image feature"],
        tokens_active: Int64[np.ndarray, " feature"],
        tokens: int,
    ) -> None:
        """Take in some images.

        Args:
            index: the images' positions in the source; none may have been seen before.
            score: each image's score by feature.
            tokens_active: how many of these images' patch tokens each feature is active on.
            tokens: how many patch tokens these images have.
        """
        insert(self.score, self.image, score, np.broadcast_to(index[:, None], score.shape))
        self.images_active[:] += (score > 0).sum(0)
        self.tokens_active[:] += tokens_active
        self.seen[:] += (len(index), tokens)

    def merge(self, other: Ranking) -> None:
        """Take in all that another ranking has seen; the two must have seen different images."""
        insert(self.score, self.image, other.score.T, other.image.T)
        self.images_active[:] += other.images_active
        self.tokens_active[:] += other.tokens_active
        self.seen[:] += other.seen

    def chosen(
        self, first: int = 0, last: int = np.iinfo(np.int64).max
    ) -> tuple[Int64[np.ndarray, " pair"], Int64[np.ndarray, " pair"]]:
        """The (image, feature) pairs of the ranking with images ``first`` to ``last``, by image, then feature."""
        feature, rank = np.nonzero((self.image >= first) & (self.image <= last))
        image = self.image[feature, rank]
        order = np.lexsort((feature, image))
        return image[order], feature[order].astype(np.int64)

    def keep(self, maps: ImageMaps) -> ImageMaps:
        """Of some maps, those whose image is among its feature's strongest."""
        return maps.take(np.nonzero((self.image[maps.feature] == maps.image[:, None]).any(1))[0])
