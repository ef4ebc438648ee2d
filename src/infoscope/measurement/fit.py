"""The fit check: does this SAE reconstruct this model's tokens on these images?"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch

from infoscope.backbones.backbone import Backbone
from infoscope.dictionaries.activations import TopK
from infoscope.dictionaries.fvu import FitSums
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.dictionaries.untrained import KINDS, reconstructs
from infoscope.images.prefetch import all_unreadable, decode_readable
from infoscope.images.source import Images, open_images, spread_evenly
from infoscope.images.views import Views
from infoscope.measurement.encode import encode_views
from infoscope.measurement.fit_judgement import judge_fit
from infoscope.measurement.identity import check_width, dictionary_record, model_record
from infoscope.measurement.ranking import Ranked
from infoscope.options import Resize
from infoscope.runtime.execution import Execution, run_here
from infoscope.runtime.manifest import FitRecord
from infoscope.runtime.progress import progress

# Our choice: 65,536 tokens of a 16 x 16 grid determine an FVU to the third digit, at well under 1 % of a pass's cost.
SAMPLE_IMAGES = 256


def fit_sample(count: int) -> frozenset[int]:
    """The images that the fit check is made on: all, or `SAMPLE_IMAGES` spread evenly over the source.

    Example:
        >>> len(fit_sample(100)), len(fit_sample(3000)), max(fit_sample(3000))
        (100, 256, 2999)
    """
    return spread_evenly(count, SAMPLE_IMAGES)


def fit_record(ranked: Ranked, backbone: Backbone, sae: SparseAutoencoder) -> FitRecord:
    """The fit check of a ranking pass, judged; L0 and the dead share are also given over all images."""
    _, tokens = ranked.ranking.seen
    active = ranked.ranking.tokens_active
    return _judged_record(ranked.fit, float(active.sum() / tokens), float((active == 0).mean()), backbone, sae)


@torch.no_grad()
def check_fit(
    backbone: Backbone,
    sae: SparseAutoencoder,
    images: Images,
    *,
    resize: Resize = "stretch",
    execution: Execution | None = None,
    **options: Any,
) -> FitRecord:
    """Check whether an SAE fits a model, in one pass over a sample of images.

    Args:
        backbone: the model, at the block that the SAE is meant for.
        sae: the dictionary.
        images: the images; at most 256 are read, spread evenly over them.
        resize: how an image becomes square.
        execution: how the pass runs; it changes memory and speed, not the result.
        **options: options of ``execution`` by name, such as ``batch_size=4``; they override its own.

    Returns:
        The numbers, and in ``warnings`` the evidence against the SAE: an empty list where it fits.

    Raises:
        InfoscopeError: the SAE and the model have different widths, or no image of the sample can be read.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from transformers import ViTConfig, ViTModel
        >>> from infoscope.backbones.loading import load_backbone
        >>> directory = tempfile.mkdtemp()
        >>> ViTModel(ViTConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        ...                    image_size=64, patch_size=8)).save_pretrained(directory)
        >>> backbone = load_backbone(directory, block=-1, device="cpu")
        >>> identity = torch.cat([torch.eye(32), -torch.eye(32)], dim=1)
        >>> sae = SparseAutoencoder(identity, torch.zeros(64), identity.T.contiguous(), torch.zeros(32), TopK(32))
        >>> photographs = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
        >>> fit = check_fit(backbone, sae, photographs)
        >>> round(fit.fvu, 6), fit.l0, fit.sample, fit.warnings    # it reconstructs every token
        (0.0, 32.0, 384, [])
    """
    execution = run_here(execution, options)
    images = open_images(images)
    check_width(backbone, sae)
    sae = sae.to(backbone.device)
    view = Views(backbone.patch_size, backbone.grid, 0, resize).full
    sample = sorted(fit_sample(len(images)))
    sums = FitSums.empty(backbone.width, sae.features)
    batch_size = execution.batch_size or backbone.batch_size
    skipped: list[tuple[int, str]] = []
    with progress("Checking the fit", len(sample), "images") as advance:
        for batch in decode_readable(images, sample, view, batch_size, execution.threads, skipped, advance):
            tokens = backbone.tokens(batch.pixels).flatten(0, 1)
            codes = encode_views(sae, tokens, backbone.grid**2)
            all_tokens = slice(0, len(tokens))
            sums.update(tokens, codes.reconstruct(all_tokens), codes.active(all_tokens))
    if not sums.fvu.tokens:
        raise all_unreadable(images, skipped[0][1])
    return _judged_record(sums, sums.l0, sums.dead, backbone, sae)


def _judged_record(sums: FitSums, l0: float, dead: float, backbone: Backbone, sae: SparseAutoencoder) -> FitRecord:
    site = sae.site or {}
    trained_norm = site.get("mean_token_norm")
    sampled = sums.fvu.tokens > 0
    kind = KINDS.get(sae.format)
    record = FitRecord(
        fvu=None if math.isnan(sums.fvu.value) or not reconstructs(sae.format) else sums.fvu.value,
        l0=l0,
        dead=dead,
        sample=sums.fvu.tokens,
        sample_l0=sums.l0 if sampled else None,
        sample_dead=sums.dead if sampled else None,
        k=sae.activation.k if isinstance(sae.activation, TopK) else None,
        token_norm=sums.mean_norm if sampled else None,
        trained_norm=float(trained_norm) if isinstance(trained_norm, int | float) else None,
    )
    if kind:
        return replace(record, warnings=[], note=kind.note)
    return replace(record, warnings=judge_fit(record, site, model_record(backbone), dictionary_record(sae)))
