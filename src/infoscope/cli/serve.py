"""``infoscope serve``."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import tyro

from infoscope.cli.output import Answer, Output


@dataclass(frozen=True)
class Serve:
    """Show a run's site in a browser on this machine, without writing it out: for very large runs."""

    run_directory: tyro.conf.Positional[Path]
    """A directory that `infoscope measure` wrote."""
    port: int = 8765
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

    def run(self) -> Answer:
        """Run the command."""
        from infoscope.cli.site_inputs import open_run_images, open_run_sae
        from infoscope.errors import InfoscopeError
        from infoscope.runtime.run import open_run
        from infoscope.views.report.page import make_options
        from infoscope.views.report.serving import make_server
        from infoscope.views.report.site import Site

        if not 0 <= self.port <= 65535:
            raise InfoscopeError(f"--port {self.port} is no port: choose 0 to 65535")
        run = open_run(self.run_directory)
        gallery = run.manifest.options["top_images"] if self.gallery_images is None else self.gallery_images
        options = make_options(self.features_shown, gallery)
        images = open_run_images(run, self.images)
        site = Site(run, images, options, *open_run_sae(run, self.sae))
        site.prepare()
        server = make_server(site, self.port)
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
