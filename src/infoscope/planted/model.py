"""A model of transformer shape around planted features: a position table, a CLS token, blocks that add to a stream."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from infoscope.backbones.families import Family
from infoscope.errors import InfoscopeError
from infoscope.planted.features import PlantedFeatures, PlantedView

BLOCKS = 4
PREFIX_TOKENS = 1
_WAVES = 4
"""Wavelengths of the part of the position table that every patch has, a sine and cosine each a row and column."""

_OPEN = 1e-3

FAMILY = Family(
    name="planted",
    model_types=("planted",),
    model_class="PlantedModel",
    blocks="blocks",
    position_table="position",
    final_norm=None,
    normalisation=((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
)


class PlantedModel(nn.Module):
    """Tokens are the sum of code times direction over the planted features, noise, position, and the outliers' norm.

    All directions are orthonormal. The blocks write, one after the other: 0 the local features; 1 the position-bound
    and the diffuse ones; 2 the global ones on the outlier patches, which lose most of what else they hold, and half of
    the outliers' norm; 3 the other half. Windows of position are read from the position table. CLS holds the strength
    of every global feature.

    Args:
        features: the planted features.
        windows: where those that depend on position may fire, ``[patch, window]``.
    """

    def __init__(self, features: PlantedFeatures, windows: Float[Tensor, "patch window"]):
        super().__init__()
        config = features.config
        waves = position_waves(config.grid)
        parts = [config.features, windows.shape[1], waves.shape[1], 1]
        if sum(parts) > config.width:
            raise InfoscopeError(
                f"planted tokens of width {config.width} are too short for {sum(parts)} directions: plant fewer "
                f"features or choose a width of at least {sum(parts)}"
            )
        random = torch.Generator().manual_seed(config.seed + 2)
        basis = torch.linalg.qr(torch.randn(config.width, config.width, generator=random)).Q.T[: sum(parts)]
        planted, window, wave, outlier = basis.split(parts)
        self.features = features
        self.directions = _weight(planted)
        self.window_directions = _weight(window)
        self.outlier_direction = _weight(outlier[0])
        self.position = _weight(torch.cat([torch.zeros(PREFIX_TOKENS, config.width), windows @ window + waves @ wave]))
        self.blocks = nn.ModuleList(PlantedBlock() for _ in range(BLOCKS))

    def forward(self, pixel_values: Float[Tensor, "image 3 row column"]) -> Float[Tensor, "image token width"]:
        """All tokens after the last block.

        Args:
            pixel_values: pixels on the scale 0..1.
        """
        windows = self.position[PREFIX_TOKENS:] @ self.window_directions.T
        # What rounding leaves of a product with an orthogonal direction opens no window.
        windows = torch.where(windows > _OPEN, windows, 0.0)
        found = [self.features(view, windows) for view in to_bytes(pixel_values)]
        stream = torch.stack([self._embed(view) for view in found])
        for number, block in enumerate(self.blocks):
            stream = block(stream, torch.stack([self._written(number, view) for view in found]))
        return stream

    # Each view by itself: a product over a batch may be rounded otherwise than the same rows in another batch.
    def _embed(self, view: PlantedView) -> Float[Tensor, "token width"]:
        return self._tokens(view.background @ self.directions) + self.position

    def _written(self, number: int, view: PlantedView) -> Float[Tensor, "token width"]:
        """What a block adds to the stream of one view."""
        planted, config, held = self.features, self.features.config, view.outlier
        patches = view.codes.new_zeros(config.patches, config.width)
        if number == 0:
            patches += (view.unmuted + view.error)[:, planted.local] @ self.directions[planted.local]
        elif number == 1:
            rest = slice(planted.position.start, planted.diffuse.stop)
            patches += (view.unmuted + view.error)[:, rest] @ self.directions[rest]
        else:
            patches[held] += config.outlier_norm / 2 * self.outlier_direction
        if number != 2:
            return self._tokens(patches)
        # What is false fires wherever it does; all else of the global features is on the outlier patches.
        changed = view.codes - view.unmuted
        changed[:, planted.global_] = (view.codes + view.error)[:, planted.global_]
        some = changed.any(1)
        patches[some] += changed[some] @ self.directions
        patches[held] -= (1 - config.outlier_keeps) * self.position[PREFIX_TOKENS:][held]
        written = self._tokens(patches)
        written[0] = view.codes[:, planted.global_].amax(0) @ self.directions[planted.global_]
        return written

    def _tokens(self, patches: Float[Tensor, "patch width"]) -> Float[Tensor, "token width"]:
        """With an empty prefix in front."""
        return torch.cat([patches.new_zeros(PREFIX_TOKENS, patches.shape[1]), patches])


class PlantedBlock(nn.Module):
    """A residual block: where the stream can be read, as in any other model."""

    def forward(
        self, stream: Float[Tensor, "image token width"], written: Float[Tensor, "image token width"]
    ) -> Float[Tensor, "image token width"]:
        """The stream after the block."""
        return stream + written


def to_bytes(pixels: Float[Tensor, "image 3 row column"]) -> UInt8[Tensor, "image row column 3"]:
    """The 8-bit views behind pixels on the scale 0..1."""
    return (pixels.float() * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _weight(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.contiguous(), requires_grad=False)


def position_waves(grid: int) -> Float[Tensor, "patch wave"]:
    """Sines and cosines of row and column, of four wavelengths: a code of position that is smooth.

    Example:
        >>> position_waves(14).shape
        torch.Size([196, 16])
    """
    place = torch.arange(grid, dtype=torch.float32)
    angle = place[:, None] * torch.pi / grid / 2.0 ** torch.arange(_WAVES)
    line = torch.cat([angle.sin(), angle.cos()], dim=1)
    rows, columns = line[:, None].expand(-1, grid, -1), line[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], dim=2).reshape(grid * grid, -1) / 2
