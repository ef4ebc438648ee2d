"""The processes that train one SAE together (``torchrun``), each on tokens of its own; usually there is just one."""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from infoscope.dictionaries.fvu import FVU
from infoscope.errors import InfoscopeError


@dataclass(frozen=True)
class Processes:
    """What one process asks of all of them; a process alone already has it.

    Attributes:
        rank: the number of this process, from 0.
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

    def merge(self, own: FVU) -> FVU:
        """The sums of every process's tokens."""
        merged = FVU(len(own.mean))
        for arrays in self.gather(own.arrays()):
            merged.merge(FVU.from_arrays(arrays))
        return merged

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by those of the first process."""
        if self.count > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)


def join_processes(device: str | torch.device) -> Processes:
    """The processes that ``torchrun`` started, or this one alone; they leave the group when the program ends.

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
            # Tensors are exchanged on the device they are on, everything else through the CPU.
            distributed.init_process_group("gloo" if torch.device(device).type == "cpu" else "cpu:gloo,cuda:nccl")
        except (RuntimeError, ValueError) as error:
            raise InfoscopeError(
                f"the processes of torchrun cannot find each other: {error}"
                "; check --rdzv-endpoint and the network between them"
            ) from error
        # gloo's threads must be joined while there is still an interpreter: the program would abort on any left over.
        atexit.register(lambda: distributed.destroy_process_group() if distributed.is_initialized() else None)
    if distributed.get_rank() > 0:
        # One process reports for all, because they take the same steps at the same time.
        logging.getLogger("infoscope.progress").setLevel(logging.ERROR)
    return Processes(distributed.get_rank(), distributed.get_world_size())


def is_first_process() -> bool:
    """Whether this is the process that writes and reports; usually it is the only one."""
    return int(os.environ.get("RANK", "0")) == 0
