"""What a run and a feature say of themselves in words, for a terminal and for a card."""

from __future__ import annotations

from typing import Any

import polars as pl

from infoscope.report.summary import quantiles_of, settings_of
from infoscope.report.template import short_name
from infoscope.scope.classes import CLASSES
from infoscope.storage.run import PARTITION, Feature, Run

NONE = "\N{EN DASH}"


def settings_line(run: Run) -> str:
    """What was measured, with what, on what, in a line."""
    manifest, settings = run.manifest, settings_of(run)
    return (
        f"{short_name(manifest.model.name)}, block {manifest.model.block}, {settings.grid} x {settings.grid} patches; "
        f"{manifest.images.read:,} images of {short_name(manifest.images.source)}; {settings.top_images} top images a "
        f"feature, shift {settings.shift}, {settings.resize}"
    )


def class_counts(run: Run) -> list[tuple[str, int, float]]:
    """Features of each class: name, number, share."""
    counts = dict(run.scope["scope_class"].fill_null("undefined").value_counts().iter_rows())
    total = max(run.scope.height, 1)
    return [(name, counts.get(name, 0), counts.get(name, 0) / total) for name in CLASSES]


def run_text(run: Run) -> str:
    """A run in a few lines; nothing is computed that takes long."""
    scope, fit = run.scope, run.manifest.fit
    cds = scope["cds"].drop_nulls()
    classes = ", ".join(f"{count:,} {name}" for name, count, _ in class_counts(run) if count)
    lines = [
        f"Scope of {scope.height:,} features, {len(cds):,} scored: {short_name(run.manifest.dictionary.name)}",
        settings_line(run),
        f"classes: {classes}",
    ]
    if len(cds):
        spread = "CDS: " + ", ".join(f"{name} {value:.3f}" for name, value in quantiles_of(scope))
        threshold = run.partition.get("threshold") if (run.path / PARTITION).is_file() else None
        kind = "" if threshold is None else f", threshold {threshold:.3f} ({run.partition.get('kind')})"
        lines.append(spread + kind)
    lines.append("fit: not known" if fit.fvu is None else f"fit: FVU {fit.fvu:.3f}, L0 {fit.l0:.1f}")
    return "\n  ".join(lines)


def feature_text(feature: Feature) -> str:
    """A feature in a few lines."""
    values = feature.values
    score = "no CDS" if feature.cds is None else f"CDS {feature.cds:.3f}{interval_of(values, ' ({})')}"
    reasons = f", lowered by {values['trust_reasons']}" if values["trust_reasons"] else ""
    lines = [
        f"Feature {feature.number}, {feature.scope_class}: {score}, {values['pairs']} valid pairs",
        f"class: {values['class_evidence']}",
        f"trust: {number(feature.trust)}{reasons}",
        f"active in {values['images_active']:,} images of {short_name(feature.run.manifest.images.source)}",
    ]
    return "\n  ".join(lines)


def interval_of(row: dict[str, Any], form: str = "{}") -> str:
    """A feature's interval, or nothing where there is none.

    Example:
        >>> interval_of({"cds_ci_lower": 0.1, "cds_ci_upper": 0.2}, " ({})"), interval_of({"cds_ci_lower": None})
        (' (0.100 to 0.200)', '')
    """
    if row["cds_ci_lower"] is None:
        return ""
    return form.format(f"{row['cds_ci_lower']:.3f} to {row['cds_ci_upper']:.3f}")


def number(value: Any) -> str:
    """A number for people; what is not there is a dash, never a 0.

    Example:
        >>> [number(value) for value in (None, True, 12, 0.12345, 12.345, 12345.6, 0.00012)]
        ['–', 'yes', '12', '0.123', '12.3', '12,346', '0.00012']
    """
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1 or 0 < abs(value) < 0.001 else f"{value:.3f}"


def curve_text(curve: pl.DataFrame | None) -> str:
    """How far a feature's maps move at each shift; empty where one was measured."""
    if curve is None:
        return ""
    known = curve.drop_nulls("cds_patches").select("shift", "cds_patches").sort("shift").iter_rows()
    return ", ".join(f"{moved:.2f} patches at {shift}" for shift, moved in known)
