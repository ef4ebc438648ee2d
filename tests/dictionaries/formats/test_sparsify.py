import json

import pytest
import torch
from safetensors.torch import save_file

from infoscope.dictionaries.loading import load_sae
from infoscope.errors import InfoscopeError


@pytest.fixture
def write(tmp_path, weights):
    def write(folder="layers.5", drop=(), tensors=None, **config):
        held = {
            "encoder.weight": weights["W_enc"].T.contiguous(),
            "encoder.bias": weights["b_enc"],
            "W_dec": weights["W_dec"],
            "b_dec": weights["b_dec"],
        } | (tensors or {})
        directory = tmp_path / folder
        directory.mkdir(parents=True)
        save_file({key: value for key, value in held.items() if key not in drop}, directory / "sae.safetensors")
        default = {"activation": "topk", "expansion_factor": 32, "normalize_decoder": True, "num_latents": 14, "k": 5}
        default |= {"multi_topk": False, "skip_connection": False, "transcode": False, "d_in": 6}
        (directory / "cfg.json").write_text(json.dumps(default | config))
        return directory

    return write


def test_codes_and_reconstructions(write, weights, tokens, agrees, top):
    W_enc, b_enc, W_dec, b_dec = (weights[key].double() for key in ("W_enc", "b_enc", "W_dec", "b_dec"))
    codes = top((tokens - b_dec) @ W_enc + b_enc, 5)
    sae = load_sae(write())
    assert (sae.format, sae.site) == ("sparsify", {"block": 5, "hook": "layers.5"})
    agrees(sae, codes, codes @ W_dec + b_dec)


def test_more_codes_than_are_positive(write, weights, tokens, agrees, top):
    W_enc, b_enc, W_dec, b_dec = (weights[key].double() for key in ("W_enc", "b_enc", "W_dec", "b_dec"))
    codes = top((tokens - b_dec) @ W_enc + b_enc, 13)
    agrees(load_sae(write(k=13)), codes, codes @ W_dec + b_dec)


@pytest.mark.parametrize(
    ("folder", "site"),
    [("layers.5.mlp", {"hook": "layers.5.mlp"}), ("sae", None), ("h.11", {"block": 11, "hook": "h.11"})],
)
def test_hookpoints(write, folder, site):
    assert load_sae(write(folder)).site == site


def test_a_folder_of_hookpoints(write, tmp_path):
    for layer in (10, 2, 3, 4, 5, 6, 7):
        write(f"layers.{layer}")
    with pytest.raises(
        InfoscopeError, match=r"several SAEs: layers\.2, layers\.3, .* and 2 more; name one, as"
    ) as error:
        load_sae(tmp_path)
    assert "\n" not in str(error.value)
    assert load_sae(tmp_path / "layers.10").site["block"] == 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transcode": True}, "is a transcoder or has a skip connection"),
        ({"skip_connection": True}, "is a transcoder or has a skip connection"),
        ({"tensors": {"W_skip": torch.zeros(6, 6)}}, "is a transcoder or has a skip connection"),
        ({"activation": "groupmax"}, "activation 'groupmax' is not known"),
        ({"signed": True}, "activation signed is not known"),
        ({"k": None}, "k is None"),
        ({"d_in": 8}, r"says d_in 8"),
        ({"drop": ["W_dec"]}, "lacks W_dec"),
        ({"drop": ["encoder.bias"]}, "lacks encoder.bias"),
        ({"tensors": {"W_dec": torch.zeros(6, 14)}}, r"W_dec has shape \[6, 14\], expected \[14, 6\]"),
        ({"tensors": {"encoder.bias": torch.full((14,), torch.inf)}}, "holds NaN or infinity"),
    ],
)
def test_what_is_refused(write, changes, message):
    with pytest.raises(InfoscopeError, match=message) as error:
        load_sae(write(**changes))
    assert "\n" not in str(error.value)


def write_trainer_s_files(folder):
    for name in ("state", "optimizer_0", "lr_scheduler_0", "rank_0_state"):
        torch.save({"global_step": 7}, folder / f"{name}.pt")
    (folder / "config.json").write_text("{}")


def test_a_run_s_own_folder(write, tmp_path):
    """What the trainer keeps to go on from lies beside the hookpoints' folders."""
    write("run/layers.5")
    write_trainer_s_files(tmp_path / "run")
    assert load_sae(tmp_path / "run").site["block"] == 5
    write("run/layers.6")
    with pytest.raises(InfoscopeError, match=r"several SAEs: layers\.5, layers\.6; name one, as"):
        load_sae(tmp_path / "run")


def test_torch_files_of_any_name_beside_hookpoints(write, tmp_path):
    write("run/layers.5")
    torch.save({}, tmp_path / "run" / "whatever.pt")
    assert load_sae(tmp_path / "run").site["block"] == 5


def test_a_run_without_an_sae(tmp_path):
    write_trainer_s_files(tmp_path)
    with pytest.raises(InfoscopeError, match="holds no SAE of a known format"):
        load_sae(tmp_path)


def test_several_seeds_of_a_hookpoint(write):
    assert load_sae(write("layers.5/seed0")).site == {"block": 5, "hook": "layers.5"}
