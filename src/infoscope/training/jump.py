"""A step and a jump whose thresholds learn through a window (Rajamanoharan et al. 2024, arXiv 2407.14435, section 3).

Neither has a useful derivative by its threshold: it is 0 but where it does not exist. The expected one over tokens is
estimated with a kernel of finite width instead: with K 1 inside the window of ``bandwidth`` e around the threshold t,
  d step / dt = -K / e,   d jump / dt = -t K / e.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def step(
    pre: Float[Tensor, "token feature"], threshold: Float[Tensor, " feature"], bandwidth: float
) -> Float[Tensor, "token feature"]:
    """1 where a pre-activation is above its threshold, else 0; only the threshold gets a gradient (equation 12).

    Example:
        >>> threshold = torch.tensor([1.0], requires_grad=True)
        >>> above = step(torch.tensor([[0.5], [1.1]]), threshold, bandwidth=0.4)
        >>> above.sum().backward()
        >>> above[:, 0].tolist(), threshold.grad.tolist()
        ([0.0, 1.0], [-2.5])
    """
    result: Tensor = _Step.apply(pre, threshold, bandwidth)  # type: ignore[no-untyped-call]
    return result


def jump(
    pre: Float[Tensor, "token feature"], threshold: Float[Tensor, " feature"], bandwidth: float
) -> Float[Tensor, "token feature"]:
    """Pre-activations above their thresholds, 0 for the others; both get a gradient (equation 11).

    Example:
        >>> pre, threshold = torch.tensor([[0.5], [1.1]], requires_grad=True), torch.tensor([1.0], requires_grad=True)
        >>> jump(pre, threshold, bandwidth=0.4).sum().backward()
        >>> pre.grad[:, 0].tolist(), threshold.grad.tolist()
        ([0.0, 1.0], [-2.5])
    """
    result: Tensor = _Jump.apply(pre, threshold, bandwidth)  # type: ignore[no-untyped-call]
    return result


def _inside(pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    return (pre - threshold).abs() < bandwidth / 2


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return (pre > threshold).to(pre.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        pre, threshold = ctx.saved_tensors
        inside = _inside(pre, threshold, ctx.bandwidth)
        return None, -(gradients[0] * inside).sum(0) / ctx.bandwidth, None


class _Jump(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return torch.where(pre > threshold, pre, 0.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        pre, threshold = ctx.saved_tensors
        inside = _inside(pre, threshold, ctx.bandwidth)
        of_threshold = -(gradients[0] * inside).sum(0) * threshold / ctx.bandwidth
        return gradients[0] * (pre > threshold), of_threshold, None
