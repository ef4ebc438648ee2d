"""The controls of a run as a whole: counts of classes, reliability, CDS against k and against a floor, trust."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from infoscope.measurement.planning import plan_of
from infoscope.options import RULE_VERSIONS
from infoscope.runtime.json_values import to_json
from infoscope.runtime.run import Run
from infoscope.scope.classes import CLASSES, SETTLED
from infoscope.scope.controls import FLOORS, first_sizes
from infoscope.scope.planning import ImagePlan
from infoscope.scope.posterior import PosteriorRules
from infoscope.scope.reliability import Agreement, ClassAgreement, Reliability, agreement, class_agreement, split_half
from infoscope.scope.threshold_rules import ClassRules
from infoscope.scope.trust import TrustRules

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# Our choice: below it, a feature that one half of its images puts into a class is put there by the other half hardly
# more often than not.
REPEATABLE = 0.6
NEWER_CLASSES = ("mixed", "unsettled")
"""The classes that version 1 of the rules does not give."""


@dataclass(frozen=True)
class ClassShare:
    """How many features have a class, and how far that is a finding.

    Attributes:
        name: of the class.
        count: of its features.
        share: of all features; None where the class is not repeatable, and of the unsettled, which are no finding.
        expected_false: share of its features that are expected not to be of it; None where it is not known.
        repeatable: whether another half of the images gives the class again.
    """

    name: str
    count: int
    share: float | None
    expected_false: float | None
    repeatable: bool = True

    def sentence(self) -> str:
        """The same in words.

        Example:
            >>> ClassShare("local", 1200, 0.3, 0.04).sentence()
            '1,200 local (30.0%, expected false 4.0%)'
            >>> ClassShare("mixed", 7, None, 0.02, False).sentence()
            'mixed not repeatable here'
            >>> ClassShare("unsettled", 5, None, None).sentence()
            '5 unsettled'
        """
        if not self.repeatable:
            return f"{self.name} not repeatable here" if self.count else f"0 {self.name}"
        if self.share is None:
            return f"{self.count:,} {self.name}"
        false = "" if self.expected_false is None else f", expected false {self.expected_false:.1%}"
        return f"{self.count:,} {self.name} ({self.share:.1%}{false})"


@dataclass(frozen=True)
class RunControls:
    """The controls of a run over all its features, from ``scope.parquet``, and the plan from ``top_images.parquet``.

    Attributes:
        rule_version: of the rules that classes and trust follow from: 1, thresholds; 4, posteriors (2, 3: earlier
            forms).
        classes: number of features of each class.
        expected_false: of each settled class with features, the share of them that are expected not to be of it: the
            mean of 1 - posterior. Empty under rules that give no posteriors.
        calibrated: quantiles of ``cds_calibrated``; empty where no feature has one.
        displacement: likewise of ``displacement``.
        trust: quantiles of ``trust`` over the features that have one; empty where none has.
        reliability: split-half reliability of CDS over features.
        repeatability: whether classes repeat between the even and the odd ranks of each feature's images; None for runs
            that do not say.
        judged_images: how many images each of the two judgements had at most.
        disagreeing: number of features whose score over the pairs that keep their peak lies outside its interval.
        by_k: agreement of CDS over the first images alone with CDS, by the number of images.
        by_floor: agreement of CDS without weak codes with CDS, by the floor, over the features it was computed for.
        class_rules: the borders that the classes rest on.
        trust_rules: the constants that trust rests on under rule_version 1; None where it is a probability.
        plan: how many images a reliable CDS would take; None where the run has too few ranks or features to say, or its
            top images were not looked at.
    """

    rule_version: int
    classes: dict[str, int]
    expected_false: dict[str, float]
    calibrated: dict[float, float]
    displacement: dict[float, float]
    trust: dict[float, float]
    reliability: Reliability
    repeatability: ClassAgreement | None
    judged_images: int
    disagreeing: int
    by_k: dict[int, Agreement]
    by_floor: dict[float, Agreement]
    class_rules: ClassRules | PosteriorRules
    trust_rules: TrustRules | None
    plan: ImagePlan | None = None

    @property
    def not_repeatable(self) -> set[str]:
        """Settled classes that either half gives and that the other half gives again too seldom to be a finding."""
        if self.repeatability is None or not self.repeatability.features:
            return set()
        positive = self.repeatability.positive
        # That a feature is unsettled says nothing of it, so there is nothing to be found again.
        # A class that has features here and that neither half gives is not found again either.
        given = [name for name in SETTLED if self.classes.get(name) or not math.isnan(positive.get(name, math.nan))]
        return {name for name in given if not positive.get(name, math.nan) >= REPEATABLE}

    def shares(self) -> list[ClassShare]:
        """Each class that the rules know, in order, as people are told of it."""
        total = max(sum(self.classes.values()), 1)
        shares = []
        for name, count in self.classes.items():
            if self.rule_version == 1 and name in NEWER_CLASSES:
                continue
            repeatable = name not in self.not_repeatable
            share = count / total if repeatable and name != "unsettled" else None
            shares.append(ClassShare(name, count, share, self.expected_false.get(name), repeatable))
        return shares

    def to_json(self) -> dict[str, Any]:
        """What ``controls.json`` holds; a number that is not defined is None."""
        document: dict[str, Any] = to_json(self)
        document["not_repeatable"] = sorted(self.not_repeatable)
        document["by_k"] = [{"k": k} | to_json(agreed) for k, agreed in self.by_k.items()]
        document["by_floor"] = [{"floor": floor} | to_json(agreed) for floor, agreed in self.by_floor.items()]
        return document


def _repeatability(table: pl.DataFrame) -> ClassAgreement | None:
    if table["class_even"].null_count() == table.height:
        return None
    # Unsettled is a judgement too, and so is undefined: a class that one half gives and the other does not is not given
    # again. Only what neither half can judge is left out.
    both = table.filter(~((pl.col("class_even") == "undefined") & (pl.col("class_odd") == "undefined")))
    return class_agreement(both["class_even"].to_list(), both["class_odd"].to_list(), CLASSES)


def controls_of(run: Run) -> RunControls:
    """The controls of a run as a whole.

    Raises:
        InfoscopeError: its table cannot be read.
    """
    return run_controls(run.scope, run.manifest.options, run.manifest.rule_version, plan_of(run))


def posterior_column(name: str) -> str:
    """The column with the posterior of a class.

    Example:
        >>> posterior_column("position-bound")
        'posterior_position_bound'
    """
    return f"posterior_{name.replace('-', '_')}"


def _expected_false(table: pl.DataFrame) -> dict[str, float]:
    """Of each settled class with features, the mean of 1 - posterior over them; classes without posteriors left out."""
    known: dict[str, float] = {}
    for name in SETTLED:
        mean = table.filter(scope_class=name)[posterior_column(name)].mean()
        if isinstance(mean, float):
            known[name] = 1.0 - mean
    return known


def run_controls(
    table: pl.DataFrame,
    options: Mapping[str, Any],
    rule_version: int = RULE_VERSIONS["posterior"],
    plan: ImagePlan | None = None,
) -> RunControls:
    """Summarise the controls of a run.

    Args:
        table: the table of ``scope.parquet``.
        options: of the measurement, from its manifest.
        rule_version: of the rules that the table's classes follow from, from the manifest too; by default the newest.
        plan: from `infoscope.measurement.planning.run_plan`.

    Example:
        >>> from infoscope.runtime.columns import make_table
        >>> from infoscope.runtime.schema import SCOPE
        >>> table = make_table(SCOPE, [{"scope_class": "local"}, {"scope_class": "global"}])
        >>> run_controls(table, {"top_images": 16}).classes
        {'local': 1, 'diffuse': 0, 'position-bound': 0, 'global': 1, 'mixed': 0, 'unsettled': 0, 'undefined': 0}
    """
    top_images = int(options["top_images"])
    cds = _numbers(table["cds"])
    counts = dict(table["scope_class"].value_counts().iter_rows())
    by_k, by_floor = _lists(table["cds_by_k"], first_sizes(top_images)), _lists(table["cds_by_floor"], FLOORS)
    return RunControls(
        rule_version=rule_version,
        classes={name: counts.get(name, 0) for name in CLASSES},
        expected_false=_expected_false(table),
        calibrated=_quantiles(table["cds_calibrated"]),
        displacement=_quantiles(table["displacement"]),
        # The older rules gave features without a class a trust of 0.
        trust=_quantiles(table.filter(pl.col("scope_class") != "undefined")["trust"]),
        reliability=split_half(_numbers(table["cds_even"]), _numbers(table["cds_odd"])),
        repeatability=_repeatability(table),
        judged_images=(int(options.get("ranks") or top_images) + 1) // 2,
        disagreeing=int(table["retained_disagrees"].sum() or 0),
        by_k={size: agreement(values, cds) for size, values in by_k.items()},
        by_floor={floor: agreement(values, cds) for floor, values in by_floor.items()},
        class_rules=ClassRules() if rule_version == 1 else PosteriorRules(),
        trust_rules=TrustRules() if rule_version == 1 else None,
        plan=plan,
    )


def _numbers(column: pl.Series) -> np.ndarray:
    """A column with NaN for null."""
    return column.cast(pl.Float64).fill_null(math.nan).to_numpy()


def _lists(column: pl.Series, names: Any) -> dict[Any, np.ndarray]:
    """The entries of a list column as arrays of their own, by name."""
    return {name: _numbers(column.list.get(entry, null_on_oob=True)) for entry, name in enumerate(names)}


def _quantiles(column: pl.Series) -> dict[float, float]:
    values = column.drop_nulls().to_numpy()
    return {share: float(np.quantile(values, share)) for share in QUANTILES} if len(values) else {}
