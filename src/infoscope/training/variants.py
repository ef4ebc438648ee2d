"""The variants of SAE that can be trained, and where the weights of each start."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from infoscope.training.autoencoder import TrainingAutoencoder
from infoscope.training.config import ActivationName, TrainConfig
from infoscope.training.penalised import GatedAutoencoder, JumpReLUAutoencoder, ReLUAutoencoder
from infoscope.training.processes import Processes
from infoscope.training.topk import BatchTopKAutoencoder, TopKAutoencoder

VARIANTS: dict[ActivationName, type[TrainingAutoencoder]] = {
    "topk": TopKAutoencoder,
    "batchtopk": BatchTopKAutoencoder,
    "relu": ReLUAutoencoder,
    "gated": GatedAutoencoder,
    "jumprelu": JumpReLUAutoencoder,
}

# Our choice: enough tokens for a median of each coordinate to within a hundredth of its spread.
MEDIAN_TOKENS = 16_384
# When Weiszfeld's iteration stops: after so many steps, or once it moves a coordinate by no more than this.
_STEPS, _TOLERANCE = 100, 1e-6


def make_autoencoder(
    config: TrainConfig, window: Tensor, processes: Processes, device: str | torch.device
) -> TrainingAutoencoder:
    """The autoencoder at its start.

    Args:
        config: the options.
        window: normalised tokens to start from, ``[token, width]``.
        processes: those that train it together; all of them start with the first one's weights.
        device: where to put it.

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
    autoencoder = VARIANTS[config.activation](directions, bias, config, processes).to(device)
    autoencoder.prepare(window)
    processes.share(parameter.data for parameter in autoencoder.parameters())
    return autoencoder


def random_directions(width: int, features: int, seed: int) -> Float[Tensor, "feature width"]:
    """Random rows of length 1.

    Example:
        >>> random_directions(width=8, features=3, seed=0).norm(dim=1).round(decimals=4).tolist()
        [1.0, 1.0, 1.0]
    """
    directions = torch.randn(features, width, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(directions, dim=1)


def data_directions(tokens: Float[Tensor, "token width"], features: int, seed: int) -> Float[Tensor, "feature width"]:
    """Directions of random tokens, of length 1; where there are fewer tokens than features, the rest are random.

    Args:
        tokens: centred tokens.
        features: how many directions.
        seed: determines which tokens.

    Example:
        >>> data_directions(torch.tensor([[3.0, 4.0], [0.0, 2.0]]), features=2, seed=0).norm(dim=1).tolist()
        [1.0, 1.0]
    """
    directions = random_directions(tokens.shape[1], features, seed)
    chosen = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(seed))[:features]
    chosen = chosen[tokens[chosen].norm(dim=1) > 0]
    directions[: len(chosen)] = functional.normalize(tokens[chosen], dim=1)
    return directions


def geometric_median(tokens: Float[Tensor, "token width"]) -> Float[Tensor, " width"]:
    """The point with the least summed distance from the tokens, by Weiszfeld's iteration in float64.

    Outlier tokens, which drag a mean away, move it little (Bricken et al. 2023, "Towards Monosemanticity").

    Args:
        tokens: at most `MEDIAN_TOKENS` of them are used, evenly spread.

    Example:
        >>> geometric_median(torch.tensor([[0.0], [1.0], [100.0]])).round(decimals=3).tolist()
        [1.0]
    """
    sample = tokens[:: -(-len(tokens) // MEDIAN_TOKENS)].double()
    median = sample.mean(0)
    for _ in range(_STEPS):
        weight = 1 / (sample - median).norm(dim=1).clamp_min(1e-12)
        previous, median = median, (weight @ sample) / weight.sum()
        if (median - previous).norm() <= _TOLERANCE * sample.shape[1] ** 0.5:
            break
    return median.float()
