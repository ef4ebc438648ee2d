"""The passes over images: each is a pure function of a shard of images, run in this process or in another.

`Passes` holds what a worker needs and has a method for each pass; `rank_images` and `map_images` cut a pass over all
images into shards, have an executor run them, and combine the results.
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
from infoscope.backbones.hardware import set_multiplication
from infoscope.dictionaries.activations import ReLU
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError, UnreadableImageError
from infoscope.images.prefetch import MOST_DECODE_THREADS, Batch, decode_readable
from infoscope.images.source import ImageSource, spread_evenly
from infoscope.images.views import Cut, Views
from infoscope.images.watched import Watched
from infoscope.measurement.config import MeasureConfig
from infoscope.measurement.encode import ViewCodes, encode_views
from infoscope.measurement.map_sets import MapSet, SetMaps, Wanted, cuts_of
from infoscope.measurement.maps import ImageMaps, most_pairs
from infoscope.measurement.ranking import Ranked, RankedImages, RankingFold, join_arrays
from infoscope.runtime.executor import Executor, Job, trailing
from infoscope.runtime.partials import Arrays, Part, Partials, digest, shards
from infoscope.runtime.progress import Advance, progress

# Our choice: enough to notice that a folder is missing, at no cost next to loading a model.
WITNESSES = 4

# Images sampled per quantile image. Our choice: a quantile of a sample of four times 16 is off by at most 6 percentage
# points (one standard deviation), about the distance between two of sixteen quantiles.
SAMPLED_PER_QUANTILE = 4


@dataclass(frozen=True)
class Target:
    """A dictionary, and the model at the block whose tokens it reads."""

    backbone: Backbone
    sae: SparseAutoencoder

    @cached_property
    def unrestricted(self) -> SparseAutoencoder:
        """The same SAE with all pre-activations above 0 as its codes."""
        sae = self.sae
        return SparseAutoencoder(sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec, ReLU(), token_norm=sae.token_norm)


@dataclass(frozen=True)
class EncodedViews:
    """The views of a batch as one target reads them: tokens ``[view * patch, width]``, and their codes."""

    target: Target
    tokens: torch.Tensor
    codes: ViewCodes


@dataclass(frozen=True)
class ShardMaps:
    """The maps of a shard, for each target."""

    targets: list[SetMaps]

    def arrays(self) -> Arrays:
        """The maps as named arrays, for the shard's file."""
        return join_arrays([maps.arrays() for maps in self.targets])


@dataclass(frozen=True)
class Passes:
    """A model, dictionaries and images, and all that a pass over them needs.

    Attributes:
        targets: the dictionaries, each with the model at its block. All share one model, which every image goes through
            once for all of them.
        images: the images.
        config: the options.
        sample: the images that the fit check is made on.
        batch_size: views to a forward pass; bounds memory, never changes a result.
        threads: decoding threads, or None for one a core.
        witnesses: some images that were readable in the process that packed these passes.
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
        """The model at the block of the first target; all targets take the same input."""
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
        """Whether a batch is ranked, and its maps gathered, while the model runs on the next one."""
        return self.needs_gpu

    def packed(self) -> Passes:
        """A copy to be pickled, with model and SAEs in main memory, and witnesses that every worker has to read."""
        candidates = sorted(spread_evenly(len(self.images), WITNESSES))
        readable = tuple(index for index in candidates if self._can_read(index))
        return replace(self._on("cpu") if self.needs_gpu else self, witnesses=readable)

    def unpacked(self, threads: int, gpu: bool) -> Passes:
        """The packed passes in the process that runs them: on its GPU, or on ``threads`` cores.

        Raises:
            InfoscopeError: images that were readable where the passes were packed are not readable here, and would
                silently be skipped.
        """
        for index in self.witnesses:
            if not self._can_read(index):
                raise InfoscopeError(
                    f"the worker on {platform.node()} cannot read {self.images.ids[index]}, which this process can: "
                    "have the images under the same path on every machine"
                )
        if gpu:
            # A setting of the process rather than of the model, so each worker has to make it.
            set_multiplication(self.backbone.precision)
        passes = self._on("cuda") if gpu else self
        return replace(passes, threads=self.threads or min(threads, MOST_DECODE_THREADS))

    def rank(self, shard: range, advance: Advance) -> RankedImages:
        """Pass 1: each feature's strongest images in a shard, by the full view."""
        result = self._empty_ranking()
        with trailing(self.trails) as follow:
            for batch in self.decode(shard, (), result.skipped, advance):
                follow(partial(self._rank_batch, result, batch, self.encode(batch.pixels)))
        return replace(result, contents=self._contents(shard))

    def rank_crops(self, shard: range, advance: Advance) -> RankedImages:
        """The only pass with ``rank_view="crops"``: the ranking, and the maps of the images in it."""
        result = self._empty_ranking()
        gathered: list[list[ImageMaps]] = [[ImageMaps.empty(self.cells)] for _ in self.targets]
        crops = [Cut(0, 0), Cut(self.config.shift, self.config.shift)]

        def take(batch: Batch, encoded: Sequence[EncodedViews]) -> None:
            self._rank_batch(result, batch, encoded)
            for ranked, parts, views in zip(result.dictionaries, gathered, encoded, strict=True):
                chosen = ranked.ranking.chosen(batch.index[0], batch.index[-1])
                parts.extend(views.codes.gather(np.array(batch.index), *chosen))
                # Drop the maps of images that have left the ranking before they outnumber the others.
                if sum(len(part.image) for part in parts) > 2 * ranked.ranking.image.size:
                    parts[:] = [ranked.ranking.keep(ImageMaps.concatenate(parts))]

        with trailing(self.trails) as follow:
            for batch in self.decode(shard, crops, result.skipped, advance):
                follow(partial(take, batch, self.encode(batch.pixels)))
        dictionaries = [
            replace(ranked, maps=ranked.ranking.keep(ImageMaps.concatenate(parts)).by_feature())
            for ranked, parts in zip(result.dictionaries, gathered, strict=True)
        ]
        return replace(result, dictionaries=dictionaries, contents=self._contents(shard))

    def maps(
        self, wanted: Sequence[Wanted], contents: UInt64[np.ndarray, " image"] | None, advance: Advance
    ) -> ShardMaps:
        """Pass 2: the maps of chosen (image, feature) pairs in every set, ordered by feature, then image.

        Each image is decoded once, and each view of it encoded once, however many features need it.

        Args:
            wanted: the maps that each target needs; all targets need the same sets.
            contents: hashes of the images in `images_of` ``wanted``, where they are known. They are checked, since
                other processes may have ranked these images.
            advance: called with the number of images done.

        Raises:
            InfoscopeError: an image that was ranked can no longer be read, or has changed since.
        """
        if isinstance(self.images, Watched) and contents is not None:
            self.images.expect(images_of(wanted), contents)
        sets = wanted[0].sets
        parts = [{map_set: [ImageMaps.empty(self.cells)] for map_set in sets} for _ in wanted]
        skipped: list[tuple[int, str]] = []

        def take(batch: Batch, encoded: Sequence[EncodedViews], batch_sets: Sequence[MapSet], views: list[Cut]) -> None:
            index = np.array(batch.index)
            for own, own_wanted, own_parts in zip(encoded, wanted, parts, strict=True):
                for map_set in batch_sets:
                    image, feature = own_wanted.pairs(map_set)
                    within = slice(*np.searchsorted(image, [index[0], index[-1] + 1]))
                    in_batch = np.flatnonzero(np.isin(image[within], index)) + within.start
                    both = views.index(map_set.cuts[0]), views.index(map_set.cuts[1])
                    codes = ViewCodes(own.target.unrestricted, own.tokens, self.cells) if map_set.pre else own.codes
                    own_parts[map_set] += codes.gather(index, image[in_batch], feature[in_batch], [both], len(views))

        # Images that cross-checks need have the views of all sets; those of later ranks or of quantiles alone, fewer.
        strongest, checked, sampled = (
            _union([image for image, _ in chosen]) for chosen in zip(*(own.chosen() for own in wanted), strict=True)
        )
        unchecked_sets = [map_set for map_set in sets if not map_set.is_check]
        sampled_sets = [map_set for map_set in sets if map_set.sampled]
        with trailing(self.trails) as follow:
            for indices, batch_sets in (
                (checked, sets),
                (np.setdiff1d(strongest, checked), unchecked_sets),
                (np.setdiff1d(sampled, np.union1d(strongest, checked)), sampled_sets),
            ):
                views = cuts_of(batch_sets)
                for batch in self.decode(indices.tolist(), views, skipped, advance):
                    follow(partial(take, batch, self.encode(batch.pixels, views), batch_sets, views))
        if skipped:
            index, reason = skipped[0]
            raise InfoscopeError(
                f"{self.images.ids[index]} was read in the first pass and cannot be read now ({reason}); "
                "restore it, or measure into a new directory"
            )
        return ShardMaps(
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
        """Hashes of a shard's images, once they were read; empty unless the images are watched."""
        if not isinstance(self.images, Watched):
            return np.zeros(0, np.uint64)
        return self.images.contents[shard.start : shard.stop].copy()

    def _empty_ranking(self) -> RankedImages:
        # No feature has more top images than there are images.
        images = len(self.images)
        top = min(self.config.mapped_images, images)
        sampled = min(SAMPLED_PER_QUANTILE * self.config.quantile_images, images)
        return RankedImages(
            [Ranked.empty(target.backbone.width, target.sae.features, top, sampled) for target in self.targets]
        )

    def decode(
        self,
        indices: Sequence[int],
        views: Sequence[Cut],
        skipped: list[tuple[int, str]],
        advance: Advance,
        encodings: int = 1,
    ) -> Iterator[Batch]:
        """Batches of the given views, or without any of full views; unreadable images are added to ``skipped``.

        Args:
            indices: the images.
            views: how they are cut.
            skipped: position and reason of each image that cannot be read are added to it.
            advance: called with the number of images done.
            encodings: how often each view will be encoded; batches are smaller by so much.
        """
        view = partial(self.views.cut, cuts=views) if views else self.views.full
        count = max(1, self.batch_size // max(1, encodings * len(views)))
        return decode_readable(self.images, indices, view, count, self.threads, skipped, advance)

    def encode(self, pixels: np.ndarray, views: Sequence[Cut] = ()) -> list[EncodedViews]:
        """A batch as each target reads it, views in order and laid on the grid as their cuts say."""
        side = self.backbone.input_side
        pixels = pixels.reshape(-1, side, side, 3)
        # One image may have more views than fit into a forward pass.
        forward_passes = [
            read_tokens(self.targets, pixels[stretch.start : stretch.stop])
            for stretch in shards(len(pixels), self.batch_size)
        ]
        encoded = []
        for target, *read in zip(self.targets, *forward_passes, strict=True):
            tokens = read[0] if len(read) == 1 else torch.cat(read)
            for number, cut in enumerate(views):
                if cut.rolled or cut.mirrored:
                    order = torch.from_numpy(cut.order(self.backbone.grid)).to(tokens.device)
                    tokens[number :: len(views)] = tokens[number :: len(views), order]
            tokens = tokens.flatten(0, 1)
            encoded.append(EncodedViews(target, tokens, encode_views(target.sae, tokens, self.cells)))
        return encoded

    def _rank_batch(self, result: RankedImages, batch: Batch, encoded: Sequence[EncodedViews]) -> None:
        """Add a batch to the ranking; where an image has two views, the larger score counts."""
        images, index = len(batch.index), np.array(batch.index)
        for ranked, own in zip(result.dictionaries, encoded, strict=True):
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
    """Each target's patch tokens ``[view, patch, width]``; all targets of block outputs share one forward pass."""
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
    """Every image that some map is needed of, once, ascending."""
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
        executor: runs the shards.
        passes: what its workers hold.
        shard_images: images to a shard.
        partials: where finished shards are kept.
        chunks: for each target, the features whose maps are in memory together.
    """
    images, crops = len(passes.images), passes.config.rank_view == "crops"
    fold = RankingFold(partials, "crops" if crops else "ranking", chunks, passes.cells)
    missing = [
        range(fold.stop + shard.start, fold.stop + shard.stop) for shard in shards(images - fold.stop, shard_images)
    ]
    work = Passes.rank_crops if crops else Passes.rank
    jobs = [Job(fold.shard_name(shard), len(shard), work, (shard,)) for shard in missing]
    with progress("Crops" if crops else "Ranking", images, "images") as advance:
        advance(fold.stop)
        for shard, arrays in zip(missing, executor.run(jobs, partials, advance), strict=True):
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
        executor: runs the shards.
        passes: what its workers hold.
        wanted: the maps that each target needs.
        contents: hashes of all images as they were ranked; empty unless the images are watched.
        shard_images: images to a shard, at most.
        partials: where finished shards are kept.

    Returns:
        The arrays of each shard, as `ShardMaps.arrays` gives them.
    """
    image = np.sort(np.concatenate([own.image_of_each_map() for own in wanted]))
    jobs = []
    for first, stop in image_shards(image, shard_images, most_pairs(passes.cells)):
        shard = [own.of_images(int(image[first]), int(image[stop - 1])) for own in wanted]
        images = images_of(shard)
        # Named by the maps that it holds: a ranking computed again on other hardware may need other ones.
        maps_digest = digest(
            *(array for own in shard for images_and_features in own.chosen() for array in images_and_features)
        )
        arguments = shard, contents[images] if len(contents) else None
        jobs.append(Job(f"maps-{int(image[first]):012}-{maps_digest}", len(images), Passes.maps, arguments))
    if not jobs:
        return []
    with progress("Crops of the chosen images", sum(job.size for job in jobs), "images") as advance:
        results = zip(jobs, executor.run(jobs, partials, advance), strict=True)
        return [partials.part(job.name, arrays) for job, arrays in results]


def image_shards(image: Int64[np.ndarray, " map"], most_images: int, most: int) -> Iterator[tuple[int, int]]:
    """Cut maps that are ordered by image into stretches of whole images.

    Args:
        image: the image of each map.
        most_images: most images to a stretch.
        most: most maps to a stretch, unless a single image has more.

    Example:
        >>> list(image_shards(np.array([0, 0, 1, 1, 1, 2]), most_images=2, most=4))
        [(0, 2), (2, 6)]
    """
    # Where the maps of each image begin, and the end of all.
    begin = np.append(np.flatnonzero(np.diff(image, prepend=-1)), len(image))
    first = 0
    while first < len(begin) - 1:
        fitting = int(np.searchsorted(begin, begin[first] + most, side="right")) - 1
        stop = min(max(fitting, first + 1), first + most_images)
        yield int(begin[first]), int(begin[min(stop, len(begin) - 1)])
        first = stop


def _union(arrays: Sequence[Int64[np.ndarray, " _"]]) -> Int64[np.ndarray, " image"]:
    return np.unique(np.concatenate(arrays))
