"""Features planted into a real vision model's tokens."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from infoscope.backbones.backbone import Backbone
from infoscope.planted.features import PlantedFeatures
from infoscope.planted.model import to_bytes


class PlantedInto(nn.Module):
    """A real vision model, with codes times directions added to the patch tokens of one block.

    Args:
        backbone: the model at that block.
        features: the planted features.
        windows: as for `PlantedFeatures`.
        directions: ``[feature, width]``.
        peaks: ``[feature]``.
    """

    mean: Tensor
    std: Tensor
    windows: Tensor
    directions: Tensor
    scale: Tensor

    def __init__(
        self,
        backbone: Backbone,
        features: PlantedFeatures,
        windows: Float[Tensor, "patch window"],
        directions: Float[Tensor, "feature width"],
        peaks: Float[Tensor, " feature"],
    ):
        super().__init__()
        self.model = backbone.model
        self.features = features
        self.at = f"{backbone.layout.blocks}.{backbone.block}"
        self.prefix = backbone.prefix_tokens
        for name, tensor in {
            "mean": torch.tensor(backbone.mean, device=peaks.device).view(3, 1, 1),
            "std": torch.tensor(backbone.std, device=peaks.device).view(3, 1, 1),
            "windows": windows,
            "directions": directions,
            "scale": peaks / features.strength,
        }.items():
            self.register_buffer(name, tensor)

    def forward(self, pixel_values: Float[Tensor, "image 3 row column"], **options: Any) -> Any:
        """What the model gives for its normalised pixels, the features planted in between."""
        views = to_bytes(pixel_values.float() * self.std + self.mean)
        planted = [self.features(view, self.windows) for view in views]
        added = [(one.codes + one.error) * self.scale @ self.directions for one in planted]
        addition = torch.stack([torch.cat([one.new_zeros(self.prefix, one.shape[1]), one]) for one in added])

        def write(module: nn.Module, given: tuple[Any, ...], output: Any) -> Any:
            if isinstance(output, tuple):
                return (output[0] + addition.to(output[0].dtype), *output[1:])
            return output + addition.to(output.dtype)

        # First of the hooks, so that whoever reads the block reads it with the features in.
        hook = self.model.get_submodule(self.at).register_forward_hook(write, prepend=True)
        try:
            return self.model(pixel_values, **options)
        finally:
            hook.remove()
