"""One shard of tokens: a safetensors file with the one tensor ``tokens``, written whole and read front to back."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from infoscope.errors import InfoscopeError
from infoscope.runtime.atomic import atomic_write

NAME = "tokens"
# In the header's metadata, where a writer keeps one: a hash of the tokens, which is taken faster than disks read.
DIGEST = "blake2b"
# Half of what is usual: it tells shards apart and finds damage, and nobody is kept from forging one.
_DIGEST_BYTES = 8
# Measured: 1 and 4 MiB are read as fast as dd reads; from 8 MiB on each read lands in fresh memory and takes longer.
# Asking for the next megabytes beforehand (WILLNEED) was slower than the kernel's own guess.
CHUNK_BYTES = 4 * 2**20
_LENGTH_BYTES = 8
# What the safetensors library allows.
_LONGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class ShardHeader:
    """What a shard says of itself.

    Attributes:
        shape: images, tokens to an image, width.
        offset: where the first token is, in bytes.
        metadata: the texts written with the tokens.
    """

    shape: tuple[int, int, int]
    offset: int
    metadata: dict[str, str]

    @property
    def end(self) -> int:
        """Bytes of the whole file."""
        return self.offset + 4 * math.prod(self.shape)


def write_shard(
    path: Path, parts: Sequence[Float32[np.ndarray, "_ token width"]], metadata: Mapping[str, str] | None = None
) -> None:
    """Write images' tokens as one tensor ``[image, token, width]``, atomically.

    Args:
        path: the file.
        parts: consecutive images, ``[image, token, width]`` each; they are not joined in memory.
        metadata: texts to keep in the header.

    Raises:
        InfoscopeError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "tokens-000000.safetensors"
        >>> write_shard(path, [np.zeros((2, 4, 3), np.float32), np.ones((1, 4, 3), np.float32)])
        >>> header = read_header(path)
        >>> header.shape, [len(tokens) for tokens in read_tokens(path, header, chunk_bytes=60)]
        ((3, 4, 3), [5, 5, 2])
    """
    shape = [sum(len(part) for part in parts), *parts[0].shape[1:]]
    header = {
        "__metadata__": dict(metadata or {}),
        NAME: {"dtype": "F32", "shape": shape, "data_offsets": [0, 4 * math.prod(shape)]},
    }
    text = json.dumps(header).encode()
    # Spaces, so that the tokens begin at a multiple of 8 bytes.
    text += b" " * (-len(text) % 8)
    with atomic_write(path, flag="--cache") as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(_LENGTH_BYTES, "little") + text)
        for part in parts:
            file.write(np.ascontiguousarray(part, "<f4").data)


def digest_tokens(chunks: Iterable[np.ndarray]) -> str:
    """BLAKE2b of tokens, 16 hex digits, however they are cut.

    Example:
        >>> tokens = np.arange(6, dtype=np.float32).reshape(3, 2)
        >>> digest_tokens([tokens]) == digest_tokens([tokens[:1], tokens[1:]])
        True
    """
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for chunk in chunks:
        if chunk.size:
            digest.update(np.ascontiguousarray(chunk, "<f4").data)
    return digest.hexdigest()


def read_header(path: Path) -> ShardHeader:
    """The checked header of a shard; the tokens are not read.

    Raises:
        InfoscopeError: the file is missing, cut short, or no shard of tokens.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if not 0 < length <= min(size - _LENGTH_BYTES, _LONGEST_HEADER):
                raise _broken(path, "is cut short or no safetensors file")
            header = json.loads(file.read(length).decode("utf-8"))
    except OSError as error:
        raise InfoscopeError(
            f"cannot read {path}: {error.strerror or error}; give `infoscope train` the model, the images and --cache "
            "again to write it anew"
        ) from error
    except (ValueError, RecursionError) as error:
        raise _broken(path, "is no safetensors file: its header is not JSON") from error
    shape, metadata = _described(header)
    if shape is None:
        raise _broken(path, f"does not hold one float32 tensor {NAME} [image, token, width]")
    found = ShardHeader(shape, _LENGTH_BYTES + length, metadata)
    if size != found.end:
        raise _broken(path, f"has {size} bytes where its header describes {found.end}")
    return found


def read_tokens(
    path: Path, header: ShardHeader, chunk_bytes: int = CHUNK_BYTES, *, check: bool = True
) -> Iterator[Float32[np.ndarray, "token width"]]:
    """The tokens of a shard in long sequential reads.

    Args:
        path: the file.
        header: what `read_header` gave.
        chunk_bytes: the most to read at once, but no less than one token.
        check: check the tokens against the checksum in the header, where it has one; known when the last are read.

    Yields:
        ``[token, width]``, images one after the other, in memory of their own.

    Raises:
        InfoscopeError: the file cannot be read, has become shorter, or is damaged.
    """
    images, patches, width = header.shape
    rows = max(chunk_bytes // (4 * width), 1)
    try:
        with FileIO(path) as file:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            file.seek(header.offset)
            digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
            for first in range(0, images * patches, rows):
                chunk = np.empty((min(rows, images * patches - first), width), "<f4")
                if not _fill(file, chunk):
                    raise _broken(path, "has become shorter while it was read")
                if check:
                    digest.update(chunk.data)
                    last = first + len(chunk) == images * patches
                    if last and header.metadata.get(DIGEST, digest.hexdigest()) != digest.hexdigest():
                        raise _broken(path, "is damaged, for its tokens do not match their checksum")
                yield chunk
    except OSError as error:
        raise InfoscopeError(
            f"cannot read {path}: {error.strerror or error}; check its permissions, or write the cache again"
        ) from error


def _fill(file: FileIO, chunk: np.ndarray) -> bool:
    """Read until ``chunk`` is full; False when the file ends before."""
    rest = chunk.data.cast("B")
    while rest:
        count = file.readinto(rest)
        if not count:
            return False
        rest = rest[count:]
    return True


def _described(header: Any) -> tuple[tuple[int, int, int] | None, dict[str, str]]:
    """Shape and metadata, or no shape when this is not what `write_shard` writes."""
    if not isinstance(header, dict):
        return None, {}
    metadata = header.pop("__metadata__", {})
    tensor = header.get(NAME)
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        return None, {}
    if not isinstance(tensor, dict) or list(header) != [NAME]:
        return None, {}
    shape = tensor.get("shape")
    if not isinstance(shape, list) or len(shape) != 3 or not all(type(side) is int and side > 0 for side in shape):
        return None, {}
    if tensor.get("dtype") != "F32" or tensor.get("data_offsets") != [0, 4 * math.prod(shape)]:
        return None, {}
    return (shape[0], shape[1], shape[2]), metadata


def _broken(path: Path, what: str) -> InfoscopeError:
    return InfoscopeError(
        f"{path} {what}; delete it, and give `infoscope train` the model, the images and --cache again to write it anew"
    )
