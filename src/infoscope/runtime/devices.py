"""Where computations run."""

from __future__ import annotations

import os

import torch

from infoscope.errors import InfoscopeError


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
        place = torch.device(device)
        if str(place) == "cuda" and "LOCAL_RANK" in os.environ:
            # One of several processes that torchrun started: each has a GPU of its own.
            place = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(place)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InfoscopeError(f"--device {device} is not there; choose auto, cpu or a GPU of this machine") from error
    return place
