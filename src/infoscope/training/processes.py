"""The processes that train one SAE together (``torchrun``), each on tokens of its own; usually it is one."""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from infoscope.errors import InfoscopeError


@dataclass(frozen=True)
class Processes:
    """What one of several processes asks of all; with one it is there already.

    Attributes:
        rank: which one this is, from 0.
        count: how many there are.

    Example:
        >>> alone, total = Processes(), torch.ones(2)
        >>> alone.add(total)
        >>> alone.gather("mine"), total.tolist()
        (['mine'], [1.0, 1.0])
    """

    rank: int = 0
    count: int = 1

    def add(self, *tensors: Tensor) -> None:
        """Replace tensors by their sums over the processes."""
        if self.count > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their means over the processes."""
        for tensor in tensors:
            self.add(tensor)
            if self.count > 1:
                tensor /= self.count

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in the order of the ranks."""
        values: list[Any] = [value] * self.count
        if self.count > 1:
            distributed.all_gather_object(values, value)
        return values

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by those of the first process."""
        if self.count > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)


def join_processes(device: str | torch.device) -> Processes:
    """The processes that ``torchrun`` started, or this one alone; they part when the program ends.

    Raises:
        InfoscopeError: they cannot find each other.

    Example:
        >>> join_processes("cpu")
        Processes(rank=0, count=1)
    """
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        return Processes()
    if not distributed.is_initialized():
        try:
            # Tensors by the device they are on, everything else through the CPU.
            distributed.init_process_group("gloo" if torch.device(device).type == "cpu" else "cpu:gloo,cuda:nccl")
        except (RuntimeError, ValueError) as error:
            raise InfoscopeError(
                f"the processes of torchrun cannot find each other: {error}"
                "; check --rdzv-endpoint and the network between them"
            ) from error
        # gloo's threads have to be joined while there is an interpreter; the end of the program aborts on those left.
        atexit.register(_part)
    if distributed.get_rank() > 0:
        # One report for the whole job: the processes do the same steps at the same time.
        logging.getLogger("infoscope.progress").setLevel(logging.ERROR)
    return Processes(distributed.get_rank(), distributed.get_world_size())


def _part() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def is_first_process() -> bool:
    """Whether this is the process that writes and tells; usually it is the only one."""
    return int(os.environ.get("RANK", "0")) == 0
