"""What every way of training shares: the place checked before, progress during, the SAE written after."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infoscope.dictionaries.loading import load_sae
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.progress import progress
from infoscope.training.config import TrainConfig
from infoscope.training.trainer import TrainedSAE, TrainingPoint, train_on_tokens


def check_out(out: Path | str | None, features: int, width: int) -> None:
    """Refuse before training an SAE directory that could not be written after it.

    Raises:
        InfoscopeError: ``out`` is not empty, or the disk is too full.
    """
    if out is None:
        return
    if Path(out).is_dir() and any(Path(out).iterdir()):
        raise InfoscopeError(f"{out} is not empty, and an SAE is never written over; choose another --out")
    check_space(Path(out), 4 * features * (2 * width + 1), "the SAE takes", "choose another --out")


def check_space(place: Path, needed: int, what: str, advice: str) -> None:
    """Refuse what the disk has no room for.

    Args:
        place: what will be written, or the folder it will be written to.
        needed: its bytes.
        what: its name and verb, for the message.
        advice: what to do other than free the space.

    Raises:
        InfoscopeError: there is less space.

    Example:
        >>> check_space(Path("cache"), 2**70, "the tokens take", "choose another --cache")
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: cache has ... MiB of free space and the tokens take 1125899906842624;
        free the space or choose another --cache
    """
    folder = place.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InfoscopeError(
            f"{place} has {free / 2**20:.0f} MiB of free space and {what} {needed / 2**20:.0f}; "
            f"free the space or {advice}"
        )


def train_with_progress(
    tokens: Iterable[Tensor], config: TrainConfig, device: str | torch.device, show_progress: bool
) -> TrainedSAE:
    """`train_on_tokens`, with FVU, L0 and the share of dead features on stderr."""
    with progress("Training", config.tokens, "tokens", enabled=show_progress) as advance:
        seen = 0

        def report(point: TrainingPoint) -> None:
            nonlocal seen
            note = f"FVU {point.fvu:.3f}  L0 {point.l0:.1f}  dead {point.dead:.1%}"
            advance(min(point.tokens, config.tokens) - seen, note)
            seen = point.tokens

        return train_on_tokens(tokens, config, device=device, on_progress=report)


def hand_out(
    trained: TrainedSAE, site: Mapping[str, Any], out: Path | str | None, device: str | torch.device
) -> SparseAutoencoder:
    """The trained SAE with its site, on the device; written to ``out`` and read back where there is one.

    Raises:
        InfoscopeError: ``out`` cannot be written.
    """
    if out is None:
        trained.sae.site = dict(site)
        return trained.sae.to(device)
    trained.save(out, site)
    return load_sae(out, device)
