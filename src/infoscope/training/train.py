"""`train_sae`: from a model and images to SAEs on one block's patch tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from infoscope.backbones.backbone import Backbone
from infoscope.backbones.families import TokenSet, tokens_of
from infoscope.backbones.running_on import WholePass
from infoscope.dictionaries.dense import reconstruct
from infoscope.dictionaries.fvu import FVU
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.images.prefetch import decode_ahead
from infoscope.images.source import Images, open_images
from infoscope.images.views import Views
from infoscope.images.watched import watch
from infoscope.runtime.choices import Resize
from infoscope.runtime.progress import progress
from infoscope.runtime.token_cache import TokenCache, WatchedCache
from infoscope.training.checkpoint import EVERY_SECONDS
from infoscope.training.config import TrainConfig
from infoscope.training.held_out import Downstream
from infoscope.training.output import Destination, train_with_progress
from infoscope.training.passes import TokenPasses, cache_tokens
from infoscope.training.processes import join_processes
from infoscope.training.stream import TokenPool


def look_downstream(saes: Sequence[SparseAutoencoder], passes: TokenPasses) -> list[Downstream | None]:
    """Put each SAE into the model, on the photographs whose tokens are all held out.

    Only the tokens that the SAEs were trained on are replaced.

    Args:
        saes: on the model's own tokens.
        passes: what they were trained on.

    Returns:
        None for each where no whole photograph was held out, or none can be read.
    """
    backbone = passes.backbone
    held_out = passes.order[: passes.held_out // passes.per_image]
    views = Views(backbone.patch_size, backbone.grid, shift=0, resize=passes.resize)
    for sae in saes:
        sae.to(backbone.device)
    sums = [(FVU(backbone.width), FVU(backbone.width)) for _ in saes]
    with progress("Downstream", len(held_out), "images") as advance:
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


# Our choice: the tokens of 5,000 photographs at 16 x 16 patches and width 384 fit, and so does the machine's rest.
CACHE_BYTES = 2 * 2**30


def train_sae(
    backbone: Backbone,
    images: Images,
    config: TrainConfig | None = None,
    *,
    out: Path | str | None = None,
    resize: Resize = "stretch",
    token_set: TokenSet = "patch",
    batch_size: int | None = None,
    threads: int | None = None,
    cache: Path | str = "memory",
    cache_bytes: int = CACHE_BYTES,
    checkpoint_seconds: float = EVERY_SECONDS,
    **options: Any,
) -> SparseAutoencoder:
    """Train a sparse autoencoder on the tokens of the full views, in a random order of the images.

    Args:
        backbone: the model, at the block to train on.
        images: the images; as many passes over them are made as ``config.tokens`` takes.
        config: the options (see `TrainConfig`).
        out: an SAE directory to write. Without it nothing is written.
        resize: how an image becomes square.
        token_set: which of an image's tokens: ``patch``; ``all``, CLS and registers among them; or ``cls``, which is
            no SAE for maps, and says so wherever it is measured.
        batch_size: images to a forward pass; changes memory and speed, not the result. By default what suits the
            device, `Backbone.batch_size`.
        threads: decoding threads; one a core by default.
        cache: where the tokens are kept, so that a second pass need not run the model again: ``memory``; ``none``,
            where every pass is computed anew; or a directory, in which they get one of their own, named by the hash
            of what made them, are written before training, and are found by the next training on the same tokens. The
            SAE is the same to the bit.
        cache_bytes: memory for the tokens under ``memory``; those that do not fit are computed anew for every pass.
        checkpoint_seconds: how much of the work a stop may lose. An unfinished training's state is kept in
            ``out/unfinished``, and the same call goes on from there to the same weights.
        **options: options by name, such as ``features=4096, k=32``; they come before those of ``config``.

    Returns:
        The SAE on the model's own tokens; what centred and scaled them is folded into its weights.

    Raises:
        InfoscopeError: no image can be read, training diverges, or ``out`` or ``cache`` is taken or cannot be written.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from transformers import ViTConfig, ViTModel
        >>> from infoscope.backbones.loading import load_backbone
        >>> directory = tempfile.mkdtemp()
        >>> ViTModel(ViTConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        ...                    image_size=64, patch_size=8)).save_pretrained(directory)
        >>> backbone = load_backbone(directory, block=-1, device="cpu")
        >>> photographs = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
        >>> sae = train_sae(backbone, photographs, features=40, k=4, tokens=1000)
        >>> sae.features, str(sae.activation), sae.site["block"]
        (40, 'topk(4)', 1)
    """
    config = replace(config or TrainConfig(), **options)
    return train_saes(
        backbone,
        images,
        [config],
        out=out,
        resize=resize,
        token_set=token_set,
        batch_size=batch_size,
        threads=threads,
        cache=cache,
        cache_bytes=cache_bytes,
        checkpoint_seconds=checkpoint_seconds,
    )[0]


def train_saes(
    backbone: Backbone,
    images: Images,
    configs: Sequence[TrainConfig],
    *,
    out: Path | str | None = None,
    resize: Resize = "stretch",
    token_set: TokenSet = "patch",
    batch_size: int | None = None,
    threads: int | None = None,
    cache: Path | str = "memory",
    cache_bytes: int = CACHE_BYTES,
    checkpoint_seconds: float = EVERY_SECONDS,
) -> list[SparseAutoencoder]:
    """Train several sparse autoencoders on the same batches of tokens, which the model gives once.

    Args:
        backbone: as for `train_sae`, as are all arguments but these two.
        images: the images.
        configs: the options of each, which differ in what the SAE is and how it learns, not in the batches.
        out: a directory to write them to, each in a folder named by what the options differ in.
        resize: how an image becomes square.
        token_set: which of an image's tokens.
        batch_size: images to a forward pass.
        threads: decoding threads.
        cache: where the tokens are kept.
        cache_bytes: memory for the tokens under ``memory``.
        checkpoint_seconds: how much of the work a stop may lose.

    Returns:
        The SAEs; each is, to the bit, the one that `train_sae` gives alone on a CPU with as many threads.

    Raises:
        InfoscopeError: as for `train_sae`, or the options differ in the batches.
    """
    images = watch(open_images(images))
    output = Destination(None if out is None else Path(out), configs)
    processes = join_processes(backbone.device)
    if processes.rank == 0:
        output.check(backbone.width, processes.count)
    threads_and_size = batch_size or backbone.batch_size, threads
    passes = TokenPasses(backbone, images, resize, configs[0], *threads_and_size, processes, token_set)
    tokens: Iterable[Tensor]
    if cache == "memory":
        tokens = _in_memory(passes, cache_bytes)
    elif cache == "none":
        tokens = TokenPool(passes, cache_bytes=0)
    else:
        tokens = cache_tokens(passes, cache)
    shards = WatchedCache(tokens) if isinstance(tokens, TokenCache) else None
    trained = train_with_progress(
        tokens,
        output,
        backbone.device,
        held_out=passes.held_out,
        processes=processes,
        # What is on disk does not depend on the batches it was made in; what is computed anew does, in the last bits.
        identity=passes.made_by() | ({} if isinstance(tokens, TokenCache) else {"batch_size": passes.batch_size}),
        checkpoint_seconds=checkpoint_seconds,
        images=shards or images,
    )
    if shards is not None:
        shards.check()
    downstream = look_downstream([each.sae for each in trained], passes)
    images.check()
    trained = [replace(each, downstream=found) for each, found in zip(trained, downstream, strict=True)]
    for skipped in processes.gather(passes.skipped):
        passes.skipped.update(skipped)
    return (output if processes.rank == 0 else Destination(None, configs)).hand_out(
        trained, passes.site(), backbone.device
    )


def _in_memory(passes: TokenPasses, cache_bytes: int) -> TokenPool:
    """A pool; already filled where that saves a second pass, so that the model's part shows its own progress."""
    pool = TokenPool(passes, cache_bytes)
    size = 4 * passes.tokens * passes.backbone.width
    if size <= cache_bytes and passes.tokens < passes.config.tokens:
        with progress("Reading tokens", len(passes.order), "images") as advance:
            for tokens in pool:
                advance(len(tokens) // passes.per_image)
            advance(len(passes.skipped))
    return pool
