"""Where a model runs, and in which numbers."""

from __future__ import annotations

import os
from typing import get_args

import torch

from infoscope.errors import InfoscopeError, check_choice
from infoscope.options import Precision

_DTYPES = {"float32": "float32", "tf32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def find_device(device: str | torch.device) -> torch.device:
    """The device of that name.

    Args:
        device: ``auto`` (a CUDA GPU where there is one, else the CPU), ``cpu``, ``cuda``, ``cuda:1``, ...

    Raises:
        InfoscopeError: this machine has none of that name.

    Example:
        >>> find_device("cpu")
        device(type='cpu')
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
        if str(found) == "cuda" and "LOCAL_RANK" in os.environ:
            # One of several processes that torchrun started: each has a GPU of its own.
            found = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(found)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InfoscopeError(f"--device {device} is not there; choose auto, cpu or a GPU of this machine") from error
    return found


def weights_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The type of the weights, and of everything between the blocks.

    Raises:
        InfoscopeError: there is no such precision, or the device has none.

    Example:
        >>> weights_dtype("bf16", torch.device("cpu"))
        torch.bfloat16
    """
    check_choice("precision", precision, Precision)
    if precision == "tf32" and device.type != "cuda":
        raise InfoscopeError("--precision tf32 is how a CUDA GPU multiplies; choose another of " + _names("tf32"))
    dtype: torch.dtype = getattr(torch, _DTYPES[precision])
    return dtype


def set_multiplication(precision: Precision) -> None:
    """Have this process's CUDA GPUs multiply float32 as such, or with 10 bits of mantissa for ``tf32``."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"


def _names(but: str) -> str:
    return ", ".join(name for name in get_args(Precision) if name != but)
