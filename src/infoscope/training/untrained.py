"""Dictionaries that need no training, made for a model at its block: what `measure --dictionary` measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from infoscope.backbones.backbone import Backbone
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
from infoscope.images.source import Images, ImageSource, open_images, spread_evenly
from infoscope.images.views import Views
from infoscope.options import Reads, Resize
from infoscope.runtime.execution import Execution, run_here
from infoscope.runtime.manifest import DictionaryRecord
from infoscope.runtime.progress import progress
from infoscope.training.passes import block_site

# Our choice, as for the fit check: 65,536 tokens at 16 x 16 patches, which is 170 per channel at a width of 384.
MOMENT_IMAGES = 256


@dataclass
class Moments:
    """Mean and covariance of tokens, from sums that lose no digits where the mean is large.

    They are float64 throughout; batches are merged by the formula of Chan, Golub and LeVeque (1983).

    Attributes:
        mean: ``[width]``.
        scatter: sum over tokens of the outer product of their distance from the mean.
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
        """The moments of no tokens."""
        return cls(np.zeros(width), np.zeros((width, width)))

    @property
    def covariance(self) -> Float64[np.ndarray, "width width"]:
        """The unbiased covariance."""
        return self.scatter / max(self.tokens - 1, 1)

    @torch.no_grad()
    def update(self, tokens: Float[Tensor, "token width"]) -> None:
        """Add tokens."""
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
    execution: Execution,
    *,
    resize: Resize = "stretch",
) -> list[Moments]:
    """Moments of the full views' patch tokens, on at most 256 images spread evenly over the source.

    Args:
        backbone: the model, at any block.
        blocks: the blocks whose outputs are read, all in the same forward passes.
        images: the images.
        execution: how the pass runs.
        resize: how an image becomes square.

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
        for batch in decode_ahead(images, sample, view, execution.batch_size or backbone.batch_size, execution.threads):
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
    execution: Execution | None = None,
    **options: Any,
) -> SparseAutoencoder:
    """A dictionary that needs no training, as an SAE that `measure_scope` takes.

    Args:
        dictionary: ``channels``, ``pca``, ``neurons``, or ``directions:PATH`` (see `read_directions`).
        backbone: the model at its block; for neurons, one that reads them, ``backbone.at(reads="neurons")``.
        images: the images whose tokens give the mean to centre on and the principal components; at most 256 are read.
            Neurons need none, nor do dictionaries that are not centred, nor a file that brings a mean.
        components: how many principal components to keep; all by default.
        centre: whether channels and directions are taken around the mean token.
        resize: how an image becomes square.
        execution: how the passes run; it changes memory and speed, not the result.
        **options: options of ``execution`` by name, such as ``batch_size=4``; they override its own.

    Raises:
        InfoscopeError: there is no such dictionary, its file cannot be read or has another width, an option belongs
            to another dictionary, the backbone reads something else, or no image can be read.

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
        execution=run_here(execution, options),
    )[0]


def make_dictionaries(
    dictionary: str,
    backbones: Sequence[Backbone],
    images: Images | None = None,
    *,
    components: int | None = None,
    centre: bool = True,
    resize: Resize = "stretch",
    execution: Execution | None = None,
) -> list[SparseAutoencoder]:
    """One dictionary per block of a model, from one pass over the images; arguments as for `make_dictionary`."""
    kind, path = split_kind(dictionary)
    _check_options(kind, components, centre)
    for backbone in backbones:
        if backbone.reads != reads_of(kind):
            raise InfoscopeError(
                f"{kind} need a model that reads {reads_of(kind)}, and this one reads {backbone.reads}: "
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
            f"{backbones[0].width}; project them into the tokens' space first"
        )
    offset = mean if centre and mean is not None else np.zeros(backbones[0].width)
    means = [offset.astype(np.float64)] * len(backbones)
    if kind == "pca" or (centre and mean is None):
        if source is None:
            remedy = "give images" if kind == "pca" else "give images, or turn centring off"
            raise InfoscopeError(f"--dictionary {kind} is centred on the mean token; {remedy}")
        blocks = [backbone.block for backbone in backbones]
        moments = token_moments(backbones[0], blocks, source, run_here(execution, {}), resize=resize)
        means = [of_block.mean for of_block in moments]
        if kind == "pca":
            return [
                pca_dictionary(of_block.mean, of_block.covariance, components, site=site)
                for of_block, site in zip(moments, sites, strict=True)
            ]
    if given is None:
        return [channel_dictionary(mean, site=site) for mean, site in zip(means, sites, strict=True)]
    return [
        direction_dictionary(given, mean, name=dictionary, site=site) for mean, site in zip(means, sites, strict=True)
    ]


def reads_of(kind: str) -> Reads:
    """What a kind of dictionary reads of a block."""
    return "neurons" if kind == "neurons" else "output"


def _check_options(kind: str, components: int | None, centre: bool) -> None:
    if components is not None and kind != "pca":
        raise InfoscopeError(f"--components belongs to --dictionary pca, not to {kind}; leave it out")
    if not centre and kind not in ("channels", "directions"):
        raise InfoscopeError(f"--no-centre belongs to channels and directions, not to {kind}; leave it out")


def _site(backbone: Backbone, images: ImageSource | None, resize: Resize) -> dict[str, Any]:
    """Where the tokens come from, as an SAE records it."""
    return {
        **block_site(backbone),
        "reads": backbone.reads,
        "input_side": backbone.input_side,
        "tokens": "patch",
        "resize": resize,
        **({} if images is None else {"images": {"source": images.name, "count": len(images), "skipped": []}}),
    }


def is_untrained(record: DictionaryRecord) -> bool:
    """Whether a run made its dictionary itself, so that its name is that of a kind and not of a file.

    Example:
        >>> is_untrained(DictionaryRecord("pca, 6 components", "pca", "", 12, "relu"))
        True
        >>> is_untrained(DictionaryRecord("saved/pca", "pca", "", 12, "relu"))
        False
    """
    kind, name = record.format, record.name
    return kind in KINDS and (name == kind or name.startswith((f"{kind}, ", f"{kind}:")))


def remake_dictionary(
    record: DictionaryRecord,
    backbone: Backbone,
    images: Images,
    *,
    resize: Resize = "stretch",
    execution: Execution | None = None,
) -> SparseAutoencoder:
    """The dictionary that a run measured, made again from what the run records of it.

    Args:
        record: the run's dictionary, one for which `is_untrained` holds.
        backbone: the run's model at its block, reading what the run read.
        images: the run's images.
        resize: how an image became square.
        execution: how the passes run; the batch size must be the run's.

    Raises:
        InfoscopeError: it cannot be made, or its weights differ from the run's.
    """
    kind = record.format
    source = open_images(images)
    dictionary = record.name if kind == "directions" else kind
    # Each component is two features, one per sign.
    components = record.features // 2 if kind == "pca" else None
    # A run does not record whether it was centred; the hash tells.
    for centre in (True, False) if kind in ("channels", "directions") else (True,):
        remade = make_dictionary(
            dictionary, backbone, source, components=components, centre=centre, resize=resize, execution=execution
        )
        if remade.sha256 == record.sha256:
            return remade
    raise InfoscopeError(
        f"the run's dictionary, {record.name}, cannot be made again: made from {source.name} its weights differ; give "
        "the block, images, --device, --precision and --batch-size of the measurement, or name a saved copy by --sae"
    )
