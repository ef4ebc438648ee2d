"""The fit check: its numbers against plain formulas, and its judgement against planted causes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from infoscope.dictionaries.activations import JumpReLU, ReLU, TopK
from infoscope.dictionaries.fvu import FitSums
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.images.source import open_images
from infoscope.images.views import Views
from infoscope.measurement import fit as fit_module
from infoscope.measurement.fit import check_fit, fit_sample
from infoscope.measurement.fit_judgement import compare_site, judge_fit, same_model
from infoscope.measurement.measure import measure_scope
from infoscope.runtime.manifest import DictionaryRecord, FitRecord, Manifest, ModelRecord
from small import FEATURES, WIDTH, pictures

HERE, ELSEWHERE = "ab" * 32, "cd" * 32
MODEL = ModelRecord("openai/clip-vit-base-patch16", None, HERE, "CLIP", 10, 16, 14, 1)
TOPK = DictionaryRecord("sae", "infoscope", "ef" * 32, 4096, "topk(32)")
RELU = replace(TOPK, activation="relu")
# An SAE whose description says everything, and agrees.
SITE = {"model": MODEL.name, "sha256": HERE, "block": 10, "tokens": "patch", "input_side": 224}
GOOD = FitRecord(
    fvu=0.2,
    l0=32.0,
    dead=0.1,
    sample=50176,
    sample_l0=32.0,
    sample_dead=0.2,
    k=32,
    token_norm=19.0,
    trained_norm=19.5,
    warnings=[],
)


def judged(fit=GOOD, site=SITE, dictionary=TOPK):
    return judge_fit(fit, site, MODEL, dictionary)


def order(line, *causes):
    """Whether a line names these causes, one after the other."""
    places = [line.find(cause) for cause in causes]
    return -1 not in places and places == sorted(places)


def test_nothing_is_said_of_an_sae_that_fits():
    assert judged() == []
    assert judged(site=None) == []
    assert judged(fit=FitRecord(fvu=0.2, l0=32.0, dead=0.0, sample=50176)) == []
    assert judged(dictionary=RELU) == []


@pytest.mark.parametrize(("fvu", "lines"), [(0.499, 0), (0.5, 1), (0.999, 1), (1.0, 1)])
def test_where_the_fvu_begins_to_be_a_warning(fvu, lines):
    found = judged(fit=replace(GOOD, fvu=fvu))
    assert len(found) == lines
    assert ("worse than the mean token" in "".join(found)) == (fvu >= 1)


def test_another_checkpoint_is_named_by_its_weights():
    line, fvu = judged(fit=replace(GOOD, fvu=1.3), site=SITE | {"sha256": ELSEWHERE})
    assert "another checkpoint" in line
    assert "cdcdcdcdcdcd" in line
    assert "abababababab" in line
    assert "likeliest first: the other checkpoint; " in fvu
    assert "block" not in fvu, "the SAE's description rules it out"


def test_another_checkpoint_by_name_alone_may_be_a_copy():
    site = {"model": "laion/CLIP-ViT-B-16-laion2B-s34B-b88K", "block": 10}
    (line,) = judged(site=site)
    assert "unless the two are copies of one" in line
    assert "likeliest first: another checkpoint of the model; " in judged(fit=replace(GOOD, fvu=0.6), site=site)[1]
    assert judged(site={"model": "/models/clip-vit-base-patch16/", "block": 10}) == []


def test_another_block_comes_first_whatever_else_is_open():
    line, fvu = judged(fit=replace(GOOD, fvu=0.72, trained_norm=None), site={"block": 9})
    assert "trained on block 9, and these tokens are of block 10: give --block 9" in line
    assert order(fvu, "the other block", "normalisation", "another checkpoint", "CLS", "images unlike")


def test_another_place_in_the_block_is_said():
    (line,) = judged(site={"hook": "blocks.10.hook_mlp_out"})
    assert "blocks.10.hook_mlp_out" in line
    assert judged(site={"hook": "blocks.11.hook_resid_pre", "block": 10}) == [], "the output of block 10"
    assert judged(site={"hook": "blocks.10.hook_resid_post", "block": 10}) == []


def test_another_input_side_is_said():
    (line,) = judged(site=SITE | {"input_side": 448})
    assert "448 pixels a side, and the input here has 224" in line


@pytest.mark.parametrize("tokens", ["cls", "cls_only", "CLS-only"])
def test_training_on_cls_tokens_only_is_said_even_where_the_fvu_is_low(tokens):
    (line,) = judged(site=SITE | {"tokens": tokens})
    assert "CLS tokens only" in line
    fvu = judged(fit=replace(GOOD, fvu=1.5), site={"tokens": tokens})[1]
    assert "likeliest first: training on CLS tokens only; " in fvu


@pytest.mark.parametrize(
    ("norm", "warned"), [(13.1, False), (12.9, True), (29.2, False), (29.3, True), (1.0, True), (500.0, True)]
)
def test_a_missing_normalisation_shows_in_the_norm(norm, warned):
    lines = judged(fit=replace(GOOD, token_norm=norm))
    assert bool(lines) == warned
    if warned:
        assert f"mean norm is {norm:.1f}" in lines[0]
        assert "19.5" in lines[0]
        assert lines[0].endswith("Likely cause: a missing normalisation or scale of the input.")
        # The norm makes it the likeliest cause of a high FVU too.
        fvu = judged(fit=replace(GOOD, token_norm=norm, fvu=1.4), site=None)[0]
        assert order(fvu, "normalisation", "another checkpoint", "another block")


def test_a_norm_as_in_training_rules_a_missing_normalisation_out():
    assert "normalisation" not in judged(fit=replace(GOOD, fvu=1.4), site=None)[0]
    line = judged(fit=replace(GOOD, fvu=1.4))[0]
    assert "likeliest first: images unlike those it was trained on; an SAE that was trained badly" in line


def test_the_order_of_what_is_not_known_depends_on_the_activation():
    unknown = replace(GOOD, fvu=1.4, trained_norm=None)
    assert order(judged(unknown, None)[0], "another checkpoint", "another block", "normalisation", "CLS", "images")
    assert order(judged(unknown, None, RELU)[0], "normalisation", "another checkpoint", "another block")


def test_too_many_codes_where_nothing_fixes_their_number():
    many = replace(GOOD, k=None, sample_l0=410.0, trained_norm=None)
    (line,) = judged(many, None, RELU)
    assert "L0 410, 10% of the features" in line
    assert order(line, "normalisation", "another checkpoint", "another block")
    assert judged(replace(many, sample_l0=409.0), None, RELU) == []
    assert judged(many, None, TOPK) == []


def test_too_few_codes_where_k_fixes_their_number():
    (line,) = judged(replace(GOOD, sample_l0=15.9), None)
    assert "L0 15.9, less than half of k = 32" in line
    assert judged(replace(GOOD, sample_l0=16.1), None) == []


def test_most_features_dead_on_a_sample_that_is_large_enough():
    (line,) = judged(replace(GOOD, sample_dead=0.91))
    assert "91% of the features are dead on a sample with 392 codes for each" in line
    assert judged(replace(GOOD, sample_dead=0.9)) == []
    assert judged(replace(GOOD, sample_dead=0.99, sample=1000)) == [], "8 codes a feature: many are only rare"


def test_every_warning_is_one_line():
    worst = replace(GOOD, fvu=3.0, token_norm=400.0, sample_l0=3000.0, sample_dead=0.95, k=None)
    site = {"model": "x", "sha256": ELSEWHERE, "block": 3, "tokens": "cls", "input_side": 64, "hook": "attn"}
    lines = judged(worst, site, RELU)
    assert len(lines) == 8
    assert not any("\n" in line for line in lines)


def test_a_site_of_other_types_is_not_judged():
    assert compare_site({"model": None, "sha256": 3, "block": "ten", "tokens": ["cls"], "input_side": "x"}, MODEL) == (
        compare_site({}, MODEL)
    )


def test_names_of_one_model():
    assert same_model("hf-hub:timm/vit", "timm/vit")
    assert not same_model("openai/clip-vit-base-patch16", "openai/clip-vit-large-patch14")


def plain_numbers(backbone, sae, images):
    view = Views(backbone.patch_size, backbone.grid, 0).full
    tokens = torch.cat([backbone.tokens(view(images[i])[None]).flatten(0, 1) for i in range(len(images))])
    codes = sae.encode(tokens)
    exact, rebuilt = tokens.double(), sae.decode(codes, tokens).double()
    fvu = ((exact - rebuilt) ** 2).sum() / ((exact - exact.mean(0)) ** 2).sum()
    active = codes > 0
    return (
        float(fvu),
        float(active.sum() / len(tokens)),
        float((~active.any(0)).double().mean()),
        exact.norm(dim=1).mean(),
    )


@pytest.mark.slow
@pytest.mark.parametrize("activation", [TopK(6), TopK(6, relu=False), ReLU(), JumpReLU(torch.full((FEATURES,), 2.0))])
def test_the_numbers_are_those_of_the_plain_formulas(backbone, sae, images, activation):
    sae = SparseAutoencoder(sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec, activation)
    fvu, l0, dead, norm = plain_numbers(backbone, sae, images)
    fit = check_fit(backbone, sae, images, batch_size=7)
    assert fit.fvu == pytest.approx(fvu, rel=1e-5)
    assert fit.sample_l0 == fit.l0 == pytest.approx(l0)
    assert fit.sample_dead == fit.dead == dead
    assert fit.token_norm == pytest.approx(float(norm))
    assert fit.sample == len(images) * backbone.grid**2
    assert fit.k == getattr(activation, "k", None)


def test_a_measurement_stores_the_same_check(backbone, sae, images, tmp_path):
    sae = SparseAutoencoder(
        sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec, TopK(6), site={"mean_token_norm": 1e-3, "block": 0}
    )
    alone = check_fit(backbone, sae, images)
    scope = measure_scope(backbone, sae, images, top_images=4, out=tmp_path / "run")
    stored = scope.manifest.fit
    assert stored.warnings == alone.warnings
    assert any("block 0" in line for line in stored.warnings)
    assert any("mean norm" in line for line in stored.warnings)
    for name in ("fvu", "sample_l0", "sample_dead", "token_norm", "trained_norm", "l0", "dead"):
        assert getattr(stored, name) == pytest.approx(getattr(alone, name), rel=1e-6), name


def test_the_sample_of_a_measurement_is_the_checks_and_no_more(backbone, sae, images, monkeypatch):
    monkeypatch.setattr(fit_module, "SAMPLE_IMAGES", 5)
    assert fit_sample(24) == {0, 6, 12, 17, 23}
    sae = SparseAutoencoder(sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec, ReLU())
    some = open_images([images[i] for i in sorted(fit_sample(24))])
    scope = measure_scope(backbone, sae, images, top_images=4)
    fit = scope.manifest.fit
    fvu, l0, dead, norm = plain_numbers(backbone, sae, some)
    assert (fit.sample_l0, fit.sample_dead) == (pytest.approx(l0), pytest.approx(dead))
    assert (fit.fvu, fit.token_norm) == (pytest.approx(fvu, rel=1e-5), pytest.approx(float(norm)))
    assert fit.l0 == pytest.approx(plain_numbers(backbone, sae, images)[1])
    assert abs(fit.l0 - l0) > 1e-3, "or the sample could not be told from the pool"


def test_sums_merge_and_go_through_a_file():
    random = np.random.default_rng(0)
    tokens = torch.from_numpy(random.normal(5, 1, (60, 8)).astype(np.float32))
    active = random.integers(0, 2, (60, 12))

    def sums(rows):
        part = FitSums.empty(8, 12)
        part.update(tokens[rows], tokens[rows] * 0.9, active[rows].sum(0))
        return FitSums.from_arrays(part.arrays())

    whole, first = sums(slice(0, 60)), sums(slice(0, 25))
    first.merge(sums(slice(25, 60)))
    assert first.fvu.value == pytest.approx(whole.fvu.value, rel=1e-12)
    assert first.mean_norm == pytest.approx(whole.mean_norm, rel=1e-12)
    assert first.mean_norm == pytest.approx(np.linalg.norm(tokens.double().numpy(), axis=1).mean())
    assert (first.l0, first.dead) == (whole.l0, whole.dead)


def test_an_sae_of_another_width_is_refused(backbone, images):
    narrow = SparseAutoencoder(torch.eye(8), torch.zeros(8), torch.eye(8), torch.zeros(8), ReLU())
    with pytest.raises(InfoscopeError, match=f"width 8, but .* has width {WIDTH}"):
        check_fit(backbone, narrow, images)


def test_images_that_cannot_be_read_are_left_out(backbone, sae, tmp_path):
    for i, picture in enumerate(pictures(3)):
        picture.save(tmp_path / f"{i}.png")
    (tmp_path / "1.png").write_bytes(b"no")
    assert check_fit(backbone, sae, tmp_path).sample == 2 * backbone.grid**2
    for name in ("0.png", "2.png"):
        (tmp_path / name).write_bytes(b"no")
    with pytest.raises(InfoscopeError, match="none of the 3 images"):
        check_fit(backbone, sae, tmp_path)


def test_a_manifest_from_before_the_judgement_is_read(backbone, sae, images, tmp_path):
    measure_scope(backbone, sae, images, top_images=4, out=tmp_path / "run")
    file = tmp_path / "run" / "manifest.json"
    value = json.loads(file.read_text())
    assert value["fit"]["warnings"] == Manifest.read(file).fit.warnings
    value["fit"] = {name: value["fit"][name] for name in ("fvu", "l0", "dead", "sample")}
    del value["checksum"]  # there was none then
    file.write_text(json.dumps(value))
    fit = Manifest.read(file).fit
    assert (fit.warnings, fit.sample_l0, fit.sample_dead, fit.k, fit.token_norm, fit.trained_norm) == (None,) * 6
