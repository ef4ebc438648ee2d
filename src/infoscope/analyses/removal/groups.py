"""Feature groups: by name, by rule, and random groups that match them."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float64, UInt32

from infoscope.errors import InfoscopeError
from infoscope.options import Match
from infoscope.runtime.json_values import read_json
from infoscope.runtime.run import Run
from infoscope.runtime.seal import read_whole
from infoscope.runtime.sheet import is_sheet, read_columns
from infoscope.runtime.text import read_text
from infoscope.scope.classes import CLASSES


@dataclass(frozen=True)
class FeatureGroup:
    """A named set of features.

    Attributes:
        name: ``high-CDS``, ``low-CDS``, ``unscored``, a scope class, ``on-outliers``, or the rule that chose the
            features.
        kind: where the group comes from: ``partition``, ``class``, ``outliers``, ``rule``, ``list`` or ``random``.
        features: the features, ascending.
    """

    name: str
    kind: str
    features: UInt32[np.ndarray, " feature"]


def feature_groups(run: Run) -> list[FeatureGroup]:
    """The groups of a run: those of its partition, then one for each scope class with features."""
    scope = run.scope
    threshold = run.partition.get("threshold")
    cds = pl.col("cds")
    # A run without a threshold has no scored features.
    scored = cds.is_not_null() if threshold is not None else pl.lit(False)
    gamma = float("nan") if threshold is None else float(threshold)
    groups = [
        FeatureGroup(name, "partition", scope.filter(which)["feature"].to_numpy())
        for name, which in (("high-CDS", scored & (cds > gamma)), ("low-CDS", scored & (cds <= gamma)))
    ]
    groups.append(FeatureGroup("unscored", "partition", scope.filter(~scored)["feature"].to_numpy()))
    by_class = [(name, scope.filter(pl.col("scope_class") == name)["feature"].to_numpy()) for name in CLASSES]
    return groups + [FeatureGroup(name, "class", features) for name, features in by_class if len(features)]


_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_COMPARED = re.compile(rf"(\w+)\s*(<=|>=|<|>)\s*{_NUMBER}")
_QUANTILES = re.compile(rf"(\w+)\s*@\s*{_NUMBER}\s*-\s*{_NUMBER}")
# A plus between groups, as opposed to that of 1e+3.
_PLUS = re.compile(r"(?<!\d[eE])\+")
_LIST = "the list of features"
_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
_COMPARISONS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}

WAYS = "high-CDS, low-CDS, unscored, a class, on-outliers, 'cds > 0.2', cds@0.9-1 (between two quantiles), or list:FILE"
# The features of outlier tokens, which `infoscope outliers` finds and writes into the run.
ON_OUTLIERS, _OUTLIERS = "on-outliers", Path("outliers") / "outliers.json"


def named_group(run: Run, text: str) -> FeatureGroup:
    """The features that a text names; texts joined by ``+`` name all of theirs.

    Args:
        run: the run that the features are from.
        text: ``high-CDS``, ``low-CDS``, ``unscored``; a scope class; ``on-outliers``, the features with most of their
            activation on outlier tokens, where `infoscope outliers` has looked for them; a number column of
            ``scope.parquet`` compared with a number, such as ``cds > 0.2``; a column between two of its quantiles, such
            as ``cds@0.9-1``; or ``list:FILE``, feature numbers as a JSON list, one a line, or in the column ``feature``
            of a ``.csv`` or ``.tsv``; everything after ``list:`` is the file's name. Features whose value in a column
            is not known are in no group made by it.

    Raises:
        InfoscopeError: it names nothing, or no feature.
    """
    before, listed, file = text.partition("list:")
    parts = [part.strip() for part in _PLUS.split(before)]
    if listed:
        parts[-1] += listed + file  # text before list: without a plus stays, and is then no group
    groups = [_single(run, part) for part in parts]
    features = np.unique(np.concatenate([group.features for group in groups]))
    if not len(features):
        raise InfoscopeError(f"--remove {text!r} names no feature of {run.path}: choose another group")
    return FeatureGroup(
        " + ".join(group.name for group in groups), groups[0].kind if len(groups) == 1 else "rule", features
    )


def _single(run: Run, text: str) -> FeatureGroup:
    known = {group.name.lower(): group for group in feature_groups(run)}
    if text.lower() in known:
        return known[text.lower()]
    if text.lower() in CLASSES:
        return FeatureGroup(text.lower(), "class", np.zeros(0, np.uint32))
    if text.lower() == ON_OUTLIERS:
        return FeatureGroup(ON_OUTLIERS, "outliers", _on_outliers(run))
    if text.startswith("list:"):
        return FeatureGroup(text, "list", _listed(run, Path(text.removeprefix("list:")).expanduser()))
    if matched := _COMPARED.fullmatch(text):
        column, sign, number = matched.groups()
        which = _COMPARISONS[sign](_column(run, column), float(number))
        return FeatureGroup(f"{column} {sign} {number}", "rule", run.scope["feature"].to_numpy()[which])
    if matched := _QUANTILES.fullmatch(text):
        column, low, high = matched.groups()
        return quantile_group(run, column, float(low), float(high))
    raise InfoscopeError(f"--remove {text!r} is not a feature group: choose {WAYS}")


def quantile_group(run: Run, column: str, low: float, high: float) -> FeatureGroup:
    """The features between two quantiles of a column, of those for which it is known.

    Features are ordered by the column, ties by feature, so that a share of 0.1 is always a tenth of them.

    Args:
        run: the run that the features are from.
        column: a number column of ``scope.parquet``.
        low: the share of the features below the group, 0 to 1.
        high: the share of the features below the group's upper end, 0 to 1.

    Raises:
        InfoscopeError: there is no such column, or the quantiles are not ascending within 0 to 1.
    """
    name = f"{column}@{low:g}-{high:g}"
    if not 0 <= low < high <= 1:
        raise InfoscopeError(f"quantiles {low:g} to {high:g} of {column}: give two from 0 to 1, the lower first")
    value = _column(run, column)
    order = np.lexsort([run.scope["feature"].to_numpy(), value])
    order = order[: int((~np.isnan(value)).sum())]  # NaN, for what is not known, is sorted last
    first, last = round(low * len(order)), round(high * len(order))
    return FeatureGroup(name, "rule", np.sort(run.scope["feature"].to_numpy()[order[first:last]]))


def _column(run: Run, name: str) -> np.ndarray:
    """A column as float64, with NaN for null."""
    numbers = [column for column, kind in run.scope.schema.items() if kind.is_numeric() and column != "feature"]
    if name not in numbers:
        raise InfoscopeError(f"{run.path} has no number column {name!r}: choose {', '.join(numbers)}")
    value: np.ndarray = run.scope[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return value


def _on_outliers(run: Run) -> np.ndarray:
    file = run.path / _OUTLIERS
    again = f"run `infoscope outliers {run.path}` again"
    if not file.is_file():
        raise InfoscopeError(
            f"no outlier tokens have been looked for in {run.path}: run `infoscope outliers {run.path}`"
        )
    record = read_whole(file, again, names=())
    if record.get("presence", {}).get("kind") != "outlier":
        raise InfoscopeError(f"{run.path} has no outlier tokens at its block, so no feature is of any; see {file}")
    groups = record.get("groups") or {}
    features = (groups.get("on_outliers") or {}).get("features")
    if not isinstance(features, list) or not all(isinstance(number, int) for number in features):
        raise InfoscopeError(f"{file} does not say which features are of outlier tokens; {again}")
    return _known(run, features, str(file), again)


def _listed(run: Run, path: Path) -> np.ndarray:
    refused = InfoscopeError(f"{path} is not a list of feature numbers: write one on each line, or a JSON list")
    text = read_text(path, _LIST)
    entries: Any = text.split()
    if text.lstrip().startswith("["):
        try:
            entries = read_json(path)
        except InfoscopeError as error:
            raise refused from error
    elif is_sheet(path) and not all(_WHOLE.fullmatch(entry) for entry in entries):
        names = ("feature", "features", "feature_id", "feature_index")
        entries = read_columns(path, {"feature": names}, what=_LIST).values["feature"]
    stated = [str(entry) for entry in entries]
    if not all(_WHOLE.fullmatch(entry) for entry in stated):
        raise refused
    return _known(run, [int(entry) for entry in stated], str(path), "take it out of the list")


def _known(run: Run, numbers: list[int], source: str, remedy: str) -> np.ndarray:
    """Feature numbers that the run has, ascending."""
    features = len(run.scope)
    wrong = [number for number in numbers if not 0 <= number < features]
    if wrong:
        raise InfoscopeError(
            f"{source} names feature {wrong[0]}, and {run.path} has features 0 to {features - 1}; {remedy}"
        )
    return np.unique(np.asarray(numbers, np.uint32))


def matched_groups(
    group: FeatureGroup, mass: Float64[np.ndarray, " feature"], match: Match, draws: int, seed: int = 0
) -> list[FeatureGroup]:
    """Random groups that match a group (method, section 7).

    They are drawn from all features that are ever active, including those of the group: the others alone may be too
    few, and differ from the group in what it was chosen for. By ``size``, each random group has as many active
    features as the group. By ``mass``, features are added in random order until the sum is nearest to the group's; it
    is off by at most half of one feature's mass. Features with more than twice the group's mass are not drawn, since
    one would be farther off than none.

    Args:
        group: the group to match.
        mass: activation mass of every feature: the sum of its codes, times its decoder row's norm.
        match: what to match.
        draws: how many random groups to draw.
        seed: seed of the draws.

    Raises:
        InfoscopeError: no feature of the group is ever active.

    Example:
        >>> mass = np.array([0.0, 5.0, 1.0, 1.0, 3.0])
        >>> group = FeatureGroup("global", "class", np.uint32([0, 1]))
        >>> [len(drawn.features) for drawn in matched_groups(group, mass, "size", draws=2)]
        [1, 1]
        >>> [float(mass[drawn.features].sum()) for drawn in matched_groups(group, mass, "mass", draws=2, seed=1)]
        [3.0, 4.0]
    """
    active = np.flatnonzero(mass > 0)
    inside = group.features[mass[group.features] > 0]
    wanted = float(mass[inside].sum())
    if not len(inside):
        raise InfoscopeError(
            f"no feature of {group.name} is active in the sample: there is nothing to match"
            "; remove another group, or give --random-draws 0"
        )
    candidates = active if match == "size" else active[mass[active] <= 2 * wanted]
    of_group = zlib.crc32(group.features.tobytes())
    drawn = []
    for number in range(draws):
        # Draws for two kinds of match or two groups are independent, and no draw depends on how many there are.
        random = np.random.default_rng([seed, number, match == "mass", of_group])
        order = random.permutation(candidates)
        count = len(inside) if match == "size" else _nearest(mass[order], wanted)
        name = f"random of equal {match} as {group.name}"
        drawn.append(FeatureGroup(name, "random", np.sort(order[:count]).astype(np.uint32)))
    return drawn


def _nearest(mass: Float64[np.ndarray, " feature"], wanted: float) -> int:
    """How many of the first features have a total mass nearest to the wanted one; at least one."""
    return int(np.abs(np.cumsum(mass) - wanted).argmin()) + 1
