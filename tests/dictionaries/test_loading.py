import json

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file

from infoscope.dictionaries.activations import TopK
from infoscope.dictionaries.formats.infoscope import save_sae
from infoscope.dictionaries.formats.saelens import save_saelens
from infoscope.dictionaries.loading import load_sae
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError


def small_sae(k=2):
    return SparseAutoencoder(torch.eye(3, 5), torch.zeros(5), torch.eye(5, 3), torch.zeros(3), TopK(k))


@pytest.fixture
def saved(tmp_path):
    save_sae(small_sae(), tmp_path / "owner" / "sae")
    return tmp_path / "owner" / "sae"


@pytest.fixture
def hub(monkeypatch):
    """Replaces the hub by a directory; holds what was asked of it."""
    calls = []

    def answer(result, online=True):
        def list_repo_files(self, name):
            if isinstance(result, Exception):
                raise result
            if not online:
                raise RuntimeError("offline")
            return [file.relative_to(result).as_posix() for file in result.rglob("*") if file.is_file()]

        def snapshot_download(name, **options):
            calls.append((name, options))
            if isinstance(result, Exception):
                raise result
            return str(result)

        monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", list_repo_files)
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
    (saved / "README.md").touch()
    calls = hub(saved)
    sae = load_sae("someone/some-sae")
    assert (sae.name, sae.format, sae.features) == ("someone/some-sae", "infoscope", 5)
    assert calls == [("someone/some-sae", {"allow_patterns": ["sae.json", "sae.safetensors"]})]


@pytest.mark.parametrize("folder", ["sae", "a/b"])
def test_a_folder_of_a_repository(tmp_path, hub, folder):
    for k, name in ((2, folder), (3, "other")):
        save_saelens(small_sae(k), tmp_path / name)
    calls = hub(tmp_path)
    assert load_sae(f"someone/saes/{folder}").activation == TopK(2)
    wanted = [f"{folder}/cfg.json", f"{folder}/sae_weights.safetensors"]
    assert calls == [("someone/saes", {"allow_patterns": wanted})]
    with pytest.raises(
        InfoscopeError, match=rf"^someone/saes holds several SAEs: .*{folder}.*; name one, as someone/saes/"
    ):
        load_sae("someone/saes")
    assert len(calls) == 1


def test_the_last_checkpoint_of_a_repository(tmp_path, hub):
    state = {"pre_b": torch.zeros(3), "enc": torch.eye(3, 5), "dec": torch.eye(5, 3)}
    (tmp_path / "22_resid").mkdir()
    for count in (900, 1200):
        torch.save({"model_state_dict": state, "k": count // 300}, tmp_path / "22_resid" / f"{count}.pt")
    calls = hub(tmp_path)
    assert load_sae("lewington/scope/22_resid").activation.k == 4
    assert load_sae("lewington/scope/22_resid/900.pt").activation.k == 3
    assert [options["allow_patterns"] for _, options in calls] == [["22_resid/1200.pt"], ["22_resid/900.pt"]]
    with pytest.raises(InfoscopeError, match="has no 21_resid; check the name"):
        load_sae("lewington/scope/21_resid")


def test_what_was_fetched_before_does_without_the_network(saved, hub):
    calls = hub(saved, online=False)
    assert load_sae("someone/some-sae").features == 5
    assert calls == [("someone/some-sae", {"local_files_only": True})]


def test_the_hub_s_failure_is_one_line(hub):
    hub(RuntimeError("no route to host\nand much more"))
    with pytest.raises(
        InfoscopeError, match=r"^no such SAE: someone/some-sae is not a directory .*\(no route to host\)"
    ) as error:
        load_sae("someone/some-sae")
    assert "\n" not in str(error.value)


def test_device(saved):
    assert load_sae(saved, device="cpu").W_enc.device.type == "cpu"
    assert load_sae(saved, device="meta").b_dec.device.type == "meta"


@pytest.mark.parametrize("path", ["nowhere", "./owner/nothing", "a/../c", "/owner/nothing"])
def test_no_such_directory(path, hub):
    hub(AssertionError("the network was touched"))
    with pytest.raises(InfoscopeError, match=f"^no such SAE: {path}; name a directory"):
        load_sae(path)


def test_a_file(saved):
    with pytest.raises(InfoscopeError, match=r"sae\.json is not a torch file; name the directory"):
        load_sae(saved / "sae.json")


def test_a_directory_of_something_else(tmp_path):
    (tmp_path / "photograph.jpg").touch()
    with pytest.raises(InfoscopeError, match=r"holds no SAE of a known format \(no sae\.safetensors"):
        load_sae(tmp_path)


def test_configurations_that_formats_share(tmp_path, saved):
    """``cfg.json`` and ``sae.safetensors`` are names of two projects each."""
    (saved / "cfg.json").write_text("{}")
    assert load_sae(saved).format == "infoscope"
    save_saelens(small_sae(), tmp_path / "lens")
    assert load_sae(tmp_path / "lens").format == "saelens"
    tensors = {"encoder.weight": torch.eye(5, 3), "encoder.bias": torch.zeros(5), "W_dec": torch.eye(5, 3)}
    (tmp_path / "sparsify").mkdir()
    save_file(tensors | {"b_dec": torch.zeros(3)}, tmp_path / "sparsify" / "sae.safetensors")
    (tmp_path / "sparsify" / "cfg.json").write_text(json.dumps({"k": 2, "d_in": 3}))
    assert load_sae(tmp_path / "sparsify").format == "sparsify"


def test_several_torch_files(tmp_path):
    for name in "abcdefg":
        torch.save({}, tmp_path / f"{name}.pt")
    with pytest.raises(
        InfoscopeError, match=r"several torch files: a\.pt, b\.pt, .*, e\.pt and 2 more; name one of them"
    ):
        load_sae(tmp_path)


def test_a_torch_file_of_something_else(tmp_path):
    torch.save({"layer.weight": torch.zeros(2), "epoch": 3}, tmp_path / "model.pt")
    with pytest.raises(InfoscopeError, match=r"is of no known format: it holds layer\.weight; docs/sae-formats\.md"):
        load_sae(tmp_path)
    torch.save([1, 2], tmp_path / "model.pt")
    with pytest.raises(InfoscopeError, match="holds no state dict and no module"):
        load_sae(tmp_path)


@pytest.mark.parametrize("k", [3, 1])
def test_k_that_the_file_says_otherwise(saved, k):
    assert load_sae(saved, k=2).activation == TopK(2)
    with pytest.raises(InfoscopeError, match=rf"has activation topk\(2\), not k {k}; leave k out"):
        load_sae(saved, k=k)


def test_the_same_hash_as_the_file(tmp_path):
    save_saelens(small_sae(), tmp_path)
    first = load_sae(tmp_path).sha256
    save_saelens(small_sae(3), tmp_path)
    assert load_sae(tmp_path).sha256 == first  # k is in the configuration
    assert len(first) == 64


MSAE = {"encoder": torch.zeros(6, 14), "decoder": torch.zeros(14, 6), "pre_bias": torch.zeros(6)}
MSAE["latent_bias"] = torch.zeros(14)


@pytest.mark.parametrize("content", [MSAE, {"model": MSAE, "mean_center": True}])
def test_embeddings_of_whole_images(tmp_path, content):
    path = tmp_path / "14_6_TopKReLU_64_RW_False_False_0.0_cc3m_ViT-L~14_train_image.pth"
    torch.save(content, path)
    with pytest.raises(InfoscopeError, match="one embedding of a whole image, so it has no codes of patches"):
        load_sae(path)
