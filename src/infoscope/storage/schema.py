"""The columns of a run's tables: type, unit and meaning, written into every parquet file's metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import polars as pl

from infoscope.errors import InfoscopeError
from infoscope.storage.atomic import atomic_write

METADATA_KEY = "infoscope.columns"


@dataclass(frozen=True)
class Column:
    """One column: its polars type, its unit and what it means."""

    dtype: Any  # a polars type; its classes and instances have no common base that checkers accept
    unit: str
    meaning: str


Table = MappingProxyType[str, Column]

SCOPE: Table = MappingProxyType(
    {
        "feature": Column(pl.UInt32, "index", "feature of the dictionary, ascending"),
        "cds": Column(
            pl.Float64,
            "share of the grid diagonal, 0 to 1",
            "Contextual Dependency Score: mean earth mover's distance between the two crops' normalised maps "
            "on the overlap, over the valid pairs; null when fewer than min_pairs pairs are valid",
        ),
        "cds_ci_lower": Column(
            pl.Float64,
            "as cds",
            "lower end of the 95 % bootstrap-t interval over pairs, given the pool's top images",
        ),
        "cds_ci_upper": Column(pl.Float64, "as cds", "upper end of the same interval"),
        "pairs": Column(
            pl.UInt32,
            "count",
            "valid pairs: top images with mass on the overlap in both crops; with empty_as one "
            "also those with mass in exactly one, which count as a distance of 1",
        ),
        "vanished": Column(
            pl.Float64,
            "share, 0 to 1",
            "share of the top images with mass on the overlap in exactly one crop; null without top images",
        ),
        "retention": Column(
            pl.Float64,
            "ratio",
            "the smaller of the two overlap maxima over the ranking score (under rank_by mean or sum: over the larger "
            "of the crops' peaks), mean over the top images",
        ),
        "cds_retained": Column(
            pl.Float64, "as cds", "cds over the valid pairs with retention of at least 0.5; null as cds is"
        ),
        "max_activation": Column(
            pl.Float32, "code", "the ranking score of the feature's strongest image; 0 when it never fires"
        ),
        "images_active": Column(pl.UInt32, "count", "images of the pool with a ranking score above 0"),
        "density": Column(
            pl.Float64,
            "share, 0 to 1",
            "share of the pool's patch tokens with a code above 0, in the ranking's view",
        ),
        "effective_area": Column(
            pl.Float64,
            "patches",
            "exp of the entropy of the normalised overlap map, mean of both crops, mean over the valid pairs",
        ),
        "cosine_distance": Column(
            pl.Float64, "0 to 1", "1 - cosine of the two overlap maps, mean over the valid pairs"
        ),
        "mass_ratio": Column(
            pl.Float64, "0 to 1", "smaller over larger mass on the overlap, mean over the valid pairs"
        ),
        "position_control": Column(
            pl.Float64,
            "share of the full grid's largest distance, 0 to 1",
            "earth mover's distance between the two crops' full normalised maps at equal places of the crops, mean "
            "over the pairs with mass in both; null with fewer than min_pairs of them",
        ),
        "position_pairs": Column(pl.UInt32, "count", "top images with mass anywhere in both crops"),
        "cds_null": Column(
            pl.Float64,
            "as cds",
            "cds of unrelated pictures: first map of each valid pair against the second of the next, cyclic; null with "
            "fewer than two valid pairs",
        ),
        "cds_calibrated": Column(
            pl.Float64,
            "ratio",
            "cds over cds_null, over the valid pairs even where others count as 1; null with fewer than min_pairs, "
            "where cds_null is, and where that is under half a patch",
        ),
        "retained_disagrees": Column(
            pl.Boolean, "", "whether cds_retained lies outside the interval of cds; null where either is null"
        ),
        "cds_even": Column(
            pl.Float64, "as cds", "cds over the images of even rank; null with fewer valid pairs than half of min_pairs"
        ),
        "cds_odd": Column(pl.Float64, "as cds", "likewise over the images of odd rank"),
        "cds_by_k": Column(
            pl.List(pl.Float64),
            "as cds",
            "cds over the first 1, 2, 4, 8, ... and all k images; null where fewer of their pairs are valid than "
            "min_pairs in proportion",
        ),
        "cds_by_floor": Column(
            pl.List(pl.Float64),
            "as cds",
            "cds when codes under 0.1, 0.25 and 0.5 of each map's maximum count as 0; for at most 256 features spread "
            "evenly, null for the others",
        ),
        "entropy": Column(
            pl.Float64, "nats", "of the normalised overlap map, mean of both crops, mean over the valid pairs"
        ),
        "participation": Column(
            pl.Float64, "patches", "1 over the sum of squares of the normalised overlap map, mean likewise"
        ),
        "gyration": Column(
            pl.Float64, "patches", "root mean squared distance of the overlap map from its own centre, mean likewise"
        ),
        "moran": Column(
            pl.Float64,
            "-1 to 1",
            "Moran's I of the overlap map, weight 1 between each patch and the up to eight around it, mean likewise; "
            "null where maps are even",
        ),
        "peak_displacement": Column(
            pl.Float64, "patches", "ground distance between the peaks of both overlap maps, mean over the valid pairs"
        ),
        "support_iou": Column(
            pl.Float64,
            "0 to 1",
            "patches above 0 in both overlap maps over those above 0 in either, mean over the valid pairs",
        ),
        "jensen_shannon": Column(
            pl.Float64,
            "bits, 0 to 1",
            "Jensen-Shannon divergence of the normalised overlap maps, mean over the valid pairs",
        ),
        "pairs_following": Column(
            pl.Float64,
            "share, 0 to 1",
            "pairs that moved against the pixels at most 0.8 of what they moved against the crop; of those with mass "
            "in both full maps or vanished (mass on the overlap in one crop, none anywhere in the other), and so are "
            "the next three",
        ),
        "pairs_staying": Column(
            pl.Float64,
            "share, 0 to 1",
            "pairs that moved against the crop at most 0.8 of what they moved against the pixels",
        ),
        "pairs_still": Column(
            pl.Float64,
            "share, 0 to 1",
            "pairs that did neither and moved at most 0.8 of the movement of the pixels both ways",
        ),
        "pairs_jumping": Column(
            pl.Float64, "share, 0 to 1", "pairs that did none of these, the vanished ones among them"
        ),
        "scope_class": Column(pl.String, "", "local, diffuse, position-bound, global or undefined"),
        "class_evidence": Column(pl.String, "", "what speaks for the class"),
        "trust": Column(pl.Float64, "0 to 1", "how far to believe class and score: product of five factors"),
        "trust_reasons": Column(pl.String, "", "the factors under 0.95, lowest first"),
    }
)

TOP_IMAGES: Table = MappingProxyType(
    {
        "feature": Column(pl.UInt32, "index", "feature of the dictionary"),
        "rank": Column(pl.UInt16, "index", "0 is the strongest image; ties go to the lower image index"),
        "image": Column(pl.UInt64, "index", "position of the image in the source's order"),
        "image_id": Column(pl.String, "", "path relative to the source, or the source's own name for it"),
        "score": Column(pl.Float32, "code", "the ranking score of the image (option rank_by, in the view rank_view)"),
        "mass_first": Column(pl.Float32, "code", "sum of the first crop's codes on the overlap"),
        "mass_second": Column(pl.Float32, "code", "sum of the second crop's codes on the overlap"),
        "emd": Column(
            pl.Float64,
            "share of the grid diagonal, 0 to 1",
            "earth mover's distance between the normalised overlap maps; null when either has no mass",
        ),
    }
)

MAPS: Table = MappingProxyType(
    {
        "feature": Column(pl.UInt32, "index", "feature of the dictionary"),
        "rank": Column(pl.UInt16, "index", "the top image, as in top_images"),
        "crop": Column(pl.UInt8, "index", "0: the crop at (0, 0); 1: the crop shifted down and right"),
        "patch": Column(
            pl.List(pl.UInt16),
            "index",
            "patches with a code above 0, row-major on the full p x p grid of the crop",
        ),
        "value": Column(pl.List(pl.Float32), "code", "the codes of those patches"),
    }
)


def write_table(path: Path, frame: pl.DataFrame, table: Table) -> None:
    """Write a table with its columns' units and meanings in the file's metadata, atomically.

    Raises:
        ValueError: the frame's columns or types are not the table's.
    """
    expected = {name: column.dtype for name, column in table.items()}
    if dict(frame.schema) != expected:
        raise ValueError(f"columns of {path.name} are {dict(frame.schema)}, expected {expected}")
    with _writing(path) as temporary:
        frame.write_parquet(temporary, metadata=_metadata(table))


def join_tables(path: Path, parts: Sequence[Path], table: Table) -> None:
    """One table of several that `write_table` wrote, in their order, without holding it in memory.

    Raises:
        InfoscopeError: a part cannot be read, or the table not be written.

    Example:
        >>> import tempfile
        >>> folder, table = Path(tempfile.mkdtemp()), MappingProxyType({"feature": Column(pl.UInt32, "index", "")})
        >>> for number in range(2):
        ...     frame = pl.DataFrame({"feature": [number, number]}, schema={"feature": pl.UInt32})
        ...     write_table(folder / f"{number}.parquet", frame, table)
        >>> join_tables(folder / "all.parquet", [folder / "0.parquet", folder / "1.parquet"], table)
        >>> read_table(folder / "all.parquet", table)["feature"].to_list()
        [0, 0, 1, 1]
    """
    with _writing(path) as temporary:
        pl.scan_parquet(list(parts)).sink_parquet(temporary, metadata=_metadata(table), maintain_order=True)


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """`atomic_write`, with what polars raises."""
    try:
        with atomic_write(path) as temporary:
            yield temporary
    except pl.exceptions.PolarsError as error:  # how polars reports a full disk
        reason = str(error).splitlines()[0]
        raise InfoscopeError(f"cannot write {path}: {reason}; free the space or choose another --out") from error


def _metadata(table: Table) -> dict[str, str]:
    columns = {
        name: {key: text for key, text in asdict(column).items() if key != "dtype"} for name, column in table.items()
    }
    return {METADATA_KEY: json.dumps(columns)}


def read_table(path: Path, table: Table) -> pl.DataFrame:
    """Read a table that `write_table` wrote.

    Raises:
        InfoscopeError: the file is missing, truncated, or has other columns.
    """
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise InfoscopeError(f"cannot read {path} ({reason}); measure again into a new directory") from error
    missing = [name for name, column in table.items() if frame.schema.get(name) != column.dtype]
    if missing:
        raise InfoscopeError(
            f"{path} lacks the columns {', '.join(missing)} of this format; it was written by another version"
        )
    return frame
