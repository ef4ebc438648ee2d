"""Registers moved onto patches: on small models whose neurons are set by hand, and on a real one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers

from infoscope.backbones.loading import load_backbone
from infoscope.backbones.moved_registers import (
    MovedNeurons,
    Parking,
    move_registers,
    moved_neurons,
    save_moved,
)
from infoscope.errors import InfoscopeError
from register_model import BLOCK, REGISTER, WRITERS, save_register_model


def pictures(count, side=56, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return noise.repeat(side // 4, 1).repeat(side // 4, 2)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registers")
    save_register_model(folder)
    return folder


@pytest.fixture(scope="module")
def backbone(directory):
    return load_backbone(directory, BLOCK, input_side=56, device="cpu")


def test_the_neurons_that_were_set_are_found(backbone):
    norms = backbone.all_tokens(pictures(4)).norm(dim=-1)
    assert (norms[:, REGISTER] > 5 * norms[:, 4:].median()).all()
    moved = moved_neurons(move_registers(backbone, pictures(8)))
    assert (moved.block, tuple(moved.neurons.tolist())) == (BLOCK, WRITERS)
    values = backbone.at(reads="neurons").all_tokens(pictures(8))[:, REGISTER, list(WRITERS)].mean(0)
    assert moved.values == pytest.approx(values, rel=1e-5)


@pytest.mark.parametrize("patches", [1, 3])
def test_so_many_patches_of_each_view_are_outliers_by_the_neurons_directions(backbone, patches):
    moved = move_registers(backbone, pictures(8), patches=patches)
    assert (moved.prefix_tokens, moved.model.config.num_register_tokens) == (1, 0)
    views = pictures(5, seed=1)
    tokens = moved.tokens(views)
    norms = tokens.norm(dim=-1)
    assert ((norms > 3 * norms.median(1, keepdim=True).values).sum(1) == patches).all()
    # What is put there is what the neurons write, and no other token changes at this block.
    parking = next(module for module in moved.model.modules() if isinstance(module, Parking))
    values, parking.values = parking.values, torch.zeros_like(parking.values) + 1e-30
    without = moved.tokens(views)
    parking.values = values
    written = backbone.block_module.mlp.fc2.weight[:, list(WRITERS)] @ values
    changed = (tokens - without).norm(dim=-1) > 1e-3
    assert (changed.sum(1) == patches).all()
    assert (tokens - without)[changed] == pytest.approx(written.expand(int(changed.sum()), -1), abs=1e-3)


def test_the_model_that_was_given_stays_as_it_is(backbone):
    before = backbone.all_tokens(pictures(2))
    move_registers(backbone, pictures(8))
    assert torch.equal(backbone.all_tokens(pictures(2)), before)


def test_the_batch_changes_nothing(backbone):
    moved, views = move_registers(backbone, pictures(8), patches=2), pictures(6, seed=2)
    together = moved.tokens(views)
    assert torch.equal(together, torch.cat([moved.tokens(views[i : i + 1]) for i in range(6)]))


def test_with_no_patch_the_registers_are_left_out_and_nothing_is_moved(backbone, directory, tmp_path):
    config = transformers.Dinov2WithRegistersConfig.from_pretrained(directory)
    config.num_register_tokens = 0
    plain = transformers.Dinov2WithRegistersModel(config).eval()
    weights = backbone.model.state_dict()
    registers = weights["embeddings.register_tokens"]
    plain.load_state_dict(weights | {"embeddings.register_tokens": registers[:, :0]})
    wanted = replace(backbone, model=plain, prefix_tokens=1).all_tokens(pictures(3))
    moved = move_registers(backbone, pictures(8), patches=0)
    assert torch.equal(moved.all_tokens(pictures(3)), wanted)
    save_moved(moved, tmp_path / "moved")
    read = load_backbone(tmp_path / "moved", BLOCK, input_side=56, device="cpu")
    assert moved_neurons(read).patches == 0
    assert torch.equal(read.all_tokens(pictures(3)), wanted)


def test_of_equal_patches_the_first_are_taken():
    moved = MovedNeurons(0, torch.tensor([0]), torch.tensor([9.0]), 2)
    found = Parking(torch.nn.ReLU(), moved, 1)(torch.full((1, 5, 2), -1.0))
    assert found[0, :, 0].tolist() == [0, 9, 9, 0, 0]


def test_neurons_read_at_the_block_are_those_that_were_set(backbone):
    moved = move_registers(backbone, pictures(8))
    neurons = moved.at(reads="neurons").tokens(pictures(3))
    value = moved_neurons(moved).values[0]
    assert ((neurons[..., WRITERS[0]] - value).abs() < 1e-4).sum(1).tolist() == [1, 1, 1]


def test_what_is_written_is_read_again(backbone, tmp_path):
    moved = move_registers(backbone, pictures(8), patches=2)
    save_moved(moved, tmp_path / "moved")
    again = load_backbone(tmp_path / "moved", BLOCK, input_side=56, device="cpu")
    assert torch.equal(again.tokens(pictures(3)), moved.tokens(pictures(3)))
    assert (again.mean, again.std, again.prefix_tokens) == (moved.mean, moved.std, 1)
    kept = moved_neurons(again)
    assert (kept.block, kept.patches, kept.neurons.tolist()) == (BLOCK, 2, list(WRITERS))
    # What was moved is part of what the model is.
    save_moved(move_registers(backbone, pictures(8), patches=3), tmp_path / "other")
    assert load_backbone(tmp_path / "other", BLOCK, input_side=56, device="cpu").sha256 != again.sha256
    with pytest.raises(InfoscopeError, match="exists already"):
        save_moved(moved, tmp_path / "moved")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("moved_registers.values"), "incomplete"),
        (lambda weights: weights["moved_registers.block"].fill_(7), "out of range"),
        (lambda weights: weights["moved_registers.patches"].fill_(-1), "out of range"),
        (lambda weights: weights["moved_registers.neurons"].fill_(64), "not among the block's 64"),
    ],
)
def test_a_damaged_file_is_refused(backbone, tmp_path, edit_weights, change, message):
    save_moved(move_registers(backbone, pictures(8)), tmp_path / "moved")
    edit_weights(tmp_path / "moved", change)
    with pytest.raises(InfoscopeError, match=message):
        load_backbone(tmp_path / "moved", BLOCK, input_side=56, device="cpu")


def test_what_has_nothing_to_move_is_refused(backbone, saved, tmp_path):
    with pytest.raises(InfoscopeError, match="no registers to move"):
        move_registers(load_backbone(saved("vit").directory, 0, device="cpu"), pictures(4))
    with pytest.raises(InfoscopeError, match="patches 17 is out of range"):
        move_registers(backbone, pictures(4), patches=17)
    with pytest.raises(InfoscopeError, match="no registers to move"):
        move_registers(move_registers(backbone, pictures(4)), pictures(4))
    with pytest.raises(InfoscopeError, match="was moved"):
        save_moved(backbone, tmp_path / "new")
    torch.manual_seed(1)
    config = backbone.model.config
    plain = transformers.Dinov2WithRegistersModel(config)
    plain.save_pretrained(tmp_path / "plain")
    with pytest.raises(InfoscopeError, match="is an outlier"):
        move_registers(load_backbone(tmp_path / "plain", 0, input_side=56, device="cpu"), pictures(4))


def test_a_real_models_register(dinov2_path, imagenette):
    """Method, section 11: five neurons of block 4 write a register 53 times as long as patches; moved, 56 times."""
    backbone = load_backbone(dinov2_path, 4, device="cpu")
    moved = move_registers(backbone, str(imagenette / "train"), sample=16)
    found = moved_neurons(moved)
    assert (found.block, sorted(found.neurons.tolist())) == (4, [603, 735, 995, 1337, 1463])
    views = pictures(2, side=224)
    norms = moved.tokens(views).norm(dim=-1)
    ratio = norms.max(1).values / norms.median(1).values
    assert ((ratio > 30) & (ratio < 100)).all()
    assert ((norms > 3 * norms.median(1, keepdim=True).values).sum(1) == 1).all()
