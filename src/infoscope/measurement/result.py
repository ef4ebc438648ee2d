"""The result of a measurement: its tables, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from infoscope.errors import InfoscopeError
from infoscope.measurement.controls import RunControls, run_controls
from infoscope.measurement.planning import run_plan
from infoscope.options import PartitionMethod
from infoscope.runtime.columns import write_table
from infoscope.runtime.json_values import write_json
from infoscope.runtime.manifest import Manifest
from infoscope.runtime.run import (
    CODE_NOISE,
    CONTROLS,
    CROSS_CHECKS_FILE,
    MANIFEST,
    MAPS_FILE,
    PARTITION,
    QUANTILE_IMAGES_FILE,
    SCOPE_FILE,
    SHIFT_CURVE_FILE,
    TOP_IMAGES_FILE,
    Feature,
    Run,
    Shown,
    open_run,
)
from infoscope.runtime.schema import CROSS_CHECKS, MAPS, SCOPE, SHIFT_CURVE, TOP_IMAGES
from infoscope.scope.code_noise import CodeNoise
from infoscope.scope.partition import FORMAT_VERSION, Partition, partition


@dataclass(frozen=True, repr=False)
class Scope(Shown):
    """The result of `measure_scope`. In a notebook it displays a summary.

    Attributes:
        table: one row a feature; columns and units in `infoscope.runtime.schema.SCOPE`.
        top_images: one row a feature and rank.
        maps_source: the table of maps, or the file it is in.
        manifest: what was measured, with what, on what.
        shift_curve: one row a feature and shift, where several shifts were asked for; columns in
            `infoscope.runtime.schema.SHIFT_CURVE`.
        cross_checks: one row a feature and check, where any was asked for; columns in
            `infoscope.runtime.schema.CROSS_CHECKS`.
        quantile_images: as ``top_images``, where images spread over the quantiles were asked for.
        code_noise: what pixel noise does to codes, where it was asked for.
    """

    table: pl.DataFrame
    top_images: pl.DataFrame
    maps_source: pl.DataFrame | Path
    manifest: Manifest
    shift_curve: pl.DataFrame | None = None
    cross_checks: pl.DataFrame | None = None
    quantile_images: pl.DataFrame | None = None
    code_noise: CodeNoise | None = None

    @cached_property
    def maps(self) -> pl.DataFrame:
        """One row a feature, rank and crop; columns in `infoscope.runtime.schema.MAPS`. Read on first use.

        Raises:
            InfoscopeError: its file cannot be read.
        """
        source = self.maps_source
        return source if isinstance(source, pl.DataFrame) else Run(source.parent, self.manifest).maps

    def partition(self, method: PartitionMethod = "valley", **options: Any) -> Partition:
        """Split the scored features into low-CDS and high-CDS ones; see `infoscope.scope.partition.partition`."""
        return partition(self.table["cds"].to_numpy().astype(np.float64), method=method, **options)

    def controls(self) -> RunControls:
        """The controls of the run as a whole: shares of classes, reliability, sensitivity; see `RunControls`."""
        options = self.manifest.options
        plan = run_plan(self.top_images, options, self.manifest.images)
        return run_controls(self.table, options, self.manifest.rule_version, plan)

    @cached_property
    def run(self) -> Run:
        """The same as a run, for figures and pages; it need not have been written."""
        source = self.maps_source
        return MeasuredRun(source.parent if isinstance(source, Path) else NOWHERE, self.manifest, self)

    def feature(self, number: int, images: Any = None) -> Feature:
        """One feature; see `Run.feature`.

        Raises:
            InfoscopeError: the dictionary has no such feature.
        """
        return self.run.feature(number, images)

    def save(self, path: Path | str) -> None:
        """Write a run directory; the manifest is written last, so that its presence says the run is whole.

        Raises:
            InfoscopeError: the directory cannot be written.
        """
        path = Path(path)
        written = [MAPS_FILE, PARTITION, CONTROLS]
        # Scoring may have written the maps to this directory already, a chunk at a time.
        if isinstance(self.maps_source, pl.DataFrame) or self.maps_source != path / MAPS_FILE:
            write_table(path / MAPS_FILE, self.maps, MAPS)
        for frame, file, table in (
            (self.table, SCOPE_FILE, SCOPE),
            (self.top_images, TOP_IMAGES_FILE, TOP_IMAGES),
            (self.shift_curve, SHIFT_CURVE_FILE, SHIFT_CURVE),
            (self.cross_checks, CROSS_CHECKS_FILE, CROSS_CHECKS),
            (self.quantile_images, QUANTILE_IMAGES_FILE, TOP_IMAGES),
        ):
            if frame is not None:
                write_table(path / file, frame, table)
                written.append(file)
        if self.code_noise is not None:
            write_json(path / CODE_NOISE, self.code_noise.to_json())
            written.append(CODE_NOISE)
        write_json(path / PARTITION, self.partition_document())
        write_json(path / CONTROLS, self.controls().to_json())
        self.manifest.write(path / MANIFEST, written)

    def partition_document(self) -> dict[str, Any]:
        """What ``partition.json`` holds; without a single scored feature there is no threshold."""
        if self.table["cds"].count():
            return self.partition().to_json()
        counts = {"low_cds": 0, "high_cds": 0, "unscored": self.table.height}
        return {
            "format_version": FORMAT_VERSION,
            "method": "valley",
            "kind": "convention",
            "threshold": None,
            "counts": counts,
            "dip": {"statistic": None, "p": None},
            "bic": [],
            "mixture_modes": None,
        }

    @classmethod
    def load(cls, path: Path | str) -> Scope:
        """Read a run directory.

        Raises:
            InfoscopeError: it is not a finished run, or a table cannot be read.
        """
        run = open_run(path)
        return cls(
            run.scope,
            run.top_images,
            run.path / MAPS_FILE,
            run.manifest,
            run.shift_curve,
            run.cross_checks,
            run.quantile_images,
            noise_of(run),
        )


def noise_of(run: Run) -> CodeNoise | None:
    """A run's code noise; None where it was not measured.

    Raises:
        InfoscopeError: its file cannot be read, or holds something else.
    """
    if run.code_noise is None:
        return None
    try:
        noise = CodeNoise.from_json(run.code_noise)
        if len(noise.scale) not in (1, run.manifest.dictionary.features):
            raise ValueError("it is of another number of features")
        return noise
    except ValueError as error:
        raise InfoscopeError(f"{run.path / CODE_NOISE} is no code noise ({error}); measure again") from error


# A run that was not written has no directory; this stands for one in which no file exists.
NOWHERE = Path("not-written")


@dataclass(frozen=True, repr=False)
class MeasuredRun(Run):
    """A run whose tables are in memory, whether it was written or not.

    Attributes:
        measured: the tables.
    """

    measured: Scope

    @property
    def scope(self) -> pl.DataFrame:
        """The scope table."""
        return self.measured.table

    @property
    def top_images(self) -> pl.DataFrame:
        """The table of top images."""
        return self.measured.top_images

    @property
    def maps(self) -> pl.DataFrame:
        """The table of maps."""
        return self.measured.maps

    def maps_where(self, wanted: pl.Expr | None) -> pl.DataFrame:
        """The rows of the table of maps that an expression selects."""
        source = self.measured.maps_source
        if not isinstance(source, pl.DataFrame):
            return super().maps_where(wanted)
        return source if wanted is None else source.filter(wanted)

    @property
    def shift_curve(self) -> pl.DataFrame | None:
        """The table of the shift curve."""
        return self.measured.shift_curve

    @property
    def cross_checks(self) -> pl.DataFrame | None:
        """The table of the cross-checks."""
        return self.measured.cross_checks

    @property
    def quantile_images(self) -> pl.DataFrame | None:
        """The table of the quantile images."""
        return self.measured.quantile_images

    @cached_property
    def code_noise(self) -> dict[str, Any] | None:
        """What ``code_noise.json`` holds."""
        return None if self.measured.code_noise is None else self.measured.code_noise.to_json()

    @cached_property
    def partition(self) -> dict[str, Any]:
        """What ``partition.json`` holds, or would hold if it had been written; that takes seconds to compute."""
        return super().partition if (self.path / PARTITION).is_file() else self.measured.partition_document()
