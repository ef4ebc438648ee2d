"""The flags that name a model and images, shared by the commands that pass images through a model."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infoscope.errors import InfoscopeError

if TYPE_CHECKING:
    from infoscope.backbones.backbone import Backbone


@dataclass(frozen=True)
class Execution:
    """How the passes run; none of it changes a result."""

    batch_size: int | None = None
    """Views to a forward pass; a picture's two crops are two. Bounds memory. Default: 8 on a CPU, 64 on a GPU."""
    device: str = "auto"
    """auto (a GPU when there is one), cpu, cuda, cuda:1, ..."""
    threads: int | None = None
    """Threads that decode images ahead of the model. Default: one a core, at most 8."""

    def __post_init__(self) -> None:
        for flag, value in (("--batch-size", self.batch_size), ("--threads", self.threads)):
            if value is not None and value < 1:
                raise InfoscopeError(f"{flag} {value} is out of range: choose 1 or more")


def open_backbone(
    model: str, block: int, input_side: int | None, revision: str | None, execution: Execution
) -> Backbone:
    """Load the model the flags name."""
    from infoscope.backbones.loading import load_backbone

    return load_backbone(model, block, input_side=input_side, revision=revision, device=execution.device)


def check_writable(out: Path) -> None:
    """Refuse an output that cannot be written before hours of work, not after.

    Raises:
        InfoscopeError: ``out`` is a file, or neither it nor the nearest folder above it can be written.
    """
    if out.exists() and not out.is_dir():
        raise InfoscopeError(f"{out} is a file; --out needs a directory")
    folder = out.absolute()
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise InfoscopeError(f"cannot write {out}: no permission to write in {folder}; choose another --out")
