"""From a directory or hub id to an SAE in canonical form."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch

from infoscope.dictionaries.formats import infoscope
from infoscope.dictionaries.formats.infoscope import save_sae
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.hub import is_hub_id

__all__ = ["load_sae", "save_sae"]


class Format(Protocol):
    """What a module of `infoscope.dictionaries.formats` offers."""

    @property
    def FILES(self) -> tuple[str, ...]:  # noqa: N802 - a module's constant
        """Patterns of the files to fetch from the hub."""

    def recognises(self, directory: Path) -> bool:
        """Whether a directory looks like this format, whole or broken."""

    def read(self, directory: Path, name: str) -> SparseAutoencoder:
        """The SAE in a directory, on the CPU."""
        ...


FORMATS: tuple[Format, ...] = (infoscope,)


def load_sae(path: str | Path, device: str | torch.device = "cpu") -> SparseAutoencoder:
    """Load a sparse autoencoder.

    Nothing is ever unpickled, and a directory is never looked up on the network.

    Args:
        path: a directory, or the id of a repository on the Hugging Face hub.
        device: where to put the weights.

    Raises:
        InfoscopeError: there is no such SAE, its format is unknown, or its files are broken.

    Example:
        >>> load_sae("no/such/directory")
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: no such SAE: no/such/directory; name a directory that `infoscope train` wrote,
        or a hub id like owner/name
    """
    directory = Path(path).expanduser()
    try:
        if directory.exists():
            if not directory.is_dir():
                raise InfoscopeError(f"{path} is a file; name the directory that holds the SAE")
        elif is_hub_id(str(path)):
            directory = _fetch(str(path))
        else:
            raise InfoscopeError(
                f"no such SAE: {path}; name a directory that `infoscope train` wrote, or a hub id like owner/name"
            )
        return _read(directory, str(path)).to(device)
    except OSError as error:
        raise InfoscopeError(f"cannot read {path}: {error.strerror or error}") from error


def _read(directory: Path, name: str) -> SparseAutoencoder:
    for candidate in FORMATS:
        if candidate.recognises(directory):
            return candidate.read(directory, name)
    wanted = " or ".join(candidate.FILES[0] for candidate in FORMATS)
    raise InfoscopeError(f"{name} holds no SAE of a known format (no {wanted}); name an SAE directory")


def _fetch(name: str) -> Path:
    """The hub's snapshot of the files that can be read, from the cache where it has them."""
    from huggingface_hub import snapshot_download

    wanted = [pattern for candidate in FORMATS for pattern in candidate.FILES]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # the network's failures are an open set: offline, gated, no such repository
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InfoscopeError(
            f"no such SAE: {name} is no directory here and the hub does not give it ({reason}); "
            "check the name and the network"
        ) from error
