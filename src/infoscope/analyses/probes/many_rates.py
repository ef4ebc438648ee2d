"""Linear classifiers of many learning rates trained together by SGD: one product for all of them at every step.

Each learns exactly as it would alone: the batches are the same, and no head's numbers enter another's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from infoscope.analyses.probes.convex import Linear
from infoscope.analyses.probes.solvers import Sgd


@dataclass(frozen=True, eq=False)
class Stack:
    """Heads on one input, a learning rate each.

    Classes come first and heads second, so that a softmax runs along rows of memory: with ten classes it is tens of
    times as fast as over the last axis. The bias is the weight of a feature that is always 1, given with the rows.

    Attributes:
        weight: ``[class * head, feature + 1]``.
        momentum: the same, times each head's learning rate.
        rates: of each head, for the batch in use.
        classes: how many.
        product: the type in which products are taken; weights and momentum are float32.
    """

    weight: Float32[Tensor, "output feature"]
    momentum: Float32[Tensor, "output feature"]
    rates: Float32[Tensor, " head"]
    classes: int
    product: torch.dtype

    @classmethod
    def start(
        cls,
        features: int,
        classes: int,
        solver: Sgd,
        batch: int,
        generator: torch.Generator,
        device: torch.device,
        product: torch.dtype = torch.float32,
    ) -> Stack:
        """Heads before their first step; all start from the same weights."""
        drawn = torch.empty(classes, features).normal_(0, solver.start_std, generator=generator)
        first = torch.cat([drawn, drawn.new_zeros(classes, 1)], 1)
        rates = torch.tensor(solver.learning_rates, dtype=torch.float32) * (batch / 256)
        weight = first[:, None].expand(-1, len(rates), -1).reshape(-1, features + 1).to(device)
        return cls(weight, torch.zeros_like(weight), rates.to(device), classes, product)

    @property
    def heads(self) -> int:
        """How many learning rates."""
        return len(self.rates)

    def step(
        self,
        rows: Float[Tensor, "row feature"],
        labels: Int64[Tensor, " row"],
        pace: float,
        momentum: float,
    ) -> None:
        """One step of every head.

        Args:
            rows: the batch, with a last column of ones, in ``product``'s type.
            labels: its classes.
            pace: share of the learning rates at this step.
            momentum: share of the last step's change that goes on.

        Example:
            >>> solver = Sgd(learning_rates=(0.1, 1.0), start_std=0.0)
            >>> stack = Stack.start(1, 2, solver, 256, torch.Generator(), torch.device("cpu"))
            >>> stack.step(torch.ones(2, 2), torch.tensor([0, 0]), pace=1.0, momentum=0.9)
            >>> stack.weight[:, 0].tolist()
            [0.05..., 0.5, -0.05..., -0.5]
        """
        count = len(rows)
        logits = self.weight.to(self.product) @ rows.T
        error = _softmax(logits.view(self.classes, -1))
        error = error.view(self.classes, self.heads, count)
        at = labels.expand(1, self.heads, -1)
        error.scatter_add_(0, at, error.new_full((1, 1, 1), -1.0).expand_as(at))
        error *= (self.rates / count).to(error.dtype)[None, :, None]
        slope = error.view(-1, count)
        if self.product == torch.float32:
            torch.addmm(self.momentum, slope, rows, beta=momentum, out=self.momentum)
        else:
            self.momentum.mul_(momentum).add_(slope @ rows)
        self.weight.add_(self.momentum, alpha=-pace)

    def linear(self, head: int) -> Linear:
        """One head as it is."""
        rows = self.weight.view(self.classes, self.heads, -1)[:, head]
        return Linear(rows[:, :-1].cpu().numpy().copy(), rows[:, -1].cpu().numpy().copy())

    def logits(self, rows: Float[Tensor, "row feature"]) -> Float[Tensor, "class head row"]:
        """Of all heads, for rows with a last column of ones."""
        return (self.weight.to(rows.dtype) @ rows.T).view(self.classes, self.heads, -1)


def _softmax(logits: Float[Tensor, "class column"]) -> Float[Tensor, "class column"]:
    """Along the classes, in place."""
    logits -= logits.amax(0)
    logits.exp_()
    logits /= logits.sum(0)
    return logits


def pace(step: int, steps: int) -> float:
    """Share of the learning rate at a step, along half a cosine from 1 to 0.

    Example:
        >>> pace(0, 10), round(pace(5, 10), 3)
        (1.0, 0.5)
    """
    return (1 + math.cos(math.pi * step / steps)) / 2


def steps_of(solver: Sgd, rows: int) -> tuple[int, int]:
    """Rows to a batch, and how many steps there are.

    Example:
        >>> steps_of(Sgd(), rows=1_281_167), steps_of(Sgd(), rows=320)
        ((1024, 12510), (320, 1250))
    """
    batch = min(solver.batch, rows)
    return batch, max(solver.least_steps, solver.epochs * (rows // batch))
