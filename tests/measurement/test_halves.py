"""Each feature is judged twice, by halves of its images that have nothing in common."""

import numpy as np
import polars as pl
import pytest

from infoscope.errors import InfoscopeError
from infoscope.images.source import open_images
from infoscope.measurement.controls import run_controls
from infoscope.measurement.measure import measure_scope
from infoscope.measurement.passes import Passes
from infoscope.runtime.run import open_run
from infoscope.scope.classes import SETTLED
from small import pictures

pytestmark = pytest.mark.slow

OPTIONS = {"top_images": 4, "shift": 1, "min_pairs": 2}


def whole(scope, leave=("class_even", "class_odd")):
    return scope.table.drop(leave), scope.top_images, scope.maps


def test_more_ranks_change_nothing_but_the_halves(backbone, sae, images):
    plain = measure_scope(backbone, sae, images, **OPTIONS)
    more = measure_scope(backbone, sae, images, **OPTIONS, ranks=8)
    for one, other in zip(whole(plain), whole(more), strict=True):
        assert one.equals(other)
    assert plain.table["class_even"].to_list() != more.table["class_even"].to_list()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"rank_view": "crops"},
        {"shifts": (1, 2), "map_activation": "pre"},
        {"rank_view": "crops", "diagonal": "both", "quantile_images": 3},
        {"control": "position-matched", "quantile_images": 3},
    ],
)
def test_nor_do_they_change_other_passes_or_cross_checks(backbone, sae, images, options):
    plain = measure_scope(backbone, sae, images, **OPTIONS, **options)
    more = measure_scope(backbone, sae, images, **OPTIONS, **options, ranks=7)
    for one, other in zip(whole(plain), whole(more), strict=True):
        assert one.equals(other)
    for name in ("shift_curve", "cross_checks", "quantile_images"):
        one, other = getattr(plain, name), getattr(more, name)
        assert one is None if other is None else one.equals(other)


@pytest.mark.parametrize("rank_view", ["full", "crops"])
def test_cross_checks_encode_the_images_of_the_score_alone(backbone, sae, images, monkeypatch, rank_view):
    """Of later ranks only the score's own two crops are encoded, and with the ranking on the crops not even these."""
    encode, encoded = Passes.encode, []

    def counting(self, pixels, views=()):
        encoded.append(pixels.size // (3 * backbone.input_side**2) if views else 0)
        return encode(self, pixels, views)

    top, ranks = 1, 2
    options = {"shift": 1, "shifts": (1, 2, 3), "noise_images": 0, "rank_view": rank_view}
    ranked = measure_scope(backbone, sae, images, **options, top_images=ranks).top_images
    first, all_ranks = (ranked.filter(pl.col("rank") < count)["image"].n_unique() for count in (top, ranks))
    assert 0 < first < all_ranks
    monkeypatch.setattr(Passes, "encode", counting)
    measure_scope(backbone, sae, images, **options, top_images=top, ranks=ranks)
    # The first crop and one for each shift that is not the score's own, which pass 1 has encoded under "crops".
    expected = {"full": 4 * first + 2 * (all_ranks - first), "crops": 3 * first}
    assert sum(encoded) == expected[rank_view]


@pytest.mark.parametrize("parity", [0, 1])
def test_a_half_is_judged_as_if_its_images_were_all(backbone, sae, images, parity):
    """The classes by half of the images are those of a measurement that has only these images.

    By the older rules, which judge each feature by itself: by posterior, other features of another pool count too.
    """
    ranks = 8
    scope = measure_scope(backbone, sae, images, **OPTIONS, ranks=ranks, rules="thresholds")
    halves = scope.table["class_even" if parity == 0 else "class_odd"].to_list()
    ranked = measure_scope(backbone, sae, images, top_images=ranks, shift=1).top_images
    checked = 0
    for feature in range(0, sae.features, 5):
        own = ranked.filter(pl.col("feature") == feature).sort("rank")
        index = own["image"].to_list()[parity::2]
        if len(index) < 4:
            continue
        alone = measure_scope(
            backbone,
            sae,
            open_images([images[i] for i in sorted(index)]),
            top_images=4,
            shift=1,
            min_pairs=2,
            rules="thresholds",
        )
        # In a pool of these images alone the feature's ranks are the same images in the same order.
        assert alone.table["scope_class"][feature] == halves[feature]
        checked += 1
    assert checked >= 3


def test_a_run_says_whether_its_classes_repeat(backbone, sae, images, tmp_path):
    measure_scope(backbone, sae, images, **OPTIONS, ranks=8, out=tmp_path)
    run = open_run(tmp_path)
    controls = run_controls(run.scope, run.manifest.options)
    assert controls.judged_images == 4
    assert controls.repeatability.features > 0
    document = controls.to_json()
    assert document["repeatability"]["features"] == controls.repeatability.features
    positive = controls.repeatability.positive
    given = {name for name in SETTLED if controls.classes[name] or not np.isnan(positive[name])}
    assert set(document["not_repeatable"]) == {name for name in given if not positive[name] >= 0.6}


def test_one_image_has_no_other_half(backbone, sae, images):
    table = measure_scope(backbone, sae, images, top_images=1, shift=1).table
    assert set(table["class_odd"]) == {"undefined"}
    assert run_controls(table, {"top_images": 1}).not_repeatable == set()


def test_runs_from_before_say_nothing(backbone, sae, images):
    table = measure_scope(backbone, sae, images, **OPTIONS).table
    older = table.with_columns(pl.lit(None, pl.String).alias("class_even"), pl.lit(None, pl.String).alias("class_odd"))
    controls = run_controls(older, {"top_images": 4})
    assert controls.repeatability is None
    assert controls.not_repeatable == set()


def test_fewer_ranks_than_images_of_a_score_are_refused(backbone, sae):
    with pytest.raises(InfoscopeError, match="--ranks 3 is out of range: choose --top-images, 4, or more"):
        measure_scope(backbone, sae, pictures(3), top_images=4, ranks=3)
    with pytest.raises(InfoscopeError, match="--ranks 0 is out of range"):
        measure_scope(backbone, sae, pictures(3), top_images=4, ranks=0)


def test_the_null_of_a_half_stays_in_it(backbone, sae, images):
    """Images of the other half are no partners: halves share nothing."""
    from infoscope.scope.controls import control_pairs
    from infoscope.scope.maps import MapPairs, SparseMaps

    random = np.random.default_rng(0)
    first, second = (SparseMaps.from_dense(random.random((6, 36)) * (random.random((6, 36)) < 0.3)) for _ in range(2))
    pairs = MapPairs(
        np.zeros(6, np.uint32),
        np.arange(6, dtype=np.uint16),
        np.arange(6, dtype=np.uint64),
        np.ones(6, np.float32),
        first,
        second,
    )
    both = control_pairs(pairs, grid=6, shift=1)
    for parity in (0, 1):
        index = np.arange(parity, 6, 2)
        alone = MapPairs(
            pairs.feature[index],
            np.arange(3, dtype=np.uint16),
            pairs.image[index],
            pairs.score[index],
            first.take(index),
            second.take(index),
        )
        assert np.array_equal(both.half(index).null, control_pairs(alone, grid=6, shift=1).null)
