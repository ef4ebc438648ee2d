"""`train_on_cache`: from tokens on disk to an SAE; neither the model nor the images are there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from infoscope.devices import find_device
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.storage.token_cache import open_token_cache
from infoscope.training.config import TrainConfig
from infoscope.training.output import check_out, hand_out, train_with_progress


def train_on_cache(
    path: Path | str,
    config: TrainConfig | None = None,
    *,
    out: Path | str | None = None,
    device: str | torch.device = "auto",
    show_progress: bool = True,
    **options: Any,
) -> SparseAutoencoder:
    """Train a sparse autoencoder on a finished token cache.

    With the options and the device of the `train_sae` that wrote the cache, the SAE is the same to the bit.

    Args:
        path: the cache, ``CACHE/<hash>``.
        config: the options (see `TrainConfig`); a cache of fewer than ``config.tokens`` is passed over again. The
            order of the images is the one they are stored in, whatever the seed.
        out: an SAE directory to write. Without it nothing is written.
        device: ``auto`` (a CUDA GPU where there is one, else the CPU), ``cpu``, ``cuda``, ``cuda:1``, ...
        show_progress: report progress on stderr, with FVU, L0 and the share of dead features.
        **options: options by name, such as ``features=4096, k=32``; they come before those of ``config``.

    Returns:
        The SAE on the model's own tokens.

    Raises:
        InfoscopeError: there is no such cache or it is broken, training diverges, or ``out`` is taken or cannot be
            written.

    Example:
        >>> import tempfile
        >>> from infoscope.storage.token_writer import TokenCacheWriter
        >>> writer = TokenCacheWriter(Path(tempfile.mkdtemp()) / "0", {}, range(20), patches=16, width=8)
        >>> tokens = torch.randn(20, 16, 8, generator=torch.Generator().manual_seed(0))
        >>> writer.add(list(range(20)), tokens, skipped=[])
        >>> cache = writer.finish({"block": 10})
        >>> sae = train_on_cache(cache.path, features=12, k=4, tokens=1000, show_progress=False)
        >>> sae.features, sae.site
        (12, {'block': 10})
    """
    config = replace(config or TrainConfig(), **options)
    cache = open_token_cache(path)
    check_out(out, config.features, cache.width)
    place = find_device(device)
    trained = train_with_progress(cache, config, place, show_progress)
    return hand_out(trained, cache.site, out, place)
