"""Edited backbones against dense algebra in float64, and exactly where the method says so (section 7)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import infoscope.analyses.removal.edited as edited_module
from infoscope.analyses.removal.edited import EditedBackbone
from infoscope.analyses.removal.groups import FeatureGroup
from infoscope.analyses.removal.statistics import read_statistics
from infoscope.analyses.removal.variants import Variant
from infoscope.backbones.loading import load_backbone
from infoscope.backbones.whole_pass import WholePass
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from small import FEATURES, GRID, SIDE, WIDTH, save_model

KINDS = ["topk", "relu", "signed", "layer_norm", "unit_norm"]
IDS = [f"image {number}" for number in range(5)]
NOTHING = FeatureGroup("nothing", "list", np.zeros(0, np.uint32))
EVERYTHING = FeatureGroup("everything", "list", np.arange(FEATURES, dtype=np.uint32))


def outputs_of(edited, pixels, *variants, ids=IDS, blocks=(0, 1, 2)):
    """Outputs by variant, which all come."""
    found = list(edited.run(pixels, ids[: len(pixels)], variants, blocks))
    assert [variant for variant, _ in found] == list(variants)
    return [outputs for _, outputs in found]


def encode_by_hand(sae, tokens):
    """Codes, and each token's shift and scale, in float64."""
    x = tokens.double().numpy()
    shift, scale, eps = np.zeros((len(x), 1)), np.ones((len(x), 1)), 0.0
    if sae.token_norm is not None and sae.token_norm.kind == "layer_norm":
        shift, scale, eps = x.mean(1, keepdims=True), x.std(1, ddof=1, keepdims=True), 1e-5
    elif sae.token_norm is not None:
        scale = np.sqrt((x**2).mean(1, keepdims=True))
    pre = (x - shift) / (scale + eps) @ sae.W_enc.double().numpy() + sae.b_enc.double().numpy()
    if sae.activation.name == "topk":
        least = np.sort(pre, axis=1)[:, -sae.activation.k, None]
        pre = np.where(pre >= least, pre, 0.0)
    return (pre if sae.activation.signed else np.maximum(pre, 0)), shift, scale


def edit_by_hand(sae, tokens, removed, method, instead=0.0):
    """Tokens ``[token, width]`` with the codes of ``removed`` replaced."""
    codes, shift, scale = encode_by_hand(sae, tokens)
    after = codes.copy()
    after[:, removed] = instead
    W_dec = sae.W_dec.double().numpy()
    if method == "reconstruct":
        return (after @ W_dec + sae.b_dec.double().numpy()) * scale + shift
    return tokens.double().numpy() - (codes - after) @ W_dec * scale


@pytest.fixture(scope="module")
def stream(backbone, pixels):
    return backbone.all_tokens(pixels)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["keep-error", "reconstruct"])
@pytest.mark.parametrize("replacement", ["zero", "mean", "resampled"])
def test_patches_against_dense_algebra(backbone, saes, images, pixels, stream, group, kind, method, replacement):
    sae, prefix = saes[kind], backbone.prefix_tokens
    statistics = read_statistics(backbone, sae, images, sample_images=7, donors=4)
    edited = EditedBackbone(backbone, sae, statistics=statistics, seed=3)
    (found,) = outputs_of(edited, pixels, Variant("minus", group, method, replacement, "site"))
    instead = 0.0
    if replacement == "mean":
        read = torch.cat([tokens_of_image(backbone, images, index) for index in (0, 2, 4, 6, 7, 9, 11)])
        instead = encode_by_hand(sae, read)[0].mean(0)[group.features]
    elif replacement == "resampled":
        chosen = [int(statistics.donor_ids[donor].split(".")[0]) for donor in statistics.donors_of(IDS, seed=3)]
        read = torch.cat([tokens_of_image(backbone, images, index) for index in chosen])
        instead = encode_by_hand(sae, read)[0][:, group.features]
    expected = edit_by_hand(sae, stream[:, prefix:].flatten(0, 1), group.features, method, instead)
    tokens = found.tokens[1]
    np.testing.assert_allclose(tokens[:, prefix:].flatten(0, 1).numpy(), expected, rtol=1e-4, atol=2e-4)
    assert torch.equal(tokens[:, :prefix], stream[:, :prefix])
    assert (tokens - stream)[:, prefix:].abs().max() > 0.1
    assert found.pooled is None
    assert torch.equal(found.last, tokens)


def tokens_of_image(backbone, images, index):
    """An image's patch tokens, read by itself."""
    from infoscope.images.views import Views

    return backbone.tokens(Views(backbone.patch_size, backbone.grid, 0).full(images[index])[None])[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("site", ["rerun", "site"])
def test_removing_nothing_is_the_untouched_model_to_the_bit(backbone, saes, images, pixels, kind, site):
    statistics = read_statistics(backbone, saes[kind], images, sample_images=3, donors=2)
    edited = EditedBackbone(backbone, saes[kind], statistics=statistics)
    same = [
        Variant(f"minus nothing, {how}", NOTHING, replacement=how, site=site) for how in ("zero", "mean", "resampled")
    ]
    untouched, *others = outputs_of(edited, pixels, Variant("untouched", site=site), *same)
    alone = WholePass(backbone, pixels, blocks=[0, 1, 2]).outputs
    if site == "rerun":
        assert all(torch.equal(untouched.tokens[block], alone.tokens[block]) for block in (0, 1, 2))
        assert torch.equal(untouched.last, alone.last)
        assert torch.equal(untouched.pooled, alone.pooled)
    else:
        assert torch.equal(untouched.tokens[1], alone.tokens[1])
    for outputs in others:
        assert outputs.tokens.keys() == untouched.tokens.keys()
        for block, tokens in outputs.tokens.items():
            assert tokens.numpy().tobytes() == untouched.tokens[block].numpy().tobytes()
        assert torch.equal(outputs.last, untouched.last)
        assert outputs.pooled is None if site == "site" else torch.equal(outputs.pooled, untouched.pooled)


@pytest.mark.parametrize("kind", KINDS)
def test_removing_everything_leaves_the_bias(backbone, saes, pixels, stream, kind):
    sae, prefix = saes[kind], backbone.prefix_tokens
    (found,) = outputs_of(
        EditedBackbone(backbone, sae), pixels, Variant("nothing left", EVERYTHING, "reconstruct", site="site")
    )
    tokens = found.tokens[1][:, prefix:]
    if sae.token_norm is None:
        assert torch.equal(tokens, sae.b_dec.expand(tokens.shape))
    else:  # on the scale of each token
        expected = sae.token_norm.undo(sae.b_dec.expand(tokens.shape), stream[:, prefix:])
        assert torch.equal(tokens, expected)
        assert (tokens - sae.b_dec).abs().max() > 0.1
    assert torch.equal(found.tokens[1][:, :prefix], stream[:, :prefix])


@pytest.mark.parametrize("kind", KINDS)
def test_the_reconstruction_is_the_saes_own(backbone, saes, pixels, stream, kind):
    sae, prefix = saes[kind], backbone.prefix_tokens
    both = [Variant("reconstruction", method="reconstruct", site=site) for site in ("site", "rerun")]
    at_site, run_on = outputs_of(EditedBackbone(backbone, sae), pixels, *both)
    torch.testing.assert_close(at_site.tokens[1][:, prefix:], sae(stream[:, prefix:]), rtol=1e-4, atol=1e-4)
    assert torch.equal(at_site.tokens[1], run_on.tokens[1])


@pytest.mark.parametrize(("token_set", "chosen"), [("patch", slice(3, None)), ("all", slice(None)), ("cls", slice(1))])
def test_only_the_tokens_of_the_set_are_edited(backbone, saes, images, pixels, stream, group, token_set, chosen):
    assert backbone.prefix_tokens == 3
    sae = saes["topk"]
    statistics = read_statistics(backbone, sae, images, token_set=token_set, sample_images=4, donors=3)
    count = len(range(3 + GRID**2)[chosen])
    assert (statistics.tokens, tuple(statistics.donors.shape)) == (4 * count, (3, count, WIDTH))
    edited = EditedBackbone(backbone, sae, token_set, statistics)
    zero, resampled, run_on = outputs_of(
        edited,
        pixels,
        Variant("zero", group, site="site"),
        Variant("resampled", group, replacement="resampled", site="site"),
        Variant("zero", group, site="rerun"),
    )
    rest = [place for place in range(3 + GRID**2) if place not in range(3 + GRID**2)[chosen]]
    assert torch.equal(zero.tokens[1][:, rest], stream[:, rest])
    expected = edit_by_hand(sae, stream[:, chosen].flatten(0, 1), group.features, "keep-error")
    np.testing.assert_allclose(zero.tokens[1][:, chosen].flatten(0, 1).numpy(), expected, rtol=1e-4, atol=2e-4)
    donors = statistics.donors[torch.from_numpy(statistics.donors_of(IDS, 0))].flatten(0, 1)
    instead = encode_by_hand(sae, donors)[0][:, group.features]
    expected = edit_by_hand(sae, stream[:, chosen].flatten(0, 1), group.features, "keep-error", instead)
    np.testing.assert_allclose(resampled.tokens[1][:, chosen].flatten(0, 1).numpy(), expected, rtol=1e-4, atol=2e-4)
    by_hand = WholePass(backbone, pixels, [2]).run_from(zero.tokens[1])
    assert torch.equal(run_on.tokens[2], by_hand.tokens[2])
    assert torch.equal(run_on.pooled, by_hand.pooled)


def test_a_variant_does_not_depend_on_the_others_or_on_the_batch(backbone, saes, images, pixels, group):
    statistics = read_statistics(backbone, saes["relu"], images, sample_images=6, donors=4)
    edited = EditedBackbone(backbone, saes["relu"], statistics=statistics, seed=1)
    variants = [
        Variant("reconstruction", method="reconstruct"),
        Variant("zero", group),
        Variant("mean", group, replacement="mean"),
        Variant("resampled", group, replacement="resampled"),
        Variant("untouched", site="site"),
        Variant("resampled", group, "reconstruct", "resampled", "site"),
    ]
    together = outputs_of(edited, pixels, *variants)
    backwards = outputs_of(edited, pixels, *variants[::-1])[::-1]
    for place, (variant, outputs) in enumerate(zip(variants, together, strict=True)):
        (alone,) = outputs_of(edited, pixels, variant)
        pieces = [outputs_of(edited, pixels[i : i + 2], variant, ids=IDS[i:])[0] for i in (0, 2, 4)]
        for block, tokens in outputs.tokens.items():
            assert torch.equal(tokens, alone.tokens[block])
            assert torch.equal(tokens, backwards[place].tokens[block])
            # A model's own products round otherwise in another batch, by the last digits.
            torch.testing.assert_close(
                torch.cat([piece.tokens[block] for piece in pieces]), tokens, rtol=1e-4, atol=1e-4
            )
        torch.testing.assert_close(torch.cat([piece.last for piece in pieces]), outputs.last, rtol=1e-4, atol=1e-4)


def test_the_model_is_run_once_and_its_codes_taken_once(backbone, saes, images, pixels, group, monkeypatch):
    statistics = read_statistics(backbone, saes["topk"], images, sample_images=4, donors=3)
    edited = EditedBackbone(backbone, saes["topk"], statistics=statistics)
    runs, encodes = [0] * 3, []
    own = edited_module.encode_parts
    monkeypatch.setattr(edited_module, "encode_parts", lambda *given: encodes.append(1) or own(*given))

    def counting(block):
        def count(module, given, output):
            runs[block] += module.forward.__qualname__ == type(module).forward.__qualname__

        return count

    hooks = [module.register_forward_hook(counting(block)) for block, module in enumerate(backbone.block_list)]
    try:
        ways = [Variant(how, group, replacement=how, site=site) for how in ("zero", "mean", "resampled")
                for site in ("rerun", "site")]  # fmt: skip
        outputs_of(edited, pixels, Variant("untouched"), *ways)
        assert runs == [1, 1, 4]
        assert len(encodes) == 2  # the images' codes and the donors'
        outputs_of(edited, pixels, Variant("untouched", site="site"))
        assert runs == [2, 2, 4]  # nothing after the block
        assert len(encodes) == 2  # and no codes where nothing is edited
    finally:
        for hook in hooks:
            hook.remove()


def test_what_cannot_be_removed(backbone, saes, images, pixels, group, tmp_path):
    sae = saes["topk"]
    edited = EditedBackbone(backbone, sae)

    def refuse(message, *variants, of=edited):
        with pytest.raises(InfoscopeError, match=message):
            list(of.run(pixels, IDS, variants))

    refuse("there is no variant to read")
    refuse("two variants are called minus at rerun", Variant("minus", group), Variant("minus", NOTHING))
    refuse("minus: a mean replacement needs a sample's codes", Variant("minus", group, replacement="mean"))
    one = read_statistics(backbone, sae, images, sample_images=2, donors=1)
    refuse(
        "needs at least 2 images in the sample",
        Variant("minus", group, replacement="resampled"),
        of=replace(edited, statistics=one),
    )
    beyond = FeatureGroup("beyond", "list", np.uint32([1, FEATURES]))
    refuse(f"removes feature {FEATURES}, and the SAE .* has features\n? *0 to {FEATURES - 1}", Variant("minus", beyond))
    weights = [weight.clone() for weight in (sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec)]
    neurons = SparseAutoencoder(*weights, sae.activation, format="directions")
    refuse(
        "directions reconstruct nothing",
        Variant("reconstruction", method="reconstruct"),
        of=EditedBackbone(backbone, neurons),
    )
    with pytest.raises(InfoscopeError, match="neurons are not removed from the residual stream"):
        EditedBackbone(backbone.at(reads="neurons"), wide_sae(backbone.at(reads="neurons").width))
    with pytest.raises(InfoscopeError, match="takes tokens of width 7"):
        EditedBackbone(backbone, wide_sae(7))
    for wrong in (replace(one, mean=one.mean[1:], mass=one.mass[1:]), replace(one, donors=one.donors[:, 1:])):
        with pytest.raises(InfoscopeError, match="do not belong to 48 features and 36 tokens of width 32"):
            EditedBackbone(backbone, sae, statistics=wrong)
    plain = load_backbone(save_model(tmp_path), block=1, input_side=SIDE, device="cpu")
    without = replace(plain, layout=replace(plain.layout, special_tokens=0), prefix_tokens=0)
    with pytest.raises(InfoscopeError, match="has no CLS token"):
        EditedBackbone(without, sae, "cls")


def wide_sae(width):
    from infoscope.dictionaries.activations import ReLU

    return SparseAutoencoder(torch.zeros(width, 4), torch.zeros(4), torch.zeros(4, width), torch.zeros(width), ReLU())
