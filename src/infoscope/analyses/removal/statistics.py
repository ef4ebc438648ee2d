"""What codes are like over a sample of images: their means, their mass, and images to take others' codes from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from infoscope.analyses.removal.config import SAMPLE_IMAGES
from infoscope.backbones.backbone import Backbone
from infoscope.backbones.families import TokenSet, tokens_of
from infoscope.dictionaries.parts import encode_parts
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import check_counts
from infoscope.images.prefetch import all_unreadable, decode_ahead
from infoscope.images.source import ImageSource
from infoscope.images.spread import spread_evenly
from infoscope.images.views import Views
from infoscope.measurement.identity import check_width
from infoscope.runtime.choices import Resize
from infoscope.runtime.execution import Execution, run_here
from infoscope.runtime.progress import progress

# Our choice: more than there are classes in most small sets, and 25 MB of a ViT-S's tokens.
DONORS = 64


@dataclass(frozen=True)
class CodeStatistics:
    """Codes over a sample of images.

    Attributes:
        mean: mean code of each feature over the sample's tokens, those where it is off among them.
        mass: activation mass of each feature to a token: mean size of its code times its decoder row's norm.
        tokens: how many tokens they are over.
        donors: tokens of some of the images, ``[image, token, width]``, of the SAE's token set.
        donor_ids: those images' ids.
    """

    mean: Float64[np.ndarray, " feature"]
    mass: Float64[np.ndarray, " feature"]
    tokens: int
    donors: Float32[Tensor, "donor token width"]
    donor_ids: tuple[str, ...]

    def donors_of(self, ids: Sequence[str], seed: int) -> Int64[np.ndarray, " image"]:
        """A donor for each image, chosen by its id and the seed alone, and never the image itself.

        Args:
            ids: the images' ids.
            seed: of the choice.
        """
        count = len(self.donor_ids)
        chosen = []
        for image_id in ids:
            # Python's own hash differs from process to process.
            donor = int.from_bytes(hashlib.sha256(f"{seed}/{image_id}".encode()).digest()[:8]) % count
            chosen.append((donor + 1) % count if self.donor_ids[donor] == image_id else donor)
        return np.asarray(chosen, np.int64)


@torch.no_grad()
def read_statistics(
    backbone: Backbone,
    sae: SparseAutoencoder,
    images: ImageSource,
    *,
    token_set: TokenSet = "patch",
    resize: Resize = "stretch",
    sample_images: int = SAMPLE_IMAGES,
    donors: int = DONORS,
    execution: Execution | None = None,
    **options: Any,
) -> CodeStatistics:
    """Read the codes of a sample of images, spread evenly over the source.

    Args:
        backbone: the model at the SAE's block.
        sae: the dictionary; it is moved to the model's device.
        images: the images: those a probe is trained on, never those it is tested on.
        token_set: which tokens the SAE is of.
        resize: how an image becomes square.
        sample_images: how many images are read.
        donors: of how many the tokens are kept.
        execution: how the pass runs; it changes memory and speed, not the result.
        **options: options of ``execution`` by name, such as ``batch_size=4``; they come before its own.

    Raises:
        InfoscopeError: model and SAE have different widths, no image of the sample can be read, or a number is below 1.
    """
    check_counts(sample_images=sample_images)
    execution = run_here(execution, options)
    batch_size = execution.batch_size or backbone.batch_size
    check_width(backbone, sae)
    sae = sae.to(backbone.device)
    views = Views(backbone.patch_size, backbone.grid, 0, resize)
    sample = sorted(spread_evenly(len(images), sample_images))
    given = {sample[place] for place in spread_evenly(len(sample), donors)}
    chosen = tokens_of(token_set, backbone.prefix_tokens)
    total, size, tokens = np.zeros(sae.features), np.zeros(sae.features), 0
    kept: list[Tensor] = []
    kept_ids: list[str] = []
    reason = ""
    with progress("Reading codes", len(sample), "images") as advance:
        for batch in decode_ahead(images, sample, views.full, batch_size, execution.threads):
            reason = reason or next((why for _, why in batch.unreadable), "")
            if batch.index:
                read = backbone.all_tokens(batch.pixels)[:, chosen]
                codes = encode_parts(sae, read.flatten(0, 1), read.shape[1])
                feature, value = codes.feature.cpu().numpy(), codes.value.cpu().numpy().astype(np.float64)
                # One by one in the order of the tokens, so that the sums do not depend on batches.
                np.add.at(total, feature, value)
                np.add.at(size, feature, np.abs(value))
                tokens += read.shape[0] * read.shape[1]
                for place, index in enumerate(batch.index):
                    if index in given:
                        kept.append(read[place].cpu())
                        kept_ids.append(images.ids[index])
            advance(len(batch.index) + len(batch.unreadable))
    if not tokens:
        raise all_unreadable(images, reason)
    norm = sae.W_dec.norm(dim=1).double().cpu().numpy()
    stacked = torch.stack(kept) if kept else read.new_zeros(0, *read.shape[1:]).cpu()
    return CodeStatistics(total / tokens, size / tokens * norm, tokens, stacked, tuple(kept_ids))
