"""What each run found, in the few numbers that are laid side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from infoscope.comparison.differences import Difference, differences_of, label_runs, warnings_of
from infoscope.errors import InfoscopeError
from infoscope.report.summary import fit_sentence, partition_of, quantiles_of
from infoscope.scope.classes import class_shares
from infoscope.storage.run import Run, open_run

FORMAT_VERSION = 1
# Where `infoscope sweep` puts the runs of its blocks.
SWEPT = "block-*/scope"


@dataclass(frozen=True)
class Compared:
    """One run's numbers.

    Attributes:
        label: what it is called here.
        path: the run directory.
        model: the model's name.
        block: the block read.
        reads: its output, or its MLP's neurons.
        dictionary: the dictionary's name.
        kind: its format: a project's for an SAE, else channels, pca, neurons or directions.
        features: in the dictionary.
        scored: with a CDS.
        cds: quantiles of CDS over the scored features, by name; empty where none is.
        calibrated: the same of the calibrated score, over the features that have one; empty where none has.
        classes: share of all features in each scope class.
        effective_area: median over the scored features, in patches; None where none is scored.
        modes: of the density of CDS; None where none is scored.
        dip: Hartigan's statistic; None where it is not defined.
        dip_p: its p-value under one mode.
        threshold: of the run's partition.
        threshold_kind: ``valley`` or ``convention``.
        fvu: fraction of variance unexplained; None where it is not known or means nothing.
        fit: a word on the fit.
        l0: codes above 0 per patch token.
    """

    label: str
    path: str
    model: str
    block: int
    reads: str
    dictionary: str
    kind: str
    features: int
    scored: int
    cds: dict[str, float]
    calibrated: dict[str, float]
    classes: dict[str, float]
    effective_area: float | None
    modes: int | None
    dip: float | None
    dip_p: float | None
    threshold: float | None
    threshold_kind: str | None
    fvu: float | None
    fit: str
    l0: float

    @property
    def scored_share(self) -> float:
        """Share of the features with a CDS."""
        return self.scored / self.features


@dataclass(frozen=True)
class Comparison:
    """Several runs side by side.

    Attributes:
        opened: the runs themselves.
        runs: their numbers, in the same order.
        differences: everything that differs between them.
        warnings: where the comparison is not like with like.
    """

    opened: list[Run]
    runs: list[Compared]
    differences: list[Difference]
    warnings: list[str]

    def to_json(self) -> dict[str, Any]:
        """What ``comparison.json`` holds."""
        return {
            "format_version": FORMAT_VERSION,
            "runs": [asdict(run) | {"scored_share": run.scored_share} for run in self.runs],
            "differences": {each.name: each.values for each in self.differences},
            "warnings": self.warnings,
        }


def compare_runs(paths: Sequence[Path | str]) -> Comparison:
    """Lay finished runs side by side; as in ``compare_runs(["runs/clip-b16", "runs/dinov2"]).to_json()``.

    Args:
        paths: run directories, at least two; one that `infoscope sweep` wrote stands for its blocks.

    Raises:
        InfoscopeError: there are fewer than two runs, one is named twice, or one is not finished.

    Example:
        >>> compare_runs(["runs/one"])
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: a comparison needs two runs or more; name finished run directories, or that of
        a sweep
    """
    folders = [folder for path in paths for folder in _folders(Path(path))]
    places = [folder.resolve() for folder in folders]
    for folder, place in zip(folders, places, strict=True):
        if places.count(place) > 1:
            raise InfoscopeError(f"{folder} is named twice; leave it out once")
    if len(folders) < 2:
        raise InfoscopeError("a comparison needs two runs or more; name finished run directories, or that of a sweep")
    runs = [open_run(folder) for folder in folders]
    labels = label_runs(runs)
    compared = [_compared(run, label) for run, label in zip(runs, labels, strict=True)]
    return Comparison(runs, compared, differences_of(runs), warnings_of(runs, labels))


def _folders(path: Path) -> list[Path]:
    """The run in a directory, or those of the sweep in it."""
    swept = [] if (path / "manifest.json").is_file() else sorted(path.glob(SWEPT))
    return swept or [path]


def _compared(run: Run, label: str) -> Compared:
    manifest, scope, partition = run.manifest, run.scope, partition_of(run)
    scored = scope.filter(pl.col("cds").is_not_null())
    area = scored["effective_area"].median()
    evidence = None if partition is None else partition.evidence
    return Compared(
        label=label,
        path=str(run.path),
        model=manifest.model.name,
        block=manifest.model.block,
        reads=manifest.model.reads,
        dictionary=manifest.dictionary.name,
        kind=manifest.dictionary.format,
        features=scope.height,
        scored=scored.height,
        cds=dict(quantiles_of(scope)),
        calibrated=dict(quantiles_of(scope.select(cds="cds_calibrated"))),
        classes=class_shares(scope["scope_class"].to_list()),
        effective_area=area if isinstance(area, float) else None,
        modes=None if evidence is None else evidence.modes,
        # A statistic that is not defined is NaN.
        dip=None if evidence is None or evidence.dip != evidence.dip else evidence.dip,
        dip_p=None if evidence is None or evidence.dip_p != evidence.dip_p else evidence.dip_p,
        threshold=None if partition is None else partition.threshold,
        threshold_kind=None if partition is None else partition.kind,
        fvu=manifest.fit.fvu,
        fit=fit_sentence(manifest.fit)[0],
        l0=manifest.fit.l0,
    )
