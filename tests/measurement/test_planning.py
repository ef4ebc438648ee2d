"""The plan of a run from its tables, and where it is said."""

import json

import numpy as np
import polars as pl
import pytest

from infoscope.cli.summary import class_rows
from infoscope.measurement.controls import run_controls
from infoscope.measurement.planning import run_plan
from infoscope.runtime.manifest import ImagesRecord
from infoscope.runtime.schema import SCOPE, TOP_IMAGES
from infoscope.scope.planning import plan_images

FEATURES, RANKS, IMAGES = 150, 16, 200
OPTIONS = {"top_images": 8, "min_pairs": 4, "empty_as": "leave-out"}


@pytest.fixture(scope="module")
def ranked():
    """Distances and images by feature and rank; the third feature has five images, the fourth none."""
    rng = np.random.default_rng(0)
    image = np.stack([rng.permutation(IMAGES)[:RANKS] for _ in range(FEATURES)])
    distance = np.clip(rng.uniform(0.1, 0.5, (FEATURES, 1)) + rng.normal(0, 0.1, image.shape), 0, 1)
    distance[::7, 3] = np.nan
    image[2, 5:], image[3], distance[2, 5:], distance[3] = -1, -1, np.nan, np.nan
    return distance, image


def table(distance, image, first=1.0, second=1.0):
    """The top images as a run keeps them, in an order of its own."""
    feature, rank = np.nonzero(image >= 0)
    values = {
        "feature": feature,
        "rank": rank,
        "image": image[feature, rank],
        "image_id": [str(number) for number in image[feature, rank]],
        "score": np.ones(len(feature)),
        "mass_first": np.full(len(feature), first),
        "mass_second": np.full(len(feature), second),
        "emd": [None if np.isnan(value) else value for value in distance[feature, rank]],
    }
    frame = pl.DataFrame(values, schema_overrides={name: column.dtype for name, column in TOP_IMAGES.items()})
    return frame.sample(fraction=1.0, shuffle=True, seed=1)


def images():
    return ImagesRecord("photographs", IMAGES, "0" * 64, [])


def test_the_table_is_read_by_feature_and_rank(ranked):
    distance, image = ranked
    plan = run_plan(table(distance, image), OPTIONS, images())
    assert plan == plan_images(np.delete(distance, 3, 0), np.delete(image, 3, 0), IMAGES, 8, 0.5)


def test_a_pair_with_one_empty_map_counts_where_it_counted_for_the_score(ranked):
    distance, image = ranked
    frame = table(distance, image).with_columns(
        mass_second=pl.when(pl.col("emd").is_null()).then(0.0).otherwise(1.0).cast(pl.Float32)
    )
    plan = run_plan(frame, OPTIONS | {"empty_as": "one"}, images())
    full = np.where((image >= 0) & np.isnan(distance), 1.0, distance)
    assert plan == plan_images(np.delete(full, 3, 0), np.delete(image, 3, 0), IMAGES, 8, 0.5)
    assert plan != run_plan(frame, OPTIONS, images())
    neither = frame.with_columns(mass_first=pl.col("mass_second"))
    assert run_plan(neither, OPTIONS | {"empty_as": "one"}, images()) == run_plan(frame, OPTIONS, images())


def test_a_run_without_top_images_has_no_plan(ranked):
    distance, image = ranked
    assert run_plan(table(distance, np.full_like(image, -1)), OPTIONS, images()) is None


def test_the_plan_is_a_line_and_a_part_of_the_document(ranked):
    plan = run_plan(table(*ranked), OPTIONS, images())
    scope = pl.DataFrame({name: [None] for name in SCOPE}, schema={name: c.dtype for name, c in SCOPE.items()})
    controls = run_controls(scope, OPTIONS, plan=plan)
    assert ("reliability", f"of CDS, as a rank correlation: {plan.sentence()}") in class_rows(controls)
    document = json.loads(json.dumps(controls.to_json(), allow_nan=False))["plan"]
    assert document["expected"] == plan.expected
    assert document["images_in_proportion"] == plan.images_in_proportion
    assert len(document["fitted_on"]) == len(plan.fitted_on) == 9
    assert "reliability" not in dict(class_rows(run_controls(scope, OPTIONS)))
