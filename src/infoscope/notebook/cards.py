"""The table of a run and the card of a feature, as pieces of HTML."""

from __future__ import annotations

import base64
import io
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup
from PIL import Image

from infoscope.notebook.words import class_counts, curve_text, interval_of, number, settings_line
from infoscope.report.bars import BAR, axis_end, stacked_bars
from infoscope.report.colours import ON_LIGHT
from infoscope.report.labels import LABELS
from infoscope.report.photographs import Photographs, find_photographs
from infoscope.report.summary import (
    counts_of,
    fit_sentence,
    most_trusted,
    partition_of,
    settings_of,
    views_of,
)
from infoscope.report.template import make_environment, short_name
from infoscope.report.tiles import codes_of, crop_tiles
from infoscope.scope.classes import CLASSES
from infoscope.storage.run import Feature, Run
from infoscope.storage.schema import SCOPE

# Our choices: features of each class in the table, top images on a card, pixels of a crop at twice its size on screen.
EACH, IMAGES, SIDE = 2, 4, 192
QUALITY = 70
# Units of the spectrum's drawing.
WIDTH, HEIGHT = 300.0, 84.0
CONTROLS = (
    "cds_calibrated",
    "cds_null",
    "position_control",
    "cds_retained",
    "retention",
    "vanished",
    "cds_even",
    "cds_odd",
)
COMPANIONS = (
    "effective_area",
    "participation",
    "gyration",
    "moran",
    "peak_displacement",
    "support_iou",
    "cosine_distance",
    "jensen_shannon",
    "mass_ratio",
    "max_activation",
)
# Shorter than in the tables.
UNITS = {"as cds": "share of D", SCOPE["position_control"].unit: "share of the grid"}
MOVES = (
    ("pairs_following", "follow the pixels"),
    ("pairs_staying", "stay at their place in the crop"),
    ("pairs_still", "hardly move"),
    ("pairs_jumping", "jump or vanish"),
)


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
    fit = run.manifest.fit
    return _render(
        "scope.html.j2",
        counts=counts_of(run.scope, partition, settings),
        dictionary=short_name(run.manifest.dictionary.name),
        settings_line=settings_line(run),
        classes=class_counts(run),
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
    moves = [(values[column], text) for column, text in MOVES]
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
        trust=number(feature.trust),
        reasons=values["trust_reasons"],
        moves=", ".join(f"{share:.0%} {text}".replace("%", " %", 1) for share, text in moves if share),
        active=f"in {values['images_active']:,} of {run.manifest.images.read:,} images, "
        f"{100 * values['density']:.2f} % of their patches",
        curve=curve_text(feature.shift_curve),
        shown=_pairs(feature, photographs, settings.geometry.largest),
        missing=photographs.missing,
        side=SIDE // 2,
        tables=[("Controls", _numbers(values, CONTROLS)), ("Companions", _numbers(values, COMPANIONS))],
    )


def _render(template: str, **known: Any) -> str:
    style = files("infoscope.notebook").joinpath("style.css").read_text(encoding="utf-8")
    environment = make_environment("infoscope.notebook")
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
                "tiles": [_data(tile) for tile in tiles],
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


def _data(tile: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(tile).save(file, "WEBP", quality=QUALITY, method=2)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _numbers(values: dict[str, Any], names: tuple[str, ...]) -> list[tuple[str, str, str]]:
    rows = []
    for name in names:
        unit = UNITS.get(SCOPE[name].unit, SCOPE[name].unit.partition(",")[0])
        rows.append((LABELS.get(name, name.replace("_", " ")), number(values[name]), unit))
    return rows


def _short(value: float) -> float:
    return round(value, 2)
