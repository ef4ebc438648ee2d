"""The tables of a validation: one row a case, and one row a case and planted feature."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import polars as pl

from infoscope.storage.schema import Column, Table

_CASE: dict[str, Column] = {
    "world": Column(pl.String, "", "planted: a model made of planted features; real: a real one with features planted"),
    "setting": Column(pl.String, "", "default or adversarial (method, section 9)"),
    "seed": Column(pl.UInt32, "", "of the planted features"),
    "dictionary": Column(pl.String, "", "planted directions; turned: these at an angle; trained: an SAE on the tokens"),
    "axis": Column(pl.String, "", "main, or the curve that the case is a point of"),
    "noise": Column(pl.Float64, "peaks", "standard deviation of the error of codes that are on"),
    "background": Column(pl.Float64, "peaks", "standard deviation of the noise on all other codes"),
    "top_images": Column(pl.UInt32, "count", "k"),
    "shift": Column(pl.UInt32, "patches", "s"),
    "cosine": Column(pl.Float64, "", "between the dictionary's directions and the planted ones, where turned"),
    "photographs": Column(pl.UInt32, "count", "photographs measured on"),
    "outlier_model": Column(pl.Boolean, "", "local and global features alone"),
}

FEATURES: Table = MappingProxyType(
    {
        **_CASE,
        "feature": Column(pl.UInt32, "index", "the planted feature"),
        "name": Column(pl.String, "", "its kind and what it is a function of"),
        "kind": Column(pl.String, "", "the truth: local, global, position-bound or diffuse"),
        "latent": Column(pl.UInt32, "index", "feature of the dictionary that stands for it"),
        "match": Column(pl.Float64, "cosine", "between that feature's decoder direction and the planted one"),
        "kind_share": Column(
            pl.Float64, "share", "of that direction's square, in the span of the planted directions of the same kind"
        ),
        "inside": Column(pl.Boolean, "", "position-bound, with its window in the overlap of both crops"),
        "cds": Column(pl.Float64, "share of D, 0 to 1", "as in scope.parquet, as are the columns after it"),
        "pairs": Column(pl.UInt32, "count", ""),
        "effective_area": Column(pl.Float64, "patches", ""),
        "position_control": Column(pl.Float64, "", ""),
        "cds_null": Column(pl.Float64, "", ""),
        "cds_calibrated": Column(pl.Float64, "", ""),
        "trust": Column(pl.Float64, "", ""),
        "scope_class": Column(pl.String, "", ""),
    }
)

CASES: Table = MappingProxyType(
    {
        **_CASE,
        "features": Column(pl.UInt32, "count", "planted features"),
        "recovered": Column(
            pl.Float64, "share", "of the planted features, matched by one with a kind_share of 0.5 or more"
        ),
        "auc": Column(pl.Float64, "0 to 1", "of CDS for global against local, over the recovered features"),
        "auc_calibrated": Column(pl.Float64, "0 to 1", "likewise of the calibrated score"),
        "unscored": Column(pl.Float64, "share", "of the recovered features, without a CDS"),
        "balanced_accuracy": Column(pl.Float64, "share", "of the classes, over the recovered features"),
        "confusion": Column(pl.List(pl.List(pl.Int64)), "count", "true kind by class; the last class is undefined"),
        "diffuse_as_local": Column(pl.Float64, "share", "of the recovered diffuse features, called local"),
        "line": Column(pl.Float64, "share of D", "s/(p-s-1), where a feature glued to a place lies"),
        "position_cds": Column(
            pl.Float64, "share of D", "median CDS of the position-bound features inside the overlap"
        ),
        "dip_p": Column(pl.Float64, "", "of Hartigan's dip test on the spectrum of CDS of all recovered features"),
        "seconds": Column(pl.Float64, "s", "that the case took"),
    }
)


def typed(rows: list[dict[str, Any]], table: Table) -> pl.DataFrame:
    """Rows as a table of these columns, in their order."""
    return pl.DataFrame(rows, schema={name: column.dtype for name, column in table.items()})
