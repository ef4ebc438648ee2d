import pytest
import torch
from torch import nn

from infoscope.dictionaries.activations import TopK
from infoscope.dictionaries.loading import load_sae
from infoscope.errors import InfoscopeError


@pytest.fixture
def held(weights):
    """A state dict: rows of the dictionary are not of unit norm yet."""
    return {
        "encoder.final_block.0.weight": weights["W_enc"].T.contiguous(),
        "encoder.final_block.0.bias": weights["b_enc"],
        "dictionary._weights": 3.0 * weights["W_dec"],
        "dictionary.multiplier": torch.tensor(0.4),
    }


@pytest.fixture
def write(tmp_path):
    def write(tensors):
        torch.save(tensors, tmp_path / "sae.pth")
        return tmp_path / "sae.pth"

    return write


def formula(weights, tokens, norm=2):
    """Pre-activations without centring, and decoding without a bias."""
    W_enc, b_enc, W_dec = (weights[key].double() for key in ("W_enc", "b_enc", "W_dec"))
    rows = W_dec / W_dec.norm(p=norm, dim=1, keepdim=True) * torch.tensor(0.4).double().exp()
    return tokens @ W_enc + b_enc, lambda codes: codes @ rows


def test_a_state_dict_needs_k(write, held, weights, tokens, agrees, top):
    path = write(held)
    with pytest.raises(InfoscopeError, match=r"state dicts do not hold it; give it: load_sae\(\.\.\., k=32\)"):
        load_sae(path)
    pre, decode = formula(weights, tokens)
    codes = top(pre, 9)
    sae = load_sae(path.parent, k=9)
    assert (sae.format, sae.activation) == ("overcomplete", TopK(9))
    agrees(sae, codes, decode(codes))


def test_jump(write, held, weights, thresholds, tokens, agrees):
    pre, decode = formula(weights, tokens)
    codes = torch.where(pre >= thresholds.double(), pre, 0.0).clamp(min=0)
    sae = load_sae(write(held | {"thresholds": thresholds.log()}))
    agrees(sae, codes, decode(codes))
    # A code equal to its threshold is kept.
    assert (sae.activation.threshold < thresholds.log().double().exp().float()).all()


def test_a_batch_norm_is_folded(write, held, weights, tokens, agrees, top):
    norm = nn.BatchNorm1d(14).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in (norm.weight, norm.running_var):
            value.copy_(torch.rand(14, generator=generator) + 0.5)
        for value in (norm.bias, norm.running_mean):
            value.copy_(torch.randn(14, generator=generator))
    pre, decode = formula(weights, tokens)
    after = {f"encoder.final_block.1.{key}": value for key, value in norm.state_dict().items()}
    with torch.no_grad():
        codes = top(norm.double()(pre), 4)
    agrees(load_sae(write(held | after), k=4), codes, decode(codes))


def test_tied_and_untied_encoders(write, held, weights, tokens, agrees, top):
    _, decode = formula(weights, tokens)
    dictionary = decode(torch.eye(14).double())
    rest = {key: value for key, value in held.items() if key.startswith("dictionary.")}
    codes = top(tokens @ dictionary.T, 4)
    tied = {f"encoder.tied_to.{key.removeprefix('dictionary.')}": value for key, value in rest.items()}
    agrees(load_sae(write(rest | tied), k=4), codes, decode(codes))
    codes = top(tokens @ weights["W_enc"].double() + weights["b_enc"].double(), 4)
    untied = {"encoder.weight": weights["W_enc"].T.contiguous(), "encoder.bias": weights["b_enc"]}
    agrees(load_sae(write(rest | untied), k=4), codes, decode(codes))


def normalize_l1(x):
    """Stands for the project's function of this name."""


def pickled(foreign, kind, held, training=True, dictionary=None, **attributes):
    """A module of a class that is not installed, with its parts."""

    def module(name, **inside):
        made = foreign(name, base=nn.Module)
        nn.Module.__init__(made)
        for key, value in inside.items():
            setattr(made, key, value)
        return made

    linear = nn.Linear(6, 14)
    with torch.no_grad():
        linear.weight.copy_(held["encoder.final_block.0.weight"])
        linear.bias.copy_(held["encoder.final_block.0.bias"])
    encoder = module("MLPEncoder", final_block=nn.Sequential(linear, nn.Identity()))
    layer = module("DictionaryLayer", _weights=nn.Parameter(held["dictionary._weights"]), **(dictionary or {}))
    layer.register_buffer("multiplier", held["dictionary.multiplier"])
    return module(kind, encoder=encoder, dictionary=layer, **attributes).train(training)


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [("TopKSAE", {"top_k": 9}), ("SAE", {}), ("BatchTopKSAE", {"top_k": 3, "running_threshold": torch.tensor(0.5)})],
)
def test_pickled_modules(tmp_path, held, weights, tokens, agrees, top, foreign, kind, attributes):
    pre, decode = formula(weights, tokens, norm=1)
    codes = {
        "TopKSAE": top(pre, 9),
        "SAE": pre.clamp(min=0),
        "BatchTopKSAE": torch.where(pre >= 0.5, pre, 0.0),
    }[kind]
    module = pickled(foreign, kind, held, dictionary={"normalization": normalize_l1}, **attributes)
    foreign.save(module, tmp_path / "sae.pth")
    agrees(load_sae(tmp_path / "sae.pth"), codes, decode(codes))


def test_k_that_the_file_says_otherwise(tmp_path, held, foreign):
    module = pickled(foreign, "TopKSAE", held, dictionary={"normalization": normalize_l1}, top_k=9)
    foreign.save(module, tmp_path / "sae.pth")
    assert load_sae(tmp_path / "sae.pth", k=9).activation.k == 9
    with pytest.raises(InfoscopeError, match=r"has activation topk\(9\), not k 8; leave k out"):
        load_sae(tmp_path / "sae.pth", k=8)


def test_the_dictionary_of_a_module_pickled_after_eval(tmp_path, held, weights, tokens, agrees, foreign):
    fused = torch.arange(84.0).reshape(14, 6) / 100
    module = pickled(foreign, "SAE", held, training=False, dictionary={"_fused_dictionary": fused})
    foreign.save(module, tmp_path / "sae.pth")
    pre, _ = formula(weights, tokens)
    codes = pre.clamp(min=0)
    agrees(load_sae(tmp_path / "sae.pth"), codes, codes @ fused.double())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Q": torch.zeros(4)}, "is a QSAE of overcomplete"),
        ({"encoder.mlp_blocks.0.0.weight": torch.zeros(6, 6)}, "more than one linear layer"),
        ({"encoder.final_block.1.weight": torch.ones(14)}, "LayerNorm"),
        ({"dictionary._weights": None, "dictionary.Relax": torch.zeros(14, 6)}, "archetypal dictionary in parts"),
        ({"dictionary._weights": torch.ones(6, 14)}, r"W_dec has shape \[6, 14\]"),
        ({"encoder.final_block.0.bias": None}, "lacks encoder.final_block.0.bias"),
        ({"encoder.final_block.0.bias": torch.full((14,), torch.nan)}, "NaN or infinity"),
    ],
)
def test_what_is_refused(write, held, changes, message):
    tensors = {key: value for key, value in (held | changes).items() if value is not None}
    with pytest.raises(InfoscopeError, match=message) as error:
        load_sae(write(tensors), k=3)
    assert "\n" not in str(error.value)


def test_modules_of_other_kinds(tmp_path, held, foreign):
    foreign.save(pickled(foreign, "MpSAE", held), tmp_path / "sae.pth")
    with pytest.raises(InfoscopeError, match="is a MpSAE of overcomplete, which is not read"):
        load_sae(tmp_path / "sae.pth")
