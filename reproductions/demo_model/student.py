"""The student: a small CLIP vision tower whose weights start as the teacher's, and how it comes to have outlier tokens.

The first seven of the teacher's twelve blocks, half of each one's MLP neurons. What can be carried over exactly is:
layer scales go into the weights they scale, the patch bias into the position table, the other mean and standard
deviation of the pixels into the patch weights. The rest (a norm that CLIP has before its first block, neurons left out)
training has to mend.

In the teacher a few neurons of one block are *set*, on the K patches of a view where they are nearest to firing. In the
student nothing is set: it is a model as transformers loads it. There these neurons share one direction, which training
finds, and fire where a token has enough of it: `Choosing`.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import gelu
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from infoscope.backbones.moved_registers import MovedNeurons

# The teacher's blocks that become the student's: with them the one that writes the outliers, and two that read them.
BLOCKS = (0, 1, 2, 3, 4, 5, 6)
NEURONS, EMBEDDING = 768, 128
# The vector that goes around CLIP's first norm, in standard deviations of a token: long beside it, and in half
# precision still exact to a two-hundredth of one.
LENGTHENED = 10.0
# An outlier is all there or not at all: between the two are an eighth of a unit of log odds either side of the level.
SHARPNESS = 4.0
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


class Choosing(nn.Module):
    """The MLP of the block that writes the outliers, as it is in training.

    A token's *score* is how much of one direction it has. The moved neurons' input is their value times ``1/2 +
    sharpness * (score - level)``, and each has a second neuron that takes away what is above its value: together they
    give nothing well below the level, their value well above it, and a ramp between. As two layers this takes weights
    of some hundreds beside ones of 0.05, and no optimiser moves both; so the direction is learnt at its own scale, and
    `fold` writes the layers.

    The score learns from the teacher's choice alone, as the log odds of being chosen. Through the ramp nothing is
    learnt: it has no slope but on the few tokens that are on it.

    Attributes:
        chosen: where the neurons are set in the next pass, whatever the score is; None for nowhere.
        forced: the views in which they are; in the others the score decides.
        score: of the last pass.
        near: of the last pass, a guess of how near the teacher came to choosing the token.
    """

    values: Tensor
    level: Tensor

    def __init__(self, width: int, neurons: int, values: Tensor):
        super().__init__()
        moved = len(values)
        self.inward = nn.Linear(width, neurons - 2 * moved)
        self.outward = nn.Linear(neurons - moved, width)
        self.direction = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(()))
        self.nearness = nn.Linear(width, 1)
        self.register_buffer("values", values)
        # The score that as many tokens are above as there are to be outliers. It follows the scores and is not learnt.
        self.register_buffer("level", torch.zeros(()))
        self.chosen: Bool[Tensor, "view token"] | None = None
        self.forced: Bool[Tensor, " view"] = torch.empty(0, dtype=torch.bool)
        self.score: Float[Tensor, "view token"] = torch.empty(0, 0)
        self.near: Float[Tensor, "view token"] = torch.empty(0, 0)

    def forward(self, tokens: Tensor) -> Tensor:
        """The block's MLP."""
        with torch.autocast("cpu", enabled=False):
            self.score = tokens.float() @ self.direction + self.bias
            self.near = self.nearness(tokens.float())[..., 0]
            lit = self.lit()
            if self.chosen is not None:
                lit = torch.where(self.forced[:, None], self.chosen.float(), lit)
            given = self.values * lit[..., None]
            moved = gelu(given) - gelu(given - self.values)
        made: Tensor = self.outward(torch.cat([moved, gelu(self.inward(tokens))], -1))
        return made

    def lit(self) -> Float[Tensor, "view token"]:
        """How far the moved neurons' input has come, of the last pass: 0 and below is off, 1 and above is on."""
        return 0.5 + SHARPNESS * (self.score.detach() - self.level)

    @torch.no_grad()
    def start(self, tokens: Float[Tensor, "view token width"], near: Float[Tensor, "view patch"], patches: int) -> None:
        """Choose by what tells best how near the teacher came to choosing a patch.

        The score is twice that, less what makes the odds even where there are as many patches above as there are to be
        outliers. CLS is never chosen; as there is one of it to a view, it counts tenfold.

        Args:
            tokens: what the block's MLP is given.
            near: how near the teacher came, in standard deviations.
            patches: outliers to a view.
        """
        cls = tokens[:, :1].expand(-1, 10, -1)
        given = torch.cat([cls, tokens[:, 1:]], 1).flatten(0, 1)
        wanted = torch.cat([near.min().expand(cls.shape[:2]), near], 1).flatten()
        weight, bias = ridge(given, wanted[:, None], 1e-3)
        self.nearness.weight.copy_(weight)
        self.nearness.bias.copy_(bias)
        said = tokens[:, 1:] @ weight[0] + bias
        level = torch.quantile(said, 1 - patches / near.shape[1])
        self.direction.copy_(2 * weight[0])
        self.bias.copy_(2 * (bias[0] - level))
        self.level.zero_()

    @torch.no_grad()
    def follow(self, patches: float, rate: float) -> None:
        """Bring the level nearer to where so many patches of a view of the last pass are above it."""
        scores = self.score[:, 1:]
        self.level.lerp_(torch.quantile(scores.flatten(), 1 - patches / scores.shape[1]), rate)

    @torch.no_grad()
    def fold(self, mlp: Any) -> None:
        """Write it into an MLP of two layers: the moved neurons, those that take away, the others."""
        values, moved = self.values, len(self.values)
        rows = SHARPNESS * values[:, None] * self.direction
        offset = values * (0.5 + SHARPNESS * (self.bias - self.level))
        mlp.fc1.weight.copy_(torch.cat([rows, rows, self.inward.weight]))
        mlp.fc1.bias.copy_(torch.cat([offset, offset - values, self.inward.bias]))
        columns = self.outward.weight
        mlp.fc2.weight.copy_(torch.cat([columns[:, :moved], -columns[:, :moved], columns[:, moved:]], 1))
        mlp.fc2.bias.copy_(self.outward.bias)


@torch.no_grad()
def start_from_teacher(
    student: CLIPVisionModelWithProjection,
    teacher: Any,
    moved: MovedNeurons,
    pixels: UInt8[Tensor, "view row column channel"],
) -> None:
    """Put the teacher's weights into the student.

    Args:
        student: one whose MLP in the block that writes the outliers is a `Choosing`. Its last norm and its
            ``visual_projection`` are left as they are, and so is what it chooses outliers by.
        teacher: a `Dinov2WithRegistersModel` whose registers were moved.
        moved: what was moved in it.
        pixels: some views, to see which neurons matter and what the rest can do for those that are left out.
    """
    vision: Any = student.vision_model
    layers = teacher.encoder.layer
    patches, entering = _watch(teacher.embeddings.patch_embeddings), _watch(teacher.embeddings)
    before = {number: _watch(layers[number].mlp.fc1) for number in BLOCKS}
    after = {number: _watch(layers[number]) for number in BLOCKS}
    side = vision.config.image_size // vision.config.patch_size * teacher.config.patch_size
    teacher(_as_teacher_sees(pixels, side))
    _copy_embeddings(vision, teacher, patches[0], normalise(pixels))
    _pass_through_norm(vision, entering[0])
    stream = vision.pre_layrnorm(vision.embeddings(normalise(pixels)))
    for block, number in zip(vision.encoder.layers, BLOCKS, strict=True):
        _copy_attention(block, layers[number])
        mlp, scale = layers[number].mlp, layers[number].layer_scale2.lambda1
        if number == moved.block:
            written = block.mlp.outward.weight[:, : len(moved.neurons)]
            written.copy_((mlp.fc2.weight * scale[:, None])[:, moved.neurons])
            inward, outward = block.mlp.inward, block.mlp.outward
        else:
            inward, outward = block.mlp.fc1, block.mlp.fc2
        _copy_mlp(inward, outward, mlp, scale, gelu(before[number][0]).flatten(0, -2))
        stream = _mend(block, outward, stream, after[number][0])


def _as_teacher_sees(pixels: Tensor, side: int) -> Float[Tensor, "view channel row column"]:
    scaled = pixels.permute(0, 3, 1, 2).float() / 255
    small = nn.functional.interpolate(scaled, (side, side), mode="bicubic", antialias=True)
    return (small - torch.tensor(TEACHER_MEAN)[:, None, None]) / torch.tensor(TEACHER_STD)[:, None, None]


def _watch(module: nn.Module) -> list[Tensor]:
    """A list into which what the module makes is put."""
    seen: list[Tensor] = []
    module.register_forward_hook(lambda _module, _given, made: seen.append(made))
    return seen


def _copy_embeddings(
    vision: Any, teacher: Any, made: Float[Tensor, "view patch width"], given: Float[Tensor, "view 3 row column"]
) -> None:
    """The student's patches are larger. Its patch weights are those that best give what the teacher's made of them."""
    size, width = vision.embeddings.patch_size, made.shape[-1]
    pixels = nn.functional.unfold(given, size, stride=size).transpose(1, 2)
    weight, constant = ridge(pixels.flatten(0, 1), made.flatten(0, 1), 1e-4)
    vision.embeddings.patch_embedding.weight.copy_(weight.reshape(width, 3, size, size))
    vision.embeddings.class_embedding.copy_(teacher.embeddings.cls_token[0, 0])
    table = teacher.embeddings.position_embeddings[0]
    side, grid = round((len(table) - 1) ** 0.5), vision.config.image_size // size
    square = table[1:].T.reshape(1, -1, side, side)
    resized = nn.functional.interpolate(square, (grid, grid), mode="bicubic", antialias=True)[0].flatten(1).T
    vision.embeddings.position_embedding.weight.copy_(torch.cat([table[:1], resized + constant]))


def _pass_through_norm(vision: Any, tokens: Float[Tensor, "view token width"]) -> None:
    """Let CLIP's first norm, which the teacher has not, hardly change a token.

    One long vector is added to every token before the norm and taken away after it. Beside it tokens are short, so that
    the norm divides all of them by nearly the same number. It also takes away a token's mean, which no later norm sees.
    """
    size = LENGTHENED * tokens.std(-1).mean()
    signs = torch.where(torch.arange(tokens.shape[-1]) % 2 == 0, 1.0, -1.0)
    vision.embeddings.position_embedding.weight.add_(size * signs)
    vision.pre_layrnorm.weight.fill_(size)
    vision.pre_layrnorm.bias.copy_(-size * signs)


def _copy_attention(block: Any, layer: Any) -> None:
    """Both norms of a block and its attention."""
    block.layer_norm1.load_state_dict(layer.norm1.state_dict())
    block.layer_norm2.load_state_dict(layer.norm2.state_dict())
    for name in ("q_proj", "k_proj", "v_proj"):
        getattr(block.self_attn, name).load_state_dict(getattr(layer.attention, name).state_dict())
    scale = layer.layer_scale1.lambda1
    block.self_attn.out_proj.weight.copy_(layer.attention.o_proj.weight * scale[:, None])
    block.self_attn.out_proj.bias.copy_(layer.attention.o_proj.bias * scale)


def _copy_mlp(
    inward: nn.Linear,
    outward: nn.Linear,
    mlp: Any,
    scale: Float[Tensor, " width"],
    neurons: Float[Tensor, "token neuron"],
) -> None:
    """As many of an MLP's neurons as there is room for: those whose outputs differ most between tokens.

    Args:
        inward: from tokens to neurons.
        outward: from neurons to tokens; where it has more of them, these come first and are left as they are.
        mlp: the teacher's.
        scale: of what it adds.
        neurons: the teacher's, after the nonlinearity.
    """
    weight = mlp.fc2.weight * scale[:, None]
    kept = (neurons.std(0) * weight.norm(dim=0)).topk(inward.out_features).indices.sort().values
    inward.weight.copy_(mlp.fc1.weight[kept])
    inward.bias.copy_(mlp.fc1.bias[kept])
    outward.weight[:, -len(kept) :] = weight[:, kept]
    outward.bias.copy_(mlp.fc2.bias * scale)


def _mend(
    block: Any, outward: nn.Linear, given: Float[Tensor, "view token width"], wanted: Float[Tensor, "view token width"]
) -> Float[Tensor, "view token width"]:
    """Let a block's neurons say, as well as they can, what the stream lacks for want of those that are left out.

    Args:
        block: the student's.
        outward: the second layer of its MLP.
        given: what the block is given.
        wanted: the teacher's tokens after it.

    Returns:
        The student's tokens after it.
    """
    norms = wanted.norm(dim=-1)
    outlying = norms > 3 * norms.median()
    if isinstance(block.mlp, Choosing):
        block.mlp.chosen, block.mlp.forced = outlying, torch.ones(len(given), dtype=torch.bool)
    neurons: list[Tensor] = []
    watching = outward.register_forward_pre_hook(lambda _module, arguments: neurons.append(arguments[0]))
    said = block(given, attention_mask=None)
    watching.remove()
    # An outlier's error is large beside a normal token's, and there are few of them.
    more, offset = ridge(neurons[0][~outlying], (wanted - said)[~outlying], 1e-2)
    outward.weight.add_(more)
    outward.bias.add_(offset)
    made: Tensor = block(given, attention_mask=None)
    return made


def ridge(given: Tensor, wanted: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Weight and bias of a ridge regression; the strength is a share of the mean variance."""
    mean, target = given.mean(0), wanted.mean(0)
    centred = given - mean
    moments = centred.T @ centred
    moments += strength * moments.diagonal().mean() * torch.eye(len(moments))
    weight = torch.linalg.solve(moments, centred.T @ (wanted - target)).T
    return weight, target - weight @ mean
