"""The result of a comparison of measures, and the folder that it is written to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import polars as pl

from infoscope.analyses.predictors.config import MEASURES
from infoscope.analyses.predictors.removals import HeadName
from infoscope.analyses.removal.ladder import NoFairControl
from infoscope.errors import InfoscopeError
from infoscope.measurement.shared_images import SharedRecord
from infoscope.options import Side
from infoscope.runtime.columns import Column, declare, read_table, write_table
from infoscope.runtime.json_values import to_json
from infoscope.runtime.manifest import DictionaryRecord, ModelRecord, SkippedImage
from infoscope.runtime.seal import read_record, remove_record, write_sealed

FORMAT_VERSION = 1
PREDICTORS_FILE = "predictors.json"
AGAIN = "restore it, or compare again into a new folder"
METRICS = ("top-1", "loss")
_SQUARE = "of the tokens' mean square about their mean"
_OF_METRIC = "share for top-1, nats for loss"

CORRELATIONS = declare(
    {
        "first": Column(pl.String, "", "a measure", choices=MEASURES),
        "second": Column(pl.String, "", "another", choices=MEASURES),
        "features": Column(pl.UInt32, "count", "features that have both"),
        "spearman": Column(pl.Float64, "-1 to 1", "their rank correlation; null where one is constant"),
    }
)

RELIABILITY = declare(
    {
        "measure": Column(pl.String, "", "the measure; density, which is not made of top images, is not here"),
        "features": Column(pl.UInt32, "count", "features that have it by their even and by their odd ranks"),
        "halves": Column(pl.Float64, "-1 to 1", "rank correlation of the two halves"),
        "reliability": Column(
            pl.Float64, "-1 to 1", "the same for all images: 2 r / (1 + r), by Spearman and Brown, where r is above 0"
        ),
    }
)

ADDITIONS = declare(
    {
        "features_of": Column(
            pl.String, "", "which features: all, a class, or a part by a measure, lowest values first"
        ),
        "by": Column(pl.String, "", "the measure that explains CDS, or all others (without the calibrated score)"),
        "features": Column(pl.UInt32, "count", "how many there are, with every measure in full and by halves"),
        "explained": Column(pl.Float64, "share, 0 to 1", "share of the variance of CDS's ranks, linear in ranks"),
        "partial": Column(
            pl.Float64, "-1 to 1", "rank correlation of CDS and this measure with the other ones held fixed"
        ),
        "cds_reliability": Column(pl.Float64, "-1 to 1", "reliability of CDS over these features"),
        "left_reliability": Column(pl.Float64, "-1 to 1", "reliability of what is left of CDS"),
        "adds": Column(
            pl.Float64, "share, 0 to 1", "share of the variance of CDS's ranks that is not explained and repeats"
        ),
    }
)

REMOVALS = declare(
    {
        "measure": Column(
            pl.String,
            "",
            "the measure that features are grouped by, or the name of a further group; null for nothing removed",
        ),
        "part": Column(pl.UInt32, "index", "the quantile group, 1 for the lowest values; null for a further group"),
        "step": Column(pl.Float64, f"share {_SQUARE}", "removed energy that was wanted; null for the whole group"),
        "side": Column(
            pl.String, "", "subset of the group, or disjoint from it; null for all of it", choices=get_args(Side)
        ),
        "draw": Column(pl.UInt32, "index", "draw of the set, from 1; null for the whole group"),
        "features": Column(pl.UInt32, "count", "features removed"),
        "energy_share": Column(pl.Float64, f"share {_SQUARE}", "removed energy of a patch token, on training images"),
        "pooled_share": Column(
            pl.Float64,
            "share of the mean patches' mean square about their mean",
            "what is taken out of the mean patch, on test images; equal energy of tokens does not make it equal",
        ),
        "head": Column(
            pl.String,
            "",
            "kept: trained on unedited tokens; own: trained without the set, with the kept one's strength",
            choices=get_args(HeadName),
        ),
        "top_1": Column(pl.Float64, "share, 0 to 1", "test images whose class is first"),
        "loss": Column(pl.Float64, "nats", "mean cross-entropy of the test images' classes"),
    }
)

_DIFFERENCE = {
    "difference": Column(pl.Float64, _OF_METRIC, "the first less the second, over pairs of sets"),
    "sets_error": Column(pl.Float64, _OF_METRIC, "its standard error over pairs of sets"),
    "images_error": Column(pl.Float64, _OF_METRIC, "its standard error over test images"),
    "error": Column(pl.Float64, _OF_METRIC, "both together"),
    "p": Column(pl.Float64, "0 to 1", "two-sided, by Student's t over pairs of sets, with the error of both"),
    "p_holm": Column(pl.Float64, "0 to 1", "the same, corrected by Holm for all rows of this head and metric"),
    "pairs": Column(pl.UInt32, "count", "pairs of sets"),
}
_KEY = {
    "measure": Column(pl.String, "", "the measure that features are grouped by, or the name of a further group"),
    "part": Column(pl.UInt32, "index", "the quantile group, 1 for the lowest values; null for a further group"),
    "step": Column(pl.Float64, f"share {_SQUARE}", "removed energy of every set"),
    "head": REMOVALS["head"],
    "metric": Column(pl.String, "", "top-1 or loss", choices=METRICS),
}

EFFECTS = declare(
    {
        **_KEY,
        "subset": Column(pl.Float64, _OF_METRIC, "mean score without subsets of the group"),
        "disjoint": Column(pl.Float64, _OF_METRIC, "mean score without sets disjoint from it"),
        "subset_pooled": Column(pl.Float64, "share, as pooled_share", "what subsets take out of the mean patch, mean"),
        "disjoint_pooled": Column(pl.Float64, "share, as pooled_share", "what disjoint sets take out of it, mean"),
        **_DIFFERENCE,
        "no_fair_control": Column(pl.String, "", "why the group is not compared at this step; null where it is"),
    }
)

ENDS = declare(
    {
        **{name: column for name, column in _KEY.items() if name != "part"},
        "top": Column(pl.Float64, _OF_METRIC, "mean score without subsets of the features of highest values"),
        "bottom": Column(pl.Float64, _OF_METRIC, "mean score without subsets of those of lowest values"),
        "top_pooled": Column(pl.Float64, "share, as pooled_share", "what the first take out of the mean patch, mean"),
        "bottom_pooled": Column(pl.Float64, "share, as pooled_share", "what the second take out of it, mean"),
        **_DIFFERENCE,
    }
)

SETS = declare(
    {
        **{name: column for name, column in _KEY.items() if name not in ("measure", "part")},
        "predictor": Column(
            pl.String, "", "pooled_share, or the measure whose mean rank over a set's features is taken"
        ),
        "sets": Column(pl.UInt32, "count", "sets of this step: subsets of all groups, and sets disjoint from them"),
        "spearman": Column(
            pl.Float64, "-1 to 1", "rank correlation with the score over these sets; many share features"
        ),
        "partial": Column(pl.Float64, "-1 to 1", "the same at equal pooled_share"),
    }
)

TABLES = {
    "correlations": CORRELATIONS,
    "reliability": RELIABILITY,
    "additions": ADDITIONS,
    "removals": REMOVALS,
    "effects": EFFECTS,
    "ends": ENDS,
    "sets": SETS,
}
"""The tables by name; each is a file ``NAME.parquet``."""


@dataclass(frozen=True)
class PredictorRecord:
    """All of ``predictors.json``.

    Attributes:
        format_version: raised when a field or a table changes its meaning.
        command: how it was asked for.
        run: the run whose measures were compared.
        options: all of them, with defaults.
        model: the model at the SAE's block.
        dictionary: the SAE.
        data: the data sets of the classifier.
        skipped: by split, the images that could not be read.
        groups: by quantile group, its features.
        head: how the head on unedited tokens was chosen, and what it reaches.
        no_fair_control: the steps that a group is not compared at.
        notes: what a reader must know.
        software: versions.
        timings: seconds by stage.
        shared_images: the test images that were measured or trained on before.
    """

    format_version: int
    command: str
    run: str
    options: dict[str, Any]
    model: ModelRecord
    dictionary: DictionaryRecord
    data: dict[str, Any]
    skipped: dict[str, list[SkippedImage]]
    groups: dict[str, list[int]]
    head: dict[str, Any]
    no_fair_control: list[NoFairControl]
    notes: list[str]
    software: dict[str, str]
    timings: dict[str, float]
    shared_images: SharedRecord | None = None


@dataclass(frozen=True)
class PredictorResult:
    """The result of `measure_predictors`; columns and units of the tables are in this module.

    Attributes:
        record: with what, on what.
        correlations: one row for each two measures.
        reliability: one row a measure.
        additions: one row a set of features and a measure that explains CDS.
        removals: one row a removed set and head.
        effects: one row a quantile group, step, head and metric: subsets of it against sets disjoint from it.
        ends: one row a measure, step, head and metric: subsets of the highest group against those of the lowest.
        sets: one row a step, head, metric and predictor: what of a set goes with the score without it.
    """

    record: PredictorRecord
    correlations: pl.DataFrame
    reliability: pl.DataFrame
    additions: pl.DataFrame
    removals: pl.DataFrame
    effects: pl.DataFrame
    ends: pl.DataFrame
    sets: pl.DataFrame

    @property
    def tables(self) -> dict[str, pl.DataFrame]:
        """The tables by name."""
        return {name: getattr(self, name) for name in TABLES}

    def save(self, path: Path | str) -> None:
        """Write a folder; ``predictors.json`` comes last, so its presence says that all is there.

        Raises:
            InfoscopeError: the folder cannot be written.
        """
        path = Path(path)
        files = [f"{name}.parquet" for name in TABLES]
        remove_record(path / PREDICTORS_FILE, files)
        for name, table in self.tables.items():
            write_table(path / f"{name}.parquet", table, TABLES[name])
        write_sealed(path / PREDICTORS_FILE, self.to_json(), files)

    def to_json(self) -> dict[str, Any]:
        """What ``predictors.json`` holds."""
        value: dict[str, Any] = to_json(self.record)
        return value


def open_predictors(path: Path | str) -> PredictorResult:
    """Read what `PredictorResult.save` wrote.

    Raises:
        InfoscopeError: there is no finished comparison in the folder, or it is damaged or of another version.
    """
    path = Path(path)
    if not (path / PREDICTORS_FILE).is_file():
        raise InfoscopeError(f"{path} holds no finished comparison: give a folder that `infoscope predictors` wrote")
    record = read_record(PredictorRecord, path / PREDICTORS_FILE, "a comparison of measures", AGAIN)
    if record.format_version != FORMAT_VERSION:
        raise InfoscopeError(f"{path} holds a comparison of another version: compare again")
    return PredictorResult(
        record, **{name: read_table(path / f"{name}.parquet", table) for name, table in TABLES.items()}
    )
