"""The result of a probe: its record, which is ``probe.json``, and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float64

from infoscope.analyses.probes.overlaps import miou_interval, unpack_overlaps
from infoscope.analyses.probes.task import Baseline, Score, Scored
from infoscope.analyses.probes.tasks import TASKS, find_task
from infoscope.analyses.removal.columns import CONTROL, ENERGY, summarise_ladder
from infoscope.analyses.removal.energy import Energies
from infoscope.analyses.removal.ladder import NoFairControl
from infoscope.analyses.removal.variants import Variant
from infoscope.errors import InfoscopeError
from infoscope.measurement.shared_images import SharedRecord
from infoscope.runtime.columns import Column, declare, make_table, read_table, write_table
from infoscope.runtime.json_values import to_json
from infoscope.runtime.manifest import DictionaryRecord, ModelRecord, SkippedImage
from infoscope.runtime.seal import CHECKSUM, FILES, read_whole, write_sealed
from infoscope.runtime.typed import from_json

RANDOM = "minus random of equal "
UNITS = {metric: unit for name in TASKS for metric, unit in find_task(name).units.items()}
# Scores that are shares are printed in per cent, as papers do.
SHARES = tuple(metric for metric, unit in UNITS.items() if unit == "%")


def titled(metric: str) -> str:
    """A metric with its unit.

    Example:
        >>> titled("mIoU"), titled("RMSE"), titled("abs-rel")
        ('mIoU, %', 'RMSE, m', 'abs-rel')
    """
    unit = UNITS.get(metric)
    return f"{metric}, {unit}" if unit else metric


def short_name(name: str, draws: int = 1) -> str:
    """A variant's name in a table, where random controls stand under the group they match.

    Example:
        >>> short_name("minus random of equal mass as global", 5)
        '  random, equal mass (5)'
        >>> short_name("minus global")
        'minus global'
    """
    if name.startswith(RANDOM):
        name = f"  random, equal {name.removeprefix(RANDOM).split(' ', 1)[0]}"
    return f"{name} ({draws})" if draws > 1 else name


_OF_TEST = "on the test split"

VARIANTS = declare(
    {
        "site": Column(pl.String, "", "rerun: the rest of the network runs on; site: the block's own edited tokens"),
        "name": Column(pl.String, "", "the variant; the draws of one random control share it"),
        "draw": Column(pl.UInt32, "index", "draw of a random control, from 1; null elsewhere"),
        "kind": Column(
            pl.String,
            "",
            "what divides the features of the group: partition, class, outliers, rule, list, random; null without",
        ),
        "method": Column(pl.String, "", "keep-error or reconstruct; null where nothing is edited"),
        "replacement": Column(
            pl.String, "", "what the codes become: zero, mean, resampled; null where none are removed"
        ),
        "features": Column(pl.UInt32, "count", "features removed"),
        "mass": Column(
            pl.Float64, "share, 0 to 1", "their activation mass: sum of code times decoder-row norm, of that of all"
        ),
        **ENERGY,
        "metric": Column(pl.String, "", "which score this row is"),
        "score": Column(pl.Float64, "of the metric", f"the score {_OF_TEST}"),
        "validation": Column(
            pl.Float64, "of the metric", "where the choice was made, never on the test split; of the first metric alone"
        ),
        "difference": Column(pl.Float64, "of the metric", "score less the untouched model's at the same site"),
        "difference_lower": Column(
            pl.Float64,
            "of the metric",
            "lower end of its 95 % interval: paired bootstrap over the test images, heads as they are; of mIoU by the "
            "summed counts of the images drawn",
        ),
        "difference_upper": Column(pl.Float64, "of the metric", "upper end"),
        **CONTROL,
    }
)

PER_CLASS = declare(
    {
        "site": VARIANTS["site"],
        "name": VARIANTS["name"],
        "draw": VARIANTS["draw"],
        "class": Column(pl.String, "", "name of the class"),
        "score": Column(pl.Float64, "share, 0 to 1", f"IoU or top-1 {_OF_TEST}; null for a class that is not there"),
    }
)


PROBE_FILE = "probe.json"
AGAIN = "restore it, or probe again into a new folder"
# Our choice: the ends of a 95 % interval are then right to a few hundredths of its length.
RESAMPLES = 2000
FORMAT_VERSION = 1


@dataclass(frozen=True)
class ProbeRecord:
    """All of ``probe.json``.

    Attributes:
        format_version: raised when a field or a table changes its meaning.
        command: how it was asked for.
        run: the run whose feature groups were removed.
        task: classification, segmentation or depth.
        metric: the score that choices are made by.
        higher_is_better: whether a high score is a good one.
        recipe: its name, version and every constant, as used at each site.
        options: all of them, with defaults.
        model: the model at the SAE's block.
        dictionary: the SAE.
        token_set: the tokens that were edited.
        data: the data sets.
        skipped: by split, the images that could not be read.
        groups: by variant, the features removed, of those that no table names.
        chosen: by variant, what the head chose on held-out data.
        baselines: scores without a model.
        notes: what a reader must know.
        software: versions.
        timings: seconds by stage.
        shared_images: the test images that were measured or trained on before; None in results from before they were
            compared.
        no_fair_control: the steps that a group is not compared at, where a ladder was asked for.
    """

    format_version: int
    command: str
    run: str
    task: str
    metric: str
    higher_is_better: bool
    recipe: dict[str, Any]
    options: dict[str, Any]
    model: ModelRecord
    dictionary: DictionaryRecord
    token_set: str
    data: dict[str, Any]
    skipped: dict[str, list[SkippedImage]]
    groups: dict[str, list[int]]
    chosen: list[dict[str, Any]]
    baselines: list[Baseline]
    notes: list[str]
    software: dict[str, str]
    timings: dict[str, float]
    shared_images: SharedRecord | None = None
    no_fair_control: list[NoFairControl] = field(default_factory=list)

    @classmethod
    def from_json(cls, value: Any, path: Path) -> ProbeRecord:
        """What ``probe.json`` held.

        Raises:
            InfoscopeError: it is of another version, or an entry is of another type.
        """
        if not isinstance(value, dict) or value.get("format_version") != FORMAT_VERSION:
            raise InfoscopeError(f"{path} holds a probe of another version: probe again")
        entries = {name: entry for name, entry in value.items() if name not in (CHECKSUM, FILES)}
        try:
            record: ProbeRecord = from_json(cls, entries)
        except ValueError as error:
            raise InfoscopeError(f"{path} holds no record of a probe ({error}): probe again") from error
        return record


@dataclass(frozen=True)
class ProbeResult:
    """The result of `probe_groups`; columns and units of the tables are in `infoscope.analyses.probes.result`.

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

    @property
    def ladder(self) -> pl.DataFrame:
        """What comes out on each group's ladder: `infoscope.analyses.removal.columns.LADDER`."""
        return summarise_ladder(self.variants, self.record.no_fair_control)

    def save(self, path: Path | str) -> None:
        """Write a folder; ``probe.json`` comes last, so its presence says that all is there.

        Raises:
            InfoscopeError: the folder cannot be written.
        """
        path = Path(path)
        write_table(path / "variants.parquet", self.variants, VARIANTS)
        write_table(path / "per_class.parquet", self.per_class, PER_CLASS)
        write_sealed(path / PROBE_FILE, self.to_json(), ["variants.parquet", "per_class.parquet"])

    def to_json(self) -> dict[str, Any]:
        """What ``probe.json`` holds."""
        value: dict[str, Any] = to_json(self.record)
        return value


def open_probe(path: Path | str) -> ProbeResult:
    """Read what `ProbeResult.save` wrote.

    Raises:
        InfoscopeError: there is no finished probe in the folder, or it is of another version.
    """
    path = Path(path)
    if not (path / PROBE_FILE).is_file():
        raise InfoscopeError(f"{path} holds no finished probe: give a folder that `infoscope probe` wrote")
    record = ProbeRecord.from_json(read_whole(path / PROBE_FILE, AGAIN), path)
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
        pl.col("features", "mass", "energy", "energy_share", "score").mean(),
        pl.col("score").std().alias("spread"),
        pl.col("difference").mean(),
        # Of one variant; over draws it is the spread that tells.
        *(pl.when(one).then(pl.col(name).first()).alias(name) for name in ("difference_lower", "difference_upper")),
        pl.col("control_of", "step", "side").first(),
        pl.col("overlap").mean(),
    )


def variants_table(
    scored: Sequence[Scored],
    mass: Float64[np.ndarray, " feature"],
    metric: str,
    seed: int = 0,
    energies: Energies | None = None,
) -> pl.DataFrame:
    """`VARIANTS` of some scores.

    Args:
        scored: the variants and their scores.
        mass: activation mass of every feature.
        metric: the score that images' own scores are of.
        seed: of the bootstrap.
        energies: gives the removed energy, where a sample of tokens was read.
    """
    untouched = {each.variant.site: each.score for each in scored if not each.variant.edited}
    rows: list[dict[str, Any]] = []
    for each in scored:
        variant, own, base = each.variant, each.score, untouched.get(each.variant.site)
        ends = (None, None) if base is None or base is own else difference_interval(own, base, seed)
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
                    **({} if energies is None else energies.columns(variant)),
                    "metric": name,
                    "score": value,
                    "validation": own.validation if first else None,
                    "difference": None if base is None else value - base.test[name],
                    "difference_lower": ends[0] if first else None,
                    "difference_upper": ends[1] if first else None,
                    **variant.control_columns,
                }
            )
    return make_table(VARIANTS, rows)


def per_class_table(scored: Sequence[Scored]) -> pl.DataFrame:
    """`PER_CLASS` of some scores."""
    rows = [
        {**_of_variant(each.variant), "class": name, "score": value}
        for each in scored
        for name, value in each.score.per_class.items()
    ]
    return make_table(PER_CLASS, rows)


def difference_interval(own: Score, base: Score, seed: int = 0) -> tuple[float | None, float | None]:
    """95 % interval of the difference of two scores, by the paired bootstrap over test images.

    Args:
        own: a variant's score.
        base: the score to compare with.
        seed: of the resampling.

    Returns:
        Its ends; None where images' own results are not known, as of scores that an earlier version kept.
    """
    if own.per_image and base.per_image:
        return paired_interval(np.array(own.per_image), np.array(base.per_image), seed)
    if own.overlaps and base.overlaps:
        return miou_interval(unpack_overlaps(own.overlaps), unpack_overlaps(base.overlaps), seed, RESAMPLES)
    return None, None


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
