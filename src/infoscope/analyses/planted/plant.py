"""Planting features: a model of its own whose features are known, or known features in a real model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor, nn

from infoscope.analyses.planted.calibration import calibrate, make_windows, read_views
from infoscope.analyses.planted.config import MIXTURES, REAL_BACKGROUND, Kind, PlantedConfig
from infoscope.analyses.planted.features import PlantedFeatures
from infoscope.analyses.planted.model import BLOCKS, FAMILY, PREFIX_TOKENS, PlantedModel, read_directions, to_bytes
from infoscope.backbones.backbone import Backbone
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.images.source import Images, open_images


@dataclass(frozen=True, eq=False)
class Planted:
    """A backbone with known features.

    Attributes:
        backbone: the model, which can be measured like any other.
        dictionary: the planted directions as an SAE; feature j is planted feature j.
        config: the settings.
        names: what each feature responds to.
        features: the features themselves.
        windows: where features that depend on position may fire, ``[patch, window]``.
        peaks: the largest code of each feature, ``[feature]``.
    """

    backbone: Backbone
    dictionary: SparseAutoencoder
    config: PlantedConfig
    names: list[str]
    features: PlantedFeatures
    windows: Float[Tensor, "patch window"]
    peaks: Float[Tensor, " feature"]

    @property
    def kinds(self) -> list[Kind]:
        """The true kind of each feature."""
        return self.config.kinds

    @property
    def graded(self) -> Float64[np.ndarray, " feature"]:
        """How far each feature is global: 0 where local, 1 where global, for a mixture its share; NaN for the rest."""
        pure = {"local": 0.0, "global": 1.0}
        share = iter(self.features.graded.tolist())
        return np.array([next(share) if kind in MIXTURES else pure.get(kind, np.nan) for kind in self.kinds])

    def inside(self, shift: int) -> list[bool]:
        """Which features are position-bound with a window entirely in the overlap; their CDS is s/(p-s-1)."""
        p = self.config.grid
        place = torch.arange(p)
        shared = ((place >= shift) & (place <= p - shift - 1)).float()
        beyond = (1 - shared[:, None] * shared[None]).flatten()
        outside = beyond @ self.windows.cpu()
        windows = self.features.window_of.tolist()
        return [
            kind == "position-bound" and float(outside[window]) == 0
            for kind, window in zip(self.kinds, windows, strict=True)
        ]

    def codes(self, pixels: UInt8[Tensor, "image row column 3"]) -> Float[Tensor, "image patch feature"]:
        """The true codes of views, without noise."""
        with torch.no_grad():
            return torch.stack([self.features(view, self.windows).codes for view in pixels]) * (
                self.peaks / self.features.strength
            )


def plant(images: Images, config: PlantedConfig | None = None, *, block: int = -1, **options: Any) -> Planted:
    """A model of transformer shape over photographs, whose features are known by construction (method, section 9).

    Args:
        images: photographs; the values of at most 256 of them set the ramps of the features.
        config: the settings (see `PlantedConfig` and `planted_config`).
        block: the block to read; see `PlantedModel` for what each block adds.
        **options: settings by name, which override those of ``config``.

    Raises:
        InfoscopeError: there is no such block, fewer than eight images can be read, or they are all alike.

    Example:
        >>> import numpy as np
        >>> noise = np.random.default_rng(0).integers(0, 256, (12, 6, 6, 3), dtype=np.uint8)
        >>> planted = plant(noise.repeat(9, 1).repeat(9, 2), features=20, patch_size=8, grid=6)
        >>> planted.backbone.family, planted.backbone.grid, planted.dictionary.features, planted.names[16]
        ('planted', 6, 20, 'position-bound: mixture 0')
        >>> planted.backbone.tokens(np.zeros((1, 48, 48, 3), np.uint8)).shape
        torch.Size([1, 36, 384])
    """
    config = replace(config or PlantedConfig(), **options)
    if not -BLOCKS <= block < BLOCKS:
        raise InfoscopeError(f"block {block} is out of range: a planted model has {BLOCKS} blocks, 0 to {BLOCKS - 1}")
    views = read_views(open_images(images), config.patch_size, config.grid)
    features, names = calibrate(views, config)
    windows = make_windows(config)
    model = PlantedModel(features, windows).eval()
    backbone = Backbone(
        name=f"planted, seed {config.seed}",
        revision=None,
        block=block % BLOCKS,
        patch_size=config.patch_size,
        input_side=config.grid * config.patch_size,
        width=config.width,
        prefix_tokens=PREFIX_TOKENS,
        mean=FAMILY.normalisation[0],
        std=FAMILY.normalisation[1],
        model=model,
        layout=FAMILY,
    )
    dictionary = read_directions(model.directions, config.least_code * features.strength)
    return Planted(backbone, dictionary, config, names, features, windows, features.strength)


def plant_into(
    backbone: Backbone,
    images: Images,
    config: PlantedConfig | None = None,
    **options: Any,
) -> Planted:
    """Plant features into the tokens of a real model at its block; the model's own tokens are then the background.

    Peaks are chosen such that the spread of the model's tokens along a feature's direction is ``background`` of its
    peak: at the usual 0.1, a code at its peak is about half as long as a token.

    Args:
        backbone: the model; its weights stay as they are.
        images: photographs, as for `plant`.
        config: the settings; ``width``, ``patch_size`` and ``grid`` are the model's.
        **options: settings by name, which override those of ``config``.

    Raises:
        InfoscopeError: as for `plant`; or the model takes flattened patches, its tokens have fewer dimensions than
            there are features, or the background is 0, for which no peak is high enough.
    """
    shape = {"width": backbone.width, "patch_size": backbone.patch_size, "grid": backbone.grid}
    config = replace(config or PlantedConfig(background=REAL_BACKGROUND), **{**options, **shape})
    if backbone.layout.patchified:
        raise InfoscopeError(
            f"{backbone.name} takes flattened patches: features are planted into models that take images"
        )
    if config.features > backbone.width:
        raise InfoscopeError(f"{backbone.name} has tokens of {backbone.width}: plant at most as many features")
    if config.background == 0:
        raise InfoscopeError("planted background 0 asks for features infinitely stronger than the model's own tokens")
    views = read_views(open_images(images), config.patch_size, config.grid)
    features, names = calibrate(views, config)
    windows = make_windows(config).to(backbone.device)
    random = torch.Generator().manual_seed(config.seed + 2)
    directions = torch.linalg.qr(torch.randn(config.width, config.features, generator=random)).Q.T.contiguous()
    directions = directions.to(backbone.device)
    total = torch.zeros(config.features, dtype=torch.float64, device=backbone.device)
    squares = total.clone()
    # A few views at a time, so that their tokens are not all in memory together.
    step, tokens = backbone.batch_size, 0
    for first in range(0, len(views), step):
        batch = torch.stack([torch.tensor(view) for view in views[first : first + step]])
        read = (backbone.tokens(batch).flatten(0, 1) @ directions.T).double()
        total, squares, tokens = total + read.sum(0), squares + read.square().sum(0), tokens + len(read)
    mean = total / tokens
    spread = (squares / tokens - mean.square()).clamp_min(0).sqrt()
    peaks = (spread / config.background).float() * features.strength.to(backbone.device)
    model = PlantedInto(backbone, features.to(backbone.device), windows, directions, peaks).eval()
    layout = replace(
        backbone.layout,
        name=f"{backbone.family}, planted",
        blocks=f"model.{backbone.layout.blocks}",
        position_table=backbone.layout.position_table and f"model.{backbone.layout.position_table}",
        final_norm=backbone.layout.final_norm and f"model.{backbone.layout.final_norm}",
    )
    planted_backbone = replace(
        backbone, name=f"{backbone.name}, planted, seed {config.seed}", model=model, layout=layout, weight_files=()
    )
    dictionary = read_directions(directions, config.least_code * peaks, mean.float())
    return Planted(planted_backbone, dictionary, config, names, features, windows, peaks)


class PlantedInto(nn.Module):
    """A real vision model, with codes times directions added to the patch tokens of one block.

    Args:
        backbone: the model at that block.
        features: the planted features.
        windows: as for `PlantedFeatures`.
        directions: ``[feature, width]``.
        peaks: ``[feature]``.
    """

    mean: Tensor
    std: Tensor
    windows: Tensor
    directions: Tensor
    scale: Tensor

    def __init__(
        self,
        backbone: Backbone,
        features: PlantedFeatures,
        windows: Float[Tensor, "patch window"],
        directions: Float[Tensor, "feature width"],
        peaks: Float[Tensor, " feature"],
    ):
        super().__init__()
        self.model = backbone.model
        self.features = features
        self.at = f"{backbone.layout.blocks}.{backbone.block}"
        self.prefix = backbone.prefix_tokens
        for name, tensor in {
            "mean": torch.tensor(backbone.mean, device=peaks.device).view(3, 1, 1),
            "std": torch.tensor(backbone.std, device=peaks.device).view(3, 1, 1),
            "windows": windows,
            "directions": directions,
            "scale": peaks / features.strength,
        }.items():
            self.register_buffer(name, tensor)

    def forward(self, pixel_values: Float[Tensor, "image 3 row column"], **options: Any) -> Any:
        """The model's output for normalised pixels, with the features planted at the block."""
        views = to_bytes(pixel_values.float() * self.std + self.mean)
        planted = [self.features(view, self.windows) for view in views]
        patches = [(view.codes + view.error) * self.scale @ self.directions for view in planted]
        addition = torch.stack([torch.cat([rows.new_zeros(self.prefix, rows.shape[1]), rows]) for rows in patches])

        def write(module: nn.Module, given: tuple[Any, ...], output: Any) -> Any:
            if isinstance(output, tuple):
                return (output[0] + addition.to(output[0].dtype), *output[1:])
            return output + addition.to(output.dtype)

        # Before all other hooks, so that whoever reads the block reads it with the features in it.
        hook = self.model.get_submodule(self.at).register_forward_hook(write, prepend=True)
        try:
            return self.model(pixel_values, **options)
        finally:
            hook.remove()
