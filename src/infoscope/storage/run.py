"""A run directory: one measurement and all that is needed to read or repeat it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from infoscope.errors import InfoscopeError
from infoscope.showing import Shown
from infoscope.storage.atomic import as_read, read_json, remove_leftovers, write_json
from infoscope.storage.check_schema import CROSS_CHECKS, SHIFT_CURVE
from infoscope.storage.manifest import Manifest
from infoscope.storage.schema import MAPS, SCOPE, TOP_IMAGES, Table, read_table

_LOGGER = logging.getLogger(__name__)
MANIFEST = "manifest.json"
PARTITION = "partition.json"
CONTROLS = "controls.json"
MAPS_FILE = "maps.parquet"
SHIFT_CURVE_FILE = "shift_curve.parquet"
CROSS_CHECKS_FILE = "cross_checks.parquet"
QUANTILE_IMAGES_FILE = "quantile_images.parquet"
PARTIALS = "partials"
PLAN = f"{PARTIALS}/plan.json"


@dataclass(frozen=True, repr=False)
class Run(Shown):
    """A finished run on disk; tables are read when first asked for. In a notebook it shows what was found.

    Attributes:
        path: the run directory.
        manifest: what was measured, with what, on what.
    """

    path: Path
    manifest: Manifest

    @cached_property
    def scope(self) -> pl.DataFrame:
        """``scope.parquet``: one row a feature, sorted by feature; its columns are in `schema.SCOPE`."""
        return read_table(self.path / "scope.parquet", SCOPE)

    @cached_property
    def top_images(self) -> pl.DataFrame:
        """``top_images.parquet``: one row a feature and rank."""
        return read_table(self.path / "top_images.parquet", TOP_IMAGES)

    @cached_property
    def maps(self) -> pl.DataFrame:
        """``maps.parquet``: one row a feature, rank and crop, patches and codes as lists."""
        return read_table(self.path / MAPS_FILE, MAPS)

    def maps_where(self, wanted: pl.Expr) -> pl.DataFrame:
        """Some rows of ``maps.parquet``, without the others in memory.

        Args:
            wanted: which, an expression of `schema.MAPS`'s columns.

        Raises:
            InfoscopeError: the file cannot be read.
        """
        file = self.path / MAPS_FILE
        try:
            return pl.scan_parquet(file).filter(wanted).collect()
        except (OSError, pl.exceptions.PolarsError) as error:
            reason = str(error).splitlines()[0]
            raise InfoscopeError(f"cannot read {file} ({reason}); measure again into a new directory") from error

    @cached_property
    def shift_curve(self) -> pl.DataFrame | None:
        """``shift_curve.parquet``: one row a feature and shift; None where one shift was measured."""
        return self._optional(SHIFT_CURVE_FILE, SHIFT_CURVE)

    @cached_property
    def cross_checks(self) -> pl.DataFrame | None:
        """``cross_checks.parquet``: one row a feature and check; None where none was asked for."""
        return self._optional(CROSS_CHECKS_FILE, CROSS_CHECKS)

    @cached_property
    def quantile_images(self) -> pl.DataFrame | None:
        """``quantile_images.parquet``, as ``top_images.parquet``; None where they were not asked for."""
        return self._optional(QUANTILE_IMAGES_FILE, TOP_IMAGES)

    def _optional(self, name: str, table: Table) -> pl.DataFrame | None:
        return read_table(self.path / name, table) if (self.path / name).is_file() else None

    @cached_property
    def partition(self) -> dict[str, Any]:
        """``partition.json``: the split into local and global features, with its evidence."""
        value = read_json(self.path / PARTITION)
        if not isinstance(value, dict):
            raise InfoscopeError(f"{self.path / PARTITION} is not a partition; measure again")
        return value

    def feature(self, number: int, images: Any = None) -> Feature:
        """One feature, which shows itself in a notebook as a card.

        Args:
            number: of the feature, from 0.
            images: the photographs, as `infoscope.open_images` takes them, where they are no longer at the place that
                the run names.

        Raises:
            InfoscopeError: the dictionary has no such feature.
        """
        rows = self.scope.filter(pl.col("feature") == number) if number >= 0 else self.scope.clear()
        if rows.is_empty():
            raise InfoscopeError(f"there is no feature {number}: choose 0 to {self.scope.height - 1:,}")
        return Feature(self, number, rows.row(0, named=True), images)


@dataclass(frozen=True, repr=False)
class Feature(Shown):
    """One feature of a run. In a notebook it shows its score, class, trust, controls and top images.

    Attributes:
        run: the run.
        number: of the feature.
        values: its row of ``scope.parquet`` by column, as in ``values["effective_area"]``.
        images: the photographs, where they are not at the place the run names; else None.
    """

    run: Run
    number: int
    values: dict[str, Any]
    images: Any = None

    @property
    def cds(self) -> float | None:
        """Contextual Dependency Score; None where it is not defined."""
        value: float | None = self.values["cds"]
        return value

    @property
    def scope_class(self) -> str:
        """local, diffuse, position-bound, global or undefined."""
        return str(self.values["scope_class"])

    @property
    def trust(self) -> float | None:
        """How far to believe class and score, 0 to 1."""
        value: float | None = self.values["trust"]
        return value

    @cached_property
    def top_images(self) -> pl.DataFrame:
        """Its rows of ``top_images.parquet``, the strongest first."""
        return self.run.top_images.filter(pl.col("feature") == self.number).sort("rank")

    @cached_property
    def maps(self) -> pl.DataFrame:
        """Its rows of ``maps.parquet``, by rank and crop."""
        return self.run.maps_where(pl.col("feature") == self.number).sort("rank", "crop")

    @cached_property
    def shift_curve(self) -> pl.DataFrame | None:
        """Its rows of ``shift_curve.parquet``; None where one shift was measured."""
        curve = self.run.shift_curve
        return None if curve is None else curve.filter(pl.col("feature") == self.number)


def open_run(path: Path | str) -> Run:
    """Open a finished run directory.

    Raises:
        InfoscopeError: there is no such directory, it is not a run, or its measurement has not finished.

    Example:
        >>> open_run("no/such/run")
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: no such run directory: no/such/run; name one that `infoscope measure` wrote
    """
    path = Path(path)
    if not path.is_dir():
        raise InfoscopeError(f"no such run directory: {path}; name one that `infoscope measure` wrote")
    if not (path / MANIFEST).is_file():
        if (path / PLAN).is_file():
            raise InfoscopeError(
                f"{path} holds an unfinished measurement; give `infoscope measure` the same options to go on"
            )
        raise InfoscopeError(
            f"{path} is not a run directory: it has no {MANIFEST}; name one that `infoscope measure` wrote"
        )
    run = Run(path, Manifest.read(path / MANIFEST))
    _LOGGER.debug("run %s: %d features on %d images", path, run.manifest.dictionary.features, run.manifest.images.count)
    return run


def claim_directory(path: Path, plan: dict[str, Any]) -> bool:
    """Make ``path`` the directory of the measurement that ``plan`` describes, or refuse.

    A directory is taken when it is new, empty, or already holds this very measurement; anything else in it is
    somebody's, and nothing is mixed.

    Args:
        path: the run directory.
        plan: every option and input that the result depends on; values that JSON has.

    Returns:
        True when this measurement is already finished there.

    Raises:
        InfoscopeError: the directory holds another run or other files, or cannot be written.
    """
    plan = as_read(plan)
    if path.exists() and not path.is_dir():
        raise InfoscopeError(f"{path} is a file; --out needs a directory")
    remove_leftovers(path)
    if (path / PLAN).is_file():
        found = read_json(path / PLAN)
        if found != plan:
            raise InfoscopeError(
                f"{path} is another run's directory ({first_difference(found, plan)}); choose another --out"
            )
        return (path / MANIFEST).is_file()
    if path.is_dir() and any(file.is_file() for file in path.rglob("*")):
        raise InfoscopeError(f"{path} is not empty and not a run of this measurement; choose another --out")
    write_json(path / PLAN, plan)
    return False


def first_difference(found: Any, wanted: dict[str, Any]) -> str:
    """The first entry in which two plans differ, in words."""
    if not isinstance(found, dict):
        return "its plan cannot be read"
    for key in wanted:
        if found.get(key) != wanted[key]:
            if isinstance(wanted[key], dict) and isinstance(found.get(key), dict):
                return f"{key}: {first_difference(found[key], wanted[key])}"
            return f"{key} was {found.get(key)}, now {wanted[key]}"
    return "it was made by another version"
