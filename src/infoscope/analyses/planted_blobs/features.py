"""The features of the second family: from the pixels of a view to its codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from infoscope.analyses.planted_blobs.config import BlobsConfig
from infoscope.analyses.planted_blobs.noise import CodeNoise, layout_chance, uniform, view_chance
from infoscope.analyses.planted_blobs.places import (
    flattest,
    landmarks,
    patch_spread,
    read_cells,
    read_looks,
    read_textures,
)

FAINTEST = 0.4
"""Strength of a blob or region that just fires; the strongest have 1. Our choice: a place is then on or off in both
crops, whatever the rounding."""
FLAT = 0.25
"""Seats that are drawn anew are drawn from this share of the patches, the flattest. Our choice, as registers are found
on flat background (Darcet et al. 2024)."""
KEPT = 0.5
"""What a seat keeps of the codes that its own pixels give. Our choice."""
PATCHY = 0.7
"""Share of the patches that a patchy diffuse feature is on in a view. Our choice: well above half of the overlap."""


@dataclass(frozen=True)
class BlobView:
    """What is planted into one view.

    Attributes:
        codes: true codes, ``[patch, feature]``.
        noisy: the same with the noise of this view.
        seat: which patches are seats of any parked feature.
        chance: what else of the view is to be drawn.
    """

    codes: Float[Tensor, "patch feature"]
    noisy: Float[Tensor, "patch feature"]
    seat: Bool[Tensor, " patch"]
    chance: np.random.Generator


class BlobFeatures(nn.Module):
    """All features, in this order: blobs, textures, parked, position-bound, diffuse, mixtures within maps, over images.

    The local part of a mixture is a blob too. Made by `infoscope.analyses.planted_blobs.calibration.calibrate_blobs`.

    Args:
        config: the settings.
        blobs: how many local features are blobs.
        tensors: the buffers.
    """

    filters: Tensor
    blob_ends: Tensor
    bump: Tensor
    level: Tensor
    texture_weight: Tensor
    texture_centre: Tensor
    texture_ends: Tensor
    look_weight: Tensor
    look_centre: Tensor
    look_ends: Tensor
    false_weight: Tensor
    false_limit: Tensor
    wrong_bump: Tensor
    rate_of: Tensor
    homes: Tensor
    shapes: Tensor
    parks_weight: Tensor
    parks_limit: Tensor
    share: Tensor
    lost: Tensor
    lost_at_peak: Tensor
    stray: Tensor
    gain: Tensor
    error: Tensor

    def __init__(self, config: BlobsConfig, blobs: int, tensors: dict[str, Tensor]):
        super().__init__()
        self.config, self.blobs = config, blobs
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.contiguous())

    def forward(self, view: UInt8[Tensor, "row column 3"]) -> BlobView:
        """What is planted into a view, 8-bit RGB ``[pn, pn, 3]``."""
        config = self.config
        chance, placing = view_chance(view, config.seed), layout_chance(view, config.seed)
        looks = (read_looks(view) - self.look_centre[0]) / self.look_centre[1]
        _, parked, bound, diffuse, maps, _ = config.numbers
        strength = rise(looks @ self.look_weight, self.look_ends)
        of_parked, of_bound, of_diffuse = torch.split(strength, [parked, bound, diffuse], dim=-1)
        seats = self._seats(patch_spread(view, config.grid), placing)

        blobs = self._blobs(view)
        single, mixed = blobs[:, : self.blobs], blobs[:, self.blobs :]
        textures = (read_textures(view, config.grid) - self.texture_centre[0]) / self.texture_centre[1]
        regions = step(textures @ self.texture_weight, self.texture_ends)
        patchy = uniform(placing, len(regions), diffuse).to(view.device) < PATCHY
        patchy[:, ::2] = True
        weight = 0.3 + 0.7 * uniform(placing, len(regions), parked).to(view.device)
        groups = seats[:, :-1].any(1) if parked else torch.zeros_like(seats[:, 0])
        seat = groups | seats[:, -1] if mixed.shape[1] else groups
        kept = torch.where(seat, KEPT, 1.0)[:, None]
        codes = torch.cat(
            [
                single * kept,
                regions * kept,
                seats[:, self.rate_of].float() * weight * of_parked,
                self.shapes.T * of_bound * kept,
                patchy * of_diffuse * kept,
                self._mixed(mixed, mixed * kept, seats[:, -1], looks, maps),
            ],
            dim=1,
        )
        wrong = (looks @ self.false_weight > self.false_limit).nonzero().flatten()
        places = torch.from_numpy(placing.integers(config.grid**2, size=config.features)).to(view.device)
        codes[:, wrong] = self.wrong_bump[places[wrong]].T * codes[:, wrong].amax(0)
        noise = CodeNoise(self.lost, self.lost_at_peak, self.stray, self.gain, self.error)
        peak = codes.amax(0)
        if mixed.shape[1]:
            # What is parked may be many times as strong as the blobs, which are not weak for that.
            strongest = mixed.amax(0)
            peak[-len(strongest) :] = torch.where(strongest > 0, strongest, peak[-len(strongest) :])
        return BlobView(codes, noise.applied(codes, chance, peak), seat, chance)

    def _blobs(self, view: UInt8[Tensor, "row column 3"]) -> Float[Tensor, "patch blob"]:
        """Bumps on the landmarks that are strong enough."""
        found = landmarks(read_cells(view, self.config.grid), self.filters).flatten(1).T
        strength = step(found, self.blob_ends)
        codes = strength.new_zeros(self.config.grid**2, strength.shape[1])
        for number, bump in enumerate(self.bump):
            chosen = self.level == number
            codes[:, chosen] = bump @ strength[:, chosen]
        return codes.clamp(max=1)

    def _seats(self, spread: Float[Tensor, " patch"], chance: np.random.Generator) -> Bool[Tensor, "patch rate"]:
        """The seats of each rate, the last of them always drawn anew, for mixtures."""
        config = self.config
        rates = (*config.rates, 1.0)
        seats = torch.zeros(len(spread), len(rates), dtype=torch.bool, device=spread.device)
        flat = flattest(spread, FLAT).nonzero().flatten().cpu().numpy()
        for number, rate in enumerate(rates):
            at_home, anew = chance.random(2)
            # Patches are ordered first, so that one that is flat no longer changes at most one seat.
            order = chance.permutation(len(spread))
            drawn = order[np.isin(order, flat)][: config.seats]
            if number < len(config.rates) and at_home < config.home:
                seats[self.homes[number], number] = True
            elif anew < rate:
                seats[torch.from_numpy(drawn), number] = True
            else:
                # The seats of several rates then coincide, as outlier tokens are shared by many features.
                seats[spread.argsort(stable=True)[: config.seats], number] = True
        return seats

    def _mixed(
        self,
        whole: Float[Tensor, "patch mixture"],
        kept: Float[Tensor, "patch mixture"],
        seat: Bool[Tensor, " patch"],
        looks: Float[Tensor, " look"],
        maps: int,
    ) -> Float[Tensor, "patch mixture"]:
        """Blobs of which a share of the mass is on the seats; and blobs that some images move there as a whole."""
        on = seat[:, None].float()
        share = self.share[:maps]
        mass = whole[:, :maps].sum(0) * share / (1 - share) / on.sum()
        parks = looks @ self.parks_weight > self.parks_limit
        moved = torch.where(parks, on * whole[:, maps:].amax(0), kept[:, maps:])
        return torch.cat([kept[:, :maps] + on * mass, moved], dim=1)


def rise(values: Float[Tensor, "*item feature"], ends: Float[Tensor, "2 feature"]) -> Float[Tensor, "*item feature"]:
    """From 0 at the lower end to 1 at the upper one, and no farther."""
    return ((values - ends[0]) / (ends[1] - ends[0])).clamp(0, 1)


def step(values: Float[Tensor, "*item feature"], ends: Float[Tensor, "2 feature"]) -> Float[Tensor, "*item feature"]:
    """0 up to the lower end, `FAINTEST` just above it, and 1 from the upper one.

    Example:
        >>> step(torch.tensor([[-torch.inf], [1.0], [2.0], [4.0]]), torch.tensor([[1.0], [3.0]])).flatten().tolist()
        [0.0, 0.0, 0.7..., 1.0]
    """
    return torch.where(values > ends[0], FAINTEST + (1 - FAINTEST) * rise(values, ends), 0.0)
