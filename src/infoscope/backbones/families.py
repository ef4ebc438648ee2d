"""What differs between families of models: where their blocks are, and which tokens precede the patches."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, cast, get_args

from infoscope.errors import InfoscopeError
from infoscope.options import TokenSet


def tokens_of(token_set: TokenSet, prefix: int) -> slice:
    """Where a set's tokens are among all tokens of an image.

    Args:
        token_set: the set.
        prefix: tokens before the first patch, CLS first.

    Example:
        >>> list(range(8))[tokens_of("patch", prefix=5)]
        [5, 6, 7]
    """
    return {"patch": slice(prefix, None), "all": slice(None), "cls": slice(1)}[token_set]


def token_set_of(site: Mapping[str, Any] | None) -> TokenSet:
    """The token set that an SAE was trained on, by its site; patch tokens where the site does not say.

    Raises:
        InfoscopeError: the site names an unknown set.

    Example:
        >>> token_set_of({"tokens": "all"}), token_set_of(None)
        ('all', 'patch')
    """
    named = (site or {}).get("tokens")
    if named is None:
        return "patch"
    if named not in get_args(TokenSet):
        raise InfoscopeError(
            f"the SAE was trained on the tokens {named!r}, which is none of {', '.join(get_args(TokenSet))}: correct "
            "tokens in the site of its sae.json, or take an SAE of tokens that are known"
        )
    return cast("TokenSet", named)


Channels = tuple[float, float, float]
"""One number for each of red, green and blue."""

OPENAI: tuple[Channels, Channels] = (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)
IMAGENET: tuple[Channels, Channels] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF: tuple[Channels, Channels] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def _image_size(config: Any) -> int:
    return int(config.image_size)


def _side_224(config: Any) -> int:
    return 224


def _naflex_side(config: Any) -> int:
    """The side of the largest square that has no more patches than a NaFlex model was trained with."""
    return math.isqrt(config.num_patches) * int(config.patch_size)


@dataclass(frozen=True)
class Family:
    """How the models of one architecture are built, fed and read.

    Attributes:
        name: what the family is called in messages, tables and manifests.
        model_types: values of ``model_type`` in ``config.json``; a composite type (image and text) is read for
            its vision part.
        model_class: name of the vision model's class in transformers, the one without a task head.
        blocks: path of the list of blocks within that model.
        position_table: path of the learned position table, ``None`` where positions are rotary.
        normalisation: mean and standard deviation of the pixels, on the scale 0..1, for a checkpoint that has
            no preprocessor file.
        native_side: input side in pixels by the configuration, before it is rounded down to whole patches.
        special_tokens: tokens before the patches other than registers: CLS, DeiT's distillation token.
        registers: whether ``num_register_tokens`` register tokens follow these.
        model_options: what the class takes besides its configuration.
        forward_options: what its forward takes besides pixels. With ``interpolate_pos_encoding`` a position
            table is resized only where the grid differs from the table's own.
        patchified: whether the forward takes flattened patches with their grid (NaFlex) instead of an image.
        neurons: paths, within a block, of the linear layer that takes the MLP's neurons; the first that exists counts.
        gate: path of the layer whose output multiplies the neurons; only a gated MLP has it.
        final_norm: path of the norm after the last block; ``None`` where a family has none.
        language: how an image embedding is made that can be compared with those of texts: the pooled output is
            ``projected``, or it is the embedding itself (``pooled``); empty for a model without texts.
    """

    name: str
    model_types: tuple[str, ...]
    model_class: str
    blocks: str
    position_table: str | None
    normalisation: tuple[Channels, Channels]
    native_side: Callable[[Any], int] = _image_size
    special_tokens: int = 1
    registers: bool = False
    model_options: Mapping[str, bool] = field(default_factory=lambda: MappingProxyType({}))
    forward_options: Mapping[str, bool] = field(default_factory=lambda: MappingProxyType({}))
    patchified: bool = False
    neurons: tuple[str, ...] = ("mlp.fc2", "mlp.down_proj")
    gate: str = "mlp.gate_proj"
    final_norm: str | None = "layernorm"
    language: Literal["", "projected", "pooled"] = ""

    def prefix_tokens(self, config: Any) -> int:
        """How many tokens precede the first patch token, by the model's configuration."""
        return self.special_tokens + (int(config.num_register_tokens) if self.registers else 0)

    def input_side(self, config: Any) -> int:
        """Default input side in pixels, rounded down to whole patches (method, section 2).

        Example:
            >>> from types import SimpleNamespace
            >>> family_of("siglip").input_side(SimpleNamespace(image_size=384, patch_size=14))
            378
        """
        patch_size = int(config.patch_size)
        return self.native_side(config) // patch_size * patch_size


_INTERPOLATED = MappingProxyType({"interpolate_pos_encoding": True})
_NO_POOLER = MappingProxyType({"add_pooling_layer": False})

FAMILIES: tuple[Family, ...] = (
    Family(
        name="CLIP",
        model_types=("clip", "clip_vision_model"),
        model_class="CLIPVisionModel",
        blocks="encoder.layers",
        position_table="embeddings.position_embedding.weight",
        normalisation=OPENAI,
        forward_options=_INTERPOLATED,
        final_norm="post_layernorm",
        language="projected",
    ),
    Family(
        name="SigLIP",
        model_types=("siglip", "siglip_vision_model"),
        model_class="SiglipVisionModel",
        blocks="encoder.layers",
        position_table="embeddings.position_embedding.weight",
        normalisation=HALF,
        special_tokens=0,
        forward_options=_INTERPOLATED,
        final_norm="post_layernorm",
        language="pooled",
    ),
    Family(
        name="SigLIP 2 NaFlex",
        model_types=("siglip2", "siglip2_vision_model"),
        model_class="Siglip2VisionModel",
        blocks="encoder.layers",
        position_table="embeddings.position_embedding.weight",
        normalisation=HALF,
        native_side=_naflex_side,
        special_tokens=0,
        patchified=True,
        final_norm="post_layernorm",
        language="pooled",
    ),
    # DINOv2 was trained at 518 pixels and is commonly run at 224: its own forward resizes the table.
    Family(
        name="DINOv2",
        model_types=("dinov2",),
        model_class="Dinov2Model",
        blocks="encoder.layer",
        position_table="embeddings.position_embeddings",
        normalisation=IMAGENET,
        native_side=_side_224,
    ),
    Family(
        name="DINOv2 with registers",
        model_types=("dinov2_with_registers",),
        model_class="Dinov2WithRegistersModel",
        blocks="encoder.layer",
        position_table="embeddings.position_embeddings",
        normalisation=IMAGENET,
        native_side=_side_224,
        registers=True,
    ),
    Family(
        name="DINOv3 ViT",
        model_types=("dinov3_vit",),
        model_class="DINOv3ViTModel",
        blocks="model.layer",
        position_table=None,
        normalisation=IMAGENET,
        registers=True,
        final_norm="norm",
    ),
    Family(
        name="ViT",
        model_types=("vit",),
        model_class="ViTModel",
        blocks="layers",
        position_table="embeddings.position_embeddings",
        normalisation=HALF,
        model_options=_NO_POOLER,
        forward_options=_INTERPOLATED,
    ),
    Family(
        name="DeiT",
        model_types=("deit",),
        model_class="DeiTModel",
        blocks="layers",
        position_table="embeddings.position_embeddings",
        normalisation=IMAGENET,
        special_tokens=2,
        model_options=_NO_POOLER,
        forward_options=_INTERPOLATED,
    ),
    # An MAE encoder is a ViT; ViTMAEModel itself drops three quarters of the patches at random.
    Family(
        name="MAE",
        model_types=("vit_mae",),
        model_class="ViTModel",
        blocks="layers",
        position_table="embeddings.position_embeddings",
        normalisation=IMAGENET,
        model_options=_NO_POOLER,
        forward_options=_INTERPOLATED,
    ),
)


def family_of(model_type: str) -> Family:
    """The family a ``model_type`` belongs to.

    Args:
        model_type: as written in the model's ``config.json``.

    Raises:
        InfoscopeError: no family has this type; the message lists those that are read.

    Example:
        >>> family_of("vit_mae").model_class
        'ViTModel'
        >>> family_of("dinov3_convnext")
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: model type 'dinov3_convnext' is not supported; choose a vision
        transformer of one of these types: clip, clip_vision_model, siglip, siglip_vision_model, siglip2,
        siglip2_vision_model, dinov2, dinov2_with_registers, dinov3_vit, vit, deit, vit_mae
    """
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    known = ", ".join(name for family in FAMILIES for name in family.model_types)
    raise InfoscopeError(
        f"model type {model_type!r} is not supported; choose a vision transformer of one of these types: {known}"
    )
