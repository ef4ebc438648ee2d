"""What the rest of the model makes of reconstructions: tokens may be explained well and what matters of them badly."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from infoscope.backbones.running_on import WholePass
from infoscope.backbones.token_sets import TokenSet, tokens_of
from infoscope.dictionaries.dense import reconstruct
from infoscope.dictionaries.fvu import FVU
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.images.prefetch import decode_ahead
from infoscope.images.views import Views
from infoscope.progress import progress
from infoscope.training.held_out import Downstream
from infoscope.training.passes import TokenPasses


def look_downstream(
    saes: Sequence[SparseAutoencoder], passes: TokenPasses, show_progress: bool = False
) -> list[Downstream | None]:
    """Put each SAE into the model, on the photographs whose tokens are all held out.

    Only the tokens that the SAEs were trained on are replaced.

    Args:
        saes: on the model's own tokens.
        passes: what they were trained on.
        show_progress: report progress on stderr.

    Returns:
        None for each where no whole photograph was held out, or none can be read.
    """
    backbone = passes.backbone
    held_out = passes.order[: passes.held_out // passes.per_image]
    views = Views(backbone.patch_size, backbone.grid, shift=0, resize=passes.resize)
    for sae in saes:
        sae.to(backbone.device)
    sums = [(FVU(backbone.width), FVU(backbone.width)) for _ in saes]
    with progress("Downstream", len(held_out), "images", enabled=show_progress) as advance:
        for batch in decode_ahead(passes.images, held_out, views.full, passes.batch_size, passes.threads):
            if batch.index:
                own = WholePass(backbone, batch.pixels)
                for sae, of_sae in zip(saes, sums, strict=True):
                    edited = own.run_on(_reconstructed(own.stream, sae, passes.token_set, backbone.prefix_tokens))
                    _take(of_sae, own.outputs.last, edited.last, backbone.prefix_tokens)
            advance(len(batch.index) + len(batch.unreadable))
    for sae in saes:
        sae.to("cpu")
    return [_together(of_sae, passes) for of_sae in sums]


def _reconstructed(stream: Tensor, sae: SparseAutoencoder, token_set: TokenSet, prefix: int) -> Tensor:
    """The stream with the tokens of a set replaced by their reconstructions."""
    edited, chosen = stream.clone(), tokens_of(token_set, prefix)
    tokens = stream[:, chosen]
    edited[:, chosen] = reconstruct(sae, tokens.flatten(0, 1)).view(tokens.shape)
    return edited


def _take(sums: tuple[FVU, FVU], own: Tensor, edited: Tensor, prefix: int) -> None:
    for fvu, tokens in zip(sums, (slice(prefix, None), slice(min(prefix, 1))), strict=True):
        fvu.update(own[:, tokens].flatten(0, 1), edited[:, tokens].flatten(0, 1))


def _together(sums: tuple[FVU, FVU], passes: TokenPasses) -> Downstream | None:
    """Of all processes' photographs."""
    patches, cls = FVU(passes.backbone.width), FVU(passes.backbone.width)
    for ours, theirs in passes.processes.gather(tuple(fvu.arrays() for fvu in sums)):
        patches.merge(FVU.from_arrays(ours))
        cls.merge(FVU.from_arrays(theirs))
    images = patches.tokens // passes.backbone.grid**2
    if not images:
        return None
    return Downstream(images, patches.value, cls.value if cls.tokens > 1 else None)
