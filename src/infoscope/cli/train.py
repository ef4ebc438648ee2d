"""``infoscope train``."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import tyro

from infoscope.cli.inputs import Numbers, Passes, check_writable, open_backbone
from infoscope.cli.output import Answer, Output, name_skipped
from infoscope.errors import InfoscopeError
from infoscope.options import Resize, TokenSet
from infoscope.training.config import TrainConfig


@dataclass(frozen=True)
class TrainFlags(TrainConfig):
    """How SAEs are trained. Several sizes or several k train an SAE each."""

    features: Numbers = (TrainConfig.features,)  # type: ignore[assignment]
    """Features of the dictionary; several, such as 4096,16384, train an SAE each, on the same batches. Our choice: some
    ten times the width of a small vision transformer."""
    k: Numbers = (TrainConfig.k,)  # type: ignore[assignment]
    """Codes a token keeps under topk, on average under batchtopk; several train an SAE each. As in CLIP-Scope and
    Gao's smaller runs."""

    def __post_init__(self) -> None:
        _ = self.configs  # refuses what is out of range

    @property
    def configs(self) -> list[TrainConfig]:
        """The options of each SAE."""
        options = {field.name: getattr(self, field.name) for field in fields(self)}
        return [TrainConfig(**options | {"features": features, "k": k}) for features in self.features for k in self.k]


@dataclass(frozen=True)
class Train:
    """Train a sparse autoencoder on the patch tokens of one block, into an SAE directory; or several.

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
    token_set: TokenSet = "patch"
    """Which of an image's tokens: its patches; all, CLS and registers among them; or cls alone, which is no SAE for
    maps. No token is left out for its norm."""
    cache: str = "memory"
    """Where tokens are kept for later passes: memory, none (every pass runs the model), or a folder on disk, where the
    next training on the same tokens finds them."""
    cache_gib: float = 2.0
    """GiB of memory for the tokens under --cache memory; what does not fit is computed again in every pass."""
    checkpoint_seconds: float = 120.0
    """How much work an interruption may lose; the same command resumes. Our choice."""
    config: tyro.conf.OmitArgPrefixes[TrainFlags] = field(default_factory=lambda: TrainFlags())
    passes: tyro.conf.OmitArgPrefixes[Passes] = field(default_factory=Passes)
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)

    interrupted: ClassVar[str] = "no SAE was written; the same command resumes from the last checkpoint in --out"

    def run(self) -> Answer | None:
        """Run the command."""
        check_writable(self.out)
        from infoscope.training.processes import is_first_process
        from infoscope.training.trained_sae import Destination

        if self.from_cache is None:
            self._from_images()
        else:
            self._from_cache(self.from_cache)
        if not is_first_process():
            return None  # the first one answers
        trained = [Trained(folder) for folder in Destination(self.out, self.config.configs).folders]
        pages = {"curves" if len(trained) == 1 else f"curves of {sae.folder.name}": sae.page for sae in trained}

        def show() -> None:
            for sae in trained:
                sae.show()

        return Answer(
            show,
            lambda: {"saes": [sae.figures for sae in trained]},
            {"out": self.out} | pages,
        )

    def _from_images(self) -> None:
        if self.model is None or self.block is None or self.images is None:
            given = {"--model": self.model, "--block": self.block, "--images": self.images}
            missing = ", ".join(flag for flag, value in given.items() if value is None)
            raise InfoscopeError(f"{missing} missing; give all three, or a finished token cache with --from-cache")
        from infoscope.images.source import open_images
        from infoscope.training.train import train_saes

        images = open_images(self.images)
        backbone = open_backbone(self.model, self.block, self.input_side, self.revision, self.passes)
        train_saes(
            backbone,
            images,
            self.config.configs,
            out=self.out,
            resize=self.resize,
            token_set=self.token_set,
            execution=self.passes.execution,
            cache=self.cache,
            cache_bytes=int(self.cache_gib * 2**30),
            checkpoint_seconds=self.checkpoint_seconds,
        )

    def _from_cache(self, path: Path) -> None:
        settled = ("model", "block", "images", "input_side", "revision", "resize", "token_set", "cache", "cache_gib")
        defaults = {field.name: field.default for field in fields(self)}
        given = [name for name in settled if getattr(self, name) != defaults[name]]
        usual = Passes()
        given += [
            name
            for name in ("batch_size", "threads", "precision")
            if getattr(self.passes, name) != getattr(usual, name)
        ]
        for name in given:
            flag = name.replace("_", "-")
            raise InfoscopeError(f"--{flag} does not go with --from-cache, which settles it; leave it out")
        from infoscope.training.from_cache import train_several_on_cache

        train_several_on_cache(
            path,
            self.config.configs,
            out=self.out,
            device=self.passes.device,
            checkpoint_seconds=self.checkpoint_seconds,
        )


class Trained:
    """An SAE directory that is finished, and its page, which is written here.

    Raises:
        InfoscopeError: the directory cannot be read or the page not be written.
    """

    def __init__(self, folder: Path) -> None:
        from infoscope.runtime.json_values import read_json
        from infoscope.views.report.training import write_training_page

        self.folder = folder
        self.page = write_training_page(folder)
        self._description: dict[str, Any] = read_json(folder / "sae.json")

    @cached_property
    def figures(self) -> dict[str, Any]:
        """The main figures; docs/shell.md lists the keys."""
        description = self._description
        result = description["training"]
        # A cache that another program wrote may not say.
        images = description["site"].get("images", {"source": "...", "count": 0, "skipped": []})
        held_out = result["held_out"]
        return {
            "path": self.folder,
            "page": self.page,
            "features": description["d_sae"],
            "activation": result["config"]["activation"],
            "on": "the last batch" if held_out is None else "held out",
            "tokens": None if held_out is None else held_out["tokens"],
            **{name: (held_out or result)[name] for name in ("fvu", "l0", "dead")},
            "downstream": result["downstream"],
            "mean_over_std": result["mean_over_std"],
            "images": {"source": images["source"], "count": images["count"], "skipped": len(images["skipped"])},
        }

    def show(self) -> None:
        """Print them, and what to do with the SAE."""
        found, images = self.figures, self.figures["images"]
        if images["skipped"]:
            skipped = name_skipped(self._description["site"]["images"]["skipped"], self.folder / "sae.json")
            print(f"skipped {images['skipped']} of {images['count']:,} images: {skipped}")
        where = found["on"] if found["tokens"] is None else f"{found['tokens']:,} tokens held out"
        downstream = ""
        if after := found["downstream"]:
            cls = "" if after["fvu_cls"] is None else f", {after['fvu_cls']:.3f} of the CLS token"
            downstream = f"downstream, FVU {after['fvu_patches']:.3f} of the model's last patch tokens{cls}\n"
        ratio = found["mean_over_std"]
        print(
            f"{found['features']:,} features, {found['activation']}: FVU {found['fvu']:.3f}, "
            f"L0 {found['l0']:.1f}, dead {found['dead']:.1%} on {where}\n"
            f"{downstream}curves: {self.page}\n"
            f"tokens had |mean| / |std| {ratio:.2f}: {mean_means(ratio)}\n"
            f"next: infoscope measure --sae {shlex.quote(str(self.folder))} "
            f"--images {shlex.quote(images['source'])} --out ..."
        )


def mean_means(ratio: float) -> str:
    """What |mean| / |std| of the tokens says of features that die (arXiv 2605.31518).

    Example:
        >>> mean_means(0.3)
        'small; centring changes little'
    """
    if ratio < 1:
        return "small; centring changes little"
    return "uncentred, many features would die at once; the tokens were centred, so none does for that"
