"""The ranking's shards, put together as they come, so that neither memory nor disk grows with the images."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt64

from infoscope.errors import InfoscopeError
from infoscope.measurement.map_sets import MapParts
from infoscope.measurement.ranking import CONTENTS, Ranked
from infoscope.runtime.partials import Arrays, Part, Partials

# Our choice. The file of one shard is as large as that of all before it put together: so many are there at most, and
# writing one more is little beside the passes over sixteen shards.
SHARDS_TO_FOLD = 16


# The partials of a ranking that know of images: shards of it, and what they were folded to.
_RANKED = re.compile(r"(?:ranking|crops)-(?:folded|(?P<first>\d+))-\d+")


class RankingFold:
    """What is known of the images up to one of them; goes on where an earlier fold in the same partials ended.

    Args:
        partials: where shards are kept.
        stage: what the names of the ranking's shards begin with.
        groups: features whose maps are brought together at a time.
        cells: patches in a map.

    Attributes:
        ranked: what is known, without maps; None at first.
        stop: how many images it is of.
        parts: with ``rank_view="crops"`` the maps of strongest images, of this ranking and of those before it.
    """

    def __init__(self, partials: Partials, stage: str, groups: Sequence[range], cells: int):
        self.ranked: Ranked | None = None
        self.stop = 0
        self.parts: list[Part] = []
        self._partials = partials
        self._stage = stage
        self._groups = groups
        self._cells = cells
        self._unfolded: list[str] = []
        self._go_on()

    def shard_name(self, shard: range) -> str:
        """The name of a shard's partial."""
        return f"{self._stage}-{shard.start:09}-{shard.stop:09}"

    def take(self, shard: range, arrays: Arrays) -> None:
        """Take in the next shard, which is kept already."""
        part = Ranked.from_arrays(arrays)
        name = self.shard_name(shard)
        if part.maps is not None:
            self.parts.append(self._partials.part(name, part.maps.arrays()))
        self._know(shard.stop, part if self.ranked is None else self.ranked.merge(part))
        self._unfolded.append(name)
        if len(self._unfolded) == SHARDS_TO_FOLD:
            self._fold()

    def _know(self, stop: int, ranked: Ranked) -> None:
        self.stop, self.ranked = stop, ranked.without_maps()

    def _fold(self) -> None:
        """Keep all that is known in one file, and the maps in one for each group of features, instead of the shards."""
        assert self.ranked is not None
        name = self._folded_name(self.stop)
        if self.parts:
            maps, parts = MapParts(self.parts, self._groups, self._cells), []
            for group in range(len(self._groups)):
                arrays = maps.maps(group, self.ranked.ranking).arrays()
                self._partials.put(_group_name(name, group), arrays)
                parts.append(self._partials.part(_group_name(name, group), arrays))
            self.parts = parts
        # Last: from now on it stands for the rest.
        self._partials.put(name, self.ranked.arrays())
        self._unfolded = []
        self._remove_stale()

    def _go_on(self) -> None:
        """From the fold that went furthest, if there is one."""
        pattern = re.compile(re.escape(self._folded_name(0)).replace("000000000", r"(\d+)"))
        folded = max(
            (int(found[1]) for name in self._partials.names() if (found := pattern.fullmatch(name))), default=0
        )
        if not folded:
            return
        name = self._folded_name(folded)
        self._know(folded, Ranked.from_arrays(self._partials.read(name)))
        for group in range(len(self._groups)):
            if _group_name(name, group) in self._partials:
                self.parts.append(self._partials.part(_group_name(name, group), {}))
        self._remove_stale()

    def _remove_stale(self) -> None:
        """Shards and folds of images that a later fold covers."""
        current = self._folded_name(self.stop)
        shard = re.compile(re.escape(self._stage) + r"-\d+-(\d+)")
        for name in list(self._partials.names()):
            covered = (found := shard.fullmatch(name)) is not None and int(found[1]) <= self.stop
            if covered or (name.startswith(f"{self._stage}-folded-") and not name.startswith(current)):
                self._partials.remove(name)

    def _folded_name(self, stop: int) -> str:
        return f"{self._stage}-folded-{stop:09}"


def ranked_contents(partials: Partials, images: int) -> UInt64[np.ndarray, " image"]:
    """What the images were like that an earlier start ranked; 0 for those it did not (see `Watched`).

    Args:
        partials: where it kept its shards.
        images: how many images there are.
    """
    contents = np.zeros(images, np.uint64)
    for name in partials.names():
        if found := _RANKED.fullmatch(name):
            try:
                known = partials.part(name, {}).rows(CONTENTS)
            except InfoscopeError:  # from before contents were kept, or damaged: not known
                continue
            first = int(found["first"] or 0)
            contents[first : first + len(known)] = known
    return contents


def _group_name(folded: str, group: int) -> str:
    return f"{folded}-features-{group:06}"
