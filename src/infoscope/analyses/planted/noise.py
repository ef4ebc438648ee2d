"""What is random about a view of planted features: codes lost or astray, maps that vary, mass that is parked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """What is random about one view.

    Attributes:
        usual: uniform on 0..1; decides whether the outliers are on their usual patches.
        order: the patches in random order, ``[patch]``.
        place: a random patch for each feature, where it fires if it fires falsely.
        noise: standard normal, ``[patch, feature]``.
        lost: uniform on 0..1; a code is lost where this is under its chance, ``[patch, feature]``.
        astray: uniform on 0..1; a feature fires astray where this is under its rate, ``[patch, feature]``.
        gain: standard normal, ``[feature]``.
    """

    usual: float
    order: Int64[np.ndarray, " patch"]
    place: Int64[np.ndarray, " feature"]
    noise: Float32[np.ndarray, "patch feature"]
    lost: Float32[np.ndarray, "patch feature"]
    astray: Float32[np.ndarray, "patch feature"]
    gain: Float32[np.ndarray, " feature"]


def draw(view: UInt8[np.ndarray, "row column 3"], seed: int, patches: int, features: int) -> Draws:
    """The draws of a view, seeded by hashes.

    Where features are parked and where they fire falsely follows from the layout of the view: a shift changes it, and
    pixel noise does not, for what moves under pixel noise would be noise and no dependence on context. The noise of
    codes follows from every pixel.

    Example:
        >>> view = np.zeros((8, 8, 3), np.uint8)
        >>> first, again, other = (draw(v, 0, 4, 2) for v in (view, view.copy(), view + 1))
        >>> bool((first.noise == again.noise).all()), bool((first.noise == other.noise).any())
        (True, False)
    """
    placed, generator = (np.random.default_rng([seed, _digest(values)]) for values in (layout(view), view))
    return Draws(
        usual=float(placed.random()),
        order=placed.permutation(patches).astype(np.int64),
        place=placed.integers(patches, size=features).astype(np.int64),
        noise=generator.standard_normal((patches, features), dtype=np.float32),
        lost=generator.random((patches, features), dtype=np.float32),
        astray=generator.random((patches, features), dtype=np.float32),
        gain=generator.standard_normal(features, dtype=np.float32),
    )


def layout(view: UInt8[np.ndarray, "row column 3"]) -> UInt8[np.ndarray, "4 4"]:
    """The brightness of the parts of a view, on a coarse grid and in coarse steps.

    Pixel noise with a standard deviation of 2 moves a part of 56 x 56 pixels by 0.02, a shift by two patches by several
    levels; steps of 16 levels then change in 2 % of views under noise, and in nearly all under a shift.

    Example:
        >>> view = np.zeros((8, 8, 3), np.uint8); view[:4] = 200
        >>> layout(view)[:, 0].tolist(), bool((layout(view + 1) == layout(view)).all())
        ([12, 12, 0, 0], True)
    """
    rows, columns = (np.linspace(0, size, 5).astype(int)[:-1] for size in view.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(view.sum(2, dtype=np.float64), rows, axis=0), columns, axis=1)
    counts = np.outer(np.diff([*rows, view.shape[0]]), np.diff([*columns, view.shape[1]]))
    steps: UInt8[np.ndarray, "4 4"] = (sums / (3 * counts) // 16).astype(np.uint8)
    return steps


def _digest(values: np.ndarray) -> int:
    return int.from_bytes(hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=16).digest(), "little")


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
    draws: Draws,
    dropout: Float[Tensor, " feature"],
    dropout_at_peak: Float[Tensor, " feature"],
    stray: Float[Tensor, " feature"],
    gain: Float[Tensor, " feature"],
    peak: Float[Tensor, " feature"] | None = None,
) -> None:
    """Lose codes, let features fire astray and change the strength of whole maps, in place.

    A code of relative height h, at most 1, is lost with the chance dropout + h (dropout_at_peak - dropout).
    Where a feature is off, it fires with the chance ``stray``, as strongly as a random patch on which it is on.

    Args:
        codes: of a view, 0 or more.
        draws: of the same view.
        dropout: chance of losing a code near 0.
        dropout_at_peak: chance of losing the largest one.
        stray: rate of codes astray.
        gain: standard deviation of the logarithm of a map's factor.
        peak: what a code's height is relative to; by default its view's largest code.

    Example:
        >>> draws, codes = draw(np.zeros((8, 8, 3), np.uint8), 0, 1000, 1), torch.ones(1000, 1)
        >>> half = torch.full((1,), 0.5)
        >>> disturb(codes, draws, half, half, 0 * half, 0 * half)
        >>> 450 < int(codes.sum()) < 550
        True
    """
    on = codes > 0
    if bool((dropout > 0).any() | (dropout_at_peak > 0).any() | (stray > 0).any()):
        lost, astray = (torch.from_numpy(drawn).to(codes.device) for drawn in (draws.lost, draws.astray))
        height = (codes / (codes.amax(0) if peak is None else peak).clamp_min(1e-12)).clamp(max=1)
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
