"""Image embeddings and logits against transformers' own."""

import shutil

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from infoscope.analyses.zeroshot.classes import Classes
from infoscope.analyses.zeroshot.embeddings import LogitScale, class_embeddings
from infoscope.analyses.zeroshot.image_head import load_image_head
from infoscope.analyses.zeroshot.text import embed_classes
from infoscope.backbones.loading import load_backbone
from infoscope.backbones.whole_pass import WholePass
from infoscope.errors import InfoscopeError
from language import PROJECTED, WIDTH
from small import SIDE as DINO_SIDE
from small import WIDTH as DINO_WIDTH
from small import save_model

CLASSES = Classes(("dog", "cat", "red garbage truck"))


def backbone_of(folder, block=1):
    return load_backbone(folder, block=block, device="cpu")


def classes_of(width, count=3, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, width))
    return class_embeddings(Classes(tuple(f"class {place}" for place in range(count))), vectors)


def test_logits_are_those_of_transformers(whole, photographs):
    classes = embed_classes(whole.folder, CLASSES, device="cpu")
    backbone = backbone_of(whole.folder)
    head = load_image_head(backbone, classes)
    outputs = WholePass(backbone, photographs, head.blocks).outputs
    found = head.score(outputs, torch.from_numpy(classes.vectors))
    template = classes.source["templates"][0]
    with torch.no_grad():
        expected = whole.model(
            **whole.pixels(backbone.normalise(photographs)),
            **whole.tokens([template.format(name) for name in CLASSES.names]),
        )
        features = whole.model.get_image_features(**whole.pixels(backbone.normalise(photographs))).pooler_output
    torch.testing.assert_close(found, expected.logits_per_image, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(head.embed(outputs), torch.nn.functional.normalize(features), rtol=1e-4, atol=1e-5)
    assert head.logits.source == "checkpoint"
    assert (head.projection is not None) == (whole.kind == "clip")


def vision_alone(saved, folder):
    """CLIP's vision part with its projection, and no logit scale."""
    whole = saved("clip").model
    config = whole.config.vision_config
    config.projection_dim = PROJECTED
    alone = transformers.CLIPVisionModelWithProjection(config)
    weights = {name: each for name, each in whole.state_dict().items() if name.startswith("vis")}
    alone.load_state_dict(weights)
    alone.save_pretrained(folder)
    return alone.eval()


def test_the_vision_part_with_its_projection_will_do(saved, photographs, tmp_path):
    alone = vision_alone(saved, tmp_path)
    backbone = backbone_of(tmp_path)
    head = load_image_head(backbone, classes_of(PROJECTED))
    found = head.embed(WholePass(backbone, photographs).outputs)
    with torch.no_grad():
        expected = alone(pixel_values=backbone.normalise(photographs)).image_embeds
    torch.testing.assert_close(found, torch.nn.functional.normalize(expected), rtol=1e-4, atol=1e-5)
    # It has no scale of its own: that of the text tower's checkpoint comes with the classes, else the stated default.
    assert (head.logits.scale, head.logits.source) == (100.0, "default")
    classes = embed_classes(saved("clip").folder, CLASSES, device="cpu")
    assert load_image_head(backbone, classes).logits.scale == pytest.approx(np.exp(2.5))


def test_what_is_said_of_the_scale_comes_before_what_is_known(saved):
    backbone = backbone_of(saved("siglip").folder)
    head = load_image_head(backbone, classes_of(WIDTH), scale=7.0)
    assert (head.logits.scale, head.logits.bias, head.logits.source) == (7.0, -1.5, "option")
    assert load_image_head(backbone, classes_of(WIDTH), bias=2.0).logits.bias == 2.0
    with pytest.raises(InfoscopeError, match=r"a logit scale of -1.0 orders no classes"):
        load_image_head(backbone, classes_of(WIDTH), scale=-1.0)


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    return load_backbone(save_model(tmp_path_factory.mktemp("dino")), block=1, input_side=DINO_SIDE, device="cpu")


def test_a_model_without_texts_has_its_cls_or_its_mean_patch(dino):
    pixels = np.random.default_rng(1).integers(0, 256, (3, DINO_SIDE, DINO_SIDE, 3), dtype=np.uint8)
    with torch.no_grad():
        last = dino.model(pixel_values=dino.normalise(pixels)).last_hidden_state
    for pooled, expected in ((None, last[:, 0]), ("own", last[:, 0]), ("mean-patch", last[:, 1:].mean(1))):
        head = load_image_head(dino, classes_of(DINO_WIDTH), pooled)
        found = head.embed(WholePass(dino, pixels, head.blocks).outputs)
        torch.testing.assert_close(found, torch.nn.functional.normalize(expected), rtol=1e-4, atol=1e-5)
    assert load_image_head(dino, classes_of(DINO_WIDTH)).pooled == "cls"
    known = class_embeddings(Classes(("a", "b")), np.eye(2, DINO_WIDTH), LogitScale(12.0, None, "class embeddings"))
    assert load_image_head(dino, known).logits.scale == 12.0


def test_what_does_not_fit_is_refused(dino, saved, tmp_path):
    with pytest.raises(InfoscopeError, match=r"width 5 do not go with .*, whose CLS token has 32"):
        load_image_head(dino, classes_of(5))
    with pytest.raises(InfoscopeError, match="has no CLS token: choose --pooled own or mean-patch"):
        load_image_head(backbone_of(saved("siglip").folder), classes_of(WIDTH), "cls")
    transformers.CLIPVisionModel(saved("clip").model.config.vision_config).save_pretrained(tmp_path)
    with pytest.raises(InfoscopeError, match=r"has no visual_projection.weight, so its images have no place among"):
        load_image_head(backbone_of(tmp_path), classes_of(PROJECTED))
    # Without the projection its tokens can still be had.
    assert load_image_head(backbone_of(tmp_path), classes_of(WIDTH), "cls").width == WIDTH


@pytest.mark.parametrize(("kind", "weight"), [("clip", "post_layernorm.weight"), ("siglip", "head.probe")])
def test_a_checkpoint_without_what_makes_its_output_is_refused(saved, tmp_path, kind, weight):
    folder = tmp_path / "spoiled"
    shutil.copytree(saved(kind).folder, folder)
    weights = load_file(folder / "model.safetensors")
    del weights[f"vision_model.{weight}"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    backbone = backbone_of(folder)  # which reads no further than its block
    assert backbone.missing_weights == (weight,)
    with pytest.raises(InfoscopeError, match=f"lacks {weight}, which makes its output; fetch the whole model"):
        load_image_head(backbone, classes_of(PROJECTED if kind == "clip" else WIDTH))
