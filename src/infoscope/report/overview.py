"""What the site's first page prints; the template knows where it stands, nothing here knows HTML."""

from __future__ import annotations

from typing import Any

import polars as pl
from markupsafe import Markup

from infoscope.report.bars import axis_end
from infoscope.report.controls import class_section
from infoscope.report.cross_checks import cross_check_rows
from infoscope.report.figures import area_chart, cds_histogram
from infoscope.report.neighbours import PATCHES_KEPT
from infoscope.report.outlier_section import outlier_section
from infoscope.report.probe_tables import probe_tables
from infoscope.report.records import ROUTES_SHOWN
from infoscope.report.site import EACH_CLASS_SHOWN, Site
from infoscope.report.summary import counts_of, fit_sentence, quantiles_of, retention_flag
from infoscope.report.zeroshot_table import zeroshot_table

# Our choice: names before a list is cut.
NAMES_SHOWN = 20
CLASS_MEANINGS = {
    "local": "the map follows the pixels",
    "diffuse": "the map is so broad that it cannot move",
    "position-bound": "the map stays at its place in the crop, whatever is there",
    "global": "the map does none of these: it depends on the picture around the pixels",
    "undefined": "too few pairs of maps to tell",
}


def overview(site: Site, unreadable: list[str]) -> dict[str, Any]:
    """Everything that the template prints.

    Args:
        site: the site.
        unreadable: ids of the photographs that could not be read.

    Raises:
        InfoscopeError: a table of the run cannot be read.
    """
    run, settings, partition = site.run, site.settings, site.partition
    manifest, scope = run.manifest, run.scope
    scored = scope.filter(pl.col("cds").is_not_null())
    featured = site.featured
    shown = {name: scope.filter(pl.col("feature").is_in(featured.get(name, []))) for name in ("lowest", "highest")}
    histogram, chart, fullest = "", "", 0
    if partition is not None:
        histogram = cds_histogram(scored["cds"].to_numpy(), partition, settings)
        chart, fullest = area_chart(scope, shown["lowest"], shown["highest"], partition, settings)
    fit_word, fit_text = fit_sentence(manifest.fit)
    taken = run.top_images.join(scored.select("feature"), on="feature", how="semi")
    probes, broken = probe_tables(run)
    zeroshot, unreadable_zeroshot = zeroshot_table(run)
    diffuse = shown["lowest"].filter(scope_class="diffuse").height
    flagged = 0
    if partition is not None:
        rows = shown["highest"].iter_rows(named=True)
        flagged = sum(retention_flag(row, partition.threshold) is not None for row in rows)
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
        "class_meanings": CLASS_MEANINGS,
        "axis_end": axis_end(scored["cds"].to_numpy()),
        "featured": featured,
        "scores": dict(scope.select("feature", "cds").iter_rows()),
        "each_class_shown": EACH_CLASS_SHOWN,
        "gallery": site.options.gallery_images,
        "pairs_used": int(scored["pairs"].sum()),
        "pairs_taken": taken.height,
        "photographs_moved": site.moved,
        "photographs_differ": site.differ,
        "unreadable": unreadable,
        "names_shown": NAMES_SHOWN,
        "diffuse_shown": diffuse,
        "highest_flagged": flagged,
        "checks": cross_check_rows(run),
        "outliers": outlier_section(run),
        "probes": probes,
        "zeroshot": zeroshot,
        "broken": broken + unreadable_zeroshot,
        "without_directions": None if site.directions else site.without_directions,
        "patches_kept": PATCHES_KEPT,
        "routes_shown": ROUTES_SHOWN,
    }
