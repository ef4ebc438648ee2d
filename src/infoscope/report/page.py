"""The page: a run's tables, figures and strips put into one HTML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from infoscope.errors import InfoscopeError
from infoscope.images.source import ImageSource
from infoscope.images.views import Views
from infoscope.report.controls import COLOURS, class_section
from infoscope.report.figures import GLOBAL, LOCAL, area_chart, axis_end, cds_histogram
from infoscope.report.strips import Pair, Photographs, feature_pairs, same_images
from infoscope.report.summary import (
    counts_of,
    extremes,
    fit_sentence,
    most_trusted,
    partition_of,
    quantiles_of,
    retention_flag,
    settings_of,
)
from infoscope.report.template import make_environment
from infoscope.scope.partition import Partition
from infoscope.storage.atomic import atomic_write
from infoscope.storage.run import Run

# Our choices: a row of images that fits a screen, and names before a list is cut.
IMAGES_SHOWN = 6
NAMES_SHOWN = 20
# A few of each class, since the extremes of CDS show hardly any that are diffuse or position-bound.
EACH_CLASS_SHOWN = 3


@dataclass(frozen=True)
class Card:
    """What the page shows of one feature.

    Attributes:
        row: its row of ``scope.parquet``.
        scope: ``local`` or ``global``, by the threshold; ``unscored`` without a CDS.
        top_images: how many it has.
        diffuse: its maps cover so much that a low score does not make it local.
        retention: why its score may come from images that peak outside the overlap, or None.
        pairs: the top images shown.
    """

    row: dict[str, Any]
    scope: str
    top_images: int
    diffuse: bool
    retention: str | None
    pairs: list[Pair]


def write_report(run: Run, images: ImageSource | None, *, features_shown: int = 12) -> Path:
    """Write ``report/index.html`` into the run's directory: one file that needs no other and no network.

    As in ``write_report(open_run("runs/clip-b16"), open_images("photographs"))``.

    Args:
        run: a finished run.
        images: the images it was measured on, for the photographs; None where they cannot be opened, and then the maps
            stand on plain ground and the page says so.
        features_shown: how many of the most local and of the most global features have a strip of top images; of each
            scope class up to three more have.

    Returns:
        The file.

    Raises:
        InfoscopeError: ``features_shown`` is negative, a table of the run cannot be read, or the page not be written.
    """
    if features_shown < 0:
        raise InfoscopeError(f"cannot show {features_shown} features a side: choose 0 or more")
    target = run.path / "report" / "index.html"
    page = make_environment().get_template("page.html.j2").render(_context(run, images, features_shown))
    with atomic_write(target) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return target


def _context(run: Run, images: ImageSource | None, features_shown: int) -> dict[str, Any]:
    """Everything the template prints."""
    manifest, scope = run.manifest, run.scope
    settings, partition = settings_of(run), partition_of(run)
    scored = scope.filter(pl.col("cds").is_not_null())
    local, rest = extremes(scope, features_shown)
    matching = images if images is not None and same_images(images, manifest.images) else None
    photographs = Photographs(
        matching,
        Views(
            settings.patch_size,
            settings.grid,
            settings.shift,
            manifest.options["resize"],
            tuple(manifest.options.get("shifts", ())),  # runs from before there were several have none
        ),
    )
    cards = {
        "local": _cards(run, local, partition, photographs, LOCAL),
        "global": _cards(run, rest, partition, photographs, GLOBAL),
    }
    others = scope.join(pl.concat([local, rest]), on="feature", how="anti")
    trusted = most_trusted(others, min(EACH_CLASS_SHOWN, features_shown))
    of_classes = {
        name: _cards(run, features, partition, photographs, COLOURS[name]) for name, features in trusted.items()
    }
    histogram, chart, fullest = "", "", 0
    if partition is not None:
        histogram = cds_histogram(scored["cds"].to_numpy(), partition, settings)
        chart, fullest = area_chart(scope, local, rest, partition, settings)
    fit_word, fit_text = fit_sentence(manifest.fit)
    taken = run.top_images.join(scored.select("feature"), on="feature", how="semi")
    return {
        "manifest": manifest,
        "settings": settings,
        "counts": counts_of(scope, partition, settings),
        "partition": partition,
        "quantiles": quantiles_of(scope),
        "fit_word": fit_word,
        "fit_text": fit_text,
        "histogram": Markup(histogram),
        "area_chart": Markup(chart),
        "fullest": fullest,
        "classes": class_section(run, settings),
        "axis_end": axis_end(scored["cds"].to_numpy()),
        "cards": cards,
        "each_class_shown": EACH_CLASS_SHOWN,
        "class_cards": {name: shown for name, shown in of_classes.items() if shown},
        "pairs_used": int(scored["pairs"].sum()),
        "pairs_taken": taken.height,
        "photographs": photographs,
        "photographs_moved": images is None,
        "photographs_differ": images is not None and matching is None,
        "names_shown": NAMES_SHOWN,
        "diffuse_shown": sum(card.diffuse for card in cards["local"]),
        "global_flagged": sum(card.retention is not None for card in cards["global"]),
        "colours": {"local": LOCAL, "global": GLOBAL},
    }


def _cards(
    run: Run, features: pl.DataFrame, partition: Partition | None, photographs: Photographs, colour: str
) -> list[Card]:
    """The cards of some features, in the order of the table given."""
    if partition is None:
        return []
    chosen = features.select("feature")
    top_images = run.top_images.join(chosen, on="feature", how="semi")
    counts = dict(top_images.group_by("feature").len().iter_rows())
    rgb = int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
    pairs = feature_pairs(
        top_images.filter(pl.col("rank") < IMAGES_SHOWN),
        run.maps.join(chosen, on="feature", how="semi"),
        photographs,
        rgb,
    )
    settings = settings_of(run)
    return [
        Card(
            row=row,
            scope="unscored" if row["cds"] is None else "local" if row["cds"] <= partition.threshold else "global",
            top_images=counts.get(row["feature"], 0),
            diffuse=(row["effective_area"] or 0.0) > settings.diffuse_area,
            retention=None if row["cds"] is None else retention_flag(row, partition.threshold),
            pairs=pairs.get(row["feature"], []),
        )
        for row in features.iter_rows(named=True)
    ]
