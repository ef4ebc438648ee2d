"""What is planted, against the same written in numpy, and how it behaves under a shift."""

import numpy as np
import pytest
import torch
from PIL import Image

from infoscope.analyses.planted.config import PURE, PlantedConfig, planted_config
from infoscope.analyses.planted.features import describe, draw
from infoscope.analyses.planted.plant import plant
from infoscope.errors import InfoscopeError
from infoscope.images.views import Views
from planting import GRID, PATCH, SHAPE, SIDE, expected
from planting import describe as described


def of_kind(planted, kind):
    return [j for j, found in enumerate(planted.kinds) if found == kind]


def test_descriptors_are_those_of_numpy_and_scipy(views):
    for view in views[:3, 0]:
        found = describe(torch.tensor(view), PATCH).numpy()
        np.testing.assert_allclose(found, described(view, PATCH), rtol=1e-3, atol=2e-4)


def test_the_planted_dictionary_recovers_the_codes_that_the_pixels_give(silent, views):
    config = silent.config
    fired = dict.fromkeys(PURE, 0)
    for view in views[:12, 0]:
        codes = silent.dictionary.encode(silent.backbone.tokens(view[None]))[0].numpy()
        local, strength = expected(silent, view)
        strength = dict(zip(range(local.shape[1], config.features), strength, strict=True))
        contrast = described(view, PATCH)[:, 6]
        outlier = np.linalg.norm(silent.backbone.tokens(view[None])[0].numpy(), axis=1) > 10
        assert outlier.sum() == config.outliers
        assert contrast[outlier].max() <= np.sort(contrast)[GRID**2 // 4]
        kept = np.where(outlier, 1 / 3, 1.0)
        for j, kind in enumerate(silent.kinds):
            if kind == "local":
                truth = local[:, j] * kept
            elif kind == "global":
                truth = strength[j] * outlier
            elif kind == "diffuse":
                truth = strength[j] * kept
            else:
                truth = strength[j] * kept * silent.windows[:, silent.features.window_of[j]].numpy()
            np.testing.assert_allclose(codes[:, j], truth, atol=5e-3)
            fired[kind] += truth.max() > 0.5
    assert min(fired.values()) > 5
    np.testing.assert_allclose(codes, silent.codes(torch.tensor(view[None]))[0], atol=1e-4)


def test_local_features_follow_the_pixels_and_global_ones_jump(silent, views):
    first, second = (silent.codes(torch.tensor(views[:, crop])).view(-1, GRID, GRID, 40) for crop in (0, 1))
    ours, theirs = first[:, 2:, 2:], second[:, :-2, :-2]
    local, global_ = of_kind(silent, "local"), of_kind(silent, "global")
    outlier = ((ours[..., global_] > 0) | (theirs[..., global_] > 0)).any(-1)
    plain = ~outlier & (ours[..., local].amax(-1) > 0)
    assert plain.sum() > 100
    # What an outlier patch keeps of it differs; elsewhere equal pixels have equal codes.
    where = (first[..., global_].amax(-1) == 0)[:, 2:, 2:] & (second[..., global_].amax(-1) == 0)[:, :-2, :-2]
    same = torch.isclose(ours[..., local], theirs[..., local], atol=1e-4).all(-1)
    assert same[where].float().mean() > 0.9
    seats = [(maps[..., global_].amax(-1) > 0).flatten(1) for maps in (ours, theirs)]
    both = seats[0].any(1) & seats[1].any(1)
    assert (seats[0] & seats[1]).any(1)[both].float().mean() < 0.5


def test_noise_has_its_spread_and_belongs_to_the_view(noisy, views):
    pixels = views[:12, 0]
    read = noisy.backbone.tokens(pixels) @ noisy.dictionary.W_enc
    codes = noisy.codes(torch.tensor(pixels))
    noise, on = read - codes, codes > 0
    assert on.sum() > 500
    assert noise[on].std().item() == pytest.approx(0.3, rel=0.1)
    assert noise[~on].std().item() == pytest.approx(0.015, rel=0.03)
    assert abs(noise[on].mean().item()) < 0.03
    changed = pixels.copy()
    changed[0, 0, 0, 0] ^= 1
    again = noisy.backbone.tokens(changed) @ noisy.dictionary.W_enc
    assert torch.equal(again[1:], read[1:])
    assert (again[0] - read[0])[on[0]].abs().mean() > 0.1
    assert draw(pixels[0], 0, 4, 2).noise.tolist() != draw(pixels[0], 1, 4, 2).noise.tolist()


def test_tokens_do_not_depend_on_the_batch(noisy, views):
    pixels = views[:7, 0]
    together = noisy.backbone.tokens(pixels)
    assert torch.equal(together, torch.cat([noisy.backbone.tokens(view[None]) for view in pixels]))


def test_false_positives_are_a_tenth_of_the_images_and_keep_their_strength(pictures, silent):
    wrong = plant(pictures, **SHAPE, noise=0.0, background=0.0)
    full = [Views(PATCH, GRID, 0).full(Image.fromarray(picture)) for picture in pictures]
    placed = torch.stack([wrong.features(torch.tensor(view), wrong.windows).placed for view in full])
    assert placed.float().mean(0).tolist() == pytest.approx([0.1] * 40)
    for pixels, false in zip(full, placed, strict=True):
        ours, right = (planted.codes(torch.tensor(pixels[None]))[0] for planted in (wrong, silent))
        assert torch.equal(ours[:, ~false], right[:, ~false])
        assert ((ours[:, false] > 0).sum(0) <= 1).all()
        assert (ours[:, false].amax(0) >= right[:, false].amax(0) - 1e-6).all()


def test_the_traps_of_the_adversarial_setting(pictures, views):
    planted = plant(pictures, planted_config("adversarial", **SHAPE), noise=0.0, background=0.0, false_positives=0.0)
    window = planted.features.window_of
    maps = planted.codes(torch.tensor(pictures[:, :SIDE, :SIDE])).view(-1, GRID, GRID, 40)
    row, column = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
    away = (torch.hypot(row - 3.5, column - 3.5)[..., None] * maps).sum((1, 2)) / maps.sum((1, 2)).clamp_min(1e-6)
    strong = [away[maps[..., j].sum((1, 2)).topk(8).indices, j].mean().item() for j in of_kind(planted, "local")]
    plain, centred = strong[: 16 - 2 * 5], strong[-5:]
    assert [name for name in planted.names if "distant 0" in name or "centred 0" in name]
    assert np.mean(centred) < np.mean(plain)
    corners = [planted.windows[:, window[j]].view(GRID, GRID) for j in of_kind(planted, "position-bound")[:5]]
    assert [block.nonzero().float().mean(0).tolist() for block in corners] == [
        [0.5, 0.5], [0.5, 6.5], [6.5, 0.5], [6.5, 6.5], [0.5, 0.5],
    ]  # fmt: skip
    usual = torch.zeros(GRID**2, dtype=torch.bool)
    usual[planted.features.usual_patches] = True
    seats = [
        planted.features(torch.tensor(view), planted.windows).codes[:, of_kind(planted, "global")[:5]].amax(1) > 0
        for view in views.reshape(-1, *views.shape[2:])
    ]
    at_home = [bool((seat == (usual & seat)).all()) for seat in seats if seat.any()]
    assert 0.5 < np.mean(at_home) < 0.9


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shares": (0.5, 0.5, 0.5, 0.5)}, "planted shares"),
        ({"noise": -1.0}, "planted noise -1.0 is out of range: choose 0 or more"),
        ({"same_patch": 1.5}, "planted same_patch 1.5"),
        ({"two_instances": 0.7, "centre_biased": 0.7}, "planted centre_biased 0.7"),
        ({"outliers": 100}, "at most a quarter"),
        ({"width": 20}, None),
    ],
)
def test_settings_that_cannot_be(wrong, message, pictures):
    if message is None:
        with pytest.raises(InfoscopeError, match="width 20 are too short"):
            plant(pictures, **{**SHAPE, **wrong})
    else:
        with pytest.raises(InfoscopeError, match=message):
            PlantedConfig(**wrong)


def test_too_few_images_or_all_alike(pictures):
    with pytest.raises(InfoscopeError, match="has 3 readable images; planting takes at least 8"):
        plant(pictures[:3], **SHAPE)
    with pytest.raises(InfoscopeError, match="too much alike"):
        plant(pictures[:1].repeat(10, axis=0), **SHAPE)
    with pytest.raises(InfoscopeError, match="block 4 is out of range: a planted model has 4 blocks"):
        plant(pictures, **SHAPE, block=4)
