"""A model of planted features, and the dictionary that belongs to it."""

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
    """An SAE that reads the given directions.

    Args:
        directions: ``[feature, width]``, of length 1.
        threshold: the value that each feature's code must exceed.
        mean: what tokens without the features have along each direction; 0 by default.
        name: the name of the SAE.

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
    """The dictionary with every direction turned at random by the same angle, as an SAE with errors would have it.

    Encoder and decoder turn together. Biases stay; thresholds are multiplied by the cosine, as the codes are.

    Args:
        sae: a dictionary with directions of length 1 and a threshold each.
        cosine: cosine of the angle between the old and the new direction, above 0 and at most 1.
        seed: seed of the new directions.

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
"""Wavelengths of the smooth code of position, each with a sine and a cosine for the row and for the column."""

# A window is open on patches where it is above this; rounding leaves less on the others.
_OPEN = 1e-3
_NORM_FIRST = 0.75
"""Share of the outliers' norm that is written with the global features; the next block writes the rest."""

WINDOW = 0.25
"""Length of a window's direction in the position table, in peaks. Our choice: short, since otherwise the number of
windows that overlap at a patch would decide how long its tokens are."""
CONTENT = 0.7
"""What the embedding writes for each standard deviation that a patch differs from the mean patch, in peaks. Our choice,
along one direction: norms at equal pixels then correlate as in a real model, and an SAE has little to learn from it."""
_SATURATED = 3.0
"""Limit of a descriptor, in standard deviations, so that no patch becomes an outlier by its pixels alone."""

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

    All directions are orthonormal. The embedding writes the position, and how much the patch differs from the mean
    patch, which decides how long normal tokens are, as the pixels do in a real model (docs/outliers.md). Block 0 writes
    the local features; block 1 the position-bound and diffuse ones; block 2 the global ones on the outlier patches,
    which lose most of their own content, and three quarters of the outliers' norm; block 3 the rest of that norm.
    Windows are read from the position table. CLS holds the strength of every global feature.

    Args:
        features: the planted features.
        windows: where the features that depend on position may fire, ``[patch, window]``.
    """

    def __init__(self, features: PlantedFeatures, windows: Float[Tensor, "patch window"]):
        super().__init__()
        config = features.config
        waves = position_waves(config.grid)
        counts = [config.features, windows.shape[1], waves.shape[1], 1, 1]
        if sum(counts) > config.width:
            raise InfoscopeError(
                f"planted tokens of width {config.width} are too short for {sum(counts)} directions: plant fewer "
                f"features or choose a width of at least {sum(counts)}"
            )
        random = torch.Generator().manual_seed(config.seed + 2)
        basis = torch.linalg.qr(torch.randn(config.width, config.width, generator=random)).Q.T[: sum(counts)]
        planted, window, wave, outlier, content = basis.split(counts)
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
        # Products with orthogonal directions are 0 only up to rounding, which must not open a window.
        windows = torch.where(windows > _OPEN, windows, 0.0)
        planted = [self.features(view, windows) for view in to_bytes(pixel_values)]
        stream = torch.stack([self._embed(view) for view in planted])
        for number, block in enumerate(self.blocks):
            stream = block(stream, torch.stack([self._written(number, view) for view in planted]))
        return stream

    # Views are computed one by one, since the rounding of a product may depend on the other rows of its batch.
    def _embed(self, view: PlantedView) -> Float[Tensor, "token width"]:
        return self._tokens(view.background @ self.directions + self._content(view)) + self.position

    def _content(self, view: PlantedView) -> Float[Tensor, "patch width"]:
        """How much each patch differs from the mean patch, along one direction; equal pixels give equal length."""
        difference = (_SATURATED * torch.tanh(view.descriptors / _SATURATED)).norm(dim=1)
        written: Tensor = CONTENT * difference[:, None] * self.content_direction
        return written

    def _written(self, number: int, view: PlantedView) -> Float[Tensor, "token width"]:
        """What a block adds to the stream of one view."""
        planted, config, outlier = self.features, self.features.config, view.outlier
        patches = view.codes.new_zeros(config.patches, config.width)
        if number == 0:
            patches += (view.unmuted + view.error)[:, planted.local] @ self.directions[planted.local]
        elif number == 1:
            rest = slice(planted.position.start, planted.diffuse.stop)
            patches += (view.unmuted + view.error)[:, rest] @ self.directions[rest]
        else:
            share = _NORM_FIRST if number == 2 else 1 - _NORM_FIRST
            patches[outlier] += share * config.outlier_norm * self.outlier_direction
        if number != 2:
            return self._tokens(patches)
        # Features that fire falsely do so on any patch; otherwise the global features are on the outlier patches.
        changed = view.codes - view.unmuted
        for late in (planted.global_, planted.mixed):
            changed[:, late] = (view.codes + view.error)[:, late]
        touched = changed.any(1)
        patches[touched] += changed[touched] @ self.directions
        embedded = self.position[PREFIX_TOKENS:] + self._content(view)
        patches[outlier] -= (1 - config.outlier_keeps) * embedded[outlier]
        written = self._tokens(patches)
        written[0] = view.codes[:, planted.global_].amax(0) @ self.directions[planted.global_]
        return written

    def _tokens(self, patches: Float[Tensor, "patch width"]) -> Float[Tensor, "token width"]:
        """All tokens: the patches after prefix tokens of zeros."""
        return torch.cat([patches.new_zeros(PREFIX_TOKENS, patches.shape[1]), patches])


class PlantedBlock(nn.Module):
    """A residual block, at which the stream can be read as in any other model."""

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
    """A smooth code of position: sines and cosines of row and column at four wavelengths.

    Example:
        >>> position_waves(14).shape
        torch.Size([196, 16])
    """
    place = torch.arange(grid, dtype=torch.float32)
    angle = place[:, None] * torch.pi / grid / 2.0 ** torch.arange(_WAVES)
    line = torch.cat([angle.sin(), angle.cos()], dim=1)
    rows, columns = line[:, None].expand(-1, grid, -1), line[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], dim=2).reshape(grid * grid, -1) / 2
