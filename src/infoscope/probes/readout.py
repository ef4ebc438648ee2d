"""What is kept of a variant's outputs for a head to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from infoscope.backbones.backbone import Backbone
from infoscope.backbones.running_on import Outputs
from infoscope.probes.store import StoredArray
from infoscope.removal.config import Site


@dataclass(frozen=True)
class Readout:
    """Which vectors of an image are kept.

    Attributes:
        vectors: ``cls`` or ``mean`` (of the patch tokens) and a block counted from the end; side by side in the array
            ``vectors``.
        patches: whether every patch token of the last block is kept, in the array ``patches``.
        final_norm: whether tokens go through the model's norm after the last block first.
    """

    vectors: tuple[tuple[str, int], ...] = ()
    patches: bool = False
    final_norm: bool = True

    def arrays(self, backbone: Backbone, dtype: str = "float16") -> dict[str, StoredArray]:
        """The arrays that hold them.

        Args:
            backbone: the model.
            dtype: ``float16``, half the space, whose range values are checked to be within; or ``float32``.
        """
        found = {}
        if self.vectors:
            found["vectors"] = StoredArray((len(self.vectors) * backbone.width,), dtype)
        if self.patches:
            found["patches"] = StoredArray((backbone.grid**2, backbone.width), dtype)
        return found

    def blocks(self, backbone: Backbone, site: Site) -> tuple[int, ...]:
        """The blocks that have to be read at a site, ascending."""
        if site == "site":
            return (backbone.block,)
        back = {block for _, block in self.vectors} | ({-1} if self.patches else set())
        return tuple(sorted(block % backbone.blocks for block in back))

    def take(self, backbone: Backbone, outputs: Outputs, site: Site) -> Mapping[str, np.ndarray]:
        """The arrays' entries for some images.

        Args:
            backbone: the model.
            outputs: of a variant, with the blocks of `blocks`.
            site: at the site ``site`` every block is the backbone's.
        """
        normed: dict[int, Tensor] = {}

        def tokens(back: int) -> Float32[Tensor, "image token width"]:
            block = backbone.block if site == "site" else back % backbone.blocks
            if block not in normed:
                read = outputs.tokens[block]
                normed[block] = backbone.final_norm(read) if self.final_norm else read
            return normed[block]

        prefix = backbone.prefix_tokens
        found = {}
        if self.vectors:
            each = [
                tokens(back)[:, 0] if name == "cls" else tokens(back)[:, prefix:].mean(1) for name, back in self.vectors
            ]
            found["vectors"] = torch.cat(each, dim=1).cpu().numpy()
        if self.patches:
            found["patches"] = tokens(-1)[:, prefix:].cpu().numpy()
        return found
