"""Upsampling, losses and their slopes against torch's own and against hand-computed cases."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from infoscope.analyses.probes import upsampling
from infoscope.analyses.probes.batch_norm import RunningMoments
from infoscope.analyses.probes.descent import Layers
from infoscope.analyses.probes.pixel_losses import Binned, LogRatios, cross_entropy
from infoscope.analyses.probes.recipes import DepthRecipe, find_recipe
from infoscope.analyses.probes.solvers import RidgePath
from infoscope.analyses.probes.upsampling import Upsampling


@pytest.fixture(autouse=True)
def strips_of_a_few_rows(monkeypatch):
    monkeypatch.setattr(upsampling, "STRIP_BYTES", 600)


def random_grid(channels, grid=5, seed=0):
    return torch.randn(grid, channels, grid, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(13, 17), (5, 5), (3, 40)])
def test_upsampling_is_torchs_bilinear(shape):
    values = random_grid(3)
    up = Upsampling.between(5, shape)
    expected = functional.interpolate(values.permute(1, 0, 2)[None], size=shape, mode="bilinear", align_corners=False)
    found = torch.cat([up.up(values, strip) for strip in up.strips(3)])
    assert len(list(up.strips(3))) > (shape[0] > 10)
    torch.testing.assert_close(found.permute(1, 0, 2), expected[0], atol=1e-5, rtol=1e-5)


def test_the_way_back_is_the_transpose():
    up = Upsampling.between(5, (13, 17))
    values, slopes = random_grid(2), torch.randn(13, 2, 17)
    back = sum(up.back(slopes[strip], strip) for strip in up.strips(2))
    assert (up.whole(values) * slopes).sum().item() == pytest.approx((values * back).sum().item(), rel=1e-4)


def test_cross_entropy_is_torchs_with_ignored_pixels():
    logits = random_grid(4).requires_grad_()
    mask = torch.randint(0, 4, (13, 17), generator=torch.Generator().manual_seed(1))
    counts = torch.rand(13, 17, generator=torch.Generator().manual_seed(2)) > 0.3
    whole = functional.interpolate(logits.permute(1, 0, 2)[None], size=(13, 17), mode="bilinear")
    expected = torch.nn.CrossEntropyLoss(ignore_index=255)(whole, torch.where(counts, mask, 255)[None])
    expected.backward()
    loss, slope = cross_entropy(logits.detach(), mask, counts, Upsampling.between(5, (13, 17)))
    pixels = int(counts.sum())
    assert loss / pixels == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(slope / pixels, logits.grad, atol=1e-6, rtol=1e-4)


def test_bins_are_weighed_linearly_by_hand():
    recipe = DepthRecipe(final_norm=False, solver=RidgePath(), bins=3, least_depth=1.0, most_depth=9.0)
    binned = Binned.of(recipe, grid=1)
    assert binned.bins.tolist() == [1.0, 5.0, 9.0]
    logits = torch.tensor([[[-2.0], [0.9], [0.4]]])
    # Weights 0.1, 1.0 and 0.5 of 1.6 in all.
    assert binned.depth(logits).item() == pytest.approx((0.1 * 1 + 1.0 * 5 + 0.5 * 9) / 1.6)


def test_slopes_of_bins_are_autograds():
    recipe = find_recipe("dinov2").depth
    binned = Binned.of(recipe, grid=3)
    logits = random_grid(256, grid=3).requires_grad_()
    up = functional.interpolate(logits.permute(1, 0, 2)[None], scale_factor=4, mode="bilinear")[0]
    share = torch.relu(up) + 0.1
    depth = torch.einsum("kmn,k->mn", share / share.sum(0), torch.linspace(0.001, 10, 256))
    torch.testing.assert_close(binned.depth(logits.detach()), depth.detach(), atol=1e-4, rtol=1e-5)
    slope = torch.randn(12, 12)
    (depth * slope).sum().backward()
    torch.testing.assert_close(binned.back(logits.detach(), slope), logits.grad, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("only_mean", [False, True])
def test_the_loss_of_log_ratios_and_its_slope_are_torchs(only_mean):
    recipe = find_recipe("dinov2").depth
    ratio = torch.randn(7, 9, generator=torch.Generator().manual_seed(0)).add(0.3).requires_grad_()
    variance = 0 if only_mean else torch.var(ratio)
    expected = torch.sqrt(variance + 0.15 * ratio.mean() ** 2)
    expected.backward()
    sums = LogRatios()
    for row in ratio.detach():
        sums.add(row)
    assert sums.loss(recipe, only_mean=only_mean) == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(
        sums.slope(ratio.detach(), recipe, only_mean=only_mean), ratio.grad, atol=1e-6, rtol=1e-4
    )


def test_batch_norm_of_several_heads_is_torchs_for_each():
    random = torch.Generator().manual_seed(0)
    moments = RunningMoments(6, 0.1, 1e-5, torch.device("cpu"))
    solver = find_recipe("dinov2").segmentation.solver
    solver = type(solver)(**{**solver.__dict__, "learning_rates": (0.1, 0.2)})
    layers = Layers.start(6, 3, solver, batch_norm=True, seed=0, device=torch.device("cpu"))
    for each in layers.parameters().values():
        each.normal_(generator=random)
    norms = [torch.nn.BatchNorm1d(6) for _ in range(2)]
    convolutions = [torch.nn.Linear(6, 3) for _ in range(2)]
    for head in range(2):
        norms[head].weight.data, norms[head].bias.data = layers.scale[head].clone(), layers.shift[head].clone()
        convolutions[head].weight.data, convolutions[head].bias.data = (
            layers.weight[head].clone(),
            layers.bias[head].clone(),
        )
    for seed in range(3):
        rows = 3 + 2 * torch.randn(40, 6, generator=torch.Generator().manual_seed(seed))
        normal = moments.normalise(rows)
        outputs = layers.outputs(normal)
        slope = torch.randn(40, 2, 3, generator=random)
        slopes = layers.slopes(normal, slope)
        for head in range(2):
            expected = convolutions[head](norms[head](rows))
            torch.testing.assert_close(outputs[:, head], expected, atol=1e-4, rtol=1e-4)
            for module in (norms[head], convolutions[head]):
                module.zero_grad()
            (expected * slope[:, head]).sum().backward()
            for name, theirs in (
                ("weight", convolutions[head].weight),
                ("bias", convolutions[head].bias),
                ("scale", norms[head].weight),
                ("shift", norms[head].bias),
            ):
                torch.testing.assert_close(slopes[name][head], theirs.grad, atol=1e-3, rtol=1e-3)
    weight, bias = layers.folded()
    for head in range(2):
        folded, offset = moments.fold(weight[head], bias[head])
        norms[head].eval()
        torch.testing.assert_close(
            rows @ folded.T + offset, convolutions[head](norms[head](rows)), atol=1e-4, rtol=1e-4
        )


def test_batch_norm_by_hand():
    moments = RunningMoments(1, momentum=0.5, epsilon=0.0, device=torch.device("cpu"))
    # Mean 4, biased variance 8/3, unbiased 4.
    found = moments.normalise(torch.tensor([[2.0], [4.0], [6.0]]))
    np.testing.assert_allclose(found.ravel(), np.array([-2, 0, 2]) / np.sqrt(8 / 3), atol=1e-6)
    assert (moments.mean.item(), moments.variance.item()) == (2.0, 2.5)
    folded, offset = moments.fold(torch.tensor([[3.0]]), torch.tensor([1.0]))
    assert (10 * folded + offset).item() == pytest.approx(3 * (10 - 2) / 2.5**0.5 + 1)
