"""`train_sae`: from a model and images to SAEs on one block's tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from infoscope.backbones.backbone import Backbone
from infoscope.backbones.families import tokens_of
from infoscope.backbones.whole_pass import WholePass
from infoscope.dictionaries.dense import reconstruct
from infoscope.dictionaries.fvu import FVU
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.images.prefetch import decode_ahead
from infoscope.images.source import Images, open_images
from infoscope.images.views import Views
from infoscope.images.watched import watch
from infoscope.options import Resize, TokenSet
from infoscope.runtime.execution import Execution, run_here, split_options
from infoscope.runtime.progress import progress
from infoscope.runtime.token_cache import WatchedCache
from infoscope.training.checkpoint import EVERY_SECONDS
from infoscope.training.config import TrainConfig
from infoscope.training.held_out import Downstream
from infoscope.training.loop import train_several
from infoscope.training.passes import TokenPasses, cache_tokens
from infoscope.training.processes import join_processes
from infoscope.training.stream import TokenPool
from infoscope.training.trained_sae import Destination

# Our choice: the tokens of 5,000 photographs at 16 x 16 patches and width 384 fit, and leave most of the memory free.
CACHE_BYTES = 2 * 2**30


def train_sae(
    backbone: Backbone,
    images: Images,
    config: TrainConfig | None = None,
    *,
    out: Path | str | None = None,
    resize: Resize = "stretch",
    token_set: TokenSet = "patch",
    execution: Execution | None = None,
    cache: Path | str = "memory",
    cache_bytes: int = CACHE_BYTES,
    checkpoint_seconds: float = EVERY_SECONDS,
    **options: Any,
) -> SparseAutoencoder:
    """Train a sparse autoencoder on the tokens of the full views, with the images in random order.

    Args:
        backbone: the model, at the block to train on.
        images: the images; as many passes over them are made as ``config.tokens`` takes.
        config: the options (see `TrainConfig`).
        out: an SAE directory to write. Without it nothing is written.
        resize: how an image becomes square.
        token_set: which of an image's tokens: ``patch``; ``all``, which includes CLS and registers; or ``cls``, which
            is no SAE for maps, and says so wherever it is measured.
        execution: how the passes run; it changes memory and speed, not the result.
        cache: where the tokens are kept, so that a second pass need not run the model again: ``memory``; ``none``,
            which computes every pass again; or a directory. There they are written before training, in a directory of
            their own that is named by the hash of what made them, and the next training on the same tokens finds them.
            The SAE is the same to the bit in all three.
        cache_bytes: memory for the tokens under ``memory``; if they do not fit, every pass is computed again.
        checkpoint_seconds: how much work an interruption may lose. An unfinished training's state is kept in
            ``out/unfinished``, and the same call resumes from there and ends with the same weights.
        **options: options of both by name, such as ``features=4096, k=32, batch_size=4``; they override those of
            ``config`` and ``execution``.

    Returns:
        The SAE on the model's own tokens; the centring and scale that it was trained with are folded into its weights.

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
    own, execution = split_options(TrainConfig, execution, options)
    config = replace(config or TrainConfig(), **own)
    return train_saes(
        backbone,
        images,
        [config],
        out=out,
        resize=resize,
        token_set=token_set,
        execution=execution,
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
    execution: Execution | None = None,
    cache: Path | str = "memory",
    cache_bytes: int = CACHE_BYTES,
    checkpoint_seconds: float = EVERY_SECONDS,
) -> list[SparseAutoencoder]:
    """Train several sparse autoencoders on the same batches of tokens, for which the model runs once.

    Args:
        backbone: as for `train_sae`, as are all arguments but ``configs`` and ``out``.
        images: the images.
        configs: the options of each SAE, which may differ in anything but what determines the batches.
        out: a directory to write them to, each in a folder named by the options that differ.
        resize: how an image becomes square.
        token_set: which of an image's tokens.
        execution: how the passes run; it changes memory and speed, not the result.
        cache: where the tokens are kept.
        cache_bytes: memory for the tokens under ``memory``.
        checkpoint_seconds: how much work an interruption may lose.

    Returns:
        The SAEs; each is, to the bit, the one that `train_sae` alone trains on a CPU with as many threads.

    Raises:
        InfoscopeError: as for `train_sae`, or the options differ in what determines the batches.
    """
    execution = run_here(execution, {})
    images = watch(open_images(images))
    processes = join_processes(backbone.device)
    destination = Destination(None if out is None else Path(out), configs, processes)
    destination.check(backbone.width)
    batch_size = execution.batch_size or backbone.batch_size
    passes = TokenPasses(backbone, images, resize, configs[0], batch_size, execution.threads, processes, token_set)
    shards: WatchedCache | None = None
    tokens: Iterable[Tensor]
    if cache in ("memory", "none"):
        pool = TokenPool(passes, cache_bytes if cache == "memory" else 0)
        needed = 4 * passes.tokens * backbone.width
        if cache == "memory" and needed <= cache_bytes and passes.tokens < configs[0].tokens:
            _fill(pool, passes)
        tokens = pool
    else:
        stored = cache_tokens(passes, cache)
        tokens, shards = stored, WatchedCache(stored)
    identity = passes.made_by()
    if shards is None:
        # What is computed again depends on the batches in its last bits; what is on disk no longer does.
        identity["batch_size"] = batch_size
    trained = train_several(
        tokens,
        configs,
        device=backbone.device,
        held_out=passes.held_out,
        processes=processes,
        checkpoints=destination.checkpoints,
        checkpoint_seconds=checkpoint_seconds,
        identity=identity,
        images=shards or images,
    )
    if shards is not None:
        shards.check()
    downstream = look_downstream([one.sae for one in trained], passes)
    passes.note_contents()
    images.check()
    trained = [replace(one, downstream=scores) for one, scores in zip(trained, downstream, strict=True)]
    for skipped, contents in processes.gather((passes.skipped, passes.contents)):
        passes.skipped.update(skipped)
        passes.contents.update(contents)
    return destination.deliver(trained, passes.site(), backbone.device)


def _fill(pool: TokenPool, passes: TokenPasses) -> None:
    """Make the first pass ahead of training, so that the time the model takes has a progress bar of its own."""
    with progress("Reading tokens", len(passes.order), "images") as advance:
        for tokens in pool:
            advance(len(tokens) // passes.per_image)
        advance(len(passes.skipped))


def look_downstream(saes: Sequence[SparseAutoencoder], passes: TokenPasses) -> list[Downstream | None]:
    """Measure what each SAE's reconstructions do to the model's output, on images whose tokens are all held out.

    Only tokens of the set that the SAEs were trained on are replaced.

    Args:
        saes: on the model's own tokens.
        passes: the tokens that they were trained on.

    Returns:
        None for each SAE where no whole image was held out, or none can be read.
    """
    backbone = passes.backbone
    prefix = backbone.prefix_tokens
    held_out = passes.order[: passes.held_out // passes.per_image]
    views = Views(backbone.patch_size, backbone.grid, shift=0, resize=passes.resize)
    replaced = tokens_of(passes.token_set, prefix)
    compared = (slice(prefix, None), slice(min(prefix, 1)))  # the patches, then CLS
    sums = [(FVU(backbone.width), FVU(backbone.width)) for _ in saes]
    for sae in saes:
        sae.to(backbone.device)
    with progress("Downstream", len(held_out), "images") as advance:
        for batch in decode_ahead(passes.images, held_out, views.full, passes.batch_size, passes.threads):
            if batch.index:
                whole = WholePass(backbone, batch.pixels)
                original = whole.outputs.last
                tokens = whole.stream[:, replaced]
                for sae, fvus in zip(saes, sums, strict=True):
                    stream = whole.stream.clone()
                    stream[:, replaced] = reconstruct(sae, tokens.flatten(0, 1)).view(tokens.shape)
                    edited = whole.run_from(stream).last
                    for fvu, part in zip(fvus, compared, strict=True):
                        fvu.update(original[:, part].flatten(0, 1), edited[:, part].flatten(0, 1))
            advance(len(batch.index) + len(batch.unreadable))
    for sae in saes:
        sae.to("cpu")
    scores: list[Downstream | None] = []
    for fvus in sums:
        patches, cls = (passes.processes.merge(fvu) for fvu in fvus)
        count = patches.tokens // backbone.grid**2
        fvu_cls = cls.value if cls.tokens > 1 else None
        scores.append(Downstream(count, patches.value, fvu_cls) if count else None)
    return scores
