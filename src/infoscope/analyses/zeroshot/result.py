"""The result of a zero-shot test: its tables, and the folder that they are written to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float64

from infoscope.analyses.removal.columns import CONTROL, ENERGY, summarise_ladder
from infoscope.analyses.removal.energy import Energies
from infoscope.analyses.removal.variants import Variant
from infoscope.analyses.zeroshot.classes import UNKNOWN
from infoscope.analyses.zeroshot.metrics import Estimate, Scores
from infoscope.analyses.zeroshot.record import ZeroshotRecord, figures_of
from infoscope.runtime.atomic import remove_leftovers_of
from infoscope.runtime.columns import Column, declare, join_tables, make_table, read_table, write_table
from infoscope.runtime.json_values import to_json
from infoscope.runtime.seal import read_whole, remove_record, write_sealed

_SHARE, _NATS, _CHANCE, _DIFFERENCE = "share, 0 to 1", "nats", "probability, 0 to 1", "-1 to 1"
_CLASSES = "; null where the images' classes are not known"

# Unit and meaning of the figures that have an interval.
_LEVELS = {
    "accuracy": (_SHARE, "images whose own class is predicted" + _CLASSES),
    "entropy": (_NATS, "entropy of the probabilities over classes, mean over images"),
    "margin": (_CHANCE, "probability of the predicted class minus that of the next, mean over images"),
    "confidence": (_CHANCE, "probability of the predicted class, mean over images"),
    "true_probability": (_CHANCE, "probability of the image's own class, mean over images" + _CLASSES),
}
_CHANGES = {
    "flips": (_SHARE, "images with another prediction than the untouched model's"),
    "right_to_wrong": (_SHARE, "images that the untouched model has right and this one wrong" + _CLASSES),
    "wrong_to_right": (_SHARE, "the reverse" + _CLASSES),
    "confidence_rose": (_SHARE, "images whose predicted class, whichever it is, became more probable"),
    "true_rose": (_SHARE, "images whose own class became more probable" + _CLASSES),
    "accuracy_change": (_DIFFERENCE, "accuracy minus the untouched model's" + _CLASSES),
    "entropy_change": (_NATS, "entropy minus the untouched model's on the same image, mean"),
    "margin_change": (_DIFFERENCE, "margin minus the untouched model's on the same image, mean"),
    "confidence_change": (_DIFFERENCE, "confidence minus the untouched model's on the same image, mean"),
    "true_probability_change": (_DIFFERENCE, "true_probability minus the untouched model's, mean" + _CLASSES),
    "calibration_error_change": (_DIFFERENCE, "calibration_error minus the untouched model's" + _CLASSES),
}


def _with_interval(name: str, unit: str, meaning: str) -> dict[str, Column]:
    return {
        name: Column(pl.Float64, unit, meaning),
        f"{name}_ci_lower": Column(pl.Float64, unit, f"lower end of the 95 % bootstrap interval of {name} over images"),
        f"{name}_ci_upper": Column(pl.Float64, unit, "upper end of the same interval"),
    }


VARIANTS = declare(
    {
        "name": Column(
            pl.String, "", "the variant, the untouched model first; the draws of a random group share it", required=True
        ),
        "draw": Column(pl.UInt32, "index", "draw of a random group, from 1; null elsewhere"),
        "group": Column(pl.String, "", "the group that is removed; null for none"),
        "kind": Column(pl.String, "", "what made the group: partition, class, rule, list or random; null for none"),
        "features": Column(pl.UInt32, "count", "features that are removed"),
        "mass": Column(
            pl.Float64,
            _SHARE,
            "their activation mass, sum of code times decoder-row norm, of that of all; null where no sample was read",
        ),
        **ENERGY,
        "method": Column(pl.String, "", "keep-error or reconstruct"),
        "replacement": Column(pl.String, "", "what the codes become: zero, mean or resampled"),
        "images": Column(pl.UInt32, "count", "images that were read"),
        **{
            column: description
            for name, (unit, meaning) in _LEVELS.items()
            for column, description in _with_interval(name, unit, meaning).items()
        },
        "top5": Column(
            pl.Float64,
            _SHARE,
            "images whose own class is among the five most probable; null with five classes or fewer, and"
            + _CLASSES[1:],
        ),
        "calibration_error": Column(
            pl.Float64,
            _SHARE,
            "expected calibration error over 15 bins of equal width of the confidence" + _CLASSES,
        ),
        **{
            column: description
            for name, (unit, meaning) in _CHANGES.items()
            for column, description in _with_interval(name, unit, meaning + "; null for the untouched model").items()
        },
        **CONTROL,
    }
)

PREDICTIONS = declare(
    {
        "image": Column(pl.UInt64, "index", "position of the image in the source's order"),
        "image_id": Column(pl.String, "", "as in top_images"),
        "name": Column(pl.String, "", "the variant, as in zeroshot.parquet"),
        "draw": Column(pl.UInt32, "index", "as in zeroshot.parquet"),
        "label": Column(pl.String, "", "name of the image's own class; null where it is not known"),
        "prediction": Column(pl.String, "", "name of the predicted class"),
        "prediction_class": Column(pl.UInt32, "index", "the predicted class, in the order of classes in zeroshot.json"),
        "rank": Column(pl.UInt32, "index", "classes before the image's own, 0 where it is predicted; null if unknown"),
        "confidence": Column(pl.Float64, _CHANCE, "probability of the predicted class"),
        "true_probability": Column(pl.Float64, _CHANCE, "probability of the image's own class; null if unknown"),
        "entropy": Column(pl.Float64, _NATS, "entropy of the probabilities over classes"),
        "margin": Column(pl.Float64, _CHANCE, "probability of the predicted class minus that of the next"),
    }
)


def variant_row(
    variant: Variant,
    mass: Float64[np.ndarray, " feature"] | None,
    images: int,
    estimates: Mapping[str, Estimate],
    without_interval: Mapping[str, float | None],
    energies: Energies | None = None,
) -> dict[str, Any]:
    """A variant's row.

    Args:
        variant: the variant.
        mass: activation mass of every feature, where it is known.
        images: images that were read.
        estimates: its levels and, unless it is the untouched model, its changes.
        without_interval: figures without an interval.
        energies: gives the removed energy, where a sample of tokens was read.
    """
    group = variant.group
    row: dict[str, Any] = {
        "name": variant.name,
        "draw": variant.draw,
        "group": None if group is None else group.name,
        "kind": None if group is None else group.kind,
        "features": 0 if group is None else len(group.features),
        "mass": None if mass is None or not mass.sum() else variant.mass_share(mass),
        **({} if energies is None else energies.columns(variant)),
        "method": variant.method,
        "replacement": variant.replacement,
        "images": images,
        **without_interval,
        **variant.control_columns,
    }
    for name, estimate in estimates.items():
        row |= {name: estimate.value, f"{name}_ci_lower": estimate.lower, f"{name}_ci_upper": estimate.upper}
    return row


def variants_table(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """One row a variant."""
    return make_table(VARIANTS, rows)


def predictions_table(
    image: np.ndarray,
    ids: Sequence[str],
    label: np.ndarray,
    names: Sequence[str],
    scores: Sequence[tuple[Variant, Scores]],
) -> pl.DataFrame:
    """One row an image and variant, ordered by image, then in the order of the variants.

    Args:
        image: positions of the images in the source.
        ids: their ids.
        label: their classes, or `UNKNOWN`.
        names: names of the classes.
        scores: scores of each variant.
    """
    class_names = pl.Series([*names, None], dtype=pl.String)  # the last entry is for unknown classes
    own = class_names.gather(np.where(label == UNKNOWN, len(names), label))
    frames = [
        make_table(
            PREDICTIONS,
            {
                "image": image,
                "image_id": pl.Series(ids, dtype=pl.String),
                "name": [variant.name] * len(image),
                "draw": [variant.draw] * len(image),
                "label": own,
                "prediction": class_names.gather(each.prediction),
                "prediction_class": each.prediction,
                "rank": pl.Series(each.rank).replace(UNKNOWN, None),
                "confidence": each.confidence,
                "true_probability": each.true_probability,
                "entropy": each.entropy,
                "margin": each.margin,
            },
        )
        for variant, each in scores
    ]
    order = np.arange(len(frames) * len(image)).reshape(len(frames), -1).T.ravel()
    return pl.concat(frames)[order]


AGAIN = "restore it, or run `infoscope zeroshot` again"
ZEROSHOT_FILE, VARIANTS_FILE, PREDICTIONS_FILE = "zeroshot.json", "zeroshot.parquet", "predictions.parquet"


@dataclass(frozen=True)
class ZeroshotResult:
    """The result of `measure_zeroshot`; columns and units of the tables are in `infoscope.analyses.zeroshot.result`.

    Attributes:
        record: what was tested, with what, on what.
        variants: one row a variant, the untouched model first.
        parts: the rows of `predictions`, a shard of images at a time.
    """

    record: ZeroshotRecord
    variants: pl.DataFrame
    parts: Callable[[], Iterator[pl.DataFrame]] = field(repr=False)

    @property
    def predictions(self) -> pl.DataFrame:
        """One row an image and variant; built or read each time."""
        return pl.concat(list(self.parts()))

    def save(self, path: Path | str) -> None:
        """Write a folder; ``zeroshot.json`` is written last, so that its presence says that the folder is whole.

        An earlier test in the folder is replaced.

        Raises:
            InfoscopeError: the folder cannot be written.
        """
        path = Path(path)
        remove_record(path / ZEROSHOT_FILE, [piece.name for piece in path.glob(".*predictions-*.tmp")])
        remove_leftovers_of([path / VARIANTS_FILE, path / PREDICTIONS_FILE])
        pieces: list[Path] = []
        try:
            write_table(path / VARIANTS_FILE, self.variants, VARIANTS)
            for number, frame in enumerate(self.parts()):
                pieces.append(path / f".predictions-{number}.tmp")
                write_table(pieces[-1], frame, PREDICTIONS)
            join_tables(path / PREDICTIONS_FILE, pieces, PREDICTIONS)
        finally:
            for piece in pieces:
                piece.unlink(missing_ok=True)
        write_sealed(path / ZEROSHOT_FILE, self.to_json(), [VARIANTS_FILE, PREDICTIONS_FILE])

    def to_json(self) -> dict[str, object]:
        """What ``zeroshot.json`` holds, and the table of variants; a number that is not defined is None."""
        value: dict[str, object] = to_json(self.record) | {"results": to_json(self.variants.to_dicts())}
        ladder = self.ladder.to_dicts()
        return value | ({"ladder": to_json(ladder)} if ladder else {})

    @property
    def ladder(self) -> pl.DataFrame:
        """What comes out on each group's ladder, figure by figure: `infoscope.analyses.removal.columns.LADDER`."""
        return summarise_ladder(by_figure(self.variants), self.record.no_fair_control)


def by_figure(variants: pl.DataFrame) -> pl.DataFrame:
    """One row a variant and figure, as `summarise_ladder` takes them.

    Args:
        variants: `VARIANTS`.
    """
    figures = [name for name in figures_of(variants) if variants[name].is_not_null().any()]
    of_variant = ["name", "draw", "features", *ENERGY, *CONTROL]
    rows = variants.unpivot(figures, index=of_variant, variable_name="metric", value_name="score")
    # The untouched model, which changes nothing, has no changes.
    return rows.filter(pl.col("score").is_not_null()).with_columns(pl.lit("rerun").alias("site"))


def read_predictions(path: Path | str) -> pl.DataFrame:
    """Read the table of predictions from a folder.

    Raises:
        InfoscopeError: it cannot be read.
    """
    path = Path(path)
    if (path / ZEROSHOT_FILE).is_file():
        read_whole(path / ZEROSHOT_FILE, AGAIN, [PREDICTIONS_FILE])
    return read_table(path / PREDICTIONS_FILE, PREDICTIONS)
