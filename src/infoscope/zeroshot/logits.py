"""The scale and bias between the cosine of an image and a class, and the logit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from infoscope.errors import InfoscopeError
from infoscope.storage.tensors import unreadable

DEFAULT_SCALE = 100.0
"""What Radford et al. 2021 (arXiv 2103.00020), section 2.5, keep the scale from exceeding."""


@dataclass(frozen=True)
class LogitScale:
    """A logit is ``scale * cosine + bias``.

    Attributes:
        scale: above 0; the exponential of what CLIP and SigLIP call ``logit_scale``.
        bias: SigLIP's; None where nothing states one, and then it is 0.
        source: where the scale comes from: ``option``, ``checkpoint``, ``class embeddings`` or ``default``.
    """

    scale: float
    bias: float | None = None
    source: str = "default"

    def __post_init__(self) -> None:
        if not (self.scale > 0 and math.isfinite(self.scale)):
            raise InfoscopeError(f"a logit scale of {self.scale} orders no classes: give a number above 0")
        if self.bias is not None and not math.isfinite(self.bias):
            raise InfoscopeError(f"a logit bias of {self.bias} is no number; give one by --logit-bias")


def read_logit_scale(weight_files: Sequence[Path]) -> LogitScale | None:
    """What a checkpoint says; None where it has no ``logit_scale``, as one of a vision model alone.

    Raises:
        InfoscopeError: a file cannot be read, or the scale is not one finite number.

    Example:
        >>> import tempfile, torch
        >>> from safetensors.torch import save_file
        >>> file = Path(tempfile.mkdtemp()) / "model.safetensors"
        >>> save_file({"logit_scale": torch.tensor(4.6052), "logit_bias": torch.tensor([-12.0])}, file)
        >>> found = read_logit_scale([file])
        >>> round(found.scale, 1), found.bias, found.source
        (100.0, -12.0, 'checkpoint')
    """
    found = read_tensors(weight_files, ("logit_scale", "logit_bias"))
    if "logit_scale" not in found:
        return None
    scale, bias = found["logit_scale"], found.get("logit_bias")
    if scale.numel() != 1 or (bias is not None and bias.numel() != 1):
        raise InfoscopeError(f"{weight_files[0].parent}: logit_scale is not one number; fetch the model again")
    try:
        factor = math.exp(float(scale))
    except OverflowError:
        factor = math.inf
    if not 0 < factor < math.inf:  # NaN included
        raise InfoscopeError(
            f"{weight_files[0].parent}: logit_scale is {float(scale)}, the logarithm of no scale; fetch the model again"
        )
    return LogitScale(factor, None if bias is None else float(bias), "checkpoint")


def read_tensors(weight_files: Sequence[Path], names: Sequence[str]) -> dict[str, Tensor]:
    """Those of some tensors that a checkpoint has, in float32.

    Raises:
        InfoscopeError: a file cannot be read.
    """
    found: dict[str, Tensor] = {}
    for file in weight_files:
        try:
            with safe_open(file, "pt") as tensors:
                for name in set(names) & set(tensors.keys()):
                    found[name] = tensors.get_tensor(name).to(torch.float32)
        except Exception as error:  # a header that lies makes the library and torch fail in many ways
            raise unreadable(file, error) from error
    return found
