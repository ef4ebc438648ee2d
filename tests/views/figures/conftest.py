"""A small run with all that a figure can show."""

import numpy as np
import polars as pl
import pytest

from fake_runs import fake_run, make_photographs
from infoscope.analyses.selection.result import STEPS
from infoscope.analyses.zeroshot.result import VARIANTS
from infoscope.runtime.columns import write_table
from infoscope.runtime.json_values import write_json

FEATURES = 60
KINDS = {5: "diffuse", 6: "position-bound"}
PROBE = {
    "task": "classification",
    "metric": "top-1",
    "higher_is_better": True,
    "recipe": {"name": "simple", "version": 2},
    "data": {"splits": {}},
    "baselines": [],
    "notes": [],
}
LIKE = "minus random of equal size as global"
# site, name, draw, score, difference, its interval
SCORES = [
    ("rerun", "untouched", None, 0.90, 0.0, None, None),
    ("rerun", "minus global", None, 0.88, -0.02, -0.03, -0.01),
    ("rerun", LIKE, 1, 0.80, -0.10, -0.12, -0.08),
    ("rerun", LIKE, 2, 0.84, -0.06, -0.08, -0.04),
    ("site", "untouched", None, 0.70, 0.0, None, None),
    ("site", "minus global", None, 0.60, -0.10, -0.13, -0.07),
    ("site", LIKE, 1, 0.50, -0.20, -0.22, -0.18),
    ("site", LIKE, 2, 0.54, -0.16, -0.18, -0.14),
]


def table(rows, columns):
    """A table with nulls for what its rows do not say."""
    filled = [{name: row.get(name) for name in columns} for row in rows]
    return pl.DataFrame(filled, schema={name: column.dtype for name, column in columns.items()})


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    return make_photographs(tmp_path_factory.mktemp("figures") / "photographs")


@pytest.fixture(scope="session")
def run(tmp_path_factory, photographs):
    """Sixty features, one of them unscored, with a shift curve and results of each kind."""
    path = tmp_path_factory.mktemp("figures") / "run"
    random = np.random.default_rng(0)
    cds = [None, *random.gamma(2.0, 0.08, FEATURES - 1).clip(0, 1).tolist()]
    columns = {feature: {"effective_area": float(area)} for feature, area in enumerate(random.uniform(1, 12, FEATURES))}
    for feature, name in KINDS.items():
        columns[feature] |= {"scope_class": name}
    maps = {(7, 0, 0): {(3, 3): 2.0}, (7, 0, 1): {(1, 1): 2.0}}
    run = fake_run(path, cds, columns=columns, maps=maps, curve=(1, 2, 3), source=str(photographs))
    probe = [
        {"site": site, "name": name, "draw": draw, "metric": "top-1", "features": 5, "mass": 0.1, "score": score}
        | {"difference": difference, "difference_lower": low, "difference_upper": high}
        for site, name, draw, score, difference, low, high in SCORES
    ]
    (path / "probes" / "colours").mkdir(parents=True)
    pl.DataFrame(probe).write_parquet(path / "probes" / "colours" / "variants.parquet")
    write_json(path / "probes" / "colours" / "probe.json", PROBE)
    zeroshot = [
        {"name": "untouched", "accuracy": 0.5},
        {"name": "minus global", "accuracy": 0.4, "accuracy_change": -0.1}
        | {"accuracy_change_ci_lower": -0.2, "accuracy_change_ci_upper": -0.05},
    ]
    write_table(path / "zeroshot" / "zeroshot.parquet", table(zeroshot, VARIANTS), VARIANTS)
    write_json(
        path / "zeroshot" / "zeroshot.json",
        {
            "images": {"source": "some/val"},
            "read": 100,
            "labelled": True,
            "classes": {"names": ["cat", "dog"]},
            "notes": [],
        },
    )
    steps = [{"test": 0.9}]
    steps += [
        {"end": end, "share": share, "match": match, "draw": draw, "test": 0.9 - share * loss}
        for end, loss in (("top", 0.1), ("bottom", 0.6))
        for share in (0.2, 0.5)
        for match, draw in ((None, None), ("size", 1), ("size", 2))
    ]
    write_table(path / "selections" / "colours" / "steps.parquet", table(steps, STEPS), STEPS)
    write_json(
        path / "selections" / "colours" / "selection.json",
        {"task": "classification", "metric": "top-1", "selection": {"column": "cds"}},
    )
    return run


@pytest.fixture(scope="session")
def bare(tmp_path_factory):
    """A run at one shift, without results, whose photographs are gone and whose features have no score."""
    return fake_run(tmp_path_factory.mktemp("bare") / "run", [None, None], source="gone/photographs/of/mine")
