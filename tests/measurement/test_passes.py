"""Several dictionaries from one pass: each gets what it would get alone."""

import numpy as np
import pytest
import torch

from infoscope.dictionaries.activations import ReLU, TopK
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.measurement import maps, ranking
from infoscope.measurement.config import MeasureConfig
from infoscope.measurement.map_sets import wanted_maps
from infoscope.measurement.maps import feature_chunks
from infoscope.measurement.passes import Passes, Target, map_images, rank_images
from infoscope.measurement.ranking import split_arrays
from infoscope.runtime.executor import LocalExecutor
from infoscope.runtime.partials import ArraysHere, Partials

OPTIONS = {"top_images": 4, "shift": 1, "map_activation": "pre", "quantile_images": 2}


def random_sae(width, features, activation, seed):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(width, features, generator=generator)
    bias = torch.full((features,), -1.0)
    return SparseAutoencoder(weights, bias, weights.T.contiguous() / width, torch.zeros(width), activation)


@pytest.fixture
def targets(backbone):
    """Two blocks, two widths, two activation functions, and the neurons of a block."""
    neurons = backbone.at(0, reads="neurons")
    return (
        Target(backbone.at(1), random_sae(backbone.width, 40, TopK(6), 1)),
        Target(backbone.at(0), random_sae(backbone.width, 24, ReLU(), 2)),
        Target(backbone.at(0), random_sae(backbone.width, 40, TopK(3), 3)),
        Target(neurons, random_sae(neurons.width, 16, TopK(4), 4)),
    )


def passed(targets, images, config, partials):
    """Everything that both passes keep: rankings, samples, fits, and the maps of every dictionary."""
    passes = Passes(targets, images, config, frozenset(range(0, len(images), 3)), batch_size=3, threads=1)
    executor = LocalExecutor(passes)
    chunks = [feature_chunks(target.sae.features, 4, passes.cells) for target in targets]
    fold = rank_images(executor, passes, 4, partials, chunks)
    wanted = [
        wanted_maps(ranked.ranking, ranked.sample.spread(2), config, gathered=bool(parts))
        for ranked, parts in zip(fold.ranked.dictionaries, fold.parts, strict=True)
    ]
    made = map_images(executor, passes, wanted, np.zeros(0, np.uint64), 4, partials)
    kept = []
    for number, ranked in enumerate(fold.ranked.dictionaries):
        gathered = maps.MapParts(fold.parts[number], chunks[number], passes.cells) if fold.parts[number] else None
        kept.append(
            ranked.arrays()
            | {
                f"{chunk}-{features.start}-{name}": array
                for chunk, features in enumerate(chunks[number])
                if gathered is not None
                for name, array in ranked.ranking.keep(gathered.of_chunk(chunk)).by_feature().arrays().items()
            }
        )
    return kept, [read(part, len(targets)) for part in made]


def read(part, count):
    arrays = part.arrays if isinstance(part, ArraysHere) else dict(np.load(part.file))
    return split_arrays(arrays, count)


def by_pair(parts):
    """The maps of all shards under one dictionary: set and entry, image, feature."""
    found = {}
    for arrays in parts:
        for prefix in {name.removesuffix("image") for name in arrays if name.endswith("image")}:
            for number, (image, feature) in enumerate(
                zip(arrays[f"{prefix}image"], arrays[f"{prefix}feature"], strict=True)
            ):
                for crop in ("first", "second"):
                    entries = slice(*arrays[f"{prefix}{crop}_start"][number : number + 2])
                    found[prefix, int(image), int(feature), crop] = (
                        arrays[f"{prefix}{crop}_patch"][entries].tolist(),
                        arrays[f"{prefix}{crop}_value"][entries].tolist(),
                    )
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("rank_view", "stored"), [("full", True), ("crops", False)])
def test_several_dictionaries_get_what_each_gets_alone(targets, images, tmp_path, monkeypatch, rank_view, stored):
    monkeypatch.setattr(maps, "MAPS_BYTES", 10_000)
    monkeypatch.setattr(ranking, "SHARDS_TO_FOLD", 3)
    config = MeasureConfig(**OPTIONS, rank_view=rank_view)
    together, made = passed(targets, images, config, Partials(tmp_path / "all" if stored else None))
    for number, target in enumerate(targets):
        (alone,), own = passed((target,), images, config, Partials(tmp_path / str(number) if stored else None))
        assert alone.keys() == together[number].keys()
        for name, array in alone.items():
            assert np.array_equal(array, together[number][name]), name
        assert by_pair(arrays for (arrays,) in own) == by_pair(arrays[number] for arrays in made)


@pytest.mark.slow
def test_a_pass_over_several_dictionaries_resumes(targets, images, tmp_path, monkeypatch):
    monkeypatch.setattr(maps, "MAPS_BYTES", 10_000)
    monkeypatch.setattr(ranking, "SHARDS_TO_FOLD", 3)
    config = MeasureConfig(**OPTIONS, rank_view="crops")
    whole, made = passed(targets, images, config, Partials(None))
    with monkeypatch.context() as patch:
        calls = []

        def stopping(self, shard, advance, work=Passes.rank_crops):
            calls.append(shard)
            if len(calls) == 6:  # past a fold
                raise KeyboardInterrupt
            return work(self, shard, advance)

        patch.setattr(Passes, "rank_crops", stopping)
        with pytest.raises(KeyboardInterrupt):
            passed(targets, images, config, Partials(tmp_path))
    again, remade = passed(targets, images, config, Partials(tmp_path))
    for one, other in zip(whole, again, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)
    for number in range(len(targets)):
        assert by_pair(arrays[number] for arrays in made) == by_pair(arrays[number] for arrays in remade)
