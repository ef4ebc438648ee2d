"""``infoscope outliers``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import tyro

from infoscope.analyses.outliers.config import OutlierConfig
from infoscope.cli.inputs import OfRun, Passes, check_writable, open_backbone, open_run_pair
from infoscope.cli.output import Answer, Output, given_command
from infoscope.errors import InfoscopeError

if TYPE_CHECKING:
    from infoscope.backbones.backbone import Backbone
    from infoscope.dictionaries.sae import SparseAutoencoder
    from infoscope.images.source import ImageSource
    from infoscope.runtime.run import Run


@dataclass(frozen=True)
class Outliers:
    """Find a model's outlier tokens: patch tokens of abnormally high norm. Says plainly when it has none.

    With a run, model, block, SAE and images are the run's, and its feature groups are compared on outlier and on normal
    tokens; the result goes into the run, under outliers/. Without one, give --model and --images.
    """

    run_directory: tyro.conf.Positional[Path | None] = None
    """A directory that `infoscope measure` wrote."""
    model: str | None = None
    """The model: a local directory in Hugging Face layout, or a hub id. With a run: where it is now."""
    images: str | None = None
    """The images, as for `infoscope measure`. Default: the run's."""
    sae: str | None = None
    """The run's SAE, where it is no longer at the place the run names. A --dictionary that the run was measured with is
    made again from the run's images."""
    block: int | None = None
    """The block of the analyses, from 0; negative counts from the end. Norms are read at every block. Default: the
    run's, else the last."""
    input_side: int | None = None
    """Pixels per side of the model's input. Default: the run's, else the model's own."""
    revision: str | None = None
    """The model's revision on the hub. Default: the run's."""
    labels: Literal["folder"] | None = None
    """folder: an image's label is the name of its folder, for the probe that classifies images by one token."""
    out: Path | None = None
    """The folder to write. Default: outliers/ in the run; without a run nothing is written."""
    config: tyro.conf.OmitArgPrefixes[OutlierConfig] = field(default_factory=OutlierConfig)
    passes: tyro.conf.OmitArgPrefixes[Passes] = field(default_factory=Passes)
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)

    interrupted: ClassVar[str] = "the analysis is not finished; the same command starts it again"

    def __post_init__(self) -> None:
        if self.run_directory is None:
            if self.sae is not None:
                raise InfoscopeError("--sae goes with a run: name the run that measured it")
            missing = [flag for flag, value in (("--model", self.model), ("--images", self.images)) if value is None]
            if missing:
                raise InfoscopeError(f"name a run, or give {' and '.join(missing)}")

    def run(self) -> Answer:
        """Run the command."""
        from infoscope.analyses.outliers.measure import measure_outliers
        from infoscope.images.source import open_images
        from infoscope.images.watched import watch
        from infoscope.runtime.run import open_run

        run = None if self.run_directory is None else open_run(self.run_directory)
        out = self.out or (None if run is None else run.path / "outliers")
        if out is not None:
            check_writable(out)
        images = watch(open_images(self.images or (run.manifest.images.source if run else "")))
        backbone, sae = self._open(run, images)
        result = measure_outliers(
            backbone,
            images,
            self.config,
            run=run,
            sae=sae,
            labels=self.labels,
            out=out,
            execution=self.passes.execution,
            command=given_command(),
        )
        if out is not None:
            from infoscope.views.report.outliers import write_figures

            write_figures(result, out)
        from infoscope.analyses.outliers.result import OUTLIERS_FILE
        from infoscope.cli.outliers_summary import print_outliers

        return Answer(
            lambda: print_outliers(result, out),
            result.to_json,
            {} if out is None else {"out": out, "record": out / OUTLIERS_FILE},
            word=None if out else result.record.presence.sentence,
        )

    def _open(self, run: Run | None, images: ImageSource) -> tuple[Backbone, SparseAutoencoder | None]:
        """The model and the SAE: the run's, unless others are named; a dictionary without training is made again."""
        if run is None:
            block = -1 if self.block is None else self.block
            return open_backbone(self.model or "", block, self.input_side, self.revision, self.passes), None
        return open_run_pair(
            run,
            OfRun(self.model, self.sae, self.revision),
            self.passes,
            images=images,
            block=self.block,
            input_side=self.input_side,
            execution=self.passes.execution,
        )
