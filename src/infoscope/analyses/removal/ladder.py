"""The ladder: random sets of equal removed energy, inside a feature group and outside of it (method, section 7).

A random group of equal size or activation mass does not take as much out of a token as the group does, and energy does
not add up, so that there is no matching the whole of a dominant group. What can be compared are parts of the group and
sets without any of its features that take out equally much, at several steps.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int64, UInt32

from infoscope.analyses.removal.config import DRAWS, STEPS
from infoscope.analyses.removal.groups import FeatureGroup
from infoscope.analyses.removal.removed import RemovedCodes
from infoscope.options import Side

# Method, section 7: how near the energy of sets is to the wanted one.
TOLERANCE = 0.02
# Our choices: orders that are tried for a set; moves, and moves in a row without success, after which one is given up.
ORDERS = 4
MOVES = 5000
PATIENCE = 200
# Fewer sets have no spread.
LEAST_SETS = 2


@dataclass(frozen=True)
class LadderSet:
    """A random set of features of a wanted removed energy.

    Attributes:
        step: the wanted energy, as a share of the tokens' mean square about their mean.
        side: whether it is a subset of the group or disjoint from it.
        draw: its number among the sets of its step and side, from 1.
        features: the features, ascending.
        energy: the energy that it takes out.
    """

    step: float
    side: Side
    draw: int
    features: UInt32[np.ndarray, " feature"]
    energy: float


@dataclass(frozen=True)
class NoFairControl:
    """A step that one side cannot reach, so that the group is not compared there.

    Attributes:
        group: the group's name.
        step: the wanted energy, as a share of the tokens' mean square about their mean.
        side: which side cannot reach it: subsets of the group, or sets disjoint from it.
        reached: the share nearest to it that was reached.
        sets: how many different sets reached the step all the same; two would be needed.

    Example:
        >>> print(NoFairControl("global", 0.002, "disjoint", 0.021, 0))
        no fair control at 0.2%: sets disjoint from global come no nearer than 2.1%
    """

    group: str
    step: float
    side: Side
    reached: float
    sets: int

    def __str__(self) -> str:
        who = f"subsets of {self.group}" if self.side == "subset" else f"sets disjoint from {self.group}"
        what = f"come no nearer than {self.reached:.1%}" if not self.sets else "reach it with one set alone"
        return f"no fair control at {100 * self.step:g}%: {who} {what}"


@dataclass(frozen=True)
class Ladder:
    """The sets that a group is compared by.

    Attributes:
        group: the group.
        sets: the sets of the steps that both sides reach, step by step, subsets before disjoint ones.
        unfair: the other steps, once for each side that does not reach them.
    """

    group: FeatureGroup
    sets: tuple[LadderSet, ...]
    unfair: tuple[NoFairControl, ...]


def build_ladder(
    removed: RemovedCodes,
    group: FeatureGroup,
    mean_square: float,
    *,
    seed: int = 0,
    steps: Sequence[float] = STEPS,
    draws: int = DRAWS,
) -> Ladder:
    """Draw the sets of each step: subsets of a group, and sets disjoint from it, of equal removed energy.

    A set is grown in random order: a feature is added unless the set would take out too much. Where no order gets near
    enough, features are swapped at random as long as that brings the set nearer. A set depends on the seed, the group,
    the step and the sets drawn before it, not on how many follow. Features that take nothing out of the sample are in
    no set.

    Args:
        removed: what each feature's removal takes out of a sample of tokens, for the edit in use.
        group: the group.
        mean_square: mean squared distance of the sample's tokens from their mean.
        seed: seed of the draws.
        steps: shares of ``mean_square``.
        draws: sets to a step and side.

    Example:
        >>> tokens, features = 400, 80
        >>> random = np.random.default_rng(0)
        >>> codes = random.random((tokens, features)) * (random.random((tokens, features)) < 0.1)
        >>> start = np.concatenate([[0], np.cumsum((codes > 0).sum(1))])
        >>> decoder = np.eye(features, dtype=np.float32)
        >>> removed = RemovedCodes(
        ...     start, np.nonzero(codes)[1].astype(np.int32), codes[codes > 0], decoder, np.ones(tokens), np.zeros(80)
        ... )
        >>> group = FeatureGroup("first half", "list", np.arange(40, dtype=np.uint32))
        >>> ladder = build_ladder(removed, group, removed.energy(np.arange(80)), steps=(0.2, 0.9), draws=2)
        >>> [(one.side, one.draw, bool(abs(one.energy / removed.energy(np.arange(80)) / 0.2 - 1) <= 0.02))
        ...     for one in ladder.sets]
        [('subset', 1, True), ('subset', 2, True), ('disjoint', 1, True), ('disjoint', 2, True)]
        >>> [str(unfair).partition(":")[0] for unfair in ladder.unfair]
        ['no fair control at 90%', 'no fair control at 90%']
    """
    taken = _Contributions(removed)
    inside = np.isin(taken.contributing, group.features)
    candidates: dict[Side, np.ndarray] = {
        "subset": taken.contributing[inside],
        "disjoint": taken.contributing[~inside],
    }
    sets: list[LadderSet] = []
    unfair: list[NoFairControl] = []
    for step in steps:
        wanted = step * mean_square
        drawn: list[LadderSet] = []
        missed: list[NoFairControl] = []
        for side, features in candidates.items():
            own_seed = [seed, round(1e6 * step), side == "subset", _key(group)]
            # Where the other side misses the step no set is used, and two tell whether this side does as well.
            count = min(draws, LEAST_SETS) if missed else draws
            found, nearest = _draw_sets(taken, features, wanted, count, own_seed)
            if len(found) < min(LEAST_SETS, draws):
                share = nearest / mean_square if mean_square else 0.0
                missed.append(NoFairControl(group.name, step, side, share, len(found)))
            drawn += [
                LadderSet(step, side, draw, features, removed.energy(features))
                for draw, features in enumerate(found, 1)
            ]
        sets += [] if missed else drawn
        unfair += missed
    return Ladder(group, tuple(sets), tuple(unfair))


def _key(group: FeatureGroup) -> int:
    """So that draws for two groups are independent."""
    return zlib.crc32(group.features.tobytes())


class _Contributions:
    """`RemovedCodes` by feature, which is how sets are grown.

    Args:
        removed: the same by token.
    """

    def __init__(self, removed: RemovedCodes):
        self.removed = removed
        order = np.argsort(removed.feature, kind="stable")
        self._token = np.repeat(np.arange(len(removed)), np.diff(removed.start))[order]
        self._value = removed.value[order]
        counts = np.bincount(removed.feature, minlength=len(removed.decoder))
        self._start = np.concatenate([[0], np.cumsum(counts)])
        self.scale_square = float(removed.scale @ removed.scale)
        self.has_means = bool(removed.mean.any())

    # Both are called for every feature that is tried, which shapes that are checked under pytest would make slow.

    def of(self, feature: int) -> tuple[np.ndarray, np.ndarray]:
        """The tokens that a feature is active on, and what is taken out there in units of its decoder row."""
        entries = slice(self._start[feature], self._start[feature + 1])
        return self._token[entries], self._value[entries]

    def row(self, feature: int) -> np.ndarray:
        """A feature's decoder row."""
        row: np.ndarray = self.removed.decoder[feature].astype(np.float64)
        return row

    @cached_property
    def contributing(self) -> Int64[np.ndarray, " feature"]:
        """The features that take anything out of the sample."""
        active = (np.diff(self._start) > 0) | (self.removed.mean != 0)
        found: np.ndarray = np.flatnonzero(active & self.removed.decoder.any(1))
        return found


class _Growing:
    """A set of features and the vectors that its removal takes out, kept up as features come and go.

    Energy does not add up, but a feature changes the vectors only where it is active. The mean codes that replace
    removed ones are the exception: they reach every token. What they add up to is one vector, kept by itself.
    """

    def __init__(self, taken: _Contributions):
        self._taken = taken
        removed = taken.removed
        self.members: list[int] = []
        self._vectors = np.zeros((len(removed), removed.decoder.shape[1]))  # without the means
        self._mean = np.zeros(removed.decoder.shape[1])
        self._scaled = np.zeros(removed.decoder.shape[1])  # sum over tokens of scale times vector
        self._square = 0.0  # sum over tokens of the squared lengths, without the means

    @property
    def energy(self) -> float:
        """Mean squared length of the vectors."""
        return self._with_means(self._square, self._scaled, self._mean)

    def energy_after(self, changes: Iterable[tuple[int, int]]) -> float:
        """The energy if features came (+1) or went (-1), one after the other.

        Args:
            changes: at most two of them.
        """
        square, scaled, mean = self._square, self._scaled, self._mean
        before: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        for feature, sign in changes:
            token, value = self._taken.of(feature)
            row, value = self._taken.row(feature), sign * value
            along = self._vectors[token] @ row
            if before is not None:
                # The vectors are not changed by the first feature, so where both are active it is added here.
                first_token, first_value, first_row = before
                shared, own, other = np.intersect1d(token, first_token, assume_unique=True, return_indices=True)
                if len(shared):
                    along[own] += first_value[other] * float(first_row @ row)
            square += float(2 * value @ along + (value @ value) * (row @ row))
            if self._taken.has_means:
                scaled = scaled + float(value @ self._taken.removed.scale[token]) * row
                mean = mean + sign * self._taken.removed.mean[feature] * row
            before = token, value, row
        return self._with_means(square, scaled, mean)

    def change(self, feature: int, sign: int) -> None:
        """Let a feature come (+1) or go (-1)."""
        token, value = self._taken.of(feature)
        row, value = self._taken.row(feature), sign * value
        before = self._vectors[token]
        self._square += float(2 * value @ (before @ row) + (value @ value) * (row @ row))
        self._vectors[token] = before + np.outer(value, row)
        if self._taken.has_means:
            self._scaled = self._scaled + float(value @ self._taken.removed.scale[token]) * row
            self._mean = self._mean + sign * self._taken.removed.mean[feature] * row
        if sign > 0:
            self.members.append(feature)
        else:
            self.members.remove(feature)

    def _with_means(self, square: float, scaled: np.ndarray, mean: np.ndarray) -> float:
        total = square - 2 * float(mean @ scaled) + float(mean @ mean) * self._taken.scale_square
        return total / len(self._taken.removed)


def _draw_sets(
    taken: _Contributions, candidates: Int64[np.ndarray, " _"], wanted: float, draws: int, seed: list[int]
) -> tuple[list[UInt32[np.ndarray, " _"]], float]:
    """Different sets within the tolerance of the wanted energy, and the energy nearest to it that was reached."""
    found: list[np.ndarray] = []
    known: set[bytes] = set()
    nearest = 0.0
    for draw in range(draws):
        for order in range(ORDERS):
            # No draw depends on how many there are, nor on how often another was tried.
            random = np.random.default_rng([*seed, draw, order])
            grown, near = _grow(taken, random.permutation(candidates), wanted, random)
            if abs(near - wanted) < abs(nearest - wanted):
                nearest = near
            if grown is None:
                continue
            features = np.sort(np.array(grown)).astype(np.uint32)
            if features.tobytes() not in known:
                known.add(features.tobytes())
                found.append(features)
                break
        else:
            # What several orders do not find, further draws hardly would.
            break
    return found, nearest


def _grow(
    taken: _Contributions, order: Int64[np.ndarray, " feature"], wanted: float, random: np.random.Generator
) -> tuple[list[int] | None, float]:
    """Features whose energy is within the tolerance of the wanted one; None if there are none. And the nearest energy.

    The tolerance is kept with a little to spare, since the vectors are summed again, in another order, for the tables.
    """
    low, high = wanted * (1 - TOLERANCE * 0.999), wanted * (1 + TOLERANCE * 0.999)
    growing = _Growing(taken)
    nearest = 0.0
    left: list[int] = []
    for feature in order.tolist():
        after = growing.energy_after([(feature, 1)])
        if abs(after - wanted) < abs(nearest - wanted):
            nearest = after
        if after > high:
            left.append(feature)
            continue
        growing.change(feature, 1)
        if after >= low:
            return growing.members, nearest
    energy = growing.energy
    failures = 0
    for _ in range(MOVES if order.size else 0):
        changes = _random_move(growing.members, left, random)
        after = growing.energy_after(changes)
        if abs(after - wanted) >= abs(energy - wanted):
            failures += 1
            if failures == PATIENCE:
                break
            continue
        failures, energy = 0, after
        for feature, sign in changes:
            growing.change(feature, sign)
            if sign > 0:
                left.remove(feature)
            else:
                left.append(feature)
        if abs(energy - wanted) < abs(nearest - wanted):
            nearest = energy
        if low <= energy <= high and growing.members:
            return growing.members, nearest
    return None, nearest


def _random_move(members: list[int], left: list[int], random: np.random.Generator) -> list[tuple[int, int]]:
    """A member that goes, a feature that comes, or both."""
    goes, comes = ([[-1]] if members else []), ([[1]] if left else [])
    kinds = goes + comes + ([[-1, 1]] if members and left else [])
    kind = kinds[int(random.integers(len(kinds)))]
    moved = []
    for sign in kind:
        choices = members if sign < 0 else left
        moved.append((choices[int(random.integers(len(choices)))], sign))
    return moved
