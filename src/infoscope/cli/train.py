"""``infoscope train``."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import ClassVar

import tyro

from infoscope.cli.inputs import Hardware, check_writable, open_backbone
from infoscope.errors import InfoscopeError
from infoscope.images.resize import Resize
from infoscope.training.config import TrainConfig


@dataclass(frozen=True)
class Train:
    """Train a sparse autoencoder on the patch tokens of one block, into an SAE directory.

    The tokens come from --model, --block and --images, or --from-cache.
    """

    out: Path
    """The SAE directory to write."""
    model: str | None = None
    """The model: a local directory in Hugging Face layout, or a hub id such as openai/clip-vit-base-patch16."""
    block: int | None = None
    """The block whose output is read, from 0; negative counts from the end."""
    images: str | None = None
    """The images: a folder (searched recursively), webdataset shards ('shards/*.tar'), a saved data set, parquet files
    (folder[:split]), or a data set of the hub, owner/name[:split]."""
    from_cache: Path | None = None
    """A finished token cache, CACHE/<hash>, to train on alone: neither the model nor the images are read."""
    input_side: int | None = None
    """Pixels per side of the model's input. Default: the model's own (DINOv2: 224)."""
    revision: str | None = None
    """The model's revision on the hub."""
    resize: Resize = "stretch"
    """How an image becomes square: stretch ignores the aspect ratio, crop takes the centre."""
    cache: str = "memory"
    """Where tokens are kept for later passes: memory, none (every pass runs the model), or a folder on disk, where the
    next training on the same tokens finds them."""
    cache_gib: float = 2.0
    """GiB of memory for the tokens under --cache memory; what does not fit is computed anew in every pass."""
    config: tyro.conf.OmitArgPrefixes[TrainConfig] = field(default_factory=TrainConfig)
    hardware: tyro.conf.OmitArgPrefixes[Hardware] = field(default_factory=Hardware)
    batch_size: int | None = None
    """Images to a forward pass. Bounds memory. Default: 8 on a CPU, 64 on a GPU."""
    threads: int | None = None
    """Threads that decode images ahead of the model. Default: one a core, at most 8."""

    interrupted: ClassVar[str] = "no SAE was written; finished shards of a --cache folder are kept"

    def __post_init__(self) -> None:
        for flag, value in (("--batch-size", self.batch_size), ("--threads", self.threads)):
            if value is not None and value < 1:
                raise InfoscopeError(f"{flag} {value} is out of range: choose 1 or more")

    def run(self) -> None:
        """Run the command."""
        check_writable(self.out)
        from infoscope.cli.summary import name_skipped
        from infoscope.storage.atomic import read_json

        if self.from_cache is None:
            self._from_images()
        else:
            self._from_cache(self.from_cache)
        description = read_json(self.out / "sae.json")
        result = description["training"]
        # A cache that another program wrote may not say.
        images = description["site"].get("images", {"source": "...", "count": 0, "skipped": []})
        if skipped := images["skipped"]:
            print(
                f"skipped {len(skipped)} of {images['count']:,} images: {name_skipped(skipped, self.out / 'sae.json')}"
            )
        source = shlex.quote(images["source"])
        print(
            f"{self.config.features:,} features, FVU {result['fvu']:.3f}, L0 {result['l0']:.1f}, "
            f"dead {result['dead']:.1%} on the last batch; tokens had |mean| / |std| {result['mean_over_std']:.2f}\n"
            f"next: infoscope measure --sae {shlex.quote(str(self.out))} --images {source} --out ..."
        )

    def _from_images(self) -> None:
        if self.model is None or self.block is None or self.images is None:
            given = {"--model": self.model, "--block": self.block, "--images": self.images}
            missing = ", ".join(flag for flag, value in given.items() if value is None)
            raise InfoscopeError(f"{missing} missing; give all three, or a finished token cache with --from-cache")
        from infoscope.images.source import open_images
        from infoscope.training.train import train_sae

        images = open_images(self.images)
        backbone = open_backbone(self.model, self.block, self.input_side, self.revision, self.hardware)
        train_sae(
            backbone,
            images,
            self.config,
            out=self.out,
            resize=self.resize,
            batch_size=self.batch_size,
            threads=self.threads,
            cache=self.cache,
            cache_bytes=int(self.cache_gib * 2**30),
        )

    def _from_cache(self, path: Path) -> None:
        settled = ("model", "block", "images", "input_side", "revision", "resize", "cache", "cache_gib")
        defaults = {field.name: field.default for field in fields(self)}
        given = [name for name in (*settled, "batch_size", "threads") if getattr(self, name) != defaults[name]]
        if self.hardware.precision != Hardware().precision:
            given.append("precision")
        for name in given:
            flag = name.replace("_", "-")
            raise InfoscopeError(f"--{flag} does not go with --from-cache, which settles it; leave it out")
        from infoscope.training.from_cache import train_on_cache

        train_on_cache(path, self.config, out=self.out, device=self.hardware.device)
