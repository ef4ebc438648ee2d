"""A run directory: one measurement and all that is needed to read or repeat it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from infoscope.errors import InfoscopeError
from infoscope.storage.atomic import read_json, remove_leftovers, write_json
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


@dataclass(frozen=True)
class Run:
    """A finished run on disk; tables are read when first asked for.

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
        plan: every option and input that the result depends on, as JSON values.

    Returns:
        True when this measurement is already finished there.

    Raises:
        InfoscopeError: the directory holds another run or other files, or cannot be written.
    """
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
