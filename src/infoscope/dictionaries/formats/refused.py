"""Known files that cannot be used on patch tokens, refused with that reason."""

from __future__ import annotations

from infoscope.dictionaries.formats.files import TorchFile, tensors_of
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError

NAME = "refused"

# MSAE, sae.py: its parameters, at the top or under a key of the checkpoint.
_MSAE = {"encoder", "pre_bias", "latent_bias"}


def recognises(file: TorchFile) -> bool:
    """Whether it is a file of an SAE of whole-image embeddings."""
    inside = [file.tensors, *(tensors_of(value) for value in file.content.values())]
    return any(tensors.keys() >= _MSAE for tensors in inside)


def read(file: TorchFile, k: int | None) -> SparseAutoencoder:
    """Never an SAE.

    Raises:
        InfoscopeError: always.
    """
    raise InfoscopeError(
        f"SAE {file.name} is of MSAE: it was trained on one embedding of a whole image, so it has no codes of patches "
        "and no maps; name an SAE of patch tokens"
    )
