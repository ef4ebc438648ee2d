import json
from dataclasses import replace

import pytest
import torch

from infoscope.dictionaries.fvu import FVU
from infoscope.dictionaries.loading import load_sae
from infoscope.dictionaries.sparse import decode_sparse, encode_sparse
from infoscope.errors import InfoscopeError
from infoscope.training.autoencoder import Normalisation
from infoscope.training.config import TrainConfig
from infoscope.training.loop import Trainer, train_on_tokens
from infoscope.training.stream import TokenPool
from small import new_autoencoder

SMALL = TrainConfig(
    features=48, k=4, tokens=20_000, batch_tokens=250, dead_after=2000, buffer_tokens=2000, log_every=20
)


def planted(features=32, width=24, active=3, count=20_000, offset=5.0, seed=0):
    """Tokens that are sums of a few of ``features`` directions, and the directions."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(features, width, generator=generator), dim=1)
    chosen = torch.rand(count, features, generator=generator).topk(active).indices
    codes = torch.zeros(count, features).scatter(1, chosen, 1 + torch.rand(count, active, generator=generator))
    return codes @ directions + offset, directions


def explained(sae, tokens):
    fvu = FVU(sae.width)
    fvu.update(tokens, decode_sparse(sae, encode_sparse(sae, tokens)))
    return fvu


@pytest.mark.slow
def test_recovers_a_planted_dictionary():
    tokens, directions = planted()
    config = TrainConfig(features=48, k=3, tokens=100_000, batch_tokens=250, learning_rate=5e-3, dead_after=5000)
    trained = train_on_tokens([tokens], config)
    closest = (directions @ trained.sae.W_dec.T).max(1).values
    assert (closest > 0.9).float().mean() > 0.9
    assert trained.history[-1].fvu < 0.1
    assert explained(trained.sae, tokens).value < 0.1


def test_decoder_rows_have_length_one_and_the_mean_is_folded():
    tokens, _ = planted(offset=20.0)
    trained = train_on_tokens([tokens], SMALL)
    torch.testing.assert_close(trained.sae.W_dec.norm(dim=1), torch.ones(48))
    torch.testing.assert_close(trained.sae.b_dec, tokens.mean(0), atol=0.5, rtol=0)
    assert trained.mean_over_std == pytest.approx(explained(trained.sae, tokens).mean_over_std, rel=0.02)
    assert trained.mean_over_std > 10


def test_the_curves_say_what_the_sae_does():
    tokens, _ = planted()
    trained = train_on_tokens([tokens], SMALL)
    assert [point.step for point in trained.history] == [20, 40, 60, 80]
    assert [point.tokens for point in trained.history] == [5000, 10_000, 15_000, 20_000]
    assert trained.history[0].fvu > trained.history[-1].fvu
    assert trained.history[-1].fvu == pytest.approx(explained(trained.sae, tokens).value, rel=0.1)
    assert 0 < trained.history[-1].l0 <= 4
    assert trained.history[-1].learning_rate == pytest.approx(SMALL.highest_rate * SMALL.factor(79))


@pytest.mark.slow
def test_same_seed_same_weights_however_tokens_come():
    tokens, _ = planted(count=3000)
    expected = train_on_tokens([tokens], SMALL)
    passes = 0

    def compute():
        nonlocal passes
        passes += 1
        return iter(tokens.split(77))

    for source in (list(tokens.split(13)), TokenPool(compute), TokenPool(compute, cache_bytes=1000)):
        trained = train_on_tokens(source, SMALL)
        assert trained.sae.sha256 == expected.sae.sha256
        assert trained.history == expected.history
        assert trained.passes == 7
    assert passes == 1 + 7
    assert train_on_tokens([tokens], replace(SMALL, seed=1)).sae.sha256 != expected.sae.sha256


def share_that_fires(config):
    """Of 30 features that begin too weak to be among a token's k largest, the share that fires after training."""
    tokens, _ = planted(offset=0.0)
    batches = Normalisation.estimate(tokens)(tokens).split(config.batch_tokens)
    autoencoder = new_autoencoder(24, 40, k=config.k)
    with torch.no_grad():
        autoencoder.encoder[10:] *= 0.01
        autoencoder.encoder_bias[:10] = 1.5
    assert not autoencoder(torch.cat(batches), 1.0).active[10:].any()
    trainer = Trainer(autoencoder, config)
    for step in range(config.steps):
        trainer.step(step, batches[step % len(batches)])
    return (autoencoder(torch.cat(batches), 1.0).active[10:] > 0).float().mean().item()


@pytest.mark.slow
def test_auxk_brings_dead_features_back():
    config = TrainConfig(features=40, k=3, tokens=100_000, batch_tokens=500, dead_after=1000, learning_rate=3e-3)
    assert share_that_fires(config) > 0.6
    assert share_that_fires(replace(config, auxk_coefficient=0.0)) == 0


@pytest.mark.slow
def test_relu_is_made_sparse_by_its_penalty():
    tokens, directions = planted()
    config = replace(SMALL, activation="relu", tokens=100_000, learning_rate=5e-3, l1=1.0)
    trained = train_on_tokens([tokens], config)
    free = train_on_tokens([tokens], replace(config, l1=0.0))
    assert str(trained.sae.activation) == "relu"
    assert trained.history[-1].l0 < 0.5 * free.history[-1].l0
    assert explained(trained.sae, tokens).value < 0.3
    assert ((directions @ trained.sae.W_dec.T).max(1).values > 0.9).float().mean() > 0.8


def test_saved_with_its_site_options_and_curves(tmp_path):
    tokens, _ = planted(count=2000)
    trained = train_on_tokens([tokens], SMALL)
    trained.save(tmp_path / "sae", site={"model": "vit", "block": 3})
    sae = load_sae(tmp_path / "sae")
    assert sae.sha256 == trained.sae.sha256
    assert sae.site == {"model": "vit", "block": 3, "mean_token_norm": trained.mean_token_norm}
    assert trained.mean_token_norm == pytest.approx(tokens.norm(dim=1).mean().item(), rel=1e-5)
    training = json.loads((tmp_path / "sae" / "sae.json").read_text())["training"]
    assert training["config"]["tokens"] == 20_000
    assert training["fvu"] == trained.history[-1].fvu
    assert training["mean_over_std"] == trained.mean_over_std
    curves = json.loads((tmp_path / "sae" / "training.json").read_text())
    assert sorted(curves) == ["dead", "fvu", "l0", "learning_rate", "loss", "step", "tokens"]
    assert curves["fvu"] == [point.fvu for point in trained.history]


def test_progress_is_told_point_by_point():
    tokens, _ = planted(count=2000)
    told = []
    trained = train_on_tokens([tokens], SMALL, on_progress=lambda number, point: told.append((number, point)))
    assert told == [(0, point) for point in trained.history]


def test_ctrl_c_is_not_caught():
    def interrupted():
        yield planted(count=3000)[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_on_tokens(TokenPool(interrupted), SMALL)


def test_divergence_is_said():
    tokens, _ = planted(count=2000)
    with pytest.raises(InfoscopeError, match=r"training diverged before step \d+; choose a lower --learning-rate"):
        train_on_tokens([tokens], replace(SMALL, learning_rate=1e30))
