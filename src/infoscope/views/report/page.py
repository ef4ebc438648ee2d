"""A run's overview page, and the writing of all files of its report."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.images.source import ImageSource
from infoscope.measurement.controls import controls_of
from infoscope.measurement.summary import (
    Settings,
    counts_of,
    cross_check_rows,
    fit_sentence,
    quantiles_of,
    repeatability_sentence,
    retention_flag,
    rules_sentence,
    trust_label,
)
from infoscope.options import RULE_VERSIONS
from infoscope.runtime.atomic import atomic_write, remedy_of, remove_leftovers_of
from infoscope.runtime.progress import progress
from infoscope.runtime.run import Run
from infoscope.views.report.charts import area_chart, axis_end, calibrated_histogram, cds_histogram
from infoscope.views.report.contents import EACH_CLASS_SHOWN, Options, ReportFiles
from infoscope.views.report.neighbours import PATCHES_KEPT
from infoscope.views.report.outliers import outlier_section
from infoscope.views.report.photographs import thumbnail_path
from infoscope.views.report.records import ROUTES_SHOWN
from infoscope.views.report.removal_tables import probe_tables, zeroshot_table
from infoscope.views.report.template import make_environment

# Our choice: names before a list is cut.
NAMES_SHOWN = 20
CLASS_MEANINGS = {
    "local": "the map follows the pixels, as far as code noise lets it",
    "diffuse": "the map is so broad that pixels and place in the crop cannot be told apart",
    "position-bound": "the map stays at its place in the crop, whatever is there",
    "global": "at least half jump or stay, more jump than stay, and at most a quarter of the map keeps to its pixels",
    "mixed": "part of the map follows the pixels and part does not, in the same images or from image to image",
    "unsettled": "its images do not settle which of these it is",
    "undefined": "too few pairs of maps to tell; there is no CDS",
}
# Of runs that were judged by the older rules.
OLDER_MEANINGS = CLASS_MEANINGS | {
    "local": "the map follows the pixels",
    "global": "the map does none of these",
}
# Of runs that were judged by earlier forms of the posterior.
EARLIER_MEANINGS = CLASS_MEANINGS | {
    "global": "most pairs jump or stay in place, and at most a quarter of the map keeps to its pixels",
    "undefined": "too few pairs of maps to tell",
}


def class_meanings(rule_version: int) -> dict[str, str]:
    """What each class means under a version of the rules."""
    if rule_version == RULE_VERSIONS["thresholds"]:
        return OLDER_MEANINGS
    return CLASS_MEANINGS if rule_version == RULE_VERSIONS["posterior"] else EARLIER_MEANINGS


def overview(report: ReportFiles, unreadable: list[str]) -> dict[str, Any]:
    """Everything that the template prints.

    Args:
        report: the report.
        unreadable: ids of the photographs that could not be read.

    Raises:
        InfoscopeError: a table of the run cannot be read.
    """
    run, settings, partition = report.run, report.settings, report.partition
    manifest, scope = run.manifest, run.scope
    scored = scope.filter(pl.col("cds").is_not_null())
    featured = report.featured
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
        "classes": _class_section(run, settings),
        "class_meanings": class_meanings(manifest.rule_version),
        "other_rules": rules_sentence(run),
        "older_rules": manifest.rule_version == RULE_VERSIONS["thresholds"],
        "trust_label": trust_label(manifest.rule_version),
        "axis_end": axis_end(scored["cds"].to_numpy()),
        "featured": featured,
        "scores": dict(scope.select("feature", "cds").iter_rows()),
        "each_class_shown": EACH_CLASS_SHOWN,
        "gallery": report.options.gallery_images,
        "pairs_used": int(scored["pairs"].sum()),
        "pairs_taken": taken.height,
        "photographs_moved": report.moved,
        "photographs_differ": report.differ,
        "unreadable": unreadable,
        "names_shown": NAMES_SHOWN,
        "diffuse_shown": diffuse,
        "highest_flagged": flagged,
        "checks": cross_check_rows(run),
        "outliers": outlier_section(run),
        "probes": probes,
        "zeroshot": zeroshot,
        "broken": broken + unreadable_zeroshot,
        "without_directions": None if report.directions else report.without_directions,
        "patches_kept": PATCHES_KEPT,
        "routes_shown": ROUTES_SHOWN,
    }


def _class_section(run: Run, settings: Settings) -> dict[str, Any]:
    """What the template prints of the classes and of the controls behind them."""
    controls = controls_of(run)
    calibrated = run.scope.filter(pl.col("cds_calibrated").is_not_null())
    return {
        "controls": controls,
        "rows": controls.shares(),
        "expected": bool(controls.expected_false),
        "repeats": None
        if controls.repeatability is None or not controls.repeatability.features
        else repeatability_sentence(controls.repeatability, controls.judged_images),
        "spectrum": Markup(calibrated_histogram(calibrated)) if calibrated.height else "",
        "calibrated": calibrated.height,
    }


PAGE = "index.html"
# What the scripts and the style are bundled into (docs/site.md says how), with the licences of what is in them.
BUNDLE = ("theme.js", "site.js", "site.css", "LICENCES.txt")
# Folders of the report in which nothing but its own files belongs.
OWN = ("data", "images")


def write_report(
    run: Run,
    images: ImageSource | None,
    *,
    features_shown: int = 12,
    gallery_images: int = 4,
    sae: SparseAutoencoder | None = None,
) -> Path:
    """Write the run's report into ``report/``: files that need no server and no network; ``index.html`` comes last.

    As in ``write_report(open_run("runs/clip-b16"), open_images("photographs"))``.

    Args:
        run: a finished run.
        images: the images it was measured on, for the photographs; None where they cannot be opened, and then the maps
            stand on plain ground and the report says so.
        features_shown: how many features of the lowest and of the highest CDS the overview shows with their top
            images; of each scope class it shows up to three more.
        gallery_images: top images on each feature's page.
        sae: the SAE that was measured, for the neighbours by decoder direction; without it they are left out.

    Returns:
        The first page.

    Raises:
        InfoscopeError: a number is negative, a table of the run cannot be read, or the report not be written.
    """
    return write_files(ReportFiles(run, images, Options(features_shown, gallery_images), sae))


def write_files(report: ReportFiles) -> Path:
    """Write all files of a report; those of an earlier one that are no longer part of it are removed.

    Its first page goes before the others are touched and comes last: where it is, the report is whole.
    """
    folder = report.run.path / "report"
    remove_leftovers_of([folder / PAGE])
    with suppress(OSError):
        (folder / PAGE).unlink(missing_ok=True)
    written: set[Path] = set()

    def write(name: str, content: str | bytes) -> None:
        path = folder / name
        _write(path, content.encode("utf-8") if isinstance(content, str) else content)
        written.add(path)

    unreadable = _write_photographs(report, write)
    write("data/run.js", report.run_script())
    for name in ("class", "image", *(column.name for column in report.columns)):
        write(f"data/columns/{name}.js", report.column_script(name) or "")
    write("data/featured.js", report.featured_script())
    with progress("Writing features", report.chunks, "files") as advance:
        for chunk in range(report.chunks):
            write(f"data/features/{chunk}.js", report.chunk_script(chunk))
            advance(1)
    for name in BUNDLE:
        write(name, bundled(name))
    with atomic_write(folder / PAGE, "folder") as temporary:
        temporary.write_text(first_page(report, unreadable), encoding="utf-8")
    _remove_others(folder, written)
    return folder / PAGE


def first_page(report: ReportFiles, unreadable: list[str]) -> str:
    """The one HTML file of a report."""
    return make_environment().get_template("site.html.j2").render(overview(report, unreadable))


def bundled(name: str) -> bytes:
    """A file of the bundle."""
    return files("infoscope.views.report").joinpath("web", "bundle", name).read_bytes()


def _write_photographs(report: ReportFiles, write: Callable[[str, bytes], None]) -> list[str]:
    """Write the thumbnails; the ids of those that cannot be read."""
    shown = report.images_shown()
    if report.thumbnails.source is None:
        report.without_picture = frozenset(shown["image"].to_list())
        return []
    missing: list[int] = []
    unreadable: list[str] = []
    with progress("Making thumbnails", shown.height, "images") as advance:
        pictures = report.thumbnails.each(shown["image_id"])
        for (image, image_id), content in zip(shown.iter_rows(), pictures, strict=True):
            if content is None:
                missing.append(image)
                unreadable.append(image_id)
            else:
                write(thumbnail_path(image), content)
            advance(1)
    report.without_picture = frozenset(missing)
    return unreadable


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; only the first page, without which there is no report, waits for the disk."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise InfoscopeError(f"cannot write {path}: {error.strerror or error}; {remedy_of(error)}") from error


def _remove_others(folder: Path, written: Iterable[Path]) -> None:
    kept = set(written)
    for name in OWN:
        for path in sorted((folder / name).rglob("*"), reverse=True):
            with suppress(OSError):
                if path.is_file() and path not in kept:
                    path.unlink()
                elif path.is_dir() and not any(path.iterdir()):
                    path.rmdir()
