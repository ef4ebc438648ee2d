"""A run directory: one measurement and all that is needed to read or repeat it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import polars as pl

from infoscope.errors import InfoscopeError
from infoscope.options import PartitionMethod, ThresholdKind
from infoscope.runtime.atomic import remove_leftovers
from infoscope.runtime.columns import Table, read_table
from infoscope.runtime.json_values import read_json, to_json, write_json
from infoscope.runtime.manifest import MEASURE_AGAIN, Manifest
from infoscope.runtime.replacing import finish_replacing
from infoscope.runtime.schema import CROSS_CHECKS, MAPS, SCOPE, SHIFT_CURVE, TOP_IMAGES
from infoscope.runtime.seal import check_files
from infoscope.runtime.typed import from_json

_LOGGER = logging.getLogger(__name__)
MANIFEST = "manifest.json"
SCOPE_FILE = "scope.parquet"
TOP_IMAGES_FILE = "top_images.parquet"
PARTITION = "partition.json"
# The newest version of it that is read; `infoscope.scope.partition.FORMAT_VERSION` is the one that is written.
PARTITION_VERSION = 2
CONTROLS = "controls.json"
CODE_NOISE = "code_noise.json"
# The only version of it; `infoscope.scope.code_noise.FORMAT_VERSION` is the same.
CODE_NOISE_VERSION = 1
MAPS_FILE = "maps.parquet"
SHIFT_CURVE_FILE = "shift_curve.parquet"
CROSS_CHECKS_FILE = "cross_checks.parquet"
QUANTILE_IMAGES_FILE = "quantile_images.parquet"
PARTIALS = "partials"
PLAN = f"{PARTIALS}/plan.json"


# What draws results in a terminal and in a notebook stands layers above them. It is found by its name when something is
# first shown; an import would turn the layers upside down.
_DRAWN_BY = "infoscope.views.notebook.cards"


class Shown:
    """Shows itself: as text in a terminal, as a table and a card in a notebook."""

    def __repr__(self) -> str:
        return str(import_module(_DRAWN_BY).text(self))

    def _repr_html_(self) -> str:
        return str(import_module(_DRAWN_BY).html(self))


@dataclass(frozen=True)
class _Dip:
    statistic: float | None
    p: float | None


@dataclass(frozen=True)
class _Partition:
    """The entries of ``partition.json`` that are read, where it has them."""

    method: PartitionMethod = "valley"
    kind: ThresholdKind = "convention"
    threshold: float | None = None
    dip: _Dip = _Dip(None, None)
    bic: tuple[float | None, ...] = ()
    mixture_modes: int | None = None


@dataclass(frozen=True, repr=False)
class Run(Shown):
    """A finished run on disk; tables are read when first asked for. In a notebook it shows what was found.

    Attributes:
        path: the run directory.
        manifest: what was measured, with what, on what.
    """

    path: Path
    manifest: Manifest

    @property
    def checked(self) -> bool:
        """Whether the files are compared with checksums; runs that are older than checksums open all the same."""
        return self.manifest.files is not None and self.manifest.sealed

    @cached_property
    def scope(self) -> pl.DataFrame:
        """``scope.parquet``: one row a feature, sorted by feature; its columns are in `schema.SCOPE`."""
        table = self._read(SCOPE_FILE, SCOPE)
        features = self.manifest.dictionary.features
        if not table["feature"].equals(pl.Series("feature", range(features), dtype=pl.UInt32)):
            raise InfoscopeError(
                f"{self.path / SCOPE_FILE} has not one row for each of {features:,} features in their order; "
                f"{MEASURE_AGAIN}"
            )
        return table

    @cached_property
    def top_images(self) -> pl.DataFrame:
        """``top_images.parquet``: one row a feature and rank."""
        return self._read(TOP_IMAGES_FILE, TOP_IMAGES, key=("feature", "rank"))

    @cached_property
    def maps(self) -> pl.DataFrame:
        """``maps.parquet``: one row a feature, rank and crop, patches and codes as lists."""
        return self.maps_where(None)

    def maps_where(self, wanted: pl.Expr | None) -> pl.DataFrame:
        """Some rows of ``maps.parquet``, without the others in memory.

        Args:
            wanted: which, an expression of `schema.MAPS`'s columns; None for all.

        Raises:
            InfoscopeError: the file cannot be read, or is damaged.
        """
        _ = self._maps_are_whole
        maps = self._read(MAPS_FILE, MAPS, where=wanted, key=("feature", "rank", "crop"))
        if (maps["patch"].list.len() != maps["value"].list.len()).any():
            raise InfoscopeError(
                f"{self.path / MAPS_FILE} holds maps with another number of codes than of patches; {MEASURE_AGAIN}"
            )
        return maps

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

    @cached_property
    def partition(self) -> dict[str, Any]:
        """``partition.json``: the split into low-CDS and high-CDS features, with its evidence, in today's form.

        Raises:
            InfoscopeError: the file cannot be read, is no partition, or is of a newer version.
        """
        file = self.path / PARTITION
        value = _current_partition(read_json(file), file)
        try:
            entries = from_json(_Partition, value, other_entries=True)
            if entries.threshold is None and "threshold" in value and self.scope["cds"].count():
                raise ValueError("threshold is null, and features have scores")
        except ValueError as error:
            raise InfoscopeError(f"{file} is not a partition ({error}); measure again") from error
        return value

    @cached_property
    def code_noise(self) -> dict[str, Any] | None:
        """``code_noise.json``, which `infoscope.scope.code_noise.CodeNoise` reads; None where it was not measured.

        Raises:
            InfoscopeError: the file cannot be read, or is of a newer version.
        """
        files, file = self.manifest.files, self.path / CODE_NOISE
        if not (file.is_file() if files is None else CODE_NOISE in files):
            return None
        value = read_json(file)
        version = value.get("format_version") if isinstance(value, dict) else None
        if version != CODE_NOISE_VERSION:
            raise InfoscopeError(
                f"{file} has format_version {str(version)[:20]}; this infoscope reads {CODE_NOISE_VERSION}: install "
                "the version that wrote it, or measure again"
            )
        return dict(value)

    def check_whole(self) -> None:
        """Refuse a run if a file is missing or damaged, ``maps.parquet`` included.

        Of a run that is older than checksums, the tables must be there and readable.

        Raises:
            InfoscopeError: naming the file.
        """
        if self.manifest.files is not None:
            self._check(list(self.manifest.files))
            return
        _ = self.scope, self.top_images, self.shift_curve, self.cross_checks, self.quantile_images
        # One feature's rows take little memory, and finding them reads the place of every row.
        _ = self.maps_where(pl.col("feature") == 0), self.partition

    def check_small(self) -> None:
        """Refuse a run if a file other than ``maps.parquet`` is not the one that was written.

        Raises:
            InfoscopeError: naming the file.
        """
        self._check([name for name in self.manifest.files or {} if name != MAPS_FILE])

    @cached_property
    def _maps_are_whole(self) -> bool:
        """True, or an error; checked once, since the file is the largest by far."""
        self._check([MAPS_FILE])
        return True

    def _check(self, names: Sequence[str]) -> None:
        check_files(self.path, self.manifest.files, MANIFEST, names, MEASURE_AGAIN)

    def _optional(self, name: str, table: Table, **checks: Any) -> pl.DataFrame | None:
        files = self.manifest.files
        there = (self.path / name).is_file() if files is None else name in files
        return self._read(name, table, **checks) if there else None

    def _read(self, name: str, table: Table, **checks: Any) -> pl.DataFrame:
        """Read a table, and check that the features, images and patches it names exist."""
        record, options = self.manifest, self.manifest.options
        limits = {
            "feature": record.dictionary.features,
            "image": record.images.count,
            "rank": max((options.get(each) or 0 for each in ("top_images", "quantile_images")), default=0),
            "patch": record.model.grid**2,
            "shift": record.model.grid,
            "crop": 2,
        }
        if not limits["rank"]:
            del limits["rank"]
        return read_table(self.path / name, table, limits=limits, **checks)

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
        """local, diffuse, position-bound, global, mixed, unsettled or undefined."""
        return str(self.values["scope_class"])

    @property
    def trust(self) -> float | None:
        """The chance that as many other images would give its class; None where it has none of its own.

        Of a run judged by the older rules, how far to believe class and score, which is no probability.
        """
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


def _current_partition(value: Any, file: Path) -> dict[str, Any]:
    """The content of a file of any version, in the form of the newest."""
    if not isinstance(value, dict):
        raise InfoscopeError(f"{file} is not a partition; measure again")
    version = value.get("format_version", 1)
    if version == PARTITION_VERSION:
        return dict(value)
    if version != 1:
        raise InfoscopeError(
            f"{file} has format_version {version!r}; this infoscope reads up to {PARTITION_VERSION}: install the "
            "version that wrote it, or measure again"
        )
    current: dict[str, Any] = value | {"format_version": PARTITION_VERSION}
    counts = value.get("counts")
    if isinstance(counts, dict):
        names = {"local": "low_cds", "global": "high_cds"}
        current["counts"] = {names.get(name, name): count for name, count in counts.items()}
    return current


def open_run(path: Path | str) -> Run:
    """Open a finished run directory; its files are compared with their checksums, ``maps.parquet`` when first read.

    Raises:
        InfoscopeError: there is no such directory, it is not a run, its measurement has not finished, or a file of it
            is missing or damaged.

    Example:
        >>> open_run("no/such/run")
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: no such run directory: no/such/run; name one that `infoscope measure` wrote
    """
    path = Path(path)
    if not path.is_dir():
        raise InfoscopeError(f"no such run directory: {path}; name one that `infoscope measure` wrote")
    finish_replacing(path, MANIFEST)  # of `infoscope judge`, if it was stopped while it moved files
    if not (path / MANIFEST).is_file():
        if (path / PLAN).is_file():
            raise InfoscopeError(
                f"{path} holds an unfinished measurement; give `infoscope measure` the same options to resume it"
            )
        raise InfoscopeError(
            f"{path} is not a run directory: it has no {MANIFEST}; name one that `infoscope measure` wrote"
        )
    run = Run(path, Manifest.read(path / MANIFEST))
    run.check_small()
    _LOGGER.debug("run %s: %d features on %d images", path, run.manifest.dictionary.features, run.manifest.images.count)
    return run


def claim_directory(path: Path, plan: dict[str, Any]) -> bool:
    """Make ``path`` the directory of the measurement that ``plan`` describes, or refuse.

    A directory is claimed when it is new, empty, or already holds this very measurement. Anything else in it may be
    somebody's, and nothing is mixed with it.

    Args:
        path: the run directory.
        plan: every option and input that the result depends on; values that JSON has.

    Returns:
        True when this measurement is already finished there, with all its files whole.

    Raises:
        InfoscopeError: the directory holds another run or other files, a file of the finished measurement is missing or
            damaged, or it cannot be written.
    """
    plan = to_json(plan)
    if path.exists() and not path.is_dir():
        raise InfoscopeError(f"{path} is a file; --out needs a directory")
    remove_leftovers(path)
    finish_replacing(path, MANIFEST)
    if (path / PLAN).is_file():
        found = read_json(path / PLAN)
        if found != plan:
            raise InfoscopeError(
                f"{path} is another run's directory ({first_difference(found, plan)}); choose another --out"
            )
        return _finished(path)
    if path.is_dir() and any(file.is_file() for file in path.rglob("*")):
        raise InfoscopeError(f"{path} is not empty and not a run of this measurement; choose another --out")
    write_json(path / PLAN, plan)
    return False


def _finished(path: Path) -> bool:
    """Whether a measurement is finished and whole; a damaged one has no partial results left to be repaired from."""
    if not (path / MANIFEST).is_file():
        return False
    run = Run(path, Manifest.read(path / MANIFEST))
    if run.manifest.files is not None:
        run.check_whole()
    return True


def first_difference(found: Any, wanted: dict[str, Any]) -> str:
    """The first entry in which two plans differ, in words."""
    if not isinstance(found, dict):
        return "its plan cannot be read"
    for key in wanted:
        if found.get(key) != wanted[key]:
            if isinstance(wanted[key], dict) and isinstance(found.get(key), dict):
                return f"{key}: {first_difference(found[key], wanted[key])}"
            return f"{key} was {found.get(key)}, now {wanted[key]}"
    # Options that are at their default may have no entry.
    for key, value in found.items():
        if key not in wanted and not isinstance(value, dict):
            return f"{key} was {value}, now not given"
    return "it was made by another version"
