"""Running on from edited tokens, against transformers' own model with a hook that puts the same tokens there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import small
from infoscope.analyses.planted.plant import plant_into
from infoscope.backbones.loading import load_backbone
from infoscope.backbones.whole_pass import WholePass
from infoscope.errors import InfoscopeError
from planting import scenes

AT = 1
WITHOUT_POOLED = {"ViT", "DeiT", "MAE"}  # they are loaded without a pooling layer


def photographs(backbone, count=2):
    side = backbone.input_side
    return np.random.default_rng(3).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def changed(stream):
    """An edit of all tokens, CLS and registers among them, each another one."""
    generator = torch.Generator().manual_seed(4)
    return stream * 0.7 + torch.randn(stream.shape[1:], generator=generator)


def run_hooked(checkpoint, images, edit):
    """The reference's own forward: the output of every block, and of the model, with an edit after block 1."""
    blocks, taken = checkpoint.case.blocks(checkpoint.vision), []

    def change(module, given, output):
        return (edit(output[0]), *output[1:]) if isinstance(output, tuple) else edit(output)

    def take(module, given, output):
        taken.append(output[0] if isinstance(output, tuple) else output)

    hooks = [blocks[AT].register_forward_hook(change)]
    hooks += [block.register_forward_hook(take) for block in blocks]
    try:
        with torch.no_grad():
            output = checkpoint.vision(**checkpoint.inputs(images))
    finally:
        for hook in hooks:
            hook.remove()
    return taken, output


@pytest.mark.slow
def test_what_follows_is_what_the_model_itself_makes_of_the_edited_tokens(checkpoint):
    backbone = load_backbone(checkpoint.directory, AT, device="cpu")
    pixels = photographs(backbone)
    images = backbone.normalise(pixels)
    untouched = WholePass(backbone, pixels, blocks=[0, AT, -1])
    again = untouched.run_from(changed(untouched.stream))
    assert sorted(untouched.outputs.tokens) == [0, 1, 2]
    assert sorted(again.tokens) == [1, 2]  # what comes before does not change
    for outputs, edit in ((untouched.outputs, lambda stream: stream), (again, changed)):
        blocks, model = run_hooked(checkpoint, images, edit)
        for block, tokens in outputs.tokens.items():
            torch.testing.assert_close(tokens, blocks[block], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(outputs.last, model.last_hidden_state, rtol=1e-4, atol=1e-4)
        if checkpoint.case.family in WITHOUT_POOLED:
            assert outputs.pooled is None
        else:
            torch.testing.assert_close(outputs.pooled, model.pooler_output, rtol=1e-4, atol=1e-4)
    assert (again.last - untouched.outputs.last).abs().amax(-1).min() > 1e-3
    torch.testing.assert_close(untouched.stream, blocks_of(checkpoint, images)[AT], rtol=1e-4, atol=1e-5)


def blocks_of(checkpoint, images):
    return run_hooked(checkpoint, images, lambda stream: stream)[0]


@pytest.mark.slow
def test_the_same_tokens_give_the_same_bits_and_the_model_is_left_as_it_was(checkpoint):
    backbone = load_backbone(checkpoint.directory, AT, device="cpu")
    pixels = photographs(backbone)
    untouched = WholePass(backbone, pixels, blocks=[AT, -1])
    untouched.run_from(changed(untouched.stream))
    kept = untouched.stream.clone()
    again = untouched.run_from(untouched.stream)
    assert torch.equal(untouched.stream, kept)
    for block in (AT, 2):
        assert torch.equal(again.tokens[block], untouched.outputs.tokens[block])
    assert torch.equal(again.last, untouched.outputs.last)
    if again.pooled is not None:
        assert torch.equal(again.pooled, untouched.outputs.pooled)
    assert not any("forward" in vars(block) or block._forward_hooks for block in backbone.block_list)
    assert torch.equal(backbone.all_tokens(pixels), untouched.stream)


def test_the_final_norm_is_the_models_own(checkpoint):
    backbone = load_backbone(checkpoint.directory, -1, device="cpu")
    pixels = photographs(backbone)
    outputs = WholePass(backbone, pixels, blocks=[-1]).outputs
    normed = backbone.final_norm(outputs.tokens[2])
    if checkpoint.case.family == "CLIP":  # only CLS goes through it on its own
        torch.testing.assert_close(normed[:, 0], outputs.pooled)
    else:
        torch.testing.assert_close(normed, outputs.last)
    assert (normed - outputs.tokens[2]).abs().max() > 0.01


def test_after_the_last_block_only_the_end_is_run_again(saved):
    backbone = load_backbone(saved("dinov2").directory, -1, device="cpu")
    untouched = WholePass(backbone, photographs(backbone), blocks=[-1])
    stream = changed(untouched.stream)
    again = untouched.run_from(stream)
    assert torch.equal(again.tokens[2], stream)
    torch.testing.assert_close(again.last, backbone.final_norm(stream))
    torch.testing.assert_close(again.pooled, again.last[:, 0])


def test_a_forward_of_the_blocks_own_comes_back_and_an_error_leaves_nothing_behind(saved):
    backbone = load_backbone(saved("vit").directory, AT, device="cpu")
    blocks, calls = backbone.block_list, []
    own = blocks[0].forward

    def counted(*arguments, **options):
        calls.append(1)
        return own(*arguments, **options)

    blocks[0].forward = counted
    untouched = WholePass(backbone, photographs(backbone))
    untouched.run_from(untouched.stream)
    assert len(calls) == 1  # not run again
    with pytest.raises(RuntimeError):
        untouched.run_from(untouched.stream[..., :-1])
    assert blocks[0].forward is counted
    assert "forward" not in vars(blocks[AT])
    assert not blocks[AT]._forward_hooks
    assert torch.equal(WholePass(backbone, photographs(backbone)).outputs.last, untouched.outputs.last)


@pytest.mark.parametrize("block", [3, -4])
def test_blocks_that_there_are_not(saved, block):
    backbone = load_backbone(saved("vit").directory, AT, device="cpu")
    with pytest.raises(InfoscopeError, match=f"has blocks 0 to 2, and no block {block}"):
        WholePass(backbone, photographs(backbone), blocks=[0, block])


def test_features_planted_into_a_model_are_not_written_twice(tmp_path):
    real = load_backbone(small.save_model(tmp_path), block=1, input_side=small.SIDE, device="cpu")
    planted = plant_into(real, scenes(10), features=20).backbone
    pixels = photographs(planted)
    untouched = WholePass(planted, pixels, blocks=[1, 2])
    assert torch.equal(untouched.stream, planted.all_tokens(pixels))
    assert not torch.equal(untouched.stream, real.all_tokens(pixels))
    again = untouched.run_from(untouched.stream)
    for block in (1, 2):
        assert torch.equal(again.tokens[block], untouched.outputs.tokens[block])
    torch.testing.assert_close(planted.final_norm(again.tokens[2]), again.last)
