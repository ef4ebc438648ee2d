"""Tokens against transformers' own hidden states, for every family, image and block."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

from infoscope.backbones.backbone import model_inputs
from infoscope.backbones.loading import load_backbone
from infoscope.errors import InfoscopeError

BLOCKS = 3


@pytest.mark.slow
def test_equals_transformers_hidden_states(checkpoint, pixels):
    case = checkpoint.case
    images = pixels(3, case.side)
    for block in (*range(BLOCKS), *range(-BLOCKS, 0)):
        backbone = load_backbone(checkpoint.directory, block, device="cpu")
        reference = checkpoint.reference(backbone.normalise(images))[block]
        assert (backbone.family, backbone.prefix_tokens) == (case.family, case.prefix)
        assert (backbone.block, backbone.blocks, backbone.width) == (block % BLOCKS, BLOCKS, 32)
        assert backbone.input_side == backbone.grid * backbone.patch_size == case.side
        tokens = backbone.tokens(images)
        assert tokens.shape == (3, backbone.grid**2, 32)
        torch.testing.assert_close(tokens, reference[:, case.prefix :], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(backbone.all_tokens(images), reference, rtol=1e-5, atol=1e-5)
        # Were images or blocks mixed up, these could not all differ.
        for other in range(3):
            assert other == 0 or (tokens[0] - tokens[other]).abs().max() > 1e-2
        assert all(
            b == block % BLOCKS or (state[:, case.prefix :] - tokens).abs().max() > 1e-2
            for b, state in enumerate(checkpoint.reference(backbone.normalise(images)))
        )


def test_several_blocks_from_one_pass(checkpoint, pixels):
    images = pixels(2, checkpoint.case.side)
    backbone = load_backbone(checkpoint.directory, 0, device="cpu")
    passes, order = [], []
    hook = backbone.model.register_forward_pre_hook(lambda *given: passes.append(1))

    def read(block, stream):
        order.append(block)
        return block, stream.clone()

    found = backbone.read_blocks(images, [-1, 0, 1], read)
    hook.remove()
    reference = checkpoint.reference(backbone.normalise(images))
    assert [block for block, _ in found] == [2, 0, 1]
    assert order == [0, 1, 2]
    assert len(passes) == 1
    for block, stream in found:
        torch.testing.assert_close(stream, reference[block], rtol=1e-5, atol=1e-5)
    assert not any(block._forward_hooks for block in backbone.block_list)


def test_nothing_after_the_last_block_read_is_run(saved, pixels):
    case = saved("vit")
    backbone = load_backbone(case.directory, -1, device="cpu")
    ran = []
    hooks = [b.register_forward_hook(lambda *given, i=i: ran.append(i)) for i, b in enumerate(backbone.block_list)]
    assert backbone.read_blocks(pixels(1, case.case.side), [1, 1], lambda block, stream: block) == [1, 1]
    for hook in hooks:
        hook.remove()
    assert ran == [0, 1]
    for blocks, message in (([3], "no block 3"), ([-4], "no block -4"), ([], "none was asked for")):
        with pytest.raises(InfoscopeError, match=f"has blocks 0 to 2, and {message}"):
            backbone.read_blocks(pixels(1, case.case.side), blocks, lambda block, stream: block)


def test_patches_are_row_major_and_prefix_is_left_out(checkpoint, pixels):
    # With attention as it is every token sees every patch; the patch that changed changes most, by far.
    case = checkpoint.case
    backbone = load_backbone(checkpoint.directory, 0, device="cpu")
    grid, n = backbone.grid, backbone.patch_size
    images = np.repeat(pixels(1, case.side), 2, axis=0)
    images[1, n : 2 * n, 3 * n : 4 * n] = 255 - images[1, n : 2 * n, 3 * n : 4 * n]
    tokens = backbone.tokens(images)
    change = (tokens[0] - tokens[1]).norm(dim=-1)
    assert change.argmax() == grid * 1 + 3


def test_another_input_side_interpolates_as_transformers_does(checkpoint, pixels):
    case = checkpoint.case
    side = case.patch_size * 6
    backbone = load_backbone(checkpoint.directory, -1, input_side=side, device="cpu")
    images = backbone.normalise(pixels(2, side))
    inputs = checkpoint.inputs(images)
    if "SigLIP 2" not in case.family and "DINO" not in case.family:
        inputs["interpolate_pos_encoding"] = True
    taken = []
    hook = case.blocks(checkpoint.vision)[-1].register_forward_hook(lambda module, given, out: taken.append(out))
    with torch.no_grad():
        checkpoint.vision(**inputs)
    hook.remove()
    assert backbone.grid == 6
    torch.testing.assert_close(
        backbone.tokens_from_normalised(images), taken[0][:, case.prefix :], rtol=1e-5, atol=1e-5
    )


@pytest.mark.slow
def test_real_model_on_photographs(dinov2_path, imagenette):
    from transformers import Dinov2WithRegistersModel

    files = [sorted(folder.glob("*"))[0] for folder in sorted((imagenette / "val").iterdir())[:3]]
    images = np.stack([np.asarray(Image.open(file).convert("RGB").resize((224, 224))) for file in files])
    reference = Dinov2WithRegistersModel.from_pretrained(dinov2_path, dtype=torch.float32, local_files_only=True).eval()
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normalised = torch.from_numpy((images / 255 - mean) / std).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        states = reference(normalised, output_hidden_states=True).hidden_states
    for block in (0, 5, 10, -2, -1):
        backbone = load_backbone(dinov2_path, block, device="cpu")
        assert (backbone.grid, backbone.prefix_tokens, backbone.blocks) == (16, 5, 12)
        expected = states[1:][block][:, 5:]
        torch.testing.assert_close(backbone.tokens(images), expected, rtol=1e-4, atol=1e-3)
        assert (expected[0] - expected[1]).abs().max() > 0.5
    assert backbone.sha256 == hashlib.sha256((dinov2_path / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.slow
def test_the_forward_stops_at_the_block(checkpoint, pixels):
    backbone = load_backbone(checkpoint.directory, 1, device="cpu")
    images = pixels(1, checkpoint.case.side)
    ran = []
    for name, module in backbone.model.named_modules():
        module.register_forward_hook(lambda module, given, output, name=name: ran.append(name))
    backbone.tokens(images)
    blocks = backbone.layout.blocks
    assert f"{blocks}.1" in ran
    assert not [name for name in ran if name.startswith(f"{blocks}.2")]
    finals = ("layernorm", "post_layernorm", "norm", "pooler", "head", "")
    assert not [name for name in ran if name.split(".")[0] in finals]
    # And it would have been seen: the whole forward runs them.
    backbone.model(**model_inputs(backbone.normalise(images), backbone.layout, backbone.patch_size))
    assert [name for name in ran if name.startswith(f"{blocks}.2")]
    assert [name for name in ran if name.split(".")[0] in finals]


def test_no_hook_is_left_after_success_or_failure(saved, pixels):
    backbone = load_backbone(saved("vit").directory, 1, device="cpu")
    block = backbone.model.layers[1]
    before = len(block._forward_hooks)

    def fail(module, given):
        raise KeyboardInterrupt

    interruption = block.mlp.register_forward_pre_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        backbone.tokens(pixels(1, 40))
    interruption.remove()
    assert len(block._forward_hooks) == before
    backbone.tokens(pixels(1, 40))
    assert len(block._forward_hooks) == before


def test_a_block_that_returns_a_tuple_gives_the_same_tokens(saved, pixels):
    # As blocks did in earlier versions of transformers; hooks run in the order they were made.
    backbone = load_backbone(saved("clip").directory, 1, device="cpu")
    images = pixels(3, 40)
    plain = backbone.tokens(images)
    backbone.model.encoder.layers[1].register_forward_hook(lambda module, given, output: (output, None))
    assert torch.equal(backbone.tokens(images), plain)


@pytest.mark.slow
def test_tokens_of_an_image_do_not_depend_on_its_batch(checkpoint, pixels):
    backbone = load_backbone(checkpoint.directory, -1, device="cpu")
    images = pixels(5, checkpoint.case.side)
    together = backbone.tokens(images)
    apart = torch.cat([backbone.tokens(images[index : index + 1]) for index in range(5)])
    # A part in a million of the largest value: what float32 sums taken in another order may differ by.
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-6 * float(together.abs().max()))


def test_normalise_equals_the_float64_definition(checkpoint, pixels):
    backbone = load_backbone(checkpoint.directory, 0, device="cpu")
    images = pixels(2, checkpoint.case.side)
    expected = (images / 255.0 - np.array(backbone.mean)) / np.array(backbone.std)
    given = backbone.normalise(images)
    assert given.dtype == torch.float32
    np.testing.assert_allclose(given.numpy(), expected.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-6)
    assert torch.equal(given, backbone.normalise(torch.tensor(images)))
    assert torch.equal(backbone.tokens(images), backbone.tokens_from_normalised(given))


def test_read_only_pixels_are_taken_and_left_alone(saved, pixels):
    backbone = load_backbone(saved("vit").directory, 0, device="cpu")
    images = pixels(2, 40)
    images.flags.writeable = False
    kept = images.copy()
    backbone.tokens(images)
    tensor = torch.tensor(images)
    backbone.tokens(tensor)
    assert np.array_equal(images, kept)
    assert np.array_equal(tensor.numpy(), kept)


def test_tokens_can_be_trained_on(saved, pixels):
    backbone = load_backbone(saved("vit").directory, 1, device="cpu")
    tokens = backbone.tokens(pixels(2, 40))
    assert not tokens.requires_grad
    assert tokens.is_contiguous()
    weight = torch.zeros(32, 4, requires_grad=True)
    (tokens @ weight).sum().backward()
    torch.testing.assert_close(weight.grad, tokens.sum((0, 1))[:, None].expand(-1, 4))


def test_half_precision_gives_float32_tokens_near_the_full_ones(saved, pixels):
    images = pixels(2, 40)
    full = load_backbone(saved("vit").directory, 1, device="cpu")
    half = load_backbone(saved("vit").directory, 1, device="cpu", precision="bf16")
    assert (full.dtype, half.dtype) == (torch.float32, torch.bfloat16)
    tokens = half.tokens(images)
    assert tokens.dtype == torch.float32
    assert 0 < (tokens - full.tokens(images)).norm() / full.tokens(images).norm() < 0.05


@pytest.mark.slow
def test_position_table_is_the_models_own(checkpoint, pixels):
    backbone = load_backbone(checkpoint.directory, 0, device="cpu")
    images = pixels(1, checkpoint.case.side)
    before = backbone.tokens(images)
    table = backbone.position_table
    if checkpoint.case.family == "DINOv3 ViT":
        assert table is None
        return
    assert table.shape[-1] == 32
    table.zero_()
    assert (backbone.tokens(images) - before).abs().max() > 1e-2


@pytest.mark.parametrize("shape", [(1, 32, 40, 3), (1, 48, 48, 3)])
def test_pixels_of_another_size_are_refused(saved, shape):
    backbone = load_backbone(saved("vit").directory, 0, device="cpu")
    with pytest.raises(InfoscopeError, match=r"takes pixels as \[image, 40, 40, 3\] of uint8; these are \[1, "):
        backbone.tokens(np.zeros(shape, np.uint8))


def test_attributes_cannot_be_changed(saved):
    backbone = load_backbone(saved("vit").directory, 0, device="cpu")
    with pytest.raises(AttributeError):
        backbone.block = 2
    assert backbone.device == torch.device("cpu")


def neurons_by_hand(mlp, given):
    """What an MLP of transformers holds after its nonlinearity, from its own layers."""
    if hasattr(mlp, "fc1"):
        activation = getattr(mlp, "activation_fn", None) or mlp.activation
        return activation(mlp.fc1(given)), mlp.fc2
    if hasattr(mlp, "gate_proj"):
        return mlp.act_fn(mlp.gate_proj(given)) * mlp.up_proj(given), mlp.down_proj
    return mlp.act_fn(mlp.up_proj(given)), mlp.down_proj


@pytest.mark.slow
def test_neurons_equal_transformers_own(checkpoint, pixels):
    case = checkpoint.case
    images = pixels(2, case.side)
    loaded = load_backbone(checkpoint.directory, 0, device="cpu", reads="neurons")
    for block in range(BLOCKS):
        backbone = loaded.at(block)
        mlp = case.blocks(checkpoint.vision)[block].mlp
        taken = []
        hook = mlp.register_forward_hook(lambda module, given, output, taken=taken: taken.append((given[0], output)))
        with torch.no_grad():
            checkpoint.vision(**checkpoint.inputs(backbone.normalise(images)))
            hook.remove()
            expected, down = neurons_by_hand(mlp, taken[0][0])
            torch.testing.assert_close(down(expected), taken[0][1], rtol=1e-5, atol=1e-5)
        assert backbone.width == down.in_features != 32
        assert backbone.gated == hasattr(mlp, "gate_proj")
        torch.testing.assert_close(backbone.all_tokens(images), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(backbone.tokens(images), expected[:, case.prefix :], rtol=1e-5, atol=1e-5)
        assert bool((expected < -0.5).any()) == backbone.gated  # only a gate makes a neuron far below 0


def test_the_same_model_read_elsewhere(saved, pixels):
    directory = saved("dinov2-registers").directory
    images = pixels(2, 224)
    first = load_backbone(directory, 0, device="cpu")
    digest = first.sha256
    for block, reads in ((2, "output"), (-1, "neurons"), (1, "output")):
        moved = first.at(block, reads)
        assert moved.model is first.model
        assert moved.__dict__["sha256"] == digest  # not hashed again
        fresh = load_backbone(directory, block, device="cpu", reads=reads)
        assert (moved.block, moved.reads, moved.width) == (fresh.block, fresh.reads, fresh.width)
        assert torch.equal(moved.tokens(images), fresh.tokens(images))
        first = moved
    with pytest.raises(InfoscopeError, match="has blocks 0 to 2, and no block 3"):
        first.at(3)


def test_an_mlp_of_another_layout_is_refused(saved):
    backbone = load_backbone(saved("vit").directory, 1, device="cpu")
    backbone.block_list[1].mlp = torch.nn.Identity()
    with pytest.raises(InfoscopeError, match=r"block 1 has no MLP of a known layout \(mlp.fc2 or mlp.down_proj\)"):
        backbone.at(reads="neurons")
    assert backbone.at(0, "neurons").width == 48
