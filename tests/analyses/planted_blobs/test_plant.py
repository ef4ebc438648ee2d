"""What the second family plants: how each kind behaves under a shift, its noise, and a measurement of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from infoscope.analyses.planted_blobs.calibration import moved_share
from infoscope.analyses.planted_blobs.config import BLOB_KINDS, BlobsConfig, blobs_config
from infoscope.analyses.planted_blobs.features import BlobFeatures
from infoscope.analyses.planted_blobs.noise import CodeNoise
from infoscope.analyses.planted_blobs.places import patch_spread
from infoscope.analyses.planted_blobs.plant import plant_blobs
from infoscope.errors import InfoscopeError
from infoscope.measurement.measure import measure_scope
from planting import GRID, PATCH, SIDE, scenes

SHAPE = {"features": 40, "grid": GRID, "patch_size": PATCH, "width": 96, "radius": (0.4, 0.7)}
SILENT = {"error": 0.0, "background": 0.0, "false_positives": 0.0}
SHIFT = 2


@pytest.fixture(scope="module")
def pictures():
    return scenes(60)


@pytest.fixture(scope="module")
def crops(pictures):
    """Both crops of each picture."""
    return [(torch.tensor(p[:SIDE, :SIDE]), torch.tensor(p[SHIFT * PATCH :, SHIFT * PATCH :].copy())) for p in pictures]


@pytest.fixture(scope="module")
def silent(pictures):
    return plant_blobs(pictures, **SHAPE, **SILENT)


@pytest.fixture(scope="module")
def pairs(silent, crops):
    """Codes of both crops, ``[picture, crop, row, column, feature]``."""
    codes = [[silent.features(view).codes for view in pair] for pair in crops]
    return torch.stack([torch.stack(pair) for pair in codes]).unflatten(2, (GRID, GRID)).numpy()


def of_kind(planted, kind):
    return np.array([found == kind for found in planted.kinds])


def test_the_features_are_as_many_of_each_kind_as_asked_for(silent, pictures):
    named = [name.split(":")[0] for name in silent.names]
    assert [named.count(name) for name in ("local", "parked", "position-bound", "diffuse")] == [16, 10, 10, 4]
    assert set(silent.kinds) <= set(BLOB_KINDS)
    # Seats that move in under three quarters of the pairs make a mixture, by the definition of the classes.
    rates = [name.split()[-3] for name in silent.names[16:26]]
    for rate, kind, graded in zip(rates, silent.kinds[16:26], silent.graded[16:26], strict=True):
        assert kind == ("global" if graded >= 0.75 else "mixed-images")
        assert {"30%": 0.51, "60%": 0.84, "100%": 1.0}[rate] - 1e-9 <= graded <= 1
    still = plant_blobs(pictures, **SHAPE, **SILENT, rates=(0.0, 1.0))
    assert still.kinds[16:26] == ["mixed-images", "global"] * 5
    assert np.isnan(silent.graded[26:]).all()
    assert (silent.graded[:16] == 0).all()


def test_local_features_have_the_same_codes_at_the_same_pixels(silent, pairs):
    """But near the border of a crop, and where a seat takes half of what its patch says."""
    local = of_kind(silent, "local")
    ours, theirs = (
        pairs[:, 0, SHIFT + 2 : -2, SHIFT + 2 : -2, local],
        pairs[:, 1, 2 : -SHIFT - 2, 2 : -SHIFT - 2, local],
    )
    on = (ours > 0) | (theirs > 0)
    assert on.sum() > 200
    ratio = ours[on] / np.maximum(theirs[on], 1e-9)
    same = np.isclose(ratio, 1, atol=1e-3) | np.isclose(ratio, 0.5, atol=1e-3) | np.isclose(ratio, 2, atol=1e-3)
    assert same.mean() > 0.9
    # Unrelated pictures do not have them.
    other = np.roll(theirs, 1, axis=0)
    assert np.isclose(ours[on], other[on], atol=1e-3).mean() < 0.2


def test_position_bound_features_are_where_their_shape_is(silent, pairs):
    bound = of_kind(silent, "position-bound")
    shapes = silent.features.shapes.reshape(-1, GRID, GRID).numpy() > 0
    maps = np.moveaxis(pairs[..., bound], -1, 2)
    fires = maps.max((3, 4)) > 0
    assert fires.mean() > 0.1
    for feature, shape in enumerate(shapes):
        on = maps[:, :, feature][fires[:, :, feature]] > 0
        assert (on == shape).all()
    inside = np.array(silent.inside(SHIFT))[bound]
    expected = [not shape[:SHIFT].any() and not shape[:, :SHIFT].any() for shape in shapes]
    expected = [
        good and not shape[GRID - SHIFT :].any() and not shape[:, GRID - SHIFT :].any()
        for good, shape in zip(expected, shapes, strict=True)
    ]
    assert inside.tolist() == expected


def test_parked_features_sit_on_flat_patches_and_move_as_often_as_they_should(silent, crops):
    moved, flat = [], []
    for first, second in crops:
        seats = []
        for view in (first, second):
            spread = patch_spread(view, GRID)
            seat = silent.features._seats(spread, np.random.default_rng(len(moved) * 2 + len(seats)))
            flat.append(float((spread < spread.quantile(0.3))[seat.any(1)].float().mean()))
            seats.append(seat.reshape(GRID, GRID, -1))
        ours, theirs = seats[0][SHIFT:, SHIFT:], seats[1][:-SHIFT, :-SHIFT]
        moved.append([(int((ours & theirs)[..., j].sum()), int(ours[..., j].sum())) for j in range(4)])
    assert min(flat) == 1
    kept, all_ = np.array(moved).sum(0).T
    share = 1 - kept / all_
    # By chance two of sixteen flat patches meet.
    assert share[0] < share[1] < share[2] + 0.1
    assert share[2] > 0.75
    assert share[3] > 0.75


def test_what_a_shift_leaves_of_the_flattest_patches_is_counted_on_the_photographs(pictures):
    config = BlobsConfig(**SHAPE, home=0.5)
    views = [torch.tensor(picture[:SIDE, :SIDE]) for picture in pictures[:12]]
    kept = total = 0
    for view in views:
        spread = patch_spread(view, GRID).numpy().reshape(GRID, GRID)
        parts = spread[:-2, :-2], spread[2:, 2:]
        places = []
        for number, part in enumerate(parts):
            order = np.argsort(part.ravel(), kind="stable")[: config.seats]
            places.append({(int(i // (GRID - 2)) + 2 * number, int(i % (GRID - 2)) + 2 * number) for i in order})
        shared = {place for place in places[0] if min(place) >= 2}
        kept, total = kept + len(shared & places[1]), total + len(shared)
    expected = 1 - 0.25 * 0.49 * kept / total - 0.25
    assert moved_share(views, config, 0.3) == pytest.approx(expected)


def test_diffuse_features_are_even_or_patchy(silent, pairs):
    diffuse = pairs[..., of_kind(silent, "diffuse")]
    fires = diffuse.max((2, 3)) > 0
    covered = (diffuse > 0).mean((2, 3))
    assert (covered[..., ::2][fires[..., ::2]] == 1).all()
    assert covered[..., 1::2][fires[..., 1::2]].mean() == pytest.approx(0.7, abs=0.05)


def test_mixtures_park_their_share(pictures, crops):
    options = {"mixtures": (0.25, 0.25), "mixed_share": (0.3, 0.7)}
    planted = plant_blobs(pictures, **SHAPE, **SILENT, **options)
    maps, graded = of_kind(planted, "mixed-maps"), planted.graded
    assert maps.sum() == 10
    assert graded[maps].min() >= 0.3
    whole, fires, found = [], [], []
    for first, _ in crops:
        view = planted.features(first)
        codes, seat = view.codes.numpy(), view.seat.numpy()
        mass = codes.sum(0)
        with np.errstate(invalid="ignore"):
            on_seats = codes[seat].sum(0) / mass
        found.append(on_seats[maps])
        whole.append(on_seats[-10:] > 0.999)
        fires.append(mass[-10:] > 0)
    # At least the share, since landmarks too may lie on a seat, and seats keep half of them.
    least = np.nanmin(np.stack(found), axis=0)
    assert (np.abs(least - graded[maps]) < 0.12).all()
    assert np.median(np.abs(least - graded[maps])) < 0.03
    parked = np.stack(whole)[np.stack(fires)].mean()
    assert parked == pytest.approx(graded[-10:].mean(), abs=0.15)


def test_noise_has_its_rates():
    none = torch.zeros(2)
    codes = torch.tensor([1.0, 0.5, 0.0]).repeat(4000)[:, None].repeat(1, 2)
    chance = np.random.default_rng(0)
    lost = CodeNoise(torch.tensor([0.6, 0.2]), torch.tensor([0.2, 0.2]), none, none, none).applied(codes, chance)
    rates = [[float((lost[start::3, j] == 0).float().mean()) for start in range(2)] for j in range(2)]
    assert rates[0] == pytest.approx([0.2, 0.4], abs=0.03)
    assert rates[1] == pytest.approx([0.2, 0.2], abs=0.03)
    stray = CodeNoise(none, none, torch.tensor([0.1, 0.0]), none, none).applied(codes, chance)
    assert float((stray[2::3, 0] > 0).float().mean()) == pytest.approx(0.1, abs=0.02)
    assert stray[2::3, 1].max() == 0
    assert set(stray[:, 0].unique().tolist()) == {0.0, 0.5, 1.0}
    error = CodeNoise(none, none, none, none, torch.tensor([0.3, 0.0])).applied(codes, chance)
    assert float(error[::3, 0].log().std()) == pytest.approx(0.3, rel=0.05)
    assert float(error[::3, 0].mean()) == pytest.approx(1.0, abs=0.02)
    assert torch.equal(error[:, 1], codes[:, 1])
    gain = [float(CodeNoise(none, none, none, none + 0.4, none).applied(codes[:3], chance)[0, 0]) for _ in range(500)]
    assert np.log(gain).std() == pytest.approx(0.4, rel=0.15)


def test_the_dictionary_reads_the_codes_and_blocks_write_in_turn(silent, crops):
    pixels = torch.stack([first for first, _ in crops[:4]])
    codes = silent.codes(pixels)
    read = silent.backbone.tokens(pixels) @ silent.dictionary.W_enc
    torch.testing.assert_close(read, codes, atol=1e-4, rtol=0)
    early = replace(silent.backbone, block=0).tokens(pixels) @ silent.dictionary.W_enc
    assert early[..., 16:26].abs().max() < 1e-5
    assert codes[..., 16:26].max() > 0.3
    torch.testing.assert_close(early[..., :16], codes[..., :16], atol=1e-4, rtol=0)
    norms = silent.backbone.tokens(pixels).norm(dim=-1)
    assert ((norms > 10).sum(1) <= 3 * silent.config.seats).all()
    assert (norms > 10).any(1).all()
    assert torch.equal(silent.backbone.tokens(pixels)[1:2], silent.backbone.tokens(pixels[1:2]))


def test_a_measurement_finds_the_kinds_apart(silent):
    # Two seats among 64 patches are both outside the overlap of one crop in half of the pairs: enough pictures that ten
    # pairs or so are left of each feature.
    options = {"top_images": 24, "min_pairs": 6, "noise_images": 0}
    found = measure_scope(silent.backbone, silent.dictionary, scenes(240), shift=SHIFT, **options).table
    cds = found["cds"].to_numpy()
    kinds = np.array([name.split(":")[0] for name in silent.names])
    glued = np.array(silent.inside(SHIFT)) & ~np.isnan(cds)
    assert glued.any()
    # Seats take half of what lies under them.
    assert cds[glued] == pytest.approx([SHIFT / (GRID - SHIFT - 1)] * glued.sum(), abs=0.02)
    local, always = (
        np.nanmedian(cds[kinds == "local"]),
        np.nanmedian(cds[[n.endswith("100% of views") for n in silent.names]]),
    )
    assert local < 0.12 < 0.2 < always
    even = [j for j, name in enumerate(silent.names) if name == "diffuse: even"]
    assert np.nanmax(cds[even]) < 0.05


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shares": (0.5, 0.5, 0.5, 0.5)}, "they make 1"),
        ({"dropout": 1.5}, "dropout 1.5"),
        ({"patch_size": 7}, "an even number"),
        ({"width": 30}, "more than the 40 features"),
        ({"stray": (0.1, 0.2, 0.3)}, "one number, a range, or one for each of 40 features"),
    ],
)
def test_settings_that_cannot_be(wrong, message):
    with pytest.raises(InfoscopeError, match=message):
        BlobsConfig(**{"features": 40, "width": 96, **wrong})


def test_pictures_that_are_too_few_or_alike(pictures):
    with pytest.raises(InfoscopeError, match="has 3 readable images; planting blobs takes at least 8"):
        plant_blobs(pictures[:3], **SHAPE)
    with pytest.raises(InfoscopeError, match="too much alike"):
        plant_blobs(pictures[:1].repeat(10, axis=0), **SHAPE)


def test_the_adversarial_setting_chooses_blobs_by_where_they_fire(pictures):
    planted = plant_blobs(pictures, blobs_config("adversarial", **SHAPE, **SILENT))
    assert isinstance(planted.features, BlobFeatures)
    blobs = planted.features.blobs
    distant = round(blobs / 3)
    place = np.stack(np.meshgrid(np.arange(GRID), np.arange(GRID), indexing="ij"), -1).reshape(-1, 2)
    codes = planted.codes(torch.tensor(pictures[:, :SIDE, :SIDE])).numpy()[..., :blobs]
    share = codes / np.maximum(codes.sum(1, keepdims=True), 1e-9)
    weight = codes.sum(1)
    centre = np.einsum("ipf,pd->ifd", share, place)
    radius = np.sqrt(np.einsum("ipf,p->if", share, (place**2).sum(1)) - (centre**2).sum(-1))
    spread = (radius * weight).sum(0) / weight.sum(0)
    away = (np.hypot(*np.moveaxis(centre - 3.5, -1, 0)) * weight).sum(0) / weight.sum(0)
    middle = slice(distant, distant + round(blobs / 3))
    assert spread[:distant].mean() > spread[distant:].mean()
    assert away[middle].mean() < away[middle.stop :].mean()
