"""From the output of a vision model to an image's embedding and its logits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from infoscope.analyses.zeroshot.embeddings import (
    DEFAULT_SCALE,
    ClassEmbeddings,
    LogitScale,
    read_logit_scale,
    read_tensors,
)
from infoscope.backbones.backbone import Backbone
from infoscope.backbones.whole_pass import Outputs
from infoscope.errors import InfoscopeError, check_choice
from infoscope.options import Pooled

PROJECTION = "visual_projection.weight"


@dataclass(frozen=True, eq=False)
class ImageHead:
    """Turns a model's output into an image's embedding and logits. Made by `load_image_head`.

    Attributes:
        backbone: the model.
        pooled: which vector stands for an image.
        projection: CLIP's ``visual_projection``, ``[embedding, width]``; None for other models.
        logits: scale and bias of the logits.
    """

    backbone: Backbone
    pooled: Pooled
    projection: Float32[Tensor, "embedding width"] | None
    logits: LogitScale

    @property
    def width(self) -> int:
        """Length of an embedding."""
        return self.backbone.width if self.projection is None else len(self.projection)

    @property
    def blocks(self) -> tuple[int, ...]:
        """The blocks whose outputs `embed` needs."""
        return () if self.pooled == "own" else (self.backbone.blocks - 1,)

    def embed(self, outputs: Outputs) -> Float32[Tensor, "image embedding"]:
        """The images' embeddings, of length 1.

        Raises:
            InfoscopeError: the model has no pooled output of its own.
        """
        if self.pooled == "own":
            vector = outputs.pooled
            if vector is None:
                raise InfoscopeError(f"{self.backbone.name} has no pooled output of its own: choose --pooled cls")
        else:
            tokens = outputs.tokens[self.backbone.blocks - 1]
            pooled = tokens[:, :1] if self.pooled == "cls" else tokens[:, self.backbone.prefix_tokens :]
            vector = self.backbone.final_norm(pooled).mean(1)
        if self.projection is not None:
            vector = vector @ self.projection.T
        return nn.functional.normalize(vector, dim=-1)

    def score(self, outputs: Outputs, vectors: Float32[Tensor, "class embedding"]) -> Float32[Tensor, "image class"]:
        """The logits of all classes: scale times cosine, plus the bias where there is one.

        Args:
            outputs: outputs of the model, including those of `blocks`.
            vectors: embeddings of the classes, of length 1, on the model's device.
        """
        return self.logits.scale * (self.embed(outputs) @ vectors.T) + (self.logits.bias or 0.0)


def load_image_head(
    backbone: Backbone,
    classes: ClassEmbeddings,
    pooled: Pooled | None = None,
    scale: float | None = None,
    bias: float | None = None,
) -> ImageHead:
    """The head for a model and class embeddings.

    Args:
        backbone: the model. CLIP's projection and the scale of the logits are read from its checkpoint, which may be
            that of a whole model or of the vision part with its projection.
        classes: the class embeddings; their scale is used where the checkpoint has none.
        pooled: which vector stands for an image. By default CLIP's and SigLIP's own; for other models CLS, or the mean
            patch token where there is no CLS.
        scale: scale of the logits, instead of any other.
        bias: bias of the logits, instead of any other.

    Raises:
        InfoscopeError: the checkpoint lacks a weight that is needed, or the embeddings have another width.
    """
    language = backbone.layout.language
    if pooled is None:
        pooled = "own" if language else "cls" if backbone.layout.special_tokens else "mean-patch"
    check_choice("pooled", pooled, Pooled)
    if pooled == "cls" and not backbone.layout.special_tokens:
        raise InfoscopeError(f"{backbone.name} has no CLS token: choose --pooled own or mean-patch")
    _check_weights(backbone, pooled)
    projection = _projection(backbone) if language == "projected" and pooled == "own" else None
    logits = read_logit_scale(backbone.weight_files) or classes.logits or LogitScale(DEFAULT_SCALE)
    if scale is not None:
        logits = LogitScale(scale, logits.bias, "option")
    if bias is not None:
        logits = replace(logits, bias=bias)
    head = ImageHead(backbone, pooled, projection, logits)
    if head.width != classes.width:
        raise InfoscopeError(
            f"class embeddings of width {classes.width} do not go with {backbone.name}, whose "
            f"{_POOLED_NAMES[pooled]} has {head.width}: give those of its own text tower, or of this width"
        )
    return head


_POOLED_NAMES = {"own": "image embedding", "cls": "CLS token", "mean-patch": "mean patch token"}


def _check_weights(backbone: Backbone, pooled: Pooled) -> None:
    """Refuse a checkpoint without the weights after the last block, since these would be random."""
    needed = [backbone.layout.final_norm] + (["head"] if pooled == "own" else [])
    missing = [name for name in backbone.missing_weights if name.split(".")[0] in needed]
    if missing:
        raise InfoscopeError(f"{backbone.name} lacks {missing[0]}, which makes its output; fetch the whole model")


def _projection(backbone: Backbone) -> Float32[Tensor, "embedding width"]:
    projection = read_tensors(backbone.weight_files, [PROJECTION]).get(PROJECTION)
    if projection is None:
        raise InfoscopeError(
            f"{backbone.name} has no {PROJECTION}, so its images have no place among texts: name a whole CLIP model or "
            "one with its projection, or choose --pooled cls with class embeddings of that width"
        )
    if projection.ndim != 2 or projection.shape[1] != backbone.width or not torch.isfinite(projection).all():
        raise InfoscopeError(
            f"{backbone.name}: {PROJECTION} is {list(projection.shape)} where [embedding, {backbone.width}] of finite "
            "numbers is needed; fetch the model again"
        )
    return projection.to(backbone.device)
