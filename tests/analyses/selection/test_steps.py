"""Which sets a selection tries, and which it takes."""

from unittest.mock import Mock

import numpy as np
import polars as pl
import pytest

from infoscope.analyses.probes.task import Score, Scored, Task
from infoscope.analyses.removal.config import RemovalConfig
from infoscope.analyses.selection.config import SelectConfig
from infoscope.analyses.selection.select import choose, list_steps, select_features, steps_table
from infoscope.backbones.backbone import Backbone
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.runtime.run import Run

# 20 features with a score, in no order, and 5 without.
CDS = [(7 * feature % 20) / 20 for feature in range(20)] + [None] * 5
MASS = np.linspace(1, 2, 25)


@pytest.fixture
def run(tmp_path):
    found = object.__new__(Run)  # its tables alone are asked for
    object.__setattr__(found, "path", tmp_path)
    table = pl.DataFrame(
        {"feature": np.arange(25, dtype=np.uint32), "cds": CDS, "density": MASS, "scope_class": ["local"] * 25}
    )
    object.__setattr__(found, "scope", table)
    object.__setattr__(found, "partition", {"threshold": 0.5})
    return found


@pytest.fixture
def steps(run):
    config = SelectConfig(shares=(0.1, 0.5), random_draws=2)
    return list_steps(run, MASS, config, RemovalConfig())


def test_sets_are_the_ends_of_the_column(steps):
    own = [step for step in steps if step.match is None]
    assert [(step.end, step.share) for step in own] == [
        (None, 0.0),
        ("top", 0.1),
        ("bottom", 0.1),
        ("top", 0.5),
        ("bottom", 0.5),
    ]
    value = np.array(CDS[:20])
    order = np.argsort(value)
    for step in own[1:]:
        count = round(20 * step.share)
        expected = order[-count:] if step.end == "top" else order[:count]
        assert sorted(step.variant.group.features.tolist()) == sorted(expected.tolist())


def test_each_set_has_random_ones_of_its_own(steps):
    for match in ("size", "mass"):
        beside = [step for step in steps if step.match == match]
        assert [(step.share, step.end, step.variant.draw) for step in beside] == [
            (share, end, draw) for share in (0.1, 0.5) for end in ("top", "bottom") for draw in (1, 2)
        ]
    assert len({step.variant.label for step in steps}) == len(steps)


def test_features_that_are_never_active_count_for_no_random_set(run):
    silent = MASS.copy()
    silent[np.argsort(CDS[:20])[-3:]] = 0
    found = list_steps(run, silent, SelectConfig(shares=(0.5,), random_draws=1, match=("size",)), RemovalConfig())
    size = {step.end: len(step.variant.group.features) for step in found if step.match == "size"}
    assert size == {"top": 7, "bottom": 10}


def test_what_cannot_be_tried_is_refused(run):
    with pytest.raises(InfoscopeError, match="no number column 'scope'"):
        list_steps(run, MASS, SelectConfig(column="scope"), RemovalConfig())
    with pytest.raises(InfoscopeError, match="choose larger --shares"):
        list_steps(run, MASS, SelectConfig(shares=(0.001,)), RemovalConfig())
    with pytest.raises(InfoscopeError, match="at one site"):
        list_steps(run, MASS, SelectConfig(), RemovalConfig(sites=("rerun", "site")))


def scored(steps, validation, test=None):
    scores = zip(validation, test or validation, strict=True)
    return [
        Scored(step.variant, Score({"top-1": own_test}, own, {}, per_image=(1.0, own_test)))
        for step, (own, own_test) in zip(steps, scores, strict=True)
    ]


def test_the_best_is_chosen_by_the_held_out_score_and_is_never_random(steps):
    validation = [0.9 if step.match else 0.5 for step in steps]
    test = [0.4] * len(steps)
    best = next(number for number, step in enumerate(steps) if (step.end, step.share) == ("bottom", 0.1))
    validation[best], test[best] = 0.6, 0.3
    choice = choose(steps, scored(steps, validation, test), higher_is_better=True)
    assert (choice.end, choice.share, choice.validation, choice.test) == ("bottom", 0.1, 0.6, 0.3)
    assert (choice.validation_untouched, choice.test_untouched) == (0.5, 0.4)
    assert choice.difference == pytest.approx(-0.1)
    assert len(choice.removed) == 2
    assert choice.difference_lower <= choice.difference <= choice.difference_upper


def test_of_equal_scores_that_which_removes_least_is_best(steps):
    choice = choose(steps, scored(steps, [0.5] * len(steps)), higher_is_better=True)
    assert (choice.name, choice.removed, choice.difference_lower) == ("untouched", [], None)


def test_an_error_is_best_when_it_is_low(steps):
    validation = [0.5 + step.share * (1 if step.end == "top" else -1) for step in steps]
    choice = choose(steps, scored(steps, validation), higher_is_better=False)
    assert (choice.end, choice.share) == ("bottom", 0.5)


def test_the_table_has_a_row_a_set(steps):
    table = steps_table(steps, scored(steps, [0.5] * len(steps)), MASS, "top-1")
    assert table.height == len(steps)
    first, second = table.row(0, named=True), table.row(1, named=True)
    assert (first["end"], first["features"], first["mass"]) == (None, 0, 0.0)
    top = np.argsort(np.array(CDS[:20]))[-2:]
    assert second["mass"] == pytest.approx(MASS[top].sum() / MASS.sum())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shares": ()}, "give shares above 0"),
        ({"shares": (0.2, 0.2)}, "ascending"),
        ({"shares": (0.0, 0.5)}, "above 0"),
        ({"shares": (0.5, 1.5)}, "at most 1"),
        ({"ends": ()}, "--ends"),
        ({"random_draws": -1}, "--random-draws -1"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(InfoscopeError, match=message):
        SelectConfig(**options)


def test_a_ladder_is_no_part_of_a_selection(run, tmp_path):
    with pytest.raises(InfoscopeError, match="a selection has random sets and no ladder"):
        select_features(
            run,
            *(Mock(spec=kind) for kind in (Backbone, SparseAutoencoder, Task)),
            removal=RemovalConfig(ladder=True),
            out=tmp_path,
        )
