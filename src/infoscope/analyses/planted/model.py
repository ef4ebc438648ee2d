"""A planted backbone and the dictionary that belongs to it."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from infoscope.analyses.planted.features import PlantedFeatures, PlantedView
from infoscope.backbones.families import Family
from infoscope.dictionaries.activations import JumpReLU
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError


def read_directions(
    directions: Float[Tensor, "feature width"],
    threshold: Float[Tensor, " feature"],
    mean: Float[Tensor, " feature"] | None = None,
    name: str = "planted directions",
) -> SparseAutoencoder:
    """The SAE that reads directions.

    Args:
        directions: ``[feature, width]``, of length 1.
        threshold: what each feature's code must exceed.
        mean: what tokens without the features read in each direction; nothing by default.
        name: what it is called.

    Example:
        >>> sae = read_directions(torch.eye(2, 3), torch.full((2,), 0.5))
        >>> sae.encode(torch.tensor([[1.0, 0.25, 7.0]])).tolist()
        [[1.0, 0.0]]
    """
    bias = torch.zeros_like(threshold) if mean is None else -mean
    return SparseAutoencoder(
        directions.T.contiguous(),
        bias,
        directions,
        -bias @ directions,
        JumpReLU(threshold.detach()),
        name=name,
    )


def turned(sae: SparseAutoencoder, cosine: float, seed: int = 0) -> SparseAutoencoder:
    """The same dictionary with every direction turned at random, each by the same angle: the error of an SAE.

    Encoder and decoder turn together; biases and thresholds stay, the latter times the cosine, as the codes do.

    Args:
        sae: a dictionary with directions of length 1 and a threshold each.
        cosine: of the angle between the old and the new direction, above 0 to 1.
        seed: of where they turn.

    Raises:
        InfoscopeError: the cosine is out of range, or the dictionary has no thresholds.

    Example:
        >>> sae = read_directions(torch.eye(2, 64), torch.full((2,), 0.5))
        >>> [round(cosine, 4) for cosine in (turned(sae, 0.8).W_dec * sae.W_dec).sum(1).tolist()]
        [0.8, 0.8]
    """
    if not 0 < cosine <= 1:
        raise InfoscopeError(f"cosine {cosine} is out of range: above 0 to 1; choose one")
    if not isinstance(sae.activation, JumpReLU):
        raise InfoscopeError(f"SAE {sae.name} has no thresholds to turn with: take one of planted directions")
    away = torch.randn(sae.W_dec.shape, generator=torch.Generator().manual_seed(seed)).to(sae.W_dec.device)
    away -= (away * sae.W_dec).sum(1, keepdim=True) * sae.W_dec
    away /= away.norm(dim=1, keepdim=True)
    directions = cosine * sae.W_dec + (1 - cosine**2) ** 0.5 * away
    return SparseAutoencoder(
        directions.T.contiguous(),
        sae.b_enc,
        directions,
        sae.b_dec,
        sae.activation.scaled(cosine),
        name=f"{sae.name}, turned to a cosine of {cosine:g}",
    )


BLOCKS = 4
PREFIX_TOKENS = 1
_WAVES = 4
"""Wavelengths of the part of the position table that every patch has, a sine and cosine each a row and column."""

_OPEN = 1e-3
_NORM_FIRST = 0.75
"""Share of the outliers' norm that is written with the global features; the next block adds the rest."""

WINDOW = 0.25
"""Length of a window's direction in the position table, in peaks. Our choice: short, or which windows overlap at a
place would decide how long its tokens are."""
CONTENT = 0.7
"""What the embedding writes for each standard deviation by which a patch differs from the mean one, in peaks. Our
choice, of one direction: norms at equal pixels then correlate as in a real model, and an SAE has little to learn."""
_SATURATED = 3.0
"""Standard deviations that a descriptor comes near: no patch is so odd that its pixels alone make it an outlier."""

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
    """Tokens are the sum of code times direction over the planted features, noise, embedding, and the outliers' norm.

    All directions are orthonormal. The embedding writes position, and how far the patch looks from the mean one. The
    latter decides how long normal tokens are: in a real model, too, their pixels do (docs/outliers.md). The blocks
    write, one after the other: 0 the local features; 1 the position-bound and the diffuse ones; 2 the global ones on
    the outlier patches, which lose most of what else they hold, and three quarters of the outliers' norm; 3 the rest of
    it. Windows of position are read from the position table. CLS holds the strength of every global feature.

    Args:
        features: the planted features.
        windows: where those that depend on position may fire, ``[patch, window]``.
    """

    def __init__(self, features: PlantedFeatures, windows: Float[Tensor, "patch window"]):
        super().__init__()
        config = features.config
        waves = position_waves(config.grid)
        parts = [config.features, windows.shape[1], waves.shape[1], 1, 1]
        if sum(parts) > config.width:
            raise InfoscopeError(
                f"planted tokens of width {config.width} are too short for {sum(parts)} directions: plant fewer "
                f"features or choose a width of at least {sum(parts)}"
            )
        random = torch.Generator().manual_seed(config.seed + 2)
        basis = torch.linalg.qr(torch.randn(config.width, config.width, generator=random)).Q.T[: sum(parts)]
        planted, window, wave, outlier, content = basis.split(parts)
        self.features = features
        self.directions = _weight(planted)
        self.window_directions = _weight(window / WINDOW)
        self.outlier_direction = _weight(outlier[0])
        self.content_direction = _weight(content[0])
        table = WINDOW * windows @ window + waves @ wave
        self.position = _weight(torch.cat([torch.zeros(PREFIX_TOKENS, config.width), table]))
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
        return self._tokens(view.background @ self.directions + self._content(view)) + self.position

    def _content(self, view: PlantedView) -> Float[Tensor, "patch width"]:
        """How far each patch looks from the mean one, along one direction: equal pixels, equal length."""
        shown = (_SATURATED * torch.tanh(view.descriptors / _SATURATED)).norm(dim=1)
        written: Tensor = CONTENT * shown[:, None] * self.content_direction
        return written

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
            share = _NORM_FIRST if number == 2 else 1 - _NORM_FIRST
            patches[held] += share * config.outlier_norm * self.outlier_direction
        if number != 2:
            return self._tokens(patches)
        # What is false fires wherever it does; all else of the global features is on the outlier patches.
        changed = view.codes - view.unmuted
        changed[:, planted.global_] = (view.codes + view.error)[:, planted.global_]
        some = changed.any(1)
        patches[some] += changed[some] @ self.directions
        embedded = self.position[PREFIX_TOKENS:] + self._content(view)
        patches[held] -= (1 - config.outlier_keeps) * embedded[held]
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
