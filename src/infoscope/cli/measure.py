"""``infoscope measure``."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from infoscope.cli.inputs import Execution, check_writable, open_backbone
from infoscope.errors import InfoscopeError
from infoscope.measurement.config import MeasureConfig


@dataclass(frozen=True)
class Measure:
    """Measure the Contextual Dependency Score of every feature of an SAE, into a run directory.

    An interrupted measurement goes on when the same command is given again.
    """

    sae: str
    """The SAE: a directory that `infoscope train` wrote, or a hub id."""
    images: str
    """The images: a folder (searched recursively), a saved data set, or a data set of the hub, owner/name[:split]."""
    out: Path
    """The run directory to write."""
    model: str | None = None
    """The model: a local directory in Hugging Face layout, or a hub id. Default: the one the SAE was trained on."""
    block: int | None = None
    """The block whose output the SAE reads, from 0; negative counts from the end. Default: the SAE's own."""
    input_side: int | None = None
    """Pixels per side of the model's input. Default: the SAE's own, else the model's (DINOv2: 224)."""
    revision: str | None = None
    """The model's revision on the hub."""
    config: tyro.conf.OmitArgPrefixes[MeasureConfig] = field(default_factory=MeasureConfig)
    execution: tyro.conf.OmitArgPrefixes[Execution] = field(default_factory=Execution)

    def run(self) -> None:
        """Run the command."""
        check_writable(self.out)
        from infoscope.cli.summary import print_summary
        from infoscope.dictionaries.loading import load_sae
        from infoscope.images.source import open_images
        from infoscope.measurement.measure import measure_scope
        from infoscope.storage.run import open_run

        images = open_images(self.images)
        sae = load_sae(self.sae)
        site = sae.site or {}
        model = self.model if self.model is not None else site.get("model")
        block = self.block if self.block is not None else site.get("block")
        if model is None or block is None:
            missing = "--model" if model is None else "--block"
            raise InfoscopeError(f"{self.sae} does not say which site it was trained on; give {missing}")
        backbone = open_backbone(
            model,
            block,
            self.input_side or site.get("input_side"),
            self.revision or site.get("revision"),
            self.execution,
        )
        trained_on = (site.get("sha256", backbone.sha256), site.get("block", backbone.block))
        if trained_on != (backbone.sha256, backbone.block):
            print(
                f"infoscope: {self.sae} was trained on block {site.get('block')} of {site.get('model')}, not on "
                f"block {backbone.block} of {model}: read the fit before the scores",
                file=sys.stderr,
            )
        measure_scope(
            backbone,
            sae.to(backbone.device),
            images,
            self.config,
            out=self.out,
            batch_size=self.execution.batch_size,
            threads=self.execution.threads,
            command=shlex.join(["infoscope", *sys.argv[1:]]),
        )
        print_summary(open_run(self.out))
