"""Dictionaries without training, made for a model at its block: what `measure --dictionary` measures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from infoscope.backbones.backbone import Backbone
from infoscope.backbones.families import Reads
from infoscope.dictionaries.direction_files import read_directions
from infoscope.dictionaries.kinds import split_kind
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.dictionaries.untrained import (
    channel_dictionary,
    direction_dictionary,
    neuron_dictionary,
    pca_dictionary,
)
from infoscope.errors import InfoscopeError
from infoscope.images.resize import Resize
from infoscope.images.source import Images, ImageSource, open_images
from infoscope.training.moments import token_moments


def make_dictionary(
    dictionary: str,
    backbone: Backbone,
    images: Images | None = None,
    *,
    components: int | None = None,
    centre: bool = True,
    resize: Resize = "stretch",
    batch_size: int | None = None,
    threads: int | None = None,
    show_progress: bool = True,
) -> SparseAutoencoder:
    """A dictionary that nobody trains, as an SAE that `measure_scope` takes.

    Args:
        dictionary: ``channels``, ``pca``, ``neurons``, or ``directions:PATH`` (see `read_directions`).
        backbone: the model at its block; for neurons one that reads them, ``backbone.at(reads="neurons")``.
        images: the images whose tokens are centred on their mean, and of which components are fitted; at most 256 are
            read. Neurons need none, nor do tokens that are not centred, nor a file that brings a mean.
        components: of ``pca``, how many to keep; all by default.
        centre: whether channels and directions are taken around the mean token.
        resize: how an image becomes square.
        batch_size: images to a forward pass.
        threads: decoding threads; one a core by default.
        show_progress: report progress on stderr.

    Raises:
        InfoscopeError: there is no such dictionary, its file cannot be read or is of another width, an option belongs
            to another, the backbone reads something else, or no image can be read.

    Example:
        >>> import tempfile
        >>> from transformers import ViTConfig, ViTModel
        >>> from infoscope.backbones.loading import load_backbone
        >>> directory = tempfile.mkdtemp()
        >>> ViTModel(ViTConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        ...                    image_size=64, patch_size=8)).save_pretrained(directory)
        >>> backbone = load_backbone(directory, block=-1, device="cpu")
        >>> photographs = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
        >>> make_dictionary("pca", backbone, photographs, components=5, show_progress=False).features
        10
        >>> make_dictionary("neurons", backbone.at(reads="neurons")).features
        64
    """
    return make_dictionaries(
        dictionary,
        [backbone],
        images,
        components=components,
        centre=centre,
        resize=resize,
        batch_size=batch_size,
        threads=threads,
        show_progress=show_progress,
    )[0]


def make_dictionaries(
    dictionary: str,
    backbones: Sequence[Backbone],
    images: Images | None = None,
    *,
    components: int | None = None,
    centre: bool = True,
    resize: Resize = "stretch",
    **passes: Any,
) -> list[SparseAutoencoder]:
    """One for each of some blocks of one model, from one pass over the images; arguments as for `make_dictionary`."""
    kind, path = split_kind(dictionary)
    _check_options(kind, components, centre)
    for backbone in backbones:
        if backbone.reads != reads_of(kind):
            raise InfoscopeError(
                f"{kind} are of tokens that read {reads_of(kind)}, and the model reads {backbone.reads}: "
                f"give backbone.at(reads={reads_of(kind)!r})"
            )
    source = None if images is None else open_images(images)
    sites = [_site(backbone, source, resize) for backbone in backbones]
    if kind == "neurons":
        return [
            neuron_dictionary(backbone.width, gated=backbone.gated, site=site)
            for backbone, site in zip(backbones, sites, strict=True)
        ]
    given, mean = (None, None) if path is None else read_directions(path)
    if given is not None and given.shape[1] != backbones[0].width:
        raise InfoscopeError(
            f"{path} holds directions of width {given.shape[1]}, and the tokens of {backbones[0].name} have width "
            f"{backbones[0].width}; project them on the tokens' space first"
        )
    offset = mean if centre and mean is not None else np.zeros(backbones[0].width)
    means = [offset.astype(np.float64)] * len(backbones)
    if kind == "pca" or (centre and mean is None):
        if source is None:
            raise InfoscopeError(f"{kind} are made around the mean of tokens; give images, or leave centring out")
        moments = token_moments(backbones[0], [each.block for each in backbones], source, resize=resize, **passes)
        means = [each.mean for each in moments]
        if kind == "pca":
            return [
                pca_dictionary(each.mean, each.covariance, components, site=site)
                for each, site in zip(moments, sites, strict=True)
            ]
    if given is None:
        return [channel_dictionary(each, site=site) for each, site in zip(means, sites, strict=True)]
    return [
        direction_dictionary(given, each, name=dictionary, site=site) for each, site in zip(means, sites, strict=True)
    ]


def reads_of(kind: str) -> Reads:
    """What of a block a kind of dictionary is made of."""
    return "neurons" if kind == "neurons" else "output"


def _check_options(kind: str, components: int | None, centre: bool) -> None:
    if components is not None and kind != "pca":
        raise InfoscopeError(f"--components belongs to --dictionary pca, not to {kind}; leave it out")
    if not centre and kind not in ("channels", "directions"):
        raise InfoscopeError(f"--no-centre belongs to channels and directions, not to {kind}; leave it out")


def _site(backbone: Backbone, images: ImageSource | None, resize: Resize) -> dict[str, Any]:
    """Where the tokens come from, as an SAE records it."""
    return {
        "model": str(Path(backbone.name).resolve()) if Path(backbone.name).is_dir() else backbone.name,
        "revision": backbone.revision,
        "sha256": backbone.sha256,
        "block": backbone.block,
        "reads": backbone.reads,
        "input_side": backbone.input_side,
        "tokens": "patch",
        "resize": resize,
        **({} if images is None else {"images": {"source": images.name, "count": len(images), "skipped": []}}),
    }
