"""A planted model as a backbone: blocks, outliers, the position table, a measurement, and a real model's tokens."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import small
from infoscope.analyses.planted.model import turned
from infoscope.analyses.planted.plant import plant, plant_into
from infoscope.backbones.loading import load_backbone
from infoscope.errors import InfoscopeError
from infoscope.measurement.measure import measure_scope
from planting import GRID, PATCH, SHAPE, SIDE, SILENT

KEYS = {"top_images": 4, "shift": 1, "noise_images": 0}


def test_blocks_write_one_kind_after_the_other(silent, views):
    pixels = views[:4, 0]
    read = [replace(silent.backbone, block=block).tokens(pixels) @ silent.dictionary.W_enc for block in range(4)]
    local, rest = read[0][..., :16], read[0][..., 16:]
    assert local.max() > 0.5
    assert rest.abs().max() < 1e-5
    assert read[1][..., 16:26].abs().max() < 1e-5
    assert read[1][..., 26:].max() > 0.5
    assert read[2][..., 16:26].max() > 0.2
    norms = [replace(silent.backbone, block=block).tokens(pixels).norm(dim=-1) for block in range(4)]
    high = [(norm > 3 * norm.median()).sum(1).tolist() for norm in norms]
    assert high == [[0] * 4, [0] * 4, [3] * 4, [3] * 4]
    assert norms[3].max() > 1.3 * norms[2].max()
    cls = silent.backbone.all_tokens(pixels)[:, 0] @ silent.dictionary.W_enc
    torch.testing.assert_close(cls[:, 16:26], read[3][..., 16:26].amax(1), atol=1e-4, rtol=0)


def test_the_pixels_decide_how_long_normal_tokens_are(noisy, views):
    """As in a real model, of which docs/outliers.md has the figures; here 0.98, 0.03 and 0.01."""
    norms = np.stack([noisy.backbone.tokens(pair).norm(dim=-1).numpy() for pair in views])
    norms = np.where(norms > 10, np.nan, norms).reshape(-1, 2, GRID, GRID)

    def correlation(first, second):
        known = ~np.isnan(first) & ~np.isnan(second)
        return np.corrcoef(first[known], second[known])[0, 1]

    pixels = [correlation(pair[0, 2:, 2:], pair[1, :-2, :-2]) for pair in norms]
    place = [correlation(*pair) for pair in norms]
    assert np.mean(pixels) > 0.9
    assert np.mean(place) < 0.2
    assert np.nanmean(norms, axis=(0, 1)).var() < 0.05 * np.nanvar(norms)


def test_position_bound_features_read_the_position_table(pictures, views):
    planted = plant(pictures, **SHAPE, **SILENT)
    pixels, table = views[:8, 0], planted.backbone.position_table
    before = planted.dictionary.encode(planted.backbone.tokens(pixels))[..., 26:36].view(-1, GRID, GRID, 10)
    moved = table[1:].view(GRID, GRID, -1).roll(1, 0).reshape(GRID**2, -1).clone()
    table[1:] = moved
    after = planted.dictionary.encode(planted.backbone.tokens(pixels))[..., 26:36].view(-1, GRID, GRID, 10)
    assert before.max() > 0.5
    strength, again = before.amax((1, 2)), after.amax((1, 2))
    torch.testing.assert_close(strength, again, atol=1e-4, rtol=0)
    full = (before > 0.9 * strength[:, None, None]) & (strength > 0.1)[:, None, None]
    assert (after.roll(-1, 1)[full] > 0).float().mean() > 0.95


def test_a_measurement_finds_what_was_planted(pictures):
    """Where outlier patches keep all that they hold, the scores are known to the last digits."""
    planted = plant(pictures, **SHAPE, **SILENT, outlier_keeps=1.0)
    found = measure_scope(planted.backbone, planted.dictionary, pictures, **KEYS)
    cds, kinds = found.table["cds"].to_numpy(), np.array(planted.kinds)
    inside = np.array(planted.inside(1)) & ~np.isnan(cds)
    assert inside.sum() >= 3
    assert cds[inside] == pytest.approx([1 / (GRID - 2)] * inside.sum(), abs=1e-6)
    for kind in ("local", "diffuse"):
        assert 0 <= np.nanmax(cds[kinds == kind]) < 1e-4
        assert (~np.isnan(cds[kinds == kind])).mean() > 0.7
    assert np.nanmin(cds[kinds == "global"]) > 0.1
    assert found.manifest.model.family == "planted"
    assert found.manifest.model.sha256 == planted.backbone.sha256


@pytest.mark.slow
def test_a_measurement_does_not_depend_on_batches(noisy, pictures):
    tables = [
        measure_scope(noisy.backbone, noisy.dictionary, pictures[:20], **KEYS, batch_size=size, threads=threads).table
        for size, threads in ((3, 2), (16, 1))
    ]
    assert tables[0].equals(tables[1])
    assert tables[0]["cds"].count() > 10


def test_the_hash_is_that_of_the_tensors(pictures, noisy):
    other = plant(pictures, **SHAPE, seed=1)
    again = plant(pictures, **SHAPE)
    # Products may differ in their last bits from call to call, so the tensors themselves are carried over.
    again.backbone.model.load_state_dict(noisy.backbone.model.state_dict())
    assert again.backbone.sha256 == noisy.backbone.sha256 != other.backbone.sha256
    assert len(noisy.backbone.sha256) == 64


def test_a_turned_dictionary_stands_at_its_angle(noisy):
    old, new = noisy.dictionary, turned(noisy.dictionary, 0.6)
    cosine = (old.W_dec * new.W_dec).sum(1)
    torch.testing.assert_close(cosine, torch.full_like(cosine, 0.6))
    torch.testing.assert_close(new.activation.threshold, 0.6 * old.activation.threshold)
    for wrong in (0.0, 1.1):
        with pytest.raises(InfoscopeError, match="is out of range: above 0 to 1"):
            turned(old, wrong)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = small.save_model(tmp_path_factory.mktemp("model"))
    return load_backbone(folder, block=1, input_side=SIDE, device="cpu")


def test_features_are_added_to_a_real_models_tokens(real, pictures, views):
    planted = plant_into(real, pictures, features=20, noise=0.0)
    assert (planted.backbone.grid, planted.backbone.block, planted.backbone.blocks) == (GRID, 1, 3)
    pixels = views[:5, 0]
    before, after = real.all_tokens(pixels), planted.backbone.all_tokens(pixels)
    assert torch.equal(before[:, :1], after[:, :1])
    codes = planted.codes(torch.tensor(pixels))
    assert codes.amax() > 0
    torch.testing.assert_close(after[:, 1:] - before[:, 1:], codes @ planted.dictionary.W_dec, atol=1e-3, rtol=1e-4)
    # The peaks stand in their proportion to the model's own spread in each direction.
    full = pictures[:, ::1, ::1][:, :SIDE, :SIDE]
    spread = (real.tokens(full).flatten(0, 1) @ planted.dictionary.W_enc).std(0)
    assert (0.1 * planted.peaks / spread).sub(1).abs().median() < 0.1
    # What comes after the block has it in, and what came before has not.
    for block, differs in ((0, False), (2, True)):
        ours, theirs = (replace(one, block=block).tokens(pixels) for one in (planted.backbone, real))
        assert torch.equal(ours, theirs) is not differs
    assert planted.backbone.sha256 != real.sha256
    assert planted.backbone.position_table is real.position_table


def test_what_cannot_be_planted_into_a_real_model(real, pictures):
    with pytest.raises(InfoscopeError, match="infinitely stronger"):
        plant_into(real, pictures, features=20, background=0.0)
    with pytest.raises(InfoscopeError, match="has tokens of 32: plant at most as many features"):
        plant_into(real, pictures, features=40)
    naflex = replace(real, layout=replace(real.layout, patchified=True))
    with pytest.raises(InfoscopeError, match="takes flattened patches"):
        plant_into(naflex, pictures, features=20)
    assert real.patch_size == PATCH
