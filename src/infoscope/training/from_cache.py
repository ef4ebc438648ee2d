"""`train_on_cache`: from tokens on disk to an SAE, without the model and the images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infoscope.backbones.hardware import find_device
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.runtime.token_cache import WatchedCache, open_token_cache
from infoscope.training.checkpoint import EVERY_SECONDS
from infoscope.training.config import TrainConfig
from infoscope.training.held_out import hold_out
from infoscope.training.loop import train_several
from infoscope.training.processes import Processes, join_processes
from infoscope.training.trained_sae import Destination


def train_on_cache(
    path: Path | str,
    config: TrainConfig | None = None,
    *,
    out: Path | str | None = None,
    device: str | torch.device = "auto",
    checkpoint_seconds: float = EVERY_SECONDS,
    **options: Any,
) -> SparseAutoencoder:
    """Train a sparse autoencoder on a finished token cache.

    With the options and the device of the `train_sae` that wrote the cache, the SAE is the same to the bit.

    Args:
        path: the cache, ``CACHE/<hash>``.
        config: the options (see `TrainConfig`); as many passes over the cache are made as ``config.tokens`` takes. The
            images come in the order in which they are stored, whatever the seed.
        out: an SAE directory to write. Without it nothing is written.
        device: ``auto`` (a CUDA GPU where there is one, else the CPU), ``cpu``, ``cuda``, ``cuda:1``, ...
        checkpoint_seconds: how much work an interruption may lose; see `train_sae`.
        **options: options by name, such as ``features=4096, k=32``; they override those of ``config``.

    Returns:
        The SAE on the model's own tokens.

    Raises:
        InfoscopeError: there is no such cache or it is damaged, training diverges, or ``out`` is taken or cannot be
            written.

    Example:
        >>> import tempfile
        >>> from infoscope.runtime.token_cache import TokenCacheWriter
        >>> writer = TokenCacheWriter(Path(tempfile.mkdtemp()) / "0", {}, range(20), patches=16, width=8)
        >>> tokens = torch.randn(20, 16, 8, generator=torch.Generator().manual_seed(0))
        >>> writer.add(list(range(20)), tokens, skipped=[])
        >>> cache = writer.finish({"block": 10})
        >>> sae = train_on_cache(cache.path, features=12, k=4, tokens=1000)
        >>> sae.features, sae.site["block"]
        (12, 10)
    """
    config = replace(config or TrainConfig(), **options)
    return train_several_on_cache(path, [config], out=out, device=device, checkpoint_seconds=checkpoint_seconds)[0]


def train_several_on_cache(
    path: Path | str,
    configs: Sequence[TrainConfig],
    *,
    out: Path | str | None = None,
    device: str | torch.device = "auto",
    checkpoint_seconds: float = EVERY_SECONDS,
) -> list[SparseAutoencoder]:
    """Train several sparse autoencoders on the same batches of a finished token cache, read once.

    Args:
        path: the cache, ``CACHE/<hash>``.
        configs: the options of each; see `infoscope.training.train.train_saes`.
        out: a directory to write them to.
        device: as for `train_on_cache`.
        checkpoint_seconds: how much work an interruption may lose.

    Raises:
        InfoscopeError: as for `train_on_cache`, or the options differ in what determines the batches.
    """
    cache = open_token_cache(path)
    if "process" in cache.made_by.get("order", {}):
        raise InfoscopeError(f"{path} holds one process's share of the images; give the model and the images again")
    device = find_device(device)
    processes = join_processes(device)
    destination = Destination(None if out is None else Path(out), configs, processes)
    destination.check(cache.width)
    shards = WatchedCache(cache)
    stored = cache.made_by.get("order", {}).get("images", cache.images) * cache.patches
    trained = train_several(
        cache if processes.count == 1 else Share(cache, processes),
        configs,
        device=device,
        held_out=hold_out(stored // processes.count),
        processes=processes,
        checkpoints=destination.checkpoints,
        checkpoint_seconds=checkpoint_seconds,
        # The identity that `train_sae` gives, so that either resumes what the other began.
        identity=cache.made_by,
        images=shards,
    )
    shards.check()
    return destination.deliver(trained, cache.site, device)


@dataclass(frozen=True)
class Share:
    """One process's share of the tokens: of every batch, each ``count``-th token.

    Example:
        >>> [tokens[:, 0].tolist() for tokens in Share([torch.arange(5.0)[:, None]], Processes(rank=1, count=2))]
        [[1.0, 3.0]]
    """

    tokens: Iterable[Tensor]
    processes: Processes

    def __iter__(self) -> Iterator[Tensor]:
        for tokens in self.tokens:
            yield tokens[self.processes.rank :: self.processes.count]
