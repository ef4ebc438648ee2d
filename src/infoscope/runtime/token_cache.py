"""A token cache: a directory of shards named by the hash of what made them, and its manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt64
from torch import Tensor

from infoscope.errors import InfoscopeError
from infoscope.runtime.atomic import read_json
from infoscope.runtime.file_states import digest_states, file_states
from infoscope.runtime.seal import check_record, write_sealed
from infoscope.runtime.token_shards import DIGEST, ShardHeader, digest_tokens, read_header, read_tokens
from infoscope.runtime.typed import Count, Positive, from_json

FORMAT = "infoscope tokens"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
PLAN = "plan.json"


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
        """The shards whose tokens were held against their checksum."""
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
        for place in index.tolist():
            shard = self._cache.shards[place]
            tokens = read_tokens(self._files[place], self._cache.header(shard), check=False)
            # Shards from before hashes were kept are read through, and nothing more is known of them.
            if int(digest_tokens(tokens), 16) != int(self.contents[place]) and self.contents[place]:
                raise InfoscopeError(
                    f"{self._files[place]} has changed since it was written or first read; put it back and give the "
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
