"""How many images would do: parts against a loop, the fit against worlds whose reliability is known or measured."""

import math

import numpy as np
import pytest
from scipy import stats

from infoscope.scope.planning import (
    FARTHEST,
    Growth,
    PartReliability,
    fit_growth,
    part_reliabilities,
    part_scores,
    plan_from,
    plan_images,
)


def world(rng, features, images, ranks, between, within, drift=0.0):
    """A run on images of its own: features have levels, pairs scatter about them, stronger images show more of them."""
    strength = rng.exponential(size=(features, images))
    image = np.argsort(-strength, axis=1)[:, :ranks]
    strong = np.take_along_axis(strength, image, axis=1)
    signal = between[:, None] * (1.0 + drift * strong)
    return signal + within * rng.standard_normal((features, ranks)), image


def reliability(one, other, top_images):
    return stats.spearmanr(one[:, :top_images].mean(1), other[:, :top_images].mean(1)).statistic


def test_scores_within_parts_are_those_of_a_loop():
    rng = np.random.default_rng(3)
    image = np.stack([rng.permutation(30)[:12] for _ in range(20)])
    image[4, 5:], image[7] = -1, -1  # a feature with five images, and one with none
    distance = np.where(rng.random(image.shape) < 0.2, np.nan, rng.random(image.shape))
    of_image = rng.integers(0, 4, 30)
    scores, taken = part_scores(distance, image, of_image, parts=4, size=3, valid_share=0.5)
    for part in range(4):
        for feature in range(20):
            own = [d for d, i in zip(distance[feature], image[feature], strict=True) if i >= 0 and of_image[i] == part]
            valid = [d for d in own[:3] if not math.isnan(d)]
            assert taken[part, feature] == len(own[:3])
            expected = np.mean(valid) if len(valid) >= 2 else math.nan
            assert scores[part, feature] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(("within", "ranks"), [(1.0, 16), (2.0, 32)])
def test_pairs_that_differ_alike_follow_spearman_and_brown(within, ranks):
    # Variance 1 between features, within^2 between pairs: Pearson's r is 1 / (1 + within^2 / k), and for normal values
    # Spearman's is 6 / pi asin(r / 2).
    rng = np.random.default_rng(0)
    distance, image = world(rng, 2000, 800, ranks, rng.standard_normal(2000), within)
    for point in part_reliabilities(distance, image, 800):
        r = 1 / (1 + within**2 / point.top_images)
        assert point.spearman == pytest.approx(6 / math.pi * math.asin(r / 2), abs=0.04)
    plan = plan_images(distance, image, 800, ranks // 2)
    for size in (ranks // 2, ranks, 2 * ranks):
        r = 1 / (1 + within**2 / size)
        expected = 6 / math.pi * math.asin(r / 2)
        assert plan.growth.reliability(800, size) == pytest.approx(expected, abs=0.04)
        assert plan.growth.reliability(1600, size) == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize(("within", "drift"), [(3.0, 0.0), (15.0, 1.0)])
def test_what_a_run_on_half_expects_is_measured_on_the_whole(within, drift):
    rng = np.random.default_rng(1)
    between = rng.gamma(2.0, size=1500)
    small = world(rng, 1500, 500, 16, between, within, drift)
    one, other = (world(rng, 1500, 1000, 16, between, within, drift)[0] for _ in range(2))
    plan = plan_images(*small, 500, 8)
    for top_images in (4, 8, 16):
        measured = reliability(one, other, top_images)
        assert plan.growth.reliability(1000, top_images) == pytest.approx(measured, abs=0.06)
    assert 0.1 < plan.growth.reliability(1000, 4) < 0.95  # else this would show nothing


def test_stronger_images_of_more_images_are_seen():
    rng = np.random.default_rng(2)
    between = rng.gamma(2.0, size=3000)
    flat = plan_images(*world(rng, 3000, 2000, 32, between, 6.0, 0.0), 2000, 16)
    rising = plan_images(*world(rng, 3000, 2000, 32, between, 20.0, 3.0), 2000, 16)
    assert flat.growth.per_image < 0.1
    assert rising.growth.per_image > 0.15


def test_features_that_fire_seldom_count_with_the_images_they_have():
    # Half of the features fire on 8 images of 400: an eighth of the images holds one of them, more or less.
    rng = np.random.default_rng(4)
    distance, image = world(rng, 400, 400, 16, rng.standard_normal(400), 0.5)
    image[:200, 8:], distance[:200, 8:] = -1, np.nan
    points = part_reliabilities(distance, image, 400)
    quarters = [point for point in points if point.images == 100]
    assert [round(point.top_images) for point in quarters] == [1, 2, 3]
    # Those that fire seldom have at least 1 of 1 and of 2 in most quarters, and 2 of 4 in six of ten.
    assert quarters[0].features > 300
    assert quarters[2].features < quarters[0].features


def test_the_fit_is_the_formula_that_made_the_points():
    made = Growth(0.02, 0.7, 0.2)
    points = [PartReliability(m, k, made.reliability(m, k), 500) for m in (50.0, 100.0, 200.0) for k in (1.0, 2.0, 4.0)]
    found = fit_growth(points)
    assert (found.signal, found.per_top_image, found.per_image) == pytest.approx((0.02, 0.7, 0.2))


def test_more_images_are_never_expected_to_do_harm():
    made = Growth(2.0, 0.7, -0.3)
    points = [PartReliability(m, k, made.reliability(m, k), 500) for m in (50.0, 100.0, 200.0) for k in (1.0, 2.0, 4.0)]
    found = fit_growth(points)
    assert found.per_image == 0
    assert found.per_top_image == pytest.approx(0.7, abs=0.01)


def test_the_numbers_of_a_plan_reach_the_target_and_less_does_not():
    growth = Growth(0.1, 0.7, 0.3)
    plan = plan_from(growth, images=300, top_images=8)
    assert plan.expected < 0.8
    for images, top_images in (
        (plan.images_needed, 8),
        (plan.images_in_proportion, 8 * plan.images_in_proportion / 300),
    ):
        assert growth.reliability(images, top_images) >= 0.8
        # In two digits, so a tenth less is too few.
        assert growth.reliability(0.9 * images, top_images if top_images == 8 else 0.9 * top_images) < 0.8
    assert plan.top_images_in_proportion == math.ceil(8 * plan.images_in_proportion / 300)
    assert f"0.8 would take about {plan.images_in_proportion:,} images" in plan.sentence()
    assert f"or about {plan.images_needed:,} at this k" in plan.sentence()


def test_a_plan_says_that_nothing_would_do():
    plan = plan_from(Growth(0.001, 0.1, 0.0), images=300, top_images=8)
    assert (plan.images_needed, plan.images_in_proportion, plan.top_images_in_proportion) == (None, None, None)
    assert plan.farthest == FARTHEST * 300
    assert "no number up to 4,800 would give 0.8, even if k grew with it" in plan.sentence()


def test_where_the_target_is_reached_nothing_more_is_asked_for():
    plan = plan_from(Growth(1.0, 1.0, 0.0), images=300, top_images=8)
    assert (plan.images_needed, plan.images_in_proportion, plan.top_images_in_proportion) == (300, 300, 8)
    assert plan.sentence() == "between runs on 300 images each, with k = 8, about 0.89 is expected"


@pytest.mark.parametrize(("features", "ranks"), [(99, 32), (400, 7)])
def test_too_little_gives_no_plan(features, ranks):
    rng = np.random.default_rng(5)
    assert plan_images(*world(rng, features, 200, ranks, rng.standard_normal(features), 1.0), 200, ranks) is None


def test_the_same_run_has_the_same_plan():
    rng = np.random.default_rng(6)
    run = world(rng, 200, 100, 8, rng.standard_normal(200), 1.0)
    assert plan_images(*run, 100, 8) == plan_images(*run, 100, 8)


def test_of_very_many_features_some_are_enough(monkeypatch):
    rng = np.random.default_rng(7)
    run = world(rng, 600, 200, 8, rng.standard_normal(600), 1.0)
    monkeypatch.setattr("infoscope.scope.planning.MOST_FEATURES", 150)
    assert {round(point.features) for point in part_reliabilities(*run, 200)} <= set(range(100, 151))
