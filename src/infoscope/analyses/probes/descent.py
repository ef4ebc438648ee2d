"""Layers of many learning rates, trained together by AdamW on whole pictures: their weights, steps and schedule."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from infoscope.analyses.probes.solvers import AdamW


@dataclass(frozen=True, eq=False)
class Layers:
    """One linear layer a learning rate, side by side; with batch norm, each has a scale and shift of its own.

    A batch's moments, and the running ones, are of the features alone, so all heads share them and each is what it
    would be alone. Scale and shift are folded into the product: one product serves all heads.

    Attributes:
        weight: ``[head, output, feature]``.
        bias: ``[head, output]``.
        scale: ``[head, feature]``; None without batch norm.
        shift: ``[head, feature]``; None without batch norm.
    """

    weight: Float32[Tensor, "head output feature"]
    bias: Float32[Tensor, "head output"]
    scale: Float32[Tensor, "head feature"] | None
    shift: Float32[Tensor, "head feature"] | None

    @classmethod
    def start(
        cls, features: int, outputs: int, solver: AdamW, *, batch_norm: bool, seed: int, device: torch.device
    ) -> Layers:
        """Before the first step; all heads start from the same weights."""
        heads = len(solver.learning_rates)
        first = torch.zeros(outputs, features)
        first.normal_(0, solver.start_std, generator=torch.Generator().manual_seed(seed))
        return cls(
            first.expand(heads, -1, -1).to(device, copy=True).contiguous(),
            torch.zeros(heads, outputs, device=device),
            torch.ones(heads, features, device=device) if batch_norm else None,
            torch.zeros(heads, features, device=device) if batch_norm else None,
        )

    @property
    def heads(self) -> int:
        """How many learning rates."""
        return len(self.weight)

    def folded(self) -> tuple[Float32[Tensor, "head output feature"], Float32[Tensor, "head output"]]:
        """Weights and biases for features that are normalised, scale and shift inside."""
        if self.scale is None or self.shift is None:
            return self.weight, self.bias
        return self.weight * self.scale[:, None], self.bias + torch.einsum("hof,hf->ho", self.weight, self.shift)

    def outputs(self, rows: Float32[Tensor, "row feature"]) -> Float32[Tensor, "row head output"]:
        """Of all heads."""
        weight, bias = self.folded()
        flat = torch.addmm(bias.flatten(), rows, weight.flatten(0, 1).T)
        return flat.view(len(rows), *bias.shape)

    def slopes(
        self, rows: Float32[Tensor, "row feature"], slope: Float32[Tensor, "row head output"]
    ) -> dict[str, Tensor]:
        """Slopes of all parameters from those of the outputs; a head a row, as the parameters are."""
        folded = (slope.flatten(1).T @ rows).view_as(self.weight)
        bias = slope.sum(0)
        if self.scale is None or self.shift is None:
            return {"weight": folded, "bias": bias}
        return {
            "weight": folded * self.scale[:, None] + bias[:, :, None] * self.shift[:, None],
            "bias": bias,
            "scale": (folded * self.weight).sum(1),
            "shift": torch.einsum("hof,ho->hf", self.weight, bias),
        }

    def parameters(self) -> dict[str, Tensor]:
        """All there are."""
        every = {"weight": self.weight, "bias": self.bias, "scale": self.scale, "shift": self.shift}
        return {name: each for name, each in every.items() if each is not None}


class Steps:
    """torch's AdamW on every head at its own learning rate, on the heads' shared memory."""

    def __init__(self, layers: Layers, solver: AdamW, steps: int) -> None:
        self.solver, self.steps, self.step = solver, steps, 0
        self._named = layers.parameters()
        self._heads = [
            {name: torch.nn.Parameter(each[head]) for name, each in self._named.items()} for head in range(layers.heads)
        ]
        groups = [
            {"params": list(head.values()), "lr": rate}
            for head, rate in zip(self._heads, solver.learning_rates, strict=True)
        ]
        self._optimizer = torch.optim.AdamW(groups, betas=solver.betas, weight_decay=solver.weight_decay)

    def take(self, slopes: dict[str, Tensor]) -> None:
        """One step of every head."""
        share = pace(self.solver, self.step, self.steps)
        for at, (head, group, rate) in enumerate(
            zip(self._heads, self._optimizer.param_groups, self.solver.learning_rates, strict=True)
        ):
            for name, parameter in head.items():
                parameter.grad = slopes[name][at]
            if self.solver.clip is not None:
                torch.nn.utils.clip_grad_norm_(list(head.values()), self.solver.clip)
            group["lr"] = rate * share
        self._optimizer.step()
        self.step += 1


def pace(solver: AdamW, step: int, steps: int) -> float:
    """Share of the learning rate at a step: a line up, times a line or half a cosine down.

    Example:
        >>> from infoscope.analyses.probes.recipes import find_recipe
        >>> solver = find_recipe("dinov2").segmentation.solver
        >>> [round(pace(solver, step, 40000), 4) for step in (0, 750, 1500, 20000)]
        [0.0, 0.4906, 0.9625, 0.5]
    """
    done = step / steps
    falling = 1 - done if solver.decay == "linear" else (1 + math.cos(math.pi * done)) / 2
    warm = step / (solver.warmup * steps) if solver.warmup * steps >= 1 else 1.0
    return falling * (1 - (1 - min(warm, 1.0)) * (1 - solver.warmup_start))


def plan(solver: AdamW, images: int) -> tuple[int, int]:
    """Images to a batch, and how many steps there are.

    Example:
        >>> from infoscope.analyses.probes.recipes import find_recipe
        >>> plan(find_recipe("dinov2").segmentation.solver, images=20210)
        (16, 40416)
    """
    batch = min(solver.batch, images)
    return batch, max(solver.least_steps, solver.epochs * (images // batch))


def batches(index: np.ndarray, batch: int, steps: int, seed: int) -> Iterator[np.ndarray]:
    """Images of each step: all of them in random order, again and again; a last batch that is not full is dropped."""
    done = epoch = 0
    while done < steps:
        order = np.random.default_rng((seed, 1, epoch)).permutation(index)
        for start in range(0, len(order) - batch + 1, batch):
            if done == steps:
                return
            yield order[start : start + batch]
            done += 1
        epoch += 1
