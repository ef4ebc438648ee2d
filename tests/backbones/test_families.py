from __future__ import annotations

from types import SimpleNamespace

import pytest
import transformers

from infoscope.backbones.families import FAMILIES, family_of
from infoscope.errors import InfoscopeError


def test_every_model_type_is_one_that_transformers_knows_and_belongs_to_one_family():
    types = [model_type for family in FAMILIES for model_type in family.model_types]
    assert len(types) == len(set(types))
    assert set(types) <= set(transformers.CONFIG_MAPPING)
    assert {family_of(model_type).name for model_type in types} == {family.name for family in FAMILIES}


@pytest.mark.parametrize(
    ("model_type", "config", "side"),
    [
        ("siglip", {"image_size": 384, "patch_size": 14}, 378),
        ("siglip", {"image_size": 512, "patch_size": 16}, 512),
        ("clip", {"image_size": 336, "patch_size": 14}, 336),
        ("dinov2", {"image_size": 518, "patch_size": 14}, 224),
        ("dinov2_with_registers", {"image_size": 518, "patch_size": 14}, 224),
        ("dinov3_vit", {"image_size": 224, "patch_size": 16}, 224),
        ("siglip2", {"num_patches": 256, "patch_size": 16}, 256),
        ("siglip2", {"num_patches": 300, "patch_size": 16}, 272),
        ("vit_mae", {"image_size": 224, "patch_size": 14}, 224),
    ],
)
def test_default_input_side(model_type, config, side):
    assert family_of(model_type).input_side(SimpleNamespace(**config)) == side


@pytest.mark.parametrize(
    ("model_type", "registers", "prefix"),
    [
        ("clip", 9, 1),
        ("siglip", 9, 0),
        ("siglip2", 9, 0),
        ("dinov2", 9, 1),
        ("dinov2_with_registers", 4, 5),
        ("dinov3_vit", 4, 5),
        ("dinov3_vit", 0, 1),
        ("vit", 9, 1),
        ("deit", 9, 2),
        ("vit_mae", 9, 1),
    ],
)
def test_prefix_tokens(model_type, registers, prefix):
    assert family_of(model_type).prefix_tokens(SimpleNamespace(num_register_tokens=registers)) == prefix


@pytest.mark.parametrize(
    ("model_type", "processor"),
    [
        ("clip", "CLIPImageProcessorPil"),
        ("siglip", "SiglipImageProcessorPil"),
        ("siglip2", "Siglip2ImageProcessorPil"),
        ("vit", "ViTImageProcessorPil"),
    ],
)
def test_default_normalisation_is_that_of_transformers_own_processor(model_type, processor):
    known = getattr(transformers, processor)()
    assert family_of(model_type).normalisation == (tuple(known.image_mean), tuple(known.image_std))


def test_dino_deit_and_mae_use_the_statistics_of_imagenet():
    # As their published preprocessor files do; the processor classes have other defaults or serve other models.
    for model_type in ("dinov2", "dinov2_with_registers", "dinov3_vit", "vit_mae", "deit"):
        assert family_of(model_type).normalisation == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_an_unknown_type_is_refused_with_the_list_of_known_ones():
    with pytest.raises(InfoscopeError, match=r"'dinov3_convnext' is not supported.*clip, .*dinov3_vit, .*vit_mae"):
        family_of("dinov3_convnext")
