"""``infoscope report`` and ``infoscope serve``: a run's report, written or shown."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from infoscope.cli.inputs import open_sae
from infoscope.cli.output import LOGGER, Answer, Output
from infoscope.errors import InfoscopeError
from infoscope.runtime.typed import Range, check_fields

if TYPE_CHECKING:
    from infoscope.dictionaries.sae import SparseAutoencoder
    from infoscope.images.source import ImageSource
    from infoscope.runtime.run import Run


@dataclass(frozen=True)
class Report:
    """Write a run's report, or the page of a training: files that open anywhere, offline."""

    run_directory: tyro.conf.Positional[Path]
    """A directory that `infoscope measure` or `infoscope train` wrote."""
    images: str | None = None
    """The images, where they are no longer at the place the run names."""
    features_shown: int = 12
    """How many features of the lowest and of the highest CDS the overview shows with their images."""
    gallery_images: int = 4
    """Top images on each feature's page. More of them make the report larger."""
    sae: str | None = None
    """The run's SAE, where it is no longer at the place the run names: for the neighbours by direction."""
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)

    interrupted: ClassVar[str] = "the report is incomplete; the same command writes it again"

    def run(self) -> Answer:
        """Run the command."""
        from infoscope.runtime.run import open_run
        from infoscope.views.report.contents import Options, ReportFiles
        from infoscope.views.report.page import write_files
        from infoscope.views.report.training import is_trained_sae, write_training_page

        if is_trained_sae(self.run_directory):
            page = write_training_page(self.run_directory)
            return Answer(lambda: print(page), lambda: {"of": "sae"}, {"page": page})
        run = open_run(self.run_directory)
        options = Options(self.features_shown, self.gallery_images)
        images = open_run_images(run, self.images)
        sae, why = open_run_sae(run, self.sae)
        page = write_files(ReportFiles(run, images, options, sae, why))
        result = {
            "of": "run",
            "features": run.manifest.dictionary.features,
            "gallery_images": self.gallery_images,
            "photographs": images is not None,
            "neighbours_by_direction": sae is not None,
        }
        return Answer(lambda: print(page), lambda: result, {"page": page, "out": page.parent})


@dataclass(frozen=True)
class Serve:
    """Show a run's report in a browser on this machine without writing it to disk: for very large runs."""

    run_directory: tyro.conf.Positional[Path]
    """A directory that `infoscope measure` wrote."""
    port: Annotated[int, Range(0, 65535)] = 8765
    """Where to listen, on this machine alone; 0 takes any free port."""
    images: str | None = None
    """The images, where they are no longer at the place the run names."""
    sae: str | None = None
    """The run's SAE, where it is no longer at the place the run names: for the neighbours by direction."""
    features_shown: int = 12
    """How many features of the lowest and of the highest CDS the overview shows with their images."""
    gallery_images: int | None = None
    """Top images on each feature's page. Default: all."""
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)

    interrupted: ClassVar[str] = "nothing was written"

    def __post_init__(self) -> None:
        check_fields(self)

    def run(self) -> Answer:
        """Run the command."""
        from infoscope.runtime.run import open_run
        from infoscope.views.report.contents import Options, ReportFiles
        from infoscope.views.report.serving import make_server

        run = open_run(self.run_directory)
        gallery = run.manifest.options["top_images"] if self.gallery_images is None else self.gallery_images
        options = Options(self.features_shown, gallery)
        images = open_run_images(run, self.images)
        files = ReportFiles(run, images, options, *open_run_sae(run, self.sae))
        files.prepare()
        server = make_server(files, self.port)
        address = f"http://127.0.0.1:{server.server_port}/"

        def serve() -> None:
            with server, suppress(KeyboardInterrupt):
                server.serve_forever()

        return Answer(
            lambda: print(f"{address} (Ctrl-C ends)"),
            lambda: {"address": address, "port": server.server_port, "features": run.manifest.dictionary.features},
            word=address,
            then=serve,
        )


def open_run_images(run: Run, named: str | None) -> ImageSource | None:
    """The images of a run, or those that are named; None, and a line that says so, where the run's are gone.

    Another line says where they are not those that were measured.

    Raises:
        InfoscopeError: those that are named cannot be opened.
    """
    from infoscope.images.source import open_images
    from infoscope.images.watched import watch
    from infoscope.measurement.identity import other_images

    try:
        images = watch(open_images(named or run.manifest.images.source))
    except InfoscopeError as error:
        if named is not None:
            raise
        LOGGER.warning("%s; the report is made without photographs, unless you give --images", error)
        return None
    if (difference := other_images(run, images)) is not None:
        LOGGER.warning("%s; the report shows those that are still the same", difference)
    return images


def open_run_sae(run: Run, named: str | None) -> tuple[SparseAutoencoder | None, str]:
    """The SAE of a run, or the one that is named; None, and why, where there is none to open.

    Raises:
        InfoscopeError: the one that is named cannot be opened, or is another.
    """
    from infoscope.training.untrained import is_untrained

    record = run.manifest.dictionary
    if named is None and is_untrained(record):
        return None, f"a dictionary of kind {record.format} is not kept with its run"
    try:
        sae = open_sae(named or record.name)
    except InfoscopeError as error:
        if named is not None:
            raise
        LOGGER.warning("%s; the report is made without neighbours by direction, unless you give --sae", error)
        return None, "the SAE could not be opened when this report was made"
    if named is not None and sae.sha256 != record.sha256:
        raise InfoscopeError(
            f"{named} is not the SAE that {run.path} measured: its weights differ"
            "; give the one it was measured with, or leave out --sae"
        )
    return sae, ""
