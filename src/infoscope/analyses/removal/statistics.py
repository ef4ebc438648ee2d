"""Statistics of codes over a sample of images: means, activation mass, and images that codes can be taken from."""

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
from infoscope.analyses.removal.sample import SampleReader, TokenSample
from infoscope.backbones.backbone import Backbone
from infoscope.backbones.families import tokens_of
from infoscope.dictionaries.parts import encode_parts
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.images.prefetch import all_unreadable, decode_readable
from infoscope.images.source import ImageSource, spread_evenly
from infoscope.images.views import Views
from infoscope.measurement.identity import check_width
from infoscope.options import Resize, TokenSet
from infoscope.runtime.execution import Execution, run_here
from infoscope.runtime.progress import progress
from infoscope.runtime.typed import Positive, check_value

# Images that codes can be taken from. Our choice: more than most small sets have classes, and 25 MB for a ViT-S.
DONORS = 64


@dataclass(frozen=True)
class CodeStatistics:
    """Statistics of the codes of a sample of images.

    Attributes:
        mean: mean code of each feature over the sample's tokens, including those it is not active on.
        mass: activation mass of each feature per token: the mean size of its code, times its decoder row's norm.
        tokens: number of tokens that the means are over.
        donors: tokens of the images that codes can be taken from, ``[image, token, width]``, of the SAE's token set.
        donor_ids: the ids of these images.
        sample: tokens drawn from all images of the sample, on which removed energy is measured; None where none were
            drawn.
    """

    mean: Float64[np.ndarray, " feature"]
    mass: Float64[np.ndarray, " feature"]
    tokens: int
    donors: Float32[Tensor, "donor token width"]
    donor_ids: tuple[str, ...]
    sample: TokenSample | None = None

    def donors_of(self, ids: Sequence[str], seed: int) -> Int64[np.ndarray, " image"]:
        """A donor for each image, chosen by the image's id and the seed alone, and never the image itself.

        Args:
            ids: the images' ids.
            seed: seed of the choice.
        """
        count = len(self.donor_ids)
        chosen = []
        for image_id in ids:
            # Python's own hash differs between processes.
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
        images: the images: those that a probe is trained on, never those it is tested on.
        token_set: the tokens that the SAE was trained on.
        resize: how an image becomes square.
        sample_images: most images to read.
        donors: most images whose tokens are kept.
        execution: how the pass runs; it changes memory and speed, not the result.
        **options: options of ``execution`` by name, such as ``batch_size=4``; they override its own.

    Raises:
        InfoscopeError: model and SAE have different widths, no image of the sample can be read, or a number is below 1.
    """
    check_value("--sample-images", sample_images, Positive)
    execution = run_here(execution, options)
    batch_size = execution.batch_size or backbone.batch_size
    check_width(backbone, sae)
    sae = sae.to(backbone.device)
    views = Views(backbone.patch_size, backbone.grid, 0, resize)
    sample = sorted(spread_evenly(len(images), sample_images))
    donor_images = {sample[place] for place in spread_evenly(len(sample), donors)}
    place_of = {index: place for place, index in enumerate(sample)}
    reader = SampleReader(len(sample))
    chosen = tokens_of(token_set, backbone.prefix_tokens)
    total, size, tokens = np.zeros(sae.features), np.zeros(sae.features), 0
    donor_tokens: list[Tensor] = []
    donor_ids: list[str] = []
    skipped: list[tuple[int, str]] = []
    with progress("Reading codes", len(sample), "images") as advance:
        for batch in decode_readable(images, sample, views.full, batch_size, execution.threads, skipped, advance):
            read = backbone.all_tokens(batch.pixels)[:, chosen]
            codes = encode_parts(sae, read.flatten(0, 1), read.shape[1])
            feature, value = codes.feature.cpu().numpy(), codes.value.cpu().numpy().astype(np.float64)
            # One by one in the order of the tokens, so that the sums do not depend on batches.
            np.add.at(total, feature, value)
            np.add.at(size, feature, np.abs(value))
            tokens += read.shape[0] * read.shape[1]
            reader.add(read, codes, [place_of[index] for index in batch.index], [images.ids[i] for i in batch.index])
            for row, index in enumerate(batch.index):
                if index in donor_images:
                    donor_tokens.append(read[row].cpu())
                    donor_ids.append(images.ids[index])
    if not tokens:
        raise all_unreadable(images, skipped[0][1])
    norm = sae.W_dec.norm(dim=1).double().cpu().numpy()
    stacked = torch.stack(donor_tokens) if donor_tokens else read.new_zeros(0, *read.shape[1:]).cpu()
    return CodeStatistics(total / tokens, size / tokens * norm, tokens, stacked, tuple(donor_ids), reader.sample())
