"""What ``infoscope measure``, ``info`` and ``demo`` say of a run: short tables for people, figures for programs."""

from __future__ import annotations

import math
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

from infoscope.cli.output import name_skipped, print_rows
from infoscope.measurement.controls import RunControls, controls_of
from infoscope.measurement.summary import (
    QUANTILES,
    counts_of,
    cross_check_rows,
    fit_sentence,
    partition_of,
    quantiles_of,
    repeatability_sentence,
    rules_sentence,
    settings_of,
    trust_label,
)
from infoscope.runtime.manifest import FitRecord, ModelRecord
from infoscope.runtime.run import MANIFEST, PARTITION, Run

# Of the counts, those in the JSON document beside the number of all features.
COUNTED = ("scored", "unscored", "silent", "rare", "vanishing", "low_cds", "high_cds")


def print_inputs(run: Run) -> None:
    """Print what was measured, with what, on what."""
    manifest = run.manifest
    model, options = manifest.model, manifest.options
    rows = [
        ("model", f"{model.name} ({model.family}), {_place(model)}, {model.grid} x {model.grid} patches"),
        (
            "SAE" if manifest.fit.note is None else "dictionary",
            f"{manifest.dictionary.name}, {manifest.dictionary.features:,} features, {manifest.dictionary.activation}",
        ),
        ("images", f"{manifest.images.source}, {manifest.images.count:,}"),
        ("options", ", ".join(f"{name} {value}" for name, value in options.items())),
        ("seconds", ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in manifest.timings.items())),
        ("command", manifest.command),
        ("checksums", _checksums(run)),
    ]
    print_rows(rows)


def _checksums(run: Run) -> str:
    """What a reader must know of how far the files are those that were written."""
    if run.manifest.files is None:
        return f"none: {MANIFEST} says nothing of the files' content, so that damage would go unnoticed"
    if not run.checked:
        return f"the tables are as they were written; {MANIFEST} has no checksum of its own"
    return "all files are as they were written"


def _place(model: ModelRecord) -> str:
    return f"block {model.block}" + ("" if model.reads == "output" else f" ({model.reads})")


def print_summary(run: Run) -> None:
    """Print how many features there are, their spectrum, the modes, the threshold and where to look next."""
    manifest, partition = run.manifest, partition_of(run)
    settings = settings_of(run)
    counts = counts_of(run.scope, partition, settings)
    fit = manifest.fit
    rows = [
        (
            "features",
            f"{counts.features:,}, of which {counts.scored:,} ({counts.scored / counts.features:.1%}) are scored",
        ),
        ("fit", f"{fit_sentence(fit)[1]} L0 {fit.l0:.1f}, dead {fit.dead:.1%}"),
        *[("warning", warning) for warning in fit.warnings or []],
    ]
    if partition is None:
        rows.append(
            (
                "CDS",
                f"no feature has {settings.min_pairs} valid pairs, so there is no score: measure more images, "
                "or lower --top-images",
            )
        )
    else:
        rows += [
            ("CDS", "  ".join(f"{name} {value:.3f}" for name, value in quantiles_of(run.scope))),
            ("modes", partition.sentence()),
            ("sides", f"{counts.low_cds:,} low-CDS, {counts.high_cds:,} high-CDS"),
        ]
    if (older := rules_sentence(run)) is not None:
        rows.append(("rules", older))
    rows += class_rows(controls_of(run))
    rows += cross_check_rows(run)
    if counts.unscored:
        rows.append(
            (
                "unscored",
                f"{counts.unscored:,} with fewer than {settings.min_pairs} valid pairs: {counts.silent:,} never fire, "
                f"{counts.rare:,} fire on fewer images than that, {counts.vanishing:,} vanish in one crop for most",
            )
        )
    if manifest.images.skipped:
        skipped = [asdict(image) for image in manifest.images.skipped]
        named = name_skipped(skipped, run.path / MANIFEST)
        rows.append(("skipped", f"{len(skipped)} of {manifest.images.count:,} images: {named}"))
    rows += [("images", note) for note in manifest.images.notes]
    print_rows(rows)
    # Outside the table, which would break a path where the line ends.
    print(f"table: {run.path / 'scope.parquet'}")
    print(f"next: infoscope report {shlex.quote(str(run.path))}")


def class_rows(controls: RunControls) -> list[tuple[str, str]]:
    """Shares of the scope classes, the calibrated spectrum and how far to believe them."""
    rows = [("classes", ", ".join(each.sentence() for each in controls.shares()))]
    if controls.repeatability is not None and controls.repeatability.features:
        rows.append(("repeats", repeatability_sentence(controls.repeatability, controls.judged_images)))
    if controls.calibrated:
        quantiles = "  ".join(f"{share:.0%} {value:.2f}" for share, value in controls.calibrated.items())
        rows.append(("calibrated", f"{quantiles}  (1 is unrelated pictures)"))
    if controls.displacement:
        quantiles = "  ".join(f"{share:.0%} {value:.2f}" for share, value in controls.displacement.items())
        rows.append(("displacement", f"{quantiles}  (beyond noise: 0 is noise alone, 1 is unrelated pictures)"))
    if controls.trust:
        quantiles = "  ".join(f"{share:.0%} {value:.2f}" for share, value in controls.trust.items())
        reliability = controls.reliability.spearman
        known = "not known" if math.isnan(reliability) else f"{reliability:.2f}"
        rows.append((trust_label(controls.rule_version), f"{quantiles}  (reliability between halves {known})"))
    if controls.plan is not None:
        rows.append(("reliability", f"of CDS, as a rank correlation: {controls.plan.sentence()}"))
    return rows


def fit_rows(fit: FitRecord) -> list[tuple[str, str]]:
    """The numbers of a fit check, then what they say.

    Example:
        >>> for row in fit_rows(FitRecord(0.2, 31.5, 0.01, 65536, k=32, token_norm=19.0, trained_norm=18.9)): print(row)
        ('FVU', '0.200 (1 is the mean token)')
        ('L0', '31.5 (k 32)')
        ('dead', '1.0%')
        ('norm', '19.0 a token (in training 18.9)')
        ('fit', 'fits')
    """
    word, sentence = fit_sentence(fit)
    norm = "not known" if fit.token_norm is None else f"{fit.token_norm:.1f} a token"
    trained = "in training not stated" if fit.trained_norm is None else f"in training {fit.trained_norm:.1f}"
    return [
        ("FVU", "not known" if fit.fvu is None else f"{fit.fvu:.3f} (1 is the mean token)"),
        ("L0", f"{fit.l0:.1f}" + ("" if fit.k is None else f" (k {fit.k})")),
        ("dead", f"{fit.dead:.1%}"),
        ("norm", f"{norm} ({trained})"),
        ("fit", word if word == "fits" else sentence),
        *[("warning", warning) for warning in fit.warnings or []],
    ]


def run_figures(run: Run) -> dict[str, Any]:
    """Counts of features, the spectrum, classes, trust and the fit; docs/shell.md lists the keys.

    Raises:
        InfoscopeError: a table of the run cannot be read.
    """
    manifest, partition, settings = run.manifest, partition_of(run), settings_of(run)
    counts = counts_of(run.scope, partition, settings)
    shares = dict((*QUANTILES, ("maximum", 1.0)))
    controls = controls_of(run)
    return {
        "features": {"all": counts.features} | {name: getattr(counts, name) for name in COUNTED},
        "cds": {str(shares[name]): value for name, value in quantiles_of(run.scope)},
        "threshold": None if partition is None else partition.threshold,
        "modes": None if partition is None else partition.evidence.modes,
        "rule_version": controls.rule_version,
        "classes": controls.classes,
        "expected_false": controls.expected_false,
        "calibrated": controls.calibrated,
        "displacement": controls.displacement,
        "trust": controls.trust,
        "reliability": controls.reliability.spearman,
        "plan": controls.plan,
        "repeatability": controls.repeatability,
        "not_repeatable": sorted(controls.not_repeatable),
        "fit": manifest.fit,
        "images": {
            "source": manifest.images.source,
            "count": manifest.images.count,
            "skipped": len(manifest.images.skipped),
            "notes": manifest.images.notes,
        },
        "seconds": manifest.timings,
    }


def run_files(path: Path) -> dict[str, Path]:
    """What a measurement has written."""
    named = {"manifest": MANIFEST, "scope": "scope.parquet", "partition": PARTITION, "controls": "controls.json"}
    return {"out": path} | {name: path / file for name, file in named.items()}
