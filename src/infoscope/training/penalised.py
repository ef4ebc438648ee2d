"""ReLU, gated and JumpReLU in training: every code is computed, and a penalty keeps them few."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from infoscope.dictionaries.activations import Activation, Gated, JumpReLU, ReLU
from infoscope.training.autoencoder import Output, TrainingAutoencoder, reconstruction_loss


def step(
    pre: Float[Tensor, "token feature"], threshold: Float[Tensor, " feature"], bandwidth: float
) -> Float[Tensor, "token feature"]:
    """1 where a pre-activation is above its threshold, else 0; only the threshold gets a gradient (JumpReLU, eq. 12).

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
    """Pre-activations above their thresholds, 0 for the others; both get a gradient (JumpReLU, equation 11).

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


# How steep tanh is (Anthropic's update of January 2025, "Dictionary Learning Optimization Techniques").
TANH_SLOPE = 4.0
# Where thresholds start at the lowest: they are learned as logarithms, which 0 does not have.
FIRST_THRESHOLD = 1e-3
# How much faster the logarithms of thresholds learn than other weights. Measured: without this, 200 steps do not
# reach the target number of codes.
SPEED = 10.0
# Codes per token that ReLU and gated SAEs start with. Our choice: somewhat more than most end with.
FIRST_CODES = 64.0
# Tokens that biases and thresholds are started on. Our choice: enough for a quantile of all their pre-activations.
WINDOW = 1024


class ReLUAutoencoder(TrainingAutoencoder):
    """ReLU with an L1 penalty weighted by the norms of the decoder's rows, which are free.

    The loss is what is unexplained plus ``l1`` times the mean over tokens of sum_j c_j |d_j| / width (Anthropic's
    update of April 2024).
    """

    unit_rows: ClassVar[bool] = False

    def prepare(self, window: Float[Tensor, "token width"]) -> None:
        """Start the biases where `FIRST_CODES` codes per token are above 0."""
        _start_bias(self, window)

    def forward(self, tokens: Float[Tensor, "token width"], rise: float) -> Output:
        """See `TrainingAutoencoder`."""
        codes = torch.relu(self.pre_activations(tokens))
        reconstruction = torch.addmm(self.decoder_bias, codes, self.decoder)
        penalty = (codes @ self.decoder.norm(dim=1)).mean() / tokens.shape[1]
        loss = reconstruction_loss(tokens, reconstruction) + self.config.l1 * rise * penalty
        return Output(reconstruction, (codes > 0).sum(0), loss)

    def activation(self) -> Activation:
        """See `TrainingAutoencoder`."""
        return ReLU()


class GatedAutoencoder(TrainingAutoencoder):
    """A gate that is penalised and a magnitude that is not (Rajamanoharan et al. 2024, arXiv 2404.16014, section 3).

    The loss is what is unexplained, plus ``l1`` times the mean L1 norm of the open gates' pre-activations over the
    width, plus what those alone leave unexplained with a decoder they cannot change (equation 8). The gate's bias is
    the encoder's.
    """

    def __init__(self, *start: Any):
        super().__init__(*start)
        self.log_slope = nn.Parameter(torch.zeros(len(self.encoder)))
        self.magnitude_bias = nn.Parameter(torch.zeros(len(self.encoder)))

    def prepare(self, window: Float[Tensor, "token width"]) -> None:
        """Start both biases as under ReLU."""
        _start_bias(self, window)
        self.magnitude_bias.data.copy_(self.encoder_bias)

    def forward(self, tokens: Float[Tensor, "token width"], rise: float) -> Output:
        """See `TrainingAutoencoder`."""
        product = tokens @ self.encoder.T
        gate = torch.relu(product + self.encoder_bias)
        magnitude = torch.relu(product * self.log_slope.exp() + self.magnitude_bias)
        codes = torch.where(gate > 0, magnitude, 0.0)
        reconstruction = torch.addmm(self.decoder_bias, codes, self.decoder)
        by_gate = torch.addmm(self.decoder_bias.detach(), gate, self.decoder.detach())
        penalty = gate.sum(1).mean() / tokens.shape[1]
        loss = reconstruction_loss(tokens, reconstruction) + reconstruction_loss(tokens, by_gate)
        return Output(reconstruction, (codes > 0).sum(0), loss + self.config.l1 * rise * penalty)

    def activation(self) -> Activation:
        """See `TrainingAutoencoder`."""
        slope = self.log_slope.detach().exp()
        return Gated(slope, self.magnitude_bias.detach() - slope * self.encoder_bias.detach())


class JumpReLUAutoencoder(TrainingAutoencoder):
    """Learned thresholds, with straight-through gradients (Rajamanoharan et al. 2024, arXiv 2407.14435).

    The loss is what is unexplained plus ``l0_weight`` times a penalty. With L0 the mean number of codes per token, that
    is for ``step``: L0 / width (equation 8); for ``quadratic``: (L0 / l0 - 1)^2, which needs no tuning to reach ``l0``
    (appendix); for ``tanh``: the mean of sum_j tanh(4 c_j |d_j|) / width, which needs no straight-through gradient of
    its own (Anthropic's update of January 2025).
    """

    def __init__(self, *start: Any):
        super().__init__(*start)
        self.slow_log_threshold = nn.Parameter(torch.full((len(self.encoder),), FIRST_THRESHOLD).log() / SPEED)

    def prepare(self, window: Float[Tensor, "token width"]) -> None:
        """Start the thresholds where ``l0`` codes per token are above them.

        Published runs start near 0 and take many thousand steps to get there, because Adam moves a logarithm by no more
        than the learning rate per step.
        """
        with torch.no_grad():
            start = max(_level(self, window, self.config.l0), FIRST_THRESHOLD)
            self.slow_log_threshold.fill_(math.log(start) / SPEED)

    def forward(self, tokens: Float[Tensor, "token width"], rise: float) -> Output:
        """See `TrainingAutoencoder`."""
        # There is no ReLU, because thresholds are above 0 anyway. It would move every token that a feature is silent on
        # to 0, and so into the window of a low threshold.
        pre = self.pre_activations(tokens)
        threshold = self._threshold()
        codes = jump(pre, threshold, self.config.bandwidth)
        reconstruction = torch.addmm(self.decoder_bias, codes, self.decoder)
        active = (codes > 0).sum(0)
        loss = reconstruction_loss(tokens, reconstruction)
        loss = loss + self.config.l0_weight * rise * self._penalty(pre, threshold, codes)
        return Output(reconstruction, active, loss)

    def activation(self) -> Activation:
        """See `TrainingAutoencoder`."""
        return JumpReLU(self._threshold().detach())

    def _threshold(self) -> Tensor:
        return (SPEED * self.slow_log_threshold).exp()

    def _penalty(self, pre: Tensor, threshold: Tensor, codes: Tensor) -> Tensor:
        width, aim = self.encoder.shape[1], self.config.l0
        if self.config.l0_loss == "tanh":
            return torch.tanh(TANH_SLOPE * codes).sum(1).mean() / width
        l0 = step(pre, threshold, self.config.bandwidth).sum(1).mean()
        if self.config.l0_loss == "step":
            return l0 / width
        # The square is of the mean over all processes. Their gradients are averaged, so each takes its slope there.
        mean_l0 = l0.detach().clone()
        self.processes.average([mean_l0])
        excess = mean_l0 / aim - 1
        return excess**2 + 2 * excess / aim * (l0 - l0.detach())


@torch.no_grad()
def _start_bias(autoencoder: TrainingAutoencoder, window: Tensor) -> None:
    """Start where `FIRST_CODES` codes per token are above 0.

    With biases of 0, half of all codes would be, and Adam moves a bias by no more than the learning rate per step.
    """
    autoencoder.encoder_bias.fill_(-max(_level(autoencoder, window, FIRST_CODES), 0.0))


@torch.no_grad()
def _level(autoencoder: TrainingAutoencoder, window: Tensor, codes: float) -> float:
    """The level that ``codes`` pre-activations of a token are above, on average over the first `WINDOW` tokens."""
    pre = autoencoder.pre_activations(window[:WINDOW].to(autoencoder.encoder.device)).flatten()
    share = min(codes / len(autoencoder.encoder), 1.0)
    return float(pre.kthvalue(max(round((1 - share) * len(pre)), 1)).values)
