"""The training loop, from a stream of tokens to SAEs; nothing here knows of images or models.

`train_several` is the whole of it in the order in which it happens: tokens are shuffled and normalised, every SAE takes
a step on each batch, the state is written now and then, and at the end each SAE is scored on held-out tokens. `Trainer`
is what one SAE does in a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infoscope.dictionaries.fvu import FVU
from infoscope.errors import InfoscopeError
from infoscope.runtime.progress import progress
from infoscope.training.autoencoder import Normalisation, Output, TrainingAutoencoder, auxk_loss
from infoscope.training.checkpoint import EVERY_SECONDS, Checkpoints, Witness
from infoscope.training.config import TrainConfig, names_of
from infoscope.training.held_out import evaluate
from infoscope.training.processes import Processes
from infoscope.training.stream import ShuffleBuffer
from infoscope.training.trained_sae import TrainedSAE, TrainingPoint
from infoscope.training.variants import make_autoencoder

# The options that SAEs trained on the same batches must share.
_BATCH_OPTIONS = ("tokens", "batch_tokens", "buffer_tokens", "seed", "log_every")


def train_on_tokens(tokens: Iterable[Tensor], config: TrainConfig, **options: Any) -> TrainedSAE:
    """Train one sparse autoencoder; see `train_several`.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> tokens = [torch.randn(512, 8, generator=generator)]
        >>> trained = train_on_tokens(tokens, TrainConfig(features=16, k=4, tokens=4096, batch_tokens=256))
        >>> trained.sae.features, trained.passes, trained.history[-1].step
        (16, 8, 16)
    """
    return train_several(tokens, [config], **options)[0]


def train_several(
    tokens: Iterable[Tensor],
    configs: Sequence[TrainConfig],
    *,
    device: str | torch.device = "cpu",
    held_out: int = 0,
    processes: Processes | None = None,
    checkpoints: Path | None = None,
    checkpoint_seconds: float = EVERY_SECONDS,
    identity: Mapping[str, Any] | None = None,
    images: Witness | None = None,
    on_progress: Callable[[int, TrainingPoint], None] | None = None,
) -> list[TrainedSAE]:
    """Train sparse autoencoders on the same batches, in one pass over the tokens.

    On one machine the same tokens, options and seed give the same weights. The sizes of the batches that tokens come in
    do not matter, nor do the other SAEs trained beside, nor whether the training was stopped and resumed.

    Args:
        tokens: gives tensors ``[token, width]``, the same ones each time it is iterated; as many passes are made as
            ``config.tokens`` takes. Images should come in random order, because a batch mixes no more than
            ``config.buffer_tokens`` consecutive tokens. A `TokenPool` keeps what fits in memory.
        configs: the options of each SAE; those that determine the batches must be the same in all.
        device: where to train.
        held_out: how many tokens at the start of each pass are left out of training and used to score the SAEs.
        processes: those that train together; each is given tokens of its own, and its share of every batch.
        checkpoints: a folder for the state of an unfinished training; training resumes from a state that is there.
        checkpoint_seconds: how much work an interruption may lose.
        identity: what made the tokens, as JSON values; a checkpoint of other tokens is refused.
        images: what the tokens are made from, or the files they are in, so that a checkpoint can tell whether those are
            still the same.
        on_progress: called with the number of an SAE and each point of its training curves.

    Returns:
        The SAEs in the order of ``configs``.

    Raises:
        InfoscopeError: the tokens run out, are not finite or all the same; training diverges; or a checkpoint cannot be
            written or read, or belongs to another training.

    Example:
        >>> tokens = [torch.randn(512, 8, generator=torch.Generator().manual_seed(0))]
        >>> options = {"features": 16, "tokens": 2048, "batch_tokens": 256}
        >>> first, second = train_several(tokens, [TrainConfig(k=2, **options), TrainConfig(k=4, **options)])
        >>> str(first.sae.activation), str(second.sae.activation)
        ('topk(2)', 'topk(4)')
    """
    processes = processes or Processes()
    shared = configs[0]
    _check(configs, processes, torch.device(device))
    names = names_of(configs)
    # A training resumes only with the same torch on the same kind of device: others round differently.
    made_by = {"held_out": held_out, "device": torch.device(device).type, "torch": torch.__version__}
    # Made before any token is read, because it notes what the images are like now.
    state = Checkpoints(checkpoints, configs, {**(identity or {}), **made_by}, processes, checkpoint_seconds, images)
    with progress("Training", shared.tokens, "tokens") as advance:
        # Rounded up, so that no process runs out of tokens in the last step.
        total = -(-shared.tokens // processes.count)
        buffer = ShuffleBuffer(tokens, shared.buffer_tokens, total, shared.seed + processes.rank, held_out)
        normalisation = Normalisation.estimate(buffer.window, processes)
        window = normalisation(buffer.window)
        trainers = [Trainer(make_autoencoder(config, window, processes, device), config) for config in configs]
        del window
        first_step = state.restore(trainers, buffer)

        reported = 0
        for step in range(first_step, shared.steps):
            batch = normalisation(buffer.draw(shared.batch_tokens // processes.count).to(device))
            points = [trainer.step(step, batch) for trainer in trainers]
            for number, point in enumerate(points):
                if point is not None and on_progress is not None:
                    on_progress(number, point)
            if (point := points[-1]) is not None:
                seen = min(point.tokens, shared.tokens)
                name = f"{names[-1]}: " if len(names) > 1 else ""
                advance(seen - reported, f"{name}FVU {point.fvu:.3f}  L0 {point.l0:.1f}  dead {point.dead:.1%}")
                reported = seen
            state.save_when_due(step + 1, trainers, buffer)
        # Written once more, so that an interruption while the SAEs are written loses nothing.
        state.save(shared.steps, trainers, buffer)

        trained = []
        for trainer in trainers:
            sae = trainer.autoencoder.fold(normalisation).to(device)
            unseen = buffer.stream.held_out
            trained.append(
                TrainedSAE(
                    sae,
                    trainer.config,
                    tuple(trainer.history),
                    normalisation.mean_over_std,
                    normalisation.mean_token_norm,
                    buffer.stream.passes,
                    evaluate(sae, unseen, processes) if len(unseen) > 1 else None,
                )
            )
            sae.to("cpu")
        return trained


def _check(configs: Sequence[TrainConfig], processes: Processes, device: torch.device) -> None:
    for name in _BATCH_OPTIONS:
        if len({getattr(config, name) for config in configs}) > 1:
            raise InfoscopeError(f"SAEs trained together have the same {name}; train those that differ apart")
    if configs[0].batch_tokens % processes.count:
        raise InfoscopeError(
            f"--batch-tokens {configs[0].batch_tokens} cannot be divided among {processes.count} processes; "
            "choose a multiple"
        )
    if device.type == "cpu" and any(config.autocast for config in configs):
        raise InfoscopeError("--autocast is for a GPU; leave it out on a CPU")


class Trainer:
    """One SAE in training: its weights, its optimiser, and how long each feature has been silent.

    Args:
        autoencoder: its weights are changed in place.
        config: the options.

    Attributes:
        history: the training curves so far.
    """

    def __init__(self, autoencoder: TrainingAutoencoder, config: TrainConfig):
        self.autoencoder = autoencoder
        self.config = config
        self.history: list[TrainingPoint] = []
        # Adam's epsilon is Gao's: gradients of single weights are small next to the usual 1e-8.
        self._adam = torch.optim.Adam(autoencoder.parameters(), lr=0.0, eps=6.25e-10, fused=True)
        self._silent = torch.zeros(config.features, dtype=torch.int64, device=autoencoder.encoder.device)
        self._seen = 0

    def step(self, step: int, batch: Tensor) -> TrainingPoint | None:
        """Learn from one batch of normalised tokens.

        Args:
            step: its number, from 0.
            batch: this process's part of it, ``[token, width]``.

        Returns:
            A point of the training curves when it is time for one.

        Raises:
            InfoscopeError: the loss is no longer finite.
        """
        config, autoencoder = self.config, self.autoencoder
        with torch.autocast(batch.device.type, torch.bfloat16, enabled=config.autocast):
            output = autoencoder(batch, config.rise(step))
            loss = output.loss
            dead = self._silent >= config.dead_after
            if autoencoder.revives and config.auxk_coefficient > 0 and bool(dead.any()):
                auxk = config.auxk or max(batch.shape[1] // 2, 1)
                loss = loss + config.auxk_coefficient * auxk_loss(autoencoder, batch, output.reconstruction, dead, auxk)

        # From here on, activity and gradients are those of all processes' parts of the batch.
        count = torch.tensor(len(batch), device=batch.device)
        autoencoder.processes.add(output.active, count)
        self._silent = torch.where(output.active > 0, 0, self._silent + int(count))
        self._seen += int(count)
        rate = config.highest_rate * config.factor(step)
        point = None
        if (step + 1) % config.log_every == 0 or step + 1 == config.steps:
            point = self._point(step, batch, output, loss.detach().clone(), int(count), rate)
            self.history.append(point)

        self._adam.zero_grad()
        torch.autograd.backward(loss)
        gradients = [parameter.grad for parameter in autoencoder.parameters() if parameter.grad is not None]
        autoencoder.processes.average(gradients)
        autoencoder.keep_gradient_on_sphere()
        torch.nn.utils.clip_grad_norm_(autoencoder.parameters(), config.clip)
        for parameters in self._adam.param_groups:
            parameters["lr"] = rate
        self._adam.step()
        autoencoder.normalise_decoder()
        return point

    def _point(self, step: int, batch: Tensor, output: Output, loss: Tensor, count: int, rate: float) -> TrainingPoint:
        processes = self.autoencoder.processes
        processes.average([loss])
        if not math.isfinite(float(loss)):
            raise InfoscopeError(f"training diverged before step {step + 1}; choose a lower --learning-rate")
        own = FVU(batch.shape[1])
        own.update(batch, output.reconstruction.detach())
        return TrainingPoint(
            step=step + 1,
            tokens=self._seen,
            loss=float(loss),
            fvu=processes.merge(own).value,
            l0=int(output.active.sum()) / count,
            dead=float((self._silent >= self.config.dead_after).double().mean()),
            learning_rate=rate,
        )

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, by name; the curves apart."""
        tensors = {f"weight.{name}": tensor for name, tensor in self.autoencoder.state_dict().items()}
        for number, moments in self._adam.state_dict()["state"].items():
            tensors |= {f"adam.{number}.{name}": tensor for name, tensor in moments.items()}
        return tensors | {"silent": self._silent, "seen": torch.tensor(self._seen)}

    def restore(self, state: dict[str, Tensor], history: list[TrainingPoint]) -> None:
        """Resume from what `state` gave."""
        weights = {name.removeprefix("weight."): state[name] for name in state if name.startswith("weight.")}
        self.autoencoder.load_state_dict(weights)
        adam = self._adam.state_dict()
        for name, tensor in state.items():
            if name.startswith("adam."):
                _, number, moment = name.split(".", 2)
                adam["state"].setdefault(int(number), {})[moment] = tensor
        self._adam.load_state_dict(adam)
        self._silent = state["silent"].to(self._silent.device)
        self._seen = int(state["seen"])
        self.history = list(history)
