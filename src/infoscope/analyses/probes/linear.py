"""Linear layers on frozen features, and the choice of one among those that were trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Float32


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
    result: np.ndarray = torch.matmul(_tensor(first), _tensor(second)).numpy()
    return result


# `product` has had its matrices checked.
@no_type_check
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
        converged: False where its training came to the limit of steps first.
    """

    weight: Float32[np.ndarray, "output feature"]
    bias: Float32[np.ndarray, " output"]
    converged: bool = True

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


@dataclass(frozen=True)
class Head:
    """A trained layer, and how it was chosen.

    Attributes:
        linear: the layer on raw features.
        chosen: the candidate it is.
        candidates: all that were tried, with their scores on the held-out images.
        trained_on: images behind the weights.
        held_out: images behind the choice.
    """

    linear: Linear
    chosen: Candidate
    candidates: tuple[Candidate, ...]
    trained_on: int
    held_out: int

    def choice(self) -> dict[str, Any]:
        """Those fields of a `Score` that tell how the head was chosen."""
        stopped = f"a head of strength {self.chosen.setting:g} was not done when its steps ran out: its score may rise"
        return {
            "notes": () if self.linear.converged else (stopped,),
            "validation": self.chosen.score,
            "chosen": _described(self.chosen) | {"trained_on": self.trained_on, "held_out": self.held_out},
            "candidates": tuple(_described(candidate) for candidate in self.candidates),
        }


def _described(candidate: Candidate) -> dict[str, Any]:
    """As JSON values; a score that is not finite is None."""
    return {
        "input": candidate.input,
        "setting": candidate.setting,
        "score": candidate.score if np.isfinite(candidate.score) else None,
    }
