"""Training SAEs with infoscope and with other projects' own code: how fast, and how good the result.

    pip install --no-deps sae-lens dictionary-learning eai-sparsify overcomplete
    python benchmarks/peers.py --cache CACHE/<hash>

Everybody trains TopK SAEs of the same sizes on the same batches of a token cache that `infoscope train --cache` wrote,
each with its own classes, loss, optimiser and training step and its own defaults, in a process of its own with the same
number of threads. The projects take turns: each trains a third of its steps, then the next one does. Only the steps are
timed, after a few to warm up; reading tokens is not.

The batches are centred and scaled once (mean 0, mean squared norm equal to the width) and are the same for all, so that
nobody suffers from raw tokens. Where a project's learning rate is a rule for other sizes, it also trains with others.
Warm-ups of 1,000 steps are cut to a twentieth of the steps; nobody logs to another program. Held-out FVU and the share
of features that fire on no held-out token come from each model's own encoder and decoder.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import sys
import tempfile
import time
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np
import torch
import tyro
from torch import Tensor

from common import print_table
from infoscope.dictionaries.fvu import FVU
from infoscope.runtime.token_cache import open_token_cache
from infoscope.training.autoencoder import Normalisation
from infoscope.training.config import TrainConfig
from infoscope.training.loop import Trainer
from infoscope.training.processes import Processes
from infoscope.training.stream import ShuffleBuffer
from infoscope.training.variants import make_autoencoder

US = "infoscope"
WARM_UP = 1000
CHUNK = 2048


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark."""

    cache: Path
    """A finished token cache."""
    features: tuple[int, ...] = (6144, 12_288)
    k: int = 32
    tokens: int = 400_000
    """Tokens to train on; whole batches of them."""
    batch_tokens: int = 2048
    held_out: int = 16_384
    """The first tokens of the cache: nobody trains on them."""
    rounds: int = 3
    """Turns that each project takes."""
    warm_up: int = 5
    """First steps, which are not timed."""
    threads: int = 2
    only: tuple[str, ...] = ()
    """Projects to run beside infoscope. Default: all that are installed."""
    other_settings: bool = True
    """Also train the peers with learning rates that are not their defaults."""


@dataclass(frozen=True)
class Setting:
    """What a project is trained with: its own defaults, or others."""

    rate: float | None = None
    """Learning rate at its highest; ``None`` is the project's own."""
    optimiser: str = ""
    """Where a project has several."""


@dataclass(frozen=True)
class Job:
    """One training."""

    project: str
    folder: Path
    width: int
    features: int
    k: int
    steps: int
    batch_tokens: int
    threads: int
    setting: Setting

    @property
    def warm_up(self) -> int:
        """A warm-up of 1,000 steps, cut to the length of the training."""
        return min(WARM_UP, self.steps // 20)


@dataclass(frozen=True)
class Quality:
    """A trained SAE on the held-out tokens."""

    fvu: float
    dead: float
    l0: float


@dataclass
class Run:
    """One training and what it gave."""

    setting: Setting
    label: str = ""
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    quality: Quality | None = None


class Training(Protocol):
    """A project's SAE in training."""

    label: str
    """Its optimiser and learning rate."""

    def train(self, first: int, batches: list[Tensor]) -> None:
        """Steps ``first``, ``first + 1``, ..."""

    def look(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Dense codes and reconstruction of tokens, once it is trained."""


def main(options: Benchmark) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        steps, width = write_batches(options, Path(folder))
        print(f"{steps} steps of {options.batch_tokens} tokens of width {width}, {options.held_out} tokens held out")
        print(f"{options.threads} threads; load of the machine before {os.getloadavg()[0]:.1f}")
        for features in options.features:
            job = Job(
                US, Path(folder), width, features, options.k, steps, options.batch_tokens, options.threads, Setting()
            )
            runs, absent = compare(options, job)
            print_results(features, options, runs, absent)


def write_batches(options: Benchmark, folder: Path) -> tuple[int, int]:
    """The batches that everybody trains on, in order; how many, and the width of a token."""
    cache = open_token_cache(options.cache)
    steps = options.tokens // options.batch_tokens
    total = steps * options.batch_tokens
    buffer = ShuffleBuffer(cache, TrainConfig.buffer_tokens, total, 0, options.held_out)
    normalisation = Normalisation.estimate(buffer.window)
    np.save(folder / "held_out.npy", normalisation(buffer.stream.held_out).numpy())
    shape = (steps, options.batch_tokens, cache.width)
    batches = np.lib.format.open_memmap(folder / "batches.npy", "w+", np.float32, shape)
    for step in range(steps):
        batches[step] = normalisation(buffer.draw(options.batch_tokens)).numpy()
    batches.flush()
    return steps, cache.width


def compare(options: Benchmark, job: Job) -> tuple[dict[str, list[Run]], dict[str, str]]:
    """Every project's trainings, its defaults first; and why others are absent."""
    runs: dict[str, list[Run]] = {}
    absent: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        runners: dict[str, Runner] = {}
        for project in (US, *(name for name in PROJECTS if name in (options.only or PROJECTS) and name != US)):
            try:
                runner = stack.enter_context(Runner(replace(job, project=project)))
                runner.train(options.warm_up)
            except AbsentError as error:
                absent[project] = str(error)
                continue
            runners[project], runs[project] = runner, [Run(Setting(), runner.label)]
        for first, last in turns(options.warm_up, job.steps, options.rounds):
            for project, runner in runners.items():
                wall, cpu = runner.train(last - first)
                run = runs[project][0]
                run.wall.append(wall)
                run.cpu.append(cpu)
                run.steps.append(last - first)
                tell(f"{project}, steps {first} to {last}: {(last - first) * job.batch_tokens / wall:,.0f} tokens/s")
        for project, runner in runners.items():
            runs[project][0].quality = runner.finish()
            tell(f"{project}, {runner.label}: {runs[project][0].quality}")
    for project in runs:
        for setting in PROJECTS[project][1] if options.other_settings else ():
            with Runner(replace(job, project=project, setting=setting)) as runner:
                runner.train(job.steps)
                runs[project].append(Run(setting, runner.label, quality=runner.finish()))
            tell(f"{project}, {runner.label}: {runs[project][-1].quality}")
    return runs, absent


def turns(first: int, last: int, rounds: int) -> Iterator[tuple[int, int]]:
    """The steps from ``first`` to ``last`` in parts of about the same length."""
    edges = np.linspace(first, last, rounds + 1).round().astype(int).tolist()
    yield from pairwise(edges)


def tell(text: str) -> None:
    """How far it is: a long benchmark that is stopped has said what it found."""
    print(text, file=sys.stderr, flush=True)


class AbsentError(Exception):
    """The project cannot be run here."""


class Runner:
    """A process that trains one SAE, so many steps at a time; between them it waits.

    Attributes:
        label: optimiser and learning rate.
    """

    def __init__(self, job: Job):
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, job), daemon=True)
        self._process.start()
        theirs.close()
        self.label = str(self._answer())

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join()

    def train(self, steps: int) -> tuple[float, float]:
        """Seconds of wall time and of CPU time that the steps took."""
        self._pipe.send(steps)
        wall, cpu = self._answer()
        return wall, cpu

    def finish(self) -> Quality:
        """The trained SAE on the held-out tokens; the process ends."""
        self._pipe.send(0)
        quality = self._answer()
        assert isinstance(quality, Quality)
        return quality

    def _answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except EOFError:
            self._process.join()
            answer = AbsentError(f"the process ended with {self._process.exitcode}")
        if isinstance(answer, AbsentError):
            raise answer
        return answer


def work(pipe: Connection[Any, Any], job: Job) -> None:
    """What the process does."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(job.threads)
    torch.manual_seed(0)
    stored = np.load(job.folder / "batches.npy", mmap_mode="r")
    position = 0
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(EOFError):
        try:
            training = PROJECTS[job.project][0](job)
            pipe.send(training.label)
            while steps := pipe.recv():
                batches = [torch.from_numpy(np.array(stored[i])) for i in range(position, position + steps)]
                wall, cpu = time.perf_counter(), time.process_time()
                training.train(position, batches)
                pipe.send((time.perf_counter() - wall, time.process_time() - cpu))
                position += steps
            pipe.send(evaluate(training, torch.from_numpy(np.load(job.folder / "held_out.npy")), job.features))
        except EOFError:
            raise
        except Exception as error:
            if not isinstance(error, ImportError):
                traceback.print_exc()
            pipe.send(AbsentError(f"{type(error).__name__}: {error}"))


@torch.no_grad()
def evaluate(training: Training, tokens: Tensor, features: int) -> Quality:
    """The same for all: what the model's own encoder and decoder make of the tokens."""
    fvu = FVU(tokens.shape[1])
    active = torch.zeros(features, dtype=torch.int64)
    for first in range(0, len(tokens), CHUNK):
        some = tokens[first : first + CHUNK]
        codes, reconstruction = training.look(some)
        assert codes.shape == (len(some), features)
        active += (codes > 0).sum(0)
        fvu.update(some, reconstruction)
    return Quality(fvu.value, float((active == 0).double().mean()), int(active.sum()) / len(tokens))


class Infoscope:
    """`infoscope.training.loop.Trainer`, which `train_on_tokens` gives the same batches."""

    def __init__(self, job: Job):
        self.config = TrainConfig(
            features=job.features, k=job.k, tokens=job.steps * job.batch_tokens, batch_tokens=job.batch_tokens
        )
        self.label = f"Adam {self.config.highest_rate:.1e}"
        window = torch.from_numpy(np.array(np.load(job.folder / "batches.npy", mmap_mode="r")[:64])).flatten(0, 1)
        self.trainer = Trainer(make_autoencoder(self.config, window, Processes(), "cpu"), self.config)

    def train(self, first: int, batches: list[Tensor]) -> None:
        """See `Training`."""
        for step, batch in enumerate(batches, first):
            self.trainer.step(step, batch)

    def look(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """See `Training`."""
        sae = self.trainer.autoencoder.fold(Normalisation(np.zeros(tokens.shape[1]), 1.0, 0.0))
        codes = sae.encode(tokens)
        return codes, sae.decode(codes)


class SAELens:
    """`SAETrainer.step` with `TopKTrainingSAE`, as its `fit` calls it."""

    def __init__(self, job: Job):
        saes = importlib.import_module("sae_lens.saes.topk_sae")
        config = importlib.import_module("sae_lens.config").SAETrainerConfig
        sae = saes.TopKTrainingSAE(
            saes.TopKTrainingSAEConfig(d_in=job.width, d_sae=job.features, k=job.k, device="cpu")
        )
        sizes = {"total_training_samples": job.steps * job.batch_tokens, "train_batch_size_samples": job.batch_tokens}
        rate = job.setting.rate or config.lr
        trainer = importlib.import_module("sae_lens.training.sae_trainer").SAETrainer
        self.trainer = trainer(config(**sizes, lr=rate, lr_end=rate / 10), sae, iter(()))
        self.label = f"Adam {self.trainer.cfg.lr:.1e}"

    def train(self, first: int, batches: list[Tensor]) -> None:
        """See `Training`."""
        for batch in batches:
            self.trainer.maybe_reset_sparsity()
            self.trainer.step(batch)
            self.trainer.n_training_steps += 1

    def look(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """See `Training`."""
        codes = self.trainer.sae.encode(tokens)
        return codes, self.trainer.sae.decode(codes)


class DictionaryLearning:
    """`TopKTrainer.update`."""

    def __init__(self, job: Job):
        trainer = importlib.import_module("dictionary_learning.trainers.top_k").TopKTrainer
        self.trainer = trainer(
            steps=job.steps,
            activation_dim=job.width,
            dict_size=job.features,
            k=job.k,
            layer=0,
            lm_name="",
            lr=job.setting.rate,
            warmup_steps=job.warm_up,
            seed=0,
            device="cpu",
        )
        self.label = f"Adam {self.trainer.lr:.1e}"

    def train(self, first: int, batches: list[Tensor]) -> None:
        """See `Training`."""
        for step, batch in enumerate(batches, first):
            self.trainer.update(step, batch)

    def look(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """See `Training`."""
        codes = self.trainer.ae.encode(tokens)
        return codes, self.trainer.ae.decode(codes)


class Sparsify:
    """`SparseCoder` and the optimisers of its `Trainer`, which itself wants a language model: its steps one by one."""

    def __init__(self, job: Job):
        sparsify = importlib.import_module("sparsify")
        self.coder = sparsify.SparseCoder(job.width, sparsify.SparseCoderConfig(num_latents=job.features, k=job.k))
        scale = (job.features / 2**14) ** 0.5
        self.schedule: Any = None
        self.signum = (job.setting.optimiser or "signum") == "signum"
        rate = job.setting.rate or (5e-3 if self.signum else 2e-4) / scale
        self.optimiser: Any
        if self.signum:
            sign = importlib.import_module("sparsify.sign_sgd").SignSGD(self.coder.parameters(), lr=rate)
            self.optimiser = importlib.import_module("schedulefree").ScheduleFreeWrapper(sign, momentum=0.95)
            self.optimiser.train()
        else:
            self.optimiser = torch.optim.Adam(self.coder.parameters(), lr=rate)
            schedule = importlib.import_module("transformers").get_linear_schedule_with_warmup
            self.schedule = schedule(self.optimiser, job.warm_up, job.steps)
        self.silent = torch.zeros(job.features, dtype=torch.int64)
        self.label = f"{'signum' if self.signum else 'Adam'} {rate:.1e}"

    def train(self, first: int, batches: list[Tensor]) -> None:
        """See `Training`."""
        coder = self.coder
        for step, batch in enumerate(batches, first):
            if step == 0:
                coder.b_dec.data = batch.mean(0)
            coder.set_decoder_norm_to_unit_norm()
            variance = (batch - batch.mean(0)).pow(2).sum()
            out = coder(x=batch, y=batch, dead_mask=None, total_variance=variance)
            fired = torch.zeros_like(self.silent, dtype=torch.bool)
            fired[out.latent_indices.flatten()] = True
            float(out.fvu.detach())
            loss = out.fvu + 0.0 * out.auxk_loss + out.multi_topk_fvu / 8
            loss.backward()
            coder.remove_gradient_parallel_to_decoder_directions()
            self.optimiser.step()
            self.optimiser.zero_grad()
            if self.schedule is not None:
                self.schedule.step()
            self.silent += len(batch)
            self.silent[fired] = 0

    def look(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """See `Training`."""
        if self.signum:
            self.optimiser.eval()
        values, indices, _ = self.coder.encode(tokens)
        codes = torch.zeros(len(tokens), self.coder.num_latents).scatter_(1, indices, values)
        return codes, self.coder.decode(values, indices)


class Overcomplete:
    """`train_sae` with `TopKSAE`, the loss and the optimiser as in its README; it prints nothing."""

    def __init__(self, job: Job):
        spec = importlib.util.find_spec("overcomplete")
        if spec is None or spec.submodule_search_locations is None:
            raise ModuleNotFoundError("No module named 'overcomplete'")
        # Its first page imports image models and plots, which training needs nothing of.
        package = types.ModuleType("overcomplete")
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules["overcomplete"] = package
        sae = importlib.import_module("overcomplete.sae")
        self.step = sae.train_sae
        self.sae = sae.TopKSAE(job.width, nb_concepts=job.features, top_k=job.k)
        rate = job.setting.rate or 5e-4
        self.optimiser = torch.optim.Adam(self.sae.parameters(), lr=rate)
        self.label = f"Adam {rate:.1e}"

    def train(self, first: int, batches: list[Tensor]) -> None:
        """See `Training`."""
        self.step(self.sae, batches, mean_squared_error, self.optimiser, nb_epochs=1, monitoring=0)

    def look(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """See `Training`."""
        if self.sae.training:
            self.sae.eval()
        _, codes = self.sae.encode(tokens)
        return codes, self.sae.decode(codes)


def mean_squared_error(x: Tensor, x_hat: Tensor, pre_codes: Tensor, codes: Tensor, dictionary: Tensor) -> Tensor:
    return (x - x_hat).square().mean()


# Each project's training, what else it is trained with, and its package.
PROJECTS: dict[str, tuple[Callable[[Job], Training], tuple[Setting, ...], str]] = {
    US: (Infoscope, (), "infoscope"),
    "SAELens": (SAELens, (Setting(1e-3),), "sae-lens"),
    "dictionary_learning": (DictionaryLearning, (Setting(1e-3),), "dictionary-learning"),
    "sparsify": (Sparsify, (Setting(1e-3), Setting(1e-3, "adam")), "eai-sparsify"),
    "overcomplete": (Overcomplete, (Setting(1e-3),), "overcomplete"),
}


def print_results(features: int, options: Benchmark, runs: dict[str, list[Run]], absent: dict[str, str]) -> None:
    """The table of one width, and what decides."""
    rows = []
    for project, of_project in runs.items():
        for number, run in enumerate(of_project):
            speed = [""] * 4
            if run.wall:
                rates = [steps * options.batch_tokens / wall for steps, wall in zip(run.steps, run.wall, strict=True)]
                ratios = faster(runs[US][0].wall, run.wall)
                by_cpu = faster(runs[US][0].cpu, run.cpu)
                speed = [f"{median(rates):,.0f}", f"{median(ratios):.2f}", listed(ratios), f"{median(by_cpu):.2f}"]
            assert run.quality is not None
            quality = [f"{run.quality.fvu:.4f}", f"{run.quality.dead:.2%}", f"{run.quality.l0:.1f}"]
            name = [project, installed(project)] if number == 0 else ["", ""]
            rows.append([*name, run.label, *speed, *quality])
    heads = ["project", "version", "trained with", "tokens/s", "ours / theirs", "by round", "by CPU time"]
    heads += ["held-out FVU", "dead", "L0"]
    print_table(f"{features:,} features, k {options.k}", heads, rows, left=3, width=150)
    for project, why in absent.items():
        print(f"{project} is not there: {why}")
    print_verdict(runs)


def print_verdict(runs: dict[str, list[Run]]) -> None:
    """Ours against the best of the others, each in its own discipline."""
    peers = [(project, run) for project in runs if project != US for run in runs[project]]
    ours = runs[US][0].quality
    if not peers or ours is None:
        return
    project, fastest = min(((name, run) for name, run in peers if run.wall), key=lambda pair: sum(pair[1].wall))
    ratios = faster(runs[US][0].wall, fastest.wall)
    print(f"{median(ratios):.2f} times as fast as the fastest, {project} ({listed(ratios)})")
    measured = [(name, run.label, run.quality) for name, run in peers if run.quality is not None]
    project, label, best = min(measured, key=lambda peer: peer[2].fvu)
    print(f"held-out FVU {ours.fvu:.4f}, the best peer's {best.fvu:.4f} ({project}, {label})")
    project, label, best = min(measured, key=lambda peer: peer[2].dead)
    print(f"dead {ours.dead:.2%}, the best peer's {best.dead:.2%} ({project}, {label}, FVU {best.fvu:.4f})")


def faster(ours: list[float], theirs: list[float]) -> list[float]:
    """Their time over ours, round by round."""
    return [their / our for our, their in zip(ours, theirs, strict=True)]


def listed(ratios: list[float]) -> str:
    return ", ".join(f"{ratio:.2f}" for ratio in ratios)


def installed(project: str) -> str:
    try:
        return version(PROJECTS[project][2])
    except PackageNotFoundError:
        return ""


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
