"""The flags that several commands share, and what they open: models, SAEs, runs, feature groups."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import tyro

from infoscope.analyses.removal.config import RemovalConfig
from infoscope.errors import InfoscopeError
from infoscope.options import Precision, Reads, Resize
from infoscope.runtime.execution import Execution
from infoscope.runtime.typed import Positive, check_fields

if TYPE_CHECKING:
    from infoscope.backbones.backbone import Backbone
    from infoscope.dictionaries.sae import SparseAutoencoder
    from infoscope.images.source import ImageSource
    from infoscope.runtime.run import Run


def _parse(words: list[str]) -> tuple[int, ...]:
    return tuple(int(word) for word in words[0].split(","))


Numbers = Annotated[
    tuple[int, ...],
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT[,INT...]",
        instance_from_str=_parse,
        is_instance=lambda value: isinstance(value, tuple) and all(isinstance(number, int) for number in value),
        str_from_instance=lambda value: [",".join(str(number) for number in value)],
    ),
]
"""One whole number or several: ``16,32,64``."""


@dataclass(frozen=True)
class Untrained:
    """A dictionary made without training, in place of an SAE."""

    dictionary: str | None = None
    """In place of --sae: channels (the tokens' own coordinates), pca, neurons (of the block's MLP), or directions:PATH,
    an .npy or .safetensors of [n, width]. Each but neurons and directions has a feature for either sign."""
    components: int | None = None
    """Under pca: how many components. Default: all."""
    centre: bool = True
    """Channels and directions around the mean token of at most 256 of the images. PCA always is, neurons never are."""

    def refuse_alone(self) -> None:
        """Refuse options of a dictionary that is not asked for.

        Raises:
            InfoscopeError: there is one.
        """
        if self.components is not None or not self.centre:
            flag = "--no-centre" if self.components is None else "--components"
            raise InfoscopeError(f"{flag} belongs to --dictionary; leave it out")


@dataclass(frozen=True)
class Hardware:
    """Where the model runs, and in which numbers."""

    device: str = "auto"
    """auto (a GPU when there is one), cpu, cuda, cuda:1, ..."""
    precision: Precision = "float32"
    """The numbers the model computes in. float32 is the reference; bf16 and fp16 are faster on a GPU and change the
    tokens a little; tf32 lets a GPU round what it multiplies."""


@dataclass(frozen=True)
class Passes(Hardware):
    """How images are passed through the model."""

    batch_size: Positive | None = None
    """Views per forward pass; limits memory. Default: 8 on a CPU, 64 on a GPU."""
    threads: Positive | None = None
    """Threads that decode images ahead of the model. Default: one per core, at most 8."""

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def execution(self) -> Execution:
        """The same for the library."""
        return Execution(batch_size=self.batch_size, threads=self.threads)


@dataclass(frozen=True)
class OfRun:
    """Where a run's model and SAE are now, if they have moved."""

    model: str | None = None
    """The model: a local directory in Hugging Face layout, or a hub id. Default: the run's."""
    sae: str | None = None
    """The run's SAE, where it is no longer at the place the run names. A --dictionary that the run was measured with is
    made again from the run's images."""
    revision: str | None = None
    """The model's revision on the hub. Default: the run's."""


@dataclass(frozen=True)
class RemovalFlags:
    """Which feature groups are removed, and how."""

    remove: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A feature group, once for each: high-CDS, low-CDS, unscored, a class (local, diffuse, position-bound, global,
    mixed, unsettled, undefined), on-outliers (after `infoscope outliers`), a rule ('cds > 0.2'), a column between
    quantiles (cds@0.9-1), list:FILE, or several joined by +. nothing, alone, for the untouched model and the
    reconstruction. Default: high-CDS and low-CDS."""
    config: tyro.conf.OmitArgPrefixes[RemovalConfig] = field(default_factory=RemovalConfig)

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of the groups."""
        return () if self.remove == ("nothing",) else self.remove or ("high-CDS", "low-CDS")


def open_backbone(
    model: str,
    block: int,
    input_side: int | None,
    revision: str | None,
    hardware: Hardware,
    reads: Reads = "output",
) -> Backbone:
    """Load the model the flags name."""
    from infoscope.backbones.loading import load_backbone

    return load_backbone(
        model,
        block,
        input_side=input_side,
        revision=revision,
        device=hardware.device,
        precision=hardware.precision,
        reads=reads,
    )


def open_sae(name: str) -> SparseAutoencoder:
    """Load the SAE that ``--sae`` names; what the registry knows of its site stands in for what it does not say.

    Raises:
        InfoscopeError: there is no such SAE, or it has no maps over patches.
    """
    from infoscope.dictionaries.loading import load_sae
    from infoscope.dictionaries.registry import resolve

    path, known = resolve(name)
    sae = load_sae(path)
    if known is not None:
        sae.site = known.complete(sae.site)
    return sae


def open_pair(
    name: str, model: str | None, block: int | None, input_side: int | None, revision: str | None, hardware: Hardware
) -> tuple[Backbone, SparseAutoencoder]:
    """Load the SAE and the model the flags name; by default the model, block and side the SAE was trained on.

    Raises:
        InfoscopeError: either cannot be loaded, or neither the flags nor the SAE name the model and block.
    """
    sae = open_sae(name)
    site = sae.site or {}
    own = model is None or model == site.get("model")
    chosen = site.get("model") if model is None else model
    at = site.get("block") if block is None else block
    if chosen is None or at is None:
        missing = "--model" if chosen is None else "--block"
        raise InfoscopeError(f"{name} does not say which site it was trained on; give {missing}")
    side = input_side or (site.get("input_side") if own else None)
    reads = site.get("reads", "output")
    try:
        return open_backbone(
            chosen, at, side, revision or (site.get("revision") if own else None), hardware, reads
        ), sae
    except InfoscopeError as error:
        if model is not None:
            raise
        raise InfoscopeError(f"{error} (the model that {name} was trained on; --model names another)") from error


def open_untrained(
    options: Untrained,
    images: ImageSource,
    model: str | None,
    block: int | None,
    input_side: int | None,
    revision: str | None,
    hardware: Hardware,
    resize: Resize,
    execution: Execution,
) -> tuple[Backbone, SparseAutoencoder]:
    """Load the model and make the dictionary that ``--dictionary`` names.

    Raises:
        InfoscopeError: the model or block is not named, or the dictionary cannot be made.
    """
    from infoscope.dictionaries.untrained import split_kind
    from infoscope.training.untrained import make_dictionary, reads_of

    assert options.dictionary is not None
    kind, _ = split_kind(options.dictionary)
    if model is None or block is None:
        missing = "--model" if model is None else "--block"
        raise InfoscopeError(f"--dictionary {kind} is made for one block of a model; give {missing}")
    backbone = open_backbone(model, block, input_side, revision, hardware, reads_of(kind))
    made = make_dictionary(
        options.dictionary,
        backbone,
        images,
        components=options.components,
        centre=options.centre,
        resize=resize,
        execution=execution,
    )
    return backbone, made


def open_run_pair(
    run: Run,
    of_run: OfRun,
    hardware: Hardware,
    *,
    images: ImageSource | None = None,
    block: int | None = None,
    input_side: int | None = None,
    execution: Execution,
) -> tuple[Backbone, SparseAutoencoder]:
    """Load the model and the SAE of a run.

    Args:
        run: the run.
        of_run: where they are now.
        hardware: where the model runs.
        images: the run's images, from which a dictionary without training is made again; opened when needed.
        block: another block than the run's.
        input_side: another side than the run's.
        execution: how the passes run, for a dictionary that is made again.

    Raises:
        InfoscopeError: either cannot be loaded.
    """
    from infoscope.training.untrained import is_untrained, remake_dictionary

    record, dictionary = run.manifest.model, run.manifest.dictionary
    backbone = open_backbone(
        of_run.model or record.name,
        record.block if block is None else block,
        input_side or record.grid * record.patch_size,
        of_run.revision or (record.revision if of_run.model is None else None),
        hardware,
        cast("Reads", record.reads),
    )
    if of_run.sae is not None or not is_untrained(dictionary):
        return backbone, open_sae(of_run.sae or dictionary.name)
    if images is None:
        from infoscope.images.source import open_images

        images = open_images(run.manifest.images.source)
    return backbone, remake_dictionary(
        dictionary, backbone, images, resize=run.manifest.options["resize"], execution=execution
    )


def check_writable(out: Path) -> None:
    """Refuse an output that cannot be written before hours of work, not after.

    Raises:
        InfoscopeError: ``out`` is a file, or neither it nor the nearest folder above it can be written.
    """
    if out.exists() and not out.is_dir():
        raise InfoscopeError(f"{out} is a file; --out needs a directory")
    folder = out.absolute()
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise InfoscopeError(f"cannot write {out}: no permission to write in {folder}; choose another --out")
