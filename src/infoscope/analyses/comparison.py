"""How two or more runs differ, feature by feature."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from infoscope.dictionaries.untrained import KINDS
from infoscope.errors import InfoscopeError
from infoscope.measurement.controls import controls_of
from infoscope.measurement.fit_judgement import FVU_LOOSE, MOST_ACTIVE
from infoscope.measurement.summary import fit_sentence, partition_of, quantiles_of
from infoscope.options import rules_of
from infoscope.runtime.hub import short_name
from infoscope.runtime.json_values import to_json
from infoscope.runtime.run import Run, open_run
from infoscope.scope.classes import class_shares

# The effect of each option that differs on the numbers; other options are named without an effect.
_EFFECTS = {
    "top_images": "with more images a feature's weaker ones count, and fewer features are scored",
    "min_pairs": "other features are scored",
    "shift": "a map has farther to go, and less of it is shared",
    "shifts": "crops are cut from a picture resized for the largest shift",
    "resize": "the models saw other pictures",
    "rank_by": "other images are the strongest",
    "rank_view": "other images are the strongest",
    "ground_distance": "the unit of CDS is another",
    "empty_as": "vanished maps count in one and not in the other",
}
# Options that change only the intervals, or scores other than the one compared here.
_HARMLESS = frozenset({"seed", "map_activation", "control", "diagonal", "quantile_images", "ranks", "noise_images"})
# Of which more is said than that it differs.
_SAID = _HARMLESS | {"rules"}


@dataclass(frozen=True)
class Difference:
    """Something that differs between runs.

    Attributes:
        name: what differs.
        values: its value in each run, as text, in the order of the runs.
    """

    name: str
    values: list[str]


def differences_of(runs: Sequence[Run]) -> list[Difference]:
    """Everything that differs between runs, with the most important first."""
    software = list(dict.fromkeys(name for run in runs for name in run.manifest.software))
    candidates = [
        ("model", _texts(runs, model_of)),
        ("weights", _texts(runs, lambda run: run.manifest.model.sha256[:12])),
        ("block", _texts(runs, lambda run: run.manifest.model.block)),
        ("read at", _texts(runs, lambda run: run.manifest.model.reads)),
        ("dictionary", _texts(runs, dictionary_of)),
        ("its weights", _texts(runs, lambda run: run.manifest.dictionary.sha256[:12])),
        ("features", _texts(runs, lambda run: f"{run.manifest.dictionary.features:,}")),
        ("activation", _texts(runs, lambda run: run.manifest.dictionary.activation)),
        ("images", _texts(runs, images_of)),
        ("patches a side", _texts(runs, lambda run: run.manifest.model.grid)),
        ("input side", _texts(runs, lambda run: run.manifest.model.grid * run.manifest.model.patch_size)),
        ("precision", _texts(runs, lambda run: run.manifest.model.precision)),
        ("device", _texts(runs, lambda run: run.manifest.model.device)),
        # By version, since runs from before there was the option were judged by the older ones.
        ("rules", _texts(runs, lambda run: rules_of(run.manifest.rule_version))),
        *((name, _texts(runs, _option(name))) for name in options_of(runs) if name != "rules"),
        *((name, [run.manifest.software.get(name, "none") for run in runs]) for name in software),
    ]
    return [Difference(name, values) for name, values in candidates if len(set(values)) > 1]


def warnings_of(runs: Sequence[Run], compared: Sequence[Compared]) -> list[str]:
    """Where runs are not directly comparable, one sentence for each reason.

    Args:
        runs: the runs.
        compared: their numbers.
    """
    labels = [one.label for one in compared]
    rules = rules_differ(compared)
    lines = [] if rules is None else [rules]
    if not on_same_images(runs):
        lines.append(
            "Not the same images: spectra differ for that alone, since a feature's strongest images are other ones. "
            "Measure the runs on one set."
        )
    # Where min_pairs is half of k everywhere, it follows from k, and the warning about k is enough.
    halves = all(run.manifest.options.get("min_pairs") == _half_of_k(run) for run in runs)
    for name in options_of(runs):
        values = _texts(runs, _option(name))
        if len(set(values)) > 1 and name not in _SAID and not (name == "min_pairs" and halves):
            effect = f": {_EFFECTS[name]}" if name in _EFFECTS else ""
            lines.append(f"Not the same {name} ({_listed(values)}){effect}.")
    grids = _texts(runs, lambda run: run.manifest.model.grid)
    if len(set(grids)) > 1:
        lines.append(
            f"Not the same grid ({_listed(grids)} patches a side): CDS is a share of the shared patches' diagonal, and "
            "the same shift is another part of it. Compare the calibrated scores and classes, not CDS itself."
        )
    if len({run.manifest.model.precision for run in runs}) > 1:
        lines.append("Not the same precision: tokens, and the order of images of about equal score, differ a little.")
    kinds = _texts(runs, lambda run: "sparse" if is_sparse(run) else "dense")
    if len(set(kinds)) > 1:
        lines.append(
            "Sparse codes beside dense ones: a dense map covers much of the picture and has less room to move, so a "
            "lower CDS there is not more local. Look at the effective area."
        )
    lines += [
        f"Not repeatable in {one.label}: {', '.join(one.not_repeatable)}. The share of such a class says nothing."
        for one in compared
        if one.not_repeatable
    ]
    misfits = [
        label
        for run, label in zip(runs, labels, strict=True)
        if run.manifest.fit.fvu is not None and run.manifest.fit.fvu >= FVU_LOOSE and run.manifest.fit.note is None
    ]
    if misfits:
        lines.append(f"The SAE does not fit in {', '.join(misfits)}: its features say little of that model and block.")
    return lines


def label_runs(runs: Sequence[Run]) -> list[str]:
    """A unique name for each run that says what sets it apart.

    It holds the model and the block where they differ, and the dictionary, the images, options and the path only as far
    as they are needed to make it unique.
    """
    always: list[Callable[[Run], str]] = [model_of, _block_of]
    if len({run.manifest.dictionary.format for run in runs}) > 1:
        always.append(dictionary_of)
    as_needed: list[Callable[[Run], str]] = [
        dictionary_of,
        lambda run: f"{run.manifest.dictionary.features:,} features",
        lambda run: short_name(run.manifest.images.source),
        *(_named_option(name) for name in options_of(runs)),
        lambda run: run.path.resolve().name,
        lambda run: str(run.path),
    ]
    columns = [values for describe in always if len(set(values := _texts(runs, describe))) > 1]
    for describe in as_needed:
        if columns and len(set(zip(*columns, strict=True))) == len(runs):
            break
        if len(set(values := _texts(runs, describe))) > 1 and values not in columns:
            columns.append(values)
    return [", ".join(words) for words in zip(*columns, strict=True)]


def options_of(runs: Sequence[Run]) -> list[str]:
    """The names of all options that any run has."""
    return list(dict.fromkeys(name for run in runs for name in run.manifest.options))


def model_of(run: Run) -> str:
    """The model's name, without folders."""
    return short_name(run.manifest.model.name)


def dictionary_of(run: Run) -> str:
    """The dictionary's name, without folders; its kind where it is not an SAE."""
    record = run.manifest.dictionary
    return record.format if record.format in KINDS and record.format != "directions" else short_name(record.name)


def images_of(run: Run) -> str:
    """The images, in words."""
    images = run.manifest.images
    return f"{images.read:,} of {short_name(images.source)} ({images.ids_sha256[:8]})"


def on_same_images(runs: Sequence[Run]) -> bool:
    """Whether runs were measured on the same images, as far as their manifests tell."""
    images = [run.manifest.images for run in runs]
    pools = {(pool.count, pool.ids_sha256, tuple(skipped.index for skipped in pool.skipped)) for pool in images}
    return len(pools) == 1 and len({pool.contents_sha256 for pool in images} - {None}) <= 1


def is_sparse(run: Run) -> bool:
    """Whether few features fire on a token: at most a tenth of them, as in the fit check."""
    return run.manifest.fit.l0 <= MOST_ACTIVE * run.manifest.dictionary.features


def _block_of(run: Run) -> str:
    model = run.manifest.model
    return f"block {model.block}" + ("" if model.reads == "output" else f" {model.reads}")


def _half_of_k(run: Run) -> int:
    return (int(run.manifest.options.get("top_images", 0)) + 1) // 2


def _option(name: str) -> Callable[[Run], str]:
    return lambda run: str(run.manifest.options.get(name, "not stated"))


def _named_option(name: str) -> Callable[[Run], str]:
    value = _option(name)
    return lambda run: f"{name} {value(run)}"


def _texts(runs: Sequence[Run], what: Callable[[Run], Any]) -> list[str]:
    return [str(what(run)) for run in runs]


def _listed(values: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(values))


FORMAT_VERSION = 1
# Where `infoscope sweep` puts the runs of its blocks.
SWEPT = "block-*/scope"


@dataclass(frozen=True)
class Compared:
    """The numbers of one run.

    Attributes:
        label: its name in the comparison.
        path: the run directory.
        model: the model's name.
        block: the block.
        reads: what is read there: its output, or the neurons of its MLP.
        dictionary: the dictionary's name.
        kind: the format of an SAE, or channels, pca, neurons or directions.
        features: features in the dictionary.
        scored: features with a CDS.
        cds: quantiles of CDS over the scored features, by name; empty without scored features.
        calibrated: quantiles of the calibrated score, over the features that have one; empty without such features.
        rule_version: of the rules that the classes follow from.
        has_noise: whether code noise was measured.
        classes: share of all features in each scope class.
        expected_false: of each settled class with features, the share of them expected not to be of it; empty under
            rules that give no posteriors.
        not_repeatable: the classes that do not repeat between halves of the run's images, so that their shares say
            nothing.
        effective_area: median over the scored features, in patches; None where no feature is scored.
        modes: modes of the density of CDS; None where no feature is scored.
        dip: Hartigan's dip statistic; None where it is not defined.
        dip_p: its p-value under one mode.
        threshold: threshold of the run's partition.
        threshold_kind: ``valley`` or ``convention``.
        fvu: fraction of variance unexplained; None where it is not known or has no meaning.
        fit: whether the SAE fits, in a word or two.
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
    rule_version: int
    has_noise: bool
    classes: dict[str, float]
    expected_false: dict[str, float]
    not_repeatable: list[str]
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
    def rules(self) -> str:
        """The rules' name, as ``infoscope judge --rules`` takes it, and whether they lacked what they need."""
        lacking = self.rule_version > 1 and not self.has_noise
        return rules_of(self.rule_version) + (" without code noise" if lacking else "")

    @property
    def scored_share(self) -> float:
        """Share of the features with a CDS."""
        return self.scored / self.features


@dataclass(frozen=True)
class Comparison:
    """Several runs side by side.

    Attributes:
        opened: the runs.
        runs: their numbers, in the same order.
        differences: everything that differs between them.
        warnings: where they are not directly comparable.
    """

    opened: list[Run]
    runs: list[Compared]
    differences: list[Difference]
    warnings: list[str]

    def to_json(self) -> dict[str, Any]:
        """What ``comparison.json`` holds."""
        return {
            "format_version": FORMAT_VERSION,
            "runs": [to_json(run) | {"scored_share": run.scored_share} for run in self.runs],
            "differences": {difference.name: difference.values for difference in self.differences},
            "warnings": self.warnings,
        }


def compare_runs(paths: Sequence[Path | str]) -> Comparison:
    """Compare finished runs, as in ``compare_runs(["runs/clip-b16", "runs/dinov2"]).to_json()``.

    Args:
        paths: run directories, at least two in all; a directory of `infoscope sweep` stands for the runs of its blocks.

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
    resolved = [folder.resolve() for folder in folders]
    for folder, target in zip(folders, resolved, strict=True):
        if resolved.count(target) > 1:
            raise InfoscopeError(f"{folder} is named twice; leave it out once")
    if len(folders) < 2:
        raise InfoscopeError("a comparison needs two runs or more; name finished run directories, or that of a sweep")
    runs = [open_run(folder) for folder in folders]
    labels = label_runs(runs)
    compared = [_compared(run, label) for run, label in zip(runs, labels, strict=True)]
    return Comparison(runs, compared, differences_of(runs), warnings_of(runs, compared))


def rules_differ(runs: Sequence[Compared]) -> str | None:
    """Why the classes of runs cannot be laid side by side, where they follow from different rules; else None."""
    by_rules: dict[str, list[str]] = {}
    for run in runs:
        by_rules.setdefault(run.rules, []).append(run.label)
    if len(by_rules) < 2:
        return None
    named = "; ".join(f"{', '.join(labels)} by {rules}" for rules, labels in by_rules.items())
    older = min(runs, key=lambda run: run.rule_version)
    remedy = f"`infoscope judge {shlex.quote(older.path)}` first"
    if len({run.rule_version for run in runs}) == 1:
        remedy = "measure the runs without it again, for without code noise nearly all features come out mixed"
    return (
        f"Judged by different rules: {named}. Their classes are other things of the same names, so no shares are shown "
        f"side by side: {remedy}."
    )


def _folders(path: Path) -> list[Path]:
    """The run in a directory, or those of the sweep in it."""
    swept = [] if (path / "manifest.json").is_file() else sorted(path.glob(SWEPT))
    return swept or [path]


def _compared(run: Run, label: str) -> Compared:
    manifest, scope, partition = run.manifest, run.scope, partition_of(run)
    scored = scope.filter(pl.col("cds").is_not_null())
    area, controls = scored["effective_area"].median(), controls_of(run)
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
        rule_version=manifest.rule_version,
        has_noise=run.code_noise is not None,
        classes=class_shares(scope["scope_class"].to_list()),
        expected_false=controls.expected_false,
        not_repeatable=sorted(controls.not_repeatable),
        effective_area=area if isinstance(area, float) else None,
        modes=None if evidence is None else evidence.modes,
        dip=None if evidence is None or math.isnan(evidence.dip) else evidence.dip,
        dip_p=None if evidence is None or math.isnan(evidence.dip_p) else evidence.dip_p,
        threshold=None if partition is None else partition.threshold,
        threshold_kind=None if partition is None else partition.kind,
        fvu=manifest.fit.fvu,
        fit=fit_sentence(manifest.fit)[0],
        l0=manifest.fit.l0,
    )
