"""A small random model of every architecture, saved as transformers saves it, beside the model in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.models.siglip2.image_processing_pil_siglip2 import convert_image_to_patches

WIDTH, BLOCKS = 32, 3

SIZES = {"hidden_size": WIDTH, "num_hidden_layers": BLOCKS, "num_attention_heads": 2}
TOWER = SIZES | {"intermediate_size": 48}
TEXT = TOWER | {"num_hidden_layers": 4, "vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
DECODER = {
    "decoder_hidden_size": 24,
    "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 32,
}


@dataclass(frozen=True)
class Case:
    """One kind of checkpoint.

    Attributes:
        family: the name infoscope gives its family.
        build: a model of this kind, as somebody would have saved it.
        vision: the vision model inside it, which gives the reference.
        blocks: the reference's blocks.
        patch_size: of the vision model.
        side: the input side to expect by default.
        prefix: the number of tokens before the patches.
        options: what the reference's forward takes besides pixels.
    """

    family: str
    build: Callable[[], nn.Module]
    vision: Callable[[Any], Any]
    blocks: Callable[[Any], nn.ModuleList]
    patch_size: int
    side: int
    prefix: int
    options: tuple[tuple[str, bool], ...] = ()


def _itself(model: Any) -> Any:
    return model


def _vision_model(model: Any) -> Any:
    return model.vision_model


def _encoder_layers(vision: Any) -> nn.ModuleList:
    return vision.encoder.layers


def _encoder_layer(vision: Any) -> nn.ModuleList:
    return vision.encoder.layer


def _layers(vision: Any) -> nn.ModuleList:
    return vision.layers


def _dinov3_layers(vision: Any) -> nn.ModuleList:
    return vision.model.layer


def _clip() -> nn.Module:
    vision = TOWER | {"image_size": 40, "patch_size": 8}
    config = transformers.CLIPConfig(text_config=TEXT, vision_config=vision, projection_dim=16)
    return transformers.CLIPModel(config)


def _clip_vision(cls: str = "CLIPVisionModel") -> nn.Module:
    return getattr(transformers, cls)(transformers.CLIPVisionConfig(**TOWER, image_size=40, patch_size=8))


def _siglip() -> nn.Module:
    # 30 pixels of patches of 7 leave a rim of 2, as 384 of 14 leave 6.
    vision = TOWER | {"image_size": 30, "patch_size": 7}
    return transformers.SiglipModel(transformers.SiglipConfig(text_config=TEXT, vision_config=vision))


def _siglip_vision() -> nn.Module:
    return transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**TOWER, image_size=40, patch_size=8))


def _naflex() -> nn.Module:
    vision = TOWER | {"num_patches": 25, "patch_size": 8}
    return transformers.Siglip2Model(transformers.Siglip2Config(text_config=TEXT, vision_config=vision))


def _naflex_vision() -> nn.Module:
    return transformers.Siglip2VisionModel(transformers.Siglip2VisionConfig(**TOWER, num_patches=25, patch_size=8))


def _dinov2(cls: str = "Dinov2Model") -> nn.Module:
    config = transformers.Dinov2Config(**SIZES, mlp_ratio=2, image_size=140, patch_size=28)
    return getattr(transformers, cls)(config)


def _dinov2_swiglu() -> nn.Module:
    config = transformers.Dinov2Config(
        **SIZES, mlp_ratio=2, image_size=140, patch_size=28, use_swiglu_ffn=True, use_mask_token=False
    )
    return transformers.Dinov2Model(config)


def _dinov2_registers() -> nn.Module:
    config = transformers.Dinov2WithRegistersConfig(
        **SIZES, mlp_ratio=2, image_size=140, patch_size=28, num_register_tokens=4
    )
    return transformers.Dinov2WithRegistersModel(config)


def _dinov3(gated: bool = False) -> nn.Module:
    config = transformers.DINOv3ViTConfig(
        **TOWER, image_size=40, patch_size=8, num_register_tokens=2 if gated else 4, use_gated_mlp=gated
    )
    return transformers.DINOv3ViTModel(config)


def _vit(cls: str = "ViTModel") -> nn.Module:
    return getattr(transformers, cls)(
        transformers.ViTConfig(**TOWER, image_size=40, patch_size=8, encoder_stride=8, num_labels=3)
    )


def _deit(cls: str = "DeiTModel") -> nn.Module:
    return getattr(transformers, cls)(transformers.DeiTConfig(**TOWER, image_size=40, patch_size=8, num_labels=3))


def _mae(cls: str = "ViTMAEModel") -> nn.Module:
    config = transformers.ViTMAEConfig(**TOWER, **DECODER, image_size=40, patch_size=8, mask_ratio=0.75)
    return getattr(transformers, cls)(config)


_WITH_RIM = (("interpolate_pos_encoding", True),)

CASES = {
    "clip": Case("CLIP", _clip, _vision_model, _encoder_layers, 8, 40, 1),
    "clip-vision": Case("CLIP", _clip_vision, _itself, _encoder_layers, 8, 40, 1),
    "clip-projection": Case(
        "CLIP",
        lambda: _clip_vision("CLIPVisionModelWithProjection"),
        _vision_model,
        _encoder_layers,
        8,
        40,
        1,
    ),
    "siglip": Case("SigLIP", _siglip, _vision_model, _encoder_layers, 7, 28, 0, _WITH_RIM),
    "siglip-vision": Case("SigLIP", _siglip_vision, _itself, _encoder_layers, 8, 40, 0),
    "siglip2-naflex": Case("SigLIP 2 NaFlex", _naflex, _vision_model, _encoder_layers, 8, 40, 0),
    "siglip2-naflex-vision": Case("SigLIP 2 NaFlex", _naflex_vision, _itself, _encoder_layers, 8, 40, 0),
    "dinov2": Case("DINOv2", _dinov2, _itself, _encoder_layer, 28, 224, 1),
    "dinov2-swiglu": Case("DINOv2", _dinov2_swiglu, _itself, _encoder_layer, 28, 224, 1),
    "dinov2-classifier": Case(
        "DINOv2",
        lambda: _dinov2("Dinov2ForImageClassification"),
        lambda model: model.dinov2,
        _encoder_layer,
        28,
        224,
        1,
    ),
    "dinov2-registers": Case("DINOv2 with registers", _dinov2_registers, _itself, _encoder_layer, 28, 224, 5),
    "dinov3": Case("DINOv3 ViT", _dinov3, _itself, _dinov3_layers, 8, 40, 5),
    "dinov3-gated": Case("DINOv3 ViT", lambda: _dinov3(gated=True), _itself, _dinov3_layers, 8, 40, 3),
    "vit": Case("ViT", _vit, _itself, _layers, 8, 40, 1),
    "vit-classifier": Case(
        "ViT", lambda: _vit("ViTForImageClassification"), lambda model: model.vit, _layers, 8, 40, 1
    ),
    "vit-masked": Case("ViT", lambda: _vit("ViTForMaskedImageModeling"), lambda model: model.vit, _layers, 8, 40, 1),
    "deit": Case("DeiT", _deit, _itself, _layers, 8, 40, 2),
    "deit-distilled": Case(
        "DeiT",
        lambda: _deit("DeiTForImageClassificationWithTeacher"),
        lambda model: model.deit,
        _layers,
        8,
        40,
        2,
    ),
    "mae": Case("MAE", _mae, _itself, _layers, 8, 40, 1),
    "mae-pretraining": Case("MAE", lambda: _mae("ViTMAEForPreTraining"), lambda model: model.vit, _layers, 8, 40, 1),
}


@dataclass(frozen=True)
class Saved:
    """A checkpoint on disk and the vision model it was written from."""

    case: Case
    directory: Path
    vision: Any

    def reference(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The output of every block for normalised images, by transformers alone.

        The last hidden state of a model may have been through its final norm, so the last block's output is taken
        from the block itself.
        """
        taken: list[torch.Tensor] = []
        last = self.case.blocks(self.vision)[-1]
        hook = last.register_forward_hook(lambda module, given, output: taken.append(output))
        try:
            with torch.no_grad():
                states = self.vision(**self.inputs(images), output_hidden_states=True).hidden_states
        finally:
            hook.remove()
        return [*states[1:BLOCKS], taken[0]]

    def inputs(self, images: torch.Tensor) -> dict[str, Any]:
        """What the reference takes for these images."""
        count, side = len(images), images.shape[-1]
        if self.case.family == "SigLIP 2 NaFlex":
            n = self.case.patch_size
            patches = np.stack([convert_image_to_patches(image, n) for image in images.numpy()])
            return {
                "pixel_values": torch.from_numpy(patches),
                "pixel_attention_mask": torch.ones(patches.shape[:2], dtype=torch.int32),
                "spatial_shapes": torch.tensor([[side // n, side // n]] * count),
            }
        options = dict(self.case.options)
        if self.case.family == "MAE":
            # Nothing is masked and nothing shuffled: noise that ascends keeps the patches in order.
            patches = (side // self.case.patch_size) ** 2
            options["noise"] = torch.arange(patches, dtype=torch.float32).expand(count, -1)
        return {"pixel_values": images, **options}


def randomise(model: nn.Module, seed: int) -> nn.Module:
    """Every weight away from its initial value, so that none may be lost without being noticed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator) * 0.2
            weight.copy_(noise + 1 if "norm" in name and name.endswith("weight") else noise)
    return model.eval()


def save(case: Case, directory: Path, seed: int = 0) -> Saved:
    transformers.utils.logging.disable_progress_bar()
    try:
        model = randomise(case.build(), seed)
        model.save_pretrained(directory)
    finally:
        transformers.utils.logging.enable_progress_bar()
    vision = case.vision(model)
    if case.family == "MAE":
        vision.config.mask_ratio = 0.0
    return Saved(case, directory, vision)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Saved]:
    """A kind of checkpoint by its key in CASES, written once; tests must not change its files."""
    written: dict[str, Saved] = {}

    def get(kind: str) -> Saved:
        if kind not in written:
            written[kind] = save(CASES[kind], tmp_path_factory.mktemp(kind))
        return written[kind]

    return get


@pytest.fixture(params=sorted(CASES))
def checkpoint(request: pytest.FixtureRequest, saved: Callable[[str], Saved]) -> Saved:
    """Every kind of checkpoint in turn."""
    return saved(request.param)


@pytest.fixture
def vit_directory(tmp_path: Path) -> Path:
    """A ViT checkpoint of this test's own, to be spoiled."""
    return save(CASES["vit"], tmp_path / "vit").directory


@pytest.fixture
def edit_weights() -> Callable[[Path, Callable[[dict[str, torch.Tensor]], Any]], None]:
    """Rewrite a directory's safetensors file after changing its tensors in place."""

    def edit(directory: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
        path = directory / "model.safetensors"
        weights = {name: weight.clone() for name, weight in load_file(path).items()}
        change(weights)
        save_file(weights, path, metadata={"format": "pt"})

    return edit


def photographs(count: int, side: int, seed: int = 0) -> np.ndarray:
    """Random 8-bit images, every one different."""
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.fixture
def pixels() -> Callable[..., np.ndarray]:
    return photographs
