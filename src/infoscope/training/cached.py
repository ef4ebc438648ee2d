"""A pass's tokens on disk: written on first use, and found again by the hash of what made them."""

from __future__ import annotations

from pathlib import Path

from infoscope.images.watched import check_all
from infoscope.progress import progress, tell
from infoscope.storage.token_cache import TokenCache, cache_name, find_token_cache
from infoscope.storage.token_writer import TokenCacheWriter
from infoscope.training.output import check_space
from infoscope.training.passes import TokenPasses
from infoscope.training.stream import check_finite


def cache_tokens(passes: TokenPasses, directory: Path | str, *, show_progress: bool = True) -> TokenCache:
    """The tokens of one pass on disk, in the order of the pass; written unless they are there.

    A writer that was stopped goes on with the first shard that is missing.

    Args:
        passes: the model, the images and their order; its skipped images are filled in.
        directory: the folder of all caches; this one gets a directory ``<hash>`` in it.
        show_progress: report progress, and where the tokens are, on stderr.

    Raises:
        InfoscopeError: no image can be read, one has changed meanwhile, tokens are not finite, the disk is too full, or
            a shard is broken.
    """
    made_by = passes.made_by()
    path = Path(directory) / cache_name(made_by)
    cache = find_token_cache(path)
    if cache is None:
        width = passes.backbone.width
        writer = TokenCacheWriter(path, made_by, passes.order, passes.per_image, width)
        passes.skipped.update(writer.skipped)
        needed = 4 * width * passes.per_image * (len(passes.order) - writer.done)
        check_space(path, needed, "the tokens take", "choose another --cache, such as none")
        with progress("Writing tokens", len(passes.order), "images", enabled=show_progress) as advance:
            advance(writer.done)
            for group in passes.image_tokens(writer.done):
                check_finite(group.tokens)
                writer.add(group.images, group.tokens, group.unreadable)
                advance(len(group.images) + len(group.unreadable))
        check_all([passes.images], show_progress)
        cache = writer.finish(passes.site())
    else:
        passes.skipped.update((image["index"], image["reason"]) for image in cache.site["images"]["skipped"])
    tell(f"The tokens of {cache.images:,} images are in {cache.path}", enabled=show_progress)
    return cache
