"""One case: plant, measure, and hold the table against the truth."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from infoscope.backbones.backbone import Backbone
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.images.arrays import ArraySource
from infoscope.images.spread import spread_evenly
from infoscope.measurement.config import MeasureConfig
from infoscope.measurement.measure import measure_scope
from infoscope.planted.config import PlantedConfig, planted_config
from infoscope.planted.dictionary import turned
from infoscope.planted.plant import Planted, plant, plant_into
from infoscope.scope.modes import dip_test
from infoscope.training.train import train_sae
from infoscope.validation.config import Case, ValidateConfig
from infoscope.validation.judge import balanced_accuracy, confusion, scope_auc
from infoscope.validation.matching import RECOVERED, kind_share, match
from infoscope.validation.table import CASES, FEATURES, typed

# What the table of features has of scope.parquet.
_MEASURED = ("cds", "pairs", "effective_area", "position_control", "cds_null", "cds_calibrated", "trust", "scope_class")
BATCH_TOKENS, LEARNING_RATE = 512, 2e-3
"""Of the trained SAE. Our choice: few tokens, so many short steps."""
_ONLY_TWO = (0.6, 0.4, 0.0, 0.0)
"""Shares of the outlier model: the paper's two groups."""


@dataclass(frozen=True)
class Bench:
    """What every case is measured with.

    Attributes:
        images: the photographs, held in memory.
        config: the options.
        backbone: a real model to plant into, at its block, where one is named.
    """

    images: ArraySource
    config: ValidateConfig
    backbone: Backbone | None = None

    def run(self, case: Case) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The case's row of `CASES`, and its rows of `FEATURES`."""
        start = time.monotonic()
        images = self._some(case.photographs)
        planted = self._plant(case, images)
        sae = self._dictionary(case, planted, images)
        scope = measure_scope(
            planted.backbone,
            sae,
            images,
            MeasureConfig(top_images=case.top_images, shift=case.shift),
            show_progress=False,
        )
        features = _features(case, planted, sae, scope.table)
        row = judge(features, case, planted.config)
        return typed([row | {"seconds": round(time.monotonic() - start, 1)}], CASES), features

    def _some(self, count: int) -> ArraySource:
        """As many of the photographs, spread evenly."""
        total = len(self.images)
        sample = sorted(spread_evenly(total, count))
        return ArraySource([self.images[i] for i in sample], name=self.images.name)

    def _plant(self, case: Case, images: ArraySource) -> Planted:
        options: dict[str, Any] = {name: getattr(case, name) for name in ("seed", "noise", "background")}
        options["features"] = self.config.features
        if case.outlier_model:
            options["shares"] = _ONLY_TWO
        config = planted_config(case.setting, **options)
        if case.world == "planted":
            return plant(images, config, show_progress=False)
        assert self.backbone is not None
        return plant_into(self.backbone, images, config, show_progress=False)

    def _dictionary(self, case: Case, planted: Planted, images: ArraySource) -> SparseAutoencoder:
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
            show_progress=False,
        )


def _features(case: Case, planted: Planted, sae: SparseAutoencoder, scope: pl.DataFrame) -> pl.DataFrame:
    """The measured table's rows for the planted features, with their truth."""
    truth = planted.dictionary.W_dec.detach().cpu().numpy()
    directions = sae.W_dec.detach().cpu().numpy()
    if case.dictionary == "trained":
        latent, cosine = match(truth, directions)
    else:
        latent = np.arange(len(truth))
        cosine = (truth * directions).sum(1) / np.linalg.norm(directions, axis=1)
    share = kind_share(truth, planted.kinds, directions[latent])
    measured = scope[latent.tolist()]
    inside = planted.inside(case.shift)
    rows = [
        asdict(case) | {"feature": j, "name": planted.names[j], "kind": kind, "inside": inside[j]}
        for j, kind in enumerate(planted.kinds)
    ]
    given = pl.DataFrame(rows).with_columns(
        latent=pl.Series(latent), match=pl.Series(cosine).cast(pl.Float64), kind_share=pl.Series(share)
    )
    columns = measured.select(_MEASURED)
    joined: pl.DataFrame = pl.concat([given, columns], how="horizontal")
    return joined.select([pl.col(name).cast(column.dtype) for name, column in FEATURES.items()])


def judge(features: pl.DataFrame, case: Case, config: PlantedConfig) -> dict[str, Any]:
    """One row of `CASES`, but for the seconds, from the rows of `FEATURES`."""
    # Directions that were turned on purpose still stand for their features.
    recovered = features if case.dictionary != "trained" else features.filter(pl.col("kind_share") >= RECOVERED)
    kinds: Sequence[str] = recovered["kind"].to_list()
    scored = recovered["cds"].drop_nulls().to_numpy()
    classes = recovered["scope_class"].to_list() or None
    diffuse = recovered.filter(pl.col("kind") == "diffuse")["scope_class"].to_list()
    glued = recovered.filter(pl.col("inside"))["cds"].median()
    calibrated = scope_auc(kinds, _floats(recovered["cds_calibrated"]))
    return asdict(case) | {
        "features": features.height,
        "recovered": recovered.height / features.height,
        "auc": _number(scope_auc(kinds, _floats(recovered["cds"]))),
        "auc_calibrated": _number(calibrated),
        "unscored": None if not kinds else recovered["cds"].null_count() / len(kinds),
        "balanced_accuracy": None if classes is None else balanced_accuracy(kinds, classes),
        "confusion": None if classes is None else confusion(kinds, classes).tolist(),
        "diffuse_as_local": None if classes is None or not diffuse else diffuse.count("local") / len(diffuse),
        "line": case.shift / (config.grid - case.shift - 1),
        "position_cds": glued,
        "dip_p": _number(dip_test(scored)[1]),
    }


def _floats(column: pl.Series) -> np.ndarray:
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
