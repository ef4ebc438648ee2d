"""A trained SAE and how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from infoscope.dictionaries.loading import save_sae
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.training.config import TrainConfig
from infoscope.training.held_out import Downstream, HeldOut


@dataclass(frozen=True)
class TrainingPoint:
    """One point of the training curves, taken on one batch before its step.

    Attributes:
        step: batches seen, this one included.
        tokens: tokens seen.
        loss: what is minimised.
        fvu: fraction of variance unexplained.
        l0: codes above 0 a token.
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
    """An SAE, and how it came about.

    Attributes:
        sae: on raw tokens, on the CPU; decoder rows have length 1.
        config: the options it was trained with.
        history: the training curves; the last point is of the last step.
        mean_over_std: |mean| / |std| of the tokens before centring.
        mean_token_norm: mean length of the tokens.
        passes: passes over the tokens that were begun.
        held_out: what the SAE does on tokens it was not trained on, where some were left out.
        downstream: what the rest of the model makes of its reconstructions there, where the model was at hand.
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
            directory: where to.
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
        columns = [field.name for field in fields(TrainingPoint)]
        curves = {column: [getattr(point, column) for point in self.history] for column in columns}
        save_sae(self.sae, directory, site=self.site(site), training=training, curves=curves)

    def site(self, site: Mapping[str, Any] | None) -> dict[str, Any]:
        """Where the tokens came from, and how long they are: a measurement looks whether its own are alike."""
        return {**(site or {}), "mean_token_norm": self.mean_token_norm}
