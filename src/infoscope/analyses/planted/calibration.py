"""Planted features for a set of photographs: weights are drawn, and ramps follow the photographs' own values."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from infoscope.analyses.planted.config import LEAST_IMAGES, PlantedConfig
from infoscope.analyses.planted.features import (
    DESCRIPTORS,
    STATISTICS,
    PlantedFeatures,
    describe,
    ramp,
    square_patches,
    view_statistics,
)
from infoscope.analyses.planted.noise import each_feature
from infoscope.errors import InfoscopeError
from infoscope.images.prefetch import decode_sample
from infoscope.images.source import ImageSource
from infoscope.images.views import Views

# Our choice: a ramp's upper end then has 26 photographs beyond it.
SAMPLE_IMAGES = 256

# Where ramps begin and end, as quantiles over images, for all kinds alike. Our choice: a feature fires in a quarter of
# the images and is at its peak in a tenth, so that two hundred images are enough for 16 top images.
RAMP = (0.75, 0.9)
# Descriptors or statistics in the mixture of one feature.
_MIXED = 4
# The shortest usable ramp, in standard deviations. A shorter one means that many images have the same value there, such
# as black or burnt-out pictures.
_SHORTEST = 0.05
LATE = 1_000_003
"""Added to the seed of what is drawn for mixtures and code noise, to keep clear of the seeds next to it."""
# Candidates drawn for each local feature that is chosen for where it fires.
_CANDIDATES = 8


def read_views(images: ImageSource, patch_size: int, grid: int) -> list[np.ndarray]:
    """Full views of a sample of at most `SAMPLE_IMAGES`, spread evenly over the images.

    Raises:
        InfoscopeError: fewer than `LEAST_IMAGES` can be read.
    """
    view = Views(patch_size, grid, 0).full
    views = decode_sample(images, SAMPLE_IMAGES, view, "Looking at photographs to plant in")
    if len(views) < LEAST_IMAGES:
        raise InfoscopeError(f"{images.name} has {len(views)} readable images; planting takes at least {LEAST_IMAGES}")
    return views


def calibrate(views: list[np.ndarray], config: PlantedConfig) -> tuple[PlantedFeatures, list[str]]:
    """The features for a set of photographs, and the name of each.

    Args:
        views: full views, 8-bit RGB ``[pn, pn, 3]``.
        config: the settings.
    """
    random = torch.Generator().manual_seed(config.seed)
    described = torch.stack([describe(torch.tensor(view), config.patch_size) for view in views])
    flat = described.flatten(0, 1)
    mean, scale = flat.mean(0), flat.std(0).clamp_min(1e-6)
    z = (described - mean) / scale
    both = view_statistics(z)
    statistic_mean, statistic_scale = both.mean(0), both.std(0).clamp_min(1e-6)
    statistics = (both - statistic_mean) / statistic_scale

    counts = config.counts
    centred = round(config.centre_biased * counts["local"])
    distant = round(config.two_instances * counts["local"])
    covered = config.side**2
    local, local_names = _local_weights(z, counts["local"] - distant - centred, distant, centred, covered, random)
    areas = None if config.areas is None else torch.tensor(config.areas).round().long()
    low, high = _local_ends(z @ local, covered if areas is None else areas[: counts["local"]], config.peaked)
    names = [f"local: {name}" for name in local_names]
    image, image_names = [], []
    for kind in ("global", "position-bound", "diffuse"):
        weights, called = _weights(statistics[:, None], list(STATISTICS), counts[kind], 1, random)
        image.append(weights)
        image_names += [f"{kind}: {name}" for name in called]
    image_weight = torch.cat(image, dim=1)
    image_low, image_high = _ends(statistics @ image_weight)
    false_weight = _mixtures(len(STATISTICS), config.features, random)
    # Features fire falsely above this limit; with a share of 0, never (see ``false_limit`` below).
    limit = torch.quantile(statistics @ false_weight, 1 - config.false_positives, dim=0)
    window_of = torch.full((config.features,), -1)
    position = counts["local"] + counts["global"]
    window_of[position : position + counts["position-bound"]] = torch.arange(counts["position-bound"])
    usual_patches = torch.randperm(config.patches, generator=random)[: config.outliers]
    # A generator of their own, so that the others draw what they drew before there were mixtures and code noise.
    late = torch.Generator().manual_seed(LATE + config.seed)
    mixed, mixed_names = _mixed(z, statistics, config, covered, areas, late)
    names += image_names + mixed_names
    noise = {name: each_feature(getattr(config, name), config.features, late) for name in ("dropout", "stray", "gain")}
    noise["spread"] = each_feature(config.noise, config.features, late)
    at_peak = config.dropout_at_peak
    noise["dropout_at_peak"] = noise["dropout"] if at_peak is None else each_feature(at_peak, config.features, late)
    strengths = (*config.strengths, 1.0, 1.0)
    return PlantedFeatures(
        config,
        {
            **mixed,
            **noise,
            "descriptor_mean": mean,
            "descriptor_scale": scale,
            "statistic_mean": statistic_mean,
            "statistic_scale": statistic_scale,
            "local_weight": local,
            "local_low": low,
            "local_high": high,
            "image_weight": image_weight,
            "image_low": image_low,
            "image_high": image_high,
            "false_weight": false_weight,
            "false_limit": limit if config.false_positives else torch.full_like(limit, torch.inf),
            "window_of": window_of,
            "usual_patches": usual_patches,
            "strength": torch.tensor(strengths).repeat_interleave(torch.tensor(list(counts.values()))),
        },
    ), names


def _mixed(
    z: Float[Tensor, "image patch descriptor"],
    statistics: Float[Tensor, "image statistic"],
    config: PlantedConfig,
    covered: int,
    areas: Int64[Tensor, " feature"] | None,
    random: torch.Generator,
) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors and names of the mixtures: their local part, and the images in which they are parked."""
    in_maps, over_images = config.counts["mixed-maps"], config.counts["mixed-images"]
    count = in_maps + over_images
    weight, called = _weights(z, list(DESCRIPTORS), count, covered, random)
    reached = _covered(z @ weight, covered if areas is None else areas[config.features - count :])
    low, high = _local_ends(z @ weight, covered if areas is None else areas[config.features - count :], config.peaked)
    share = each_feature(config.mixed_share, config.features, random)[config.features - count :]
    parks = _mixtures(len(STATISTICS), over_images, random)
    value, limit = statistics @ parks, torch.zeros(over_images)
    for number in range(over_images):
        # Among the images in which the feature fires, since only those can be among its top images.
        fires = reached[:, in_maps + number] > low[in_maps + number]
        limit[number] = torch.quantile(value[fires, number], 1 - share[in_maps + number])
    parks, limit = (
        torch.cat([values.new_zeros(*values.shape[:-1], in_maps), values], dim=-1) for values in (parks, limit)
    )
    nan = torch.full((over_images,), torch.nan)
    kinds = ["mixed-maps"] * in_maps + ["mixed-images"] * over_images
    return {
        "mixed_weight": weight,
        "mixed_low": low,
        "mixed_high": high,
        "parks_weight": parks,
        "parks_limit": limit,
        "parked_share": torch.cat([share[:in_maps], nan]),
        "graded": share,
    }, [f"{kind}: {name}" for kind, name in zip(kinds, called, strict=True)]


def make_windows(config: PlantedConfig) -> Float[Tensor, "patch window"]:
    """Where the position-bound features may fire: each on a square of 3 x 3 patches, anywhere or in a corner.

    Example:
        >>> windows = make_windows(PlantedConfig())
        >>> windows.shape, windows.sum(0).unique().tolist()
        (torch.Size([196, 50]), [9.0])
    """
    random = torch.Generator().manual_seed(config.seed + 1)
    p = config.grid
    count = config.counts["position-bound"]
    cornered = round(config.cornered * count)
    last = p - config.side
    corners = torch.randint(last + 1, (count, 2), generator=random)
    corners[:cornered] = last * torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]).repeat(-(-cornered // 4), 1)[:cornered]
    windows = torch.zeros(config.patches, count)
    for number, (top, left) in enumerate(corners.tolist()):
        windows[square_patches(top, left, config.side, p), number] = 1
    return windows


def _local_weights(
    z: Float[Tensor, "image patch descriptor"],
    plain: int,
    distant: int,
    centred: int,
    covered: int,
    random: torch.Generator,
) -> tuple[Float[Tensor, "descriptor feature"], list[str]]:
    """Weights and names of the local features: plain ones, then those with distant instances, then centred ones."""
    weights, names = _weights(z, list(DESCRIPTORS), plain, covered, random)
    if not distant + centred:
        return weights, names
    drawn = _mixtures(z.shape[2], _CANDIDATES * (distant + centred), random)
    drawn = drawn[:, _long_ramps(z @ drawn, covered)]
    if drawn.shape[1] < distant + centred:
        raise InfoscopeError("the photographs are too much alike to plant features in; give more of them")
    spread, off_centre = _whereabouts(ramp(z @ drawn, *_ends(_covered(z @ drawn, covered))), 3 * covered)
    apart = spread.argsort(descending=True, stable=True)[:distant]
    # A feature that was chosen already must not be chosen again.
    off_centre[apart] = torch.inf
    middle = off_centre.argsort(stable=True)[:centred]
    names += [f"distant {i}" for i in range(distant)] + [f"centred {i}" for i in range(centred)]
    return torch.cat([weights, drawn[:, apart], drawn[:, middle]], dim=1), names


def _whereabouts(
    maps: Float[Tensor, "image patch feature"], widest: int
) -> tuple[Float[Tensor, " feature"], Float[Tensor, " feature"]]:
    """Where each feature fires in its strongest pictures, in patches, on average.

    Returns:
        How far the mass lies from its own centre, with 0 for wide maps; and how far from the middle of the picture.
    """
    p = round(maps.shape[1] ** 0.5)
    place = torch.stack(torch.meshgrid(torch.arange(p), torch.arange(p), indexing="ij"), -1).reshape(-1, 2).float()
    top = maps.sum(1).argsort(dim=0, descending=True, stable=True)[:16]
    strongest = maps.gather(0, top[:, None].expand(-1, maps.shape[1], -1))
    share = strongest / strongest.sum(1, keepdim=True).clamp_min(1e-6)
    centre = torch.einsum("ipf,pd->ifd", share, place)
    radius = (torch.einsum("ipf,p->if", share, place.square().sum(1)) - centre.square().sum(2)).clamp_min(0).sqrt()
    narrow = 1 / share.square().sum(1).clamp_min(1e-6) <= widest
    middle = torch.einsum("ipf,p->if", share, (place - (p - 1) / 2).norm(dim=1))
    return (radius * narrow).mean(0), middle.mean(0)


def _weights(
    values: Float[Tensor, "image item number"],
    names: list[str],
    count: int,
    covered: int,
    random: torch.Generator,
) -> tuple[Float[Tensor, "number feature"], list[str]]:
    """Weights and names of ``count`` features: half of them single numbers or their negatives, the others mixtures."""
    size = values.shape[2]
    single = torch.cat([torch.eye(size), -torch.eye(size)], dim=1)
    single_names = [f"{sign}{name}" for sign in ("", "not ") for name in names]
    order = torch.randperm(2 * size, generator=random)
    order = order[_long_ramps(values @ single[:, order], covered)][: (count + 1) // 2]
    mixed = _mixtures(size, 2 * count + 8, random)
    mixed = mixed[:, _long_ramps(values @ mixed, covered)][:, : count - len(order)]
    if len(order) + mixed.shape[1] < count:
        raise InfoscopeError("the photographs are too much alike to plant features in; give more of them")
    return torch.cat([single[:, order], mixed], dim=1), [single_names[i] for i in order.tolist()] + [
        f"mixture {i}" for i in range(mixed.shape[1])
    ]


def _mixtures(size: int, count: int, random: torch.Generator) -> Float[Tensor, "number feature"]:
    """Random weights on a few numbers for each feature, of length 1."""
    weights = torch.zeros(size, count)
    for column in range(count):
        chosen = torch.randperm(size, generator=random)[:_MIXED]
        weights[chosen, column] = torch.randn(_MIXED, generator=random)
    unit: Tensor = weights / weights.norm(dim=0)
    return unit


def _covered(
    values: Float[Tensor, "image item feature"], covered: int | Int64[Tensor, " feature"]
) -> Float[Tensor, "image feature"]:
    """The value that ``covered`` items of an image reach or exceed, so many of each feature where there are several."""
    if isinstance(covered, Tensor):
        last = covered.clamp(1, values.shape[1]) - 1
        ordered = values.sort(dim=1, descending=True).values
        return ordered.gather(1, last[None, None].expand(len(values), 1, -1))[:, 0]
    reached: Tensor = values.topk(min(covered, values.shape[1]), dim=1).values[:, -1]
    return reached


def _ends(values: Float[Tensor, "image feature"]) -> tuple[Float[Tensor, " feature"], Float[Tensor, " feature"]]:
    if not values.numel():
        return values[0], values[0]
    low, high = torch.quantile(values, torch.tensor(RAMP), dim=0)
    return low, high


def _local_ends(
    values: Float[Tensor, "image patch feature"], covered: int | Int64[Tensor, " feature"], peaked: bool
) -> tuple[Float[Tensor, " feature"], Float[Tensor, " feature"]]:
    """The ends of local ramps: both by what the covered patches reach, or the upper one by the strongest patch."""
    low, high = _ends(_covered(values, covered))
    if peaked:
        _, highest = _ends(values.amax(1))
        # Of a feature that covers a patch, both are the same.
        high = torch.maximum(high, highest)
    return low, high


def _long_ramps(values: Float[Tensor, "image item feature"], covered: int) -> Int64[Tensor, " chosen"]:
    low, high = _ends(_covered(values, covered))
    return (high - low > _SHORTEST * values.flatten(0, 1).std(0)).nonzero().flatten()
