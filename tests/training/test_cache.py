"""Tokens on disk: the same SAE as from the model, and from the disk alone."""

import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import infoscope.training.passes
from infoscope.backbones.loading import load_backbone
from infoscope.errors import InfoscopeError
from infoscope.images.source import open_images
from infoscope.runtime.json_values import read_json
from infoscope.runtime.token_cache import TokenCacheWriter, open_token_cache
from infoscope.training import from_cache
from infoscope.training.config import TrainConfig
from infoscope.training.from_cache import train_on_cache
from infoscope.training.passes import TokenPasses, cache_tokens
from infoscope.training.train import train_sae
from small import SIDE, pictures, save_model

CONFIG = TrainConfig(features=40, k=4, tokens=4000, batch_tokens=200, buffer_tokens=600)
OPTIONS = {"batch_size": 4}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def backbone(model):
    return load_backbone(model, block=1, input_side=SIDE, device="cpu")


@pytest.fixture
def folder(tmp_path):
    """30 pictures, two of them broken."""
    images = tmp_path / "images"
    images.mkdir()
    for i, picture in enumerate(pictures(30)):
        picture.save(images / f"{i:02}.png")
    for i in (4, 17):
        (images / f"{i:02}.png").write_bytes(b"broken")
    return images


@pytest.fixture
def small_shards(monkeypatch):
    """Of two batches of four images, 36 tokens of width 32 each."""

    def writer(*arguments):
        return TokenCacheWriter(*arguments, shard_bytes=8 * 36 * 32 * 4)

    monkeypatch.setattr(infoscope.training.passes, "TokenCacheWriter", writer)


def only(caches):
    (found,) = caches.iterdir()
    return found


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.weights().values(), second.weights().values(), strict=True))


@pytest.mark.slow
@pytest.mark.usefixtures("small_shards")
def test_memory_model_and_disk_train_the_same_sae(backbone, folder, tmp_path):
    expected = train_sae(backbone, folder, CONFIG, **OPTIONS)
    streamed = train_sae(backbone, folder, CONFIG, cache="none", **OPTIONS)
    written = train_sae(backbone, folder, CONFIG, cache=tmp_path / "caches", **OPTIONS)
    found = train_sae(backbone, folder, CONFIG, cache=tmp_path / "caches", **OPTIONS)
    path = only(tmp_path / "caches")
    assert len(open_token_cache(path).shards) == 4
    shutil.rmtree(folder)
    alone = train_on_cache(path, CONFIG, device="cpu")
    for sae in (streamed, written, found, alone):
        assert same(sae, expected)
        assert sae.site == expected.site
    assert [image["id"] for image in alone.site["images"]["skipped"]] == ["04.png", "17.png"]


def test_the_second_training_runs_no_model(backbone, folder, tmp_path, monkeypatch):
    train_sae(backbone, folder, CONFIG, cache=tmp_path / "caches", **OPTIONS)

    def refuse(*arguments):
        raise AssertionError("the model ran")

    monkeypatch.setattr(type(backbone), "tokens", refuse)
    other = replace(CONFIG, features=20, k=2)
    sae = train_sae(backbone, folder, other, cache=tmp_path / "caches", **OPTIONS)
    assert sae.features == 20


@pytest.mark.slow
@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("stop", [0, 1, 3, 6])
def test_a_killed_writer_ends_with_the_same_files(backbone, folder, tmp_path, monkeypatch, stop):
    def passes():
        return TokenPasses(backbone, open_images(folder), "stretch", CONFIG, batch_size=4, threads=2)

    whole = cache_tokens(passes(), tmp_path / "whole")
    run = type(backbone).tokens
    batches = 0

    def killed(self, pixels):
        nonlocal batches
        if batches == stop:
            raise KeyboardInterrupt
        batches += 1
        return run(self, pixels)

    monkeypatch.setattr(type(backbone), "tokens", killed)
    with pytest.raises(KeyboardInterrupt):
        cache_tokens(passes(), tmp_path / "killed")
    kept = list((tmp_path / "killed").rglob("*.safetensors"))
    assert len(kept) == stop // 2
    monkeypatch.setattr(type(backbone), "tokens", run)
    again = passes()
    cache = cache_tokens(again, tmp_path / "killed")
    assert sorted(again.skipped) == [4, 17]
    files = sorted(file.name for file in whole.path.iterdir())
    assert sorted(file.name for file in cache.path.iterdir()) == files
    assert all((whole.path / file).read_bytes() == (cache.path / file).read_bytes() for file in files)


def test_another_name_whenever_the_tokens_are_others(model, backbone, folder, tmp_path):
    def name(backbone=backbone, resize="stretch", config=CONFIG):
        return TokenPasses(backbone, open_images(folder), resize, config, 4, 2).made_by()

    other = tmp_path / "other"
    shutil.copytree(model, other)
    (weights,) = other.glob("*.safetensors")
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    load = {"input_side": SIDE, "device": "cpu"}
    made = [
        name(),
        name(load_backbone(other, block=1, **load)),
        name(load_backbone(model, block=0, **load)),
        name(load_backbone(model, block=1, input_side=SIDE - 8, device="cpu")),
        name(replace(backbone, mean=(0.5, 0.5, 0.5))),
        name(replace(backbone, std=(0.5, 0.5, 0.5))),
        name(resize="crop"),
        name(config=replace(CONFIG, seed=1)),
        name(config=replace(CONFIG, tokens=100)),
    ]
    pictures(1, seed=5)[0].save(folder / "00.png")
    made.append(name())
    (folder / "01.png").rename(folder / "99.png")
    made.append(name())
    assert all(a != b for i, a in enumerate(made) for b in made[:i])
    # What changes the training but not the tokens keeps it.
    assert name(config=replace(CONFIG, features=20, tokens=5000)) == made[-1]


def test_no_room_on_the_disk(backbone, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(
        InfoscopeError, match=r"the tokens take .*; free the space or choose another --cache, such as none"
    ):
        train_sae(backbone, folder, CONFIG, cache=tmp_path / "caches", **OPTIONS)


def test_tokens_that_are_not_finite_are_not_stored(backbone, folder, tmp_path, monkeypatch):
    run = type(backbone).tokens
    monkeypatch.setattr(type(backbone), "tokens", lambda self, pixels: run(self, pixels) / 0)
    with pytest.raises(InfoscopeError, match="tokens hold NaN or infinity"):
        train_sae(backbone, folder, CONFIG, cache=tmp_path / "caches", **OPTIONS)
    assert not list((tmp_path / "caches").rglob("*.safetensors"))


@pytest.mark.slow
def test_neither_the_model_nor_the_images_are_needed(backbone, folder, tmp_path):
    train_sae(backbone, folder, CONFIG, cache=tmp_path / "caches", **OPTIONS)
    shutil.rmtree(folder)
    code = (
        "import sys; from infoscope.cli.main import main; code = main(sys.argv[1:]);"
        "loaded = {'infoscope.images.source', 'infoscope.backbones.backbone', 'infoscope.backbones.loading',"
        " 'transformers', 'datasets'} & set(sys.modules); assert not loaded, loaded; sys.exit(code)"
    )
    command = ["train", "--from-cache", str(only(tmp_path / "caches")), "--out", str(tmp_path / "sae")]
    command += ["--features", "40", "--k", "4", "--tokens", "4000", "--batch-tokens", "200"]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "skipped 2 of 30 images: 04.png" in done.stdout
    site = read_json(tmp_path / "sae" / "sae.json")["site"]
    assert (site["sha256"], site["block"]) == (backbone.sha256, 1)


def test_training_on_a_cache_checks_before_it_trains(backbone, folder, tmp_path):
    with pytest.raises(InfoscopeError, match="no such token cache"):
        train_on_cache(tmp_path, CONFIG)
    train_sae(backbone, folder, CONFIG, cache=tmp_path / "caches", **OPTIONS)
    with pytest.raises(InfoscopeError, match="never written over"):
        train_on_cache(only(tmp_path / "caches"), CONFIG, out=folder)
    with pytest.raises(InfoscopeError, match="--device cuda:99 is not there"):
        train_on_cache(only(tmp_path / "caches"), CONFIG, device="cuda:99")


def test_a_shard_that_changes_ends_the_training_and_a_touched_one_does_not(backbone, folder, tmp_path, monkeypatch):
    train_sae(backbone, folder, CONFIG, cache=tmp_path / "caches", **OPTIONS)
    cache = only(tmp_path / "caches")
    (shard, *_) = sorted(cache.glob("tokens-*"))
    content = shard.read_bytes()
    changed = content[:-4] + np.float32(7).tobytes()
    own = from_cache.train_several

    def trained(*given, **options):
        found = own(*given, **options)
        shard.write_bytes(written)
        return found

    monkeypatch.setattr(from_cache, "train_several", trained)
    written = changed
    with pytest.raises(InfoscopeError, match="has changed since it was written or first read"):
        train_on_cache(cache, CONFIG, out=tmp_path / "sae")
    assert not (tmp_path / "sae" / "sae.json").exists()
    with pytest.raises(InfoscopeError, match="is damaged, for its tokens do not match their checksum"):
        train_on_cache(cache, CONFIG, out=tmp_path / "sae")
    shard.write_bytes(content)
    written = content
    train_on_cache(cache, CONFIG, out=tmp_path / "sae")
    assert (tmp_path / "sae" / "sae.json").exists()
