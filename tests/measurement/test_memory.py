"""However little fits into memory or stays on disk at a time, the result is the same."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoscope.measurement import maps, ranking
from infoscope.measurement.measure import measure_scope
from infoscope.measurement.passes import image_shards
from infoscope.runtime.partials import Partials

TABLES = ("table", "top_images", "maps")


def measure(backbone, sae, images, **options):
    return measure_scope(backbone, sae, images, top_images=4, shift=1, **options)


@pytest.fixture(scope="module")
def undisturbed(backbone, sae, images):
    """By the view that ranks, what a measurement gives that has room and is not stopped."""
    return {rank_view: measure(backbone, sae, images, rank_view=rank_view) for rank_view in ("full", "crops")}


@pytest.fixture
def little(monkeypatch):
    """Room for the maps of few features, and three shards to a fold."""
    monkeypatch.setattr(maps, "MAPS_BYTES", 10_000)
    monkeypatch.setattr(ranking, "SHARDS_TO_FOLD", 3)


def same(one, other):
    return all(getattr(one, name).equals(getattr(other, name)) for name in TABLES)


@pytest.mark.slow
@pytest.mark.parametrize("rank_view", ["full", "crops"])
@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.usefixtures("little")
def test_small_chunks_and_folds_change_nothing(backbone, sae, images, undisturbed, tmp_path, rank_view, stored):
    whole = undisturbed[rank_view]
    assert len(maps.feature_chunks(sae.features, 4, backbone.grid**2)) > 3
    out = tmp_path / "run" if stored else None
    again = measure(backbone, sae, images, rank_view=rank_view, out=out, shard_images=2)
    assert same(whole, again)
    assert whole.manifest.fit.fvu == pytest.approx(again.manifest.fit.fvu, abs=1e-12)
    if stored:
        assert [file.name for file in (out / "partials").iterdir()] == ["plan.json"]
        assert same(whole, type(whole).load(out))


@pytest.mark.slow
@pytest.mark.parametrize("rank_view", ["full", "crops"])
@pytest.mark.usefixtures("little")
def test_a_stop_before_or_after_any_file(backbone, sae, images, tmp_path, monkeypatch, rank_view):
    """It resumes from whatever is kept when it stops, and old shards do not gather."""
    put, puts, most = Partials.put, [], []

    def stopping(self, name, arrays):
        if len(puts) == before:
            raise KeyboardInterrupt
        put(self, name, arrays)
        puts.append(name)
        most.append(sum("ranking" in kept or "crops" in kept for kept in self.names()))
        if len(puts) == after:
            raise KeyboardInterrupt

    monkeypatch.setattr(Partials, "put", stopping)
    before = after = None
    whole = measure(backbone, sae, images, rank_view=rank_view, out=tmp_path / "whole", shard_images=2)
    chunks = len(maps.feature_chunks(sae.features, 4, backbone.grid**2)) if rank_view == "crops" else 0
    # Three shards, and an old and a new fold, for the moment that both are there.
    assert max(most) <= 3 + 2 * (1 + chunks)
    stops, moments = 0, random.Random(0)
    out = tmp_path / "run"
    for _ in range(400):
        # Now before a file, now after one; sometimes far enough for a fold.
        further = moments.randint(1, 6 + 2 * chunks)
        before, after = (further, None) if moments.random() < 0.5 else (None, further)
        puts.clear()
        try:
            found = measure(backbone, sae, images, rank_view=rank_view, out=out, shard_images=2)
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops >= 4
    assert same(whole, found)


@pytest.mark.slow
@given(
    counts=st.lists(st.integers(1, 9), max_size=30),
    most_images=st.integers(1, 6),
    most=st.integers(1, 20),
)
def test_shards_of_images_are_whole_and_small(counts, most_images, most):
    image = np.repeat(np.arange(len(counts)) * 3, counts)
    cut = list(image_shards(image, most_images, most))
    assert [first for first, _ in cut] == [0, *(stop for _, stop in cut)][: len(cut)]
    assert sum(stop - first for first, stop in cut) == len(image)
    for first, stop in cut:
        images = np.unique(image[first:stop])
        assert len(images) <= most_images
        assert stop - first <= most or len(images) == 1
        assert stop == len(image) or image[stop] != image[stop - 1]
