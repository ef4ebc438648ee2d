"""How two or more runs differ, feature by feature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from infoscope.dictionaries.untrained import KINDS
from infoscope.errors import InfoscopeError
from infoscope.measurement.fit import FVU_LOOSE, MOST_ACTIVE
from infoscope.measurement.summary import fit_sentence, partition_of, quantiles_of
from infoscope.runtime.hub import short_name
from infoscope.runtime.run import Run, open_run
from infoscope.scope.classes import class_shares

# What each option that differs does to the numbers; any other is named all the same.
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
# Of the intervals alone, or of further scores beside the one compared here.
_HARMLESS = frozenset({"seed", "map_activation", "control", "diagonal", "quantile_images"})


@dataclass(frozen=True)
class Difference:
    """A thing that is not the same for all runs.

    Attributes:
        name: what it is.
        values: of each run, as text, in their order.
    """

    name: str
    values: list[str]


def differences_of(runs: Sequence[Run]) -> list[Difference]:
    """Everything that differs, most telling first."""
    software = list(dict.fromkeys(name for run in runs for name in run.manifest.software))
    candidates = [
        ("model", _each(runs, model_of)),
        ("weights", _each(runs, lambda run: run.manifest.model.sha256[:12])),
        ("block", _each(runs, lambda run: run.manifest.model.block)),
        ("read at", _each(runs, lambda run: run.manifest.model.reads)),
        ("dictionary", _each(runs, dictionary_of)),
        ("its weights", _each(runs, lambda run: run.manifest.dictionary.sha256[:12])),
        ("features", _each(runs, lambda run: f"{run.manifest.dictionary.features:,}")),
        ("activation", _each(runs, lambda run: run.manifest.dictionary.activation)),
        ("images", _each(runs, images_of)),
        ("patches a side", _each(runs, lambda run: run.manifest.model.grid)),
        ("input side", _each(runs, lambda run: run.manifest.model.grid * run.manifest.model.patch_size)),
        ("precision", _each(runs, lambda run: run.manifest.model.precision)),
        ("device", _each(runs, lambda run: run.manifest.model.device)),
        *((name, _each(runs, _option(name))) for name in options_of(runs)),
        *((name, [run.manifest.software.get(name, "none") for run in runs]) for name in software),
    ]
    return [Difference(name, values) for name, values in candidates if len(set(values)) > 1]


def warnings_of(runs: Sequence[Run], labels: Sequence[str]) -> list[str]:
    """Where the comparison is not like with like, a sentence each."""
    lines = []
    if not on_same_images(runs):
        lines.append(
            "Not the same images: spectra differ for that alone, since a feature's strongest images are other ones. "
            "Measure the runs on one set."
        )
    # Half of k, where nobody asked for another number: said with k.
    halves = all(run.manifest.options.get("min_pairs") == _half_of_k(run) for run in runs)
    for name in options_of(runs):
        values = _each(runs, _option(name))
        if len(set(values)) > 1 and name not in _HARMLESS and not (name == "min_pairs" and halves):
            effect = f": {_EFFECTS[name]}" if name in _EFFECTS else ""
            lines.append(f"Not the same {name} ({_few(values)}){effect}.")
    grids = _each(runs, lambda run: run.manifest.model.grid)
    if len(set(grids)) > 1:
        lines.append(
            f"Not the same grid ({_few(grids)} patches a side): CDS is a share of the shared patches' diagonal, and "
            "the same shift is another part of it. Compare the calibrated scores and classes, not CDS itself."
        )
    if len({run.manifest.model.precision for run in runs}) > 1:
        lines.append("Not the same precision: tokens, and the order of images of about equal score, differ a little.")
    kinds = _each(runs, lambda run: "sparse" if is_sparse(run) else "dense")
    if len(set(kinds)) > 1:
        lines.append(
            "Sparse codes beside dense ones: a dense map covers much of the picture and has less room to move, so a "
            "lower CDS there is not more local. Look at the effective area."
        )
    ill = [
        label
        for run, label in zip(runs, labels, strict=True)
        if run.manifest.fit.fvu is not None and run.manifest.fit.fvu >= FVU_LOOSE and run.manifest.fit.note is None
    ]
    if ill:
        lines.append(f"The SAE does not fit in {', '.join(ill)}: its features say little of that model and block.")
    return lines


def label_runs(runs: Sequence[Run]) -> list[str]:
    """A name for each run that says what sets it apart, and is no other's.

    The model and the block where they differ; the dictionary, the images, an option and the path only as far as the
    name is not yet its own.
    """
    always: list[Callable[[Run], str]] = [model_of, _place_of]
    if len({run.manifest.dictionary.format for run in runs}) > 1:
        always.append(dictionary_of)
    more: list[Callable[[Run], str]] = [
        dictionary_of,
        lambda run: f"{run.manifest.dictionary.features:,} features",
        lambda run: short_name(run.manifest.images.source),
        *(_named_option(name) for name in options_of(runs)),
        lambda run: run.path.resolve().name,
        lambda run: str(run.path),
    ]
    parts = [values for part in always if len(set(values := _each(runs, part))) > 1]
    for part in more:
        if parts and len(set(zip(*parts, strict=True))) == len(runs):
            break
        if len(set(values := _each(runs, part))) > 1 and values not in parts:
            parts.append(values)
    return [", ".join(each) for each in zip(*parts, strict=True)]


def options_of(runs: Sequence[Run]) -> list[str]:
    """The names of all options that any of the runs has."""
    return list(dict.fromkeys(name for run in runs for name in run.manifest.options))


def model_of(run: Run) -> str:
    """The model's name without the folders before it."""
    return short_name(run.manifest.model.name)


def dictionary_of(run: Run) -> str:
    """The dictionary's name without the folders before it, or what it is where it is no SAE."""
    record = run.manifest.dictionary
    return record.format if record.format in KINDS and record.format != "directions" else short_name(record.name)


def images_of(run: Run) -> str:
    """The images, in words."""
    images = run.manifest.images
    return f"{images.read:,} of {short_name(images.source)} ({images.ids_sha256[:8]})"


def on_same_images(runs: Sequence[Run]) -> bool:
    """Whether runs were measured on the same images, as far as they know what these were like."""
    images = [run.manifest.images for run in runs]
    pools = {(each.count, each.ids_sha256, tuple(skipped.index for skipped in each.skipped)) for each in images}
    return len(pools) == 1 and len({each.contents_sha256 for each in images} - {None}) <= 1


def is_sparse(run: Run) -> bool:
    """Whether few features fire on a token: at most a tenth of them, as the fit check has it."""
    return run.manifest.fit.l0 <= MOST_ACTIVE * run.manifest.dictionary.features


def _place_of(run: Run) -> str:
    model = run.manifest.model
    return f"block {model.block}" + ("" if model.reads == "output" else f" {model.reads}")


def _half_of_k(run: Run) -> int:
    return (int(run.manifest.options.get("top_images", 0)) + 1) // 2


def _option(name: str) -> Callable[[Run], str]:
    return lambda run: str(run.manifest.options.get(name, "not stated"))


def _named_option(name: str) -> Callable[[Run], str]:
    value = _option(name)
    return lambda run: f"{name} {value(run)}"


def _each(runs: Sequence[Run], what: Callable[[Run], Any]) -> list[str]:
    return [str(what(run)) for run in runs]


def _few(values: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(values))


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
