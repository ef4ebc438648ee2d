"""What disturbs planted codes: places that are lost, codes astray, whole maps that vary, and mass that is parked."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor


class CodeDraws(Protocol):
    """What is drawn for a view; see `infoscope.analyses.planted.features.Draws`."""

    @property
    def lost(self) -> Float32[np.ndarray, "patch feature"]:
        """Uniform on 0..1."""

    @property
    def astray(self) -> Float32[np.ndarray, "patch feature"]:
        """Uniform on 0..1."""

    @property
    def gain(self) -> Float32[np.ndarray, " feature"]:
        """Standard normal."""


def each_feature(given: float | tuple[float, ...], features: int, random: torch.Generator) -> Float[Tensor, " feature"]:
    """A number for each feature: the same for all, drawn from a range, or as it stands.

    Example:
        >>> random = torch.Generator().manual_seed(0)
        >>> each_feature(0.5, 3, random).tolist()
        [0.5, 0.5, 0.5]
        >>> drawn = each_feature((0.2, 0.4), 1000, random)
        >>> round(float(drawn.min()), 2), round(float(drawn.max()), 2)
        (0.2, 0.4)
    """
    if not isinstance(given, tuple):
        return torch.full((features,), float(given))
    if len(given) == features:
        return torch.tensor(given, dtype=torch.float32)
    low, high = given
    return low + (high - low) * torch.rand(features, generator=random)


def disturb(
    codes: Float[Tensor, "patch feature"],
    draws: CodeDraws,
    dropout: Float[Tensor, " feature"],
    dropout_at_peak: Float[Tensor, " feature"],
    stray: Float[Tensor, " feature"],
    gain: Float[Tensor, " feature"],
) -> None:
    """Lose codes, let features fire astray and change the strength of whole maps, in place.

    A code of relative height h, of its view's largest, is lost with the chance dropout + h (dropout_at_peak - dropout).
    Where a feature is off, it fires with the chance ``stray``, as strongly as a random patch on which it is on.

    Args:
        codes: of a view, 0 or more.
        draws: of the same view.
        dropout: chance of losing a code near 0.
        dropout_at_peak: chance of losing the largest one.
        stray: rate of codes astray.
        gain: standard deviation of the logarithm of a map's factor.

    Example:
        >>> from infoscope.analyses.planted.features import draw
        >>> draws, codes = draw(np.zeros((8, 8, 3), np.uint8), 0, 1000, 1), torch.ones(1000, 1)
        >>> half = torch.full((1,), 0.5)
        >>> disturb(codes, draws, half, half, 0 * half, 0 * half)
        >>> 450 < int(codes.sum()) < 550
        True
    """
    on = codes > 0
    if bool((dropout > 0).any() | (dropout_at_peak > 0).any() | (stray > 0).any()):
        lost, astray = (torch.from_numpy(drawn).to(codes.device) for drawn in (draws.lost, draws.astray))
        height = codes / codes.amax(0).clamp_min(1e-12)
        away = ~on & (astray < stray) & on.any(0)
        # Under its rate, a uniform number over the rate is uniform again.
        chosen = (astray / stray.clamp_min(1e-12)).clamp(0, 1 - 1e-6) * on.sum(0)
        strengths = codes.sort(dim=0, descending=True).values.gather(0, chosen.long())
        codes[lost < dropout + height * (dropout_at_peak - dropout)] = 0
        codes[away] = strengths[away]
    if bool((gain > 0).any()):
        codes *= torch.exp(gain * torch.from_numpy(draws.gain).to(codes.device))


def park(
    codes: Float[Tensor, "patch mixture"],
    whole: Float[Tensor, "patch mixture"],
    seats: Bool[Tensor, " patch"],
    share: Float[Tensor, " mixture"],
    parked_image: Bool[Tensor, " mixture"],
) -> Float[Tensor, "patch mixture"]:
    """Mixtures of local and parked.

    Args:
        codes: local codes of the mixtures, as the outlier patches leave them.
        whole: the same before the outlier patches lose anything.
        seats: the outlier patches.
        share: of a map's mass that is parked; NaN for a mixture over images.
        parked_image: of mixtures over images, whether this view is one in which they are parked.

    Returns:
        Codes with a share of the mass, or all of a parked image's, evenly on the seats. A map that is parked as a whole
        has the strength on each seat that its strongest patch had.

    Example:
        Half of the mass of four patches on one seat; and all of it:

        >>> codes, seats = torch.ones(4, 2), torch.arange(4) == 3
        >>> park(codes, codes, seats, torch.tensor([0.5, torch.nan]), torch.tensor([False, True])).T.tolist()
        [[1.0, 1.0, 1.0, 5.0], [0.0, 0.0, 0.0, 1.0]]
    """
    in_maps = ~share.isnan()
    part = torch.where(in_maps, share, 0.0)
    mass = whole.sum(0) * part / (1 - part).clamp_min(1e-6) / seats.sum()
    mixed = codes + seats[:, None] * mass
    moved = seats[:, None] * whole.amax(0)
    return torch.where(~in_maps & parked_image, moved, mixed)
