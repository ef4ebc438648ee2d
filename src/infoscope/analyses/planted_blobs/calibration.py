"""The second family for a set of photographs: what is drawn, and the limits that follow the photographs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from infoscope.analyses.planted_blobs.config import LEAST_MOVED, BlobKind, BlobsConfig
from infoscope.analyses.planted_blobs.features import BlobFeatures
from infoscope.analyses.planted_blobs.places import (
    LOOKS,
    TEXTURES,
    bumps,
    flattest,
    landmarks,
    patch_spread,
    read_cells,
    read_looks,
    read_textures,
)
from infoscope.analyses.planted_blobs.shapes import draw_shapes
from infoscope.errors import InfoscopeError

FIRES = (0.7, 0.93)
"""Quantiles over photographs at which a feature begins to fire and at which it is at its full strength. Our choice: it
fires in three photographs of ten, more than twice as many as make its score."""
LEVELS = 4
"""Radii of blobs that are told apart. Our choice."""
_REGION = (4, 16)
"""Fewest and most patches of a region of texture at the limit. Our choice."""
BUMP_AREA = 10.4
"""Effective area of a bump of radius 1, exp of its entropy, where it ends at 0.15 of its height."""
_CANDIDATES = 6
"""Filters drawn for each that is chosen for where it fires."""
_WRONG = 0.8
"""Radius of what fires falsely, in patches."""


@dataclass(frozen=True)
class Calibrated:
    """Features with their truth.

    Attributes:
        features: the features.
        names: what each responds to.
        kinds: the kind of each, as it is by the definition of the classes.
        graded: how far each is global, 0 to 1; NaN for position-bound and diffuse ones.
    """

    features: BlobFeatures
    names: list[str]
    kinds: list[BlobKind]
    graded: list[float]


def calibrate_blobs(views: list[UInt8[Tensor, "row column 3"]], config: BlobsConfig) -> Calibrated:
    """The features for a set of photographs.

    Args:
        views: full views of the photographs.
        config: the settings.

    Raises:
        InfoscopeError: the photographs are too much alike.
    """
    random = torch.Generator().manual_seed(config.seed)
    local, parked, bound, diffuse, maps, images = config.numbers
    textured = round(config.textured * local)
    blobs = local - textured
    looks = torch.stack([read_looks(view) for view in views])
    centre = torch.stack([looks.mean(0), looks.std(0).clamp_min(1e-6)])
    looks = (looks - centre[0]) / centre[1]
    firing = parked + bound + diffuse
    look_weight = _directions(LOOKS, firing, random)
    false_weight = _directions(LOOKS, config.features, random)
    false_limit = torch.quantile(looks @ false_weight, 1 - config.false_positives, dim=0)
    textures = torch.stack([read_textures(view, config.grid) for view in views])
    flat = textures.flatten(0, 1)
    texture_centre = torch.stack([flat.mean(0), flat.std(0).clamp_min(1e-6)])
    texture_weight = _directions(TEXTURES, textured, random)
    areas = _drawn((float(_REGION[0]), float(_REGION[1])), textured, random)
    if config.areas is not None:
        areas = torch.tensor(config.areas[blobs:local])
    cells = [read_cells(view, config.grid) for view in views]
    number, filters, ends, peaks = _blobs(cells, config, blobs, maps + images, random)
    radius = _drawn(config.radius, len(filters), random)
    if config.areas is not None:
        wanted = torch.tensor([*config.areas[:blobs], *config.areas[local + firing :]])
        radius = (wanted / _counted(cells, filters, ends, peaks) / BUMP_AREA).sqrt().clamp(0.3, config.grid / 4)
    bump, level = _bumps(radius, config.grid)
    # Of the upper left cell of each patch: ``[place, patch]``.
    wrong_bump = bumps(config.grid, _WRONG).reshape(-1, config.grid, 2, config.grid, 2)[:, :, 0, :, 0].flatten(1).T
    rate_of = torch.arange(parked) % len(config.rates)
    shapes, shape_names = draw_shapes(bound, round(config.edged * bound), config.grid, random)
    share = _each(config.mixed_share, config.features, random)[config.features - maps - images :]
    parks_weight = _directions(LOOKS, images, random)
    parks_limit = _parks_limit(looks @ parks_weight, peaks[:, blobs + maps :], ends[0, blobs + maps :], share[maps:])
    lost = _each(config.dropout, config.features, random)
    at_peak = config.dropout_at_peak
    features = BlobFeatures(
        config,
        blobs,
        {
            "filters": filters,
            "blob_ends": ends,
            "bump": bump,
            "level": level,
            "texture_weight": texture_weight,
            "texture_centre": texture_centre,
            "texture_ends": _texture_ends(
                (textures - texture_centre[0]) / texture_centre[1] @ texture_weight,
                areas,
                FIRES[0] if config.areas is None else FIRES[1],
            ),
            "look_weight": look_weight,
            "look_centre": centre,
            "look_ends": torch.quantile(looks @ look_weight, torch.tensor(FIRES), dim=0),
            "false_weight": false_weight,
            "false_limit": false_limit if config.false_positives else torch.full_like(false_limit, torch.inf),
            "wrong_bump": wrong_bump,
            "rate_of": rate_of,
            "homes": torch.stack(
                [torch.randperm(config.grid**2, generator=random)[: config.seats] for _ in config.rates]
            ),
            "shapes": shapes,
            "parks_weight": parks_weight,
            "parks_limit": parks_limit,
            "share": share,
            "lost": lost,
            "lost_at_peak": lost if at_peak is None else _each(at_peak, config.features, random),
            "stray": _each(config.stray, config.features, random),
            "gain": _each(config.gain, config.features, random),
            "error": _each(config.error, config.features, random),
        },
    )
    moved = [moved_share(views, config, rate) for rate in config.rates]
    parked_graded = [moved[rate] for rate in rate_of.tolist()]
    parked_kinds: list[BlobKind] = ["global" if m >= LEAST_MOVED else "mixed-images" for m in parked_graded]
    nan = float("nan")
    names = [f"local: blob, about {n:.0f} in a picture" for n in number[:blobs].tolist()]
    names += [f"local: texture, {area:.0f} patches" for area in areas.tolist()]
    names += [f"parked: drawn anew in {config.rates[rate]:.0%} of views" for rate in rate_of.tolist()]
    names += [f"position-bound: {name}" for name in shape_names]
    names += [f"diffuse: {'patchy' if i % 2 else 'even'}" for i in range(diffuse)]
    names += [f"{kind}: {value:.2f}" for kind, value in zip(["maps"] * maps + ["images"] * images, share, strict=True)]
    local_kinds: list[BlobKind] = ["local"] * local
    bound_kinds: list[BlobKind] = ["position-bound"] * bound
    diffuse_kinds: list[BlobKind] = ["diffuse"] * diffuse
    maps_kinds: list[BlobKind] = ["mixed-maps"] * maps
    images_kinds: list[BlobKind] = ["mixed-images"] * images
    kinds = local_kinds + parked_kinds + bound_kinds + diffuse_kinds + maps_kinds + images_kinds
    graded = [0.0] * local + parked_graded + [nan] * (bound + diffuse) + share.tolist()
    return Calibrated(features, names, kinds, graded)


def moved_share(views: list[UInt8[Tensor, "row column 3"]], config: BlobsConfig, rate: float, shift: int = 2) -> float:
    """The share of a parked feature's seats that neither follow the pixels nor stay at their place under a shift.

    Seats that are not drawn anew are the flattest patches of a view, which the shift can push over its border; how many
    of those on the shared patches remain is counted on the photographs.

    Args:
        views: full views of photographs; two parts of each stand for its crops.
        config: the settings.
        rate: share of views in which the seats are drawn anew.
        shift: of the parts.
    """
    kept, all_ = 0, 0
    for view in views:
        spread = patch_spread(view, config.grid).reshape(config.grid, config.grid)
        first, second = spread[:-shift, :-shift].flatten(), spread[shift:, shift:].flatten()
        side = config.grid - shift
        seats = [flattest(part, (config.seats + 0.5) / side**2).reshape(side, side) for part in (first, second)]
        ours, theirs = seats[0][shift:, shift:], seats[1][:-shift, :-shift]
        kept, all_ = kept + int((ours & theirs).sum()), all_ + int(ours.sum())
    still = (1 - rate) ** 2 * kept / max(all_, 1)
    return 1 - (1 - config.home) ** 2 * still - config.home**2


def _blobs(
    cells: list[Float[Tensor, "3 cell_row cell_column"]],
    config: BlobsConfig,
    blobs: int,
    mixed: int,
    random: torch.Generator,
) -> tuple[Float[Tensor, " blob"], Tensor, Float[Tensor, "2 blob"], Float[Tensor, "image blob"]]:
    """How many instances each blob has in a picture, its filter, its limits, and its strongest response by picture."""
    distant, centred = round(config.distant * blobs), round(config.centred * blobs)
    chosen = distant + centred
    plain = blobs + mixed - chosen
    filters = _filters(plain + _CANDIDATES * chosen, random)
    fewest, most = config.instances
    number = torch.randint(fewest, most + 1, (len(filters),), generator=random)
    strongest = torch.stack([landmarks(picture, filters).flatten(1).topk(most, dim=1).values for picture in cells])
    if chosen:
        apart, off_centre = _whereabouts(cells, filters[plain:])
        far = apart.argsort(descending=True, stable=True)[:distant]
        off_centre[far] = torch.inf
        middle = off_centre.argsort(stable=True)[:centred]
        # Blobs that were chosen come first, and mixtures last.
        order = torch.cat([plain + far, plain + middle, torch.arange(plain)])
        number[plain + far] = number[plain + far].clamp_min(2)
        filters, number, strongest = filters[order], number[order], strongest[:, order]
    strongest = strongest.clamp_min(0)
    peaks = strongest[..., 0]
    lows, high = torch.quantile(strongest, FIRES[0], dim=0), torch.quantile(peaks, FIRES[1], dim=0)
    # Where hardly a picture has so many landmarks, as many as there are.
    possible = ((lows > 0) & (lows < high[:, None])).sum(1)
    if not bool((possible > 0).all()):
        raise InfoscopeError("the photographs are too much alike to plant blobs in; give more of them")
    number = torch.minimum(number.clamp(max=most), possible)
    low = lows.gather(1, number[:, None] - 1)[:, 0]
    return number.float(), filters, torch.stack([low, high]), peaks


def _counted(
    cells: list[Float[Tensor, "3 cell_row cell_column"]],
    filters: Tensor,
    ends: Float[Tensor, "2 blob"],
    peaks: Float[Tensor, "image blob"],
) -> Float[Tensor, " blob"]:
    """How many instances a blob has, on average over the pictures in which it is at its full strength."""
    counts = torch.stack([(landmarks(picture, filters).flatten(1) > ends[0][:, None]).sum(1) for picture in cells])
    strong = peaks >= ends[1]
    return ((counts * strong).sum(0) / strong.sum(0).clamp_min(1)).clamp_min(1)


def _whereabouts(
    cells: list[Float[Tensor, "3 cell_row cell_column"]], filters: Tensor
) -> tuple[Float[Tensor, " filter"], Float[Tensor, " filter"]]:
    """In cells, over pictures: how far apart the two strongest landmarks are, and how far from the middle the first."""
    apart, middle = [], []
    for picture in cells:
        found = landmarks(picture, filters)
        side = found.shape[-1]
        place = found.flatten(1).topk(2, dim=1).indices
        row, column = (place // side).float(), (place % side).float()
        apart.append(torch.hypot(row[:, 0] - row[:, 1], column[:, 0] - column[:, 1]))
        middle.append(torch.hypot(row[:, 0] - (side - 1) / 2, column[:, 0] - (side - 1) / 2))
    return torch.stack(apart).mean(0), torch.stack(middle).mean(0)


def _filters(count: int, random: torch.Generator) -> Float[Tensor, "filter 3 3 3"]:
    """Filters of a colour and a contrast: the mean over all cells and channels is 0."""
    drawn = torch.randn(count, 3, 3, 3, generator=random)
    return drawn - drawn.mean((1, 2, 3), keepdim=True)


def _directions(size: int, count: int, random: torch.Generator) -> Float[Tensor, "number feature"]:
    drawn = torch.randn(size, count, generator=random)
    unit: Tensor = drawn / drawn.norm(dim=0)
    return unit


def _drawn(ends: tuple[float, float], count: int, random: torch.Generator) -> Float[Tensor, " feature"]:
    return ends[0] + (ends[1] - ends[0]) * torch.rand(count, generator=random)


def _each(given: float | tuple[float, ...], features: int, random: torch.Generator) -> Float[Tensor, " feature"]:
    """A setting that may be one number, a range or a number for each feature, as a number for each."""
    if isinstance(given, tuple) and len(given) == features:
        return torch.tensor(given, dtype=torch.float32)
    low, high = given if isinstance(given, tuple) else (given, given)
    return _drawn((low, high), features, random)


def _bumps(radius: Float[Tensor, " blob"], grid: int) -> tuple[Float[Tensor, "level patch cell"], Tensor]:
    """Bumps of a few radii, and which of them each blob has: the nearest one by ratio."""
    if not len(radius):
        return torch.zeros(0, grid**2, 4 * grid**2), torch.zeros(0, dtype=torch.long)
    least, greatest = float(radius.min()), float(radius.max())
    radii = torch.logspace(0, 1, LEVELS, base=greatest / least) * least
    level = (radius[:, None].log() - radii.log()).abs().argmin(1)
    return torch.stack([bumps(grid, float(each)) for each in radii]), level


def _texture_ends(
    values: Float[Tensor, "image patch feature"], areas: Float[Tensor, " feature"], quantile: float
) -> Float[Tensor, "2 feature"]:
    """The limits at which a region covers its area in the picture of a quantile, and is strongest."""
    ordered = values.sort(dim=1, descending=True).values
    place = areas.round().long().clamp(1, values.shape[1]) - 1
    at_area = ordered.gather(1, place[None, None].expand(len(values), 1, -1))[:, 0]
    low, high = torch.quantile(at_area, quantile, dim=0), torch.quantile(ordered[:, 0], FIRES[1], dim=0)
    # Of a region of one patch, both may be the same.
    return torch.stack([low, torch.maximum(high, low + 1e-3)])


def _parks_limit(
    value: Float[Tensor, "image feature"],
    peaks: Float[Tensor, "image feature"],
    low: Float[Tensor, " feature"],
    share: Float[Tensor, " feature"],
) -> Float[Tensor, " feature"]:
    """What a picture must exceed to have a mixture parked, in its share of the pictures in which the feature fires."""
    limit = torch.zeros(len(share))
    for number in range(len(share)):
        limit[number] = torch.quantile(value[peaks[:, number] > low[number], number], 1 - share[number])
    return limit
