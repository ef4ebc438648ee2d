"""Ladders come back from disk as they were drawn, and are not drawn again."""

import numpy as np
import pytest

from infoscope.analyses.removal.groups import FeatureGroup
from infoscope.analyses.removal.kept_ladders import keep_ladders
from infoscope.analyses.removal.ladder import Ladder, LadderSet, NoFairControl
from infoscope.errors import InfoscopeError

GROUPS = [FeatureGroup(name, "list", np.arange(9, dtype=np.uint32)) for name in ("first", "second")]


def drawn():
    sets = tuple(
        LadderSet(0.02, side, draw, np.uint32([draw, 7]), 0.1 + draw)
        for side in ("subset", "disjoint")
        for draw in (1, 2)
    )
    unfair = (NoFairControl("first", 0.4, "disjoint", 0.1 / 3, 0),)
    return [Ladder(GROUPS[0], sets, unfair), Ladder(GROUPS[1], (), ())]


def described(ladder):
    sets = [(each.step, each.side, each.draw, each.features.tolist(), each.energy) for each in ladder.sets]
    return ladder.group.name, sets, ladder.unfair


def test_they_are_drawn_once(tmp_path):
    path = tmp_path / "partials" / "ladders.json"
    first = keep_ladders(path, GROUPS, drawn)
    again = keep_ladders(path, GROUPS, lambda: pytest.fail("they are there"))
    assert [described(ladder) for ladder in again] == [described(ladder) for ladder in first]
    assert {each.features.dtype for each in again[0].sets} == {np.dtype("u4")}


def test_without_ladders_there_is_no_file(tmp_path):
    assert keep_ladders(tmp_path / "ladders.json", GROUPS, list) == []
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "ladders.json"
    keep_ladders(path, GROUPS, drawn)
    with pytest.raises(InfoscopeError, match="holds the ladders of 2 groups, not 1"):
        keep_ladders(path, GROUPS[:1], drawn)
    path.write_text(path.read_text().replace("subset", "subsets"))
    with pytest.raises(InfoscopeError, match=r"ladders\.json"):
        keep_ladders(path, GROUPS, drawn)
