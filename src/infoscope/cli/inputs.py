"""The flags that name a model and images, shared by the commands that pass images through a model."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infoscope.backbones.precision import Precision
from infoscope.errors import InfoscopeError

if TYPE_CHECKING:
    from infoscope.backbones.backbone import Backbone


@dataclass(frozen=True)
class Hardware:
    """Where the model runs, and in which numbers."""

    device: str = "auto"
    """auto (a GPU when there is one), cpu, cuda, cuda:1, ..."""
    precision: Precision = "float32"
    """Of the model's passes. float32 is the reference; bf16 and fp16 are faster on a GPU and change the tokens a
    little; tf32 lets a GPU round what it multiplies."""


def open_backbone(model: str, block: int, input_side: int | None, revision: str | None, hardware: Hardware) -> Backbone:
    """Load the model the flags name."""
    from infoscope.backbones.loading import load_backbone

    return load_backbone(
        model,
        block,
        input_side=input_side,
        revision=revision,
        device=hardware.device,
        precision=hardware.precision,
    )


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
