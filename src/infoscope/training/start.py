"""Where training starts from, when it starts from the tokens."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from infoscope.training.autoencoder import random_directions

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
