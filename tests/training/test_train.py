"""From images to an SAE: passes, caching, skipped images, what is saved."""

from pathlib import Path

import numpy as np
import pytest
import torch

from infoscope.backbones.loading import load_backbone
from infoscope.dictionaries.loading import load_sae
from infoscope.errors import InfoscopeError
from infoscope.images.source import open_images
from infoscope.images.views import Views
from infoscope.runtime.json_values import read_json
from infoscope.training.config import TrainConfig
from infoscope.training.passes import TokenPasses
from infoscope.training.train import train_sae, train_saes
from small import SIDE, pictures, save_model

OPTIONS = {"features": 40, "k": 4, "tokens": 4000, "batch_tokens": 200, "buffer_tokens": 600}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return load_backbone(save_model(tmp_path_factory.mktemp("model")), block=1, input_side=SIDE, device="cpu")


@pytest.fixture(scope="module")
def images():
    return open_images(pictures(30))


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.weights().values(), second.weights().values(), strict=True))


def test_tokens_are_the_full_views_in_one_random_order(backbone, images):
    passes = TokenPasses(backbone, images, "stretch", TrainConfig(tokens=10**6, seed=3), batch_size=7, threads=2)
    tokens = torch.cat(list(passes()))
    assert sorted(passes.order) == list(range(30))
    assert passes.order != list(range(30))
    views = Views(backbone.patch_size, backbone.grid, 0)
    expected = torch.cat([backbone.tokens(views.full(images[i])[None])[0] for i in passes.order])
    assert torch.allclose(tokens, expected, rtol=1e-4, atol=1e-4)
    assert len(list(passes())) == len(list(passes()))


def test_which_tokens(backbone, images):
    config, views = TrainConfig(tokens=10**6), Views(backbone.patch_size, backbone.grid, 0)
    every = {index: backbone.all_tokens(views.full(images[index])[None])[0] for index in range(30)}
    assert backbone.prefix_tokens == 1
    for token_set, part in (("patch", slice(1, None)), ("all", slice(None)), ("cls", slice(1))):
        passes = TokenPasses(backbone, images, "stretch", config, 7, 2, token_set=token_set)
        tokens = torch.cat(list(passes()))
        expected = torch.cat([every[index][part] for index in passes.order])
        assert len(expected) == passes.tokens
        assert torch.allclose(tokens, expected, rtol=1e-4, atol=1e-4)
        assert passes.site()["tokens"] == token_set
    made = [TokenPasses(backbone, images, "stretch", config, 7, 2, token_set=kind).made_by() for kind in ("all", "cls")]
    assert made[0] != made[1]
    sae = train_sae(backbone, images, token_set="all", **OPTIONS)
    assert sae.site["tokens"] == "all"


def test_no_more_images_are_read_than_the_tokens_need(backbone, images):
    passes = TokenPasses(backbone, images, "stretch", TrainConfig(tokens=90), batch_size=7, threads=2)
    assert len(passes.order) == 3  # 36 tokens each, of which a tenth is held out
    assert passes.held_out == 10


@pytest.mark.slow
def test_cached_and_streamed_tokens_train_the_same_sae(backbone, images):
    cached = train_sae(backbone, images, **OPTIONS)
    assert same(cached, train_sae(backbone, images, cache_bytes=0, **OPTIONS))
    assert same(cached, train_sae(backbone, images, cache="none", **OPTIONS))
    assert not same(cached, train_sae(backbone, images, **OPTIONS, seed=1))


def test_what_is_saved_is_what_is_returned(backbone, images, tmp_path):
    sae = train_sae(backbone, images, out=tmp_path / "sae", **OPTIONS)
    assert same(sae, load_sae(tmp_path / "sae"))
    assert sae.site["block"] == 1
    assert sae.site["sha256"] == backbone.sha256
    training = read_json(tmp_path / "sae" / "sae.json")["training"]
    assert training["config"]["learning_rate"] == TrainConfig().learning_rate
    curves = read_json(tmp_path / "sae" / "training.json")
    assert curves["tokens"][-1] == 4000
    assert np.allclose(torch.linalg.norm(sae.W_dec, dim=1), 1, atol=1e-5)
    with pytest.raises(InfoscopeError, match="never written over"):
        train_sae(backbone, images, out=tmp_path / "sae", **OPTIONS)


def test_unreadable_images_are_left_out(backbone, images, tmp_path):
    for i in range(6):
        images[i].save(tmp_path / f"{i}.png")
    (tmp_path / "broken.png").write_bytes(b"")
    sae = train_sae(backbone, open_images(tmp_path), **OPTIONS)
    assert [skipped["id"] for skipped in sae.site["images"]["skipped"]] == ["broken.png"]
    assert sae.site["images"]["count"] == 7


def test_no_readable_image(backbone, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"")
    with pytest.raises(InfoscopeError, match="none of the 1 images"):
        train_sae(backbone, open_images(tmp_path), **OPTIONS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "after"), [("sae.safetensors", False), ("sae.safetensors", True), ("sae.json", False), ("sae.json", True)]
)
def test_a_stop_while_the_saes_are_written_loses_nothing(backbone, images, tmp_path, monkeypatch, name, after):
    """Each file of the second SAE: before it is there, and after."""
    configs = [TrainConfig(**OPTIONS), TrainConfig(**OPTIONS | {"k": 3})]
    train_saes(backbone, images, configs, out=tmp_path / "whole")
    replace = Path.replace

    def stop(self, target):
        second = Path(target).name == name and Path(target).parent.name == "k3"
        if second and not after:
            raise KeyboardInterrupt
        replace(self, target)
        if second:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stop)
        # As a kill does: nothing is cleaned up.
        patch.setattr("infoscope.dictionaries.formats.infoscope.shutil.rmtree", lambda *arguments, **options: None)
        patch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
        with pytest.raises(KeyboardInterrupt):
            train_saes(backbone, images, configs, out=tmp_path / "again")
    train_saes(backbone, images, configs, out=tmp_path / "again")
    for folder in ("k4", "k3"):
        files = [sorted((tmp_path / run / folder).iterdir()) for run in ("whole", "again")]
        assert [file.name for file in files[0]] == [file.name for file in files[1]]
        assert all(one.read_bytes() == other.read_bytes() for one, other in zip(*files, strict=True))
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == ["k3", "k4"]
    with pytest.raises(InfoscopeError, match="never written over"):
        train_saes(backbone, images, configs, out=tmp_path / "again")
