"""Every reader accounts for every tensor and every setting that changes codes: used, known to be harmless, refused."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from infoscope.analyses.zeroshot.embeddings import read_embeddings
from infoscope.dictionaries.activations import ReLU
from infoscope.dictionaries.formats.accounts import Settings, Tensors, unwrapped
from infoscope.dictionaries.formats.infoscope import save_sae
from infoscope.dictionaries.loading import load_sae
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.dictionaries.untrained import read_directions
from infoscope.errors import InfoscopeError


def linear(weights, *, decoder="decoder.weight"):
    return {
        "encoder.weight": weights["W_enc"].T.contiguous(),
        "encoder.bias": weights["b_enc"],
        decoder: weights["W_dec"].T.contiguous() if decoder == "decoder.weight" else weights["W_dec"],
    }


def with_json(folder, name, value):
    (folder / name).write_text(json.dumps(value))


def write_saelens(folder, weights, config, tensors):
    with_json(folder, "cfg.json", {"architecture": "standard", "d_in": 6, "d_sae": 14} | config)
    save_file(weights | tensors, folder / "sae_weights.safetensors")
    return folder


def write_prisma(folder, weights, config, tensors):
    stated = {"hook_point": "blocks.9.hook_resid_post", "cls_token_only": False, "normalize_activations": "none"}
    with_json(folder, "config.json", stated | config)
    torch.save(weights | tensors, folder / "weights.pt")
    return folder


def write_patchsae(folder, weights, config, tensors):
    torch.save({"cfg": {"block_layer": -2, "d_in": 6} | config, "state_dict": weights | tensors}, folder / "out.pt")
    return folder


def write_saev(folder, weights, config, tensors):
    header = {"schema": 5, "cfg": {"d_model": 6, "activation": {"cls": "Relu", "params": {}}} | config}
    with (folder / "sae.pt").open("wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        torch.save(weights | tensors, file)
    return folder


def write_dictionary_learning(folder, weights, config, tensors):
    with_json(folder, "config.json", {"trainer": {"dict_class": "AutoEncoder"} | config})
    torch.save(linear(weights) | {"bias": weights["b_dec"]} | tensors, folder / "ae.pt")
    return folder


def write_sparsify(folder, weights, config, tensors):
    with_json(folder, "cfg.json", {"k": 5, "d_in": 6} | config)
    save_file(linear(weights, decoder="W_dec") | {"b_dec": weights["b_dec"]} | tensors, folder / "sae.safetensors")
    return folder


def write_overcomplete(folder, weights, config, tensors):
    held = {
        "encoder.final_block.0.weight": weights["W_enc"].T.contiguous(),
        "encoder.final_block.0.bias": weights["b_enc"],
        "dictionary._weights": weights["W_dec"],
        "dictionary.multiplier": torch.tensor(0.4),
        "thresholds": torch.zeros(14),
    }
    torch.save(held | tensors | config, folder / "sae.pth")
    return folder


def write_clip_scope(folder, weights, config, tensors):
    held = {"pre_b": weights["b_dec"], "enc": weights["W_enc"], "dec": weights["W_dec"]}
    torch.save({"model_state_dict": held | tensors, "k": 5} | config, folder / "12.pt")
    return folder


def write_infoscope(folder, weights, config, tensors):
    save_sae(SparseAutoencoder(*(weights[key] for key in ("W_enc", "b_enc", "W_dec", "b_dec")), ReLU()), folder)
    description = json.loads((folder / "sae.json").read_text()) | config
    description.pop("checksum")  # changed on purpose
    if tensors:
        save_file(weights | tensors, folder / "sae.safetensors")
        description.pop("sha256")
    with_json(folder, "sae.json", description)
    return folder


WRITERS = {
    "saelens": write_saelens,
    "prisma": write_prisma,
    "patchsae": write_patchsae,
    "saev": write_saev,
    "dictionary_learning": write_dictionary_learning,
    "sparsify": write_sparsify,
    "overcomplete": write_overcomplete,
    "clip_scope": write_clip_scope,
    "infoscope": write_infoscope,
}
# What another activation, architecture or normalisation of some project keeps under that name.
TENSORS = [
    *("threshold", "log_threshold", "topk_threshold", "activation.threshold", "b_gate", "r_mag", "b_mag", "W_skip"),
    *("b_dec_out", "running_threshold", "input_mean", "input_std", "k", "nobody_knows"),
]
SETTINGS = {
    "noise": 0.1,
    "input_scale": 2.0,
    "activation_scale": 2.0,
    "code_threshold": 0.3,
    "pre_bias": True,
    "top_k_per_group": 4,
    "center_activations": True,
    "norm_eps": 1e-3,
}


@pytest.fixture
def write(tmp_path, weights):
    def write(project, config=None, tensors=None):
        return WRITERS[project](tmp_path, weights, config or {}, tensors or {})

    return write


@pytest.mark.parametrize("project", WRITERS)
def test_a_good_file_and_what_its_trainer_wrote_beside(write, project):
    trainers = {"lr": 1e-3, "dead_feature_threshold": 1e-8, "normalize_decoder": True, "noise": None, "seed": 0}
    trainers |= {"topk_threshold_lr": 0.01, "mse_loss_normalization": "dense_batch", "dtype": "float32", "gate_lr": 1}
    assert load_sae(write(project, trainers)).format == project


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("project", WRITERS)
def test_a_tensor_that_nothing_reads_is_refused_by_its_name(write, project, name):
    with pytest.raises(InfoscopeError, match=rf"(holds|is a).*\b{name}|W_skip|skip connection") as error:
        load_sae(write(project, tensors={name: torch.full((14,), 0.3)}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("project", WRITERS)
def test_a_setting_that_speaks_of_codes_is_refused_by_its_name(write, project, name):
    with pytest.raises(InfoscopeError, match=name) as error:
        load_sae(write(project, {name: SETTINGS[name]}))
    assert "\n" not in str(error.value)


def test_a_threshold_beside_no_architecture(write, weights, tmp_path):
    """As SAELens itself refuses it; read as a plain ReLU it had more than twice the codes."""
    write("saelens", tensors={"threshold": torch.full((14,), 0.5)})
    with_json(tmp_path, "cfg.json", {"d_in": 6, "d_sae": 14})
    with pytest.raises(InfoscopeError, match="holds threshold, which SAELens's standard architecture does not use"):
        load_sae(tmp_path)


@pytest.mark.parametrize(
    ("project", "config", "message"),
    [
        ("saelens", {"architecture": None, "k": 5}, "has a k, but neither an architecture nor"),
        ("saelens", {"activation_fn_str": "relu", "activation_fn_kwargs": {"k": 5}}, "has a k, but"),
        ("saelens", {"rescale_acts_by_decoder_norm": True}, "which architecture standard does not know"),
        ("saelens", {"reshape_activations": "heads"}, "reshape_activations 'heads' is not known"),
        ("prisma", {"activation_fn_kwargs": {"k": 5}}, "k is 5, beside activation function relu"),
        ("prisma", {"is_transcoder": True}, "is_transcoder is True, so it predicts another place"),
        ("saev", {"activation": {"cls": "Relu", "params": {"top_k": 5}}}, "top_k is 5, beside activation Relu"),
        ("dictionary_learning", {"k": 5}, "k is 5, which a dictionary of class AutoEncoder does not have"),
        ("sparsify", {"batch_topk": True}, "batch_topk is True"),
        ("patchsae", {"normalize_activations": "layer_norm"}, "normalize_activations is 'layer_norm'"),
    ],
)
def test_settings_with_no_place_beside_the_rest(write, project, config, message):
    with pytest.raises(InfoscopeError, match=message):
        load_sae(write(project, config))


@pytest.mark.parametrize("value", [-1.0, 0.0])
@pytest.mark.parametrize("project", ["saelens", "saelens, finished", "saev", "dictionary_learning", "overcomplete"])
def test_a_threshold_that_was_never_set(write, weights, foreign, tmp_path, project, value):
    """-1 or 0, as the projects begin: read as it stands, BatchTopK is a plain ReLU."""
    number = torch.tensor(value)
    if project == "saelens":
        write(project, {"architecture": "batchtopk", "k": 5}, {"topk_threshold": number})
    elif project == "saelens, finished":
        write("saelens", {"architecture": "jumprelu", "k": 5}, {"threshold": torch.zeros(14)})
    elif project == "saev":
        params = {"cls": "BatchTopK", "params": {"top_k": 5}}
        write(project, {"activation": params}, {"activation.threshold": number})
    elif project == "dictionary_learning":
        held = linear(weights) | {"b_dec": weights["b_dec"], "k": torch.tensor(5), "threshold": number}
        torch.save(held, tmp_path / "ae.pt")
        with_json(tmp_path, "config.json", {"trainer": {"dict_class": "BatchTopKSAE", "k": 5}})
    else:
        with pytest.raises(InfoscopeError, match="as it is before training sets it"):
            Tensors({"running_threshold": number}, tmp_path).threshold("running_threshold", 14)
        return
    with pytest.raises(InfoscopeError, match=r"before training sets it|was never set"):
        load_sae(tmp_path)


@pytest.mark.parametrize("where", ["pickle", "file"])
def test_a_layer_norm_that_nobody_stated(write, weights, tmp_path, where):
    """SAELens's oldest files have the shape of Prisma's, and no layer norm."""
    config = {"hook_point": "blocks.9.hook_resid_post", "hook_point_layer": 9, "d_in": 6, "expansion_factor": 2}
    if where == "pickle":
        torch.save({"cfg": config, "state_dict": weights}, tmp_path / "sae.pt")
    else:
        torch.save(weights, tmp_path / "sae.pt")
        with_json(tmp_path, "config.json", config)
    with pytest.raises(InfoscopeError, match=r"does not say normalize_activations.*'layer_norm'.*'none'"):
        load_sae(tmp_path)


def test_a_jumprelu_of_two_projects(weights, tmp_path):
    torch.save(weights | {"threshold": torch.ones(14)}, tmp_path / "sae.pt")
    with pytest.raises(InfoscopeError, match=r"SAELens's JumpReLU.*put its config\.json beside it"):
        load_sae(tmp_path)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "model.", "sae.", "module._orig_mod.", "anything.else."])
@pytest.mark.parametrize("project", ["saelens", "prisma", "patchsae", "saev", "dictionary_learning", "clip_scope"])
def test_a_prefix_that_all_names_share_is_left_off(write, weights, tokens, monkeypatch, project, prefix):
    plain = load_sae(write(project))
    monkeypatch.setattr(torch, "save", wrapping(torch.save, prefix))
    monkeypatch.setitem(globals(), "save_file", wrapping(save_file, prefix))
    wrapped = load_sae(write(project))
    assert torch.equal(wrapped.encode(tokens.float()), plain.encode(tokens.float()))


def wrapping(save, prefix):
    def renamed(value):
        if any(isinstance(item, torch.Tensor) for item in value.values()):
            return {f"{prefix}{key}": item for key, item in value.items()}
        return {key: renamed(item) if isinstance(item, dict) and item else item for key, item in value.items()}

    return lambda value, path: save(renamed(value), path)


def test_names_that_share_nothing_stay():
    held = {"encoder.weight": torch.ones(1), "decoder.weight": torch.ones(1)}
    assert unwrapped(held) == held
    assert unwrapped({"a.b": torch.ones(1)}).keys() == {"a.b"}
    # Two names that would become one are left alone.
    assert unwrapped({"_orig_mod.a": torch.ones(1), "a": torch.ones(1)}).keys() == {"_orig_mod.a", "a"}
    inside = {"encoder._orig_mod.weight": torch.ones(1), "decoder._orig_mod.weight": torch.ones(1)}
    assert unwrapped(inside).keys() == held.keys()


WRONG = ["32", 3.5, True, [32], {"a": 1}, -1, 0, float("nan"), 10**400, [[]] * 10**5]


@pytest.mark.slow
@pytest.mark.parametrize("value", WRONG, ids=[str(place) for place in range(len(WRONG))])
@pytest.mark.parametrize(
    ("project", "key"),
    [
        ("saelens", "d_in"), ("saelens", "architecture"), ("saelens", "activation_fn_kwargs"),
        ("prisma", "d_sae"), ("prisma", "architecture"), ("prisma", "activation_fn_str"),
        ("saev", "d_model"), ("saev", "activation"), ("patchsae", "d_in"), ("patchsae", "d_sae"),
        ("dictionary_learning", "dict_class"), ("dictionary_learning", "activation_dim"),
        ("sparsify", "d_in"), ("sparsify", "activation"), ("sparsify", "signed"),
        ("clip_scope", "n_features"), ("infoscope", "activation"), ("infoscope", "d_in"),
        ("infoscope", "format_version"),
    ],
)  # fmt: skip
def test_settings_of_the_wrong_type(write, project, key, value):
    with pytest.raises(InfoscopeError) as error:
        load_sae(write(project, {key: value}))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("value", [*WRONG[:5], -1, 0])
@pytest.mark.parametrize("project", ["saelens", "sparsify", "clip_scope", "saev"])
def test_a_k_of_the_wrong_type(write, project, value):
    config = {"k": value}
    if project == "saelens":
        config["architecture"] = "topk"
    elif project == "saev":
        config = {"activation": {"cls": "TopK", "params": {"top_k": value}}}
    with pytest.raises(InfoscopeError, match=r"k is .*, expected a whole number of at least 1"):
        load_sae(write(project, config))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn])
@pytest.mark.parametrize("project", ["saelens", "prisma", "saev", "infoscope"])
def test_numbers_that_are_no_weights(write, project, dtype):
    with pytest.raises(InfoscopeError, match=r"W_enc holds torch\.|not a safetensors file") as error:
        load_sae(write(project, tensors={"W_enc": torch.ones(6, 14).to(dtype)}))
    assert "\n" not in str(error.value)


def test_a_number_beyond_float32(write):
    with pytest.raises(InfoscopeError, match="W_dec holds NaN or infinity"):
        load_sae(write("saelens", tensors={"W_dec": torch.full((14, 6), 1e300, dtype=torch.float64)}))


def test_directions_and_class_embeddings(tmp_path):
    vectors = torch.ones(3, 4)
    for name, spare in (("bias", torch.ones(3)), ("scale", torch.tensor(2.0))):
        save_file({"directions": vectors, name: spare}, tmp_path / "d.safetensors")
        with pytest.raises(InfoscopeError, match=f"holds {name}, which directions do not use"):
            read_directions(tmp_path / "d.safetensors")
        save_file({"embeddings": vectors, name: spare}, tmp_path / "e.safetensors")
        with pytest.raises(InfoscopeError, match=f"holds {name} beside embeddings"):
            read_embeddings(tmp_path / "e.safetensors")


def test_an_array_whose_header_lies(tmp_path):
    path = tmp_path / "d.npy"
    np.save(path, np.ones((3, 4)))
    path.write_bytes(path.read_bytes().replace(b"(3, 4), }" + b" " * 12, b"(3000000000, 4), }   "))
    with pytest.raises(InfoscopeError, match=r"not a readable \.npy file \(its header says"):
        read_directions(path)


def test_settings_are_handed_out_once():
    settings = Settings({"threshold": 0.5, "norm": "none", "metadata": {}}, "cfg.json")
    with pytest.raises(InfoscopeError, match=r"cfg\.json: threshold is 0\.5"):
        settings.close()
    assert settings.get("threshold") == 0.5
    settings.close()


# Keys of published configurations that speak of training, in words that elsewhere speak of codes.
@pytest.mark.parametrize("project", ["saelens", "prisma", "saev", "infoscope"])
@pytest.mark.parametrize(
    "setting",
    [
        {"feature_reinit_scale": 0.2}, {"log_activations_store_to_wandb": True}, {"activations_mixing_fraction": 0.5},
        {"max_activation_norm_multiple": 10.0},
    ],
    ids=lambda setting: next(iter(setting)),
)  # fmt: skip
def test_settings_of_published_trainings_pass(write, project, setting):
    tokens = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    assert torch.equal(load_sae(write(project)).encode(tokens), load_sae(write(project, setting)).encode(tokens))


@pytest.mark.parametrize("project", ["patchsae", "dictionary_learning", "sparsify"])
@pytest.mark.parametrize("key", ["apply_b_dec_to_input", "apply_relu", "use_bias"])
def test_a_false_that_takes_a_step_away_is_refused(write, project, key):
    with pytest.raises(InfoscopeError, match=f"{key} is False"):
        load_sae(write(project, {key: False}))


@pytest.mark.parametrize(("stated", "subtracted"), [({}, 1.0), ({"apply_b_dec_to_input": False}, 0.0)], ids=str)
def test_a_pickle_says_whether_b_dec_is_subtracted(write, weights, stated, subtracted):
    tokens = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    codes = torch.relu((tokens - subtracted * weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"])
    torch.testing.assert_close(load_sae(write("prisma", stated)).encode(tokens), codes)
