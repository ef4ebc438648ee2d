"""The options of a zero-shot test, with the reasons for their defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from infoscope.options import Pooled, Probability, Resize
from infoscope.runtime.typed import Count, Positive, check_fields

Among = Literal["all", "present"]
"""Which classes there are to choose from: all that were given, or those that some image is of."""


@dataclass(frozen=True)
class ZeroshotConfig:
    """The options of a zero-shot test.

    Raises:
        InfoscopeError: a number is out of range, or a choice is not one of those offered.

    Example:
        >>> ZeroshotConfig(draws=0)
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: --draws 0 is out of range: choose 1 or more
    """

    pooled: Pooled | None = None
    """The vector that stands for an image: the model's own pooled output (own; CLIP's is projected), its CLS token
    (cls), or its mean patch token (mean-patch). Default: own for CLIP and SigLIP, else cls, else mean-patch."""
    among: Among = "all"
    """The classes to choose from: all that are given, or only those that some image is of (present)."""
    probability: Probability = "softmax"
    """What logits become: the probability of one class among all (softmax), or of each by itself (sigmoid)."""
    logit_scale: float | None = None
    """Logits are cosines times this. Default: the checkpoint's, else that of the file of class embeddings, else 100."""
    logit_bias: float | None = None
    """Added to logits; it matters only under sigmoid. Default: the checkpoint's or the file's."""
    resize: Resize | None = None
    """How an image becomes square: stretch ignores the aspect ratio, crop takes the centre. Default: the run's, else
    stretch."""
    draws: Positive = 1000
    """Draws of the bootstrap over images, behind the intervals."""
    shard_images: Positive = 1024
    """Images per shard, the most work that an interruption can lose. It changes no result."""
    seed: Count = 0
    """Seed of the bootstrap over images."""

    def __post_init__(self) -> None:
        check_fields(self)
