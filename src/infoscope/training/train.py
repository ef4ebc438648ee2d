"""`train_sae`: from a model and images to an SAE on one block's patch tokens."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from infoscope.backbones.backbone import Backbone
from infoscope.dictionaries.loading import load_sae
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.images.prefetch import all_unreadable, decode_ahead
from infoscope.images.source import Images, ImageSource, open_images
from infoscope.images.views import Resize, Views
from infoscope.progress import progress
from infoscope.training.config import TrainConfig
from infoscope.training.stream import TokenPool
from infoscope.training.trainer import TrainingPoint, train_on_tokens

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
        cache_bytes: memory for the tokens, so that a second pass need not run the model again; tokens that do not fit
            are computed anew for every pass.
        show_progress: report progress on stderr, with FVU, L0 and the share of dead features.
        **options: options by name, such as ``features=4096, k=32``; they come before those of ``config``.

    Returns:
        The SAE on the model's own tokens; what centred and scaled them is folded into its weights.

    Raises:
        InfoscopeError: no image can be read, training diverges, or ``out`` is taken or cannot be written.

    Example:
        >>> import tempfile
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
    if out is not None and Path(out).is_dir() and any(Path(out).iterdir()):
        raise InfoscopeError(f"{out} is not empty, and an SAE is never written over; choose another --out")
    if out is not None:
        _check_space(Path(out), 4 * config.features * (2 * backbone.width + 1))
    passes = _TokenPasses(backbone, images, resize, config, batch_size or backbone.batch_size, threads)
    pool = TokenPool(passes, cache_bytes)
    size = passes.tokens * backbone.width * 4
    if size <= cache_bytes and passes.tokens < config.tokens:
        with progress("Reading tokens", len(passes.order), "images", enabled=show_progress) as advance:
            for tokens in pool:
                advance(len(tokens) // passes.patches)
            advance(len(passes.skipped))
    with progress("Training", config.tokens, "tokens", enabled=show_progress) as advance:
        seen = 0

        def report(point: TrainingPoint) -> None:
            nonlocal seen
            note = f"FVU {point.fvu:.3f}  L0 {point.l0:.1f}  dead {point.dead:.1%}"
            advance(min(point.tokens, config.tokens) - seen, note)
            seen = point.tokens

        trained = train_on_tokens(pool, config, device=backbone.device, on_progress=report)
    site = {
        # Absolute, so that the SAE can be measured from another directory.
        "model": str(Path(backbone.name).resolve()) if Path(backbone.name).is_dir() else backbone.name,
        "revision": backbone.revision,
        "sha256": backbone.sha256,
        "block": backbone.block,
        "input_side": backbone.input_side,
        "tokens": "patch",
        "resize": resize,
        "images": {
            "source": images.name,
            "count": len(images),
            "skipped": [
                {"index": index, "id": images.ids[index], "reason": reason}
                for index, reason in sorted(passes.skipped.items())
            ],
        },
    }
    if out is None:
        trained.sae.site = site
        return trained.sae.to(backbone.device)
    trained.save(out, site)
    return load_sae(out, backbone.device)


def _check_space(out: Path, needed: int) -> None:
    """Refuse before training what could not be written after it."""
    folder = out.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InfoscopeError(
            f"{out} has {free / 2**20:.0f} MiB of free space and the SAE takes {needed / 2**20:.0f}; "
            "free the space or choose another --out"
        )


@dataclass
class _TokenPasses:
    """Each call is a fresh pass over the images in one random order, the same every time.

    Attributes:
        order: the images of a pass; no more than the tokens asked for need.
        skipped: images that could not be read, by index.
    """

    backbone: Backbone
    images: ImageSource
    resize: Resize
    config: TrainConfig
    batch_size: int
    threads: int | None
    order: list[int] = field(init=False)
    skipped: dict[int, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        order = np.random.default_rng(self.config.seed).permutation(len(self.images))
        self.order = order[: -(-self.config.tokens // self.patches)].tolist()

    @property
    def patches(self) -> int:
        """Patch tokens to an image."""
        return self.backbone.grid**2

    @property
    def tokens(self) -> int:
        """Patch tokens to a pass, when every image can be read."""
        return len(self.order) * self.patches

    def __call__(self) -> Iterator[Tensor]:
        views = Views(self.backbone.patch_size, self.backbone.grid, shift=0, resize=self.resize)
        readable = False
        for batch in decode_ahead(self.images, self.order, views.full, self.batch_size, self.threads):
            self.skipped.update(batch.unreadable)
            if batch.index:
                readable = True
                yield self.backbone.tokens(batch.pixels).flatten(0, 1).cpu()
        if not readable:
            raise all_unreadable(self.images, next(iter(self.skipped.values())))
