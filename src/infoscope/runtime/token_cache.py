"""A token cache: a directory of shards named by the hash of what made them, and its manifest.

It is written shard by shard. A writer that is killed leaves its finished shards, from which the next one resumes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt64
from torch import Tensor

from infoscope.errors import InfoscopeError
from infoscope.runtime.atomic import remove_leftovers
from infoscope.runtime.file_states import digest_states, file_states
from infoscope.runtime.json_values import read_json, to_json, write_json
from infoscope.runtime.seal import check_record, write_sealed
from infoscope.runtime.token_shards import DIGEST, ShardHeader, digest_tokens, read_header, read_tokens, write_shard
from infoscope.runtime.typed import Count, Positive, from_json

FORMAT = "infoscope tokens"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
PLAN = "plan.json"
# Our choice: long enough to be read in one go, and little to lose or to hold while a shard fills.
SHARD_BYTES = 256 * 2**20
# Our choice: two trainings may write one cache; a shard that is being written is touched many times a second.
LEFT_SECONDS = 60.0


@dataclass(frozen=True)
class ShardRecord:
    """One file of a cache, and the images in it by their position in the source, in the order they are stored."""

    file: str
    images: list[Count]


@dataclass(frozen=True)
class _Manifest:
    """What is read of ``manifest.json``."""

    hash: str
    made_by: dict[str, Any]
    site: dict[str, Any]
    images: Count
    patches: Positive
    width: Positive
    shards: tuple[ShardRecord, ...]


@dataclass(frozen=True)
class TokenCache:
    """A finished cache; iterating reads the tokens from disk, a few MiB at a time, the same ones each time.

    Attributes:
        path: the directory.
        made_by: everything the tokens depend on: model, block, images, order, ...
        site: where the tokens come from, as an SAE trained on them records it, skipped images included.
        patches: tokens to an image.
        width: length of a token.
        shards: the files, in order.
    """

    path: Path
    made_by: dict[str, Any]
    site: dict[str, Any]
    patches: int
    width: int
    shards: tuple[ShardRecord, ...]

    @property
    def images(self) -> int:
        """Images stored."""
        return sum(len(shard.images) for shard in self.shards)

    @property
    def tokens(self) -> int:
        """Tokens stored."""
        return self.images * self.patches

    def __iter__(self) -> Iterator[Tensor]:
        for shard in self.shards:
            header = self.header(shard)
            # Once is enough: an epoch is read from the memory that the one before it left the file in.
            check = shard.file not in self._whole
            for chunk in read_tokens(self.path / shard.file, header, check=check):
                yield torch.from_numpy(chunk)
            self._whole.add(shard.file)

    @cached_property
    def _whole(self) -> set[str]:
        """The shards whose tokens were checked against their checksum."""
        return set()

    def header(self, shard: ShardRecord) -> ShardHeader:
        """The header of a shard's file.

        Raises:
            InfoscopeError: the file is missing, broken, or another than the manifest says.
        """
        header = read_header(self.path / shard.file)
        expected = (len(shard.images), self.patches, self.width)
        if header.shape != expected:
            raise InfoscopeError(
                f"{self.path / shard.file} holds tokens {list(header.shape)} where {MANIFEST} says {list(expected)}; "
                f"delete {self.path} and write it anew"
            )
        return header

    def write_manifest(self) -> None:
        """Write ``manifest.json``, after which the cache is finished.

        Raises:
            InfoscopeError: it cannot be written.
        """
        write_sealed(
            self.path / MANIFEST,
            {
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "hash": cache_name(self.made_by),
                "made_by": self.made_by,
                "site": self.site,
                "images": self.images,
                "patches": self.patches,
                "width": self.width,
                "dtype": "float32",
                "shards": [asdict(shard) for shard in self.shards],
            },
            flag="--cache",
        )


class WatchedCache:
    """A cache's shards, which are noticed when they change while they are read, or from one start to the next.

    Args:
        cache: the cache.

    Attributes:
        contents: the hash of each shard's tokens as its header has it; 0 in shards from before it was kept.

    Raises:
        InfoscopeError: a shard is missing or broken.
    """

    def __init__(self, cache: TokenCache):
        self._cache = cache
        self._files = [cache.path / shard.file for shard in cache.shards]
        self._states = file_states(self._files)
        digests = [cache.header(shard).metadata.get(DIGEST, "0") for shard in cache.shards]
        self.contents: UInt64[np.ndarray, " shard"] = np.array([int(digest, 16) for digest in digests], np.uint64)

    @property
    def states(self) -> str:
        """Another one after any change of a file, and after a copy."""
        return digest_states(self._states)

    def expect(self, index: Int64[np.ndarray, " shard"], contents: UInt64[np.ndarray, " shard"]) -> None:
        """Make sure that some shards are those that an earlier start read.

        Raises:
            InfoscopeError: one is another.
        """
        if len(index) != len(contents) or (self.contents[index] != contents).any():
            raise InfoscopeError(
                f"the token cache {self._cache.path} is another than when this training was begun; put it back, or "
                "choose another --out"
            )

    def verify(self, index: Int64[np.ndarray, " shard"]) -> None:
        """Read some shards again.

        Raises:
            InfoscopeError: one does not hold the tokens that were written.
        """
        for number in index.tolist():
            shard = self._cache.shards[number]
            tokens = read_tokens(self._files[number], self._cache.header(shard), check=False)
            # Shards from before hashes were kept are read through, and nothing more is known of them.
            if int(digest_tokens(tokens), 16) != int(self.contents[number]) and self.contents[number]:
                raise InfoscopeError(
                    f"{self._files[number]} has changed since it was written or first read; put it back and give the "
                    "same command again, or delete the cache and write it anew"
                )

    def check(self) -> None:
        """Make sure that all shards are still what they were.

        Raises:
            InfoscopeError: one is not.
        """
        self.verify(np.flatnonzero((file_states(self._files) != self._states).any(1)))


def cache_name(made_by: Mapping[str, Any]) -> str:
    """The name of a cache's directory: the first 16 hex digits of the SHA-256 of what made it, as JSON.

    Example:
        >>> cache_name({"block": 10, "model": "a"}) == cache_name({"model": "a", "block": 10})
        True
        >>> len(cache_name({})), cache_name({"block": 10}) == cache_name({"block": 11})
        (16, False)
    """
    text = json.dumps(made_by, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def open_token_cache(path: str | Path) -> TokenCache:
    """Open a finished cache; every shard's header and size are checked, no token is read.

    Raises:
        InfoscopeError: there is no such cache, it is not finished, or a file of it is missing or broken.

    Example:
        >>> open_token_cache("no/such/cache")
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: no such token cache: no/such/cache; name a directory CACHE/<hash> ...
    """
    path = Path(path).expanduser()
    if not (path / MANIFEST).is_file():
        if (path / PLAN).is_file():
            raise InfoscopeError(
                f"the token cache {path} is not finished; give `infoscope train` the model, the images and --cache "
                "again to go on"
            )
        raise InfoscopeError(
            f"no such token cache: {path}; name a directory CACHE/<hash> that `infoscope train --cache CACHE` wrote"
        )
    cache = _parsed(path, read_json(path / MANIFEST))
    for shard in cache.shards:
        cache.header(shard)
    return cache


def find_token_cache(path: Path) -> TokenCache | None:
    """The finished cache in ``path``; ``None`` where there is none, or where shards were deleted from it.

    Raises:
        InfoscopeError: a file is broken.
    """
    if not (path / MANIFEST).is_file():
        return None
    cache = _parsed(path, read_json(path / MANIFEST))
    if not all((path / shard.file).is_file() for shard in cache.shards):
        return None
    return open_token_cache(path)


def _parsed(path: Path, value: Any) -> TokenCache:
    file = path / MANIFEST
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise InfoscopeError(f'{file} does not say "format": "{FORMAT}"; name a directory that holds a token cache')
    version = value.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise InfoscopeError(
            f"{file} has format_version {version}, this infoscope reads up to {FORMAT_VERSION}: "
            "install the version that wrote it"
        )
    try:
        found: _Manifest = from_json(_Manifest, value, other_entries=True)
        cache = TokenCache(path, found.made_by, found.site, found.patches, found.width, found.shards)
        whole = bool(found.shards) and cache_name(cache.made_by) == found.hash and cache.images == found.images
    except ValueError:
        whole = False
    if not whole or any(Path(shard.file).name != shard.file for shard in cache.shards):
        raise InfoscopeError(f"{file} is damaged; delete it and write the cache anew")
    check_record(value, file, "delete it and write the cache anew")
    return cache


class TokenCacheWriter:
    """Fills a cache's directory with the tokens of images in a given order.

    Args:
        path: the directory; named by `cache_name`.
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
        self._made_by = to_json(made_by)
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
