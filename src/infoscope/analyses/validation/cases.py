"""One case of a validation: planted features are measured, matched to the truth and judged."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, Float64, Int64

from infoscope.analyses.planted.config import KINDS, PURE, PlantedConfig, Setting, planted_config
from infoscope.analyses.planted.model import turned
from infoscope.analyses.planted.plant import Planted, plant, plant_into
from infoscope.analyses.planted_blobs.config import BlobsConfig, blobs_config
from infoscope.analyses.planted_blobs.plant import PlantedBlobs, plant_blobs
from infoscope.analyses.validation.config import Case, ValidateConfig
from infoscope.analyses.validation.like_real import RunNoise, measure_options
from infoscope.backbones.backbone import Backbone
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.images.source import ArraySource, spread_evenly
from infoscope.measurement.config import MeasureConfig
from infoscope.measurement.measure import measure_scope
from infoscope.runtime.columns import Column, declare, make_table
from infoscope.runtime.run import Run
from infoscope.scope.classes import CLASSES
from infoscope.scope.modes import dip_test
from infoscope.training.train import train_sae

_CASE: dict[str, Column] = {
    "world": Column(pl.String, "", "planted: a model made of planted features; real: a real one with features planted"),
    "setting": Column(pl.String, "", "default, adversarial, noisy, mixtures or like-real (method, section 9)"),
    "family": Column(pl.String, "", "patches or blobs: the generators of the features", since="0.1.0"),
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

FEATURES = declare(
    {
        **_CASE,
        "feature": Column(pl.UInt32, "index", "the planted feature"),
        "name": Column(pl.String, "", "its kind and what it is a function of"),
        "kind": Column(pl.String, "", "the truth: local, global, position-bound, diffuse, mixed-maps or mixed-images"),
        "graded": Column(
            pl.Float64,
            "0 to 1",
            "how far it is global: of a mixture, the share of its maps' mass or images",
            since="0.1.0",
        ),
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
        "mass_ratio": Column(pl.Float64, "", "", since="0.1.0"),
        "support_iou": Column(pl.Float64, "", "", since="0.1.0"),
        "cds_even": Column(pl.Float64, "", "", since="0.1.0"),
        "cds_odd": Column(pl.Float64, "", "", since="0.1.0"),
    }
)

CASES = declare(
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
        "confusion": Column(
            pl.List(pl.List(pl.Int64)),
            "count",
            "true kind by class, in the order of kinds and classes in validation.json",
        ),
        "diffuse_as_local": Column(pl.Float64, "share", "of the recovered diffuse features, called local"),
        "line": Column(pl.Float64, "share of D", "s/(p-s-1), where a feature glued to a place lies"),
        "position_cds": Column(
            pl.Float64, "share of D", "median CDS of the position-bound features inside the overlap"
        ),
        "dip_p": Column(pl.Float64, "", "of Hartigan's dip test on the spectrum of CDS of all recovered features"),
        "seconds": Column(pl.Float64, "s", "that the case took"),
    }
)


RECOVERED = 0.5
"""A feature is of a kind where at least this share of its decoder direction's square lies in the span of that kind's
planted directions. Our choice: as much as everything else in it together."""


def match_directions(
    planted: Float[np.ndarray, "feature width"], trained: Float[np.ndarray, "latent width"]
) -> tuple[Int64[np.ndarray, " feature"], Float64[np.ndarray, " feature"]]:
    """The one-to-one matching with the largest total cosine between decoder directions (Hungarian method).

    Args:
        planted: true directions.
        trained: decoder rows, at least as many as there are planted features.

    Returns:
        For each planted feature, the latent and the cosine of the two directions.

    Example:
        >>> trained = np.array([[0.0, 2.0, 0.0], [0.0, 0.0, 1.0], [3.0, 0.0, 3.0]])
        >>> latent, cosine = match_directions(np.eye(2, 3), trained)
        >>> latent.tolist(), cosine.round(3).tolist()
        ([2, 0], [0.707, 1.0])
    """
    from scipy.optimize import linear_sum_assignment

    cosine = _unit(planted) @ _unit(trained).T
    _, latent = linear_sum_assignment(cosine, maximize=True)
    return latent.astype(np.int64), cosine[np.arange(len(planted)), latent]


def kind_share(
    planted: Float[np.ndarray, "feature width"], kinds: Sequence[str], trained: Float[np.ndarray, "latent width"]
) -> Float64[np.ndarray, " latent"]:
    """How much of a decoder direction lies in the span of the planted directions of its feature's kind.

    Features that always fire together may be one feature of the SAE, with a mixture of their directions. It is then
    undecidable which of them it stands for, but not which kind.

    Args:
        planted: true directions, orthonormal.
        kinds: the kind of each.
        trained: the decoder row that stands for each feature, ``[feature, width]``.

    Returns:
        The share of each row's square in the span of the kind's directions, 0 to 1.

    Example:
        >>> trained = np.array([[3.0, 4.0, 0.0, 0.0], [0.0, 1.0, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0]])
        >>> kind_share(np.eye(3, 4), ["global", "global", "local"], trained)
        array([1. , 0.5, 0.5])
    """
    cosine = _unit(trained) @ planted.T
    same = np.asarray(kinds)[:, None] == np.asarray(kinds)
    share: Float64[np.ndarray, " latent"] = (np.square(cosine) * same).sum(1)
    return share


def _unit(rows: Float[np.ndarray, "row width"]) -> Float64[np.ndarray, "row width"]:
    length = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    unit: Float64[np.ndarray, "row width"] = rows / np.maximum(length, 1e-12)
    return unit


COLUMNS: tuple[str, ...] = (*PURE, *(name for name in CLASSES if name not in PURE))
"""The scope classes, with the pure kinds first, so that correct classes are on the diagonal."""


def right_class(kind: str) -> str:
    """The class that a kind should get.

    Example:
        >>> right_class("local"), right_class("mixed-images")
        ('local', 'mixed')
    """
    return kind.split("-")[0] if kind.startswith("mixed") else kind


def scope_auc(kinds: Sequence[str], score: Float[np.ndarray, " feature"]) -> float:
    """Area under the ROC curve of a score for global against local features; NaN where one of them has no score.

    Features without a score are left out.

    Example:
        >>> scope_auc(["local", "global", "diffuse", "local"], np.array([0.1, 0.4, 0.9, np.nan]))
        1.0
    """
    from sklearn.metrics import roc_auc_score

    names = np.asarray(kinds)
    compared = np.isin(names, ["local", "global"]) & ~np.isnan(score)
    positive = names[compared] == "global"
    if positive.all() or not positive.any():
        return float("nan")
    return float(roc_auc_score(positive, score[compared]))


def confusion(kinds: Sequence[str], classes: Sequence[str]) -> Int64[np.ndarray, "kind class"]:
    """How many features of each kind, in the order of `KINDS`, got each class, in the order of `COLUMNS`.

    Example:
        >>> found = confusion(["local", "local", "mixed-maps"], ["local", "undefined", "global"])
        >>> [dict(zip(COLUMNS, row))["local"] for row in found.tolist()], found.sum(1).tolist()
        ([1, 0, 0, 0, 0, 0], [2, 0, 0, 0, 1, 0])
    """
    matrix = np.zeros((len(KINDS), len(COLUMNS)), np.int64)
    for kind, name in zip(kinds, classes, strict=True):
        matrix[KINDS.index(kind), COLUMNS.index(name)] += 1
    return matrix


def balanced_accuracy(kinds: Sequence[str], classes: Sequence[str]) -> float:
    """The share of features that got the class of their kind, mean over kinds; having no class of its own is wrong.

    Both mixtures should be called mixed; by rules that have no such class they are left out.

    Example:
        >>> balanced_accuracy(["local", "local", "global"], ["local", "undefined", "global"])
        0.75
    """
    from sklearn.metrics import recall_score

    right = [right_class(kind) for kind in kinds]
    present = sorted(set(right) & set(CLASSES))
    return float(recall_score(right, list(classes), labels=present, average="macro", zero_division=0))


# The columns of scope.parquet that the table of features repeats.
_MEASURED = (
    *("cds", "pairs", "effective_area", "position_control", "cds_null", "cds_calibrated", "trust", "scope_class"),
    *("mass_ratio", "support_iou", "cds_even", "cds_odd"),
)
_SPARE = 64
"""Dimensions of the blobs' tokens beside the features, which hold places and the seats' length. Our choice."""
BATCH_TOKENS, LEARNING_RATE = 512, 2e-3
"""Of the trained SAE. Our choice: there are few tokens, so there are many short steps."""
_OUTLIER_MODEL_SHARES = (0.6, 0.4, 0.0, 0.0)
"""Shares of the kinds in the outlier model, which has only the two of the paper."""


@dataclass(frozen=True)
class Bench:
    """What all cases have in common, and the measurement of one.

    Attributes:
        images: the photographs, in memory.
        config: the options.
        backbone: a real model at its block to plant features into, if there is one.
        like: a real run that planted models are to be like, if there is one, and its noise.
    """

    images: ArraySource
    config: ValidateConfig
    backbone: Backbone | None = None
    like: tuple[Run, RunNoise] | None = None

    def run(self, case: Case) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Measure a case: its row of `CASES`, and its rows of `FEATURES`."""
        start = time.monotonic()
        images = self._sample(case.photographs)
        planted = self._plant(case, images)
        sae = self._dictionary(case, planted, images)
        options = MeasureConfig(top_images=case.top_images, shift=case.shift)
        if self.like is not None:
            options = measure_options(self.like[0])
        scope = measure_scope(planted.backbone, sae, images, options)
        features = _features(case, planted, sae, scope.table)
        row = judge(features, case, planted.config.grid)
        return make_table(CASES, [row | {"seconds": round(time.monotonic() - start, 1)}]), features

    def _sample(self, count: int) -> ArraySource:
        """A sample of the photographs, spread evenly over them."""
        sample = sorted(spread_evenly(len(self.images), count))
        return ArraySource([self.images[i] for i in sample], name=self.images.name)

    def _plant(self, case: Case, images: ArraySource) -> Planted | PlantedBlobs:
        if self.like is not None:
            return self._plant_like(case, images, *self.like)
        setting: Setting = case.setting  # type: ignore[assignment]
        if case.family == "blobs":
            features = self.config.features
            width = max(BlobsConfig.width, features + _SPARE)
            return plant_blobs(images, blobs_config(setting, seed=case.seed, features=features, width=width))
        options: dict[str, Any] = {name: getattr(case, name) for name in ("seed", "noise", "background")}
        options["features"] = self.config.features
        if case.outlier_model:
            options["shares"] = _OUTLIER_MODEL_SHARES
        config = planted_config(setting, **options)
        if case.world == "planted":
            return plant(images, config)
        assert self.backbone is not None
        return plant_into(self.backbone, images, config)

    def _plant_like(self, case: Case, images: ArraySource, run: Run, noise: RunNoise) -> Planted | PlantedBlobs:
        model, features = run.manifest.model, self.config.features
        options = noise.options(features, case.seed, model.grid**2)
        options |= {"grid": model.grid, "patch_size": model.patch_size, "width": 2 * features + _SPARE}
        drawn = noise.drawn(features, case.seed)
        if case.family == "blobs":
            return plant_blobs(images, BlobsConfig(**options, error=tuple(drawn.log_error.tolist())))
        # Maps of a real run have a peak, and how far codes are lost depends on their height under it.
        return plant(images, PlantedConfig(**options, noise=tuple(drawn.error.tolist()), peaked=True))

    def _dictionary(self, case: Case, planted: Planted | PlantedBlobs, images: ArraySource) -> SparseAutoencoder:
        if case.dictionary == "planted":
            return planted.dictionary
        if case.dictionary == "turned":
            return turned(planted.dictionary, case.cosine, case.seed)
        return train_sae(
            planted.backbone,
            images,
            features=self.config.trained_features,
            k=self.config.trained_k,
            tokens=self.config.tokens,
            batch_tokens=BATCH_TOKENS,
            learning_rate=LEARNING_RATE,
            seed=case.seed,
        )


def _features(case: Case, planted: Planted | PlantedBlobs, sae: SparseAutoencoder, scope: pl.DataFrame) -> pl.DataFrame:
    """The rows of the scope table for the planted features, beside the truth."""
    truth = planted.dictionary.W_dec.detach().cpu().numpy()
    directions = sae.W_dec.detach().cpu().numpy()
    if case.dictionary == "trained":
        latent, cosine = match_directions(truth, directions)
    else:
        latent = np.arange(len(truth))
        cosine = (truth * directions).sum(1) / np.linalg.norm(directions, axis=1)
    share = kind_share(truth, planted.kinds, directions[latent])
    measured = scope[latent.tolist()]
    inside = planted.inside(case.shift)
    rows = [
        case.recorded() | {"feature": j, "name": planted.names[j], "kind": kind, "inside": inside[j]}
        for j, kind in enumerate(planted.kinds)
    ]
    planted_rows = pl.DataFrame(rows).with_columns(
        graded=pl.Series(planted.graded, nan_to_null=True),
        latent=pl.Series(latent),
        match=pl.Series(cosine).cast(pl.Float64),
        kind_share=pl.Series(share),
    )
    columns = measured.select(_MEASURED)
    joined: pl.DataFrame = pl.concat([planted_rows, columns], how="horizontal")
    return joined.select([pl.col(name).cast(column.dtype) for name, column in FEATURES.items()])


def judge(features: pl.DataFrame, case: Case, grid: int) -> dict[str, Any]:
    """One row of `CASES`, without the seconds, from the rows of `FEATURES`; ``grid`` is p."""
    # Directions that were turned on purpose still stand for their features, however far they were turned.
    recovered = features if case.dictionary != "trained" else features.filter(pl.col("kind_share") >= RECOVERED)
    kinds: Sequence[str] = recovered["kind"].to_list()
    scored = recovered["cds"].drop_nulls().to_numpy()
    classes = recovered["scope_class"].to_list() or None
    diffuse = recovered.filter(pl.col("kind") == "diffuse")["scope_class"].to_list()
    glued = recovered.filter(pl.col("inside"))["cds"].median()
    calibrated = scope_auc(kinds, _floats(recovered["cds_calibrated"]))
    return case.recorded() | {
        "features": features.height,
        "recovered": recovered.height / features.height,
        "auc": _number(scope_auc(kinds, _floats(recovered["cds"]))),
        "auc_calibrated": _number(calibrated),
        "unscored": None if not kinds else recovered["cds"].null_count() / len(kinds),
        "balanced_accuracy": None if classes is None else balanced_accuracy(kinds, classes),
        "confusion": None if classes is None else confusion(kinds, classes).tolist(),
        "diffuse_as_local": None if classes is None or not diffuse else diffuse.count("local") / len(diffuse),
        "line": case.shift / (grid - case.shift - 1),
        "position_cds": glued,
        "dip_p": _number(dip_test(scored)[1]),
    }


def _floats(column: pl.Series) -> np.ndarray:
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
