"""The variants of SAE that can be trained, by the name of the activation function."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from infoscope.training.autoencoder import TrainingAutoencoder, random_directions
from infoscope.training.config import TrainConfig
from infoscope.training.kept import BatchTopKAutoencoder, TopKAutoencoder
from infoscope.training.penalised import GatedAutoencoder, JumpReLUAutoencoder, ReLUAutoencoder
from infoscope.training.processes import Processes
from infoscope.training.start import data_directions, geometric_median

Start = tuple[Tensor, Tensor, Processes]

VARIANTS: dict[str, Callable[[Start, TrainConfig], TrainingAutoencoder]] = {
    "topk": lambda start, config: TopKAutoencoder(*start, k=config.k, prefixes=config.groups),
    "batchtopk": lambda start, config: BatchTopKAutoencoder(*start, k=config.k, prefixes=config.groups),
    "relu": lambda start, config: ReLUAutoencoder(*start, l1=config.l1),
    "gated": lambda start, config: GatedAutoencoder(*start, l1=config.l1),
    "jumprelu": lambda start, config: JumpReLUAutoencoder(
        *start, l0=config.l0, l0_loss=config.l0_loss, weight=config.l0_weight, bandwidth=config.bandwidth
    ),
}


def make_autoencoder(
    config: TrainConfig, window: Tensor, processes: Processes, device: str | torch.device
) -> TrainingAutoencoder:
    """The autoencoder at its start.

    Args:
        config: the options.
        window: normalised tokens to start from, ``[token, width]``.
        processes: those that train it together; they start with the weights of the first.
        device: where to.

    Example:
        >>> window = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
        >>> autoencoder = make_autoencoder(TrainConfig(features=16, k=4), window, Processes(), "cpu")
        >>> autoencoder(window, rise=1.0).reconstruction.shape
        torch.Size([50, 8])
    """
    bias = geometric_median(window) if config.bias_start == "median" else torch.zeros(window.shape[1])
    if config.start == "data":
        directions = data_directions(window - bias, config.features, config.seed)
    else:
        directions = random_directions(window.shape[1], config.features, config.seed)
    autoencoder = VARIANTS[config.activation]((directions, bias, processes), config).to(device)
    autoencoder.look_at(window)
    processes.share(parameter.data for parameter in autoencoder.parameters())
    return autoencoder
