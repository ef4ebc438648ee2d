"""Dictionaries without training, against scikit-learn and against what they are by definition."""

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from sklearn.decomposition import PCA

from infoscope.dictionaries.formats.infoscope import save_sae
from infoscope.dictionaries.loading import load_sae
from infoscope.dictionaries.untrained import (
    KINDS,
    channel_dictionary,
    direction_dictionary,
    neuron_dictionary,
    pca_dictionary,
    read_directions,
    split_kind,
)
from infoscope.errors import InfoscopeError

WIDTH = 12


@pytest.fixture(scope="module")
def tokens():
    """Correlated, with a mean far larger than the spread of most channels."""
    random = np.random.default_rng(0)
    mixed = random.normal(size=(400, WIDTH)) @ random.normal(size=(WIDTH, WIDTH))
    return (mixed + random.normal(0, 20, WIDTH)).astype(np.float32)


def codes_of(dictionary, tokens):
    return dictionary.encode(torch.from_numpy(tokens)).numpy()


@pytest.mark.parametrize("components", [None, 5])
def test_pca_is_scikit_learns(tokens, components):
    exact = tokens.astype(np.float64)
    ours = pca_dictionary(exact.mean(0), np.cov(exact.T), components)
    theirs = PCA(components, svd_solver="full").fit(exact)
    kept = components or WIDTH
    assert ours.features == 2 * kept
    np.testing.assert_allclose(ours.W_dec[:kept].numpy(), theirs.components_, atol=1e-5)
    score = theirs.transform(exact)
    codes = codes_of(ours, tokens)
    np.testing.assert_allclose(codes[:, :kept] - codes[:, kept:], score, atol=1e-3)
    assert (codes >= 0).all()
    assert not (codes[:, :kept] * codes[:, kept:]).any()  # never both signs at once
    error = tokens - ours(torch.from_numpy(tokens)).numpy()
    unexplained = (error**2).sum() / ((tokens - tokens.mean(0)) ** 2).sum()
    assert unexplained == pytest.approx(1 - theirs.explained_variance_ratio_.sum(), abs=1e-5)


def test_components_that_the_tokens_do_not_have_are_left_out():
    few = np.random.default_rng(1).normal(size=(6, WIDTH))
    assert pca_dictionary(few.mean(0), np.cov(few.T)).features == 2 * 5
    with pytest.raises(InfoscopeError, match="--components 6 is out of range: these tokens have 5"):
        pca_dictionary(few.mean(0), np.cov(few.T), 6)


def test_channels_are_both_signs_around_the_mean(tokens):
    mean = tokens.mean(0)
    codes = codes_of(channel_dictionary(mean), tokens)
    np.testing.assert_allclose(codes[:, :WIDTH], np.maximum(tokens - mean, 0), atol=1e-5)
    np.testing.assert_allclose(codes[:, WIDTH:], np.maximum(mean - tokens, 0), atol=1e-5)
    raw = codes_of(channel_dictionary(np.zeros(WIDTH)), tokens)
    assert np.array_equal(raw, np.concatenate([np.maximum(tokens, 0), np.maximum(-tokens, 0)], 1))


def test_neurons_are_as_they_are(tokens):
    assert np.array_equal(codes_of(neuron_dictionary(WIDTH, gated=False), tokens), np.maximum(tokens, 0))
    both = codes_of(neuron_dictionary(WIDTH, gated=True), tokens)
    assert np.array_equal(both[:, :WIDTH] - both[:, WIDTH:], tokens)


def test_directions_have_length_one_and_one_sign(tokens):
    given = np.random.default_rng(2).normal(size=(7, WIDTH)).astype(np.float32)
    mean = tokens.mean(0)
    dictionary = direction_dictionary(3 * given, mean)
    expected = (tokens - mean) @ (given / np.linalg.norm(given, axis=1, keepdims=True)).T
    np.testing.assert_allclose(codes_of(dictionary, tokens), np.maximum(expected, 0), atol=1e-4)
    given[3] = 0
    with pytest.raises(InfoscopeError, match="words: direction 3 is 0, NaN or infinite"):
        direction_dictionary(given, mean, name="words")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_is_saved_and_read_again(kind, tmp_path):
    mean = np.arange(3.0)
    made = {
        "channels": lambda: channel_dictionary(mean, site={"block": 2}),
        "pca": lambda: pca_dictionary(mean, np.diag([3.0, 2.0, 1.0]), site={"block": 2}),
        "neurons": lambda: neuron_dictionary(3, gated=True, site={"block": 2}),
        "directions": lambda: direction_dictionary(np.eye(2, 3), mean, site={"block": 2}),
    }[kind]()
    assert (made.format, split_kind("directions:x" if kind == "directions" else kind)[0]) == (kind, kind)
    save_sae(made, tmp_path / "d")
    read = load_sae(tmp_path / "d")
    assert (read.format, read.site, str(read.activation)) == (kind, {"block": 2}, "relu")
    assert torch.equal(read.W_enc, made.W_enc)
    assert made.sha256 == read.sha256


def test_files_of_directions(tmp_path):
    given = np.random.default_rng(3).normal(size=(4, WIDTH)).astype(np.float32)
    mean = np.ones(WIDTH, np.float32)
    np.save(tmp_path / "a.npy", given)
    save_file({"directions": given, "mean": mean, "other": given[:2]}, tmp_path / "b.safetensors")
    save_file({"texts": given}, tmp_path / "c.safetensors")
    for name, expected in (("a.npy", None), ("b.safetensors", mean), ("c.safetensors", None)):
        directions, found = read_directions(tmp_path / name)
        assert np.array_equal(directions, given)
        assert found is expected or np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.npy", None, "no such file of directions"),
        ("a.txt", lambda path: path.write_text("1 2"), "neither .npy nor .safetensors"),
        ("a.npy", lambda path: path.write_bytes(b"\x93NUMPY broken"), "is not a readable .npy file"),
        ("a.npy", lambda path: np.save(path, np.array([{}], object)), "is not a readable .npy file"),
        ("a.npy", lambda path: np.save(path, np.ones(3)), r"holds \[3\] of float64"),
        ("a.npy", lambda path: np.save(path, np.ones((2, 3), int)), r"holds \[2, 3\] of int64"),
        ("a.safetensors", lambda path: path.write_bytes(b"no"), "cut short or not a safetensors file"),
        (
            "a.safetensors",
            lambda path: save_file({"a": np.ones((2, 3), np.float32), "b": np.ones((2, 3), np.float32)}, path),
            "holds a, b: call the directions 'directions'",
        ),
        (
            "a.safetensors",
            lambda path: save_file({"a": np.ones((2, 3), np.float32), "mean": np.ones(2, np.float32)}, path),
            "mean has shape",
        ),
    ],
)
def test_other_files_are_refused(tmp_path, name, write, message):
    if write:
        write(tmp_path / name)
    with pytest.raises(InfoscopeError, match=message):
        read_directions(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "message"),
    [("ica", "'ica' is not known"), ("pca:x", "pca takes no file"), ("directions:", "needs a file")],
)
def test_other_names_are_refused(text, message):
    with pytest.raises(InfoscopeError, match=message):
        split_kind(text)
