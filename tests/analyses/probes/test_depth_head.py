"""Predictors of depth: ridge against scikit-learn, the whole binned training against torch's autograd, wrong input."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from torch.nn import functional

from dense_data import GRID, WIDTH, Maps, depths
from infoscope.analyses.probes.dense_head import batches
from infoscope.analyses.probes.depth_head import RECIPES, fit_depth, mean_depths
from infoscope.analyses.probes.reading import DenseFeatures
from infoscope.analyses.probes.recipes import RidgePath
from infoscope.errors import InfoscopeError

SIMPLE = RECIPES["simple"]
DINOV2 = RECIPES["dinov2"]


def of_rates(*rates, **options):
    solver = dataclasses.replace(DINOV2.solver, learning_rates=rates, batch=4, epochs=1, **options)
    return dataclasses.replace(DINOV2, solver=solver, mean_steps=3, bins=32)


@pytest.fixture(scope="module")
def training():
    return depths(12)


def rmse(head, features, maps):
    errors = [(found - truth)[truth > 0] for found, truth in head.predictions(features, maps)]
    return np.sqrt((np.concatenate(errors) ** 2).mean())


def test_ridge_is_scikit_learns(training):
    features, maps = training
    recipe = dataclasses.replace(SIMPLE, solver=RidgePath((0.05,)))
    head = fit_depth(features, maps, recipe, validation=training)
    targets = mean_depths(maps, np.arange(12), GRID)
    rows = features.rows[targets.rows].astype(np.float64)
    scaler = StandardScaler().fit(rows, sample_weight=targets.weight)
    theirs = Ridge(alpha=0.05 * targets.weight.sum())
    theirs.fit(scaler.transform(rows), targets.values.toarray().ravel(), sample_weight=targets.weight)
    np.testing.assert_allclose(head.linear.weight[0], theirs.coef_ / scaler.scale_, rtol=1e-3, atol=1e-5)
    found = head.linear(features.rows[targets.rows])[:, 0]
    np.testing.assert_allclose(found, theirs.predict(scaler.transform(rows)), atol=1e-4)


def test_mean_depths_leave_holes_out():
    depth = np.array([[1, 3, 0, 0], [0, 0, 0, 0], [5, 5, 2, 0], [5, 5, 0, 0]], np.float32)
    found = mean_depths(Maps([depth]), np.array([0]), grid=2)
    assert found.rows.tolist() == [0, 2, 3]
    assert found.values.toarray().ravel().tolist() == [2.0, 5.0, 2.0]
    assert found.weight.tolist() == [0.5, 1.0, 0.25]


def test_the_binned_training_is_torchs_autograd_and_adamw(training):
    features, maps = training
    recipe = of_rates(2e-3, least_steps=12)
    head = fit_depth(features, maps, recipe, validation=training, seed=4)
    layer = torch.nn.Linear(2 * WIDTH, 32)
    with torch.no_grad():
        layer.weight.normal_(0, 0.01, generator=torch.Generator().manual_seed(4))
        layer.bias.zero_()
    optimizer = torch.optim.AdamW(layer.parameters(), lr=2e-3, weight_decay=0.01)
    bins = torch.linspace(0.001, 10, 32)
    for step, images in enumerate(batches(np.arange(12), 4, 12, seed=4)):
        patches = torch.from_numpy(features.patches[images])
        cls = torch.from_numpy(features.cls[images])[:, None].expand(-1, GRID * GRID, -1)
        tokens = torch.cat([patches, cls], 2).transpose(1, 2).reshape(4, -1, GRID, GRID)
        # As published: tokens are upsampled, then the layer weighs the bins.
        fine = functional.interpolate(tokens, scale_factor=4, mode="bilinear")
        weights = layer(fine.permute(0, 2, 3, 1)).relu() + 0.1
        depth = (weights / weights.sum(-1, keepdim=True)) @ bins
        truth = torch.from_numpy(np.stack([maps[i] for i in images]))
        whole = functional.interpolate(depth[:, None], size=truth.shape[1:], mode="bilinear")[:, 0]
        ratio = (torch.log(whole + 0.001) - torch.log(truth + 0.001))[truth > 0]
        loss = torch.sqrt((0 if step < 3 else ratio.var()) + 0.15 * ratio.mean() ** 2)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(layer.parameters(), 35.0)
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * recipe.solver.pace(step, 12)
        optimizer.step()
    np.testing.assert_allclose(head.linear.weight, layer.weight.detach().numpy(), atol=3e-5)
    np.testing.assert_allclose(head.linear.bias, layer.bias.detach().numpy(), atol=3e-5)


# A short training by gradients comes some of the way.
@pytest.mark.parametrize(("recipe", "left"), [(SIMPLE, 0.65), (of_rates(3e-3, 3e-2, least_steps=80), 0.85)])
def test_depth_is_found_at_the_maps_size(recipe, left, training):
    head = fit_depth(*training, recipe)
    test = depths(5, seed=1, shape=(25, 17))
    spread = np.std(np.concatenate([each[each > 0] for each in test[1]]))
    # What blurs between patches is lost to any head: the true patch depths, upsampled, do hardly better.
    assert rmse(head, *test) < left * spread
    assert head.chosen.score == min(candidate.score for candidate in head.candidates)
    found = head.predict(test[0], 0, (7, 9))
    assert found.shape == (7, 9)
    assert 0.001 <= found.min() <= found.max() <= 10


def test_training_together_is_training_alone(training):
    rates = (1e-3, 2e-2)
    heads = {
        some: fit_depth(*training, of_rates(*some, least_steps=12), validation=training)
        for some in (rates, *((rate,) for rate in rates))
    }
    for candidate in heads[rates].candidates:
        assert heads[(candidate.setting,)].chosen.score == pytest.approx(candidate.score, abs=1e-5)


@pytest.mark.parametrize("recipe", [SIMPLE, of_rates(1e-3, least_steps=2)])
def test_wrong_input_is_refused(recipe, training):
    features, maps = training

    def refused(message, features=features, maps=maps, **options):
        with pytest.raises(InfoscopeError, match=message):
            fit_depth(features, maps, recipe, **options)

    refused("negative or not finite", maps=Maps(each - 5 for each in maps))
    refused("negative or not finite", maps=Maps(np.where(each > 0, each, np.nan) for each in maps))
    refused("nothing to train on", maps=Maps(0 * each for each in maps))
    refused("12 images' features and 3 targets", maps=Maps(maps[:3]))
    broken = features.patches.copy()
    broken[:, 1] = np.inf
    refused("NaN or infinity", DenseFeatures(broken, features.cls))


def test_a_recipe_with_cls_tokens_asks_for_them(training):
    features, maps = training
    with pytest.raises(InfoscopeError, match="CLS token beside each patch, and none is stored"):
        fit_depth(DenseFeatures(features.patches), maps, of_rates(1e-3))
    with pytest.raises(InfoscopeError, match="do not belong"):
        DenseFeatures(features.patches, features.cls[:, :3])
