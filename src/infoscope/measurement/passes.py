"""The passes over images, each a pure function of a shard of them."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Int64

from infoscope.backbones.backbone import Backbone
from infoscope.backbones.precision import set_multiplication
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.execution.partials import Arrays
from infoscope.execution.trailing import trailing
from infoscope.images.decode import UnreadableImageError
from infoscope.images.prefetch import MOST_DECODE_THREADS, Batch, decode_ahead
from infoscope.images.source import ImageSource
from infoscope.images.views import Views
from infoscope.measurement.codes import ViewCodes, encode_views
from infoscope.measurement.config import MeasureConfig
from infoscope.measurement.fit_sums import FitSums
from infoscope.measurement.maps import ImageMaps
from infoscope.measurement.ranking import Ranking
from infoscope.progress import Advance

# Our choice: enough to notice a folder that is not there, and nothing beside the loading of a model.
WITNESSES = 4


@dataclass(frozen=True)
class Ranked:
    """What the ranking pass learnt of some images; merges in any order.

    Attributes:
        ranking: each feature's strongest images among them.
        fit: sums behind the fit check, over the sampled images among them.
        skipped: position and reason of each image that could not be read, ascending.
        maps: with ``rank_view="crops"`` the maps of a shard's strongest images, by feature, then image; else None.
    """

    ranking: Ranking
    fit: FitSums
    skipped: list[tuple[int, str]]
    maps: ImageMaps | None = None

    def merge(self, other: Ranked) -> Ranked:
        """This and what another pass learnt of other images, without maps; neither may be used afterwards."""
        self.ranking.merge(other.ranking)
        self.fit.merge(other.fit)
        return Ranked(self.ranking, self.fit, sorted(self.skipped + other.skipped))

    def arrays(self) -> Arrays:
        """As named arrays, for a shard's file."""
        kept = {
            "score": self.ranking.score,
            "best": self.ranking.image,
            "images_active": self.ranking.images_active,
            "tokens_active": self.ranking.tokens_active,
            "seen": self.ranking.seen,
            "skipped": np.array([index for index, _ in self.skipped], np.int64),
            "reasons": np.array([reason for _, reason in self.skipped], np.str_),
            **{f"fit_{name}": value for name, value in self.fit.arrays().items()},
        }
        return kept | (self.maps.arrays() if self.maps else {})

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Ranked:
        """What `arrays` gave."""
        return cls(
            Ranking(*(arrays[key] for key in ("score", "best", "images_active", "tokens_active", "seen"))),
            FitSums.from_arrays({key[4:]: value for key, value in arrays.items() if key.startswith("fit_")}),
            list(zip(arrays["skipped"].tolist(), arrays["reasons"].tolist(), strict=True)),
            ImageMaps.from_arrays(arrays) if "cells" in arrays else None,
        )

    def without_maps(self) -> Ranked:
        """The rest."""
        return replace(self, maps=None)


@dataclass(frozen=True)
class Passes:
    """A model, an SAE and images, ready to be passed over.

    Attributes:
        sample: images the fit check is made on.
        batch_size: views to a forward pass; bounds memory, never changes a result.
        threads: decoding threads, or None for one a core.
        witnesses: images that the process that packed these passes could read.
    """

    backbone: Backbone
    sae: SparseAutoencoder
    images: ImageSource
    config: MeasureConfig
    sample: frozenset[int]
    batch_size: int
    threads: int | None
    witnesses: tuple[int, ...] = ()

    @property
    def views(self) -> Views:
        """The geometry of the views."""
        return Views(self.backbone.patch_size, self.backbone.grid, self.config.shift, self.config.resize)

    @property
    def cells(self) -> int:
        """Patches in a view, p^2."""
        return self.backbone.grid**2

    @property
    def needs_gpu(self) -> bool:
        """Whether the model is on a GPU."""
        return self.backbone.device.type == "cuda"

    @property
    def trails(self) -> bool:
        """Whether a batch is ranked and its maps gathered while the model has the next."""
        return self.needs_gpu

    def packed(self) -> Passes:
        """A copy to be pickled: model and SAE in main memory, and images that its processes must be able to read."""
        spread = np.linspace(0, len(self.images) - 1, min(WITNESSES, len(self.images))).round().astype(int).tolist()
        readable = tuple(index for index in spread if self._reads(index))
        return replace(self._on("cpu") if self.needs_gpu else self, witnesses=readable)

    def unpacked(self, threads: int, gpu: bool) -> Passes:
        """The packed passes in the process that does them: on its GPU, or on ``threads`` cores.

        Raises:
            InfoscopeError: images that could be read where they were packed cannot be read here, so that they would
                be skipped.
        """
        for index in self.witnesses:
            if not self._reads(index):
                raise InfoscopeError(
                    f"the worker on {platform.node()} cannot read {self.images.ids[index]}, which this process can: "
                    "have the images under the same path on every machine"
                )
        if gpu:
            set_multiplication(self.backbone.precision)
        passes = self._on("cuda") if gpu else self
        return replace(passes, threads=self.threads or min(threads, MOST_DECODE_THREADS))

    def _reads(self, index: int) -> bool:
        try:
            self.images[index]
        except UnreadableImageError:
            return False
        return True

    def _on(self, device: str) -> Passes:
        model = deepcopy(self.backbone.model).to(device)
        return replace(self, backbone=replace(self.backbone, model=model), sae=deepcopy(self.sae).to(device))

    def rank(self, shard: range, advance: Advance) -> Ranked:
        """Pass 1: each feature's strongest images of a shard, by the full view."""
        result = self._nothing_ranked()
        with trailing(self.trails) as follow:
            for batch in self._decode(shard, False, result.skipped, advance):
                follow(partial(self._rank_batch, result, batch, *self._encode(batch.pixels)))
        return result

    def rank_crops(self, shard: range, advance: Advance) -> Ranked:
        """The only pass with ``rank_view="crops"``: the ranking, and the maps of the images that stay in it."""
        result = self._nothing_ranked()
        parts: list[ImageMaps] = []

        def take(batch: Batch, tokens: torch.Tensor, codes: ViewCodes) -> None:
            self._rank_batch(result, batch, tokens, codes)
            chosen = result.ranking.chosen(batch.index[0], batch.index[-1])
            parts.append(codes.gather(np.array(batch.index), *chosen))
            # Images that later ones have pushed out are dropped before they outnumber those that stay.
            if sum(len(part.image) for part in parts) > 2 * result.ranking.image.size:
                parts[:] = [result.ranking.keep(ImageMaps.concatenate(parts))]

        with trailing(self.trails) as follow:
            for batch in self._decode(shard, True, result.skipped, advance):
                follow(partial(take, batch, *self._encode(batch.pixels)))
        maps = result.ranking.keep(ImageMaps.concatenate(parts or [ImageMaps.empty(self.cells)]))
        return replace(result, maps=maps.by_feature())

    def maps(
        self, image: Int64[np.ndarray, " pair"], feature: Int64[np.ndarray, " pair"], advance: Advance
    ) -> ImageMaps:
        """Pass 2: the maps of chosen (image, feature) pairs, ordered by feature, then image.

        Each image is decoded once and encoded twice, whatever the number of features that chose it.

        Raises:
            InfoscopeError: an image that was ranked can no longer be read.
        """
        skipped: list[tuple[int, str]] = []
        parts = [ImageMaps.empty(self.cells)]

        def take(batch: Batch, codes: ViewCodes) -> None:
            within = slice(*np.searchsorted(image, [batch.index[0], batch.index[-1] + 1]))
            parts.append(codes.gather(np.array(batch.index), image[within], feature[within]))

        with trailing(self.trails) as follow:
            for batch in self._decode(np.unique(image).tolist(), True, skipped, advance):
                follow(partial(take, batch, self._encode(batch.pixels)[1]))
        if skipped:
            index, reason = skipped[0]
            raise InfoscopeError(
                f"{self.images.ids[index]} was read in the first pass and cannot be read now ({reason}); "
                "restore it, or measure into a new directory"
            )
        return ImageMaps.concatenate(parts).by_feature()

    def _nothing_ranked(self) -> Ranked:
        # No feature has more top images than there are images.
        ranking = Ranking.empty(self.sae.features, min(self.config.top_images, len(self.images)))
        return Ranked(ranking, FitSums.empty(self.backbone.width, self.sae.features), [])

    def _decode(
        self,
        indices: Sequence[int],
        crops: bool,
        skipped: list[tuple[int, str]],
        advance: Advance,
    ) -> Iterator[Batch]:
        """Batches of full views or of both crops, with at least one image; what cannot be read goes to ``skipped``."""
        view = self.views.crops if crops else self.views.full
        count = max(1, self.batch_size // 2) if crops else self.batch_size
        for batch in decode_ahead(self.images, indices, view, count, self.threads):
            skipped.extend(batch.unreadable)
            if batch.index:
                yield batch
            advance(len(batch.index) + len(batch.unreadable))

    def _encode(self, pixels: np.ndarray) -> tuple[torch.Tensor, ViewCodes]:
        """Tokens ``[view * patch, width]`` and their codes, views in order."""
        side = self.backbone.input_side
        tokens = self.backbone.tokens(pixels.reshape(-1, side, side, 3)).flatten(0, 1)
        return tokens, encode_views(self.sae, tokens, self.cells)

    def _rank_batch(self, result: Ranked, batch: Batch, tokens: torch.Tensor, codes: ViewCodes) -> None:
        """Take in a batch; where an image has two views, the larger score counts."""
        score, active = codes.reduce(self.config.rank_by)
        images = len(batch.index)
        result.ranking.update(
            np.array(batch.index), score.reshape(images, -1, self.sae.features).max(1), active, len(tokens)
        )
        per_image = len(tokens) // images
        for place, index in enumerate(batch.index):
            if index in self.sample:
                rows = slice(place * per_image, (place + 1) * per_image)
                result.fit.update(tokens[rows], codes.reconstruct(rows), codes.active(rows))
