"""A model's blocks one after the other: a dictionary at each, trained, made or given, and its measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from infoscope.backbones.backbone import Backbone
from infoscope.dictionaries.loading import load_sae, save_sae
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.images.source import Images, ImageSource, ids_sha256, open_images
from infoscope.images.watched import Watched, watch
from infoscope.measurement.config import MeasureConfig
from infoscope.measurement.measure import measure_scope
from infoscope.runtime.atomic import as_read, read_json, remove_leftovers_of, write_json
from infoscope.runtime.execution import Execution
from infoscope.runtime.progress import tell
from infoscope.runtime.run import MANIFEST, first_difference
from infoscope.training.config import TrainConfig
from infoscope.training.train import train_sae
from infoscope.training.untrained import make_dictionaries

PLAN = "sweep.json"
# What its images are like, beside the plan.
CONTENTS = "images.u8"
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

    A sweep that was stopped goes on when it is asked for again: finished SAEs and measurements are read, those under
    way go on. More blocks may be asked for later.

    Args:
        backbone: the model, at any block.
        images: the pool of images, for training as well.
        out: the directory to write.
        blocks: which ones, negative from the end; all by default, or those of ``saes``.
        saes: an SAE for each block, where there are SAEs.
        dictionary: in place of SAEs, what `make_dictionary` makes: channels, pca, neurons, or directions:PATH; of all
            blocks from one pass over the images.
        components: of ``pca``, how many to keep.
        centre: whether channels and directions are taken around the mean token.
        train: how an SAE is trained at each block, where neither of the two is given.
        config: the options of the measurements.
        execution: how passes over images run.
        command: how this was asked for, for the manifests.

    Returns:
        The run directories, by block; `compare_runs` lays them side by side.

    Raises:
        InfoscopeError: there is no such block, ``out`` is another sweep's or cannot be written, or as for
            `train_sae`, `make_dictionary` and `measure_scope`.
    """
    # Over all blocks, which are compared with each other.
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
    _claim(out, _plan(backbone, images, config, source), images)
    folders = {block: out / f"block-{block:02}" for block in chosen}
    if dictionary is not None:
        _make(
            [backbone.at(block) for block in chosen if not _has_sae(folders[block])],
            images,
            folders,
            dictionary,
            components=components,
            centre=centre,
            resize=config.resize,
            batch_size=execution.batch_size,
            threads=execution.threads,
        )
    for place, (block, folder) in enumerate(folders.items()):
        here = backbone.at(block)
        state = "finished before" if (folder / SCOPE / MANIFEST).is_file() else folder
        tell(f"Block {block} ({place + 1} of {len(folders)}): {state}")
        if saes is not None:
            sae = saes[block]
        else:
            if not _has_sae(folder):
                train_sae(
                    here,
                    images,
                    train,
                    out=folder / DICTIONARY,
                    resize=config.resize,
                    batch_size=execution.batch_size,
                    threads=execution.threads,
                )
            sae = load_sae(folder / DICTIONARY)
        measure_scope(here, sae, images, config, out=folder / SCOPE, execution=execution, command=command)
    return [folder / SCOPE for folder in folders.values()]


def _resolve(backbone: Backbone, blocks: Sequence[int] | None) -> list[int]:
    """Blocks from 0, ascending, each once."""
    if blocks is not None and not blocks:
        raise InfoscopeError("no block is named; give --blocks 2,5,8, or leave it out for all")
    return sorted({backbone.at(block).block for block in (range(backbone.blocks) if blocks is None else blocks)})


def _make(
    backbones: Sequence[Backbone], images: ImageSource, folders: Mapping[int, Path], dictionary: str, **options: Any
) -> None:
    """Write the dictionaries that are not there yet, of all blocks from one pass."""
    if not backbones:
        return
    for backbone, sae in zip(backbones, make_dictionaries(dictionary, backbones, images, **options), strict=True):
        save_sae(sae, folders[backbone.block] / DICTIONARY)


def _has_sae(folder: Path) -> bool:
    # Written last.
    return (folder / DICTIONARY / "sae.json").is_file()


def _plan(backbone: Backbone, images: Watched, config: MeasureConfig, source: Mapping[str, Any]) -> dict[str, Any]:
    """What all blocks of a sweep share; a directory is gone on with only when it is the same."""
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


def _claim(out: Path, plan: dict[str, Any], images: Watched) -> None:
    """Make ``out`` this sweep's directory, and keep there what its images are like; or refuse.

    Raises:
        InfoscopeError: it is a file, another sweep's, or holds something else; or an image has changed since the sweep
            was begun.
    """
    if out.exists() and not out.is_dir():
        raise InfoscopeError(f"{out} is a file; --out needs a directory")
    plan = as_read(plan)
    remove_leftovers_of([out / PLAN])
    if (out / PLAN).is_file():
        found = read_json(out / PLAN)
        # Sweeps from before contents were kept have neither them nor a stamp.
        kept = (out / CONTENTS).is_file() or _without_stamp(found) == found
        known = kept and _without_stamp(found) == _without_stamp(plan)
        if found != plan and not known:
            raise InfoscopeError(
                f"{out} is another sweep's directory ({first_difference(found, plan)}); choose another --out"
            )
        images.keep(out / CONTENTS)
        if found != plan:
            # Other copies of the files, or others under their names: the SAEs of earlier blocks were made of them.
            images.verify(np.flatnonzero(images.contents))
        return
    if out.is_dir() and any(out.iterdir()):
        raise InfoscopeError(f"{out} is not empty and no sweep's directory; choose another --out")
    write_json(out / PLAN, plan)
    images.keep(out / CONTENTS)


def _without_stamp(plan: Any) -> Any:
    if not isinstance(plan, dict) or not isinstance(plan.get("images"), dict):
        return plan
    return plan | {"images": {key: value for key, value in plan["images"].items() if key != "stamp"}}
