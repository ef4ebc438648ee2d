"""`train_sae`: from a model and images to an SAE on one block's patch tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from infoscope.backbones.backbone import Backbone
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.images.resize import Resize
from infoscope.images.source import Images, open_images
from infoscope.progress import progress
from infoscope.training.cached import cache_tokens
from infoscope.training.config import TrainConfig
from infoscope.training.output import check_out, hand_out, train_with_progress
from infoscope.training.passes import TokenPasses
from infoscope.training.stream import TokenPool

# Our choice: the tokens of 5,000 photographs at 16 x 16 patches and width 384 fit, and so does the machine's rest.
CACHE_BYTES = 2 * 2**30


def train_sae(
    backbone: Backbone,
    images: Images,
    config: TrainConfig | None = None,
    *,
    out: Path | str | None = None,
    resize: Resize = "stretch",
    batch_size: int | None = None,
    threads: int | None = None,
    cache: Path | str = "memory",
    cache_bytes: int = CACHE_BYTES,
    show_progress: bool = True,
    **options: Any,
) -> SparseAutoencoder:
    """Train a sparse autoencoder on the patch tokens of the full views, in a random order of the images.

    Args:
        backbone: the model, at the block to train on.
        images: the images; as many passes over them are made as ``config.tokens`` takes.
        config: the options (see `TrainConfig`).
        out: an SAE directory to write. Without it nothing is written.
        resize: how an image becomes square.
        batch_size: images to a forward pass; changes memory and speed, not the result. By default what suits the
            device, `Backbone.batch_size`.
        threads: decoding threads; one a core by default.
        cache: where the tokens are kept, so that a second pass need not run the model again: ``memory``; ``none``,
            where every pass is computed anew; or a directory, in which they get one of their own, named by the hash
            of what made them, are written before training, and are found by the next training on the same tokens. The
            SAE is the same to the bit.
        cache_bytes: memory for the tokens under ``memory``; those that do not fit are computed anew for every pass.
        show_progress: report progress on stderr, with FVU, L0 and the share of dead features.
        **options: options by name, such as ``features=4096, k=32``; they come before those of ``config``.

    Returns:
        The SAE on the model's own tokens; what centred and scaled them is folded into its weights.

    Raises:
        InfoscopeError: no image can be read, training diverges, or ``out`` or ``cache`` is taken or cannot be written.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from transformers import ViTConfig, ViTModel
        >>> from infoscope.backbones.loading import load_backbone
        >>> directory = tempfile.mkdtemp()
        >>> ViTModel(ViTConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        ...                    image_size=64, patch_size=8)).save_pretrained(directory)
        >>> backbone = load_backbone(directory, block=-1, device="cpu")
        >>> photographs = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
        >>> sae = train_sae(backbone, photographs, features=40, k=4, tokens=1000, show_progress=False)
        >>> sae.features, str(sae.activation), sae.site["block"]
        (40, 'topk(4)', 1)
    """
    config = replace(config or TrainConfig(), **options)
    images = open_images(images)
    check_out(out, config.features, backbone.width)
    passes = TokenPasses(backbone, images, resize, config, batch_size or backbone.batch_size, threads)
    tokens: Iterable[Tensor]
    if cache == "memory":
        tokens = _in_memory(passes, cache_bytes, show_progress)
    elif cache == "none":
        tokens = TokenPool(passes, cache_bytes=0)
    else:
        tokens = cache_tokens(passes, cache, show_progress=show_progress)
    trained = train_with_progress(tokens, config, backbone.device, show_progress)
    return hand_out(trained, passes.site(), out, backbone.device)


def _in_memory(passes: TokenPasses, cache_bytes: int, show_progress: bool) -> TokenPool:
    """A pool; already filled where that saves a second pass, so that the model's part shows its own progress."""
    pool = TokenPool(passes, cache_bytes)
    size = 4 * passes.tokens * passes.backbone.width
    if size <= cache_bytes and passes.tokens < passes.config.tokens:
        with progress("Reading tokens", len(passes.order), "images", enabled=show_progress) as advance:
            for tokens in pool:
                advance(len(tokens) // passes.patches)
            advance(len(passes.skipped))
    return pool
