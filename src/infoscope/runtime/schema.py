"""The columns of every table of a run, each declared once, and reading and writing them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import polars as pl

from infoscope.errors import InfoscopeError, first_line
from infoscope.runtime.atomic import atomic_write, remedy_of

METADATA_KEY = "infoscope.columns"


# Shares are means and quotients of floats, which may miss 0 or 1 by their last digits.
_SLACK = 1e-6


@dataclass(frozen=True)
class Column:
    """One column: its polars type, its unit, what it means, and what its values may be.

    Attributes:
        dtype: a polars type; its classes and instances have no common base that checkers accept.
        unit: of the values. One that ends in ``0 to 1`` says their range too.
        meaning: what they are.
        required: no value may be null, nor one in a list.
    """

    dtype: Any
    unit: str
    meaning: str
    required: bool = False

    @property
    def share(self) -> bool:
        """Whether values are within 0 to 1.

        Example:
            >>> Column(pl.Float64, "share of D, 0 to 1", "").share, Column(pl.Float64, "patches", "").share
            (True, False)
        """
        return self.unit.endswith("0 to 1")


Table = MappingProxyType[str, Column]

# As `infoscope.scope.classes` has them.
SCOPE_CLASSES = ("local", "diffuse", "position-bound", "global", "undefined")

SCOPE: Table = MappingProxyType(
    {
        "feature": Column(pl.UInt32, "index", "feature of the dictionary, ascending", required=True),
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
            required=True,
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
            pl.Float32,
            "code",
            "the ranking score of the feature's strongest image; 0 when it never fires",
            required=True,
        ),
        "images_active": Column(pl.UInt32, "count", "images of the pool with a ranking score above 0", required=True),
        "density": Column(
            pl.Float64,
            "share, 0 to 1",
            "share of the pool's patch tokens with a code above 0, in the ranking's view",
            required=True,
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
        "position_pairs": Column(pl.UInt32, "count", "top images with mass anywhere in both crops", required=True),
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
        "scope_class": Column(pl.String, "", "local, diffuse, position-bound, global or undefined", required=True),
        "class_evidence": Column(pl.String, "", "what speaks for the class", required=True),
        "trust": Column(pl.Float64, "0 to 1", "how far to believe class and score: product of five factors"),
        "trust_reasons": Column(pl.String, "", "the factors under 0.95, lowest first", required=True),
    }
)

TOP_IMAGES: Table = MappingProxyType(
    {
        "feature": Column(pl.UInt32, "index", "feature of the dictionary", required=True),
        "rank": Column(pl.UInt16, "index", "0 is the strongest image; ties go to the lower image index", required=True),
        "image": Column(pl.UInt64, "index", "position of the image in the source's order", required=True),
        "image_id": Column(
            pl.String, "", "path relative to the source, or the source's own name for it", required=True
        ),
        "score": Column(
            pl.Float32, "code", "the ranking score of the image (option rank_by, in the view rank_view)", required=True
        ),
        "mass_first": Column(pl.Float32, "code", "sum of the first crop's codes on the overlap", required=True),
        "mass_second": Column(pl.Float32, "code", "sum of the second crop's codes on the overlap", required=True),
        "emd": Column(
            pl.Float64,
            "share of the grid diagonal, 0 to 1",
            "earth mover's distance between the normalised overlap maps; null when either has no mass",
        ),
    }
)

MAPS: Table = MappingProxyType(
    {
        "feature": Column(pl.UInt32, "index", "feature of the dictionary", required=True),
        "rank": Column(pl.UInt16, "index", "the top image, as in top_images", required=True),
        "crop": Column(pl.UInt8, "index", "0: the crop at (0, 0); 1: the crop shifted down and right", required=True),
        "patch": Column(
            pl.List(pl.UInt16),
            "index",
            "patches with a code above 0, row-major on the full p x p grid of the crop",
            required=True,
        ),
        "value": Column(pl.List(pl.Float32), "code", "the codes of those patches", required=True),
    }
)


def write_table(path: Path, frame: pl.DataFrame, table: Table) -> None:
    """Write a table with its columns' units and meanings in the file's metadata, atomically.

    Raises:
        ValueError: the frame's columns or types are not the table's.
        InfoscopeError: it cannot be written.
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
        _scan(parts).sink_parquet(temporary, metadata=_metadata(table), maintain_order=True)


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """`atomic_write`, with what polars raises."""
    try:
        with atomic_write(path) as temporary:
            yield temporary
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:  # how polars reports a full disk
        raise InfoscopeError(f"cannot write {path}: {_reason(error)}; {remedy_of(error)}") from error


def _metadata(table: Table) -> dict[str, str]:
    columns = {name: {"unit": column.unit, "meaning": column.meaning} for name, column in table.items()}
    return {METADATA_KEY: json.dumps(columns)}


def read_table(
    path: Path,
    table: Table,
    *,
    where: pl.Expr | None = None,
    limits: Mapping[str, int] | None = None,
    choices: Mapping[str, Sequence[str]] | None = None,
    key: Sequence[str] = (),
    cast: bool = False,
) -> pl.DataFrame:
    """Read a table that `write_table` wrote, and check that it holds what its columns declare.

    The path is taken as it is, whatever ``*``, ``?`` and brackets it has.

    Args:
        path: the file.
        table: its columns; others in the file are read as well.
        where: which rows, in terms of its columns; the others are not held in memory. All by default.
        limits: by column, the number that its values are below, such as how many features there are.
        choices: by column, the texts that it may hold.
        key: columns that no two rows agree in.
        cast: take columns of other types whose values fit, in place of refusing them.

    Raises:
        InfoscopeError: the file is missing or damaged, has other columns, or holds values that its columns cannot have.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "ranks [1].parquet"
        >>> columns = MappingProxyType({"feature": Column(pl.UInt32, "index", "", required=True)})
        >>> write_table(file, pl.DataFrame({"feature": [0, 7]}, schema={"feature": pl.UInt32}), columns)
        >>> read_table(file, columns, where=pl.col("feature") > 0)["feature"].to_list()
        [7]
        >>> read_table(file, columns, limits={"feature": 4})
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: ...ranks [1].parquet holds values of feature that cannot be (7 of 4); make it
        anew
    """
    with reading(path):
        # Looked at first: a condition on a column of another type fails with a message about types.
        rows = _scan([path])
        _check_types(path, rows.collect_schema(), table, cast)
        if cast:
            rows = rows.with_columns(pl.col(name).cast(column.dtype) for name, column in table.items())
        frame = (rows if where is None else rows.filter(where)).collect()
        problem = _problem(frame, table, limits or {}, choices or {}, key)
    if problem:
        raise InfoscopeError(f"{path} holds {problem}; make it anew")
    return frame


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What polars raises over a file, as a line that names the file.

    A damaged file can make polars panic. That is a ``BaseException``, which is caught by its name: Ctrl-C is one too.

    Raises:
        InfoscopeError: in place of it.
    """
    try:
        yield
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise InfoscopeError(
            f"cannot read {path} ({_reason(error)}); restore it, or measure again into a new directory"
        ) from error


def _scan(files: Sequence[Path]) -> pl.LazyFrame:
    """The rows of files, which are read when they are asked for; brackets and stars in a path are no pattern."""
    for file in files:
        if not file.is_file():  # polars would take all that is in a folder, and wait for a pipe
            reason = "it is not a regular file" if file.exists() else "there is no such file"
            raise InfoscopeError(f"cannot read {file} ({reason}); restore it, or measure again into a new directory")
    # Absolute, for polars takes a leading ~ for the home directory.
    return pl.scan_parquet([file.absolute() for file in files], glob=False)


def _reason(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or first_line(error)


def _check_types(path: Path, found: Mapping[str, Any], table: Table, cast: bool) -> None:
    wrong = [
        name
        for name, column in table.items()
        if name not in found or not (found[name] == column.dtype or (cast and not found[name].is_nested()))
    ]
    if wrong:
        raise InfoscopeError(
            f"{path} lacks the columns {', '.join(wrong)} of this format; it was written by another version"
        )


def _problem(
    frame: pl.DataFrame,
    table: Table,
    limits: Mapping[str, int],
    choices: Mapping[str, Sequence[str]],
    key: Sequence[str],
) -> str | None:
    """What the rows hold that they cannot, or None."""
    for name, column in table.items():
        values = frame[name]
        nulls = values.null_count()
        if values.dtype == pl.List:
            values = frame.filter(pl.col(name).list.len() > 0)[name].explode()
            nulls += values.null_count()
        if column.required and nulls:
            return f"no {name} in {nulls:,} rows"
        values = values.drop_nulls()
        if not len(values):
            continue
        if values.dtype.is_float() and not values.is_finite().all():
            return f"values of {name} that are no numbers"
        if values.dtype.is_numeric():
            least, greatest = values.min(), values.max()
            if column.share and not (least >= -_SLACK and greatest <= 1 + _SLACK):  # type: ignore[operator]
                return f"values of {name} outside 0 to 1"
            if name in limits and greatest >= limits[name]:  # type: ignore[operator]
                return f"values of {name} that cannot be ({greatest!r} of {limits[name]:,})"
        if name in choices and (other := {str(value) for value in values.unique()} - set(choices[name])):
            return f"a {name} {min(other)!r}, which is none of {', '.join(choices[name])}"
    if key and frame.select(key).is_duplicated().any():
        return f"several rows for one {', '.join(key)}"
    return None


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
