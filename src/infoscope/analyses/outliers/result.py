"""The result of an analysis of outlier tokens: its tables, and the folder that they are written to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float32

from infoscope.analyses.outliers.cutoffs import BlockNorms
from infoscope.analyses.outliers.masks import OTHERS, MaskShifts
from infoscope.analyses.outliers.passes import Norms
from infoscope.analyses.outliers.record import OutlierRecord
from infoscope.runtime.columns import Column, declare, make_table, write_table
from infoscope.runtime.json_values import to_json
from infoscope.runtime.seal import remove_record, write_sealed

# Our choice: bars of 3 to 4 % of the norm over one power of ten.
BARS_A_DECADE = 64

BLOCKS = declare(
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

POSITIONS = declare(
    {
        "block": Column(pl.UInt16, "index", "block whose output the norms are of"),
        "patch": Column(pl.UInt16, "index", "patch of the full view, row-major on the p x p grid"),
        "outliers": Column(pl.UInt32, "count", "images whose token here is an outlier by the cutoff in use"),
        "mean_norm": Column(pl.Float64, "norm", "mean norm of the token here"),
    }
)

NORMS = declare(
    {
        "block": Column(pl.UInt16, "index", "block whose output the norms are of"),
        "lower": Column(pl.Float64, "norm", "lower end of the bar, inclusive"),
        "upper": Column(pl.Float64, "norm", "upper end of the bar, exclusive"),
        "tokens": Column(pl.UInt64, "count", "patch tokens with a norm in the bar"),
    }
)

_MOVED = "share of the overlap's diagonal, 0 to 1"
STABILITY = declare(
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

FEATURES = declare(
    {
        "feature": Column(pl.UInt32, "index", "feature of the dictionary, ascending"),
        "outlier_activation": Column(
            pl.Float64, "code", "mean code over the outlier tokens; null without any", label="mean code, outlier tokens"
        ),
        "normal_activation": Column(
            pl.Float64,
            "code",
            "mean code over the other patch tokens; null without any",
            label="mean code, other tokens",
        ),
    }
)


def blocks_table(described: list[BlockNorms], norms: Norms, special: int) -> pl.DataFrame:
    """One row a block.

    Args:
        described: the statistics of the blocks, in order.
        norms: the norms, of which those of the prefix tokens are used.
        special: how many of the prefix tokens are not registers.
    """
    rows = []
    for block, statistics in enumerate(described):
        prefix = norms.prefix[:, block].astype(np.float64)
        cls, registers = prefix[:, :special], prefix[:, special:]
        row = {name: getattr(statistics, name) for name in ("tokens", "mean", "deviation", "median", "longest")}
        row |= {"block": block, "long_share": statistics.long_share, "present": statistics.present}
        row |= {f"threshold_{cutoff}": value for cutoff, value in statistics.thresholds.items()}
        row |= {f"share_{cutoff}": value for cutoff, value in statistics.shares.items()}
        row["special_norm"] = float(cls.mean()) if cls.size else None
        row["register_norm"] = float(registers.mean()) if registers.size else None
        rows.append(row)
    return make_table(BLOCKS, rows)


def positions_table(norms: Norms, thresholds: list[float]) -> pl.DataFrame:
    """One row a block and patch.

    Args:
        norms: the norms of the sample.
        thresholds: the norm above which a token is an outlier, for each block in order.
    """
    blocks, cells = norms.patches.shape[1:]
    outliers = np.stack([norms.outliers(block, threshold).sum(0) for block, threshold in enumerate(thresholds)])
    return make_table(
        POSITIONS,
        {
            "block": np.repeat(np.arange(blocks), cells),
            "patch": np.tile(np.arange(cells), blocks),
            "outliers": outliers.ravel(),
            "mean_norm": norms.patches.mean(0, dtype=np.float64).ravel(),
        },
    )


def norms_table(norms: Norms) -> pl.DataFrame:
    """The histogram of each block, with bars of equal width on a logarithmic scale; empty bars are left out."""
    frames = [_histogram(block, norms.patches[:, block].ravel()) for block in range(norms.patches.shape[1])]
    return pl.concat(frames)


def _histogram(block: int, norms: Float32[np.ndarray, " token"]) -> pl.DataFrame:
    positive = norms[norms > 0].astype(np.float64)
    bar, count = np.unique(np.floor(np.log10(positive) * BARS_A_DECADE).astype(np.int64), return_counts=True)
    return make_table(
        NORMS,
        {
            "block": np.full(len(bar), block),
            "lower": 10.0 ** (bar / BARS_A_DECADE),
            "upper": 10.0 ** ((bar + 1) / BARS_A_DECADE),
            "tokens": count,
        },
    )


def stability_table(norms: Norms, shifts: MaskShifts, ids: list[str]) -> pl.DataFrame:
    """One row an image of the sample."""
    return make_table(
        STABILITY,
        {
            "image": norms.image,
            "image_id": ids,
            "size_first": shifts.sizes[:, 0],
            "size_second": shifts.sizes[:, 1],
            **{name: getattr(shifts, name) for name in ("outlier", *OTHERS)},
        },
    )


def features_table(outlier: np.ndarray | None, normal: np.ndarray | None, features: int) -> pl.DataFrame:
    """One row a feature."""
    return make_table(
        FEATURES,
        {
            "feature": np.arange(features),
            "outlier_activation": [None] * features if outlier is None else outlier,
            "normal_activation": [None] * features if normal is None else normal,
        },
    )


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
        record: the findings, and what they were made with and on.
        blocks: one row a block: norms, cutoffs, shares.
        positions: one row a block and patch: how often it is an outlier.
        norms: one row a block and bar of its histogram of norms.
        stability: one row an image: how far its masks move.
        features: one row a feature: mean code on outlier tokens and on normal ones; None without a run.
    """

    record: OutlierRecord
    blocks: pl.DataFrame
    positions: pl.DataFrame
    norms: pl.DataFrame
    stability: pl.DataFrame
    features: pl.DataFrame | None

    def save(self, path: Path | str) -> None:
        """Write a folder; ``outliers.json`` is written last, so that its presence says that the folder is whole.

        An earlier analysis in the folder is replaced.

        Raises:
            InfoscopeError: the folder cannot be written.
        """
        path = Path(path)
        remove_record(path / OUTLIERS_FILE, FILES)
        written = []
        for name, frame, table in (
            ("blocks.parquet", self.blocks, BLOCKS),
            ("positions.parquet", self.positions, POSITIONS),
            ("norms.parquet", self.norms, NORMS),
            ("stability.parquet", self.stability, STABILITY),
            ("features.parquet", self.features, FEATURES),
        ):
            if frame is not None:
                write_table(path / name, frame, table)
                written.append(name)
        write_sealed(path / OUTLIERS_FILE, self.to_json(), written)

    def to_json(self) -> dict[str, object]:
        """What ``outliers.json`` holds; a number that is not defined is None."""
        value: dict[str, object] = to_json(self.record)
        return value
