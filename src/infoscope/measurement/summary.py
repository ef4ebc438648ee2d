"""The results of a run as numbers and plain sentences, for the report, the terminal and notebooks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from infoscope.errors import InfoscopeError
from infoscope.images.views import Views
from infoscope.measurement.fit_judgement import FVU_FITS, FVU_LOOSE
from infoscope.options import RULE_VERSIONS, Metric
from infoscope.runtime.manifest import FitRecord
from infoscope.runtime.run import Run
from infoscope.scope.classes import SETTLED
from infoscope.scope.geometry import Geometry
from infoscope.scope.modes import Evidence, estimate_density
from infoscope.scope.partition import Partition
from infoscope.scope.reliability import ClassAgreement, spearman
from infoscope.scope.threshold_rules import ClassRules

QUANTILES = (("minimum", 0.0), ("5 %", 0.05), ("25 %", 0.25), ("median", 0.5), ("75 %", 0.75), ("95 %", 0.95))
# Our choice: an unscored feature above this share of vanished pairs is one the score may have missed.
MOSTLY_VANISHED = 0.5

# The options that `Settings` is made from.
OPTIONS = ("shift", "resize", "top_images", "min_pairs", "rank_by", "rank_view", "ground_distance", "empty_as")


@dataclass(frozen=True)
class Settings:
    """The geometry and options that the numbers of a measurement rest on.

    Attributes:
        grid: p, patches per side of a view.
        shift: s, patches between the crops.
        patch_size: n, in pixels.
        resize: ``stretch`` or ``crop``.
        top_images: k.
        min_pairs: fewest valid pairs a score is given for.
        rank_by: how an image is scored for the ranking.
        rank_view: ``full`` or ``crops``.
        metric: ground distance.
        empty_as: whether a pair with exactly one empty map is left out or counts as 1.
    """

    grid: int
    shift: int
    patch_size: int
    resize: str
    top_images: int
    min_pairs: int
    rank_by: str
    rank_view: str
    metric: Metric
    empty_as: str

    @property
    def geometry(self) -> Geometry:
        """The grid of the maps, and the lengths that follow from it."""
        return Geometry(self.grid, self.shift, self.metric)

    @property
    def side(self) -> int:
        """Patches per side of the overlap, p - s."""
        return self.geometry.side

    @property
    def cells(self) -> int:
        """Patches of the overlap."""
        return self.geometry.cells

    @property
    def unrelated(self) -> float:
        """Mean CDS of two independent single-patch maps, uniform over the overlap (method, section 3)."""
        return self.geometry.unrelated

    @property
    def broad_area(self) -> float:
        """Effective area, in patches, from which the classes call a map broad, since it has hardly any room to move."""
        return ClassRules().broad * self.cells

    @property
    def position_glued(self) -> float | None:
        """CDS of a peak glued to one absolute position, s/(p-s-1); None where such a peak would leave the overlap."""
        return self.shift / (self.side - 1) if 0 < self.shift <= self.side - 1 else None


@dataclass(frozen=True)
class Counts:
    """How many features there are of each kind.

    Attributes:
        features: all features of the dictionary.
        scored: features with a CDS.
        unscored: features without a CDS.
        silent: unscored features that no image of the pool activates.
        rare: unscored features that at least one image activates, but fewer than ``min_pairs``.
        vanishing: unscored features whose mass vanished from one crop in more than half of the top images.
        low_cds: scored features with a CDS up to the threshold.
        high_cds: scored features with a CDS above it.
        low_cds_diffuse: features with a low CDS that are of class diffuse, whose maps cannot move.
    """

    features: int
    scored: int
    unscored: int
    silent: int
    rare: int
    vanishing: int
    low_cds: int
    high_cds: int
    low_cds_diffuse: int


def settings_of(run: Run) -> Settings:
    """The settings of a run's measurement, from its manifest.

    Raises:
        InfoscopeError: the manifest lacks an option.
    """
    options, model = run.manifest.options, run.manifest.model
    absent = [name for name in OPTIONS if name not in options]
    if absent:
        raise InfoscopeError(f"the manifest of {run.path} lacks the options {', '.join(absent)}; measure again")
    return Settings(
        grid=model.grid,
        shift=int(options["shift"]),
        patch_size=model.patch_size,
        resize=str(options["resize"]),
        top_images=int(options["top_images"]),
        min_pairs=int(options["min_pairs"]),
        rank_by=str(options["rank_by"]),
        rank_view=str(options["rank_view"]),
        metric="l1" if options["ground_distance"] == "l1" else "euclidean",
        empty_as=str(options["empty_as"]),
    )


def views_of(run: Run) -> Views:
    """The geometry of the crops that a run's maps are on."""
    settings, options = settings_of(run), run.manifest.options
    shifts = tuple(options.get("shifts", ()))  # older runs have only one shift
    return Views(settings.patch_size, settings.grid, settings.shift, options["resize"], shifts)


def counts_of(scope: pl.DataFrame, partition: Partition | None, settings: Settings) -> Counts:
    """The counts of a run's features."""
    unscored = scope.filter(pl.col("cds").is_null())
    return Counts(
        features=scope.height,
        scored=scope.height - unscored.height,
        unscored=unscored.height,
        silent=unscored.filter(pl.col("images_active") == 0).height,
        rare=unscored.filter(pl.col("images_active").is_between(1, settings.min_pairs - 1)).height,
        vanishing=unscored.filter(pl.col("vanished") > MOSTLY_VANISHED).height,
        low_cds=len(partition.low_cds) if partition else 0,
        high_cds=len(partition.high_cds) if partition else 0,
        low_cds_diffuse=scope.filter(pl.col("cds") <= partition.threshold, scope_class="diffuse").height
        if partition
        else 0,
    )


def quantiles_of(scope: pl.DataFrame) -> list[tuple[str, float]]:
    """Quantiles of CDS over the scored features, by name; empty when none is scored.

    Example:
        >>> quantiles_of(pl.DataFrame({"cds": [0.1, None, 0.3]}))[3]
        ('median', 0.2)
    """
    cds = scope["cds"].drop_nulls()
    if cds.is_empty():
        return []
    values = [(name, cds.quantile(share, "linear")) for name, share in (*QUANTILES, ("maximum", 1.0))]
    return [(name, value) for name, value in values if value is not None]


def repeatability_sentence(found: ClassAgreement, images: int) -> str:
    """Whether classes repeat, in a line.

    Example:
        >>> from infoscope.scope.classes import CLASSES
        >>> from infoscope.scope.reliability import class_agreement
        >>> found = class_agreement(["local"] * 3, ["local", "local", "global"], CLASSES[:4])
        >>> sentence = repeatability_sentence(found, images=8)
        >>> sentence[: sentence.index("(") - 1]
        'of 3 features classed twice, by up to 8 images each, 67 % get the same class'
        >>> sentence[sentence.index("(") :]
        '(kappa 0.00, AC1 0.54): local 0.80, global 0.00'
    """
    # Both halves leaving a feature unsettled is no class that repeats.
    settled = {name: share for name, share in found.positive.items() if name in SETTLED}
    each = [f"{name} {share:.2f}" for name, share in settled.items() if not math.isnan(share)]
    beyond = {"kappa": found.kappa, "AC1": found.ac1}
    chance = ", ".join(f"{name} {value:.2f}" for name, value in beyond.items() if not math.isnan(value))
    return (
        f"of {found.features:,} features classed twice, by up to {images} images each, "
        f"{100 * found.agreement:.0f} % get the same class{f' ({chance})' if chance else ''}: {', '.join(each)}"
    )


def rules_sentence(run: Run) -> str | None:
    """What to say of a run whose classes follow from other rules than the newest; None of others.

    No path, since pages are shown to others.
    """
    version = run.manifest.rule_version
    if version == RULE_VERSIONS["thresholds"]:
        return "judged by the older rules (thresholds); `infoscope judge RUN` gives it the newer ones"
    if version != RULE_VERSIONS["posterior"]:
        return f"judged by an earlier form of the rules (version {version}); `infoscope judge RUN` gives it the newest"
    return None


def trust_label(rule_version: int) -> str:
    """What the column ``trust`` is called: under the older rules it is no probability.

    Example:
        >>> trust_label(1), trust_label(2)
        ('trust (older rules)', 'trust')
    """
    return "trust (older rules)" if rule_version == RULE_VERSIONS["thresholds"] else "trust"


def fit_sentence(fit: FitRecord) -> tuple[str, str]:
    """Whether the SAE fits, in a word or two, and the sentence that says why.

    Example:
        >>> fit_sentence(FitRecord(fvu=0.18, l0=32.0, dead=0.02, sample=1000))[0]
        'fits'
    """
    if fit.note is not None:
        return "no SAE", fit.note if fit.fvu is None else f"{fit.note} Here it is {fit.fvu:.3f}."
    if fit.fvu is None:
        return "not checked", "Whether the SAE fits is not known: no image of the fit check's sample can be read."
    share = f"it leaves {100 * fit.fvu:.1f} % of the tokens' variance unexplained"
    if fit.fvu < FVU_FITS and fit.warnings:
        return "doubtful", f"By its FVU alone the SAE fits, for {share}; the warnings say what speaks against it."
    if fit.fvu < FVU_FITS:
        return "fits", f"The SAE fits this model on these images: {share}."
    if fit.fvu < FVU_LOOSE:
        return "fits loosely", (
            f"The SAE fits this model on these images only loosely: {share}. "
            "What its features miss is not in any number below."
        )
    return "does not fit", (
        f"The SAE does not fit this model on these images: {share}. "
        "Scores of its features say little about the model; see the warnings."
    )


def partition_of(run: Run) -> Partition | None:
    """The partition of a run as its ``partition.json`` has it; None where no feature is scored.

    Raises:
        InfoscopeError: the file lacks an entry.
    """
    scope = run.scope
    scored = scope.filter(pl.col("cds").is_not_null())
    if scored.is_empty():
        return None
    saved = run.partition
    absent = [name for name in ("method", "kind", "threshold", "dip", "bic", "mixture_modes") if name not in saved]
    if absent:
        raise InfoscopeError(f"partition.json of {run.path} lacks {', '.join(absent)}; measure again")
    threshold, dip = float(saved["threshold"]), saved["dip"]
    evidence = Evidence(
        dip=math.nan if dip["statistic"] is None else dip["statistic"],
        dip_p=math.nan if dip["p"] is None else dip["p"],
        modes=len(estimate_density(scored["cds"].to_numpy()).modes()),
        bic=tuple(saved["bic"]),
        mixture_modes=saved["mixture_modes"],
    )
    return Partition(
        method=saved["method"],
        kind=saved["kind"],
        threshold=threshold,
        low_cds=scored.filter(pl.col("cds") <= threshold)["feature"].to_numpy(),
        high_cds=scored.filter(pl.col("cds") > threshold)["feature"].to_numpy(),
        unscored=scope.filter(pl.col("cds").is_null())["feature"].to_numpy(),
        evidence=evidence,
    )


def retention_flag(feature: dict[str, Any], threshold: float) -> str | None:
    """Why a feature's CDS may come from top images that peak outside the overlap; None where it does not seem to.

    Normalisation scales whatever such a pair has left on the overlap up to full mass. The score over the pairs that
    keep at least half of the ranking score is therefore compared with the score over all pairs (method, section 4).

    Args:
        feature: a row of ``scope.parquet`` with a CDS.
        threshold: the threshold of the partition.

    Example:
        >>> row = {"cds": 0.3, "cds_retained": 0.1, "cds_ci_lower": 0.2, "cds_ci_upper": 0.4}
        >>> retention_flag(row, threshold=0.05)
        'over the pairs that keep half of their peak it is 0.100, outside the interval'
    """
    cds, retained = feature["cds"], feature["cds_retained"]
    if retained is None:
        return "too few pairs keep half of their peak on the overlap: most top images peak outside it"
    text = f"over the pairs that keep half of their peak it is {retained:.3f}"
    if (retained <= threshold) != (cds <= threshold):
        return f"{text}, on the other side of the threshold"
    lower, upper = feature["cds_ci_lower"], feature["cds_ci_upper"]
    if lower is not None and upper is not None and not lower <= retained <= upper:
        return f"{text}, outside the interval"
    return None


def extremes(scope: pl.DataFrame, shown: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The ``shown`` features with the lowest CDS and those with the highest, ties by feature; no feature is in both.

    Where fewer than twice as many features are scored, each end gets half, and the lower end the odd one.

    Example:
        >>> frame = pl.DataFrame({"feature": [0, 1, 2, 3], "cds": [0.2, None, 0.1, 0.2]})
        >>> [side["feature"].to_list() for side in extremes(frame, 2)]
        [[2, 0], [3]]
    """
    scored = scope.filter(pl.col("cds").is_not_null())
    lowest = scored.sort("cds", "feature").head(min(shown, (scored.height + 1) // 2))
    rest = scored.join(lowest, on="feature", how="anti")
    return lowest, rest.sort("cds", "feature", descending=[True, False]).head(shown)


def most_trusted(scope: pl.DataFrame, shown: int) -> dict[str, pl.DataFrame]:
    """The ``shown`` features with the highest trust in each settled class, ties by feature; those without one last.

    Example:
        >>> frame = pl.DataFrame({"feature": [0, 1, 2], "scope_class": ["local"] * 3, "trust": [0.2, 0.9, 0.9]})
        >>> {name: rows["feature"].to_list() for name, rows in most_trusted(frame, 2).items()}
        {'local': [1, 2], 'diffuse': [], 'position-bound': [], 'global': [], 'mixed': []}
    """
    ranked = scope.sort("trust", "feature", descending=[True, False], nulls_last=True)
    return {name: ranked.filter(scope_class=name).head(shown) for name in SETTLED}


def cross_check_rows(run: Run) -> list[tuple[str, str]]:
    """A name and a sentence for the curve and for each check; none where none was asked for."""
    curve, checks = run.shift_curve, run.cross_checks
    rows = [] if curve is None else [("shift curve", curve_sentence(curve))]
    if checks is not None:
        scores = run.scope.select("feature", pl.col("cds").alias("main"))
        for (name,), check in checks.group_by(["check"], maintain_order=True):
            rows.append((str(name), check_sentence(check.join(scores, on="feature", maintain_order="left"))))
    return rows


def curve_sentence(curve: pl.DataFrame) -> str:
    """Median distances in patches, over the features that are scored at every shift.

    Example:
        >>> rows = {"feature": [0, 0, 1, 1], "shift": [1, 2, 1, 2], "cds_patches": [0.5, 1.5, 2.0, None]}
        >>> curve_sentence(pl.DataFrame(rows))
        'median patches moved at shift 1: 0.50, 2: 1.50 (1 feature scored at every shift)'
    """
    shifts = curve["shift"].n_unique()
    whole = curve.drop_nulls("cds_patches").filter(pl.len().over("feature") == shifts)
    if whole.is_empty():
        return "no feature is scored at every shift"
    medians = whole.group_by("shift").agg(pl.col("cds_patches").median()).sort("shift")
    count = whole["feature"].n_unique()
    moved = ", ".join(f"{shift}: {median:.2f}" for shift, median in medians.iter_rows())
    return f"median patches moved at shift {moved} ({count:,} feature{'s' * (count != 1)} scored at every shift)"


def check_sentence(check: pl.DataFrame) -> str:
    """One check's median beside the score's, and whether the two order the features alike.

    Args:
        check: rows of one check, with the score of `scope.parquet` as ``main``.

    Example:
        >>> rows = {"main": [0.1, 0.2, 0.4, 0.3], "cds": [0.2, 0.3, 0.9, None], "difference": [-0.1, -0.1, -0.5, None]}
        >>> check_sentence(pl.DataFrame(rows))
        'median CDS 0.300 (score 0.200), difference -0.100, rank correlation 1.00 over 3 features'
    """
    both = check.drop_nulls(["main", "cds"])
    if both.is_empty():
        return "no feature has both scores"
    score, other = (np.median(both[name].to_numpy()) for name in ("main", "cds"))
    known = both["difference"].drop_nulls()
    difference = f", difference {np.median(known.to_numpy()):+.3f}" if len(known) else ""
    correlation = spearman(both["main"].to_numpy(), both["cds"].to_numpy())
    alike = "no rank correlation" if np.isnan(correlation) else f"rank correlation {correlation:.2f}"
    return f"median CDS {other:.3f} (score {score:.3f}){difference}, {alike} over {both.height:,} features"
