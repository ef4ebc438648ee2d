from __future__ import annotations

import hashlib
import json
import socket

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file

from infoscope.backbones.checkpoint import find_checkpoint, hash_files
from infoscope.errors import InfoscopeError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def directory(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "vit"}')
    save_file({"a": torch.arange(3.0)}, folder / "model.safetensors")
    return folder


@pytest.fixture
def shards(directory):
    """The same with its weights in two files, named in another order than the tensors."""
    (directory / "model.safetensors").unlink()
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    save_file({"b": torch.ones(2)}, directory / names[0])
    save_file({"a": torch.arange(3.0)}, directory / names[1])
    index = {"metadata": {}, "weight_map": {"a": names[1], "b": names[0]}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return directory


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*given, **options):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_a_directory_is_read_without_the_network(directory, no_network, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)
    found = find_checkpoint(str(directory))
    assert (found.name, found.revision, found.directory) == (str(directory), None, directory)
    assert found.config == {"model_type": "vit"}
    assert found.read_weights()["a"].tolist() == [0.0, 1.0, 2.0]


def test_a_relative_directory_that_looks_like_a_hub_id_is_the_directory(directory, monkeypatch):
    monkeypatch.chdir(directory.parent.parent)
    name = f"{directory.parent.name}/{directory.name}"
    assert find_checkpoint(name).revision is None


def test_shards_are_read_and_hashed_in_order_of_names(shards):
    found = find_checkpoint(shards)
    assert {name: weight.tolist() for name, weight in found.read_weights().items()} == {"a": [0, 1, 2], "b": [1, 1]}
    content = b"".join(path.read_bytes() for path in sorted(shards.glob("*.safetensors")))
    assert hash_files(found.weight_files) == hashlib.sha256(content).hexdigest()


def test_a_hub_model_comes_from_the_cache_with_its_commit(directory, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    repository = cache / "models--someone--vit"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for file in directory.iterdir():
        file.rename(snapshot / file.name)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for revision in (None, COMMIT):
        found = find_checkpoint("someone/vit", revision)
        assert (found.name, found.revision) == ("someone/vit", COMMIT)
        assert found.read_weights()["a"].tolist() == [0.0, 1.0, 2.0]
    with pytest.raises(InfoscopeError, match="someone/vit is no directory here and the hub does not give it"):
        find_checkpoint("someone/vit", "another")


def test_the_hub_is_asked_only_for_what_is_read(monkeypatch, directory):
    asked = {}

    def download(name, *, revision, allow_patterns):
        asked.update(name=name, revision=revision, patterns=allow_patterns)
        return str(directory)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    find_checkpoint("someone/vit", "v2")
    assert (asked["name"], asked["revision"]) == ("someone/vit", "v2")
    assert not [pattern for pattern in asked["patterns"] if not pattern.endswith((".json", ".safetensors"))]


@pytest.mark.parametrize("failure", [OSError("no route\nto host"), ValueError(""), RuntimeError("closed")])
def test_a_hub_out_of_reach_is_one_line(monkeypatch, failure):
    def download(*given, **options):
        raise failure

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(InfoscopeError, match=r"someone/vit is no directory here .* check the name") as caught:
        find_checkpoint("someone/vit")
    assert "\n" not in str(caught.value)


def test_no_such_model(tmp_path):
    for name in (tmp_path / "absent", str(tmp_path / "absent"), "absent", "./a/b", "a/b/c"):
        with pytest.raises(InfoscopeError, match=r"no such model: .*name a directory, or a hub id"):
            find_checkpoint(name)


def test_a_file_is_not_a_model(directory):
    with pytest.raises(InfoscopeError, match=r"config\.json is a file; name the directory"):
        find_checkpoint(directory / "config.json")


def test_a_name_the_file_system_cannot_hold_is_one_line():
    with pytest.raises(InfoscopeError, match=r"cannot read x+: "):
        find_checkpoint("x" * 5000)


def test_a_directory_has_no_revision(directory):
    with pytest.raises(InfoscopeError, match="local directory and has no revision 'main'"):
        find_checkpoint(directory, "main")


def test_no_configuration(directory):
    (directory / "config.json").unlink()
    with pytest.raises(InfoscopeError, match=r"has no config\.json"):
        find_checkpoint(directory)


@pytest.mark.parametrize(("text", "message"), [("{", "is not JSON"), ("[]", "is not a JSON object")])
def test_a_broken_configuration(directory, text, message):
    (directory / "config.json").write_text(text)
    with pytest.raises(InfoscopeError, match=message):
        find_checkpoint(directory)


def test_no_weights(directory):
    (directory / "model.safetensors").unlink()
    with pytest.raises(InfoscopeError, match=r"has no model\.safetensors"):
        find_checkpoint(directory)


def test_pickled_weights_are_never_opened(directory):
    (directory / "model.safetensors").unlink()
    (directory / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(InfoscopeError, match=r"only as a pickle \(\.bin\), which infoscope never opens"):
        find_checkpoint(directory)


def test_a_missing_shard_is_named(shards):
    (shards / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InfoscopeError, match=r"lacks model-00002-of-00002\.safetensors, which"):
        find_checkpoint(shards)


@pytest.mark.parametrize("content", ["[]", "{}", '{"weight_map": {}}'])
def test_an_index_that_names_nothing(shards, content):
    (shards / "model.safetensors.index.json").write_text(content)
    with pytest.raises(InfoscopeError, match="names no weight files"):
        find_checkpoint(shards)


@pytest.mark.parametrize("kept", [0, 5, 40, -1])
def test_truncated_weights(directory, kept):
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InfoscopeError, match=r"model\.safetensors is cut short or not a safetensors file"):
        find_checkpoint(directory).read_weights()


def test_a_file_that_went_away_cannot_be_hashed(tmp_path):
    with pytest.raises(InfoscopeError, match=r"cannot read .*absent"):
        hash_files([tmp_path / "absent"])
