"""From a stream of tokens to SAEs; nothing here knows of images or models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infoscope.errors import InfoscopeError
from infoscope.training.autoencoder import Normalisation
from infoscope.training.checkpoint import EVERY_SECONDS, Checkpoints, Witness
from infoscope.training.config import TrainConfig
from infoscope.training.held_out import evaluate
from infoscope.training.processes import Processes
from infoscope.training.result import TrainedSAE, TrainingPoint
from infoscope.training.stream import ShuffleBuffer
from infoscope.training.trainer import Trainer
from infoscope.training.variants import make_autoencoder

Report = Callable[[int, TrainingPoint], None]

# What several SAEs that share their batches must have the same.
_OF_THE_BATCHES = ("tokens", "batch_tokens", "buffer_tokens", "seed", "log_every")


def train_on_tokens(tokens: Iterable[Tensor], config: TrainConfig, **options: Any) -> TrainedSAE:
    """Train a sparse autoencoder; see `train_several`.

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
    on_progress: Report | None = None,
) -> list[TrainedSAE]:
    """Train sparse autoencoders on the same batches, in one pass over the tokens.

    On one machine the same tokens, options and seed give the same weights; the sizes of the batches that tokens come
    in do not matter, nor which other SAEs are trained beside, nor whether the training was stopped and gone on with.

    Args:
        tokens: gives tensors ``[token, width]``, the same ones each time it is iterated; as many passes are made as
            ``config.tokens`` takes. Images should come in random order: a batch mixes no more than
            ``config.buffer_tokens`` consecutive tokens. A `TokenPool` keeps what fits in memory.
        configs: the options of each SAE; the same in all that makes the batches.
        device: where to train.
        held_out: so many tokens of the beginning of each pass are not trained on, and the SAEs looked at on them.
        processes: those that train together; each is given tokens of its own, and its share of every batch.
        checkpoints: a folder for the state of an unfinished training; one that is there is gone on from.
        checkpoint_seconds: how much of the work a stop may lose.
        identity: what made the tokens, as JSON values; a checkpoint of others is refused.
        images: what the tokens are made from, or the files they are in, where a checkpoint is to know whether these are
            still the same.
        on_progress: called with the number of an SAE and each point of its training curves.

    Returns:
        The SAEs in the order of ``configs``.

    Raises:
        InfoscopeError: the tokens run out, are not finite or all the same, training diverges, or a checkpoint cannot be
            written, read or is another training's.

    Example:
        >>> tokens = [torch.randn(512, 8, generator=torch.Generator().manual_seed(0))]
        >>> options = {"features": 16, "tokens": 2048, "batch_tokens": 256}
        >>> first, second = train_several(tokens, [TrainConfig(k=2, **options), TrainConfig(k=4, **options)])
        >>> str(first.sae.activation), str(second.sae.activation)
        ('topk(2)', 'topk(4)')
    """
    processes = processes or Processes()
    shared = _shared(configs)
    batch = shared.batch_tokens // processes.count
    if batch * processes.count != shared.batch_tokens:
        raise InfoscopeError(
            f"--batch-tokens {shared.batch_tokens} cannot be shared out to {processes.count} processes; "
            "choose a multiple"
        )
    if torch.device(device).type == "cpu" and any(config.autocast for config in configs):
        raise InfoscopeError("--autocast is for a GPU; leave it out on a CPU")
    # Rounded up, so that none is left without tokens in the last step.
    total = -(-shared.tokens // processes.count)
    plan = {"held_out": held_out, "device": torch.device(device).type, "torch": torch.__version__}
    saved = Checkpoints(checkpoints, configs, {**(identity or {}), **plan}, processes, checkpoint_seconds, images)
    buffer = ShuffleBuffer(tokens, shared.buffer_tokens, total, shared.seed + processes.rank, held_out)
    normalisation = Normalisation.estimate(buffer.window, processes)
    window = normalisation(buffer.window)
    trainers = [Trainer(make_autoencoder(config, window, processes, device), config) for config in configs]
    del window
    begin = saved.restore(trainers, buffer)
    for step in range(begin, shared.steps):
        drawn = normalisation(buffer.draw(batch).to(device))
        for number, trainer in enumerate(trainers):
            point = trainer.step(step, drawn)
            if point is not None and on_progress is not None:
                on_progress(number, point)
        saved.save_when_due(step + 1, trainers, buffer)
    # So that a stop while the SAEs are written loses nothing.
    saved.save(shared.steps, trainers, buffer)
    results = []
    for trainer in trainers:
        sae = trainer.autoencoder.fold(normalisation)
        results.append(
            TrainedSAE(
                sae,
                trainer.config,
                tuple(trainer.history),
                normalisation.mean_over_std,
                normalisation.mean_token_norm,
                buffer.passes,
                evaluate(sae.to(device), buffer.held_out, processes) if len(buffer.held_out) > 1 else None,
            )
        )
        sae.to("cpu")
    return results


def _shared(configs: Sequence[TrainConfig]) -> TrainConfig:
    first = configs[0]
    for config in configs:
        for name in _OF_THE_BATCHES:
            if getattr(config, name) != getattr(first, name):
                raise InfoscopeError(f"SAEs trained together have the same {name}; train those that differ apart")
    return first
