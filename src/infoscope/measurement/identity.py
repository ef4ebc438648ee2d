"""What a run records of its model and dictionary, and what its directory is recognised by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from infoscope.backbones.backbone import Backbone
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.images.watched import Watched
from infoscope.runtime.atomic import as_read, read_json
from infoscope.runtime.manifest import FORMAT_VERSION, DictionaryRecord, ModelRecord, software_versions
from infoscope.runtime.run import PLAN


def plan(
    model: ModelRecord, dictionary: DictionaryRecord, images: Watched, ids_hash: str, options: dict[str, Any]
) -> dict[str, Any]:
    """All that a result depends on, as JSON values: a directory is gone on with only when it is the same."""
    site = model_identity(model)
    if model.reads == "output":  # as it was before anything else could be read
        del site["reads"]
    return {
        "format_version": FORMAT_VERSION,
        "options": options,
        "model": site,
        # A weights file alone does not say how many codes are kept.
        "dictionary": {"sha256": dictionary.sha256, "activation": dictionary.activation},
        "images": {"count": len(images), "ids_sha256": ids_hash, "stamp": images.states},
        "software": software_versions(),
    }


def with_kept_stamp(
    out: Path,
    planned: dict[str, Any],
    merge: Callable[[dict[str, Any]], dict[str, Any]],
    check: Callable[[dict[str, Any]], bool],
) -> dict[str, Any]:
    """A plan with the stamp of the images that the directory's own plan has, where nothing else differs.

    Files that were touched or copied since have another stamp, and may be the same images.

    Args:
        out: the directory.
        planned: the plan.
        merge: the plan with the stamp of another one.
        check: given the plan that is there, whether its images are known to be the same; raises where they are others.

    Raises:
        InfoscopeError: as ``check`` raises.
    """
    found = read_json(out / PLAN) if (out / PLAN).is_file() else None
    if not isinstance(found, dict) or found == as_read(planned):
        return planned
    same = merge(found)
    if found != as_read(same):
        return planned
    return same if check(found) else planned


def model_identity(model: ModelRecord) -> dict[str, Any]:
    """The record without what the model is called: the weights' hash says which one it is."""
    return {key: value for key, value in asdict(model).items() if key not in ("name", "revision")}


def model_record(backbone: Backbone) -> ModelRecord:
    """The model at its block."""
    return ModelRecord(
        name=backbone.name,
        revision=backbone.revision,
        sha256=backbone.sha256,
        family=backbone.family,
        block=backbone.block,
        patch_size=backbone.patch_size,
        grid=backbone.grid,
        prefix_tokens=backbone.prefix_tokens,
        mean=list(backbone.mean),
        std=list(backbone.std),
        dtype=str(backbone.dtype).removeprefix("torch."),
        precision=backbone.precision,
        device=backbone.device.type,
        reads=backbone.reads,
    )


def dictionary_record(sae: SparseAutoencoder) -> DictionaryRecord:
    """The SAE."""
    return DictionaryRecord(
        name=sae.name, format=sae.format, sha256=sae.sha256, features=sae.features, activation=str(sae.activation)
    )
