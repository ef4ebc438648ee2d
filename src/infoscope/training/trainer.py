"""One SAE in training: its optimiser, and how long each feature has been silent."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from infoscope.dictionaries.fvu import FVU
from infoscope.errors import InfoscopeError
from infoscope.training.autoencoder import Output, TrainingAutoencoder, auxk_loss
from infoscope.training.config import TrainConfig
from infoscope.training.result import TrainingPoint


class Trainer:
    """Learns batch by batch.

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
        # Adam's epsilon as in Gao: gradients of single weights are small next to the usual 1e-8.
        self._adam = torch.optim.Adam(autoencoder.parameters(), lr=0.0, eps=6.25e-10, fused=True)
        self._silent = torch.zeros(config.features, dtype=torch.int64, device=autoencoder.encoder.device)
        self._seen = 0

    def step(self, step: int, batch: Tensor) -> TrainingPoint | None:
        """Learn from one batch of normalised tokens.

        Args:
            step: its number, from 0.
            batch: ``[token, width]``; this process's part.

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
        rate = config.highest_rate * config.factor(step)
        count = torch.tensor(len(batch), device=batch.device)
        autoencoder.processes.add(output.active, count)
        self._silent = torch.where(output.active > 0, 0, self._silent + int(count))
        self._seen += int(count)
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
        for group in self._adam.param_groups:
            group["lr"] = rate
        self._adam.step()
        autoencoder.normalise_decoder()
        return point

    def state(self) -> dict[str, Tensor]:
        """All that a step depends on, by name; the curves apart."""
        tensors = {f"weight.{name}": tensor for name, tensor in self.autoencoder.state_dict().items()}
        for number, moments in self._adam.state_dict()["state"].items():
            tensors |= {f"adam.{number}.{name}": tensor for name, tensor in moments.items()}
        return tensors | {"silent": self._silent, "seen": torch.tensor(self._seen)}

    def restore(self, state: dict[str, Tensor], history: list[TrainingPoint]) -> None:
        """Go on from what `state` gave."""
        prefix = "weight."
        weights = {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
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

    def _point(self, step: int, batch: Tensor, output: Output, loss: Tensor, count: int, rate: float) -> TrainingPoint:
        processes = self.autoencoder.processes
        processes.average([loss])
        if not math.isfinite(float(loss)):
            raise InfoscopeError(f"training diverged before step {step + 1}; choose a lower --learning-rate")
        mine, fvu = FVU(batch.shape[1]), FVU(batch.shape[1])
        mine.update(batch, output.reconstruction.detach())
        for arrays in processes.gather(mine.arrays()):
            fvu.merge(FVU.from_arrays(arrays))
        return TrainingPoint(
            step=step + 1,
            tokens=self._seen,
            loss=float(loss),
            fvu=fvu.value,
            l0=int(output.active.sum()) / count,
            dead=float((self._silent >= self.config.dead_after).double().mean()),
            learning_rate=rate,
        )
