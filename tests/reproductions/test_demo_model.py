"""How the demo's model is made: what its training relies on, on small inputs. The training itself takes a night."""

import copy
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import infoscope
from infoscope.dictionaries.activations import TopK

FOLDER = Path(__file__).parents[2] / "reproductions" / "demo_model"
VALUES = torch.tensor([80.0, 36.0])


@pytest.fixture(scope="module")
def scripts():
    """`student` and `views`, which import each other by these names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield importlib.import_module("student"), importlib.import_module("views")
    for name in ("student", "views"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def sae_script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield importlib.import_module("sae")
    sys.modules.pop("sae", None)


@torch.no_grad()
def test_the_direction_of_outliers_becomes_a_feature_that_reads_nothing_else(sae_script):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(400, 12, generator=generator)
    shared = torch.randn(12, generator=generator)
    tokens[::50] += 40 * shared
    stream = sae_script.Stream(list(tokens.split(100)))
    left = torch.cat(list(stream))
    assert tokens[::50].norm(dim=1).min() > stream.limit > left.norm(dim=1).max()
    weights = [torch.randn(shape, generator=generator) for shape in ((12, 20), (20,), (20, 12), (12,))]
    trained = infoscope.SparseAutoencoder(*weights, TopK(3))
    whole = stream.append_to(trained)
    assert (whole.features, whole.activation.k) == (21, 4)
    outliers = slice(None, None, 50)
    codes = whole.encode(tokens[outliers]).to_dense()
    torch.testing.assert_close(codes[:, :20], trained.encode(left[outliers]).to_dense(), atol=1e-3, rtol=1e-4)
    # What was taken out is what the last feature puts back; the trained part has no say along the direction.
    along = whole.W_dec[-1]
    back = (whole.decode(whole.encode(tokens[outliers])) - tokens[outliers]) @ along
    torch.testing.assert_close(back, torch.zeros(8), atol=1e-3, rtol=0)


@pytest.fixture
def choosing(scripts):
    """One of width 16 with ten neurons, two of them moved, that lights some of twelve tokens."""
    torch.manual_seed(0)
    made = scripts[0].Choosing(16, 10, VALUES)
    nn.init.normal_(made.direction)
    made.level.fill_(2.0)
    return made


def mlp(width, neurons):
    return nn.ModuleDict({"fc1": nn.Linear(width, neurons), "fc2": nn.Linear(neurons, width)})


@torch.no_grad()
def test_what_is_trained_and_what_is_written_are_one_function(choosing):
    tokens, folded = torch.randn(3, 12, 16), mlp(16, 10)
    choosing.fold(folded)
    wanted = choosing(tokens)
    lit = choosing.lit()
    assert (lit >= 1).any()
    assert (lit <= 0).any()
    written = folded["fc2"](nn.functional.gelu(folded["fc1"](tokens)))
    torch.testing.assert_close(written, wanted, atol=1e-3, rtol=1e-4)


@torch.no_grad()
def test_a_token_is_an_outlier_altogether_or_not_at_all(choosing):
    tokens = torch.randn(1, 200, 16)
    with_it, score = choosing(tokens), choosing.score
    without = copy.deepcopy(choosing)
    without.outward.weight[:, :2] = 0
    added = with_it - without(tokens)
    whole = choosing.outward.weight[:, :2] @ VALUES
    far = (score - choosing.level).abs() > 0.2
    assert 0.5 < far.float().mean() < 1
    share = (added @ whole / whole.square().sum())[far]
    torch.testing.assert_close(share, (score > choosing.level)[far].float(), atol=1e-4, rtol=0)


@torch.no_grad()
def test_where_it_is_forced_the_score_does_not_matter(choosing):
    tokens, chosen = torch.randn(2, 12, 16), torch.zeros(2, 12, dtype=torch.bool)
    free = choosing(tokens)
    chosen[:, 3] = True
    choosing.chosen, choosing.forced = chosen, torch.tensor([True, False])
    made = choosing(tokens)
    assert torch.equal(made[1], free[1])
    whole, rest = choosing.outward.weight[:, :2] @ VALUES, copy.deepcopy(choosing)
    rest.outward.weight[:, :2] = 0
    added = made[0] - rest(tokens)[0]
    torch.testing.assert_close(added, whole * chosen[0, :, None], atol=1e-4, rtol=0)


@torch.no_grad()
def test_the_level_comes_to_where_so_many_patches_are_above_it(choosing):
    tokens = torch.randn(20, 51, 16)
    choosing(tokens)
    for _ in range(200):
        choosing.follow(3, 0.1)
    above = choosing.score[:, 1:] > choosing.level
    assert above.sum(1).float().mean() == pytest.approx(3, abs=0.1)


@torch.no_grad()
def test_it_starts_with_what_tells_how_near_a_patch_came_and_never_with_cls(choosing):
    tokens, direction = torch.randn(40, 51, 16), torch.randn(16)
    # CLS would be the nearest of all, but for something that patches have not.
    aside = torch.randn(16)
    aside -= direction * (aside @ direction) / direction.square().sum()
    tokens[:, 0] = 4 * direction / direction.norm() + 40 * aside / aside.norm()
    near = tokens[:, 1:] @ direction
    choosing.start(tokens, near / near.std(), patches=2)
    choosing(tokens)
    lit = choosing.lit() > 0.5
    assert (near < (tokens[:, 0] @ direction)[:, None]).all(1).float().mean() > 0.9
    assert lit[:, 1:].sum(1).float().mean() == pytest.approx(2, abs=0.2)
    assert not lit[:, 0].any()
    best = near.flatten().topk(int(lit.sum())).indices
    assert lit[:, 1:].flatten()[best].float().mean() > 0.7  # by chance 0.04


@torch.no_grad()
def test_the_first_norm_passes_tokens_through_but_for_their_mean(scripts):
    student, _ = scripts
    vision = student.untrained_student(0).vision_model
    tokens = 0.3 * torch.randn(4, 197, 384)
    vision.embeddings.position_embedding.weight.zero_()
    student._pass_through_norm(vision, tokens)
    passed = vision.pre_layrnorm(tokens + vision.embeddings.position_embedding.weight)
    off = passed - (tokens - tokens.mean(-1, keepdim=True))
    assert off.square().mean() < 0.02 * tokens.var()


def test_tokens_come_back_from_eight_bits(scripts):
    _, views = scripts
    tokens = np.random.default_rng(0).normal(size=(3, 5, 384)).astype(np.float32)
    tokens[0, 0] *= 60
    back = views.unpack(*views.pack(tokens)).numpy()
    error = np.square(back - tokens).mean(-1) / tokens.var(-1)
    assert error.max() < 1e-3


def test_a_view_depends_on_its_file_and_seed_alone(scripts, tmp_path):
    _, views = scripts
    pixels = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels).save(tmp_path / "b.png")
    first, again, other, named = (
        np.asarray(views.make_view(tmp_path / file, seed))
        for file, seed in (("a.png", [0, 1]), ("a.png", [0, 1]), ("a.png", [0, 2]), ("b.png", [0, 1]))
    )
    assert first.shape == (224, 224, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, named)
    whole = np.asarray(views.make_view(tmp_path / "a.png", None))
    middle = Image.fromarray(pixels).resize((224, 224), Image.Resampling.BICUBIC, box=(15, 0, 75, 60))
    assert np.array_equal(whole, np.asarray(middle))
