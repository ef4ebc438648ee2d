"""Every variant against its published formula, in float64 with torch's own derivatives."""

import numpy as np
import pytest
import torch

from infoscope.dictionaries.sparse import count_active, encode_sparse
from infoscope.training.autoencoder import Normalisation
from small import new_autoencoder

WIDTH, FEATURES = 16, 40
VARIANTS = {
    "topk": {"k": 3},
    "matryoshka": {"activation": "topk", "k": 3, "prefixes": (5, 20)},
    "batchtopk": {"activation": "batchtopk", "k": 3},
    "matryoshka batchtopk": {"activation": "batchtopk", "k": 3, "prefixes": (8, 40)},
    "relu": {"activation": "relu", "l1": 0.7},
    "gated": {"activation": "gated", "l1": 0.7},
    "jumprelu quadratic": {"activation": "jumprelu", "l0": 4.0, "l0_weight": 0.3, "bandwidth": 0.8},
    "jumprelu step": {"activation": "jumprelu", "l0_loss": "step", "l0_weight": 0.3, "bandwidth": 0.8},
    "jumprelu tanh": {"activation": "jumprelu", "l0_loss": "tanh", "l0_weight": 0.3, "bandwidth": 0.8},
}
RISE = 0.5


@pytest.fixture
def tokens():
    return torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(7))


@pytest.fixture(params=VARIANTS)
def variant(request):
    autoencoder = new_autoencoder(WIDTH, FEATURES, **VARIANTS[request.param])
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in autoencoder.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    autoencoder.normalise_decoder()
    return request.param, autoencoder


def by_hand(name, w, x):
    """Codes, reconstruction and loss of a variant, from weights ``w`` and tokens in float64."""
    options = VARIANTS[name]
    pre = x @ w["encoder"].T + w["encoder_bias"]
    mse = lambda made: (x - made).square().mean()  # noqa: E731
    decode = lambda codes, to=FEATURES: codes[:, :to] @ w["decoder"][:to] + w["decoder_bias"]  # noqa: E731
    if "k" in options:
        positive = torch.relu(pre)
        if options.get("activation") == "batchtopk":
            kept = positive >= positive.detach().flatten().topk(3 * len(x)).values[-1]
        else:
            kept = positive >= positive.detach().topk(3, dim=1).values[:, -1:]
        codes = positive * kept
        sizes = [size for size in options.get("prefixes", ()) if size < FEATURES] + [FEATURES]
        return codes, decode(codes), torch.stack([mse(decode(codes, size)) for size in sizes]).mean()
    if name == "relu":
        codes = torch.relu(pre)
        penalty = (codes * w["decoder"].norm(dim=1)).sum(1).mean() / WIDTH
        return codes, decode(codes), mse(decode(codes)) + 0.7 * RISE * penalty
    if name == "gated":
        gate = torch.relu(pre)
        codes = (gate > 0) * torch.relu((pre - w["encoder_bias"]) * w["log_slope"].exp() + w["magnitude_bias"])
        frozen = gate @ w["decoder"].detach() + w["decoder_bias"].detach()
        penalty = gate.sum(1).mean() / WIDTH
        return codes, decode(codes), mse(decode(codes)) + mse(frozen) + 0.7 * RISE * penalty
    threshold, bandwidth = (10 * w["slow_log_threshold"]).exp(), 0.8
    assert (threshold < bandwidth / 2).any()
    above = (pre > threshold).double()
    # Straight through: the value is the step's, the derivative by the threshold that of a ramp of width `bandwidth`.
    window = ((pre - threshold).abs() < bandwidth / 2).double()
    ramp = -window * (threshold - threshold.detach()) / bandwidth
    codes = pre * above + threshold.detach() * ramp
    step = above + ramp
    if "tanh" in name:
        penalty = torch.tanh(4 * codes).sum(1).mean() / WIDTH
    else:
        l0 = step.sum(1).mean()
        penalty = l0 / WIDTH if "step" in name else (l0 / 4 - 1).square()
    return codes, decode(codes), mse(decode(codes)) + 0.3 * RISE * penalty


def exact_weights(autoencoder):
    return {name: value.detach().double().requires_grad_() for name, value in autoencoder.named_parameters()}


def test_output_and_gradients_are_the_formula(variant, tokens):
    name, autoencoder = variant
    exact = exact_weights(autoencoder)
    codes, reconstruction, loss = by_hand(name, exact, tokens.double())
    output = autoencoder(tokens, RISE)
    torch.testing.assert_close(output.reconstruction.double(), reconstruction, atol=1e-5, rtol=1e-5)
    assert torch.equal(output.active, (codes > 0).sum(0))
    assert output.loss.item() == pytest.approx(loss.item(), rel=1e-5)
    output.loss.backward()
    loss.backward()
    for key, parameter in autoencoder.named_parameters():
        torch.testing.assert_close(parameter.grad.double(), exact[key].grad, atol=1e-5, rtol=1e-4, msg=key)
    assert all(parameter.grad.any() for parameter in autoencoder.parameters())


def test_what_is_saved_does_the_same_on_raw_tokens(variant, tokens):
    name, autoencoder = variant
    raw = 7 * tokens + 20
    normalisation = Normalisation.estimate(raw)
    z = normalisation(raw)
    if name.endswith("batchtopk"):
        autoencoder(z, RISE)  # so that there is a threshold: the least code of this batch
    codes, reconstruction, _ = by_hand(name, exact_weights(autoencoder), z.double())
    sae = autoencoder.fold(normalisation)
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(FEATURES))
    made = sae(raw)
    expected = torch.from_numpy(normalisation.mean) + reconstruction / normalisation.scale
    if name.endswith("batchtopk"):
        # The least code itself is not above the threshold.
        assert count_active(encode_sparse(sae, raw), FEATURES).sum() in (3 * 50, 3 * 50 - 1)
        assert (made.double() - expected).abs().max(1).values.median() < 1e-4
    else:
        torch.testing.assert_close(made.double(), expected, atol=2e-4, rtol=1e-4)
        assert np.array_equal(count_active(encode_sparse(sae, raw), FEATURES), (codes > 0).sum(0).numpy())


@pytest.mark.parametrize("name", ["topk", "matryoshka", "batchtopk", "matryoshka batchtopk"])
def test_a_gpu_s_way_gives_what_a_cpu_s_gives(name, tokens):
    """Dense codes, which only a GPU takes, run here on the CPU's own arithmetic."""
    sparse, dense = (new_autoencoder(WIDTH, FEATURES, **VARIANTS[name]) for _ in range(2))
    total, active = sparse._sparse(tokens)
    other, as_active = dense._dense(tokens)
    torch.testing.assert_close(total, other, atol=1e-5, rtol=1e-5)
    assert torch.equal(active, as_active)
    if hasattr(sparse, "threshold"):
        assert sparse.threshold.item() == pytest.approx(dense.threshold.item(), rel=1e-6)
    total.square().sum().backward()
    other.square().sum().backward()
    for one, another in zip(sparse.parameters(), dense.parameters(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(one.grad, another.grad, atol=1e-4, rtol=1e-4)


def test_starts_as_a_transpose_of_unit_rows():
    autoencoder = new_autoencoder(16, 40, seed=5, k=3)
    assert torch.equal(autoencoder.encoder, autoencoder.decoder)
    assert autoencoder.encoder.data_ptr() != autoencoder.decoder.data_ptr()
    torch.testing.assert_close(autoencoder.decoder.norm(dim=1), torch.ones(40))
    assert not autoencoder.encoder_bias.any()
    assert not autoencoder.decoder_bias.any()
    assert not torch.equal(autoencoder.decoder, new_autoencoder(16, 40, seed=6, k=3).decoder)


def test_starts_from_the_tokens_when_asked(tokens):
    median = new_autoencoder(WIDTH, FEATURES, k=3, start="data", bias_start="median", window=tokens)
    bias = median.decoder_bias.detach()
    # The geometric median: the directions to all tokens sum to nothing.
    pull = torch.nn.functional.normalize(tokens.double() - bias, dim=1).sum(0)
    assert pull.norm() < 1e-3
    assert bias.norm() > 1e-2
    directions = torch.nn.functional.normalize(tokens - bias, dim=1)
    assert (median.decoder @ directions.T).max(1).values.min() > 0.9999
    few = new_autoencoder(WIDTH, 80, k=3, start="data", window=tokens)
    torch.testing.assert_close(few.decoder.norm(dim=1), torch.ones(80))
    assert torch.linalg.matrix_rank(few.decoder.detach()) == WIDTH


def test_gradient_stays_on_the_sphere_and_rows_return_to_it(tokens):
    autoencoder = new_autoencoder(16, 40, k=3)
    (tokens - autoencoder(tokens, 1.0).reconstruction).square().sum().backward()
    before = autoencoder.decoder.grad.clone()
    autoencoder.keep_gradient_on_sphere()
    along = (autoencoder.decoder.grad * autoencoder.decoder).sum(1)
    torch.testing.assert_close(along, torch.zeros(40), atol=1e-4, rtol=0)
    # What was taken out is parallel to the rows, nothing else.
    removed = before - autoencoder.decoder.grad
    parallel = (removed * autoencoder.decoder).sum(1, keepdim=True) * autoencoder.decoder
    torch.testing.assert_close(removed, parallel, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        autoencoder.decoder *= 3
    autoencoder.normalise_decoder()
    torch.testing.assert_close(autoencoder.decoder.norm(dim=1), torch.ones(40))
