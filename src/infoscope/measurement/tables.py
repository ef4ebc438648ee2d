"""Scores, rankings and maps as the tables of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import polars as pl

from infoscope.measurement.judging import Features
from infoscope.measurement.ranking import Ranking
from infoscope.runtime.choices import Metric
from infoscope.runtime.schema import CROSS_CHECKS, MAPS, SCOPE, SHIFT_CURVE, TOP_IMAGES, Table
from infoscope.scope.geometry import patch_distances
from infoscope.scope.maps import MapPairs, SparseMaps
from infoscope.scope.reliability import PairedDifference
from infoscope.scope.score import FeatureScores, PairScores


def scope_table(features: Features, ranking: Ranking) -> pl.DataFrame:
    """One row a feature; undefined values are null. Columns: `infoscope.runtime.schema.SCOPE`."""
    _, tokens = ranking.seen
    scores, controls, moves = features.scores, features.controls, features.moves
    return _frame(
        SCOPE,
        feature=np.arange(len(scores.cds)),
        cds=scores.cds,
        cds_ci_lower=scores.cds_ci_lower,
        cds_ci_upper=scores.cds_ci_upper,
        pairs=scores.pairs,
        vanished=scores.vanished,
        retention=scores.retention,
        cds_retained=scores.cds_retained,
        max_activation=ranking.score[:, 0],
        images_active=ranking.images_active,
        density=ranking.tokens_active / max(tokens, 1),
        effective_area=scores.effective_area,
        cosine_distance=scores.cosine_distance,
        mass_ratio=scores.mass_ratio,
        **{field.name: getattr(controls, field.name) for field in fields(controls)},
        pairs_following=moves.following,
        pairs_staying=moves.staying,
        pairs_still=moves.still,
        pairs_jumping=moves.jumping,
        scope_class=features.classes.names,
        class_evidence=features.classes.evidence,
        trust=features.trust.value,
        trust_reasons=features.trust.reasons,
    )


def top_images_table(ranking: Ranking, scores: PairScores, ids: Sequence[str]) -> pl.DataFrame:
    """One row a feature and rank. Columns: `infoscope.runtime.schema.TOP_IMAGES`."""
    feature, rank = np.nonzero(ranking.image >= 0)
    image = ranking.image[feature, rank]
    return _frame(
        TOP_IMAGES,
        feature=feature,
        rank=rank,
        image=image,
        image_id=[ids[position] for position in image],
        score=ranking.score[feature, rank],
        mass_first=scores.mass_first,
        mass_second=scores.mass_second,
        emd=scores.emd,
    )


def shift_curve_table(curve: Mapping[int, FeatureScores], grid: int, metric: Metric) -> pl.DataFrame:
    """One row a feature and shift. Columns: `infoscope.runtime.schema.SHIFT_CURVE`.

    Args:
        curve: the scores at each shift.
        grid: p, patches per side.
        metric: the ground distance, which D is the largest of.
    """
    rows = []
    for shift, scores in curve.items():
        diagonal = patch_distances(grid - shift, metric).max()
        rows.append(
            _frame(
                SHIFT_CURVE,
                feature=np.arange(len(scores.cds)),
                shift=np.full(len(scores.cds), shift),
                cds=scores.cds,
                cds_patches=scores.cds * diagonal,
                cds_ci_lower=scores.cds_ci_lower,
                cds_ci_upper=scores.cds_ci_upper,
                pairs=scores.pairs,
                vanished=scores.vanished,
            )
        )
    return pl.concat(rows).sort("feature", "shift")


def cross_checks_table(name: str, scores: FeatureScores, difference: PairedDifference | None) -> pl.DataFrame:
    """One check's rows, one a feature. Columns: `infoscope.runtime.schema.CROSS_CHECKS`."""
    count = len(scores.cds)
    none = pl.Series([None] * count, dtype=pl.UInt32)
    return _frame(
        CROSS_CHECKS,
        check=[name] * count,
        feature=np.arange(count),
        cds=scores.cds,
        cds_ci_lower=scores.cds_ci_lower,
        cds_ci_upper=scores.cds_ci_upper,
        pairs=scores.pairs,
        vanished=scores.vanished,
        effective_area=scores.effective_area,
        difference=np.full(count, np.nan) if difference is None else difference.difference,
        difference_pairs=none if difference is None else difference.pairs,
    )


def maps_table(pairs: MapPairs) -> pl.DataFrame:
    """One row a feature, rank and crop. Columns: `infoscope.runtime.schema.MAPS`."""
    count = len(pairs.feature)
    first, second = _lists(pairs.first), _lists(pairs.second)
    rows = _frame(
        MAPS,
        feature=np.tile(pairs.feature, 2),
        rank=np.tile(pairs.rank, 2),
        crop=np.repeat(np.array([0, 1]), count),
        patch=pl.concat([first["patch"], second["patch"]]),
        value=pl.concat([first["value"], second["value"]]),
    )
    return rows.sort("feature", "rank", "crop")


def _lists(maps: SparseMaps) -> pl.DataFrame:
    """Compressed rows as list columns, an empty list for an empty map."""
    entries = pl.DataFrame({"map": maps.rows(), "patch": maps.patch, "value": maps.value})
    filled = entries.group_by("map", maintain_order=True).agg("patch", "value")
    return (
        pl.DataFrame({"map": np.arange(len(maps))})
        .join(filled, on="map", how="left", maintain_order="left")
        .with_columns(pl.col("patch", "value").fill_null([]))
    )


def _frame(table: Table, **columns: np.ndarray | Sequence[str] | pl.Series) -> pl.DataFrame:
    return pl.DataFrame([_column(name, column.dtype, columns[name]) for name, column in table.items()])


def _column(name: str, dtype: Any, values: np.ndarray | Sequence[str] | pl.Series) -> pl.Series:
    """One column, NaN as null."""
    if dtype == pl.List(pl.Float64):
        return pl.Series(name, values).cast(dtype).list.eval(pl.element().fill_nan(None))
    undefined = dtype in (pl.Float64, pl.Boolean)
    return pl.Series(name, values, nan_to_null=undefined).cast(dtype).alias(name)
