"""What a run records of the model and the dictionary it measured, and what its directory is recognised by."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from infoscope.backbones.backbone import Backbone
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.images.source import ImageSource
from infoscope.storage.manifest import FORMAT_VERSION, DictionaryRecord, ModelRecord, software_versions


def plan(
    model: ModelRecord, dictionary: DictionaryRecord, images: ImageSource, ids_hash: str, options: dict[str, Any]
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
        "images": {"count": len(images), "ids_sha256": ids_hash, "stamp": images.stamp()},
        "software": software_versions(),
    }


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
