"""In which numbers a model is run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from infoscope.errors import InfoscopeError, check_choice

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "tf32", "bf16", "fp16"]

_DTYPES = {"float32": "float32", "tf32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def weights_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The type of the weights, and of everything between the blocks.

    Raises:
        InfoscopeError: there is no such precision, or the device has none.

    Example:
        >>> import torch
        >>> weights_dtype("bf16", torch.device("cpu"))
        torch.bfloat16
    """
    import torch

    check_choice("precision", precision, Precision)
    if precision == "tf32" and device.type != "cuda":
        raise InfoscopeError("--precision tf32 is how a CUDA GPU multiplies; choose another of " + _names("tf32"))
    dtype: torch.dtype = getattr(torch, _DTYPES[precision])
    return dtype


def set_multiplication(precision: Precision) -> None:
    """Have this process's CUDA GPUs multiply float32 as such, or with 10 bits of mantissa for ``tf32``."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"


def _names(but: str) -> str:
    return ", ".join(name for name in get_args(Precision) if name != but)
