"""What runs and features show of themselves in a notebook."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from infoscope.errors import InfoscopeError
from infoscope.measurement.controls import controls_of
from infoscope.measurement.result import Scope
from infoscope.measurement.summary import (
    counts_of,
    fit_sentence,
    most_trusted,
    partition_of,
    quantiles_of,
    rules_sentence,
    settings_of,
    trust_label,
    views_of,
)
from infoscope.runtime.columns import Column, Panel
from infoscope.runtime.hub import short_name
from infoscope.runtime.run import PARTITION, Feature, Run
from infoscope.runtime.schema import SCOPE
from infoscope.scope.classes import CLASSES
from infoscope.views.report.charts import BAR, ON_LIGHT, axis_end, stacked_bars
from infoscope.views.report.photographs import Photographs, find_photographs
from infoscope.views.report.template import make_environment
from infoscope.views.report.tiles import codes_of, crop_tiles, data_uri

NONE = "\N{EN DASH}"


def settings_line(run: Run) -> str:
    """What was measured, with what, on what, in a line."""
    manifest, settings = run.manifest, settings_of(run)
    return (
        f"{short_name(manifest.model.name)}, block {manifest.model.block}, {settings.grid} x {settings.grid} patches; "
        f"{manifest.images.read:,} images of {short_name(manifest.images.source)}; {settings.top_images} top images a "
        f"feature, shift {settings.shift}, {settings.resize}"
    )


def run_text(run: Run) -> str:
    """A run in a few lines; nothing slow is computed."""
    scope, fit = run.scope, run.manifest.fit
    cds = scope["cds"].drop_nulls()
    older = rules_sentence(run)
    classes = ", ".join(each.sentence() for each in controls_of(run).shares() if each.count)
    lines = [
        f"Scope of {scope.height:,} features, {len(cds):,} scored: {short_name(run.manifest.dictionary.name)}",
        settings_line(run),
        f"classes: {classes}",
        *([] if older is None else [older]),
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
    rule_version = feature.run.manifest.rule_version
    lines = [
        f"Feature {feature.number}, {feature.scope_class}: {score}, {values['pairs']} valid pairs",
        f"class: {values['class_evidence']}",
        f"{trust_label(rule_version)}: {trust_sentence(feature)}",
        f"active in {values['images_active']:,} images of {short_name(feature.run.manifest.images.source)}",
    ]
    return "\n  ".join(lines)


def trust_sentence(feature: Feature) -> str:
    """A feature's trust and where it comes from; under the older rules, what lowers it."""
    reasons, value = feature.values["trust_reasons"], number(feature.trust)
    if feature.run.manifest.rule_version == 1:
        return f"{value} of 1, no probability" + (f", lowered by {reasons}" if reasons else "")
    said = "none: no class of its own" if feature.trust is None else f"{value} chance that as many other images agree"
    return said + (f"; {reasons}" if reasons else "")


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
    """A number as people read it; a missing one is a dash, never 0.

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
    """How far a feature's maps move at each shift; empty where only one shift was measured."""
    if curve is None:
        return ""
    known = curve.drop_nulls("cds_patches").select("shift", "cds_patches").sort("shift").iter_rows()
    return ", ".join(f"{moved:.2f} patches at {shift}" for shift, moved in known)


# Our choices: features of each class in the table, top images on a card, pixels of a crop at twice its size on screen.
EACH, IMAGES, SIDE = 2, 4, 192
QUALITY = 70
# Units of the spectrum's drawing.
WIDTH, HEIGHT = 300.0, 84.0


def scope_card(run: Run, in_memory: bool) -> str:
    """Classes, spectrum, threshold, fit and a short table.

    Args:
        run: the run.
        in_memory: whether the user has a scope, whose table goes by another name.

    Raises:
        InfoscopeError: a table of the run cannot be read.
    """
    partition, settings = partition_of(run), settings_of(run)
    rows = [
        {
            "feature": row["feature"],
            "name": name,
            "cds": number(row["cds"]),
            "interval": interval_of(row),
            "trust": number(row["trust"]),
        }
        for name, frame in most_trusted(run.scope, EACH).items()
        for row in frame.iter_rows(named=True)
    ]
    fit, controls = run.manifest.fit, controls_of(run)
    return _render(
        "scope.html.j2",
        counts=counts_of(run.scope, partition, settings),
        dictionary=short_name(run.manifest.dictionary.name),
        settings_line=settings_line(run),
        classes=controls.shares(),
        expected=bool(controls.expected_false),
        older=rules_sentence(run),
        trust_label=trust_label(run.manifest.rule_version),
        drawn=None if partition is None else _spectrum(run, partition.threshold),
        sentence="" if partition is None else partition.sentence(),
        fit=fit_sentence(fit)[1],
        warnings=fit.warnings or [],
        rows=rows,
        table="table" if in_memory else "scope",
    )


def feature_card(feature: Feature) -> str:
    """Score, class, trust, top images, controls and companions.

    Raises:
        InfoscopeError: a table of the run cannot be read, or the images that are named are not the run's.
    """
    run, values, name = feature.run, feature.values, feature.scope_class
    settings = settings_of(run)
    threshold = None if feature.cds is None else run.partition.get("threshold")
    drawn = None if feature.cds is None else _spectrum(run, threshold)
    photographs = find_photographs(run, feature.images, network=False)
    moves = [(values[name], column.label.removeprefix("pairs that ")) for name, column in _on_card("moves")]
    top = feature.top_images.height
    return _render(
        "feature.html.j2",
        number=feature.number,
        name=name,
        settings_line=f"{short_name(run.manifest.dictionary.name)}; {settings_line(run)}",
        cds="" if feature.cds is None else f"{feature.cds:.3f}",
        interval=interval_of(values),
        pairs=f"{values['pairs']} valid pairs of {top} top images; a score needs {settings.min_pairs}.",
        drawn=drawn,
        mark=None if drawn is None else _mark(values, drawn["end"]),
        scored=run.scope["cds"].count(),
        evidence=values["class_evidence"],
        trust_label=trust_label(run.manifest.rule_version),
        trust=trust_sentence(feature),
        moves=", ".join(f"{share:.0%} {text}".replace("%", " %", 1) for share, text in moves if share),
        active=f"in {values['images_active']:,} of {run.manifest.images.read:,} images, "
        f"{100 * values['density']:.2f} % of their patches",
        curve=curve_text(feature.shift_curve),
        shown=_pairs(feature, photographs, settings.geometry.largest),
        missing=photographs.missing,
        side=SIDE // 2,
        tables=[("Controls", _numbers(values, "controls")), ("Companions", _numbers(values, "companions"))],
    )


def _render(template: str, **known: Any) -> str:
    style = files("infoscope.views.notebook").joinpath("style.css").read_text(encoding="utf-8")
    environment = make_environment("infoscope.views.notebook")
    return environment.get_template(template).render(style=Markup(style), colours=dict(ON_LIGHT), **known)


def _spectrum(run: Run, threshold: float | None) -> dict[str, Any]:
    """The bars of the spectrum by class, at their places in the drawing."""
    scored = run.scope.filter(pl.col("cds").is_not_null())
    cds = scored["cds"].to_numpy()
    upper = axis_end(cds)
    edges = np.linspace(0, upper, round(upper / BAR) + 1)
    names = scored["scope_class"].fill_null("undefined").to_list()
    bars = stacked_bars(cds, names, CLASSES, edges)
    most = max((bar["high"] for bar in bars), default=1)
    across, up = WIDTH / upper, HEIGHT / most
    return {
        "bars": [
            {
                "group": bar["group"],
                "x": _short(bar["from"] * across),
                "width": _short((bar["to"] - bar["from"]) * across - 0.4),
                "y": _short(HEIGHT - bar["high"] * up),
                "height": _short((bar["high"] - bar["low"]) * up),
            }
            for bar in bars
        ],
        "end": upper,
        "upper": f"{upper:.2f}",
        "threshold": None if threshold is None else _short(threshold * across),
        "description": f"Histogram of CDS over {len(cds):,} scored features, by class",
    }


def _mark(values: dict[str, Any], upper: float) -> dict[str, Any]:
    """A feature's place in the spectrum."""
    across = WIDTH / upper
    low, high = values["cds_ci_lower"], values["cds_ci_upper"]
    return {
        "at": _short(values["cds"] * across),
        "low": None if low is None else _short(low * across),
        "length": None if low is None else _short((min(high, upper) - low) * across),
    }


def _pairs(feature: Feature, photographs: Photographs, diagonal: float) -> list[dict[str, Any]]:
    """Both crops of the strongest images under their maps, as data URIs."""
    views, shown = views_of(feature.run), []
    for row in feature.top_images.head(IMAGES).iter_rows(named=True):
        photograph = photographs.of(row["image_id"])
        codes = codes_of(feature.maps.filter(rank=row["rank"]), views.grid)
        tiles = crop_tiles(photograph, codes, views, ON_LIGHT[feature.scope_class], SIDE)
        moved = "no distance" if row["emd"] is None else f"moves {row['emd'] * diagonal:.2f} patches"
        shown.append(
            {
                "tiles": [data_uri(tile, "WEBP", quality=QUALITY, method=2) for tile in tiles],
                "photograph": photograph is not None,
                "alt": [
                    f"{row['image_id']}, {crop} crop, {int((codes[place] > 0).sum())} patches active"
                    for place, crop in enumerate(("first", "second"))
                ],
                "id": row["image_id"],
                "caption": f"{row['rank'] + 1}. {moved}; {PurePosixPath(row['image_id']).name}",
            }
        )
    return shown


def _on_card(panel: Panel) -> list[tuple[str, Column]]:
    return [(name, column) for name, column in SCOPE.items() if column.panel == panel and column.on_card]


def _numbers(values: dict[str, Any], panel: Panel) -> list[tuple[str, str, str]]:
    """The label, value and unit of each column of a panel; the unit's range is left out."""
    return [
        (column.label, number(values[name]), column.shown_unit.partition(",")[0]) for name, column in _on_card(panel)
    ]


def _short(value: float) -> float:
    return round(value, 2)


def html(subject: Run | Scope | Feature) -> str:
    """A table or a card as a piece of HTML: no scripts, no requests, readable on a light and on a dark background.

    Where a file cannot be read, the error's line stands instead, since a notebook would print a traceback.
    """
    try:
        if isinstance(subject, Feature):
            return feature_card(subject)
        return scope_card(subject.run if isinstance(subject, Scope) else subject, isinstance(subject, Scope))
    except InfoscopeError as error:
        return f"<p>{escape(str(error))}</p>"


def text(subject: Run | Scope | Feature) -> str:
    """The same in a few lines of text."""
    try:
        if isinstance(subject, Feature):
            return feature_text(subject)
        return run_text(subject.run if isinstance(subject, Scope) else subject)
    except InfoscopeError as error:
        return f"<{type(subject).__name__}: {error}>"
