"""Planted models as noisy as a real run: its noise feature by feature, and how the two then compare."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float64

from infoscope.errors import InfoscopeError
from infoscope.measurement.config import MeasureConfig
from infoscope.runtime.columns import Column, declare
from infoscope.runtime.run import Run
from infoscope.runtime.typed import from_json
from infoscope.scope.classes import CLASSES
from infoscope.scope.reliability import split_half

SHARES = (0.85, 0.05, 0.03, 0.07)
"""Shares of local, global, position-bound and diffuse features. Method, section 9."""
MIXTURES = (0.05, 0.05)
"""Shares of mixtures within maps and over images, beside the kinds. Our choice: of 200 features ten each."""
MIXED_SHARE = (0.3, 0.7)
"""Their parked shares. Our choice: about a half, and clear of both scopes."""

LEAST_CODES = 20
"""Codes on the overlaps from which a feature's noise is estimated. Our choice: a line needs some."""
_MOST_AREA = 0.5
"""Largest area of a planted local feature, as a share of the patches. Our choice: beyond it a feature is diffuse."""

LIKENESS = declare(
    {
        "family": Column(pl.String, "", "patches or blobs: the family of planted models"),
        "measure": Column(pl.String, "", "what is compared"),
        "quantile": Column(pl.Float64, "share", "of the features; null where the measure is one number"),
        "real": Column(pl.Float64, "", "of the real run"),
        "planted": Column(pl.Float64, "", "of the planted features, all seeds together; reliability by its mean"),
    }
)

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
COMPARED = ("support_iou", "mass_ratio", "effective_area", "cds")
"""Columns whose quantiles are compared. Method, section 9."""
ALIKE = 0.1
"""How near the planted reliability is to fall to the real one. Method, section 9."""


@dataclass(frozen=True)
class RunNoise:
    """The noise of a real run's features, ``[feature]`` each, so that what belongs together is drawn together.

    Attributes:
        dropout: chance that a code near 0 on the overlap of one crop is not there in the other.
        dropout_at_peak: the same of the largest code of a map; a line over the relative heights of the codes.
        error: standard deviation of what a code, as a share of its map's largest, differs between the crops, over
            the root of 2.
        log_error: the same of the logarithm of the codes.
        gain: standard deviation of the logarithm of a map's mass that lost codes and errors do not explain.
        area: effective area of the maps before codes are lost.
    """

    dropout: Float64[np.ndarray, " feature"]
    dropout_at_peak: Float64[np.ndarray, " feature"]
    error: Float64[np.ndarray, " feature"]
    log_error: Float64[np.ndarray, " feature"]
    gain: Float64[np.ndarray, " feature"]
    area: Float64[np.ndarray, " feature"]

    def drawn(self, features: int, seed: int) -> RunNoise:
        """The noise of random features of the run, with replacement."""
        chosen = np.random.default_rng([seed, features]).integers(len(self.dropout), size=features)
        return RunNoise(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})

    def options(self, features: int, seed: int, cells: int) -> dict[str, Any]:
        """Options of `PlantedConfig` and `BlobsConfig` alike, but for the error.

        Codes that appear in one crop alone are lost in the other by the same count, so none fire astray beside, and no
        picture is a false positive: the run's own maps have all of that in them.

        Args:
            features: planted features.
            seed: seed of the draws.
            cells: patches of the planted grid.
        """
        drawn = self.drawn(features, seed)
        return {
            "features": features,
            "seed": seed,
            "shares": SHARES,
            "mixtures": MIXTURES,
            "mixed_share": MIXED_SHARE,
            "dropout": tuple(drawn.dropout.tolist()),
            "dropout_at_peak": tuple(drawn.dropout_at_peak.tolist()),
            "gain": tuple(drawn.gain.tolist()),
            "areas": tuple(drawn.area.clip(1, _MOST_AREA * cells).tolist()),
            "false_positives": 0.0,
        }


def read_noise(run: Run) -> RunNoise:
    """The noise of a finished run, from its maps on the overlap; features with too few codes there are left out.

    The two crops of a picture are taken for two draws of one map. What truly moves with the context is then taken for
    noise too, which makes the planted local features noisier than the real ones, and not quieter.

    Raises:
        InfoscopeError: no feature has enough codes.
    """
    grid, shift = int(run.manifest.model.grid), int(run.manifest.options["shift"])
    both = _paired(run.maps, grid, shift)
    on = pl.col("value") > 0
    kept = pl.col("other") > 0
    height = pl.col("value") / pl.col("peak")
    seen = both.filter(on).with_columns(height=height, lost=(~kept).cast(pl.Float64))
    line = seen.group_by("feature").agg(
        codes=pl.len(),
        lost=pl.col("lost").mean(),
        slope=pl.cov("height", "lost") / pl.col("height").var(),
        height=pl.col("height").mean(),
    )
    ratio = pl.col("value").log() - pl.col("other").log()
    stay = seen.filter(kept).with_columns(ratio=ratio, apart=height - pl.col("other") / pl.col("other_peak"))
    # Against the pair's own mean, which is the gain of its maps.
    within = (pl.col("ratio") - pl.col("ratio").mean().over("feature", "rank", "crop")).alias("ratio")
    spread = (
        stay.with_columns(within)
        .group_by("feature")
        .agg(error=((pl.col("apart") ** 2).mean() / 2).sqrt(), log_error=((pl.col("ratio") ** 2).mean() / 2).sqrt())
    )
    of_maps = (
        seen.group_by("feature", "rank", "crop")
        .agg(mass=pl.col("value").sum(), other=pl.col("other_mass").first())
        .filter(pl.col("crop") == 0)
        .group_by("feature")
        # The median, since few pairs differ by orders of magnitude.
        .agg(log_mass=(pl.col("mass").log() - pl.col("other").log()).abs().median() / 0.6745 / math.sqrt(2))
    )
    known = (
        line.filter(pl.col("codes") >= LEAST_CODES)
        .join(spread, on="feature")
        .join(of_maps, on="feature")
        .join(run.scope.select("feature", "effective_area", "participation"), on="feature")
        .drop_nulls()
        .drop_nans()
        .sort("feature")
    )
    if not known.height:
        raise InfoscopeError(f"no feature of {run.path} has {LEAST_CODES} codes on the overlap: take a larger run")
    columns = {name: known[name].cast(pl.Float64).to_numpy() for name in known.columns if name != "feature"}
    lost, slope, mean = columns["lost"], columns["slope"], columns["height"]
    # Codes of a small share of the mass each vary a sum less: the variance of its logarithm is that of one over their
    # effective number.
    explained = (lost + np.square(columns["log_error"])) / columns["participation"]
    return RunNoise(
        np.clip(lost - slope * mean, 0, 0.95),
        np.clip(lost + slope * (1 - mean), 0, 0.95),
        columns["error"],
        columns["log_error"],
        np.sqrt(np.maximum(np.square(columns["log_mass"]) - explained, 0)),
        columns["effective_area"] / (1 - lost.clip(0, 0.9)),
    )


def _paired(maps: pl.DataFrame, grid: int, shift: int) -> pl.DataFrame:
    """Each code on an overlap with the other crop's at the same pixels, of pairs with mass there in both."""
    side = grid - shift
    codes = maps.explode("patch", "value").drop_nulls()
    row, column = pl.col("patch").cast(pl.Int64) // grid, pl.col("patch").cast(pl.Int64) % grid
    start = pl.when(pl.col("crop") == 0).then(shift).otherwise(0)
    codes = codes.with_columns(row=row - start, column=column - start, value=pl.col("value").cast(pl.Float64))
    inside = pl.col("row").is_between(0, side - 1) & pl.col("column").is_between(0, side - 1)
    codes = codes.filter(inside).with_columns(cell=pl.col("row") * side + pl.col("column"))
    key = ["feature", "rank", "crop"]
    codes = codes.select(*key, "cell", "value")
    totals = codes.group_by(key).agg(peak=pl.col("value").max(), mass=pl.col("value").sum())
    turned = (1 - pl.col("crop").cast(pl.Int8)).cast(maps.schema["crop"])
    theirs = codes.with_columns(crop=turned).rename({"value": "other"})
    others = totals.with_columns(crop=turned).rename({"peak": "other_peak", "mass": "other_mass"})
    joined = codes.join(totals, on=key).join(others, on=key).join(theirs, on=[*key, "cell"], how="left")
    return joined.with_columns(pl.col("other").fill_null(0.0))


def measure_options(run: Run) -> MeasureConfig:
    """The options that a run was measured with."""
    known = set(MeasureConfig.__dataclass_fields__)
    options = {name: value for name, value in run.manifest.options.items() if name in known}
    return from_json(MeasureConfig, options)


def compare_runs(family: str, real: pl.DataFrame, planted: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows of `LIKENESS`: a real run's scope table beside the rows of planted features.

    Args:
        family: of the planted models.
        real: the scope table.
        planted: rows of `infoscope.analyses.validation.cases.FEATURES`, of one or several seeds.
    """
    rows = [_row(family, "reliability", None, _reliability(real), _over_seeds(planted))]
    for name in CLASSES:
        ours, theirs = (table.filter(pl.col("scope_class") == name) for table in (real, planted))
        rows.append(_row(family, f"reliability within {name}", None, _reliability(ours), _over_seeds(theirs)))
    for column in COMPARED:
        for share in QUANTILES:
            of_run, of_planted = (table[column].drop_nulls().quantile(share, "linear") for table in (real, planted))
            rows.append(_row(family, column, share, of_run, of_planted))
    return rows


def _row(family: str, measure: str, quantile: float | None, real: Any, planted: Any) -> dict[str, Any]:
    return {"family": family, "measure": measure, "quantile": quantile, "real": real, "planted": planted}


def _reliability(table: pl.DataFrame) -> float:
    halves = (table[name].cast(pl.Float64).fill_null(math.nan).to_numpy() for name in ("cds_even", "cds_odd"))
    return split_half(*halves).spearman


def _over_seeds(planted: pl.DataFrame) -> float:
    values = [_reliability(of_seed) for _, of_seed in planted.group_by("seed", maintain_order=True)]
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
