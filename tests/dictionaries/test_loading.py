import huggingface_hub
import pytest
import torch

from infoscope.dictionaries.activations import TopK
from infoscope.dictionaries.loading import load_sae, save_sae
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError


@pytest.fixture
def saved(tmp_path):
    sae = SparseAutoencoder(torch.eye(3, 5), torch.zeros(5), torch.eye(5, 3), torch.zeros(3), TopK(2))
    save_sae(sae, tmp_path / "owner" / "sae")
    return tmp_path / "owner" / "sae"


@pytest.fixture
def hub(monkeypatch):
    """Replaces the hub; holds what was asked of it."""
    calls = []

    def answer(result):
        def snapshot_download(name, allow_patterns):
            calls.append((name, allow_patterns))
            if isinstance(result, Exception):
                raise result
            return str(result)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
        return calls

    return answer


def test_a_directory_never_touches_the_network(saved, hub, monkeypatch):
    calls = hub(AssertionError("the network was touched"))
    monkeypatch.chdir(saved.parents[1])
    # Named like a hub id, and there as a directory.
    assert load_sae("owner/sae").name == "owner/sae"
    assert load_sae(saved).name == str(saved)
    assert calls == []


def test_a_hub_id_is_fetched(saved, hub):
    calls = hub(saved)
    sae = load_sae("someone/some-sae")
    assert (sae.name, sae.format, sae.features) == ("someone/some-sae", "infoscope", 5)
    assert calls == [("someone/some-sae", ["sae.json", "sae.safetensors"])]


def test_the_hub_s_failure_is_one_line(hub):
    hub(RuntimeError("no route to host\nand much more"))
    with pytest.raises(
        InfoscopeError, match=r"^no such SAE: someone/some-sae is no directory .*\(no route to host\)"
    ) as error:
        load_sae("someone/some-sae")
    assert "\n" not in str(error.value)


def test_device(saved):
    assert load_sae(saved, device="cpu").W_enc.device.type == "cpu"
    assert load_sae(saved, device="meta").b_dec.device.type == "meta"


@pytest.mark.parametrize("path", ["nowhere", "./owner/nothing", "a/b/c", "/owner/nothing"])
def test_no_such_directory(path, hub):
    hub(AssertionError("the network was touched"))
    with pytest.raises(InfoscopeError, match=f"^no such SAE: {path}; name a directory"):
        load_sae(path)


def test_a_file(saved):
    with pytest.raises(InfoscopeError, match=r"sae\.json is a file; name the directory that holds the SAE"):
        load_sae(saved / "sae.json")


def test_a_directory_of_something_else(tmp_path):
    (tmp_path / "photograph.jpg").touch()
    with pytest.raises(InfoscopeError, match=r"holds no SAE of a known format \(no sae\.json\)"):
        load_sae(tmp_path)
