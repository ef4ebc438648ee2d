"""A dictionary without training, made once more as a run measured it."""

from __future__ import annotations

from typing import Any

from infoscope.backbones.backbone import Backbone
from infoscope.dictionaries.kinds import KINDS
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.images.source import Images, open_images
from infoscope.storage.manifest import DictionaryRecord
from infoscope.training.untrained import make_dictionary


def is_untrained(record: DictionaryRecord) -> bool:
    """Whether a run made its dictionary by itself, so that its name is that of a kind and of no file.

    Example:
        >>> is_untrained(DictionaryRecord("pca, 6 components", "pca", "", 12, "relu"))
        True
        >>> is_untrained(DictionaryRecord("saved/pca", "pca", "", 12, "relu"))
        False
    """
    kind, name = record.format, record.name
    return kind in KINDS and (name == kind or name.startswith((f"{kind}, ", f"{kind}:")))


def remake_dictionary(record: DictionaryRecord, backbone: Backbone, images: Images, **passes: Any) -> SparseAutoencoder:
    """The dictionary that a run measured, made again from what the run says of it.

    Args:
        record: the run's dictionary, one of those `is_untrained` tells.
        backbone: the run's model at its block, reading what the run read.
        images: the run's images.
        **passes: ``resize``, ``batch_size``, ``threads`` and ``show_progress``, as for `make_dictionary`.

    Raises:
        InfoscopeError: it cannot be made, or comes out with other weights than the run's.
    """
    kind = record.format
    source = open_images(images)
    named = record.name if kind == "directions" else kind
    # Of either sign a component is a feature.
    components = record.features // 2 if kind == "pca" else None
    # A run does not say whether it centred; its hash does.
    for centre in (True, False) if kind in ("channels", "directions") else (True,):
        made = make_dictionary(named, backbone, source, components=components, centre=centre, **passes)
        if made.sha256 == record.sha256:
            return made
    raise InfoscopeError(
        f"the run's dictionary, {record.name}, cannot be made again: from {source.name} it has other weights; give the "
        "block, images, --device, --precision and --batch-size of the measurement, or name a saved copy of it by --sae"
    )
