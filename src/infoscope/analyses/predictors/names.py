"""The names of the measures that are compared. A command has them in its flags, so nothing is imported here."""

MEASURES = (
    "cds",
    "cds_calibrated",
    "cosine_distance",
    "jensen_shannon",
    "effective_area",
    "entropy",
    "moran",
    "peak_displacement",
    "density",
)
"""Columns of ``scope.parquet``."""
# CDS over its null: made of CDS, so that it explains it by definition, and is not among what CDS is held against.
MADE_OF_CDS = "cds_calibrated"
OTHERS = tuple(name for name in MEASURES if name not in ("cds", MADE_OF_CDS))
COSINE = "cosine_distance"
BEYOND_COSINE = "cds_beyond_cosine"
"""The rank of CDS less what the rank of 1 - cosine says of it: how much more the map moves than it changes."""


GROUPINGS = (*MEASURES, BEYOND_COSINE)
"""All that features can be grouped by."""
