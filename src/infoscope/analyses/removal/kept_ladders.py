"""Ladders on disk, so that an interrupted analysis resumes with the sets that it began with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from infoscope.analyses.removal.groups import FeatureGroup
from infoscope.analyses.removal.ladder import Ladder, LadderSet, NoFairControl
from infoscope.errors import InfoscopeError
from infoscope.options import Side
from infoscope.runtime.json_values import to_json
from infoscope.runtime.seal import read_sealed, write_sealed
from infoscope.runtime.typed import Count, from_json

_AGAIN = "delete it and run the same command again"


@dataclass(frozen=True)
class _Set:
    step: float
    side: Side
    draw: int
    features: list[Count]
    energy: float


@dataclass(frozen=True)
class _Ladder:
    sets: list[_Set]
    unfair: list[NoFairControl]


@dataclass(frozen=True)
class _Ladders:
    """What the file holds, in the order of the groups."""

    ladders: list[_Ladder]


def keep_ladders(path: Path, groups: Sequence[FeatureGroup], draw: Callable[[], list[Ladder]]) -> list[Ladder]:
    """The ladders that a file holds; those that are drawn, and then kept there, if there is no file.

    Energies depend on the last digits of the model's products, and so on the batch size. Drawn again, a set could have
    another feature than the one whose score is finished.

    Args:
        path: the file, of one analysis alone.
        groups: the groups, in the order in which they are drawn.
        draw: draws them; nothing is kept of an empty list.

    Raises:
        InfoscopeError: the file is damaged or cannot be written.
    """
    if not path.is_file():
        ladders = draw()
        if ladders:
            write_sealed(path, {"ladders": [_stored(ladder) for ladder in ladders]})
        return ladders
    value = read_sealed(path, _AGAIN)
    try:
        held: _Ladders = from_json(_Ladders, value, other_entries=True)
    except ValueError as error:
        raise InfoscopeError(f"{path} holds no ladders ({error}); {_AGAIN}") from error
    if len(held.ladders) != len(groups):
        raise InfoscopeError(f"{path} holds the ladders of {len(held.ladders)} groups, not {len(groups)}; {_AGAIN}")
    return [_read(group, ladder) for group, ladder in zip(groups, held.ladders, strict=True)]


def _stored(ladder: Ladder) -> dict[str, object]:
    sets = [asdict(each) | {"features": each.features.tolist()} for each in ladder.sets]
    return {"sets": sets, "unfair": to_json(ladder.unfair)}


def _read(group: FeatureGroup, ladder: _Ladder) -> Ladder:
    sets = [
        LadderSet(each.step, each.side, each.draw, np.array(each.features, np.uint32), each.energy)
        for each in ladder.sets
    ]
    return Ladder(group, tuple(sets), tuple(ladder.unfair))
