"""The student: a small CLIP vision tower whose weights start as some of the teacher's.

Five of the teacher's twelve blocks, half of each one's MLP neurons. What can be carried over exactly is: layer scales
go into the weights they scale, the patch bias into the position table, the other mean and standard deviation of the
pixels into the patch weights. The rest (blocks left out, a norm that CLIP has before its first block, no registers)
training has to mend.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

# The teacher's blocks that become the student's: most of what a patch says is found early.
BLOCKS = (0, 1, 3, 5, 7)
NEURONS, EMBEDDING = 768, 128
TEACHER_MEAN, TEACHER_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def untrained_student(seed: int) -> CLIPVisionModelWithProjection:
    """The architecture with random weights, as transformers starts them."""
    torch.manual_seed(seed)
    config = CLIPVisionConfig(
        hidden_size=384,
        intermediate_size=NEURONS,
        num_hidden_layers=len(BLOCKS),
        num_attention_heads=6,
        patch_size=16,
        image_size=224,
        projection_dim=EMBEDDING,
        hidden_act="gelu",
        layer_norm_eps=1e-6,
    )
    return CLIPVisionModelWithProjection(config)


def normalise(pixels: Tensor) -> Float[Tensor, "image channel row column"]:
    """CLIP's normalisation of 8-bit ``[image, row, column, channel]``."""
    scaled = pixels.permute(0, 3, 1, 2).float() / 255
    return (scaled - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


@torch.no_grad()
def start_from_teacher(
    student: CLIPVisionModelWithProjection, teacher: Any, pixels: Float[Tensor, "image channel row column"]
) -> None:
    """Put the teacher's weights into the student.

    Args:
        student: its last norm and its ``visual_projection`` are left as they are.
        teacher: a `Dinov2WithRegistersModel`.
        pixels: some images as the teacher takes them, to see which neurons matter.
    """
    vision = student.vision_model
    layers = teacher.encoder.layer
    seen = {number: _watch(layers[number].mlp.activation_fn) for number in BLOCKS}
    entering = _watch(teacher.embeddings)
    teacher(pixels)
    _copy_embeddings(vision, teacher)
    tokens = entering[0]
    vision.pre_layrnorm.weight.fill_(tokens.std(-1).mean())
    vision.pre_layrnorm.bias.fill_(tokens.mean())
    for block, number in zip(vision.encoder.layers, BLOCKS, strict=True):
        _copy_block(block, layers[number], seen[number][0].flatten(0, -2))


def _watch(module: nn.Module) -> list[Tensor]:
    """A list into which what the module makes is put."""
    seen: list[Tensor] = []
    module.register_forward_hook(lambda _module, _given, made: seen.append(made))
    return seen


def _copy_embeddings(vision: Any, teacher: Any) -> None:
    projection = teacher.embeddings.patch_embeddings.projection
    size = vision.embeddings.patch_size
    wide = nn.functional.interpolate(projection.weight, (size, size), mode="bicubic", antialias=True)
    wide *= projection.weight.shape[-1] ** 2 / size**2  # a patch of more pixels is to give the same sum
    to_teacher = torch.tensor(STD) / torch.tensor(TEACHER_STD)
    offset = (torch.tensor(MEAN) - torch.tensor(TEACHER_MEAN)) / torch.tensor(TEACHER_STD)
    constant = projection.bias + (wide.sum((2, 3)) * offset).sum(1)
    vision.embeddings.patch_embedding.weight.copy_(wide * to_teacher[:, None, None])
    vision.embeddings.class_embedding.copy_(teacher.embeddings.cls_token[0, 0])
    table = teacher.embeddings.position_embeddings[0]
    side, grid = round((len(table) - 1) ** 0.5), vision.config.image_size // size
    square = table[1:].T.reshape(1, -1, side, side)
    resized = nn.functional.interpolate(square, (grid, grid), mode="bicubic", antialias=True)[0].flatten(1).T
    vision.embeddings.position_embedding.weight.copy_(torch.cat([table[:1], resized + constant]))


def _copy_block(block: Any, layer: Any, neurons: Float[Tensor, "token neuron"]) -> None:
    block.layer_norm1.load_state_dict(layer.norm1.state_dict())
    block.layer_norm2.load_state_dict(layer.norm2.state_dict())
    for name in ("q_proj", "k_proj", "v_proj"):
        getattr(block.self_attn, name).load_state_dict(getattr(layer.attention, name).state_dict())
    scale = layer.layer_scale1.lambda1
    block.self_attn.out_proj.weight.copy_(layer.attention.o_proj.weight * scale[:, None])
    block.self_attn.out_proj.bias.copy_(layer.attention.o_proj.bias * scale)
    weight = layer.mlp.fc2.weight * layer.layer_scale2.lambda1[:, None]
    worth = neurons.std(0) * weight.norm(dim=0)
    kept = worth.topk(block.mlp.fc1.out_features).indices.sort().values
    left_out = torch.ones(len(worth), dtype=torch.bool)
    left_out[kept] = False
    block.mlp.fc1.weight.copy_(layer.mlp.fc1.weight[kept])
    block.mlp.fc1.bias.copy_(layer.mlp.fc1.bias[kept])
    block.mlp.fc2.weight.copy_(weight[:, kept])
    # Neurons that are left out leave their mean behind.
    mean = weight[:, left_out] @ neurons.mean(0)[left_out]
    block.mlp.fc2.bias.copy_(layer.mlp.fc2.bias * layer.layer_scale2.lambda1 + mean)
