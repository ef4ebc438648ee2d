"""`train_on_tokens`: from a stream of tokens to an SAE; it knows nothing of images or models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infoscope.dictionaries.activations import ReLU, TopK
from infoscope.dictionaries.fvu import FVU
from infoscope.dictionaries.loading import save_sae
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.training.autoencoder import Output, TrainingAutoencoder
from infoscope.training.config import TrainConfig
from infoscope.training.loss import auxk_loss, reconstruction_loss
from infoscope.training.normalisation import Normalisation
from infoscope.training.stream import ShuffleBuffer


@dataclass(frozen=True)
class TrainingPoint:
    """One point of the training curves, taken on one batch before its step.

    Attributes:
        step: batches seen, this one included.
        tokens: tokens seen.
        loss: what is minimised.
        fvu: fraction of variance unexplained.
        l0: codes above 0 a token.
        dead: share of features that fired on none of the last ``dead_after`` tokens; 0 before that many were seen.
        learning_rate: of this step.
    """

    step: int
    tokens: int
    loss: float
    fvu: float
    l0: float
    dead: float
    learning_rate: float


@dataclass(frozen=True)
class TrainedSAE:
    """An SAE, and how it came about.

    Attributes:
        sae: on raw tokens, on the CPU; decoder rows have length 1.
        config: the options it was trained with.
        history: the training curves; the last point is of the last step.
        mean_over_std: |mean| / |std| of the tokens before centring.
        passes: passes over the tokens that were begun.
    """

    sae: SparseAutoencoder
    config: TrainConfig
    history: tuple[TrainingPoint, ...]
    mean_over_std: float
    passes: int

    def save(self, directory: str | Path, site: Mapping[str, Any] | None = None) -> None:
        """Write the SAE directory: weights, description and training curves.

        Args:
            directory: where to.
            site: where the tokens came from: model, revision, block, ...

        Raises:
            InfoscopeError: the directory cannot be written.
        """
        last = self.history[-1]
        training = {
            "config": asdict(self.config),
            "mean_over_std": self.mean_over_std,
            "passes": self.passes,
            "fvu": last.fvu,
            "l0": last.l0,
            "dead": last.dead,
        }
        columns = [field.name for field in fields(TrainingPoint)]
        curves = {column: [getattr(point, column) for point in self.history] for column in columns}
        save_sae(self.sae, directory, site=site, training=training, curves=curves)


def train_on_tokens(
    tokens: Iterable[Tensor],
    config: TrainConfig,
    *,
    device: str | torch.device = "cpu",
    on_progress: Callable[[TrainingPoint], None] | None = None,
) -> TrainedSAE:
    """Train a sparse autoencoder.

    On one machine the same tokens, options and seed give the same weights; the sizes of the batches that tokens come
    in do not matter.

    Args:
        tokens: gives tensors ``[token, width]``, the same ones each time it is iterated; as many passes are made as
            ``config.tokens`` takes. Images should come in random order: a batch mixes no more than
            ``config.buffer_tokens`` consecutive tokens. A `TokenPool` keeps what fits in memory.
        config: the options.
        device: where to train.
        on_progress: called with each point of the training curves.

    Raises:
        InfoscopeError: the tokens run out, are not finite or all the same, or training diverges.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> tokens = [torch.randn(512, 8, generator=generator)]
        >>> trained = train_on_tokens(tokens, TrainConfig(features=16, k=4, tokens=4096, batch_tokens=256))
        >>> trained.sae.features, trained.passes, trained.history[-1].step
        (16, 8, 16)
    """
    buffer = ShuffleBuffer(tokens, config.buffer_tokens, config.tokens, config.seed)
    normalisation = Normalisation.estimate(buffer.window)
    width = buffer.window.shape[1]
    activation = TopK(config.k) if config.activation == "topk" else ReLU()
    autoencoder = TrainingAutoencoder(width, config.features, activation, config.seed).to(device)
    trainer = Trainer(autoencoder, config)
    history: list[TrainingPoint] = []
    for step in range(config.steps):
        batch = normalisation(buffer.draw(config.batch_tokens).to(device))
        point = trainer.step(step, batch)
        if point is not None:
            history.append(point)
            if on_progress is not None:
                on_progress(point)
    sae = normalisation.fold(
        autoencoder.encoder,
        autoencoder.encoder_bias,
        autoencoder.decoder,
        autoencoder.decoder_bias,
        activation,
    )
    return TrainedSAE(sae, config, tuple(history), normalisation.mean_over_std, buffer.passes)


class Trainer:
    """The optimiser, and how long each feature has been silent.

    Args:
        autoencoder: its weights are changed in place.
        config: the options.
    """

    def __init__(self, autoencoder: TrainingAutoencoder, config: TrainConfig):
        self._autoencoder = autoencoder
        self._config = config
        # Adam's epsilon as in Gao: gradients of single weights are small next to the usual 1e-8.
        self._adam = torch.optim.Adam(autoencoder.parameters(), lr=0.0, eps=6.25e-10, fused=True)
        self._silent = torch.zeros(config.features, dtype=torch.int64, device=autoencoder.encoder.device)
        self._seen = 0

    def step(self, step: int, batch: Tensor) -> TrainingPoint | None:
        """Learn from one batch of normalised tokens.

        Args:
            step: its number, from 0.
            batch: ``[token, width]``.

        Returns:
            A point of the training curves when it is time for one.

        Raises:
            InfoscopeError: the loss is no longer finite.
        """
        config, autoencoder = self._config, self._autoencoder
        width = batch.shape[1]
        output = autoencoder(batch)
        dead = self._silent >= config.dead_after
        loss = reconstruction_loss(batch, output.reconstruction)
        if config.activation == "relu":
            loss = loss + config.l1 * config.rise(step) * output.l1 / width
        elif config.auxk_coefficient > 0 and bool(dead.any()):
            auxk = config.auxk or max(width // 2, 1)
            loss = loss + config.auxk_coefficient * auxk_loss(autoencoder, batch, output.reconstruction, dead, auxk)
        rate = config.learning_rate * config.factor(step)
        self._silent = torch.where(output.active > 0, 0, self._silent + len(batch))
        self._seen += len(batch)
        point = None
        if (step + 1) % config.log_every == 0 or step + 1 == config.steps:
            point = self._point(step, batch, output, float(loss.detach()), rate)
        self._adam.zero_grad()
        torch.autograd.backward(loss)
        autoencoder.keep_gradient_on_sphere()
        torch.nn.utils.clip_grad_norm_(autoencoder.parameters(), config.clip)
        for group in self._adam.param_groups:
            group["lr"] = rate
        self._adam.step()
        autoencoder.normalise_decoder()
        return point

    def _point(self, step: int, batch: Tensor, output: Output, loss: float, rate: float) -> TrainingPoint:
        if not math.isfinite(loss):
            raise InfoscopeError(f"training diverged before step {step + 1}; choose a lower --learning-rate")
        fvu = FVU(batch.shape[1])
        fvu.update(batch, output.reconstruction.detach())
        return TrainingPoint(
            step=step + 1,
            tokens=self._seen,
            loss=loss,
            fvu=fvu.value,
            l0=int(output.active.sum()) / len(batch),
            dead=float((self._silent >= self._config.dead_after).double().mean()),
            learning_rate=rate,
        )
