"""The variants of SAE that can be trained, by the name of the activation function, and where each starts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from infoscope.training.autoencoder import TrainingAutoencoder, random_directions
from infoscope.training.config import TrainConfig
from infoscope.training.kept import BatchTopKAutoencoder, TopKAutoencoder
from infoscope.training.penalised import GatedAutoencoder, JumpReLUAutoencoder, ReLUAutoencoder
from infoscope.training.processes import Processes

# Our choice: enough tokens for a median of each coordinate to a hundredth of its spread.
MEDIAN_TOKENS = 16_384
_STEPS = 100
_CLOSE_ENOUGH = 1e-6


def data_directions(tokens: Float[Tensor, "token width"], features: int, seed: int) -> Float[Tensor, "feature width"]:
    """Directions of random tokens, of length 1; where there are fewer tokens than features the rest is random.

    Args:
        tokens: centred tokens.
        features: how many.
        seed: of the choice.

    Example:
        >>> data_directions(torch.tensor([[3.0, 4.0], [0.0, 2.0]]), features=2, seed=0).norm(dim=1).tolist()
        [1.0, 1.0]
    """
    directions = random_directions(tokens.shape[1], features, seed)
    chosen = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(seed))[:features]
    lengths = tokens[chosen].norm(dim=1)
    chosen = chosen[lengths > 0]
    directions[: len(chosen)] = functional.normalize(tokens[chosen], dim=1)
    return directions


def geometric_median(tokens: Float[Tensor, "token width"]) -> Float[Tensor, " width"]:
    """The point whose summed distance from the tokens is least, by Weiszfeld's iteration in float64.

    Outlier tokens, which carry a mean away, move it little (Bricken et al. 2023, "Towards Monosemanticity").

    Args:
        tokens: at most `MEDIAN_TOKENS` of them, evenly spread, are looked at.

    Example:
        >>> geometric_median(torch.tensor([[0.0], [1.0], [100.0]])).round(decimals=3).tolist()
        [1.0]
    """
    sample = tokens[:: -(-len(tokens) // MEDIAN_TOKENS)].double()
    median = sample.mean(0)
    for _ in range(_STEPS):
        weight = 1 / (sample - median).norm(dim=1).clamp_min(1e-12)
        following = (weight @ sample) / weight.sum()
        moved = (following - median).norm()
        median = following
        if moved <= _CLOSE_ENOUGH * sample.shape[1] ** 0.5:
            break
    return median.float()


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
