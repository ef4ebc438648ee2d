"""Feature groups as they are named on the command line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from infoscope.errors import InfoscopeError
from infoscope.groups.group import FeatureGroup, feature_groups
from infoscope.scope.classes import CLASSES
from infoscope.storage.atomic import read_json
from infoscope.storage.run import Run
from infoscope.storage.sheet import is_sheet, read_columns
from infoscope.storage.text import read_text

_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_COMPARED = re.compile(rf"(\w+)\s*(<=|>=|<|>)\s*{_NUMBER}")
_QUANTILES = re.compile(rf"(\w+)\s*@\s*{_NUMBER}\s*-\s*{_NUMBER}")
# Between groups, and not that of 1e+3.
_PLUS = re.compile(r"(?<!\d[eE])\+")
_LIST = "the list of features"
_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
_COMPARISONS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}

WAYS = "high-CDS, low-CDS, unscored, a class, 'cds > 0.2', cds@0.9-1 (between two quantiles), or list:FILE"


def named_group(run: Run, text: str) -> FeatureGroup:
    """The features that a text names; several texts joined by ``+`` name all of theirs.

    Args:
        run: whose features.
        text: ``high-CDS``, ``low-CDS``, ``unscored``; a scope class; a number column of ``scope.parquet`` compared with
            a number, such as ``cds > 0.2``; a column between two of its quantiles, such as ``cds@0.9-1``; or
            ``list:FILE``, feature numbers as a JSON list, one a line, or in the column ``feature`` of a ``.csv`` or
            ``.tsv``; what follows ``list:`` is the file's name to the end. Features whose value
            in a column is not known are in no group made by it.

    Raises:
        InfoscopeError: it names nothing, or no feature.
    """
    before, listed, file = text.partition("list:")
    parts = [part.strip() for part in _PLUS.split(before)]
    if listed:
        parts[-1] += listed + file  # alone but for what is not joined by a plus, which is then no group
    found = [_single(run, part) for part in parts]
    features = np.unique(np.concatenate([group.features for group in found]))
    if not len(features):
        raise InfoscopeError(f"--remove {text!r} names no feature of {run.path}: choose another group")
    return FeatureGroup(
        " + ".join(group.name for group in found), found[0].kind if len(found) == 1 else "rule", features
    )


def _single(run: Run, text: str) -> FeatureGroup:
    known = {group.name.lower(): group for group in feature_groups(run)}
    if text.lower() in known:
        return known[text.lower()]
    if text.lower() in CLASSES:
        return FeatureGroup(text.lower(), "class", np.zeros(0, np.uint32))
    if text.startswith("list:"):
        return FeatureGroup(text, "list", _listed(run, Path(text.removeprefix("list:")).expanduser()))
    if matched := _COMPARED.fullmatch(text):
        column, sign, number = matched.groups()
        which = _COMPARISONS[sign](_column(run, column), float(number))
        return FeatureGroup(f"{column} {sign} {number}", "rule", run.scope["feature"].to_numpy()[which])
    if matched := _QUANTILES.fullmatch(text):
        column, low, high = matched.groups()
        return quantile_group(run, column, float(low), float(high))
    raise InfoscopeError(f"--remove {text!r} is no feature group: choose {WAYS}")


def quantile_group(run: Run, column: str, low: float, high: float) -> FeatureGroup:
    """The features between two quantiles of a column, of those for which it is known.

    Features are ordered by the column, ties by their number, so that a share of them is that share.

    Args:
        run: whose features.
        column: a number column of ``scope.parquet``.
        low: from this share of them on, 0 to 1.
        high: up to this share of them.

    Raises:
        InfoscopeError: there is no such column, or the quantiles are not ascending within 0 to 1.
    """
    name = f"{column}@{low:g}-{high:g}"
    if not 0 <= low < high <= 1:
        raise InfoscopeError(f"quantiles {low:g} to {high:g} of {column}: give two from 0 to 1, the lower first")
    value = _column(run, column)
    order = np.lexsort([run.scope["feature"].to_numpy(), value])
    order = order[: int((~np.isnan(value)).sum())]  # what is not known is sorted last
    first, last = round(low * len(order)), round(high * len(order))
    return FeatureGroup(name, "rule", np.sort(run.scope["feature"].to_numpy()[order[first:last]]))


def _column(run: Run, name: str) -> np.ndarray:
    """A column as float64, with NaN where nothing is known."""
    numbers = [column for column, kind in run.scope.schema.items() if kind.is_numeric() and column != "feature"]
    if name not in numbers:
        raise InfoscopeError(f"{run.path} has no number {name!r} of its features: choose {', '.join(numbers)}")
    value: np.ndarray = run.scope[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return value


def _listed(run: Run, path: Path) -> np.ndarray:
    refused = InfoscopeError(f"{path} is no list of feature numbers: write one a line, or a JSON list")
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
    numbers = [int(entry) for entry in stated]
    features = run.scope["feature"].to_numpy()
    wrong = [number for number in numbers if not 0 <= number < len(features)]
    if wrong:
        raise InfoscopeError(
            f"{path} names feature {wrong[0]}, and {run.path} has features 0 to {len(features) - 1}"
            "; take it out of the list"
        )
    return np.unique(np.asarray(numbers, np.uint32))
