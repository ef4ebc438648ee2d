"""Upsampling, batch norm and bins of dense heads against torch's own and against hand-computed cases."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional

from dense_data import CLASSES, GRID, WIDTH, segments
from infoscope.analyses.probes import segmentation_head
from infoscope.analyses.probes.dense_head import batches, bilinear_shares, folded, upsampled
from infoscope.analyses.probes.depth_head import DepthRecipe
from infoscope.analyses.probes.recipes import RidgePath
from infoscope.analyses.probes.segmentation_head import RECIPES, fit_segmentation

DINOV2 = RECIPES["dinov2"]


def random_grid(channels, grid=5, seed=0):
    return torch.randn(grid, channels, grid, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(13, 17), (5, 5), (3, 40)])
@pytest.mark.parametrize("step", [1, 3])
def test_upsampling_is_torchs_bilinear(shape, step):
    values = random_grid(3)
    expected = functional.interpolate(values.permute(1, 0, 2)[None], size=shape, mode="bilinear", align_corners=False)
    down, across = (bilinear_shares(5, size, step) for size in shape)
    found = torch.cat([upsampled(values, down[strip], across) for strip in (slice(2), slice(2, None))])
    thinned = expected[0, :, step // 2 :: step, step // 2 :: step]
    torch.testing.assert_close(found.permute(1, 0, 2), thinned, atol=1e-5, rtol=1e-5)


def test_bins_are_weighed_linearly_by_hand():
    recipe = DepthRecipe(final_norm=False, solver=RidgePath(), bins=3, least_depth=1.0, most_depth=9.0)
    # Bins 1, 5 and 9 with weights 0.1, 1.0 and 0.5 of 1.6 in all.
    found = recipe.depths(torch.tensor([[[-2.0], [0.9], [0.4]]]))
    assert found.item() == pytest.approx((0.1 * 1 + 1.0 * 5 + 0.5 * 9) / 1.6)


def test_batch_norm_is_folded_in_by_hand():
    norm, layer = torch.nn.BatchNorm1d(1, eps=1e-12, momentum=0.5), torch.nn.Linear(1, 1)
    torch.nn.init.constant_(layer.weight, 3.0)
    torch.nn.init.constant_(layer.bias, 1.0)
    # Mean 4, unbiased variance 4: half of each is in the running moments, beside half of 0 and 1.
    norm(torch.tensor([[2.0], [4.0], [6.0]]))
    found = folded(torch.nn.Sequential(norm, layer))
    assert (10 * found.weight + found.bias).item() == pytest.approx(3 * (10 - 2) / 2.5**0.5 + 1)


@pytest.mark.parametrize("strip_bytes", [600, 2**23])
def test_the_training_of_segmentation_is_torchs_modules_loss_and_adamw(monkeypatch, strip_bytes):
    monkeypatch.setattr(segmentation_head, "STRIP_BYTES", strip_bytes)
    features, masks = segments(12)
    solver = dataclasses.replace(DINOV2.solver, learning_rates=(2e-2,), batch=4, epochs=1, least_steps=12)
    recipe = dataclasses.replace(DINOV2, solver=solver)
    head = fit_segmentation(features, masks, recipe, classes=CLASSES, validation=(features, masks), seed=4)
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(WIDTH), torch.nn.Conv2d(WIDTH, CLASSES, 1))
    with torch.no_grad():
        weight = torch.empty(CLASSES, WIDTH).normal_(0, 0.01, generator=torch.Generator().manual_seed(4))
        model[1].weight.copy_(weight[:, :, None, None])
        model[1].bias.zero_()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2, weight_decay=1e-4)
    for step, images in enumerate(batches(np.arange(12), 4, 12, seed=4)):
        tokens = torch.from_numpy(features.patches[images]).transpose(1, 2).reshape(4, WIDTH, GRID, GRID)
        truth = torch.from_numpy(np.stack([masks[i] for i in images])).long()
        whole = functional.interpolate(model(tokens), size=truth.shape[1:], mode="bilinear")
        optimizer.zero_grad()
        functional.cross_entropy(whole, truth, ignore_index=255).backward()
        for group in optimizer.param_groups:
            group["lr"] = 2e-2 * solver.pace(step, 12)
        optimizer.step()
    model.eval()
    tokens = torch.from_numpy(features.patches).transpose(1, 2).reshape(12, WIDTH, GRID, GRID)
    expected = model(tokens).flatten(2).transpose(1, 2).flatten(0, 1)
    np.testing.assert_allclose(head.linear(features.rows), expected.detach(), atol=1e-4)
    assert np.abs(head.linear(features.rows)).max() > 0.5
