"""The result of a probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float64

from infoscope.errors import InfoscopeError
from infoscope.probes.probing import Scored
from infoscope.probes.record import ProbeRecord
from infoscope.probes.tables import PER_CLASS, VARIANTS
from infoscope.removal.variant import Variant
from infoscope.storage.schema import read_table, write_table
from infoscope.storage.seal import read_whole, write_sealed

FILE = "probe.json"
AGAIN = "restore it, or probe again into a new folder"
# Our choice: the ends of a 95 % interval are then right to a few hundredths of its length.
RESAMPLES = 2000


@dataclass(frozen=True)
class ProbeResult:
    """The result of `probe_groups`; columns and units of the tables are in `infoscope.probes.tables`.

    Attributes:
        record: with what, on what.
        variants: one row a variant and metric.
        per_class: one row a variant and class; empty where a task has none.
    """

    record: ProbeRecord
    variants: pl.DataFrame
    per_class: pl.DataFrame

    @property
    def table(self) -> pl.DataFrame:
        """One row a site, name and metric: mean and spread (standard deviation) over the draws of a random control."""
        return over_draws(self.variants)

    def save(self, path: Path | str) -> None:
        """Write a folder; ``probe.json`` comes last, so its presence says that all is there.

        Raises:
            InfoscopeError: the folder cannot be written.
        """
        path = Path(path)
        write_table(path / "variants.parquet", self.variants, VARIANTS)
        write_table(path / "per_class.parquet", self.per_class, PER_CLASS)
        write_sealed(path / FILE, self.to_json(), ["variants.parquet", "per_class.parquet"])

    def to_json(self) -> dict[str, Any]:
        """What ``probe.json`` holds."""
        return asdict(self.record)


def open_probe(path: Path | str) -> ProbeResult:
    """Read what `ProbeResult.save` wrote.

    Raises:
        InfoscopeError: there is no finished probe in the folder, or it is of another version.
    """
    path = Path(path)
    if not (path / FILE).is_file():
        raise InfoscopeError(f"{path} holds no finished probe: give a folder that `infoscope probe` wrote")
    record = ProbeRecord.from_json(read_whole(path / FILE, AGAIN), path)
    return ProbeResult(
        record,
        read_table(path / "variants.parquet", VARIANTS),
        read_table(path / "per_class.parquet", PER_CLASS),
    )


def over_draws(variants: pl.DataFrame) -> pl.DataFrame:
    """One row a site, name and metric: mean and spread (standard deviation) over the draws of a random control.

    Args:
        variants: `VARIANTS`.
    """
    one = pl.len() == 1
    return variants.group_by("site", "name", "metric", maintain_order=True).agg(
        pl.len().alias("draws"),
        pl.col("features", "mass", "score").mean(),
        pl.col("score").std().alias("spread"),
        pl.col("difference").mean(),
        # Of one variant; over draws it is the spread that tells.
        *(pl.when(one).then(pl.col(name).first()).alias(name) for name in ("difference_lower", "difference_upper")),
    )


def variants_table(
    scored: Sequence[Scored], mass: Float64[np.ndarray, " feature"], metric: str, seed: int = 0
) -> pl.DataFrame:
    """`VARIANTS` of some scores.

    Args:
        scored: the variants and their scores.
        mass: activation mass of every feature.
        metric: the score that images' own scores are of.
        seed: of the bootstrap.
    """
    untouched = {each.variant.site: each.score for each in scored if not each.variant.edited}
    rows: list[dict[str, Any]] = []
    for each in scored:
        variant, own, base = each.variant, each.score, untouched.get(each.variant.site)
        ends: tuple[float | None, float | None] = (None, None)
        if base is not None and base is not own and own.per_image and base.per_image:
            ends = paired_interval(np.array(own.per_image), np.array(base.per_image), seed)
        removed = None if variant.group is None else variant.group.features
        for name, value in own.test.items():
            first = name == metric
            rows.append(
                {
                    **_of_variant(variant),
                    "kind": None if variant.group is None else variant.group.kind,
                    "method": variant.method if variant.edited else None,
                    "replacement": None if variant.group is None else variant.replacement,
                    "features": 0 if removed is None else len(removed),
                    "mass": variant.mass_share(mass),
                    "metric": name,
                    "score": value,
                    "validation": own.validation if first else None,
                    "difference": None if base is None else value - base.test[name],
                    "difference_lower": ends[0] if first else None,
                    "difference_upper": ends[1] if first else None,
                }
            )
    return _frame(rows, VARIANTS)


def per_class_table(scored: Sequence[Scored]) -> pl.DataFrame:
    """`PER_CLASS` of some scores."""
    rows = [
        {**_of_variant(each.variant), "class": name, "score": value}
        for each in scored
        for name, value in each.score.per_class.items()
    ]
    return _frame(rows, PER_CLASS)


def paired_interval(
    own: Float64[np.ndarray, " image"], base: Float64[np.ndarray, " image"], seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the mean of paired differences, by the percentile bootstrap over images.

    Args:
        own: each image's score.
        base: the same images' scores to compare with.
        seed: of the resampling.

    Example:
        >>> paired_interval(np.array([1.0, 1.0, 0.0]), np.array([1.0, 1.0, 0.0]))
        (0.0, 0.0)
    """
    from scipy.stats import bootstrap

    difference = own - base
    if not np.ptp(difference):
        return float(difference[0]), float(difference[0])
    ends = bootstrap(
        (difference,), np.mean, n_resamples=RESAMPLES, batch=64, method="percentile", rng=np.random.default_rng(seed)
    ).confidence_interval
    return float(ends.low), float(ends.high)


def _of_variant(variant: Variant) -> dict[str, Any]:
    return {"site": variant.site, "name": variant.name, "draw": variant.draw}


def _frame(rows: Sequence[Mapping[str, Any]], table: Mapping[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={name: column.dtype for name, column in table.items()})
