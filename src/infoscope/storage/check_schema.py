"""The columns of the tables of a run's cross-checks: the curve over shifts, and the scores made otherwise."""

from __future__ import annotations

from types import MappingProxyType

import polars as pl

from infoscope.storage.schema import Column, Table

# What ``check`` may be.
CHECKS = ("pre-activations", "position-matched", "other-diagonal", "quantiles")

SHIFT_CURVE: Table = MappingProxyType(
    {
        "feature": Column(pl.UInt32, "index", "feature of the dictionary", required=True),
        "shift": Column(
            pl.UInt16, "patches", "s, patches between the two crops, ascending within a feature", required=True
        ),
        "cds": Column(
            pl.Float64,
            "share of the grid diagonal, 0 to 1",
            "as in scope.parquet, on the overlap of crops s patches apart, of the same top images",
        ),
        "cds_patches": Column(
            pl.Float64, "patches", "the same distance in patches: cds times this overlap's diagonal D"
        ),
        "cds_ci_lower": Column(pl.Float64, "as cds", "lower end of the 95 % bootstrap-t interval over pairs"),
        "cds_ci_upper": Column(pl.Float64, "as cds", "upper end of the same interval"),
        "pairs": Column(pl.UInt32, "count", "valid pairs at this shift"),
        "vanished": Column(pl.Float64, "share, 0 to 1", "as in scope.parquet, at this shift"),
    }
)

CROSS_CHECKS: Table = MappingProxyType(
    {
        "check": Column(
            pl.String, "", "what the score is made from: pre-activations, position-matched, other-diagonal or quantiles"
        ),
        "feature": Column(pl.UInt32, "index", "feature of the dictionary", required=True),
        "cds": Column(pl.Float64, "share of the grid diagonal, 0 to 1", "the score, made so"),
        "cds_ci_lower": Column(pl.Float64, "as cds", "lower end of its 95 % bootstrap-t interval over pairs"),
        "cds_ci_upper": Column(pl.Float64, "as cds", "upper end of the same interval"),
        "pairs": Column(pl.UInt32, "count", "its valid pairs"),
        "vanished": Column(pl.Float64, "share, 0 to 1", "its images with mass on the overlap in exactly one crop"),
        "effective_area": Column(pl.Float64, "patches", "as in scope.parquet, of these maps"),
        "difference": Column(
            pl.Float64,
            "as cds, -1 to 1",
            "the score of scope.parquet minus this one, over the images where both are valid; null when these are "
            "fewer than min_pairs, and for quantiles, whose images are others",
        ),
        "difference_pairs": Column(pl.UInt32, "count", "images behind the difference; null for quantiles"),
    }
)
