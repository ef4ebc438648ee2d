"""Scores, rankings and maps as the tables of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from infoscope.measurement.controls import posterior_column
from infoscope.measurement.judging import Features
from infoscope.measurement.ranking import Ranking
from infoscope.options import Metric
from infoscope.runtime.columns import make_table
from infoscope.runtime.schema import CROSS_CHECKS, MAPS, SCOPE, SHIFT_CURVE, TOP_IMAGES
from infoscope.scope.classes import SETTLED
from infoscope.scope.geometry import patch_distances
from infoscope.scope.maps import MapPairs, SparseMaps
from infoscope.scope.posterior import Posterior
from infoscope.scope.reliability import PairedDifference
from infoscope.scope.score import FeatureScores, PairScores


def scope_table(features: Features, ranking: Ranking) -> pl.DataFrame:
    """One row a feature; undefined values are null. Columns: `infoscope.runtime.schema.SCOPE`."""
    _, tokens = ranking.seen
    # A column that is a field of the scores or of the controls goes by the field's name.
    values = {
        **vars(features.scores),
        **vars(features.controls),
        **{f"pairs_{movement}": share for movement, share in vars(features.moves).items()},
        "feature": np.arange(len(features.scores.cds)),
        "max_activation": ranking.score[:, 0],
        "images_active": ranking.images_active,
        "density": ranking.tokens_active / max(tokens, 1),
        **{name: values for name, values in vars(features.displacement).items() if name != "moves"},
        **_chances(features.chances, len(features.scores.cds)),
        "scope_class": features.classes.names,
        "class_evidence": features.classes.evidence,
        "class_even": features.halves.even,
        "class_odd": features.halves.odd,
        "trust": features.trust.value,
        "trust_reasons": features.trust.reasons,
    }
    return make_table(SCOPE, values)


def _chances(posterior: Posterior | None, features: int) -> dict[str, object]:
    """The posteriors of the classes as columns; of nulls where the rules give none."""
    return {
        posterior_column(name): [None] * features if posterior is None else posterior.chances[:, place]
        for place, name in enumerate(SETTLED)
    }


def top_images_table(ranking: Ranking, scores: PairScores, ids: Sequence[str]) -> pl.DataFrame:
    """One row a feature and rank. Columns: `infoscope.runtime.schema.TOP_IMAGES`."""
    feature, rank = np.nonzero(ranking.image >= 0)
    image = ranking.image[feature, rank]
    values = {
        "feature": feature,
        "rank": rank,
        "image": image,
        "image_id": [ids[position] for position in image.tolist()],
        "score": ranking.score[feature, rank],
        "mass_first": scores.mass_first,
        "mass_second": scores.mass_second,
        "emd": scores.emd,
    }
    return make_table(TOP_IMAGES, values)


def shift_curve_table(curve: Mapping[int, FeatureScores], grid: int, metric: Metric) -> pl.DataFrame:
    """One row a feature and shift. Columns: `infoscope.runtime.schema.SHIFT_CURVE`.

    Args:
        curve: the scores at each shift.
        grid: p, patches per side.
        metric: the ground distance, which D is the largest of.
    """
    tables = []
    for shift, scores in curve.items():
        count = len(scores.cds)
        values = vars(scores) | {
            "feature": np.arange(count),
            "shift": np.full(count, shift),
            "cds_patches": scores.cds * patch_distances(grid - shift, metric).max(),
        }
        tables.append(make_table(SHIFT_CURVE, values))
    return pl.concat(tables).sort("feature", "shift")


def cross_checks_table(name: str, scores: FeatureScores, difference: PairedDifference | None) -> pl.DataFrame:
    """One check's rows, one a feature. Columns: `infoscope.runtime.schema.CROSS_CHECKS`."""
    count = len(scores.cds)
    values = vars(scores) | {
        "check": [name] * count,
        "feature": np.arange(count),
        "difference": [None] * count if difference is None else difference.difference,
        "difference_pairs": [None] * count if difference is None else difference.pairs,
    }
    return make_table(CROSS_CHECKS, values)


def maps_table(pairs: MapPairs) -> pl.DataFrame:
    """One row a feature, rank and crop. Columns: `infoscope.runtime.schema.MAPS`."""
    first, second = _lists(pairs.first), _lists(pairs.second)
    values = {
        "feature": np.tile(pairs.feature, 2),
        "rank": np.tile(pairs.rank, 2),
        "crop": np.repeat(np.array([0, 1]), len(pairs.feature)),
        "patch": pl.concat([first["patch"], second["patch"]]),
        "value": pl.concat([first["value"], second["value"]]),
    }
    return make_table(MAPS, values).sort("feature", "rank", "crop")


def _lists(maps: SparseMaps) -> pl.DataFrame:
    """Patches and values of each map as list columns, with an empty list for an empty map."""
    entries = pl.DataFrame({"map": maps.rows(), "patch": maps.patch, "value": maps.value})
    filled = entries.group_by("map", maintain_order=True).agg("patch", "value")
    return (
        pl.DataFrame({"map": np.arange(len(maps))})
        .join(filled, on="map", how="left", maintain_order="left")
        .with_columns(pl.col("patch", "value").fill_null([]))
    )
