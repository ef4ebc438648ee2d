"""The options of SAE training, each with the reason for its default."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Literal

from infoscope.errors import InfoscopeError
from infoscope.runtime.typed import Above0, AtLeast0, Count, Positive, Share, check_fields

L0Loss = Literal["quadratic", "step", "tanh"]

ActivationName = Literal["topk", "batchtopk", "relu", "jumprelu", "gated"]
Start = Literal["random", "data"]
BiasStart = Literal["mean", "median"]
Schedule = Literal["linear", "cosine"]

# The run that the options were chosen on, and its learning rate.
USUAL_TOKENS, USUAL_RATE = 2_000_000, 1e-3

_CHOICES = {
    "activation": ActivationName,
    "l0_loss": L0Loss,
    "start": Start,
    "bias_start": BiasStart,
    "schedule": Schedule,
}
_COUNTS = ("features", "k", "tokens", "batch_tokens", "dead_after", "buffer_tokens", "log_every")


@dataclass(frozen=True)
class TrainConfig:
    """How an SAE is trained.

    "Gao" is Gao et al. 2024, arXiv 2406.04093. "Measured" defaults were chosen among a few tried on 768,000 patch
    tokens of a DINOv2 ViT-S/14 (width 384, block 10, 3,000 photographs), by the FVU on 100 photographs not trained on.

    Raises:
        InfoscopeError: an option is out of range.

    Example:
        >>> TrainConfig(features=1024, k=16).batch_tokens
        2048
        >>> TrainConfig(k=0)
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: --k 0 is out of range: choose 1 or more
    """

    features: Positive = 4096
    """Features of the dictionary. Our choice: some ten times the width of a small vision transformer."""
    activation: ActivationName = "topk"
    """topk (k codes per token), batchtopk (k on average), jumprelu (l0 on average), relu or gated (as many as an L1
    penalty leaves). topk needs no penalty to be tuned (Gao), and its codes do not depend on other tokens."""
    k: Positive = 32
    """Codes per token under topk, on average under batchtopk. As in CLIP-Scope and Gao's smaller runs."""
    prefixes: tuple[int, ...] = ()
    """Under topk and batchtopk: sizes of the prefixes of a Matryoshka SAE. Each is the first so many features, which
    must reconstruct tokens without the rest; all features are always the last prefix. Default: none."""
    l0: Above0 = 32.0
    """Codes per token that jumprelu aims at. Our choice, to go with k."""
    l0_loss: L0Loss = "quadratic"
    """What holds jumprelu's codes down: quadratic ((L0 / l0 - 1)^2), step (L0) or tanh (of the codes). quadratic alone
    needs no tuning to reach l0."""
    l0_weight: AtLeast0 = 1.0
    """Weight of that loss. Measured for quadratic; step and tanh want one chosen by trial."""
    bandwidth: Above0 = 2.0
    """Width of the window in which codes move jumprelu's thresholds, tokens scaled to a mean squared norm of the width
    (Anthropic, January 2025). Rajamanoharan et al. have 0.001 times the root of the width, for runs of billions."""
    l1: AtLeast0 = 2.0
    """Weight of the mean L1 norm of a token's codes under relu, and of its gates under gated, tokens scaled to a mean
    squared norm of the width. Measured after 200,000 tokens, with 2,048 features: under relu 0.5 leaves 149 codes a
    token (FVU 0.23) and 2 leaves 73 (0.34); under gated 153 (0.23) and 90 (0.26)."""
    tokens: Positive = USUAL_TOKENS
    """Tokens to train on, over as many passes as that takes. Measured: FVU 0.23 after 1 million, 0.20 after 2."""
    batch_tokens: Positive = 2048
    """Tokens per step. Our choice; measured, after 1 million tokens: FVU 0.215 with 1,024, 0.230 with 2,048."""
    learning_rate: Above0 | None = None
    """Adam's learning rate at its highest. Default: 0.001; under topk and batchtopk, with fewer than 2 million tokens,
    more in proportion, up to 0.003. Measured after 1 million: FVU 0.26, 0.22, 0.20 with 5e-4, 1e-3, 2e-3; from 2e-3 on
    features get rare. Measured after 400,000, with 6,144 features: 0.32, 0.28, 0.26 with 1e-3, 2e-3, 3e-3."""
    warmup: Share = 0.05
    """Share of the steps in which the learning rate, and under relu the penalty, rise from 0. Our choice."""
    decay: Share = 0.2
    """Share of the steps, at the end, in which the learning rate falls to 0. Our choice."""
    schedule: Schedule = "linear"
    """How the learning rate falls at the end: linear or cosine. Our choice."""
    dead_after: Positive = 200_000
    """A feature that fires on none of this many tokens is dead. Gao: 10 million, for runs of billions."""
    start: Start = "random"
    """Where decoder rows start: random directions, or those of random tokens (data). Our choice."""
    bias_start: BiasStart = "mean"
    """Where the decoder's bias starts: the mean of tokens, or their geometric median, which outliers move little."""
    auxk: Positive | None = None
    """How many dead features reconstruct what is left unexplained (AuxK). Default: half the width (Gao)."""
    auxk_coefficient: AtLeast0 = 1 / 32
    """Weight of the AuxK loss; 0 turns it off. Gao."""
    clip: Above0 = 1.0
    """Largest norm of the gradient; longer ones are shortened to it. Our choice."""
    buffer_tokens: Positive = 131_072
    """Tokens among which each batch is drawn; as float32 they stay in memory. Our choice: those of 512 photographs."""
    autocast: bool = False
    """On a GPU, compute products in bfloat16 with weights in float32. Off, because float32 is the reference."""
    log_every: Positive = 50
    """Steps between two points of the training curves."""
    seed: Count = 0
    """Determines the rows that the decoder starts with, and the order of tokens."""

    def __post_init__(self) -> None:
        check_fields(self)
        refusal = ""
        if self._selects and self.k > self.features:
            refusal = f"--k {self.k} is out of range: there are {self.features} features"
        elif self.prefixes and not self._selects:
            refusal = f"--prefixes {self.prefixes} is out of range: they belong to topk and batchtopk"
        elif any(size >= following for size, following in pairwise((0, *self.nested_sizes))):
            refusal = f"--prefixes {self.prefixes} is out of range: choose rising sizes from 1 to {self.features}"
        elif self.warmup + self.decay > 1:
            refusal = f"--warmup {self.warmup} is out of range: with --decay it is more than the whole"
        if refusal:
            raise InfoscopeError(refusal)

    @property
    def _selects(self) -> bool:
        """Whether the largest codes are selected, so that no penalty need hold them down."""
        return self.activation in ("topk", "batchtopk")

    @property
    def highest_rate(self) -> float:
        """``learning_rate`` or its default: weights move by the rate times the steps, so that few steps must be long.

        Example:
            >>> [TrainConfig(tokens=tokens).highest_rate for tokens in (2_000_000, 1_000_000, 1000)]
            [0.001, 0.002, 0.003]
        """
        if self.learning_rate is not None:
            return self.learning_rate
        shorter = USUAL_TOKENS / self.tokens if self._selects else 1.0
        return USUAL_RATE * min(max(shorter, 1.0), 3.0)

    @property
    def nested_sizes(self) -> tuple[int, ...]:
        """Sizes of the prefixes, with all features as the last.

        Example:
            >>> TrainConfig(features=64, prefixes=(16,)).nested_sizes, TrainConfig(features=64).nested_sizes
            ((16, 64), (64,))
        """
        return self.prefixes if self.prefixes[-1:] == (self.features,) else (*self.prefixes, self.features)

    @property
    def steps(self) -> int:
        """How many batches there are in ``tokens``; the last may be shorter."""
        return -(-self.tokens // self.batch_tokens)

    def factor(self, step: int) -> float:
        """Share of the highest learning rate at ``step``, counted from 0: a linear rise, a plateau, a fall to 0.

        Example:
            >>> config = TrainConfig(tokens=10, batch_tokens=1, warmup=0.2, decay=0.4)
            >>> [round(config.factor(step), 2) for step in range(10)]
            [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]
        """
        fall = min((self.steps - step) / max(self.decay * self.steps, 1), 1.0)
        return min(self.rise(step), (1 - math.cos(math.pi * fall)) / 2 if self.schedule == "cosine" else fall)

    def rise(self, step: int) -> float:
        """The same without the fall; penalties follow it."""
        return min((step + 1) / max(self.warmup * self.steps, 1), 1.0)


def names_of(configs: Sequence[TrainConfig]) -> list[str]:
    """Short names of SAEs trained together, from the options in which they differ.

    Example:
        >>> names_of([TrainConfig(k=16), TrainConfig(k=32)])
        ['k16', 'k32']
    """
    differing = [
        field.name
        for field in fields(TrainConfig)
        if any(getattr(config, field.name) != getattr(configs[0], field.name) for config in configs)
    ]
    return ["-".join(f"{name}{getattr(config, name)}" for name in differing) for config in configs]
