"""`report`: a run's overview, and everything the pages need."""

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
from infoscope.measurement.summary import counts_of, fit_sentence, quantiles_of, retention_flag
from infoscope.runtime.atomic import atomic_write, remedy_of, remove_leftovers_of
from infoscope.runtime.progress import progress
from infoscope.runtime.run import Run
from infoscope.views.report.charts import area_chart, axis_end, cds_histogram
from infoscope.views.report.cross_checks import cross_check_rows
from infoscope.views.report.neighbours import PATCHES_KEPT
from infoscope.views.report.photographs import thumbnail_path
from infoscope.views.report.probe_tables import probe_tables
from infoscope.views.report.records import ROUTES_SHOWN
from infoscope.views.report.sections import class_section, outlier_section
from infoscope.views.report.site import EACH_CLASS_SHOWN, Options, Site
from infoscope.views.report.template import make_environment
from infoscope.views.report.zeroshot_table import zeroshot_table

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


PAGE = "index.html"
# What the scripts and the style are bundled into (docs/site.md says how), with the licences of what is in them.
BUNDLE = ("theme.js", "site.js", "site.css", "LICENCES.txt")
# Folders of the site in which nothing but its own files belongs.
OWN = ("data", "images")


def write_report(
    run: Run,
    images: ImageSource | None,
    *,
    features_shown: int = 12,
    gallery_images: int = 4,
    sae: SparseAutoencoder | None = None,
) -> Path:
    """Write the run's site into ``report/``: files that need no server and no network; ``index.html`` comes last.

    As in ``write_report(open_run("runs/clip-b16"), open_images("photographs"))``.

    Args:
        run: a finished run.
        images: the images it was measured on, for the photographs; None where they cannot be opened, and then the maps
            stand on plain ground and the site says so.
        features_shown: how many features of the lowest and of the highest CDS the overview shows with their top
            images; of each scope class it shows up to three more.
        gallery_images: top images on each feature's page.
        sae: the SAE that was measured, for the neighbours by decoder direction; without it they are left out.

    Returns:
        The first page.

    Raises:
        InfoscopeError: a number is negative, a table of the run cannot be read, or the site not be written.
    """
    site = Site(run, images, make_options(features_shown, gallery_images), sae)
    return write_site(site)


def make_options(features_shown: int, gallery_images: int) -> Options:
    """The options, checked.

    Raises:
        InfoscopeError: a number is negative.
    """
    if features_shown < 0:
        raise InfoscopeError(f"cannot show {features_shown} features a side: choose 0 or more")
    if gallery_images < 0:
        raise InfoscopeError(f"cannot show {gallery_images} images a feature: choose 0 or more")
    return Options(features_shown, gallery_images)


def write_site(site: Site) -> Path:
    """Write all files of a site; those of an earlier one that are no longer part of it are removed.

    Its first page goes before the others are touched and comes last: where it is, the site is whole.
    """
    folder = site.run.path / "report"
    remove_leftovers_of([folder / PAGE])
    with suppress(OSError):
        (folder / PAGE).unlink(missing_ok=True)
    written: set[Path] = set()

    def write(name: str, content: str | bytes) -> None:
        path = folder / name
        _write(path, content.encode("utf-8") if isinstance(content, str) else content)
        written.add(path)

    unreadable = _write_photographs(site, write)
    write("data/run.js", site.run_script())
    for name in ("class", "image", *(column.name for column in site.columns)):
        write(f"data/columns/{name}.js", site.column_script(name) or "")
    write("data/featured.js", site.featured_script())
    with progress("Writing features", site.chunks, "files") as advance:
        for chunk in range(site.chunks):
            write(f"data/features/{chunk}.js", site.chunk_script(chunk))
            advance(1)
    for name in BUNDLE:
        write(name, bundled(name))
    with atomic_write(folder / PAGE, "folder") as temporary:
        temporary.write_text(first_page(site, unreadable), encoding="utf-8")
    _remove_others(folder, written)
    return folder / PAGE


def first_page(site: Site, unreadable: list[str]) -> str:
    """The one HTML file of a site."""
    return make_environment().get_template("site.html.j2").render(overview(site, unreadable))


def bundled(name: str) -> bytes:
    """A file of the bundle."""
    return files("infoscope.views.report").joinpath("web", "bundle", name).read_bytes()


def _write_photographs(site: Site, write: Callable[[str, bytes], None]) -> list[str]:
    """Write the thumbnails; the ids of those that cannot be read."""
    shown = site.images_shown()
    if site.thumbnails.source is None:
        site.without_picture = frozenset(shown["image"].to_list())
        return []
    missing: list[int] = []
    unreadable: list[str] = []
    with progress("Making thumbnails", shown.height, "images") as advance:
        pictures = site.thumbnails.each(shown["image_id"])
        for (image, image_id), content in zip(shown.iter_rows(), pictures, strict=True):
            if content is None:
                missing.append(image)
                unreadable.append(image_id)
            else:
                write(thumbnail_path(image), content)
            advance(1)
    site.without_picture = frozenset(missing)
    return unreadable


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; the first page alone waits for the disk, since without it there is no site."""
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
