"""Several SAEs on the same batches, tokens held out, a training that is stopped, and several processes."""

import json
import os
import runpy
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from infoscope.dictionaries.fvu import FVU
from infoscope.errors import InfoscopeError
from infoscope.training.config import TrainConfig
from infoscope.training.held_out import evaluate
from infoscope.training.loop import train_on_tokens, train_several
from infoscope.training.stream import ShuffleBuffer

SMALL = TrainConfig(features=48, k=4, tokens=6000, batch_tokens=250, dead_after=500, buffer_tokens=1000, log_every=4)
SEVERAL = [
    SMALL,
    replace(SMALL, k=2),
    replace(SMALL, features=20),
    replace(SMALL, activation="batchtopk", prefixes=(8, 24)),
    replace(SMALL, activation="jumprelu"),
    replace(SMALL, activation="gated"),
    replace(SMALL, activation="relu"),
]


@pytest.fixture(scope="module")
def tokens():
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(32, 24, generator=generator), dim=1)
    codes = torch.zeros(2500, 32).scatter(1, torch.rand(2500, 32, generator=generator).topk(3).indices, 1.0)
    return codes @ directions + 0.02 * torch.randn(2500, 24, generator=generator) + 2


def same(one, other):
    assert one.sae.sha256 == other.sae.sha256
    assert one.history == other.history
    assert one.held_out == other.held_out


@pytest.mark.slow
def test_each_of_several_is_the_one_trained_alone(tokens):
    together = train_several(list(tokens.split(100)), SEVERAL, held_out=200)
    for config, trained in zip(SEVERAL, together, strict=True):
        same(trained, train_on_tokens(list(tokens.split(170)), config, held_out=200))
    assert len({trained.sae.sha256 for trained in together}) == len(SEVERAL)


def test_several_that_need_other_batches_are_refused(tokens):
    with pytest.raises(InfoscopeError, match="the same batch_tokens"):
        train_several([tokens], [SMALL, replace(SMALL, batch_tokens=100)])


class Stop(BaseException):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("moment", [5, 12, 23])
def test_stopped_and_resumed_is_bit_equal(tokens, tmp_path, moment):
    """Two passes and a half over the tokens, stopped in each; all variants, with features dying and coming back."""
    whole = train_several([tokens], SEVERAL, held_out=200)

    def stop(number, point):
        if point.step >= moment and number == 3:
            raise Stop

    with pytest.raises(Stop):
        train_several([tokens], SEVERAL, held_out=200, checkpoints=tmp_path, checkpoint_seconds=0.0, on_progress=stop)
    (file,) = tmp_path.iterdir()
    assert file.name == f"process-0-{4 * -(-moment // 4) - 1:09}.safetensors"
    steps = []
    again = train_several(
        list(tokens.split(333)),
        SEVERAL,
        held_out=200,
        checkpoints=tmp_path,
        on_progress=lambda number, point: steps.append(point.step),
    )
    assert min(steps) >= moment
    for one, other in zip(whole, again, strict=True):
        same(one, other)
        assert one.passes == other.passes
    # Of the last step; it goes when the SAEs are written.
    assert [path.name for path in tmp_path.iterdir()] == ["process-0-000000024.safetensors"]


def test_another_training_s_state_is_refused(tokens, tmp_path):
    train_on_tokens([tokens], SMALL, checkpoints=tmp_path, checkpoint_seconds=0.0, identity={"block": 3})
    with pytest.raises(InfoscopeError, match="an unfinished training with other options, tokens or processes"):
        train_on_tokens([tokens], replace(SMALL, k=5), checkpoints=tmp_path, identity={"block": 3})
    with pytest.raises(InfoscopeError, match="an unfinished training with other options, tokens or processes"):
        train_on_tokens([tokens], SMALL, checkpoints=tmp_path, identity={"block": 4})
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(InfoscopeError, match=r"cannot read .*process-0-000000024\.safetensors .*delete it to start"):
        train_on_tokens([tokens], SMALL, checkpoints=tmp_path, identity={"block": 3})


def test_no_state_is_kept_before_it_is_due(tokens, tmp_path):
    kept = []
    train_on_tokens(
        [tokens], SMALL, checkpoints=tmp_path, on_progress=lambda number, point: kept.extend(tmp_path.iterdir())
    )
    assert kept == []


def test_tokens_held_out_are_never_drawn():
    numbered = torch.arange(1000.0)[:, None].expand(-1, 3).contiguous()
    buffer = ShuffleBuffer(numbered.split(37), 300, 2500, 0, held_out=100)
    assert torch.equal(buffer.stream.held_out, numbered[:100])
    drawn = torch.cat([buffer.draw(100) for _ in range(25)])[:, 0]
    assert drawn.min() == 100
    values, counts = drawn.unique(return_counts=True)
    assert len(values) == 900
    assert set(counts.tolist()) == {2, 3}


def test_a_pass_of_nothing_but_held_out_tokens_is_no_pass():
    with pytest.raises(InfoscopeError, match="there are no more tokens"):
        ShuffleBuffer([torch.ones(50, 3)], 20, 100, 0, held_out=50)


def test_a_buffer_resumes_where_another_was():
    numbered = torch.arange(400.0)[:, None].expand(-1, 3).contiguous()
    one = ShuffleBuffer(numbered.split(37), 100, 1000, 0, held_out=20)
    for _ in range(11):
        one.draw(45)
    tensors = {name: tensor.clone() for name, tensor in one.tensors().items()}
    numbers = json.loads(json.dumps(one.numbers()))
    other = ShuffleBuffer(numbered.split(11), 100, 1000, 0, held_out=20)
    other.restore(tensors, numbers)
    rest = [buffer.draw(len_) for buffer in (one, other) for len_ in (45, 45, 45, 200, 170)]
    for mine, its in zip(rest[:5], rest[5:], strict=True):
        assert torch.equal(mine, its)


def test_held_out_figures_are_the_definition(tokens):
    trained = train_on_tokens([tokens], replace(SMALL, features=300), held_out=250)
    held = tokens[:250]
    codes = trained.sae.encode(held).double()
    fvu = FVU(24)
    fvu.update(held, trained.sae(held))
    found = trained.held_out
    assert found == evaluate(trained.sae, held)
    assert found.fvu == pytest.approx(fvu.value, rel=1e-5)
    assert found.fvu < 0.9
    assert found.l0 == pytest.approx((codes > 0).sum(1).double().mean().item())
    density = (codes > 0).double().mean(0).numpy()
    assert found.dead == (density == 0).mean()
    assert sum(found.density) == (density > 0).sum()
    # Quarters of a power of ten: the last is 10^-0.25 to 1.
    assert found.density[-1] == (density >= 10**-0.25).sum()
    assert found.density[-4] == ((density >= 0.1) & (density < 10**-0.75)).sum()


PROCESS = """
import sys, torch
from dataclasses import replace
from pathlib import Path
from infoscope.training.processes import join_processes
from infoscope.training.loop import Trainer, train_on_tokens
from infoscope.training.from_cache import Share
from infoscope.training.variants import make_autoencoder
from infoscope.training.config import TrainConfig
from infoscope.training.held_out import evaluate
torch.set_num_threads(1)
processes = join_processes("cpu")
tokens = torch.load({tokens!r})
results = {{}}
for activation, prefixes in {variants!r}:
    config = TrainConfig(features=48, k=4, batch_tokens=250, dead_after=500, buffer_tokens=1000, log_every=20,
                         tokens=250 * 200 + 1, learning_rate=1e-3, activation=activation, prefixes=prefixes)
    # The first step, on the same batch shared out.
    autoencoder = make_autoencoder(config, tokens[:500] - tokens.mean(0), processes, "cpu")
    batch = (tokens - tokens.mean(0))[:250]
    trainer = Trainer(autoencoder, replace(config, clip=1e9))
    trainer._silent[5:20] = 600      # dead, so that AuxK has its part
    trainer.step(0, batch[processes.rank::processes.count])
    gradients = {{name: parameter.grad for name, parameter in autoencoder.named_parameters()}}
    trained = train_on_tokens(Share([tokens], processes), config, processes=processes)
    held = evaluate(trained.sae, tokens)
    results[activation] = gradients, trainer._silent, held.fvu, held.l0
if processes.rank == 0:
    torch.save(results, {out!r})
"""
VARIANTS = {"topk": (), "batchtopk": (16,), "jumprelu": ()}


def run_processes(tmp_path, tokens, count):
    """Every variant, so that the program starts only once."""
    out = tmp_path / f"{count}.pt"
    torch.save(tokens, tmp_path / "tokens.pt")
    program = tmp_path / "program.py"
    program.write_text(
        PROCESS.format(
            tokens=str(tmp_path / "tokens.pt"),
            out=str(out),
            variants=list(VARIANTS.items()),
        )
    )
    if count == 1:  # this process: torch need not be loaded again for it
        threads = torch.get_num_threads()
        try:
            runpy.run_path(str(program))
        finally:
            torch.set_num_threads(threads)
        return torch.load(out)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", str(program)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(out)


@pytest.fixture(scope="module")
def results(tokens, tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    return [run_processes(folder, tokens, count) for count in (1, 2)]


@pytest.mark.slow
@pytest.mark.parametrize("activation", VARIANTS)
def test_two_processes_learn_what_one_does(results, activation):
    one, two = (of_all[activation] for of_all in results)
    for name, gradient in one[0].items():
        np.testing.assert_allclose(two[0][name], gradient, atol=1e-6, err_msg=name)
    assert torch.equal(one[1], two[1])  # which features fired in the batch of both
    assert two[2] == pytest.approx(one[2], abs=0.005)
    assert two[3] == pytest.approx(one[3], rel=0.05)
