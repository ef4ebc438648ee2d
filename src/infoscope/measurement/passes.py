"""The passes over images: each is a pure function of a shard of them, done here or by another process.

`Passes` holds what a worker needs and has a method for each pass; `rank_images` and `map_images` cut a whole pass into
shards, have an executor do them, and put the results together.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch
from jaxtyping import Int64, UInt64

from infoscope.backbones.backbone import Backbone, own_copy
from infoscope.backbones.precision import set_multiplication
from infoscope.dictionaries.activations import ReLU
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
from infoscope.measurement.map_sets import MapSet, SetMaps, Wanted, cuts_of
from infoscope.measurement.maps import ImageMaps, most_pairs
from infoscope.measurement.ranking import Ranked, RankedImages, RankingFold, joined
from infoscope.runtime.executor import Executor, Job, trailing
from infoscope.runtime.partials import Arrays, Part, Partials, digest, shards
from infoscope.runtime.progress import Advance, progress

# Our choice: enough to notice a folder that is not there, and nothing beside the loading of a model.
WITNESSES = 4

# Our choice: a quantile of a sample of four times k = 16 is off by 6 percentage points at most (one standard
# deviation), about what lies between two of sixteen quantiles.
KEPT_PER_IMAGE = 4


@dataclass(frozen=True)
class Target:
    """A dictionary, and the model at the block that it reads."""

    backbone: Backbone
    sae: SparseAutoencoder

    @cached_property
    def unrestricted(self) -> SparseAutoencoder:
        """The SAE whose codes are all pre-activations above 0."""
        sae = self.sae
        return SparseAutoencoder(sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec, ReLU(), token_norm=sae.token_norm)


@dataclass(frozen=True)
class Coded:
    """What one target makes of a batch: tokens ``[view * patch, width]`` and their codes."""

    target: Target
    tokens: torch.Tensor
    codes: ViewCodes


@dataclass(frozen=True)
class MadeMaps:
    """The maps of a shard, of each target."""

    targets: list[SetMaps]

    def arrays(self) -> Arrays:
        """As named arrays, for a shard's file."""
        return joined([maps.arrays() for maps in self.targets])


@dataclass(frozen=True)
class Passes:
    """A model, dictionaries and images, ready to be passed over.

    Attributes:
        targets: the dictionaries, each with the model at its block; it is one model, and every image goes through it
            once for all of them.
        images: the images.
        config: the options.
        sample: images the fit check is made on.
        batch_size: views to a forward pass; bounds memory, never changes a result.
        threads: decoding threads, or None for one a core.
        witnesses: images that the process that packed these passes could read.
    """

    targets: tuple[Target, ...]
    images: ImageSource
    config: MeasureConfig
    sample: frozenset[int]
    batch_size: int
    threads: int | None
    witnesses: tuple[int, ...] = ()

    @property
    def backbone(self) -> Backbone:
        """The model, at the block of the first target; its input is that of all."""
        return self.targets[0].backbone

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
        """A copy to be pickled: model and SAEs in main memory, and images that its processes must be able to read."""
        spread = sorted(spread_evenly(len(self.images), WITNESSES))
        readable = tuple(index for index in spread if self._can_read(index))
        return replace(self._on("cpu") if self.needs_gpu else self, witnesses=readable)

    def unpacked(self, threads: int, gpu: bool) -> Passes:
        """The packed passes in the process that does them: on its GPU, or on ``threads`` cores.

        Raises:
            InfoscopeError: images that could be read where they were packed cannot be read here, so that they would
                be skipped.
        """
        for index in self.witnesses:
            if not self._can_read(index):
                raise InfoscopeError(
                    f"the worker on {platform.node()} cannot read {self.images.ids[index]}, which this process can: "
                    "have the images under the same path on every machine"
                )
        if gpu:
            set_multiplication(self.backbone.precision)
        passes = self._on("cuda") if gpu else self
        return replace(passes, threads=self.threads or min(threads, MOST_DECODE_THREADS))

    def rank(self, shard: range, advance: Advance) -> RankedImages:
        """Pass 1: each feature's strongest images of a shard, by the full view."""
        result = self._nothing_ranked()
        with trailing(self.trails) as follow:
            for batch in self._decode(shard, (), result.skipped, advance):
                follow(partial(self._rank_batch, result, batch, self._encode(batch.pixels)))
        return replace(result, contents=self._contents(shard))

    def rank_crops(self, shard: range, advance: Advance) -> RankedImages:
        """The only pass with ``rank_view="crops"``: the ranking, and the maps of the images that stay in it."""
        result = self._nothing_ranked()
        gathered: list[list[ImageMaps]] = [[ImageMaps.empty(self.cells)] for _ in self.targets]
        crops = [Cut(0, 0), Cut(self.config.shift, self.config.shift)]

        def take(batch: Batch, coded: Sequence[Coded]) -> None:
            self._rank_batch(result, batch, coded)
            for ranked, parts, own in zip(result.dictionaries, gathered, coded, strict=True):
                chosen = ranked.ranking.chosen(batch.index[0], batch.index[-1])
                parts.extend(own.codes.gather(np.array(batch.index), *chosen))
                # Images that later ones have pushed out are dropped before they outnumber those that stay.
                if sum(len(part.image) for part in parts) > 2 * ranked.ranking.image.size:
                    parts[:] = [ranked.ranking.keep(ImageMaps.concatenate(parts))]

        with trailing(self.trails) as follow:
            for batch in self._decode(shard, crops, result.skipped, advance):
                follow(partial(take, batch, self._encode(batch.pixels)))
        dictionaries = [
            replace(ranked, maps=ranked.ranking.keep(ImageMaps.concatenate(parts)).by_feature())
            for ranked, parts in zip(result.dictionaries, gathered, strict=True)
        ]
        return replace(result, dictionaries=dictionaries, contents=self._contents(shard))

    def maps(
        self, wanted: Sequence[Wanted], contents: UInt64[np.ndarray, " image"] | None, advance: Advance
    ) -> MadeMaps:
        """Pass 2: the maps of chosen (image, feature) pairs in every set, each ordered by feature, then image.

        Each image is decoded once, and each view of it encoded once, whatever the number of features that chose it.

        Args:
            wanted: of each target; all of them want the same sets.
            contents: hashes of `images_of` ``wanted``, where they are known: other processes may have ranked them.
            advance: told how many images are done.

        Raises:
            InfoscopeError: an image that was ranked can no longer be read, or has changed since.
        """
        if isinstance(self.images, Watched) and contents is not None:
            self.images.expect(images_of(wanted), contents)
        sets = wanted[0].sets
        parts = [{map_set: [ImageMaps.empty(self.cells)] for map_set in sets} for _ in wanted]
        skipped: list[tuple[int, str]] = []

        def take(batch: Batch, coded: Sequence[Coded], batch_sets: Sequence[MapSet], views: list[Cut]) -> None:
            index = np.array(batch.index)
            for own, own_wanted, own_parts in zip(coded, wanted, parts, strict=True):
                for map_set in batch_sets:
                    image, feature = own_wanted.pairs(map_set)
                    within = slice(*np.searchsorted(image, [index[0], index[-1] + 1]))
                    asked = np.flatnonzero(np.isin(image[within], index)) + within.start
                    both = views.index(map_set.cuts[0]), views.index(map_set.cuts[1])
                    codes = DenseViews(own.target.unrestricted, own.tokens, self.cells) if map_set.pre else own.codes
                    own_parts[map_set] += codes.gather(index, image[asked], feature[asked], [both], len(views))

        # The strongest images in the views of all sets; those that only the quantiles need, in theirs.
        strongest = _union([own.image for own in wanted])
        only_sampled = np.setdiff1d(_union([own.sampled_image for own in wanted]), strongest)
        sampled_sets = [map_set for map_set in sets if map_set.sampled]
        with trailing(self.trails) as follow:
            for indices, batch_sets in (strongest, sets), (only_sampled, sampled_sets):
                views = cuts_of(batch_sets)
                for batch in self._decode(indices.tolist(), views, skipped, advance):
                    follow(partial(take, batch, self._encode(batch.pixels, views), batch_sets, views))
        if skipped:
            index, reason = skipped[0]
            raise InfoscopeError(
                f"{self.images.ids[index]} was read in the first pass and cannot be read now ({reason}); "
                "restore it, or measure into a new directory"
            )
        return MadeMaps(
            [
                SetMaps({map_set: ImageMaps.concatenate(maps).by_feature() for map_set, maps in own.items()})
                for own in parts
            ]
        )

    def _can_read(self, index: int) -> bool:
        try:
            self.images[index]
        except UnreadableImageError:
            return False
        return True

    def _on(self, device: str) -> Passes:
        # Copied once: the targets share the model's weights.
        model = deepcopy(self.backbone.model).to(device)
        targets = [
            Target(replace(target.backbone, model=model), deepcopy(target.sae).to(device)) for target in self.targets
        ]
        return replace(self, targets=tuple(targets))

    def _contents(self, shard: range) -> UInt64[np.ndarray, " image"]:
        """Hashes of a shard's images, once they were read, where somebody watches."""
        if not isinstance(self.images, Watched):
            return np.zeros(0, np.uint64)
        return self.images.contents[shard.start : shard.stop].copy()

    def _nothing_ranked(self) -> RankedImages:
        # No feature has more top images than there are images.
        images = len(self.images)
        kept = min(self.config.top_images, images), min(KEPT_PER_IMAGE * self.config.quantile_images, images)
        return RankedImages(
            [Ranked.empty(target.backbone.width, target.sae.features, *kept) for target in self.targets]
        )

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

    def _encode(self, pixels: np.ndarray, views: Sequence[Cut] = ()) -> list[Coded]:
        """What each target makes of a batch, views in order and laid on the grid as their cuts say."""
        side = self.backbone.input_side
        every = pixels.reshape(-1, side, side, 3)
        # One image may have more views than fit into a forward pass.
        passes = [
            read_tokens(self.targets, every[views_of_pass.start : views_of_pass.stop])
            for views_of_pass in shards(len(every), self.batch_size)
        ]
        coded = []
        for target, *parts in zip(self.targets, *passes, strict=True):
            tokens = parts[0] if len(parts) == 1 else torch.cat(parts)
            for number, cut in enumerate(views):
                if cut.rolled or cut.mirrored:
                    order = torch.from_numpy(cut.order(self.backbone.grid)).to(tokens.device)
                    tokens[number :: len(views)] = tokens[number :: len(views), order]
            tokens = tokens.flatten(0, 1)
            coded.append(Coded(target, tokens, encode_views(target.sae, tokens, self.cells)))
        return coded

    def _rank_batch(self, result: RankedImages, batch: Batch, coded: Sequence[Coded]) -> None:
        """Take in a batch; where an image has two views, the larger score counts."""
        images, index = len(batch.index), np.array(batch.index)
        for ranked, own in zip(result.dictionaries, coded, strict=True):
            score, active = own.codes.reduce(self.config.rank_by)
            score = score.reshape(images, -1, own.target.sae.features).max(1)
            ranked.ranking.update(index, score, active, len(own.tokens))
            if ranked.sample is not None:
                ranked.sample.update(index, score, self.config.seed)
            tokens_per_image = len(own.tokens) // images
            for number, image in enumerate(batch.index):
                if image in self.sample:
                    rows = slice(number * tokens_per_image, (number + 1) * tokens_per_image)
                    ranked.fit.update(own.tokens[rows], own.codes.reconstruct(rows), own.codes.active(rows))


def read_tokens(targets: Sequence[Target], pixels: np.ndarray) -> list[torch.Tensor]:
    """Each target's patch tokens ``[view, patch, width]``, from one forward pass for all that read block outputs."""
    backbone = targets[0].backbone
    if len(targets) == 1:
        return [backbone.tokens(pixels)]
    blocks = sorted({target.backbone.block for target in targets if target.backbone.reads == "output"})
    streams = {}
    if blocks:
        read = backbone.read_blocks(pixels, blocks, lambda _, tokens: own_copy(tokens[:, backbone.prefix_tokens :]))
        streams = dict(zip(blocks, read, strict=True))
    return [
        streams[target.backbone.block] if target.backbone.reads == "output" else target.backbone.tokens(pixels)
        for target in targets
    ]


def images_of(wanted: Sequence[Wanted]) -> Int64[np.ndarray, " image"]:
    """Every image of which a map is wanted, once, ascending."""
    return _union([own.images for own in wanted])


def rank_images(
    executor: Executor,
    passes: Passes,
    shard_images: int,
    partials: Partials,
    chunks: Sequence[Sequence[range]],
) -> RankingFold:
    """Pass 1 over all images.

    Args:
        executor: has the shards done.
        passes: what its workers hold.
        shard_images: images to a shard.
        partials: where finished shards are kept.
        chunks: of each target, the features whose maps are in memory together.
    """
    images, crops = len(passes.images), passes.config.rank_view == "crops"
    fold = RankingFold(partials, "crops" if crops else "ranking", chunks, passes.cells)
    left = [
        range(fold.stop + shard.start, fold.stop + shard.stop) for shard in shards(images - fold.stop, shard_images)
    ]
    work = Passes.rank_crops if crops else Passes.rank
    jobs = [Job(fold.shard_name(shard), len(shard), work, (shard,)) for shard in left]
    with progress("Crops" if crops else "Ranking", images, "images") as advance:
        advance(fold.stop)
        for shard, arrays in zip(left, executor.run(jobs, partials, advance), strict=True):
            fold.take(shard, arrays)
    return fold


def map_images(
    executor: Executor,
    passes: Passes,
    wanted: Sequence[Wanted],
    contents: UInt64[np.ndarray, " image"],
    shard_images: int,
    partials: Partials,
) -> list[Part]:
    """Pass 2 over all chosen images.

    Args:
        executor: has the shards done.
        passes: what its workers hold.
        wanted: the maps to be made, of each target.
        contents: hashes of all images, as they were ranked; empty where nobody watches.
        shard_images: images to a shard, at most.
        partials: where finished shards are kept.

    Returns:
        What `MadeMaps.arrays` gave of each shard.
    """
    image = np.sort(np.concatenate([own.image_of_each_map() for own in wanted]))
    jobs = []
    for first, stop in image_shards(image, shard_images, most_pairs(passes.cells)):
        shard = [own.of_images(int(image[first]), int(image[stop - 1])) for own in wanted]
        images = images_of(shard)
        # Named by what is asked: where a ranking is made again on other hardware, earlier maps do not answer it.
        asked = digest(
            *(part for own in shard for part in (own.image, own.feature, own.sampled_image, own.sampled_feature))
        )
        arguments = shard, contents[images] if len(contents) else None
        jobs.append(Job(f"maps-{int(image[first]):012}-{asked}", len(images), Passes.maps, arguments))
    if not jobs:
        return []
    with progress("Crops of the chosen images", sum(job.size for job in jobs), "images") as advance:
        done = zip(jobs, executor.run(jobs, partials, advance), strict=True)
        return [partials.part(job.name, arrays) for job, arrays in done]


def image_shards(image: Int64[np.ndarray, " map"], most_images: int, most: int) -> Iterator[tuple[int, int]]:
    """Cut maps that are ordered by image into stretches of whole images, at least one each.

    Args:
        image: the image of each map.
        most_images: the most images to a stretch.
        most: the most maps to a stretch, unless one image has more.

    Example:
        >>> list(image_shards(np.array([0, 0, 1, 1, 1, 2]), most_images=2, most=4))
        [(0, 2), (2, 6)]
    """
    # Where each image's maps begin, and where all end.
    begin = np.append(np.flatnonzero(np.diff(image, prepend=-1)), len(image))
    first = 0
    while first < len(begin) - 1:
        fitting = int(np.searchsorted(begin, begin[first] + most, side="right")) - 1
        stop = min(max(fitting, first + 1), first + most_images)
        yield int(begin[first]), int(begin[min(stop, len(begin) - 1)])
        first = stop


def _union(arrays: Sequence[Int64[np.ndarray, " _"]]) -> Int64[np.ndarray, " image"]:
    return np.unique(np.concatenate(arrays))
