"""A token cache: a directory of shards named by the hash of what made them, and its manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infoscope.errors import InfoscopeError
from infoscope.storage.atomic import read_json, write_json
from infoscope.storage.token_shards import ShardHeader, read_header, read_tokens

FORMAT = "infoscope tokens"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
PLAN = "plan.json"


@dataclass(frozen=True)
class ShardRecord:
    """One file of a cache, and the images in it by their position in the source, in the order they are stored."""

    file: str
    images: list[int]


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
            for chunk in read_tokens(self.path / shard.file, header):
                yield torch.from_numpy(chunk)

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
        write_json(
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
        shards = tuple(ShardRecord(str(shard["file"]), list(shard["images"])) for shard in value["shards"])
        cache = TokenCache(
            path, dict(value["made_by"]), dict(value["site"]), int(value["patches"]), int(value["width"]), shards
        )
        whole = bool(shards) and cache_name(cache.made_by) == value["hash"]
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole or any(Path(shard.file).name != shard.file for shard in shards):
        raise InfoscopeError(f"{file} is damaged; delete it and write the cache anew")
    return cache
