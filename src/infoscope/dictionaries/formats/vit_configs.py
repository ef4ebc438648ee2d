"""What the pickled configurations of Prisma and PatchSAE share: both descend from one trainer."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from infoscope.dictionaries.formats.files import TorchFile, tensors_of


def config_and_weights(file: TorchFile) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """``{"cfg" or "config", "state_dict"}``, or the older ``{"config", "autoencoder": {"state_dict"}}``.

    Returns:
        The configuration and the weights; None for any other file.
    """
    config = file.content.get("cfg", file.content.get("config"))
    inside = file.content.get("autoencoder")
    weights = file.content.get("state_dict", inside.get("state_dict") if isinstance(inside, dict) else None)
    if not isinstance(config, dict) or not isinstance(weights, dict):
        return None
    return config, tensors_of(weights)
