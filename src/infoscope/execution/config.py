"""How passes over images are run: batches, threads, shards, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from infoscope.errors import InfoscopeError, check_choice, check_counts

ExecutorName = Literal["local", "ray"]


@dataclass(frozen=True)
class Execution:
    """How the passes run; none of it changes a result.

    Raises:
        InfoscopeError: an option is out of range, or belongs to another executor.

    Example:
        >>> Execution(batch_size=4).shard_images
        1024
        >>> Execution(workers=2)
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: --workers belongs to --executor ray; give that too, or leave it out
    """

    batch_size: int | None = None
    """Views to a forward pass; a picture's two crops are two. Bounds memory. Default: 8 on a CPU, 64 on a GPU."""
    threads: int | None = None
    """Threads that decode images ahead of the model. Default: one a core, at most 8."""
    shard_images: int = 1024
    """Images to a shard, which is what a killed run can lose. Our choice: a minute or two of work on two cores."""
    executor: ExecutorName = "local"
    """local (this process) or ray (a process for each worker, on this machine or a cluster)."""
    workers: int | None = None
    """Under ray: how many workers. Default: one a GPU, or one for every four CPU cores."""
    address: str | None = None
    """Under ray: the address of a running cluster, or auto. Default: one of its own on this machine."""

    def __post_init__(self) -> None:
        check_choice("executor", self.executor, ExecutorName)
        check_counts(**{name: getattr(self, name) for name in ("batch_size", "threads", "shard_images", "workers")})
        for name in ("workers", "address"):
            if self.executor == "local" and getattr(self, name) is not None:
                raise InfoscopeError(f"--{name} belongs to --executor ray; give that too, or leave it out")
