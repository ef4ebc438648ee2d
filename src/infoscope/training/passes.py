"""Tokens from a model and images, in the same random order in every pass, and their cache on disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from infoscope.backbones.backbone import Backbone
from infoscope.errors import InfoscopeError, check_choice
from infoscope.images.contents import MOST_COMPARED, packed_contents
from infoscope.images.prefetch import all_unreadable, decode_ahead
from infoscope.images.source import ImageSource, ids_sha256, notes_of
from infoscope.images.views import Views
from infoscope.images.watched import UNREAD, UNREADABLE, Watched, check_all
from infoscope.options import Resize, TokenSet
from infoscope.runtime.progress import progress, tell
from infoscope.runtime.token_cache import TokenCache, TokenCacheWriter, cache_name, find_token_cache
from infoscope.training.config import TrainConfig
from infoscope.training.held_out import hold_out, with_held_out
from infoscope.training.processes import Processes
from infoscope.training.stream import check_finite
from infoscope.training.trained_sae import check_space


@dataclass(frozen=True)
class ImageTokens:
    """The tokens of a batch of images.

    Attributes:
        images: their positions in the source; may be empty where the last images cannot be read.
        tokens: ``[image, token, width]`` on the CPU.
        unreadable: position and reason of each image skipped since the batch before.
    """

    images: list[int]
    tokens: Float32[Tensor, "image token width"]
    unreadable: list[tuple[int, str]]


@dataclass
class TokenPasses:
    """Each call is a fresh pass over the images, always in the same random order.

    Attributes:
        order: the images of a pass, each process's own; no more than are needed for ``config.tokens``.
        used: how many images all processes together pass over, unreadable ones included.
        skipped: why images could not be read, by their positions in the source.
        contents: hashes of the images that were passed over, by their positions; see `note_contents`.
        token_set: which of an image's tokens: its patches; all, which includes CLS and registers; or CLS.
    """

    backbone: Backbone
    images: ImageSource
    resize: Resize
    config: TrainConfig
    batch_size: int
    threads: int | None
    processes: Processes = field(default_factory=Processes)
    token_set: TokenSet = "patch"
    order: list[int] = field(init=False)
    used: int = field(init=False)
    skipped: dict[int, str] = field(init=False, default_factory=dict)
    contents: dict[int, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("token_set", self.token_set, TokenSet)
        if self.token_set == "cls" and not self.backbone.prefix_tokens:
            raise InfoscopeError(f"{self.backbone.name} has no CLS token; choose --token-set patch")
        order = np.random.default_rng(self.config.seed).permutation(len(self.images))
        # More than are trained on, because some are held out.
        per_process = with_held_out(-(-self.config.tokens // self.processes.count))
        needed = -(-per_process // self.per_image) * self.processes.count
        self.used = min(needed, len(order))
        self.order = order[:needed][self.processes.rank :: self.processes.count].tolist()

    @property
    def per_image(self) -> int:
        """Tokens to an image."""
        patches = self.backbone.grid**2
        return {"patch": patches, "all": self.backbone.prefix_tokens + patches, "cls": 1}[self.token_set]

    @property
    def held_out(self) -> int:
        """Tokens of each pass that are not trained on."""
        return hold_out(self.tokens)

    @property
    def tokens(self) -> int:
        """Tokens to a pass, when every image can be read."""
        return len(self.order) * self.per_image

    def __call__(self) -> Iterator[Float32[Tensor, "token width"]]:
        """A pass, in batches of images."""
        for batch in self.image_tokens():
            if batch.images:
                yield batch.tokens.flatten(0, 1)

    def image_tokens(self, start: int = 0) -> Iterator[ImageTokens]:
        """A pass that keeps the images apart.

        Args:
            start: how many images of the order to skip, of which at least one could be read.

        Raises:
            InfoscopeError: no image can be read.
        """
        views = Views(self.backbone.patch_size, self.backbone.grid, shift=0, resize=self.resize)
        readable = start > 0
        no_tokens = torch.empty(0, self.per_image, self.backbone.width)
        for batch in decode_ahead(self.images, self.order[start:], views.full, self.batch_size, self.threads):
            self.skipped.update(batch.unreadable)
            readable = readable or bool(batch.index)
            tokens = self._tokens(batch.pixels).cpu() if batch.index else no_tokens
            yield ImageTokens(batch.index, tokens, batch.unreadable)
        if not readable:
            raise all_unreadable(self.images, next(iter(self.skipped.values())))

    def _tokens(self, pixels: UInt8[np.ndarray, "image row column 3"]) -> Float32[Tensor, "image token width"]:
        if self.token_set == "patch":
            return self.backbone.tokens(pixels)
        tokens = self.backbone.all_tokens(pixels)
        return tokens[:, :1].contiguous() if self.token_set == "cls" else tokens

    def made_by(self) -> dict[str, Any]:
        """Everything the tokens of a pass and their order depend on, as JSON values."""
        backbone, images = self.backbone, self.images
        keys = ("sha256", "family", "block", "patch_size", "input_side")
        model = {key: getattr(backbone, key) for key in keys}
        order = {"seed": self.config.seed, "images": len(self.order)}
        if self.processes.count > 1:
            order |= {"process": self.processes.rank, "processes": self.processes.count}
        return {
            "model": model | {"mean": list(backbone.mean), "std": list(backbone.std), "precision": backbone.precision},
            **({} if self.token_set == "patch" else {"tokens": self.token_set}),
            "resize": self.resize,
            "images": {"count": len(images), "ids_sha256": ids_sha256(images), "stamp": images.stamp()},
            "order": order,
        }

    def note_contents(self) -> None:
        """Fill in `contents`, by which a test on images that the SAE was trained on is noticed later.

        Nothing is done beyond `MOST_COMPARED` images, since no record holds as many hashes. Where the tokens were
        cached, images are read here, but not decoded.

        Raises:
            ChangedImageError: an image is not what it was when it was read first.
        """
        if not isinstance(self.images, Watched) or self.used > MOST_COMPARED:
            return
        order = np.array(self.order, np.int64)
        self.images.verify(order[self.images.contents[order] == UNREAD])
        hashes = self.images.contents[order].tolist()
        readable = {index: content for index, content in zip(self.order, hashes, strict=True) if content > UNREADABLE}
        self.contents.update((index, content) for index, content in readable.items() if index not in self.skipped)

    def site(self) -> dict[str, Any]:
        """Where the tokens come from, as ``sae.json`` records it; the skipped images are those found so far."""
        notes = notes_of(self.images)
        skipped = [
            {"index": index, "id": self.images.ids[index], "reason": reason}
            for index, reason in sorted(self.skipped.items())
        ]
        images = {"source": self.images.name, "count": len(self.images), "skipped": skipped} | self._used_images()
        return {
            **block_site(self.backbone),
            "input_side": self.backbone.input_side,
            "tokens": self.token_set,
            "resize": self.resize,
            "images": images | ({"notes": notes} if notes else {}),
        }

    def _used_images(self) -> dict[str, Any]:
        """How many images were passed over, and hashes of their contents where they are few."""
        if not self.contents:
            return {"used": self.used - len(self.skipped), "contents": None}
        hashes = np.array([self.contents[index] for index in sorted(self.contents)], np.uint64)
        assert isinstance(self.images, Watched)
        return {"used": len(hashes), "contents": packed_contents(hashes), "contents_of": self.images.contents_of}


def block_site(backbone: Backbone) -> dict[str, Any]:
    """Which model and block tokens are of, as an SAE records it."""
    name = backbone.name
    # Absolute, so that the SAE can be measured from another directory.
    model = str(Path(name).resolve()) if Path(name).is_dir() else name
    return {"model": model, "revision": backbone.revision, "sha256": backbone.sha256, "block": backbone.block}


def cache_tokens(passes: TokenPasses, directory: Path | str) -> TokenCache:
    """The tokens of one pass on disk, in the order of the pass; written unless they are already there.

    Writing that was interrupted resumes with the first missing shard.

    Args:
        passes: the model, the images and their order; its skipped images are filled in.
        directory: the folder of all caches; this one gets a directory ``<hash>`` in it.

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
        with progress("Writing tokens", len(passes.order), "images") as advance:
            advance(writer.done)
            for batch in passes.image_tokens(writer.done):
                check_finite(batch.tokens)
                writer.add(batch.images, batch.tokens, batch.unreadable)
                advance(len(batch.images) + len(batch.unreadable))
        passes.note_contents()
        check_all([passes.images])
        cache = writer.finish(passes.site())
    else:
        passes.skipped.update((image["index"], image["reason"]) for image in cache.site["images"]["skipped"])
    tell(f"The tokens of {cache.images:,} images are in {cache.path}")
    return cache
