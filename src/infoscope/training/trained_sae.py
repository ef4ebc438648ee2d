"""A trained SAE with its curves and scores, and the directory that it is written to."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from infoscope.dictionaries.formats.infoscope import CURVES_FILE, DESCRIPTION_FILE, WEIGHTS_FILE, save_sae
from infoscope.dictionaries.loading import load_sae
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.runtime.atomic import remove_leftovers
from infoscope.training.config import TrainConfig, names_of
from infoscope.training.held_out import Downstream, HeldOut
from infoscope.training.processes import Processes

# The folder in an output directory that holds the state of an unfinished training.
CHECKPOINTS = "unfinished"


@dataclass(frozen=True)
class TrainingPoint:
    """One point of the training curves, taken on one batch before its step.

    Attributes:
        step: batches seen, this one included.
        tokens: tokens seen.
        loss: what is minimised.
        fvu: fraction of variance unexplained.
        l0: codes above 0 per token.
        dead: share of features that fired on none of the last ``dead_after`` tokens; 0 before that many were seen.
        learning_rate: of this step.
    """

    step: int
    tokens: int
    loss: float
    fvu: float
    l0: float
    dead: float
    learning_rate: float


@dataclass(frozen=True)
class TrainedSAE:
    """An SAE and how it was trained.

    Attributes:
        sae: on raw tokens, on the CPU; decoder rows have length 1.
        config: the options it was trained with.
        history: the training curves; the last point is of the last step.
        mean_over_std: |mean| / |std| of the tokens before centring.
        mean_token_norm: mean length of the tokens.
        passes: how many passes over the tokens were started.
        held_out: its scores on tokens it was not trained on, where some were left out.
        downstream: how well the rest of the model does on its reconstructions of them, where the model was at hand.
    """

    sae: SparseAutoencoder
    config: TrainConfig
    history: tuple[TrainingPoint, ...]
    mean_over_std: float
    mean_token_norm: float
    passes: int
    held_out: HeldOut | None
    downstream: Downstream | None = None

    def save(self, directory: str | Path, site: Mapping[str, Any] | None = None) -> None:
        """Write the SAE directory: weights, description and training curves.

        Args:
            directory: where to write it.
            site: where the tokens came from: model, revision, block, ...

        Raises:
            InfoscopeError: the directory cannot be written.
        """
        last = self.history[-1]
        training = {
            "config": asdict(self.config),
            "mean_over_std": self.mean_over_std,
            "passes": self.passes,
            "fvu": last.fvu,
            "l0": last.l0,
            "dead": last.dead,
            "held_out": None if self.held_out is None else self.held_out.to_json(),
            "downstream": None if self.downstream is None else asdict(self.downstream),
        }
        columns = [column.name for column in fields(TrainingPoint)]
        curves = {column: [getattr(point, column) for point in self.history] for column in columns}
        save_sae(self.sae, directory, site=self.site(site), training=training, curves=curves)

    def site(self, site: Mapping[str, Any] | None) -> dict[str, Any]:
        """Where the tokens came from, and their mean length, by which a measurement can tell that its own differ."""
        return {**(site or {}), "mean_token_norm": self.mean_token_norm}


@dataclass(frozen=True)
class Destination:
    """Where the SAEs of one training are written, by the first of its processes.

    Attributes:
        out: the directory; None writes nothing.
        configs: their options. A single SAE is written to ``out`` itself, several to a folder each in it.
        processes: those that train together.
    """

    out: Path | None
    configs: Sequence[TrainConfig]
    processes: Processes = field(default_factory=Processes)

    @property
    def folders(self) -> list[Path]:
        """Where each SAE is written."""
        assert self.out is not None
        return [self.out] if len(self.configs) == 1 else [self.out / name for name in names_of(self.configs)]

    @property
    def checkpoints(self) -> Path | None:
        """Where the state of the unfinished training is kept."""
        return None if self.out is None else self.out / CHECKPOINTS

    def check(self, width: int) -> None:
        """Refuse before training what could not be written after it.

        Args:
            width: length of a token.

        Raises:
            InfoscopeError: two SAEs have the same options, the directory holds anything but this training's state, or
                the disk is too full.
        """
        names = names_of(self.configs)
        if len(set(names)) < len(names):
            raise InfoscopeError("two of the SAEs have the same options; give each once")
        if self.out is None or self.processes.rank > 0:
            return
        if self.out.is_dir():
            replaceable = set()
            if (self.out / CHECKPOINTS).exists():
                # A training that was stopped while it wrote its SAEs still has its state, and writes them again.
                replaceable = {CHECKPOINTS, WEIGHTS_FILE, CURVES_FILE, DESCRIPTION_FILE, *names}
                remove_leftovers(self.out)
            if {path.name for path in self.out.iterdir()} - replaceable:
                raise InfoscopeError(f"{self.out} is not empty, and an SAE is never written over; choose another --out")
        weights = sum(4 * config.features * (2 * width + 1) for config in self.configs)
        window = 4 * width * min(self.configs[0].buffer_tokens, self.configs[0].tokens)
        # Each process keeps its weights, Adam's two moments of them and its window of tokens; twice, because a new
        # state is written before the old one is deleted.
        state = 2 * (3 * weights + window) * self.processes.count
        check_space(self.out, weights + state, "the SAE and its training's state take", "choose another --out")

    def deliver(
        self, trained: Sequence[TrainedSAE], site: Mapping[str, Any], device: str | torch.device
    ) -> list[SparseAutoencoder]:
        """Give the SAEs with their site, on the device; where there is a directory, written and read back.

        Raises:
            InfoscopeError: they cannot be written.
        """
        if self.out is None or self.processes.rank > 0:
            for one in trained:
                one.sae.site = one.site(site)
            return [one.sae.to(device) for one in trained]
        for one, folder in zip(trained, self.folders, strict=True):
            one.save(folder, site)
        shutil.rmtree(self.out / CHECKPOINTS, ignore_errors=True)
        return [load_sae(folder, device) for folder in self.folders]


def check_space(path: Path, needed: int, what: str, advice: str) -> None:
    """Refuse what the disk has no room for.

    Args:
        path: what will be written, or the folder it will be written to.
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
    folder = path.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InfoscopeError(
            f"{path} has {free / 2**20:.0f} MiB of free space and {what} {needed / 2**20:.0f}; "
            f"free the space or {advice}"
        )
