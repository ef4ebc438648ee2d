"""Step 5: the SAE, with the direction of outlier tokens given.

Outlier tokens are some fifty times as long as the others, and nearly all of that is one vector which they share. An SAE
of the usual recipe spends the codes of an outlier token on it, k features that all fire on every one of them, and
learns normal tokens badly beside it (docs/training.md, *Features that live on few tokens*). So the part of every token
along that vector is taken out, an SAE is trained on what is left, and the vector is appended as one more feature: an
ordinary TopK SAE of the model's own tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from jaxtyping import Float
from torch import Tensor, nn

import infoscope
from infoscope.dictionaries.activations import TopK
from infoscope.dictionaries.fvu import FVU
from infoscope.images.watched import watch
from infoscope.runtime.json_values import to_json
from infoscope.training.config import TrainConfig
from infoscope.training.loop import train_on_tokens
from infoscope.training.passes import TokenPasses

LONG = 3.0
"""Times the median norm that make an outlier, as in infoscope."""
HELD = 30
"""Every so many-th batch of photographs is held out, to say how well the SAE fits."""


@dataclass(frozen=True)
class Sae:
    """Train it."""

    model: Path
    """The model."""
    images: Path
    """Photographs."""
    out: Path
    """The folder to write."""
    block: int = 4
    """The block it is of: where the outliers are written, so that two blocks still read what is removed."""
    features: int = 768
    """With the one that is given."""
    k: int = 16
    """Codes a token, with that one."""
    tokens: int = 1_176_000
    """To train on: twice all those of Imagenette's photographs."""
    seed: int = 0
    """Of the start and of the order of photographs."""

    def run(self) -> None:
        """Train and write it."""
        backbone = infoscope.load_backbone(self.model, self.block, device="cpu")
        config = TrainConfig(features=self.features - 1, k=self.k - 1, tokens=self.tokens, seed=self.seed)
        passes = TokenPasses(backbone, watch(infoscope.open_images(self.images)), "stretch", config, 16, None)
        with torch.no_grad():
            parts = list(passes())
        passes.note_contents()
        held, stream = torch.cat(parts[::HELD]), Stream([part for at, part in enumerate(parts) if at % HELD])
        sae = stream.append_to(train_on_tokens(stream, config).sae)
        record = {"config": to_json(config), "outliers' direction": "given as the last feature"}
        record["held_out"] = self._fit(sae, held, stream.limit)
        # Names of no machine in particular.
        site = passes.site() | {"model": self.model.name}
        site["images"] |= {"source": "imagenette-train"}
        site["mean_token_norm"] = float(torch.cat(parts).norm(dim=1).mean())
        infoscope.save_sae(sae, self.out, site=site, training=record)
        print(json.dumps(record["held_out"], indent=1))

    @torch.no_grad()
    def _fit(self, sae: infoscope.SparseAutoencoder, tokens: Tensor, limit: float) -> dict[str, float]:
        """Of tokens that it was not trained on: what it leaves unexplained of either kind, and of both."""
        long = tokens.norm(dim=1) > limit
        found: dict[str, float] = {"tokens": len(tokens)}
        for kind, which in (("all", torch.ones_like(long)), ("outliers", long), ("normal", ~long)):
            fvu = FVU(sae.width)
            fvu.update(tokens[which], sae.decode(sae.encode(tokens[which])))
            found[kind] = fvu.value
        return found


class Stream:
    """Tokens without their part along the outliers' direction, photograph after photograph.

    Attributes:
        limit: tokens longer than this are outliers.
    """

    def __init__(self, parts: list[Float[Tensor, "token width"]]):
        self._parts = parts
        lengths = torch.cat([part.norm(dim=1) for part in parts])
        self.limit = LONG * float(lengths.median())
        tokens = torch.cat(parts)
        self._mean = tokens[lengths <= self.limit].mean(0)
        self._along = nn.functional.normalize(tokens[lengths > self.limit].mean(0) - self._mean, dim=0)

    def __iter__(self) -> Iterator[Tensor]:
        for part in self._parts:
            yield part - ((part - self._mean) @ self._along)[:, None] * self._along

    def append_to(self, sae: infoscope.SparseAutoencoder) -> infoscope.SparseAutoencoder:
        """The SAE of whole tokens: its features see nothing along the direction, and one more sees nothing else."""
        along, level = self._along, self._mean @ self._along
        assert isinstance(sae.activation, TopK)
        across = torch.eye(len(along)) - along[:, None] * along
        return infoscope.SparseAutoencoder(
            torch.cat([across @ sae.W_enc, along[:, None]], dim=1),
            torch.cat([sae.b_enc + level * (along @ sae.W_enc), -level[None]]),
            torch.cat([sae.W_dec @ across, along[None]]),
            sae.b_dec @ across + level * along,
            TopK(sae.activation.k + 1),
        )


if __name__ == "__main__":
    tyro.cli(Sae).run()
