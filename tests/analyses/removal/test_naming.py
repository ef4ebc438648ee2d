"""Groups by every way of naming them, on a run of a dozen features."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from infoscope.analyses.removal.groups import feature_groups, named_group, quantile_group
from infoscope.errors import InfoscopeError
from infoscope.runtime.run import Run
from infoscope.runtime.seal import write_sealed

CDS = [0.1, 0.3, None, 0.2, 0.5, 0.2, 0.9, None, 0.05, 0.4]
CLASS = ["local", "global", "undefined", "local", "global", "local", "global", "undefined", "diffuse", "position-bound"]


def make_run(threshold: float | None = 0.3) -> Run:
    scope = pl.DataFrame(
        {
            "feature": pl.Series(range(10), dtype=pl.UInt32),
            "cds": CDS,
            "pairs": pl.Series([9, 8, 7, 6, 5, 4, 3, 2, 1, 0], dtype=pl.UInt32),
            "density": [1e-3, 2e-3, 0.0, 5e-4, 1e-3, 1e-3, 1e-2, 0.0, 1.0, 1e-4],
            "scope_class": CLASS,
        }
    )
    run = Run.__new__(Run)
    # As a finished run would hold them once its tables have been read.
    vars(run).update(path=Path("my-run"), scope=scope, partition={"threshold": threshold})
    return run


@pytest.mark.parametrize(
    ("text", "name", "kind", "features"),
    [
        ("high-CDS", "high-CDS", "partition", [4, 6, 9]),
        ("low-cds", "low-CDS", "partition", [0, 1, 3, 5, 8]),
        ("unscored", "unscored", "partition", [2, 7]),
        ("global", "global", "class", [1, 4, 6]),
        ("Position-Bound", "position-bound", "class", [9]),
        ("cds > 0.3", "cds > 0.3", "rule", [4, 6, 9]),
        ("cds>=0.3", "cds >= 0.3", "rule", [1, 4, 6, 9]),
        ("cds < .2", "cds < .2", "rule", [0, 8]),
        ("cds <= 0.2", "cds <= 0.2", "rule", [0, 3, 5, 8]),
        ("cds > -1", "cds > -1", "rule", [0, 1, 3, 4, 5, 6, 8, 9]),
        ("pairs >= 8", "pairs >= 8", "rule", [0, 1]),
        ("density >= 1e-2", "density >= 1e-2", "rule", [6, 8]),
        ("density < 1e+0", "density < 1e+0", "rule", [0, 1, 2, 3, 4, 5, 6, 7, 9]),
        # In order: 8 (0.05), 0, 3, 5 (0.2 both), 1, 9, 4, 6 (0.9); two have no score.
        ("cds@0.75-1", "cds@0.75-1", "rule", [4, 6]),
        ("cds @ 0 - 0.375", "cds@0-0.375", "rule", [0, 3, 8]),
        ("cds@3.75e-1-5e-1", "cds@0.375-0.5", "rule", [5]),
        ("global + cds < 0.1", "global + cds < 0.1", "rule", [1, 4, 6, 8]),
        ("local+diffuse+density>=1e+0", "local + diffuse + density >= 1e+0", "rule", [0, 3, 5, 8]),
    ],
)
def test_every_way(text, name, kind, features):
    group = named_group(make_run(), text)
    assert (group.name, group.kind, group.features.tolist()) == (name, kind, features)
    assert group.features.dtype == np.uint32


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "high",
            r"'high' is not a feature group: choose high-CDS, low-CDS, unscored, a class, on-outliers, 'cds > 0.2', ",
        ),
        ("", "'' is not a feature group"),
        ("global + ", "'' is not a feature group"),
        ("globallist:a", "'globallist:a' is not a feature group"),
        ("cds > 0.2.1", "is not a feature group"),
        ("cds > high", "is not a feature group"),
        ("cds > 0.2 or more", "is not a feature group"),
        ("norm > 2", "my-run has no number column 'norm': choose cds, pairs, density"),
        ("scope_class@0-1", "has no number column 'scope_class'"),
        ("feature < 5", "has no number column 'feature'"),
        ("cds@0.9-0.1", "quantiles 0.9 to 0.1 of cds: give two from 0 to 1, the lower first"),
        ("cds@0.5-1.5", "quantiles 0.5 to 1.5"),
        ("cds@-0.5-0.5", "quantiles -0.5 to 0.5"),
        ("cds > 7", "--remove 'cds > 7' names no feature of my-run: choose another group"),
        ("cds@0-0.01", "names no feature"),
    ],
)
def test_what_names_no_group(text, message):
    with pytest.raises(InfoscopeError, match=message):
        named_group(make_run(), text)


def test_a_class_without_features_is_known_and_empty():
    run = make_run()
    vars(run)["scope"] = run.scope.with_columns(scope_class=pl.lit("local"))
    with pytest.raises(InfoscopeError, match="'global' names no feature"):
        named_group(run, "global")
    assert named_group(run, "global + cds > 0.8").features.tolist() == [6]


@pytest.mark.parametrize("name", ["mixed", "unsettled"])
def test_the_classes_by_posterior_are_groups(name):
    run = make_run()
    with pytest.raises(InfoscopeError, match=f"'{name}' names no feature"):
        named_group(run, name)
    vars(run)["scope"] = run.scope.with_columns(scope_class=pl.Series([*CLASS[:8], name, name]))
    group = named_group(run, name)
    assert (group.kind, group.features.tolist()) == ("class", [8, 9])


def looked_for_outliers(folder, presence="outlier", groups=None):
    """A run in whose directory `infoscope outliers` has written what it found."""
    (folder / "outliers").mkdir()
    write_sealed(folder / "outliers" / "outliers.json", {"presence": {"kind": presence}, "groups": groups})
    run = make_run()
    vars(run)["path"] = folder
    return run


def test_the_features_of_outlier_tokens_are_those_that_were_found(tmp_path):
    run = looked_for_outliers(tmp_path, groups={"on_outliers": {"features": [6, 2]}})
    group = named_group(run, "On-Outliers")
    assert (group.name, group.kind, group.features.tolist()) == ("on-outliers", "outliers", [2, 6])
    assert named_group(run, "on-outliers + diffuse").features.tolist() == [2, 6, 8]


@pytest.mark.parametrize(
    ("presence", "groups", "message"),
    [
        ("tail", {"on_outliers": {"features": [6]}}, "has no outlier tokens at its block"),
        ("outlier", None, "does not say which features are of outlier tokens; run `infoscope outliers .*` again"),
        ("outlier", {"on_outliers": {"features": ["6"]}}, "does not say which features"),
        ("outlier", {"on_outliers": {"features": [10]}}, "names feature 10, and .* has features 0 to 9"),
        ("outlier", {"on_outliers": {"features": []}}, "'on-outliers' names no feature"),
    ],
)
def test_features_of_outlier_tokens_that_were_not_found(presence, groups, message, tmp_path):
    run = looked_for_outliers(tmp_path, presence, groups)
    with pytest.raises(InfoscopeError, match=message):
        named_group(run, "on-outliers")


def test_features_of_outlier_tokens_that_were_not_looked_for_or_are_damaged(tmp_path):
    run = make_run()
    with pytest.raises(InfoscopeError, match=r"no outlier tokens have been looked for in my-run: run `infoscope outl"):
        named_group(run, "on-outliers")
    run = looked_for_outliers(tmp_path, groups={"on_outliers": {"features": [6]}})
    file = tmp_path / "outliers" / "outliers.json"
    file.write_text(file.read_text().replace("6", "7"))
    with pytest.raises(InfoscopeError, match="run `infoscope outliers"):
        named_group(run, "on-outliers")


def test_without_a_threshold_nothing_is_high_or_low():
    run = make_run(threshold=None)
    assert [(group.name, len(group.features)) for group in feature_groups(run)[:3]] == [
        ("high-CDS", 0),
        ("low-CDS", 0),
        ("unscored", 10),
    ]
    with pytest.raises(InfoscopeError, match="'high-CDS' names no feature"):
        named_group(run, "high-CDS")


def test_quantiles_next_to_each_other_share_the_features_out():
    run = make_run()
    for parts in (2, 3, 7):
        edges = np.linspace(0, 1, parts + 1)
        groups = [quantile_group(run, "pairs", low, high).features for low, high in pairwise(edges)]
        assert sorted(np.concatenate(groups)) == list(range(10))
        assert max(map(len, groups)) - min(map(len, groups)) <= 1


@pytest.mark.parametrize("text", ["[7, 0, 3, 7]", "7\n0\n3\n", " 7 0\t3", '["7", 0, 3]'])
def test_lists(tmp_path, text):
    file = tmp_path / "mine + yours.txt"
    file.write_text(text)
    group = named_group(make_run(), f"list:{file}")
    assert (group.name, group.kind, group.features.tolist()) == (f"list:{file}", "list", [0, 3, 7])
    both = named_group(make_run(), f"diffuse + list:{file}")
    assert (both.kind, both.features.tolist()) == ("rule", [0, 3, 7, 8])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\ntwo\n", "is not a list of feature numbers: write one on each line, or a JSON list"),
        ("[1.5]", "is not a list of feature numbers"),
        ("[1, [2]]", "is not a list of feature numbers"),
        ("[1, 2", "is not a list of feature numbers"),
        ("[true]", "is not a list of feature numbers"),
        ("1, 2", "is not a list of feature numbers"),
        ("3\n10\n", "names feature 10, and my-run has features 0 to 9"),
        ("[-1]", "names feature -1"),
        (json.dumps([2**40]), "names feature 1099511627776"),
        ("", "names no feature of my-run"),
    ],
)
def test_lists_that_are_none(tmp_path, text, message):
    file = tmp_path / "list.txt"
    file.write_text(text)
    with pytest.raises(InfoscopeError, match=message):
        named_group(make_run(), f"list:{file}")


def test_lists_that_cannot_be_read(tmp_path):
    with pytest.raises(InfoscopeError, match=r"cannot read the list of features .*absent.txt"):
        named_group(make_run(), f"list:{tmp_path}/absent.txt")
    with pytest.raises(InfoscopeError, match="cannot read the list of features"):
        named_group(make_run(), f"list:{tmp_path}")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff")
    with pytest.raises(InfoscopeError, match="cannot read the list of features"):
        named_group(make_run(), f"list:{tmp_path}/image.png")
