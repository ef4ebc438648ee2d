"""The variants of a table."""

import numpy as np
import pytest

from infoscope.analyses.removal.config import RemovalConfig
from infoscope.analyses.removal.groups import FeatureGroup
from infoscope.analyses.removal.ladder import Ladder, LadderSet
from infoscope.analyses.removal.variants import plan_variants
from infoscope.errors import InfoscopeError

MASS = np.arange(40.0)
HIGH = FeatureGroup("high", "list", np.arange(30, 40, dtype=np.uint32))
LOW = FeatureGroup("low", "list", np.arange(1, 6, dtype=np.uint32))


def test_rows_come_site_by_site_and_group_by_group():
    planned = plan_variants([HIGH, LOW], MASS, RemovalConfig(sites=("site", "rerun"), random_draws=2))
    per_site = ["untouched", "reconstruction"]
    for name in ("high", "low"):
        per_site += [f"minus {name}", *[f"minus random of equal size as {name}"] * 2]
        per_site += [f"minus random of equal mass as {name}"] * 2
    assert [variant.name for variant in planned] == per_site * 2
    assert [variant.site for variant in planned] == ["site"] * len(per_site) + ["rerun"] * len(per_site)
    assert [variant.draw for variant in planned[2:7]] == [None, 1, 2, 1, 2]
    # The same random groups at both sites, so that the sites can be compared.
    for one, other in zip(planned[: len(per_site)], planned[len(per_site) :], strict=True):
        assert (one.group is None) == (other.group is None)
        assert one.group is None or one.group.features.tolist() == other.group.features.tolist()


def test_random_groups_match_in_size_and_in_mass():
    planned = plan_variants([HIGH], MASS, RemovalConfig(random_draws=4))
    sizes = [variant for variant in planned if "equal size" in variant.name]
    masses = [variant for variant in planned if "equal mass" in variant.name]
    assert [len(variant.group.features) for variant in sizes] == [10] * 4
    assert len({tuple(variant.group.features) for variant in sizes}) == 4
    for variant in masses:
        assert abs(MASS[variant.group.features].sum() - MASS[HIGH.features].sum()) <= 20


def test_method_and_replacement_are_those_asked_for_but_for_the_reconstruction():
    config = RemovalConfig(method="reconstruct", replacement="mean", random_draws=1)
    untouched, reconstruction, *minus = plan_variants([HIGH], MASS, config)
    assert not untouched.edited
    assert (reconstruction.method, reconstruction.replacement) == ("reconstruct", "zero")
    assert {(variant.method, variant.replacement) for variant in minus} == {("reconstruct", "mean")}
    without = plan_variants([HIGH], MASS, config, reconstruction=False)
    assert [variant.name for variant in without] == ["untouched", *[variant.name for variant in minus]]


def test_no_draws_need_no_mass():
    assert len(plan_variants([HIGH], np.zeros(40), RemovalConfig(random_draws=0))) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sites": ()}, "name rerun, site or both"),
        ({"sites": ("site", "site")}, "each once"),
        ({"random_draws": -1}, "--random-draws -1"),
        ({"random_seed": -1}, "--random-seed -1"),
        ({"ladder": True, "steps": (0.1, 0.05)}, "--steps 0.1 0.05: give shares"),
        ({"ladder": True, "steps": ()}, "--steps : give shares"),
        ({"ladder": True, "steps": (0.5, 1.5)}, "--steps 0.5 1.5: give shares"),
        ({"steps": (0.1,)}, "--steps belongs to --ladder"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(InfoscopeError, match=message):
        RemovalConfig(**options)


def test_a_group_given_twice_and_one_without_activity_are_refused():
    with pytest.raises(InfoscopeError, match="two variants are called minus high"):
        plan_variants([HIGH, HIGH], MASS, RemovalConfig(random_draws=0))
    with pytest.raises(InfoscopeError, match="nothing to match"):
        plan_variants([HIGH], np.zeros(40), RemovalConfig())


def test_the_sets_of_a_ladder_follow_their_group_at_each_site():
    features = [np.uint32([30, 31]), np.uint32([33]), np.uint32([1, 2]), np.uint32([3])]
    sides = [("subset", 1), ("subset", 2), ("disjoint", 1), ("disjoint", 2)]
    sets = [LadderSet(0.05, side, draw, own, 1.0) for (side, draw), own in zip(sides, features, strict=True)]
    ladder = Ladder(HIGH, tuple(sets), ())
    config = RemovalConfig(sites=("rerun", "site"), replacement="mean", random_draws=1)
    planned = plan_variants([LOW, HIGH], MASS, config, ladders=[ladder])
    assert len(planned) == 2 * (2 + 2 * 3 + 4)
    of_ladder = [variant for variant in planned if variant.side is not None]
    assert [variant.label for variant in of_ladder[:4]] == [
        "minus 5% subset of high, draw 1",
        "minus 5% subset of high, draw 2",
        "minus 5% disjoint from high, draw 1",
        "minus 5% disjoint from high, draw 2",
    ]
    assert [variant.site for variant in of_ladder] == ["rerun"] * 4 + ["site"] * 4
    assert {variant.replacement for variant in of_ladder} == {"mean"}
    assert [variant.overlap for variant in of_ladder[:4]] == [0.2, 0.1, 0.0, 0.0]
    first = of_ladder[0].control_columns
    assert first == {"control_of": "high", "overlap": 0.2, "step": 0.05, "side": "subset"}
    size = next(variant for variant in planned if variant.name == "minus random of equal size as high")
    assert size.control_columns["control_of"] == "high"
    assert size.overlap == np.isin(HIGH.features, size.group.features).mean()
    assert set(planned[0].control_columns.values()) == {None}
