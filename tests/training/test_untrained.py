"""Dictionaries made for a model: from its tokens, and measured like any SAE."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from infoscope.backbones.loading import load_backbone
from infoscope.cli.main import main
from infoscope.dictionaries.formats.infoscope import save_sae
from infoscope.errors import InfoscopeError
from infoscope.images.source import open_images
from infoscope.images.views import Views
from infoscope.measurement.measure import measure_scope
from infoscope.runtime.execution import Execution
from infoscope.runtime.run import open_run
from infoscope.training.untrained import make_dictionaries, make_dictionary, token_moments
from small import GRID, PATCH, SIDE, WIDTH, pictures, save_model


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    save_model(folder / "model")
    (folder / "images").mkdir()
    for i, picture in enumerate(pictures(20)):
        picture.save(folder / "images" / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module")
def backbone(place):
    return load_backbone(place / "model", block=1, input_side=SIDE, device="cpu")


@pytest.fixture(scope="module")
def images(place):
    return open_images(place / "images")


@pytest.fixture(scope="module")
def tokens(backbone, images):
    full = Views(PATCH, GRID, 0, "stretch").full
    return backbone.tokens(np.stack([full(images[i]) for i in range(len(images))])).flatten(0, 1).numpy()


def quiet(dictionary, backbone, images=None, **options):
    return make_dictionary(dictionary, backbone, images, **options)


def test_moments_are_numpys_whatever_the_batch(backbone, images, tokens):
    exact = tokens.astype(np.float64)
    for batch_size in (3, 20):
        (moments,) = token_moments(backbone, [1], images, Execution(batch_size=batch_size))
        assert moments.tokens == len(tokens)
        np.testing.assert_allclose(moments.mean, exact.mean(0), rtol=1e-5)
        np.testing.assert_allclose(moments.covariance, np.cov(exact.T), rtol=1e-4, atol=1e-4)


def test_pca_of_a_models_tokens_is_scikit_learns(backbone, images, tokens):
    ours = quiet("pca", backbone, images, components=6)
    theirs = PCA(6, svd_solver="full").fit(tokens.astype(np.float64))
    np.testing.assert_allclose(ours.W_dec[:6].numpy(), theirs.components_, atol=1e-3)


def test_blocks_made_together_are_those_made_alone(backbone, images):
    several = [backbone.at(block) for block in (0, 2)]
    together = make_dictionaries("pca", several, images)
    for made, each in zip(together, several, strict=True):
        assert torch.equal(made.W_enc, quiet("pca", each, images).W_enc)
        assert made.site["block"] == each.block


def test_pca_keeps_each_token_whole_and_the_fit_says_what_that_means(backbone, images):
    scope = measure_scope(backbone, quiet("pca", backbone, images), images, top_images=4, noise_images=0)
    assert scope.table.height == 2 * WIDTH
    assert scope.table["cds"].count() > WIDTH
    assert scope.manifest.dictionary.format == "pca"
    fit = scope.manifest.fit
    assert fit.fvu == pytest.approx(0, abs=1e-6)
    assert fit.warnings == []
    assert "no SAE" in fit.note


def test_scores_of_channels_are_those_of_their_codes(backbone, images):
    # Computed from the tokens themselves: the ranking of a channel's positive part around its mean.
    scope = measure_scope(backbone, quiet("channels", backbone, images), images, top_images=4, noise_images=0)
    full = Views(PATCH, GRID, 0, "stretch").full
    each = np.stack([backbone.tokens(full(images[i])[None])[0].numpy() for i in range(len(images))])
    above = each - each.mean((0, 1))
    for feature, sign in ((5, 1), (WIDTH + 5, -1)):
        peaks = (sign * above[:, :, 5]).max(1)
        best = scope.top_images.filter(feature=feature).sort("rank")
        assert best["image"].to_list() == np.argsort(-peaks, kind="stable")[:4].tolist()
        np.testing.assert_allclose(best["score"].to_numpy(), np.sort(peaks)[::-1][:4], rtol=1e-4)


def test_neurons_are_measured_and_reconstruct_nothing(backbone, images):
    neurons = backbone.at(reads="neurons")
    scope = measure_scope(neurons, quiet("neurons", neurons), images, top_images=4, noise_images=0)
    assert scope.table.height == 4 * WIDTH
    assert scope.manifest.model.reads == "neurons"
    assert scope.manifest.fit.fvu is None
    assert "no fit to check" in scope.manifest.fit.note
    with pytest.raises(InfoscopeError, match=r"give backbone\.at"):
        quiet("neurons", backbone)
    with pytest.raises(InfoscopeError, match=r"give backbone\.at"):
        quiet("pca", neurons, images)


def test_directions_of_a_file_and_their_mean(backbone, images, tokens, tmp_path):
    given = np.random.default_rng(0).normal(size=(3, WIDTH)).astype(np.float32)
    np.save(tmp_path / "words.npy", given)
    made = quiet(f"directions:{tmp_path / 'words.npy'}", backbone, images)
    codes = made.encode(torch.from_numpy(tokens)).numpy()
    expected = (tokens - tokens.mean(0)) @ (given / np.linalg.norm(given, axis=1, keepdims=True)).T
    np.testing.assert_allclose(codes, np.maximum(expected, 0), atol=1e-3)
    as_they_are = quiet(f"directions:{tmp_path / 'words.npy'}", backbone, centre=False)
    assert not as_they_are.b_enc.any()
    np.save(tmp_path / "narrow.npy", given[:, :8])
    with pytest.raises(InfoscopeError, match=r"directions of width 8, and the tokens of .* have width 32"):
        quiet(f"directions:{tmp_path / 'narrow.npy'}", backbone, images)


@pytest.mark.parametrize(
    ("dictionary", "options", "message"),
    [
        ("channels", {"components": 3}, "--components belongs to --dictionary pca, not to channels"),
        ("pca", {"centre": False}, "--no-centre belongs to channels and directions, not to pca"),
        ("pca", {}, "--dictionary pca is centred on the mean token; give images"),
    ],
)
def test_options_of_another_dictionary_are_refused(backbone, dictionary, options, message):
    with pytest.raises(InfoscopeError, match=message):
        quiet(dictionary, backbone, **options)


def run(place, *words):
    common = ["measure", "--images", f"{place}/images", "--top-images", "4", "--device", "cpu"]
    return main([*common, *words])


@pytest.mark.slow
def test_the_command_line_measures_them(place, backbone, images, capsys, tmp_path):
    model = ["--model", f"{place}/model", "--block", "1", "--input-side", str(SIDE)]
    assert run(place, *model, "--dictionary", "pca", "--components", "6", "--out", f"{tmp_path}/pca") == 0
    assert "share of variance outside the components kept" in " ".join(capsys.readouterr().out.split())
    pca = quiet("pca", backbone, images, components=6)
    alone = measure_scope(backbone, pca, images, top_images=4)
    assert open_run(tmp_path / "pca").scope.equals(alone.table)
    assert run(place, *model, "--dictionary", "neurons", "--out", f"{tmp_path}/neurons") == 0
    # Saved, it is named by --sae, and knows what of the block to read.
    neurons = backbone.at(reads="neurons")
    save_sae(quiet("neurons", neurons), tmp_path / "dictionary")
    assert run(place, "--sae", f"{tmp_path}/dictionary", "--out", f"{tmp_path}/again") == 0
    assert open_run(tmp_path / "again").scope.equals(open_run(tmp_path / "neurons").scope)
    assert main(["report", f"{tmp_path}/neurons", "--features-shown", "1"]) == 0
    assert "no fit to check" in (tmp_path / "neurons" / "report" / "index.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give --sae or --dictionary, one of the two"),
        (["--sae", "x", "--dictionary", "pca"], "give --sae or --dictionary, one of the two"),
        (["--sae", "x", "--components", "3"], "--components belongs to --dictionary"),
        (["--dictionary", "pca"], "--dictionary pca is made for one block of a model; give --model"),
        (["--dictionary", "pcs", "--model", "x", "--block", "1"], "--dictionary 'pcs' is not known"),
    ],
)
def test_what_cannot_be_is_one_line(place, capsys, tmp_path, words, message):
    assert run(place, *words, "--out", f"{tmp_path}/run") == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()
