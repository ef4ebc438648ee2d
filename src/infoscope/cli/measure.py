"""``infoscope measure``."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import tyro

from infoscope.cli.inputs import Hardware, Numbers, Untrained, check_writable, open_pair, open_untrained
from infoscope.cli.output import LOGGER, Answer, Output, given_command
from infoscope.errors import InfoscopeError
from infoscope.measurement.config import MeasureConfig
from infoscope.runtime.execution import Execution

if TYPE_CHECKING:
    from infoscope.backbones.backbone import Backbone


@dataclass(frozen=True)
class MeasureFlags(MeasureConfig):
    """What is measured, and how. Several shifts give a curve."""

    shift: Numbers = (MeasureConfig.shift,)  # type: ignore[assignment]
    """s: patches between the two crops. Several, such as 1,2,3,4, give a curve too; the score is then that of 2, where
    it is among them, else of the first. 2 takes 256 pixels to 224 for patches of 16. Our choice."""
    shifts: tyro.conf.Suppress[tuple[int, ...]] = ()

    def __post_init__(self) -> None:
        _ = self.config  # refuses what is out of range

    @property
    def config(self) -> MeasureConfig:
        """The options."""
        options = {field.name: getattr(self, field.name) for field in fields(self)}
        usual = MeasureConfig.shift
        main = usual if usual in self.shift else self.shift[0]
        return MeasureConfig(**options | {"shift": main, "shifts": self.shift})


@dataclass(frozen=True)
class Measure:
    """Measure the Contextual Dependency Score of every feature of an SAE or another dictionary, into a run directory.

    An interrupted measurement resumes when the same command is given again.
    """

    images: str
    """The images: a folder (searched recursively), webdataset shards ('shards/*.tar'), a saved data set, parquet files
    (folder[:split]), or a data set of the hub, owner/name[:split]."""
    out: Path
    """The run directory to write."""
    sae: str | None = None
    """The SAE: a directory that `infoscope train` wrote, a name that `infoscope saes` lists, or a hub id."""
    untrained: tyro.conf.OmitArgPrefixes[Untrained] = field(default_factory=Untrained)
    model: str | None = None
    """The model: a local directory in Hugging Face layout, or a hub id. Default: the one the SAE was trained on."""
    block: int | None = None
    """The block whose output the SAE reads, from 0; negative counts from the end. Default: the SAE's own."""
    input_side: int | None = None
    """Pixels per side of the model's input. Default: the SAE's own, else the model's (DINOv2: 224)."""
    revision: str | None = None
    """The model's revision on the hub."""
    config: tyro.conf.OmitArgPrefixes[MeasureFlags] = field(default_factory=lambda: MeasureFlags())
    hardware: tyro.conf.OmitArgPrefixes[Hardware] = field(default_factory=Hardware)
    execution: tyro.conf.OmitArgPrefixes[Execution] = field(default_factory=Execution)
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)

    interrupted: ClassVar[str] = "finished shards are kept; the same command resumes from them"

    def run(self) -> Answer:
        """Run the command."""
        if (self.sae is None) == (self.untrained.dictionary is None):
            raise InfoscopeError("give --sae or --dictionary, one of the two")
        if self.sae is not None:
            self.untrained.refuse_alone()
        check_writable(self.out)
        from infoscope.cli.summary import print_summary, run_figures, run_files
        from infoscope.images.source import open_images
        from infoscope.images.watched import watch
        from infoscope.measurement.measure import measure_scope
        from infoscope.runtime.run import MANIFEST, open_run

        # From here on, since a dictionary may be made of them.
        images = watch(open_images(self.images))
        where = (self.model, self.block, self.input_side, self.revision, self.hardware)
        if self.sae is None:
            backbone, sae = open_untrained(
                self.untrained,
                images,
                *where,
                resize=self.config.resize,
                execution=self.execution.here,
            )
        else:
            backbone, sae = open_pair(self.sae, *where)
        for difference in _differences(sae.site or {}, backbone, self.config.config):
            LOGGER.warning("%s was trained on %s: read the fit before the scores", self.sae, difference)
        finished = (self.out / MANIFEST).is_file()
        measure_scope(
            backbone,
            sae,
            images,
            self.config.config,
            out=self.out,
            execution=self.execution,
            command=given_command(),
        )
        if finished:
            LOGGER.info("%s was finished before; nothing was measured again", self.out)
        run = open_run(self.out)
        return Answer(
            lambda: print_summary(run),
            lambda: run_figures(run) | {"finished_before": finished},
            run_files(self.out),
            run.manifest.fit.warnings or [],
        )


def _differences(site: dict[str, Any], backbone: Backbone, config: MeasureConfig) -> list[str]:
    """In which ways the SAE is used away from where it was trained."""
    here = {
        "sha256": ("weights", backbone.sha256),
        "block": ("block", backbone.block),
        "input_side": ("input side", backbone.input_side),
        "resize": ("resize", config.resize),
    }
    return [
        f"{name} {site[key]}, not {value}"
        for key, (name, value) in here.items()
        if site.get(key) is not None and site[key] != value
    ]
