"""`measure_scope`: from a model, an SAE and images to the scope of every feature."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from infoscope.backbones.backbone import Backbone
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.execution.partials import Arrays, Partials, shards
from infoscope.images.prefetch import all_unreadable
from infoscope.images.source import Images, ids_sha256, open_images
from infoscope.measurement.config import MeasureConfig
from infoscope.measurement.fit import fit_record, fit_sample
from infoscope.measurement.maps import ImageMaps
from infoscope.measurement.passes import Passes, Ranked
from infoscope.measurement.ranking import Ranking
from infoscope.measurement.scope import Scope
from infoscope.measurement.tables import maps_table, scope_table, top_images_table
from infoscope.progress import Advance, progress
from infoscope.scope.pairs import MapPairs
from infoscope.scope.score import PairScores, score_features, score_pairs
from infoscope.storage.manifest import (
    FORMAT_VERSION,
    DictionaryRecord,
    ImagesRecord,
    Manifest,
    ModelRecord,
    SkippedImage,
    software_versions,
)
from infoscope.storage.run import PARTIALS, claim_directory

# Our choice: a minute or two of work on two cores, which is what a kill can lose; the result does not depend on it.
SHARD_IMAGES = 1024
# Pairs scored between two reports of progress.
SHARD_PAIRS = 16384


def measure_scope(
    backbone: Backbone,
    sae: SparseAutoencoder,
    images: Images,
    config: MeasureConfig | None = None,
    *,
    out: Path | str | None = None,
    batch_size: int | None = None,
    threads: int | None = None,
    show_progress: bool = True,
    command: str = "infoscope.measure_scope",
    **options: Any,
) -> Scope:
    """Measure the information scope of every feature of an SAE (method, sections 2 to 4).

    Args:
        backbone: the model, at the block the SAE was trained on.
        sae: the dictionary.
        images: the pool of images: a source, or what `infoscope.open_images` opens.
        config: the options (see `MeasureConfig`).
        out: a run directory to write; an interrupted measurement with the same options goes on there, and a finished
            one is read. Without it nothing is written.
        batch_size: views to a forward pass, of which an image's two crops are two; changes memory and speed, not the
            result. By default what suits the device, `Backbone.batch_size`.
        threads: decoding threads; one a core by default.
        show_progress: report progress on stderr.
        command: how this measurement was asked for, for the manifest.
        **options: options by name, such as ``top_images=16, shift=2``; they come before those of ``config``.

    Returns:
        A `Scope`: ``scope.table`` has one row a feature.

    Raises:
        InfoscopeError: the SAE has another width than the model, the shift leaves no overlap, no image can be read,
            or ``out`` is another run's directory or cannot be written.

    Example:
        >>> import tempfile, torch
        >>> from transformers import ViTConfig, ViTModel
        >>> from infoscope.backbones.loading import load_backbone
        >>> from infoscope.dictionaries.activations import TopK
        >>> directory = tempfile.mkdtemp()
        >>> ViTModel(ViTConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        ...                    image_size=64, patch_size=8)).save_pretrained(directory)
        >>> backbone = load_backbone(directory, block=-1, device="cpu")
        >>> sae = SparseAutoencoder(torch.eye(32, 64), torch.zeros(64), torch.eye(64, 32), torch.zeros(32), TopK(4))
        >>> photographs = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
        >>> scope = measure_scope(backbone, sae, photographs, top_images=4, shift=0, show_progress=False)
        >>> scope.table.height, scope.table["cds"].max()    # without a shift nothing moves
        (64, 0.0)
    """
    config = replace(config or MeasureConfig(), **options)
    images = open_images(images)
    sae = sae.to(backbone.device)
    if sae.width != backbone.width:
        raise InfoscopeError(
            f"the SAE {sae.name} takes tokens of width {sae.width}, but {backbone.name} has width {backbone.width}: "
            "give the SAE trained on this model"
        )
    if batch_size is None:
        batch_size = backbone.batch_size
    if batch_size < 1:
        raise InfoscopeError(f"--batch-size {batch_size} is out of range: choose 1 or more")
    sample = fit_sample(len(images))
    passes = Passes(backbone, sae, images, config, sample, batch_size, threads)
    _ = passes.views  # refuses an impossible shift before anything is written
    model, dictionary = _model_record(backbone), _dictionary_record(sae)
    ids_hash = ids_sha256(images)
    stored_options = asdict(config) | {"min_pairs": config.least_pairs}
    partials = Partials(None if out is None else Path(out) / PARTIALS)
    if out is not None:
        plan = {
            "format_version": FORMAT_VERSION,
            "options": stored_options,
            "model": {key: value for key, value in asdict(model).items() if key not in ("name", "revision")},
            "dictionary": dictionary.sha256,
            "images": {"count": len(images), "ids_sha256": ids_hash, "stamp": images.stamp()},
            "software": software_versions(),
        }
        if claim_directory(Path(out), plan):
            partials.clear()
            return Scope.load(out)
    clock = Clock()

    with clock("ranking"):
        ranked = _rank(passes, partials, show_progress)
    if not ranked.ranking.seen[0]:
        partials.clear()
        raise all_unreadable(images, ranked.skipped[0][1])
    with clock("maps"):
        maps = ranked.maps or _maps(passes, ranked.ranking, partials, show_progress)
    with clock("scores"):
        pairs = map_pairs(ranked.ranking, maps)
        pair_scores = _score(pairs, backbone.grid, config, show_progress)
        scores = score_features(
            pair_scores,
            pairs.feature,
            sae.features,
            min_pairs=config.least_pairs,
            empty_as=config.empty_as,
            seed=config.seed,
        )
    scope = Scope(
        scope_table(scores, ranked.ranking),
        top_images_table(pairs, pair_scores, images.ids),
        maps_table(pairs),
        Manifest(
            format_version=FORMAT_VERSION,
            command=command,
            options=stored_options,
            model=model,
            dictionary=dictionary,
            images=ImagesRecord(
                source=images.name,
                count=len(images),
                ids_sha256=ids_hash,
                skipped=[SkippedImage(index, images.ids[index], reason) for index, reason in ranked.skipped],
            ),
            software=software_versions(),
            seed=config.seed,
            timings=clock.seconds,
            fit=fit_record(ranked),
        ),
    )
    if out is not None:
        scope.save(out)
        partials.clear()
    return scope


@dataclass
class Clock:
    """Wall seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time one stage."""
        start = time.monotonic()
        yield
        self.seconds[stage] = round(time.monotonic() - start, 3)


def map_pairs(ranking: Ranking, maps: ImageMaps) -> MapPairs:
    """The maps of a ranking's images, ordered by feature, then rank."""
    feature, rank = np.nonzero(ranking.image >= 0)
    image = ranking.image[feature, rank]
    by_feature = np.lexsort((maps.image, maps.feature))
    # Position of each ranked (feature, image) among the maps in that order: the k-th of its feature by image.
    wanted = np.lexsort((image, feature))
    place = np.empty(len(feature), np.int64)
    place[wanted] = by_feature
    assert np.array_equal(maps.image[place], image)
    assert np.array_equal(maps.feature[place], feature)
    return MapPairs(
        feature=feature.astype(np.uint32),
        rank=rank.astype(np.uint16),
        image=image.astype(np.uint64),
        score=ranking.score[feature, rank],
        first=maps.first.take(place),
        second=maps.second.take(place),
    )


def _rank(passes: Passes, partials: Partials, show_progress: bool) -> Ranked:
    """Rank every image, shard by shard."""
    rank, title = (passes.rank, "Ranking") if passes.config.rank_view == "full" else (passes.rank_crops, "Crops")
    merged: Ranked | None = None
    with progress(title, len(passes.images), "images", enabled=show_progress) as advance:
        for number, shard in enumerate(shards(len(passes.images), SHARD_IMAGES)):
            name = f"ranking-{number:06}"
            if name in partials:
                advance(len(shard))
            arrays = partials.get_or_compute(name, partial(_ranked_arrays, rank, shard, advance))
            part = Ranked.from_arrays(arrays)
            merged = part if merged is None else merged.merge(part)
    assert merged is not None  # a source is never empty
    return merged


def _maps(passes: Passes, ranking: Ranking, partials: Partials, show_progress: bool) -> ImageMaps:
    """The maps of every chosen image, shard by shard."""
    image, feature = ranking.chosen()
    chosen = np.unique(image)
    parts = [ImageMaps.empty(passes.cells)]
    with progress("Crops of the chosen images", len(chosen), "images", enabled=show_progress) as advance:
        for number, shard in enumerate(shards(len(chosen), SHARD_IMAGES)):
            name = f"maps-{number:06}"
            if name in partials:
                advance(len(shard))
            within = slice(*np.searchsorted(image, [chosen[shard.start], chosen[shard.stop - 1] + 1]))
            compute = partial(_map_arrays, passes, image[within], feature[within], advance)
            parts.append(ImageMaps.from_arrays(partials.get_or_compute(name, compute)))
    return ImageMaps.concatenate(parts)


def _ranked_arrays(rank: Callable[[range, Advance], Ranked], shard: range, advance: Advance) -> Arrays:
    return rank(shard, advance).arrays()


def _map_arrays(passes: Passes, image: np.ndarray, feature: np.ndarray, advance: Advance) -> Arrays:
    return passes.maps(image, feature, advance).arrays()


def _score(pairs: MapPairs, grid: int, config: MeasureConfig, show_progress: bool) -> PairScores:
    """Score all pairs, some at a time."""
    count = len(pairs)
    with progress("Earth mover's distances", count, "pairs", enabled=show_progress) as advance:
        parts = []
        for shard in shards(count, SHARD_PAIRS) or [range(0)]:
            some = pairs.take(shard)
            reference = some.score if config.rank_by == "max" else some.peak()
            parts.append(score_pairs(some, grid, config.shift, config.ground_distance, reference))
            advance(len(shard))
    return PairScores.concatenate(parts)


def _model_record(backbone: Backbone) -> ModelRecord:
    return ModelRecord(
        name=backbone.name,
        revision=backbone.revision,
        sha256=backbone.sha256,
        family=backbone.family,
        block=backbone.block,
        patch_size=backbone.patch_size,
        grid=backbone.grid,
        prefix_tokens=backbone.prefix_tokens,
        mean=list(backbone.mean),
        std=list(backbone.std),
        dtype=str(backbone.dtype).removeprefix("torch."),
        device=backbone.device.type,
    )


def _dictionary_record(sae: SparseAutoencoder) -> DictionaryRecord:
    return DictionaryRecord(
        name=sae.name, format=sae.format, sha256=sae.sha256, features=sae.features, activation=str(sae.activation)
    )
