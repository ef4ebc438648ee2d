"""What the pickled configurations of Prisma and PatchSAE share: both descend from one trainer."""

from __future__ import annotations

from typing import Any

from infoscope.dictionaries.formats.files import TorchFile
from infoscope.dictionaries.formats.held import Settings, Tensors


def config_and_weights(file: TorchFile) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """``{"cfg" or "config", "state_dict"}``, or the older ``{"config", "autoencoder": {"state_dict"}}``.

    Returns:
        The configuration, and the entries of the state dict; None for any other file.
    """
    config = file.content.get("cfg", file.content.get("config"))
    inside = file.content.get("autoencoder")
    weights = file.content.get("state_dict", inside.get("state_dict") if isinstance(inside, dict) else None)
    if not isinstance(config, dict) or not isinstance(weights, dict):
        return None
    return config, weights


def accounts(file: TorchFile) -> tuple[Settings, Tensors]:
    """Configuration and weights, to be accounted for: in one pickle, or in ``config.json`` and a state dict."""
    both = config_and_weights(file)
    if both is None:
        return file.settings(), file.held()
    # What lies beside the two in the pickle counts as well.
    Settings(file.content, str(file.path), {"cfg", "config", "state_dict", "autoencoder"}).close()
    return Settings(both[0], f"{file.path}: its configuration"), Tensors(both[1], file.path)
