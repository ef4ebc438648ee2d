"""Scores of an SAE, and of the rest of the model after it, on tokens it was not trained on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from infoscope.dictionaries.dense import reconstruct
from infoscope.dictionaries.fvu import FVU
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.dictionaries.sparse import count_active, encode_sparse
from infoscope.training.processes import Processes

# Our choice: the tokens of 64 photographs at 16 x 16 patches determine an FVU to about a hundredth of itself.
MOST = 16_384
# Tokens encoded at a time, so that their codes take little memory.
_CHUNK = 2048
# Edges of the histogram of densities, as powers of ten; features that never fire are counted apart.
DENSITY_EDGES = tuple(round(-6 + 0.25 * i, 2) for i in range(25))


@dataclass(frozen=True)
class HeldOut:
    """How an SAE does on tokens that were left out of its training.

    Attributes:
        tokens: how many there are.
        fvu: fraction of variance unexplained, against their mean.
        l0: codes above 0 per token.
        dead: share of features that fire on none of them.
        density: how many features fire on a share of the tokens between neighbouring edges, from 10^-6 to 1 in quarters
            of a power of ten (`DENSITY_EDGES`); rarer ones are in the first bin.
    """

    tokens: int
    fvu: float
    l0: float
    dead: float
    density: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """For ``sae.json``, with the edges."""
        return asdict(self) | {"density_edges_log10": list(DENSITY_EDGES)}


@dataclass(frozen=True)
class Downstream:
    """How far the model's last hidden state moves when an SAE's reconstructions replace the tokens.

    A backbone without a head has no loss that could rise; this is the share of its output that is lost instead.

    Attributes:
        images: how many images were used, none of them in training.
        fvu_patches: squared errors of the patch tokens over their squared distances from their mean.
        fvu_cls: the same for the CLS token; None where there is none.
    """

    images: int
    fvu_patches: float
    fvu_cls: float | None


def evaluate(
    sae: SparseAutoencoder, tokens: Float[Tensor, "token width"], processes: Processes | None = None
) -> HeldOut:
    """Score an SAE on tokens.

    Args:
        sae: the dictionary.
        tokens: raw tokens, at least two different ones.
        processes: those that have tokens; the scores are of all their tokens.

    Example:
        >>> import torch
        >>> from infoscope.dictionaries.activations import ReLU
        >>> sae = SparseAutoencoder(torch.eye(2), torch.zeros(2), torch.eye(2), torch.zeros(2), ReLU())
        >>> held_out = evaluate(sae, torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
        >>> held_out.fvu, held_out.l0, held_out.dead, sum(held_out.density)
        (0.0, 1.0, 0.5, 1)
    """
    own = FVU(sae.width)
    active = np.zeros(sae.features, np.int64)
    for chunk in tokens.split(_CHUNK):  # type: ignore[no-untyped-call]
        chunk = chunk.to(sae.W_enc.device)
        active += count_active(encode_sparse(sae, chunk), sae.features)
        own.update(chunk, reconstruct(sae, chunk))
    processes = processes or Processes()
    fvu = processes.merge(own)
    active = np.sum(processes.gather(active), axis=0)
    density = active[active > 0] / fvu.tokens
    counts, _ = np.histogram(np.log10(density).clip(DENSITY_EDGES[0], DENSITY_EDGES[-1]), DENSITY_EDGES)
    return HeldOut(
        tokens=fvu.tokens,
        fvu=fvu.value,
        l0=float(active.sum() / fvu.tokens),
        dead=float((active == 0).mean()),
        density=tuple(counts.tolist()),
    )


def hold_out(tokens: int) -> int:
    """How many tokens to hold out of a pass of ``tokens``: a tenth, and no more than `MOST`.

    Example:
        >>> hold_out(1000), hold_out(10**6)
        (100, 16384)
    """
    return min(tokens // 10, MOST)


def with_held_out(tokens: int) -> int:
    """How long a pass must be to have ``tokens`` left when some are held out.

    Example:
        >>> with_held_out(900), with_held_out(10**6) - 10**6
        (1000, 16384)
    """
    return min(-(-10 * tokens // 9), tokens + MOST)
