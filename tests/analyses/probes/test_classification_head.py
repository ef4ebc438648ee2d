"""Classifiers of images against scikit-learn, against torch's own SGD, and on input that is wrong."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from infoscope.analyses.probes.classification_head import (
    RECIPES,
    ClassificationInput,
    ClassificationRecipe,
    fit_classification,
)
from infoscope.analyses.probes.convex import Examples, fit_path
from infoscope.analyses.probes.reading import mixed
from infoscope.analyses.probes.recipes import LogisticPath, Sgd
from infoscope.errors import InfoscopeError

CLASSES, WIDTH = 4, 12
LAST = ClassificationInput()


def data(count, seed=0, spread=1.5, turned=True):
    """Classes that overlap, on correlated features of unlike scales."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    centres = np.random.default_rng(99).normal(size=(CLASSES, WIDTH))
    turn = np.random.default_rng(98).normal(size=(WIDTH, WIDTH)) * np.geomspace(0.1, 10, WIDTH)
    features = centres[labels] + spread * random.normal(size=(count, WIDTH))
    return (features @ turn + 5 if turned else features).astype(np.float32), labels


def one_input(solver):
    return ClassificationRecipe((LAST,), final_norm=True, solver=solver)


def test_a_path_gives_scikit_learns_weights_at_every_strength():
    features, labels = data(300)
    shares = np.eye(CLASSES, dtype=np.float32)[labels]

    def stream():
        for part in np.array_split(np.arange(300), 7):
            yield Examples(features[part], shares[part], np.ones(len(part), np.float32))

    scaler = StandardScaler().fit(features)
    passes = 0
    for fitted in fit_path(stream, LogisticPath((1.0, 0.1, 1e-3), tolerance=1e-10)):
        theirs = LogisticRegression(C=1 / (fitted.strength * 300), tol=1e-10, max_iter=5000)
        theirs.fit(scaler.transform(features), labels)
        weight = theirs.coef_ / scaler.scale_
        ours = fitted.linear.weight
        # scikit-learn's weights sum to 0 over classes at the optimum of the penalty, as ours do.
        np.testing.assert_allclose(ours, weight, atol=2e-3 * np.abs(weight).max())
        mine = torch.from_numpy(fitted.linear(features)).softmax(1).numpy()
        np.testing.assert_allclose(mine, theirs.predict_proba(scaler.transform(features)), atol=2e-3)
        assert fitted.linear.converged
        passes += fitted.passes
    assert passes < 200


def test_shares_and_weights_count_as_copies_of_rows_would():
    features, labels = data(60)
    shares = np.eye(CLASSES, dtype=np.float32)[labels]
    soft = np.repeat(features[:30], 4, axis=0)
    some = np.array([0, 0, 1, 2])
    copies = Examples(
        np.concatenate([soft, features[30:]]),
        np.concatenate([np.eye(CLASSES, dtype=np.float32)[np.tile(some, 30)], shares[30:]]),
        np.ones(150, np.float32),
    )
    mixed_shares = np.tile(np.float32([0.5, 0.25, 0.25, 0]), (30, 1))
    folded = Examples(features, np.concatenate([mixed_shares, shares[30:]]), np.float32([4] * 30 + [1] * 30))
    heads = [
        next(fit_path(lambda each=each: iter([each]), LogisticPath((0.01,), tolerance=1e-11)))
        for each in (copies, folded)
    ]
    assert heads[0].objective == pytest.approx(heads[1].objective, abs=1e-6)
    np.testing.assert_allclose(heads[0].linear(features), heads[1].linear(features), atol=5e-3)


def test_a_path_does_not_depend_on_what_is_kept_in_memory():
    features, labels = data(100)
    example = Examples(features, np.eye(CLASSES, dtype=np.float32)[labels], np.ones(100, np.float32))
    kept, anew = (
        next(fit_path(lambda: iter([example, example]), LogisticPath((0.01,)), keep_bytes=size)) for size in (2**20, 0)
    )
    np.testing.assert_array_equal(kept.linear.weight, anew.linear.weight)
    assert kept.passes == anew.passes


def test_training_together_is_training_alone():
    features, labels = data(200)
    rates = (0.001, 0.01, 0.1)
    solver = Sgd(learning_rates=rates, least_steps=60)
    judged = data(40, seed=1)
    heads = {}
    for some in (rates, *((rate,) for rate in rates)):
        recipe = one_input(dataclasses.replace(solver, learning_rates=some))
        heads[some] = fit_classification(features, labels, recipe, classes=CLASSES, validation=judged)
    together = heads[rates]
    for candidate in together.candidates:
        alone = heads[(candidate.setting,)]
        assert alone.candidates[0].loss == pytest.approx(candidate.loss, rel=1e-5)
    best = heads[(together.chosen.setting,)]
    np.testing.assert_allclose(together.linear.weight, best.linear.weight, atol=1e-5)


def test_sgd_is_torchs_sgd():
    features, labels = data(90)
    features /= 10
    solver = Sgd(learning_rates=(0.2,), batch=30, least_steps=20, epochs=1)
    head = fit_classification(
        features, labels, one_input(solver), classes=CLASSES, validation=(features, labels), seed=3
    )
    layer = torch.nn.Linear(WIDTH, CLASSES)
    with torch.no_grad():
        layer.weight.normal_(0, 0.01, generator=torch.Generator().manual_seed(3))
        layer.bias.zero_()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.2 * 30 / 256, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    batch, steps = solver.plan(90)
    assert (batch, steps) == (30, 20)
    order = (each for epoch in range(7) for each in mixed(features, np.arange(90), 30, solver.window, (3, 1, epoch)))
    for step, (rows, which) in zip(range(20), order, strict=False):
        assert schedule.get_last_lr()[0] == pytest.approx(0.2 * 30 / 256 * solver.pace(step, 20))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(layer(torch.from_numpy(rows)), torch.from_numpy(labels[which])).backward()
        optimizer.step()
        schedule.step()
    np.testing.assert_allclose(head.linear.weight, layer.weight.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(head.linear.bias, layer.bias.detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("products", ["float32", "bfloat16"])
def test_sgd_comes_close_to_the_convex_optimum(products):
    features, labels = data(400, turned=False)
    options = {"classes": CLASSES, "validation": data(400, seed=2, turned=False)}
    exact = fit_classification(features, labels, one_input(LogisticPath()), **options)
    near = fit_classification(features, labels, one_input(Sgd(least_steps=400)), products=products, **options)
    assert abs(exact.chosen.score - near.chosen.score) < 0.02
    assert exact.chosen.score > 0.7
    # The training's own loss is near the least there is, too.
    losses = [
        torch.nn.functional.cross_entropy(torch.from_numpy(head.logits(features)), torch.from_numpy(labels)).item()
        for head in (exact, near)
    ]
    assert losses[1] < losses[0] + 0.05


def test_the_best_input_is_chosen_and_read_from_its_own_columns():
    features, labels = data(120, spread=0.3)
    noise = np.random.default_rng(5).normal(size=(120, 4 * WIDTH)).astype(np.float32)
    stored = np.concatenate([noise, features / 10], axis=1).astype(np.float16)
    recipe = RECIPES["dinov2"]
    recipe = dataclasses.replace(recipe, solver=Sgd(least_steps=100))
    head = fit_classification(stored, labels, recipe, classes=CLASSES)
    assert head.input.mean
    assert len(head.candidates) == 4 * 13
    assert (head.logits(stored).argmax(1) == labels).mean() > 0.9


def test_a_memmap_gives_what_an_array_gives(tmp_path):
    features, labels = data(64)
    np.save(tmp_path / "features.npy", features.astype(np.float16))
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    for solver in (LogisticPath((0.1, 0.01)), Sgd(least_steps=20)):
        heads = [
            fit_classification(each, labels, one_input(solver), classes=CLASSES) for each in (mapped, np.array(mapped))
        ]
        np.testing.assert_array_equal(heads[0].linear.weight, heads[1].linear.weight)


def test_a_class_that_training_lacks_is_never_predicted():
    features, labels = data(80)
    head = fit_classification(features, labels, one_input(LogisticPath((0.1,))), classes=CLASSES + 2)
    logits = head.logits(features)
    assert np.isfinite(logits).all()
    assert logits.argmax(1).max() < CLASSES
    assert torch.from_numpy(logits).softmax(1)[:, CLASSES:].max() == 0


@pytest.mark.parametrize("solver", [LogisticPath((0.1,)), Sgd(least_steps=2)])
def test_wrong_input_is_refused(solver):
    features, labels = data(40)
    recipe = one_input(solver)

    def refused(message, features=features, labels=labels, **options):
        with pytest.raises(InfoscopeError, match=message):
            fit_classification(features, labels, recipe, **{"classes": CLASSES, **options})

    broken = features.copy()
    broken[7, 3] = np.nan
    refused("row 7 hold NaN", broken)
    refused("one class", labels=np.zeros(40, np.int64))
    refused("class 3 is out of range", classes=3)
    refused("class -1 is out of range", labels=labels - 1)
    refused("39 labels", labels=labels[:39])
    refused("no images", features[:0], labels[:0])
    refused("too few", features[:4], labels[:4])
    refused("no images", validation=(features[:0], labels[:0]))
    with pytest.raises(InfoscopeError, match="not 5 vectors"):
        fit_classification(features, labels, RECIPES["dinov2"], classes=CLASSES)
    head = fit_classification(features, labels, recipe, classes=CLASSES)
    with pytest.raises(InfoscopeError, match="these have 5"):
        head.logits(features[:, :5])


def test_a_head_that_was_not_done_says_so():
    features, labels = data(80)
    stopped, done = (
        fit_classification(features, labels, one_input(LogisticPath((0.01,), iterations=limit)), classes=CLASSES)
        for limit in (1, 300)
    )
    assert stopped.choice()["notes"] == (
        "a head of strength 0.01 was not done when its steps ran out: its score may rise",
    )
    assert done.choice()["notes"] == ()
