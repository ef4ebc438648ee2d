"""A sweep over a model's blocks: at each, a dictionary is trained, made or given, and measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from infoscope.backbones.backbone import Backbone
from infoscope.dictionaries.formats.infoscope import save_sae
from infoscope.dictionaries.loading import load_sae
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.images.source import Images, ImageSource, ids_sha256, open_images
from infoscope.images.watched import Watched, watch
from infoscope.measurement.config import MeasureConfig
from infoscope.measurement.measure import measure_scope
from infoscope.runtime.atomic import remove_leftovers_of
from infoscope.runtime.execution import Execution
from infoscope.runtime.json_values import read_json, to_json, write_json
from infoscope.runtime.progress import tell
from infoscope.runtime.run import MANIFEST, first_difference
from infoscope.training.config import TrainConfig
from infoscope.training.train import train_sae
from infoscope.training.untrained import make_dictionaries

# The identity of a sweep, and the hashes of its images.
IDENTITY, CONTENTS = "sweep.json", "images.u8"
DICTIONARY, SCOPE = "sae", "scope"


def sweep_blocks(
    backbone: Backbone,
    images: Images,
    out: Path | str,
    blocks: Sequence[int] | None = None,
    *,
    saes: Mapping[int, SparseAutoencoder] | None = None,
    dictionary: str | None = None,
    components: int | None = None,
    centre: bool = True,
    train: TrainConfig | None = None,
    config: MeasureConfig | None = None,
    execution: Execution | None = None,
    command: str = "infoscope.sweep_blocks",
) -> list[Path]:
    """Measure a dictionary at each of several blocks, into ``out/block-03/scope`` and so on.

    An interrupted sweep resumes when it is started again: finished SAEs and measurements are read, and unfinished ones
    resume. More blocks may be added later.

    Args:
        backbone: the model, at any block.
        images: the pool of images, for training as well.
        out: the directory to write.
        blocks: the blocks; negative numbers count from the end. By default all, or those of ``saes``.
        saes: an SAE for each block.
        dictionary: instead of SAEs, a dictionary that `make_dictionary` makes: channels, pca, neurons, or
            directions:PATH; those of all blocks are made in one pass over the images.
        components: how many components ``pca`` keeps.
        centre: whether channels and directions are taken around the mean token.
        train: how an SAE is trained at each block, where neither ``saes`` nor ``dictionary`` is given.
        config: the options of the measurements.
        execution: how passes over images run.
        command: what the manifests name as the command.

    Returns:
        The run directories, by block, which `compare_runs` takes.

    Raises:
        InfoscopeError: there is no such block, ``out`` belongs to another sweep or cannot be written, or as for
            `train_sae`, `make_dictionary` and `measure_scope`.
    """
    # One watch for all blocks, whose results are compared and so have to be of the same images.
    out, images = Path(out), watch(open_images(images))
    config, execution = config or MeasureConfig(), execution or Execution()
    if saes is not None and dictionary is not None:
        raise InfoscopeError("give --saes or --dictionary, one of the two, or neither to train an SAE at each block")
    chosen = _resolve(backbone, sorted(saes) if saes is not None else blocks)
    source = (
        {"saes": True}
        if saes is not None
        else {"dictionary": dictionary, "components": components, "centre": centre}
        if dictionary is not None
        else {"train": asdict(train or TrainConfig())}
    )
    _claim(out, _identity(backbone, images, config, source), images)
    folders = {block: out / f"block-{block:02}" for block in chosen}
    if dictionary is not None:
        # Before any measurement, since one pass over the images serves all blocks.
        _make_missing(
            [backbone.at(block) for block in chosen if not _has_sae(folders[block])],
            images,
            folders,
            dictionary,
            components=components,
            centre=centre,
            resize=config.resize,
            execution=execution.here,
        )
    for number, (block, folder) in enumerate(folders.items(), 1):
        at_block = backbone.at(block)
        state = "finished before" if (folder / SCOPE / MANIFEST).is_file() else folder
        tell(f"Block {block} ({number} of {len(folders)}): {state}")
        if saes is not None:
            sae = saes[block]
        else:
            if not _has_sae(folder):
                train_sae(
                    at_block,
                    images,
                    train,
                    out=folder / DICTIONARY,
                    resize=config.resize,
                    execution=execution.here,
                )
            sae = load_sae(folder / DICTIONARY)
        measure_scope(at_block, sae, images, config, out=folder / SCOPE, execution=execution, command=command)
    return [folder / SCOPE for folder in folders.values()]


def _resolve(backbone: Backbone, blocks: Sequence[int] | None) -> list[int]:
    """The numbers of the blocks, from 0, ascending and each once."""
    if blocks is not None and not blocks:
        raise InfoscopeError("no block is named; give --blocks 2,5,8, or leave it out for all")
    return sorted({backbone.at(block).block for block in (range(backbone.blocks) if blocks is None else blocks)})


def _make_missing(
    backbones: Sequence[Backbone], images: ImageSource, folders: Mapping[int, Path], dictionary: str, **options: Any
) -> None:
    """Make and write the dictionaries of blocks that have none, in one pass over the images."""
    if not backbones:
        return
    for backbone, sae in zip(backbones, make_dictionaries(dictionary, backbones, images, **options), strict=True):
        save_sae(sae, folders[backbone.block] / DICTIONARY)


def _has_sae(folder: Path) -> bool:
    # Written last, so that its presence says that the SAE is whole.
    return (folder / DICTIONARY / "sae.json").is_file()


def _identity(backbone: Backbone, images: Watched, config: MeasureConfig, source: Mapping[str, Any]) -> dict[str, Any]:
    """What all blocks of a sweep share; a directory resumes only under the same identity."""
    return {
        "model": {
            "name": backbone.name,
            "sha256": backbone.sha256,
            "reads": backbone.reads,
            "input_side": backbone.input_side,
            "precision": backbone.precision,
        },
        "images": {
            "source": images.name,
            "count": len(images),
            "ids_sha256": ids_sha256(images),
            "stamp": images.states,
        },
        "options": asdict(config),
        **source,
    }


def _claim(out: Path, identity: dict[str, Any], images: Watched) -> None:
    """Make ``out`` this sweep's directory, which then holds the hashes of its images.

    Raises:
        InfoscopeError: it is a file, belongs to another sweep, or holds something else; or an image has changed since
            the sweep started.
    """
    if out.exists() and not out.is_dir():
        raise InfoscopeError(f"{out} is a file; --out needs a directory")
    identity = to_json(identity)
    remove_leftovers_of([out / IDENTITY])
    if (out / IDENTITY).is_file():
        kept = read_json(out / IDENTITY)
        # Sweeps of older versions have neither hashes of images nor a stamp.
        comparable = (out / CONTENTS).is_file() or _without_stamp(kept) == kept
        if kept != identity and not (comparable and _without_stamp(kept) == _without_stamp(identity)):
            raise InfoscopeError(
                f"{out} is another sweep's directory ({first_difference(kept, identity)}); choose another --out"
            )
        images.keep(out / CONTENTS)
        if kept != identity:
            # The files are copies, or other files with the same names: the SAEs of earlier blocks must not mix them.
            images.verify(np.flatnonzero(images.contents))
        return
    if out.is_dir() and any(out.iterdir()):
        raise InfoscopeError(f"{out} is not empty and no sweep's directory; choose another --out")
    write_json(out / IDENTITY, identity)
    images.keep(out / CONTENTS)


def _without_stamp(identity: Any) -> Any:
    if not isinstance(identity, dict) or not isinstance(identity.get("images"), dict):
        return identity
    return identity | {"images": {key: value for key, value in identity["images"].items() if key != "stamp"}}
