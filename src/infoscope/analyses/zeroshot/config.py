"""What a zero-shot evaluation depends on, with the defaults and where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from infoscope.errors import InfoscopeError, check_choice, check_counts
from infoscope.runtime.choices import Resize

Pooled = Literal["own", "cls", "mean-patch"]
"""Which vector stands for an image: the model's own pooled output (CLIP's projected), its CLS token, or its mean patch
token, the latter two after the norm that follows the last block."""

Probability = Literal["softmax", "sigmoid"]
"""Of one class among all, or of each class by itself, as SigLIP was trained."""

Among = Literal["all", "present"]
"""Which classes there are to choose from: all that were given, or those that some image is of."""


@dataclass(frozen=True)
class ZeroshotConfig:
    """The options of a zero-shot evaluation.

    Raises:
        InfoscopeError: a number is out of range, or a choice is none of those there are.

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
    """Cosines times this are logits. Default: the checkpoint's, else that of the file of class embeddings, else 100."""
    logit_bias: float | None = None
    """Added to logits; matters under sigmoid alone. Default: the checkpoint's or the file's."""
    resize: Resize | None = None
    """How an image becomes square: stretch ignores the aspect ratio, crop takes the centre. Default: the run's, else
    stretch."""
    draws: int = 1000
    """Draws of the bootstrap over images, behind the intervals."""
    shard_images: int = 1024
    """Images to a shard, what a stop can lose. Changes no result."""
    seed: int = 0
    """Seed of the bootstrap over images."""

    def __post_init__(self) -> None:
        if self.pooled is not None:
            check_choice("pooled", self.pooled, Pooled)
        if self.resize is not None:
            check_choice("resize", self.resize, Resize)
        check_choice("among", self.among, Among)
        check_choice("probability", self.probability, Probability)
        check_counts(draws=self.draws, shard_images=self.shard_images)
        if self.seed < 0:
            raise InfoscopeError(f"--seed {self.seed} is out of range: choose 0 or more")
