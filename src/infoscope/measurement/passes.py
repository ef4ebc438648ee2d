"""The passes over images, each a pure function of a shard of them."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch
from jaxtyping import UInt64

from infoscope.backbones.backbone import Backbone
from infoscope.backbones.precision import set_multiplication
from infoscope.dictionaries.activations import ReLU
from infoscope.dictionaries.fvu import FitSums
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.images.decode import UnreadableImageError
from infoscope.images.prefetch import MOST_DECODE_THREADS, Batch, decode_ahead
from infoscope.images.source import ImageSource
from infoscope.images.spread import spread_evenly
from infoscope.images.views import Cut, Views
from infoscope.images.watched import Watched
from infoscope.measurement.config import MeasureConfig
from infoscope.measurement.encode import DenseViews, ViewCodes, encode_views
from infoscope.measurement.map_sets import MAIN, MapSet, SetMaps, Wanted, cuts_of, map_sets
from infoscope.measurement.maps import ImageMaps
from infoscope.measurement.ranking import KEPT_PER_IMAGE, ActiveSample, Ranked, Ranking
from infoscope.runtime.executor import trailing
from infoscope.runtime.partials import shards
from infoscope.runtime.progress import Advance

# Our choice: enough to notice a folder that is not there, and nothing beside the loading of a model.
WITNESSES = 4


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
        config = self.config
        return Views(self.backbone.patch_size, self.backbone.grid, config.shift, config.resize, config.shifts)

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
        spread = sorted(spread_evenly(len(self.images), WITNESSES))
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
            for batch in self._decode(shard, (), result.skipped, advance):
                follow(partial(self._rank_batch, result, batch, *self._encode(batch.pixels)))
        return replace(result, contents=self._contents(shard))

    def rank_crops(self, shard: range, advance: Advance) -> Ranked:
        """The only pass with ``rank_view="crops"``: the ranking, and the maps of the images that stay in it."""
        result = self._nothing_ranked()
        parts: list[ImageMaps] = []
        crops = [Cut(0, 0), Cut(self.config.shift, self.config.shift)]

        def take(batch: Batch, tokens: torch.Tensor, codes: ViewCodes) -> None:
            self._rank_batch(result, batch, tokens, codes)
            chosen = result.ranking.chosen(batch.index[0], batch.index[-1])
            parts.extend(codes.gather(np.array(batch.index), *chosen))
            # Images that later ones have pushed out are dropped before they outnumber those that stay.
            if sum(len(part.image) for part in parts) > 2 * result.ranking.image.size:
                parts[:] = [result.ranking.keep(ImageMaps.concatenate(parts))]

        with trailing(self.trails) as follow:
            for batch in self._decode(shard, crops, result.skipped, advance):
                follow(partial(take, batch, *self._encode(batch.pixels)))
        maps = result.ranking.keep(ImageMaps.concatenate(parts or [ImageMaps.empty(self.cells)]))
        return replace(result, maps=maps.by_feature(), contents=self._contents(shard))

    def maps(self, wanted: Wanted, advance: Advance) -> SetMaps:
        """Pass 2: the maps of chosen (image, feature) pairs in every set, each ordered by feature, then image.

        Each image is decoded once, and each view of it encoded once, whatever the number of features that chose it.

        Raises:
            InfoscopeError: an image that was ranked can no longer be read, or is another by now.
        """
        if isinstance(self.images, Watched) and wanted.contents is not None:
            # It may have been ranked by another process.
            self.images.expect(wanted.images, wanted.contents)
        skipped: list[tuple[int, str]] = []
        sets = [made for made in map_sets(self.config) if wanted.main or made.name != MAIN]
        parts = {made.name: [ImageMaps.empty(self.cells)] for made in sets}

        def take(
            batch: Batch, tokens: torch.Tensor, codes: ViewCodes, some: Sequence[MapSet], views: list[Cut]
        ) -> None:
            index = np.array(batch.index)
            for made in some:
                image, feature = wanted.pairs(made.sampled)
                within = slice(*np.searchsorted(image, [index[0], index[-1] + 1]))
                asked = np.flatnonzero(np.isin(image[within], index)) + within.start
                both = views.index(made.cuts[0]), views.index(made.cuts[1])
                encoded = DenseViews(self._unhindered, tokens, self.cells) if made.pre else codes
                parts[made.name] += encoded.gather(index, image[asked], feature[asked], [both], len(views))

        sampled = [made for made in sets if made.sampled]
        strongest = np.unique(wanted.image)
        with trailing(self.trails) as follow:
            for indices, some in (strongest, sets), (np.setdiff1d(wanted.sampled_image, strongest), sampled):
                views = cuts_of(some)
                for batch in self._decode(indices.tolist(), views, skipped, advance):
                    follow(partial(take, batch, *self._encode(batch.pixels, views), some, views))
        if skipped:
            index, reason = skipped[0]
            raise InfoscopeError(
                f"{self.images.ids[index]} was read in the first pass and cannot be read now ({reason}); "
                "restore it, or measure into a new directory"
            )
        return SetMaps({name: ImageMaps.concatenate(found).by_feature() for name, found in parts.items()})

    @cached_property
    def _unhindered(self) -> SparseAutoencoder:
        """The SAE whose codes are all pre-activations above 0."""
        sae = self.sae
        return SparseAutoencoder(sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec, ReLU(), token_norm=sae.token_norm)

    def _contents(self, shard: range) -> UInt64[np.ndarray, " image"]:
        """What the images of a shard that was read are like, where somebody watches."""
        if not isinstance(self.images, Watched):
            return np.zeros(0, np.uint64)
        return self.images.contents[shard.start : shard.stop].copy()

    def _nothing_ranked(self) -> Ranked:
        # No feature has more top images than there are images.
        features, images = self.sae.features, len(self.images)
        ranking = Ranking.empty(features, min(self.config.top_images, images))
        slots = min(KEPT_PER_IMAGE * self.config.quantile_images, images)
        sample = ActiveSample.empty(features, slots) if slots else None
        return Ranked(ranking, FitSums.empty(self.backbone.width, features), [], sample=sample)

    def _decode(
        self,
        indices: Sequence[int],
        views: Sequence[Cut],
        skipped: list[tuple[int, str]],
        advance: Advance,
    ) -> Iterator[Batch]:
        """Batches of some cuts or, without any, of full views, with at least one image; ``skipped`` is added to."""
        view = partial(self.views.cut, cuts=views) if views else self.views.full
        count = max(1, self.batch_size // max(1, len(views)))
        for batch in decode_ahead(self.images, indices, view, count, self.threads):
            skipped.extend(batch.unreadable)
            if batch.index:
                yield batch
            advance(len(batch.index) + len(batch.unreadable))

    def _encode(self, pixels: np.ndarray, views: Sequence[Cut] = ()) -> tuple[torch.Tensor, ViewCodes]:
        """Tokens ``[view * patch, width]`` and their codes, views in order and laid on the grid as their cuts say."""
        side = self.backbone.input_side
        every = pixels.reshape(-1, side, side, 3)
        # One image may have more views than fit into a forward pass.
        passes = [self.backbone.tokens(every[some.start : some.stop]) for some in shards(len(every), self.batch_size)]
        tokens = passes[0] if len(passes) == 1 else torch.cat(passes)
        for place, cut in enumerate(views):
            if cut.rolled or cut.mirrored:
                order = torch.from_numpy(cut.order(self.backbone.grid)).to(tokens.device)
                tokens[place :: len(views)] = tokens[place :: len(views), order]
        tokens = tokens.flatten(0, 1)
        return tokens, encode_views(self.sae, tokens, self.cells)

    def _rank_batch(self, result: Ranked, batch: Batch, tokens: torch.Tensor, codes: ViewCodes) -> None:
        """Take in a batch; where an image has two views, the larger score counts."""
        score, active = codes.reduce(self.config.rank_by)
        images, index = len(batch.index), np.array(batch.index)
        score = score.reshape(images, -1, self.sae.features).max(1)
        result.ranking.update(index, score, active, len(tokens))
        if result.sample is not None:
            result.sample.update(index, score, self.config.seed)
        per_image = len(tokens) // images
        for place, number in enumerate(batch.index):
            if number in self.sample:
                rows = slice(place * per_image, (place + 1) * per_image)
                result.fit.update(tokens[rows], codes.reconstruct(rows), codes.active(rows))
