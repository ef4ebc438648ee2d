"""A linear head's weights, and how its candidates are told apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32

# The logit of a class that training never saw: finite, so that it can be interpolated, and its share is 0.
NEVER = -1e4


def product(
    first: Float[np.ndarray, "row inner"], second: Float[np.ndarray, "inner column"]
) -> Float[np.ndarray, "row column"]:
    """A matrix product by torch's threads.

    numpy's would come from a pool of its own, whose threads spin for a while after each product and take the cores
    from torch's, which are next.

    Example:
        >>> product(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]])).tolist()
        [[11.0]]
    """
    found: np.ndarray = torch.matmul(_tensor(first), _tensor(second)).numpy()
    return found


def _tensor(values: Float[np.ndarray, "row column"]) -> torch.Tensor:
    # torch takes no array that cannot be written to or that runs backwards; a transposed one is as good as any.
    strides = all(step > 0 for step in values.strides)
    return torch.from_numpy(values if values.flags.writeable and strides else values.copy())


@dataclass(frozen=True)
class Linear:
    """One linear layer on raw features.

    Attributes:
        weight: ``[output, feature]``.
        bias: ``[output]``.
    """

    weight: Float32[np.ndarray, "output feature"]
    bias: Float32[np.ndarray, " output"]

    def __call__(self, rows: Float32[np.ndarray, "row feature"]) -> Float32[np.ndarray, "row output"]:
        """The layer's outputs.

        Example:
            >>> Linear(np.eye(2, dtype=np.float32), np.ones(2, np.float32))(np.ones((1, 2), np.float32)).tolist()
            [[2.0, 2.0]]
        """
        out = product(rows, self.weight.T)
        out += self.bias
        return out


@dataclass(frozen=True)
class Candidate:
    """One head among those tried.

    Attributes:
        input: what it reads, by its recipe's name for it.
        setting: its learning rate, as the recipe lists it, or its strength.
        score: on the held-out part: top-1 accuracy, mIoU, or RMSE.
        loss: on the held-out part, where it is reported: decides between equal scores.
    """

    input: str
    setting: float
    score: float
    loss: float


def best(candidates: tuple[Candidate, ...], *, lowest: bool = False) -> int:
    """Which candidate has the best score; the lower loss, then the earlier, among equals. NaN is never the best.

    Args:
        candidates: in the order tried.
        lowest: whether the lowest score is the best.

    Example:
        >>> tried = tuple(Candidate("cls", 0.1, score, loss) for score, loss in ((0.5, 1.0), (0.9, 2.0), (0.9, 1.0)))
        >>> best(tried)
        2
    """

    def key(at: int) -> tuple[float, float]:
        score = candidates[at].score if lowest else -candidates[at].score
        loss = candidates[at].loss
        return (np.inf if np.isnan(score) else score, np.inf if np.isnan(loss) else loss)

    return min(range(len(candidates)), key=key)
