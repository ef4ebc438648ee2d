"""``infoscope train``."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import tyro

from infoscope.cli.inputs import Execution, check_writable, open_backbone
from infoscope.images.views import Resize
from infoscope.training.config import TrainConfig


@dataclass(frozen=True)
class Train:
    """Train a sparse autoencoder on the patch tokens of one block, into an SAE directory."""

    model: str
    """The model: a local directory in Hugging Face layout, or a hub id such as openai/clip-vit-base-patch16."""
    block: int
    """The block whose output is read, from 0; negative counts from the end."""
    images: str
    """The images: a folder (searched recursively), a saved data set, or a data set of the hub, owner/name[:split]."""
    out: Path
    """The SAE directory to write."""
    input_side: int | None = None
    """Pixels per side of the model's input. Default: the model's own (DINOv2: 224)."""
    revision: str | None = None
    """The model's revision on the hub."""
    resize: Resize = "stretch"
    """How an image becomes square: stretch ignores the aspect ratio, crop takes the centre."""
    cache: float = 2.0
    """GiB of memory for the tokens; what does not fit is computed anew in every pass."""
    config: tyro.conf.OmitArgPrefixes[TrainConfig] = field(default_factory=TrainConfig)
    execution: tyro.conf.OmitArgPrefixes[Execution] = field(default_factory=Execution)

    interrupted: ClassVar[str] = "nothing was written"

    def run(self) -> None:
        """Run the command."""
        check_writable(self.out)
        from infoscope.cli.summary import name_skipped
        from infoscope.images.source import open_images
        from infoscope.storage.atomic import read_json
        from infoscope.training.train import train_sae

        images = open_images(self.images)
        backbone = open_backbone(self.model, self.block, self.input_side, self.revision, self.execution)
        train_sae(
            backbone,
            images,
            self.config,
            out=self.out,
            resize=self.resize,
            batch_size=self.execution.batch_size,
            threads=self.execution.threads,
            cache_bytes=int(self.cache * 2**30),
        )
        description = read_json(self.out / "sae.json")
        result, skipped = description["training"], description["site"]["images"]["skipped"]
        if skipped:
            print(f"skipped {len(skipped)} of {len(images):,} images: {name_skipped(skipped, self.out / 'sae.json')}")
        print(
            f"{self.config.features:,} features, FVU {result['fvu']:.3f}, L0 {result['l0']:.1f}, "
            f"dead {result['dead']:.1%} on the last batch; tokens had |mean| / |std| {result['mean_over_std']:.2f}\n"
            f"next: infoscope measure --sae {shlex.quote(str(self.out))} --images {shlex.quote(self.images)} --out ..."
        )
