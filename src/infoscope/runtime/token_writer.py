"""Writing a token cache shard by shard; what a killed writer finished is kept, and the next one goes on there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from infoscope.errors import InfoscopeError
from infoscope.runtime.atomic import as_read, read_json, remove_leftovers, write_json
from infoscope.runtime.token_cache import MANIFEST, PLAN, ShardRecord, TokenCache
from infoscope.runtime.token_shards import DIGEST, digest_tokens, read_header, read_tokens, write_shard

# Our choice: long enough to be read in one go, and little to lose or to hold while a shard fills.
SHARD_BYTES = 256 * 2**20
# Our choice: two trainings may write one cache; a shard that is being written is touched many times a second.
LEFT_SECONDS = 60.0


class TokenCacheWriter:
    """Fills a cache's directory with the tokens of images in a given order.

    Args:
        path: the directory; named by `token_cache.cache_name`.
        made_by: everything the tokens depend on, as JSON values.
        order: the images' positions in the source, in the order they will be added.
        patches: tokens to an image.
        width: length of a token.
        shard_bytes: a shard ends with the group of images that takes it to this size.

    Attributes:
        done: how many images of ``order`` are in finished shards or were skipped before them.
        skipped: position and reason of each of those that were skipped.

    Raises:
        InfoscopeError: the directory is of another cache, a shard in it is broken, or it cannot be written.

    Example:
        >>> import tempfile, torch
        >>> writer = TokenCacheWriter(Path(tempfile.mkdtemp()), {"block": 10}, [2, 0, 1], patches=4, width=3)
        >>> writer.add([2, 1], torch.ones(2, 4, 3), skipped=[(0, "is cut short")])
        >>> cache = writer.finish(site={"block": 10})
        >>> cache.images, sum(len(tokens) for tokens in cache), writer.skipped
        (2, 8, {0: 'is cut short'})
    """

    def __init__(
        self,
        path: Path,
        made_by: Mapping[str, Any],
        order: Sequence[int],
        patches: int,
        width: int,
        shard_bytes: int = SHARD_BYTES,
    ):
        self._path = path
        self._made_by = as_read(made_by)
        self._order = list(order)
        self._shape = (patches, width)
        self._shard_bytes = shard_bytes
        self._shards: list[ShardRecord] = []
        self._images: list[int] = []
        self._parts: list[np.ndarray] = []
        self.skipped: dict[int, str] = {}
        self._claim()
        self._keep_finished()
        self.done = sum(len(shard.images) for shard in self._shards) + len(self.skipped)

    def add(
        self, images: list[int], tokens: Float[Tensor, "image patch width"], skipped: list[tuple[int, str]]
    ) -> None:
        """Take the next images of the order.

        Args:
            images: their positions; may be empty.
            tokens: theirs, on the CPU.
            skipped: position and reason of the images left out since the last call.

        Raises:
            InfoscopeError: a shard cannot be written.
        """
        self.skipped.update(skipped)
        self._images += images
        self._parts.append(tokens.numpy().astype(np.float32, copy=False))
        if sum(part.nbytes for part in self._parts) >= self._shard_bytes:
            self._flush()

    def finish(self, site: Mapping[str, Any]) -> TokenCache:
        """Write the last shard and the manifest.

        Args:
            site: where the tokens come from, for the SAEs that will be trained on them.

        Raises:
            InfoscopeError: a file cannot be written.
        """
        self._flush()
        cache = TokenCache(self._path, self._made_by, dict(site), *self._shape, tuple(self._shards))
        cache.write_manifest()
        return cache

    def _flush(self) -> None:
        if not self._images:
            return
        path = self._shard(len(self._shards))
        # With the images, so that a killed writer's successor knows how far it came.
        metadata = {"images": json.dumps(self._images), "skipped": json.dumps(sorted(self.skipped.items()))}
        write_shard(path, self._parts, metadata | {DIGEST: digest_tokens(self._parts)})
        self._shards.append(ShardRecord(path.name, self._images))
        self._images, self._parts = [], []

    def _claim(self) -> None:
        plan = self._path / PLAN
        if plan.is_file() and read_json(plan) != self._made_by:
            raise InfoscopeError(f"{self._path} holds the tokens of something else; choose another --cache")
        if not plan.is_file():
            write_json(plan, self._made_by, flag="--cache")
        # Before any shard changes: where the manifest is, the cache is whole.
        (self._path / MANIFEST).unlink(missing_ok=True)
        remove_leftovers(self._path, LEFT_SECONDS)

    def _keep_finished(self) -> None:
        """Take over the shards up to the first that is missing; those after it go."""
        while (path := self._shard(len(self._shards))).is_file():
            header = read_header(path)
            for _ in read_tokens(path, header):  # a damaged one is named now, and not when all the others are written
                pass
            try:
                images = [int(image) for image in json.loads(header.metadata["images"])]
                skipped = {int(image): str(reason) for image, reason in json.loads(header.metadata["skipped"])}
            except (KeyError, TypeError, ValueError, RecursionError):
                images, skipped = [], {}
            self._shards.append(ShardRecord(path.name, images))
            self.skipped.update(skipped)
            stored = [image for shard in self._shards for image in shard.images]
            so_far = self._order[: len(stored) + len(self.skipped)]
            if (
                header.shape != (len(images), *self._shape)
                or [image for image in so_far if image not in self.skipped] != stored
            ):
                raise InfoscopeError(f"{path} does not follow the shards before it; delete {self._path}")
        kept = {shard.file for shard in self._shards}
        for file in self._path.glob("tokens-*.safetensors"):
            if file.name not in kept:
                file.unlink()

    def _shard(self, number: int) -> Path:
        return self._path / f"tokens-{number:06}.safetensors"
