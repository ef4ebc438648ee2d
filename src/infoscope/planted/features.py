"""The planted features: from a view's pixels to the code of every feature on every patch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn

from infoscope.planted.config import PlantedConfig
from infoscope.planted.descriptors import CONTRAST, describe, view_statistics
from infoscope.planted.draws import Draws, draw


@dataclass(frozen=True)
class PlantedView:
    """What is planted into one view.

    Attributes:
        codes: true codes, ``[patch, feature]``, without noise.
        unmuted: the same before the outlier patches lose what they hold of their own.
        error: what is added to the codes that are on, ``[patch, feature]``.
        background: what is added to the others, ``[patch, feature]``.
        outlier: which patches are outliers.
        placed: the features' false positives, ``[feature]``: those whose codes are not where they belong.
        descriptors: what each patch looks like, normalised, ``[patch, descriptor]``.
    """

    codes: Float[Tensor, "patch feature"]
    unmuted: Float[Tensor, "patch feature"]
    error: Float[Tensor, "patch feature"]
    background: Float[Tensor, "patch feature"]
    outlier: Bool[Tensor, " patch"]
    placed: Bool[Tensor, " feature"]
    descriptors: Float[Tensor, "patch descriptor"]


class PlantedFeatures(nn.Module):
    """Features by construction. Made by `infoscope.planted.calibration.calibrate`.

    With z the normalised descriptors of a patch and t the normalised statistics of a view (mean and spread of its
    patches' descriptors), a ramp being 0 up to ``low``, 1 from ``high`` and straight between:

    - local: ramp(z . weight), of the patch's own pixels;
    - of the others, the strength a = ramp(t . weight) is the view's:
      diffuse: a on every patch; position-bound: a on the patches of a window; global: a on the outlier patches, which
      are drawn among the flattest quarter of the view by a hash of all its pixels.

    All tensors are buffers, so that they go where the model goes and into its hash.
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

    def __init__(self, config: PlantedConfig, tensors: dict[str, Tensor]):
        super().__init__()
        self.config = config
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)
        ends = torch.tensor(list(config.counts.values())).cumsum(0).tolist()
        self.local, self.global_, self.position, self.diffuse = (
            slice(start, end) for start, end in zip([0, *ends], ends, strict=False)
        )

    @property
    def features(self) -> int:
        """How many there are."""
        return self.config.features

    def normalised(self, view: UInt8[Tensor, "row column 3"]) -> Float[Tensor, "patch descriptor"]:
        """z: the descriptors of each patch, of mean 0 and spread 1 over the photographs it was made on."""
        return (describe(view, self.config.patch_size) - self.descriptor_mean) / self.descriptor_scale

    def statistics(self, z: Float[Tensor, "patch descriptor"]) -> Float[Tensor, " statistic"]:
        """t: mean and spread over the patches, normalised likewise."""
        return (view_statistics(z) - self.statistic_mean) / self.statistic_scale

    def forward(self, view: UInt8[Tensor, "row column 3"], windows: Float[Tensor, "patch window"]) -> PlantedView:
        """What is planted into a view.

        Args:
            view: 8-bit RGB, ``[pn, pn, 3]``.
            windows: at which patches the features that depend on position may fire, 0 to 1; `window_of` has the
                window of each feature, -1 for none.
        """
        config, place = self.config, self.strength.device
        chance = draw(view.cpu().numpy(), config.seed, config.patches, self.features)
        z = self.normalised(view)
        statistics = self.statistics(z)
        amplitude = ramp(statistics @ self.image_weight, self.image_low, self.image_high)
        seats = self._seats(z, chance)

        codes = torch.zeros(config.patches, self.features, device=place)
        codes[:, self.local] = ramp(z @ self.local_weight, self.local_low, self.local_high)
        codes[:, self.local.stop :] = amplitude
        windowed = self.window_of >= 0
        codes[:, windowed] *= windows[:, self.window_of[windowed]]
        codes[:, self.global_] *= seats
        unmuted = codes.clone()
        outlier = seats.any(1)
        rest = torch.ones(self.features, dtype=torch.bool, device=place)
        rest[self.global_] = False
        codes[outlier[:, None] & rest] *= config.outlier_keeps

        placed = statistics @ self.false_weight > self.false_limit
        wrong = placed.nonzero().flatten()
        patch, height = torch.from_numpy(chance.place).to(place)[wrong], unmuted[:, wrong].amax(0)
        for kept in (codes, unmuted):
            kept[:, wrong] = 0
            kept[patch, wrong] = height
        noise, on = torch.from_numpy(chance.noise).to(place) * self.strength, codes > 0
        return PlantedView(
            codes=codes * self.strength,
            unmuted=unmuted * self.strength,
            error=noise * on * config.noise,
            background=noise * ~on * config.background,
            outlier=outlier,
            placed=placed,
            descriptors=z,
        )

    def _seats(self, z: Float[Tensor, "patch descriptor"], chance: Draws) -> Bool[Tensor, "patch global"]:
        """On which patches of the view each global feature sits."""
        config = self.config
        count = config.counts["global"]
        flattest = z[:, CONTRAST].argsort(stable=True)
        seats = torch.zeros(config.patches, count, dtype=torch.bool, device=z.device)
        if chance.usual < config.same_patch:
            seats[self.usual_patches, : count // 2] = True
            seats[flattest[: config.outliers], count // 2 :] = True
        else:
            order = torch.from_numpy(chance.order).to(z.device)
            quiet = torch.zeros(config.patches, dtype=torch.bool, device=z.device)
            quiet[flattest[: config.patches // 4]] = True
            seats[order[quiet[order]][: config.outliers]] = True
        return seats


def ramp(
    values: Float[Tensor, "*item feature"], low: Float[Tensor, " feature"], high: Float[Tensor, " feature"]
) -> Float[Tensor, "*item feature"]:
    """0 up to ``low``, 1 from ``high``, straight between.

    Example:
        >>> ramp(torch.tensor([[0.0], [1.5], [3.0]]), torch.tensor([1.0]), torch.tensor([2.0])).flatten().tolist()
        [0.0, 0.5, 1.0]
    """
    return ((values - low) / (high - low)).clamp(0, 1)


def block_patches(top: int, left: int, side: int, grid: int) -> Int64[Tensor, " patch"]:
    """The patches of a square block, row-major on the grid.

    Example:
        >>> block_patches(1, 0, 2, 4).tolist()
        [4, 5, 8, 9]
    """
    rows, columns = torch.arange(top, top + side), torch.arange(left, left + side)
    return (rows[:, None] * grid + columns).flatten()
