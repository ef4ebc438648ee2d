"""A model with features of the second family planted, and the dictionary that reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor, nn

from infoscope.analyses.planted_blobs.calibration import calibrate_blobs
from infoscope.analyses.planted_blobs.config import LEAST_PHOTOGRAPHS, BlobKind, BlobsConfig
from infoscope.analyses.planted_blobs.features import BlobFeatures, BlobView
from infoscope.analyses.planted_blobs.noise import normal
from infoscope.backbones.backbone import Backbone
from infoscope.backbones.families import Family
from infoscope.dictionaries.activations import JumpReLU
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.images.prefetch import decode_sample
from infoscope.images.source import Images, ImageSource, open_images
from infoscope.images.views import Views

MOST_PHOTOGRAPHS = 256
"""Our choice: the limit of full strength then has 18 photographs beyond it."""
PLACE = 0.3
"""Length of what tells a token's place, in peaks of a code. Our choice."""

BLOBS = Family(
    name="planted blobs",
    model_types=("planted_blobs",),
    model_class="BlobModel",
    blocks="blocks",
    position_table=None,
    final_norm=None,
    normalisation=((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
)


@dataclass(frozen=True, eq=False)
class PlantedBlobs:
    """A backbone with known features of the second family.

    Attributes:
        backbone: the model, which can be measured like any other.
        dictionary: the planted directions as an SAE; feature j is planted feature j.
        config: the settings.
        names: what each feature responds to.
        kinds: the true kind of each feature.
        graded: how far each is global: 0 where local, the share that moves or is parked; NaN for the rest.
        features: the features themselves.
    """

    backbone: Backbone
    dictionary: SparseAutoencoder
    config: BlobsConfig
    names: list[str]
    kinds: list[BlobKind]
    graded: Float64[np.ndarray, " feature"]
    features: BlobFeatures

    def inside(self, shift: int) -> list[bool]:
        """Which features are position-bound, with their whole shape on patches that both crops share at one place."""
        p = self.config.grid
        place = torch.arange(p)
        shared = (place >= shift) & (place <= p - shift - 1)
        outside = self.features.shapes.cpu() @ (~(shared[:, None] & shared)).flatten().float()
        shape = iter((outside == 0).tolist())
        return [kind == "position-bound" and next(shape) for kind in self.kinds]

    def codes(self, pixels: UInt8[Tensor, "image row column 3"]) -> Float[Tensor, "image patch feature"]:
        """The true codes of views, without noise."""
        with torch.no_grad():
            return torch.stack([self.features(view).codes for view in pixels])


def plant_blobs(images: Images, config: BlobsConfig | None = None, **options: Any) -> PlantedBlobs:
    """A model over photographs whose features are known: the second family, of another design than `infoscope.plant`.

    Local features are blobs on landmarks of the pixels and regions of texture; parked ones sit on flat patches and
    choose them anew in a share of views; position-bound ones are rings, rows, columns, single patches and the view's
    border; diffuse ones are even or patchy.

    Args:
        images: photographs; at most 256 of them set the limits of the features.
        config: the settings (see `BlobsConfig` and `blobs_config`).
        **options: settings by name, which override those of ``config``.

    Raises:
        InfoscopeError: fewer than eight images can be read, or they are all alike.

    Example:
        >>> noise = np.random.default_rng(0).integers(0, 256, (20, 12, 12, 3), dtype=np.uint8)
        >>> planted = plant_blobs(noise.repeat(4, 1).repeat(4, 2), features=20, patch_size=8, grid=6, width=24)
        >>> planted.backbone.family, planted.dictionary.features, planted.kinds[0], planted.names[8]
        ('planted blobs', 20, 'local', 'parked: drawn anew in 30% of views')
        >>> planted.backbone.tokens(np.zeros((1, 48, 48, 3), np.uint8)).shape
        torch.Size([1, 36, 24])
    """
    config = replace(config or BlobsConfig(), **options)
    found = calibrate_blobs(_photographs(open_images(images), config), config)
    model = BlobModel(found.features).eval()
    backbone = Backbone(
        name=f"planted blobs, seed {config.seed}",
        revision=None,
        block=1,
        patch_size=config.patch_size,
        input_side=config.grid * config.patch_size,
        width=config.width,
        prefix_tokens=0,
        mean=BLOBS.normalisation[0],
        std=BLOBS.normalisation[1],
        model=model,
        layout=BLOBS,
    )
    # What the largest of a silent view's codes hardly exceeds (Donoho and Johnstone 1994).
    least = max(config.background * math.sqrt(2 * math.log(config.grid**2)), 0.01)
    silent = torch.zeros(config.features)
    dictionary = SparseAutoencoder(
        model.directions.T.contiguous(),
        silent,
        model.directions,
        torch.zeros(config.width),
        JumpReLU(silent + least),
        name="planted blobs' directions",
    )
    return PlantedBlobs(backbone, dictionary, config, found.names, found.kinds, np.array(found.graded), found.features)


def _photographs(images: ImageSource, config: BlobsConfig) -> list[UInt8[Tensor, "row column 3"]]:
    view = Views(config.patch_size, config.grid, 0).full
    views = decode_sample(images, MOST_PHOTOGRAPHS, view, "Looking at photographs to plant in")
    if len(views) < LEAST_PHOTOGRAPHS:
        raise InfoscopeError(
            f"{images.name} has {len(views)} readable images; planting blobs takes at least {LEAST_PHOTOGRAPHS}"
        )
    return [torch.tensor(pixels) for pixels in views]


class BlobModel(nn.Module):
    """Tokens are codes times directions, a place of their own, and noise along all directions.

    The first block writes what is no parked feature, the second one the parked ones, mixtures, and the length of their
    seats.

    Args:
        features: the planted features.
    """

    def __init__(self, features: BlobFeatures):
        super().__init__()
        config = features.config
        random = torch.Generator().manual_seed(config.seed)
        turned = torch.linalg.qr(torch.randn(config.width, config.width, generator=random)).Q.T.contiguous()
        self.features = features
        self.directions = nn.Parameter(turned[: config.features].contiguous(), requires_grad=False)
        free = turned[config.features :]
        self.long = nn.Parameter(config.outlier_norm * free[0], requires_grad=False)
        place = torch.randn(config.grid**2, len(free), generator=random)
        self.place = nn.Parameter(PLACE * place / place.norm(dim=1, keepdim=True) @ free, requires_grad=False)
        self.blocks = nn.ModuleList([Adding(), Adding()])

    def forward(self, pixel_values: Float[Tensor, "image 3 row column"]) -> Float[Tensor, "image token width"]:
        """All tokens after the last block, for pixels on the scale 0..1."""
        views = (pixel_values.float() * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        planted = [self.features(view) for view in views]
        stream = torch.stack([self.place + self._background(view) for view in planted])
        for number, block in enumerate(self.blocks):
            # One view at a time, since the rounding of a product may depend on the other rows of its batch.
            stream = block(stream, torch.stack([self._written(view, late=number == 1) for view in planted]))
        return stream

    def _background(self, view: BlobView) -> Float[Tensor, "patch width"]:
        config = self.features.config
        return config.background * normal(view.chance, config.grid**2, config.width).to(view.codes.device)

    def _written(self, view: BlobView, late: bool) -> Float[Tensor, "patch width"]:
        local, parked, bound, diffuse, _, _ = self.features.config.numbers
        codes, number = view.noisy, torch.arange(view.noisy.shape[1], device=view.noisy.device)
        is_late = ((number >= local) & (number < local + parked)) | (number >= local + parked + bound + diffuse)
        written = torch.where(is_late == late, codes, 0.0) @ self.directions
        return written + view.seat[:, None] * self.long if late else written


class Adding(nn.Module):
    """A residual block: what is written is added to the stream."""

    def forward(
        self, stream: Float[Tensor, "image token width"], written: Float[Tensor, "image token width"]
    ) -> Float[Tensor, "image token width"]:
        """The stream after the block."""
        return stream + written
