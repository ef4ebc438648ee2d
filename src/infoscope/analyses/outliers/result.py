"""What an account of outlier tokens found: its tables, on disk and read back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float32

from infoscope.analyses.outliers.cutoffs import BlockNorms
from infoscope.analyses.outliers.masks import OTHERS, MaskShifts
from infoscope.analyses.outliers.norm_pass import Norms
from infoscope.analyses.outliers.record import OutlierRecord, without_nan
from infoscope.errors import InfoscopeError
from infoscope.runtime.atomic import remedy_of, remove_leftovers_of
from infoscope.runtime.schema import Column, Table, write_table
from infoscope.runtime.seal import write_sealed

# Our choice: bars of 3 to 4 % of the norm over one power of ten.
BARS_A_DECADE = 64

BLOCKS: Table = MappingProxyType(
    {
        "block": Column(pl.UInt16, "index", "block whose output the norms are of, before any final norm"),
        "tokens": Column(pl.UInt64, "count", "patch tokens of the sample"),
        "mean": Column(pl.Float64, "norm", "mean norm of a patch token"),
        "deviation": Column(pl.Float64, "norm", "standard deviation of the norms"),
        "median": Column(pl.Float64, "norm", "median norm"),
        "longest": Column(pl.Float64, "norm", "largest norm"),
        "long_share": Column(pl.Float64, "share, 0 to 1", "share of the tokens above 3 times the median norm"),
        "present": Column(pl.Boolean, "", "whether there are outlier tokens: long_share is at least 1e-4"),
        **{
            name: column
            for cutoff, meaning in (
                ("std", "mean + 3 standard deviations"),
                ("value", "the fixed cutoff; null where none was given"),
                ("percentile", "the 98th percentile"),
                ("valley", "the lowest density between the highest and the uppermost mode; null with one mode"),
            )
            for name, column in (
                (f"threshold_{cutoff}", Column(pl.Float64, "norm", meaning)),
                (
                    f"share_{cutoff}",
                    Column(pl.Float64, "share, 0 to 1", f"share of the tokens above threshold_{cutoff}"),
                ),
            )
        },
        "special_norm": Column(
            pl.Float64, "norm", "mean norm of the CLS token (and DeiT's distillation token); null without one"
        ),
        "register_norm": Column(pl.Float64, "norm", "mean norm of the register tokens; null without any"),
    }
)

POSITIONS: Table = MappingProxyType(
    {
        "block": Column(pl.UInt16, "index", "block whose output the norms are of"),
        "patch": Column(pl.UInt16, "index", "patch of the full view, row-major on the p x p grid"),
        "outliers": Column(pl.UInt32, "count", "images whose token here is an outlier by the cutoff in use"),
        "mean_norm": Column(pl.Float64, "norm", "mean norm of the token here"),
    }
)

NORMS: Table = MappingProxyType(
    {
        "block": Column(pl.UInt16, "index", "block whose output the norms are of"),
        "lower": Column(pl.Float64, "norm", "lower end of the bar, inclusive"),
        "upper": Column(pl.Float64, "norm", "upper end of the bar, exclusive"),
        "tokens": Column(pl.UInt64, "count", "patch tokens with a norm in the bar"),
    }
)

_MOVED = "share of the overlap's diagonal, 0 to 1"
STABILITY: Table = MappingProxyType(
    {
        "image": Column(pl.UInt64, "index", "position of the image in the source's order"),
        "image_id": Column(pl.String, "", "as in top_images"),
        "size_first": Column(pl.UInt32, "count", "outlier tokens on the overlap in the first crop"),
        "size_second": Column(pl.UInt32, "count", "the same in the second crop"),
        "outlier": Column(pl.Float64, _MOVED, "distance between the two masks of outlier tokens; null if one is empty"),
        "next": Column(pl.Float64, _MOVED, "that of masks of equal size, of the highest-norm other tokens"),
        "random": Column(pl.Float64, _MOVED, "that of masks of equal size, of other tokens drawn in each crop"),
        "complement": Column(pl.Float64, _MOVED, "that of all other tokens, which fill the grid and cannot move"),
    }
)

FEATURES: Table = MappingProxyType(
    {
        "feature": Column(pl.UInt32, "index", "feature of the dictionary, ascending"),
        "outlier_activation": Column(pl.Float64, "code", "mean code over the outlier tokens; null without any"),
        "normal_activation": Column(pl.Float64, "code", "mean code over the other patch tokens; null without any"),
    }
)


def blocks_table(described: list[BlockNorms], norms: Norms, special: int) -> pl.DataFrame:
    """One row a block.

    Args:
        described: the blocks' numbers, in order.
        norms: for the tokens before the patches.
        special: how many of these are no registers.
    """
    rows = []
    for block, found in enumerate(described):
        before = norms.prefix[:, block].astype(np.float64)
        cls, registers = before[:, :special], before[:, special:]
        row = {name: getattr(found, name) for name in ("tokens", "mean", "deviation", "median", "longest")}
        row |= {"block": block, "long_share": found.long_share, "present": found.present}
        row |= {f"threshold_{cutoff}": value for cutoff, value in found.thresholds.items()}
        row |= {f"share_{cutoff}": value for cutoff, value in found.shares.items()}
        row["special_norm"] = float(cls.mean()) if cls.size else None
        row["register_norm"] = float(registers.mean()) if registers.size else None
        rows.append(row)
    return _frame(rows, BLOCKS)


def positions_table(norms: Norms, thresholds: list[float]) -> pl.DataFrame:
    """One row a block and patch.

    Args:
        norms: of the sample.
        thresholds: of the blocks, in order.
    """
    blocks, cells = norms.patches.shape[1:]
    outliers = np.stack([norms.outliers(block, threshold).sum(0) for block, threshold in enumerate(thresholds)])
    return pl.DataFrame(
        {
            "block": np.repeat(np.arange(blocks), cells),
            "patch": np.tile(np.arange(cells), blocks),
            "outliers": outliers.ravel(),
            "mean_norm": norms.patches.mean(0, dtype=np.float64).ravel(),
        },
        schema_overrides=_types(POSITIONS),
    )


def norms_table(norms: Norms) -> pl.DataFrame:
    """Each block's histogram, over bars of equal width on a logarithmic scale; empty bars are left out."""
    frames = [_histogram(block, norms.patches[:, block].ravel()) for block in range(norms.patches.shape[1])]
    return pl.concat(frames)


def _histogram(block: int, norms: Float32[np.ndarray, " token"]) -> pl.DataFrame:
    positive = norms[norms > 0].astype(np.float64)
    bar, count = np.unique(np.floor(np.log10(positive) * BARS_A_DECADE).astype(np.int64), return_counts=True)
    return pl.DataFrame(
        {
            "block": np.full(len(bar), block),
            "lower": 10.0 ** (bar / BARS_A_DECADE),
            "upper": 10.0 ** ((bar + 1) / BARS_A_DECADE),
            "tokens": count,
        },
        schema_overrides=_types(NORMS),
    )


def stability_table(norms: Norms, shifts: MaskShifts, ids: list[str]) -> pl.DataFrame:
    """One row an image of the sample."""
    return pl.DataFrame(
        {
            "image": norms.image,
            "image_id": ids,
            "size_first": shifts.sizes[:, 0],
            "size_second": shifts.sizes[:, 1],
            **{name: getattr(shifts, name) for name in ("outlier", *OTHERS)},
        },
        schema_overrides=_types(STABILITY),
    ).with_columns(pl.col("outlier", *OTHERS).fill_nan(None))


def features_table(outlier: np.ndarray | None, normal: np.ndarray | None, features: int) -> pl.DataFrame:
    """One row a feature."""
    return pl.DataFrame(
        {
            "feature": np.arange(features),
            "outlier_activation": [None] * features if outlier is None else outlier,
            "normal_activation": [None] * features if normal is None else normal,
        },
        schema_overrides=_types(FEATURES),
    )


def _frame(rows: list[dict[str, object]], table: Table) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=_types(table))


def _types(table: Table) -> dict[str, Any]:
    return {name: column.dtype for name, column in table.items()}


OUTLIERS_FILE = "outliers.json"
# Drawn from the tables afterwards, by `infoscope.views.report.outliers`.
FIGURES = ("share.svg", "norms.svg", "places.svg")
FILES = (
    OUTLIERS_FILE,
    *(f"{name}.parquet" for name in ("blocks", "positions", "norms", "stability", "features")),
    *FIGURES,
)


@dataclass(frozen=True)
class OutlierResult:
    """The result of `measure_outliers`; columns and units of the tables are in `infoscope.analyses.outliers.result`.

    Attributes:
        record: what was found, with what, on what.
        blocks: one row a block: norms, cutoffs, shares.
        positions: one row a block and patch: how often it is an outlier.
        norms: each block's histogram of norms.
        stability: one row an image: how far its masks move.
        features: one row a feature: mean code on outlier and on normal tokens; None without a run.
    """

    record: OutlierRecord
    blocks: pl.DataFrame
    positions: pl.DataFrame
    norms: pl.DataFrame
    stability: pl.DataFrame
    features: pl.DataFrame | None

    def save(self, path: Path | str) -> None:
        """Write a folder; ``outliers.json`` comes last, so its presence says that all is there.

        An analysis that is there already is replaced.

        Raises:
            InfoscopeError: the folder cannot be written.
        """
        path = Path(path)
        remove_leftovers_of(path / name for name in FILES)
        try:
            for old in (OUTLIERS_FILE, "features.parquet", *FIGURES):
                (path / old).unlink(missing_ok=True)
        except OSError as error:
            raise InfoscopeError(f"cannot write {path}: {error.strerror or error}; {remedy_of(error)}") from error
        for name, frame, table in (
            ("blocks", self.blocks, BLOCKS),
            ("positions", self.positions, POSITIONS),
            ("norms", self.norms, NORMS),
            ("stability", self.stability, STABILITY),
        ):
            write_table(path / f"{name}.parquet", frame, table)
        if self.features is not None:
            write_table(path / "features.parquet", self.features, FEATURES)
        names = ("blocks", "positions", "norms", "stability", *(() if self.features is None else ("features",)))
        write_sealed(path / OUTLIERS_FILE, self.to_json(), [f"{name}.parquet" for name in names])

    def to_json(self) -> dict[str, object]:
        """What ``outliers.json`` holds; a number that is not defined is None."""
        value: dict[str, object] = without_nan(asdict(self.record))
        return value
