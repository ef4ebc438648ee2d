"""The worked example on text: against the closed form of the distance on a line, and features whose kind is known."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

SHIFT = 3


@pytest.fixture(scope="module")
def example():
    path = Path(__file__).parents[2] / "examples" / "text_scope.py"
    spec = importlib.util.spec_from_file_location("text_scope", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model(example):
    return example.random_gpt2()


@pytest.fixture(scope="module")
def text(example):
    return np.random.default_rng(1).integers(0, example.WORDS, (120, example.WINDOW + SHIFT))


def test_tokens_are_transformers_own(example, model, text):
    first, _ = example.shifted_windows(text, SHIFT)
    states = model(input_ids=torch.from_numpy(first.copy()), output_hidden_states=True).hidden_states
    for layer in range(example.LAYERS):  # the last has been through the final LayerNorm
        torch.testing.assert_close(example.tokens_at(model, first, layer), states[layer])


def test_without_a_shift_nothing_moves(example, model, text):
    sae, _ = example.known_features(model)
    first, second = example.shifted_windows(text[:, : example.WINDOW], 0)
    tokens = example.tokens_at(model, first, 2), example.tokens_at(model, second, 2)
    scores = example.score_text(sae, *tokens, 0)
    assert np.isfinite(scores.cds).sum() > 10
    assert np.nanmax(scores.cds) == 0.0


def test_words_stay_and_positions_move_by_the_shift(example, model, text):
    sae, kinds = example.known_features(model)
    first, second = example.shifted_windows(text, SHIFT)
    scores = example.score_text(sae, example.tokens_at(model, first, 0), example.tokens_at(model, second, 0), SHIFT)
    words, positions = (scores.cds[list(kinds[kind])] for kind in ("word", "position"))
    assert np.isfinite(words).all()
    assert words.max() < 1e-5
    # A position that is not shared by both windows leaves one of the maps empty.
    inner = np.arange(SHIFT, example.WINDOW - SHIFT)
    glued = SHIFT / (example.WINDOW - SHIFT - 1)
    np.testing.assert_allclose(positions[inner], glued, rtol=1e-6)
    assert np.isnan(np.delete(positions, inner)).all()


def test_scores_of_a_trained_sae_are_those_of_the_closed_form(example, model, text):
    first, second = example.shifted_windows(text, SHIFT)
    sae = example.trained_sae(model, first, 3, tokens=4_000)
    tokens = example.tokens_at(model, first, 3), example.tokens_at(model, second, 3)
    scores = example.score_text(sae, *tokens, SHIFT, top=6)
    codes = [sae.encode(each).numpy() for each in tokens]
    places = np.arange(example.WINDOW - SHIFT)
    scored = np.flatnonzero(np.isfinite(scores.cds))
    assert len(scored) > 30
    assert 0.1 < np.nanmedian(scores.cds) < 0.4
    for feature in scored[:30]:
        score = np.maximum(codes[0][:, :, feature].max(1), codes[1][:, :, feature].max(1))
        distances = []
        for sequence in np.argsort(-score, kind="stable")[:6]:
            maps = codes[0][sequence, SHIFT:, feature], codes[1][sequence, : len(places), feature]
            if score[sequence] > 0 and all(each.sum() > 0 for each in maps):
                distances.append(wasserstein_distance(places, places, *maps) / places[-1])
        assert len(distances) == scores.pairs[feature] >= 3
        assert np.mean(distances) == pytest.approx(scores.cds[feature], abs=1e-6)
