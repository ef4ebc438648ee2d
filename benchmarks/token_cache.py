"""How fast a token cache is read, against `dd` and `np.fromfile` on the same file.

    python benchmarks/token_cache.py

Writes one shard of random tokens, then reads it in turn in every round: with the pages dropped from memory, by
`dd bs=8M` and by the cache's reader; with the pages in memory, by `np.fromfile` and by the reader; and through the
shuffle buffer that training draws its batches from. Prints the medians and the ratios, round by round. Only this
machine's memory can be emptied: where the disk is another machine's, that one may still remember the file.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
import tyro

from infoscope.runtime.token_cache import TokenCache, TokenCacheWriter
from infoscope.training.stream import ShuffleBuffer

PATCHES, GROUP = 256, 16


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark."""

    gib: float = 1.0
    """Size of the file."""
    width: int = 384
    rounds: int = 5
    batch_tokens: int = 2048
    buffer_tokens: int = 131_072
    folder: Path | None = None
    """Where to write the file, on the disk to be measured. Default: the folder for temporary files."""


def main(options: Benchmark) -> None:
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        cache = write(Path(folder), options)
        file = cache.path / cache.shards[0].file
        size = file.stat().st_size
        print(f"{size / 2**30:.2f} GiB, {cache.tokens:,} tokens of width {cache.width}")
        ways: dict[str, tuple[bool, Callable[[], None]]] = {
            "dd, cold": (True, lambda: dd(file)),
            "reader, cold": (True, lambda: read(cache)),
            "np.fromfile, warm": (False, lambda: fromfile(file)),
            "reader, warm": (False, lambda: read(cache)),
            "shuffled, warm": (False, lambda: shuffle(cache, options)),
            "shuffled, cold": (True, lambda: shuffle(cache, options)),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, (cold, way) in ways.items():
                if cold:
                    drop(file)
                else:
                    dd(file)
                start = time.perf_counter()
                way()
                rates[name].append(size / (time.perf_counter() - start))
    for name, found in rates.items():
        print(f"{name:18} {median(found) / 1e9:6.2f} GB/s  ({', '.join(f'{rate / 1e9:.2f}' for rate in found)})")
    for ours, theirs in (
        ("reader, cold", "dd, cold"),
        ("reader, warm", "np.fromfile, warm"),
        ("shuffled, cold", "dd, cold"),
        ("shuffled, warm", "np.fromfile, warm"),
    ):
        ratios = [a / b for a, b in zip(rates[ours], rates[theirs], strict=True)]
        rounds = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        of_medians = median(rates[ours]) / median(rates[theirs])
        print(f"{ours} over {theirs}: {of_medians:.2f} of the medians; by round {rounds}; median {median(ratios):.2f}")


def write(folder: Path, options: Benchmark) -> TokenCache:
    """One shard of random tokens."""
    images = max(round(options.gib * 2**30 / (4 * PATCHES * options.width)), 1)
    writer = TokenCacheWriter(folder, {}, range(images), PATCHES, options.width, shard_bytes=2**62)
    random = np.random.default_rng(0)
    for first in range(0, images, GROUP):
        group = list(range(first, min(first + GROUP, images)))
        tokens = random.standard_normal((len(group), PATCHES, options.width), dtype=np.float32)
        writer.add(group, torch.from_numpy(tokens), [])
    return writer.finish({})


def dd(file: Path) -> None:
    """The disk's own rate; also what takes the file into memory."""
    subprocess.run(["dd", f"if={file}", "of=/dev/null", "bs=8M"], check=True, stderr=subprocess.DEVNULL)


def fromfile(file: Path) -> None:
    """The whole file into one array."""
    np.fromfile(file, np.float32)


def read(cache: TokenCache) -> None:
    """Every token of the cache, as training gets them."""
    assert sum(len(tokens) for tokens in cache) == cache.tokens


def shuffle(cache: TokenCache, options: Benchmark) -> None:
    """Every token once, in the batches that training draws."""
    buffer = ShuffleBuffer(cache, options.buffer_tokens, cache.tokens, seed=0)
    while len(buffer.window):
        buffer.draw(options.batch_tokens)


def drop(file: Path) -> None:
    """Let the file's pages go, and make sure that they are gone."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    held = in_memory(file)
    assert held < 0.01, f"{held:.0%} of the file is still in memory; nothing here is cold"


def in_memory(file: Path) -> float:
    """Share of the file's pages that the system holds."""
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, mmap.MAP_PRIVATE) as mapped:
        pages = np.empty(-(-len(mapped) // mmap.PAGESIZE), np.uint8)
        first = np.frombuffer(mapped, np.uint8, 1)
        address = ctypes.c_void_p(first.ctypes.data)
        failed = ctypes.CDLL(None).mincore(address, ctypes.c_size_t(len(mapped)), ctypes.c_void_p(pages.ctypes.data))
        del first
        assert not failed, "mincore"
        return float((pages & 1).mean())


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
