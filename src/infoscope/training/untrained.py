"""Dictionaries without training, made for a model at its block: what `measure --dictionary` measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from infoscope.backbones.backbone import Backbone
from infoscope.backbones.families import Reads
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.dictionaries.untrained import (
    KINDS,
    channel_dictionary,
    direction_dictionary,
    neuron_dictionary,
    pca_dictionary,
    read_directions,
    split_kind,
)
from infoscope.errors import InfoscopeError
from infoscope.images.prefetch import all_unreadable, decode_ahead
from infoscope.images.source import Images, ImageSource, open_images
from infoscope.images.spread import spread_evenly
from infoscope.images.views import Views
from infoscope.runtime.choices import Resize
from infoscope.runtime.manifest import DictionaryRecord
from infoscope.runtime.progress import progress

# Our choice, the fit check's: 65,536 tokens of a 16 x 16 grid, 170 for each channel of a width of 384.
MOMENT_IMAGES = 256


@dataclass
class Moments:
    """Mean and covariance of tokens, from sums that do not cancel digits where the mean is large.

    Float64 throughout; a batch is joined by the formula of Chan, Golub and LeVeque (1983).

    Attributes:
        mean: ``[width]``.
        scatter: sum over tokens of the outer product of the distance from the mean.
        tokens: how many were seen.

    Example:
        >>> moments = Moments.empty(1)
        >>> for batch in ([[1.0], [2.0]], [[6.0]]):
        ...     moments.update(torch.tensor(batch))
        >>> moments.mean.tolist(), moments.covariance.tolist()
        ([3.0], [[7.0]])
    """

    mean: Float64[np.ndarray, " width"]
    scatter: Float64[np.ndarray, "width width"]
    tokens: int = 0

    @classmethod
    def empty(cls, width: int) -> Moments:
        """Of no tokens."""
        return cls(np.zeros(width), np.zeros((width, width)))

    @property
    def covariance(self) -> Float64[np.ndarray, "width width"]:
        """The unbiased one."""
        return self.scatter / max(self.tokens - 1, 1)

    @torch.no_grad()
    def update(self, tokens: Float[Tensor, "token width"]) -> None:
        """Take in some tokens."""
        exact = tokens.double()
        mean = exact.mean(0)
        exact -= mean
        apart = mean.cpu().numpy() - self.mean
        total = self.tokens + len(tokens)
        self.scatter += (exact.T @ exact).cpu().numpy()
        self.scatter += np.outer(apart, apart) * (self.tokens * len(tokens) / total)
        self.mean += apart * (len(tokens) / total)
        self.tokens = total


def token_moments(
    backbone: Backbone,
    blocks: Sequence[int],
    images: ImageSource,
    *,
    resize: Resize = "stretch",
    batch_size: int | None = None,
    threads: int | None = None,
) -> list[Moments]:
    """Moments of the full views' patch tokens, on at most 256 of the images, spread evenly over them.

    Args:
        backbone: the model, at any block.
        blocks: the blocks whose outputs are meant, which one forward pass reads together.
        images: the images.
        resize: how an image becomes square.
        batch_size: images to a forward pass.
        threads: decoding threads; one a core by default.

    Returns:
        The moments at each block.

    Raises:
        InfoscopeError: no image of the sample can be read.
    """
    view = Views(backbone.patch_size, backbone.grid, 0, resize).full
    moments = {block: Moments.empty(backbone.at(block, "output").width) for block in blocks}

    def take(block: int, tokens: Tensor) -> None:
        moments[block].update(tokens[:, backbone.prefix_tokens :].flatten(0, 1))

    sample = sorted(spread_evenly(len(images), MOMENT_IMAGES))
    reason = ""
    with progress("Mean and covariance", len(sample), "images") as advance:
        for batch in decode_ahead(images, sample, view, batch_size or backbone.batch_size, threads):
            reason = reason or next((why for _, why in batch.unreadable), "")
            if batch.index:
                backbone.read_blocks(batch.pixels, blocks, take)
            advance(len(batch.index) + len(batch.unreadable))
    if not moments[blocks[0]].tokens:
        raise all_unreadable(images, reason)
    return [moments[block] for block in blocks]


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
        >>> make_dictionary("pca", backbone, photographs, components=5).features
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
        **passes: ``resize``, ``batch_size`` and ``threads``, as for `make_dictionary`.

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
