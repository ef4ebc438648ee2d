"""What every way of training shares: the place checked before, progress during, the SAE written after."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infoscope.dictionaries.formats.infoscope import CURVES_FILE, DESCRIPTION_FILE, WEIGHTS_FILE
from infoscope.dictionaries.loading import load_sae
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.runtime.atomic import remove_leftovers
from infoscope.runtime.progress import progress
from infoscope.training.config import TrainConfig
from infoscope.training.loop import train_several
from infoscope.training.result import TrainedSAE, TrainingPoint

ADVICE = "choose another --out"
# The folder in an output directory that holds the state of an unfinished training.
CHECKPOINTS = "unfinished"
OWN_FILES = (WEIGHTS_FILE, CURVES_FILE, DESCRIPTION_FILE)


@dataclass(frozen=True)
class Destination:
    """Where the SAEs of one training go.

    Attributes:
        out: the directory; None writes nothing.
        configs: their options. One is written to ``out`` itself, several to a folder each in it (`names`).
    """

    out: Path | None
    configs: Sequence[TrainConfig]

    @property
    def names(self) -> list[str]:
        """Several SAEs' folders, by the options in which they differ.

        Example:
            >>> Destination(None, [TrainConfig(k=16), TrainConfig(k=32)]).names
            ['k16', 'k32']
        """
        differing = [
            field.name
            for field in fields(TrainConfig)
            if any(getattr(config, field.name) != getattr(self.configs[0], field.name) for config in self.configs)
        ]
        return ["-".join(f"{name}{getattr(config, name)}" for name in differing) for config in self.configs]

    @property
    def folders(self) -> list[Path]:
        """Where each SAE goes."""
        assert self.out is not None
        return [self.out] if len(self.configs) == 1 else [self.out / name for name in self.names]

    @property
    def checkpoints(self) -> Path | None:
        """Where the state of the unfinished training is kept."""
        return None if self.out is None else self.out / CHECKPOINTS

    def check(self, width: int, processes: int = 1) -> None:
        """Refuse before training what could not be written after it.

        Raises:
            InfoscopeError: there is something else than this training's state in the directory, or the disk is too
                full.
        """
        if len(set(self.names)) < len(self.configs):
            raise InfoscopeError("two of the SAEs have the same options; give each once")
        if self.out is None:
            return
        if self.out.is_dir():
            own = set()
            if (self.out / CHECKPOINTS).exists():
                # A training that was stopped while it wrote its SAEs has its state there too, and writes them again.
                own = {CHECKPOINTS, *OWN_FILES, *self.names}
                remove_leftovers(self.out)
            if {path.name for path in self.out.iterdir()} - own:
                raise InfoscopeError(f"{self.out} is not empty, and an SAE is never written over; choose another --out")
        weights = sum(4 * config.features * (2 * width + 1) for config in self.configs)
        window = 4 * width * min(self.configs[0].buffer_tokens, self.configs[0].tokens)
        # Weights and two moments, and the tokens under way, of each process; twice, since one is written before the
        # other goes.
        state = 2 * (3 * weights + window) * processes
        check_space(self.out, weights + state, "the SAE and its training's state take", ADVICE)

    def hand_out(
        self, trained: Sequence[TrainedSAE], site: Mapping[str, Any], device: str | torch.device
    ) -> list[SparseAutoencoder]:
        """The SAEs with their site, on the device; written and read back where there is a directory.

        Raises:
            InfoscopeError: they cannot be written.
        """
        if self.out is None:
            for each in trained:
                each.sae.site = each.site(site)
            return [each.sae.to(device) for each in trained]
        for each, folder in zip(trained, self.folders, strict=True):
            each.save(folder, site)
        shutil.rmtree(self.out / CHECKPOINTS, ignore_errors=True)
        return [load_sae(folder, device) for folder in self.folders]


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
    tokens: Iterable[Tensor],
    output: Destination,
    device: str | torch.device,
    **options: Any,
) -> list[TrainedSAE]:
    """`train_several`, with FVU, L0 and the share of dead features of the last SAE on stderr."""
    total = output.configs[0].tokens
    with progress("Training", total, "tokens") as advance:
        seen = 0

        def report(number: int, point: TrainingPoint) -> None:
            nonlocal seen
            if number + 1 == len(output.configs):
                of = f"{output.names[number]}: " if number else ""
                advance(
                    min(point.tokens, total) - seen,
                    f"{of}FVU {point.fvu:.3f}  L0 {point.l0:.1f}  dead {point.dead:.1%}",
                )
                seen = point.tokens

        return train_several(
            tokens, output.configs, device=device, checkpoints=output.checkpoints, on_progress=report, **options
        )
