"""The table of a selection."""

from __future__ import annotations

from types import MappingProxyType

import polars as pl

from infoscope.storage.schema import Column, Table

STEPS: Table = MappingProxyType(
    {
        "end": Column(pl.String, "", "the end of the column that features were removed from; null for none removed"),
        "share": Column(pl.Float64, "share, 0 to 1", "share of the ordered features that were removed"),
        "match": Column(pl.String, "", "what a random set matches: size or mass; null for the set itself"),
        "draw": Column(pl.UInt32, "index", "draw of the random set, from 1; null for the set itself"),
        "features": Column(pl.UInt32, "count", "features removed"),
        "mass": Column(pl.Float64, "share, 0 to 1", "their activation mass, of that of all"),
        "validation": Column(
            pl.Float64, "of the metric", "the metric where the head's choice and the selection are made"
        ),
        "test": Column(
            pl.Float64, "of the metric", "the metric on the test split, which nothing was chosen by", required=True
        ),
    }
)
