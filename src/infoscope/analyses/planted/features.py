"""Planted features: what each responds to, and where it fires."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn

from infoscope.analyses.planted.config import PlantedConfig
from infoscope.analyses.planted.noise import Draws, disturb, draw, park

_WAVES = 4
"""Cosines per side of the ramps and ridges, the constant one among them."""
_ANGLES = (0, 45, 90, 135)

_COLOURS = ("brightness", "red-green", "blue-yellow", "saturation", "darkest", "brightest", "contrast")
_RIDGES = tuple(f"wave {row},{column}" for row in range(_WAVES) for column in range(_WAVES) if row or column)

DESCRIPTORS: tuple[str, ...] = (*_COLOURS, *(f"edges {angle}°" for angle in _ANGLES), "texture", *_RIDGES)
"""Names of the descriptors, in order."""
STATISTICS: tuple[str, ...] = (
    *(f"mean {name}" for name in DESCRIPTORS[: -len(_RIDGES)]),
    *(f"spread of {name}" for name in DESCRIPTORS),
)
"""Names of the statistics of a view. The means of waves are not among them: they depend on where in its patch an edge
lies, which differs between crops of the same picture."""
CONTRAST = _COLOURS.index("contrast")
"""The descriptor that tells flat patches from others: the standard deviation of a patch's brightness."""


def describe(view: UInt8[Tensor, "row column 3"], patch_size: int) -> Float[Tensor, "patch descriptor"]:
    """The descriptors of each patch of a view.

    Args:
        view: 8-bit RGB, ``[pn, pn, 3]``.
        patch_size: n.

    Returns:
        ``[p * p, descriptor]``, patches row-major, in the order of `DESCRIPTORS`, float32. Equal patches have equal
        descriptors wherever they are.

    Example:
        >>> stripes = torch.zeros(16, 16, 3, dtype=torch.uint8); stripes[:, 8:] = 255
        >>> described = dict(zip(DESCRIPTORS, describe(stripes, 8)[0].tolist()))   # the first patch is black
        >>> described["brightness"], described["contrast"]
        (0.0, 0.0)
        >>> described = dict(zip(DESCRIPTORS, describe(stripes, 16)[0].tolist()))  # one patch with an upright edge
        >>> round(described["brightness"], 3), described["edges 0°"] > described["edges 90°"]
        (0.5, True)
    """
    n = patch_size
    p = view.shape[0] // n
    # Colours are separate arrays, since reductions over an axis of length three are slow.
    red, green, blue = (
        channel.reshape(p, n, p, n).permute(0, 2, 1, 3).reshape(p * p, n, n).to(torch.float32) / 255
        for channel in view.unbind(-1)
    )
    luma = (red + green + blue) / 3
    colour = [channel.mean((1, 2)) for channel in (red, green, blue)]
    saturation = torch.maximum(torch.maximum(red, green), blue) - torch.minimum(torch.minimum(red, green), blue)
    down = (luma[:, 1:, :-1] - luma[:, :-1, :-1]).flatten(1)
    across = (luma[:, :-1, 1:] - luma[:, :-1, :-1]).flatten(1)
    edges = [
        (math.cos(math.radians(angle)) * across + math.sin(math.radians(angle)) * down).abs().mean(1).sqrt()
        for angle in _ANGLES
    ]
    flat = luma.flatten(1)
    waves = _waves(n)
    ridges = flat @ waves
    # What remains of the patch without its mean and the waves.
    texture = (flat - flat.mean(1, keepdim=True) - ridges @ waves.T).square().mean(1).sqrt().sqrt()
    return torch.stack(
        [
            flat.mean(1),
            colour[0] - colour[1],
            colour[2] - (colour[0] + colour[1]) / 2,
            saturation.mean((1, 2)),
            flat.amin(1),
            flat.amax(1),
            flat.var(1, correction=0).sqrt(),
            *edges,
            texture,
            *(ridges / n).unbind(1),
        ],
        dim=1,
    )


def view_statistics(z: Float[Tensor, "*view patch descriptor"]) -> Float[Tensor, "*view statistic"]:
    """Means and spreads over a view's patches, in the order of `STATISTICS`.

    Example:
        >>> view_statistics(torch.ones(3, 4, len(DESCRIPTORS))).shape, len(STATISTICS)
        (torch.Size([3, 39]), 39)
    """
    means = z[..., : len(DESCRIPTORS) - len(_RIDGES)].mean(-2)
    return torch.cat([means, z.var(-2, correction=0).sqrt()], dim=-1)


@lru_cache(maxsize=8)
def _waves(n: int) -> Float[Tensor, "pixel wave"]:
    """Orthonormal products of cosines over a patch (DCT-II), without the constant."""
    pixel = torch.arange(n, dtype=torch.float64) + 0.5
    cosines = torch.stack([torch.cos(math.pi * wave * pixel / n) for wave in range(_WAVES)])
    cosines = cosines / cosines.norm(dim=1, keepdim=True)
    products = torch.einsum("ui,vj->uvij", cosines, cosines).reshape(_WAVES**2, n * n)[1:]
    return products.T.contiguous().to(torch.float32)


@dataclass(frozen=True)
class PlantedView:
    """What is planted into one view.

    Attributes:
        codes: true codes, ``[patch, feature]``, without noise.
        unmuted: the codes before the outlier patches lose most of their own content.
        error: noise on the codes that are on, ``[patch, feature]``.
        background: noise on the other codes, ``[patch, feature]``.
        outlier: which patches are outliers.
        placed: which features fire falsely, on a patch where they do not belong, ``[feature]``.
        descriptors: normalised descriptors of each patch, ``[patch, descriptor]``.
    """

    codes: Float[Tensor, "patch feature"]
    unmuted: Float[Tensor, "patch feature"]
    error: Float[Tensor, "patch feature"]
    background: Float[Tensor, "patch feature"]
    outlier: Bool[Tensor, " patch"]
    placed: Bool[Tensor, " feature"]
    descriptors: Float[Tensor, "patch descriptor"]


class PlantedFeatures(nn.Module):
    """Features by construction. Made by `infoscope.analyses.planted.calibration.calibrate`.

    With z the normalised descriptors of a patch and t the normalised statistics of a view (mean and spread of its
    patches' descriptors), a ramp being 0 up to ``low``, 1 from ``high`` and straight between:

    - a local feature has ramp(z . weight), from the patch's own pixels;
    - the others have one strength for the whole view, a = ramp(t . weight): a diffuse feature on every patch, a
      position-bound one on the patches of a window, a global one on the outlier patches. These are drawn from the
      flattest quarter of the view by a hash of its layout;
    - a mixture is a local feature that is parked on such patches with a share of a map's mass, or in a share of images.

    All tensors are buffers, so that they move with the model and are part of its hash.
    """

    descriptor_mean: Tensor
    descriptor_scale: Tensor
    statistic_mean: Tensor
    statistic_scale: Tensor
    local_weight: Tensor
    local_low: Tensor
    local_high: Tensor
    image_weight: Tensor
    image_low: Tensor
    image_high: Tensor
    false_weight: Tensor
    false_limit: Tensor
    window_of: Tensor
    usual_patches: Tensor
    strength: Tensor
    mixed_weight: Tensor
    mixed_low: Tensor
    mixed_high: Tensor
    parks_weight: Tensor
    parks_limit: Tensor
    parked_share: Tensor
    graded: Tensor
    dropout: Tensor
    dropout_at_peak: Tensor
    stray: Tensor
    gain: Tensor
    spread: Tensor

    def __init__(self, config: PlantedConfig, tensors: dict[str, Tensor]):
        super().__init__()
        self.config = config
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)
        ends = torch.tensor(list(config.counts.values())).cumsum(0).tolist()
        self.local, self.global_, self.position, self.diffuse, self.in_maps, self.over_images = (
            slice(start, end) for start, end in zip([0, *ends], ends, strict=False)
        )
        self.mixed = slice(self.in_maps.start, self.over_images.stop)

    @property
    def features(self) -> int:
        """Number of features."""
        return self.config.features

    def normalised(self, view: UInt8[Tensor, "row column 3"]) -> Float[Tensor, "patch descriptor"]:
        """z: the descriptors of each patch, with mean 0 and spread 1 over the photographs of the calibration."""
        return (describe(view, self.config.patch_size) - self.descriptor_mean) / self.descriptor_scale

    def statistics(self, z: Float[Tensor, "patch descriptor"]) -> Float[Tensor, " statistic"]:
        """t: mean and spread over the patches, normalised in the same way."""
        return (view_statistics(z) - self.statistic_mean) / self.statistic_scale

    def forward(self, view: UInt8[Tensor, "row column 3"], windows: Float[Tensor, "patch window"]) -> PlantedView:
        """What is planted into a view.

        Args:
            view: 8-bit RGB, ``[pn, pn, 3]``.
            windows: on which patches the features that depend on position may fire, 0 to 1; `window_of` gives the
                window of each feature, -1 for none.
        """
        config, device = self.config, self.strength.device
        draws = draw(view.cpu().numpy(), config.seed, config.patches, self.features)
        z = self.normalised(view)
        statistics = self.statistics(z)
        amplitude = ramp(statistics @ self.image_weight, self.image_low, self.image_high)
        seats = self._seats(z, draws)

        codes = torch.zeros(config.patches, self.features, device=device)
        codes[:, self.local] = ramp(z @ self.local_weight, self.local_low, self.local_high)
        codes[:, self.local.stop : self.diffuse.stop] = amplitude
        codes[:, self.mixed] = ramp(z @ self.mixed_weight, self.mixed_low, self.mixed_high)
        windowed = self.window_of >= 0
        codes[:, windowed] *= windows[:, self.window_of[windowed]]
        codes[:, self.global_] *= seats
        unmuted = codes.clone()
        outlier = seats.any(1)
        if self.mixed.stop > self.mixed.start:
            drawn = self._drawn_seats(z, draws)
            outlier |= drawn
        not_global = torch.ones(self.features, dtype=torch.bool, device=device)
        not_global[self.global_] = False
        codes[outlier[:, None] & not_global] *= config.outlier_keeps
        if self.mixed.stop > self.mixed.start:
            whole = unmuted[:, self.mixed].clone()
            parked_image = statistics @ self.parks_weight > self.parks_limit
            for values in (codes, unmuted):
                values[:, self.mixed] = park(values[:, self.mixed], whole, drawn, self.parked_share, parked_image)
        # What is parked may be many times as strong as the local part, which is not weak for that.
        peak = unmuted.amax(0)
        if self.mixed.stop > self.mixed.start:
            peak[self.mixed] = whole.amax(0)
        for values in (codes, unmuted):
            disturb(values, draws, self.dropout, self.dropout_at_peak, self.stray, self.gain, peak)

        placed = statistics @ self.false_weight > self.false_limit
        false = placed.nonzero().flatten()
        patch, height = torch.from_numpy(draws.place).to(device)[false], unmuted[:, false].amax(0)
        for values in (codes, unmuted):
            values[:, false] = 0
            values[patch, false] = height
        noise, on = torch.from_numpy(draws.noise).to(device) * self.strength, codes > 0
        return PlantedView(
            codes=codes * self.strength,
            unmuted=unmuted * self.strength,
            error=noise * on * self.spread,
            background=noise * ~on * config.background,
            outlier=outlier,
            placed=placed,
            descriptors=z,
        )

    def _seats(self, z: Float[Tensor, "patch descriptor"], draws: Draws) -> Bool[Tensor, "patch global"]:
        """The patches of the view that each global feature is on."""
        config = self.config
        count = config.counts["global"]
        flattest = z[:, CONTRAST].argsort(stable=True)
        seats = torch.zeros(config.patches, count, dtype=torch.bool, device=z.device)
        if draws.usual < config.same_patch:
            seats[self.usual_patches, : count // 2] = True
            seats[flattest[: config.outliers], count // 2 :] = True
        else:
            seats[self._drawn_seats(z, draws)] = True
        return seats

    def _drawn_seats(self, z: Float[Tensor, "patch descriptor"], draws: Draws) -> Bool[Tensor, " patch"]:
        """Patches drawn by the hash of the view's layout from its flattest quarter."""
        config = self.config
        flattest = z[:, CONTRAST].argsort(stable=True)
        order = torch.from_numpy(draws.order).to(z.device)
        flat = torch.zeros(config.patches, dtype=torch.bool, device=z.device)
        flat[flattest[: config.patches // 4]] = True
        drawn = torch.zeros_like(flat)
        drawn[order[flat[order]][: config.outliers]] = True
        return drawn


def ramp(
    values: Float[Tensor, "*item feature"], low: Float[Tensor, " feature"], high: Float[Tensor, " feature"]
) -> Float[Tensor, "*item feature"]:
    """0 up to ``low``, 1 from ``high``, straight between.

    Example:
        >>> ramp(torch.tensor([[0.0], [1.5], [3.0]]), torch.tensor([1.0]), torch.tensor([2.0])).flatten().tolist()
        [0.0, 0.5, 1.0]
    """
    return ((values - low) / (high - low)).clamp(0, 1)


def square_patches(top: int, left: int, side: int, grid: int) -> Int64[Tensor, " patch"]:
    """The patches of a square, row-major on the grid.

    Example:
        >>> square_patches(1, 0, 2, 4).tolist()
        [4, 5, 8, 9]
    """
    rows, columns = torch.arange(top, top + side), torch.arange(left, left + side)
    return (rows[:, None] * grid + columns).flatten()
