"""The site of a run, written into its directory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.images.source import ImageSource
from infoscope.progress import progress
from infoscope.report.overview import overview
from infoscope.report.site import Options, Site
from infoscope.report.template import make_environment
from infoscope.report.thumbnails import thumbnail_path
from infoscope.storage.atomic import atomic_write, remedy_of, remove_leftovers_of
from infoscope.storage.run import Run

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
    return files("infoscope.report").joinpath("web", "bundle", name).read_bytes()


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
