"""Peak memory of a measurement at the size of published SAEs, and whether it grows with the images.

    python benchmarks/memory.py

A random model of CLIP ViT-B/16's shape and a random SAE of 65,536 features of width 768, over smooth noise. Each
measurement is a process of its own; what counts is its largest resident set, model and SAE included.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import transformers
import tyro
from PIL import Image

import infoscope
from infoscope.dictionaries.activations import ReLU, TopK

WIDTH = 768


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark."""

    features: int = 65_536
    counts: tuple[int, ...] = (24, 48, 96)
    """Images, a measurement each."""
    activations: tuple[Literal["topk", "relu", "half"], ...] = ("topk", "relu")
    """TopK with k = 32; ReLU with about one code in forty above 0; ReLU with half of them, which takes many minutes."""
    top_images: int = 16
    rank_view: Literal["full", "crops"] = "full"
    one: tuple[str, str, int] | None = None
    """Model, activation function and images of a single measurement; used by the benchmark itself."""


def main(options: Benchmark) -> None:
    if options.one is not None:
        measure_one(options, *options.one)
        return
    with tempfile.TemporaryDirectory() as folder:
        transformers.CLIPVisionModel(transformers.CLIPVisionConfig(patch_size=16)).save_pretrained(folder)
        for activation in options.activations:
            for count in options.counts:
                command = [sys.executable, __file__, "--features", str(options.features)]
                command += ["--top-images", str(options.top_images), "--rank-view", options.rank_view]
                command += ["--one", folder, activation, str(count)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                print(f"{activation}, {options.features:,} features, {done.stdout.strip()}", flush=True)


def measure_one(options: Benchmark, model: str, activation: str, count: int) -> None:
    backbone = infoscope.load_backbone(model, block=10, device="cpu")
    generator = torch.Generator().manual_seed(0)
    W_dec = torch.nn.functional.normalize(torch.randn(options.features, WIDTH, generator=generator))
    b_enc = torch.full((options.features,), -2.0 * WIDTH**0.5 / 14 if activation == "relu" else 0.0)
    kind = TopK(32) if activation == "topk" else ReLU()
    sae = infoscope.SparseAutoencoder(W_dec.T.contiguous(), b_enc, W_dec, torch.zeros(WIDTH), kind)
    random = np.random.default_rng(0)
    pictures = [
        Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((320, 260)) for _ in range(count)
    ]
    with tempfile.TemporaryDirectory() as out:
        scope = infoscope.measure_scope(
            backbone, sae, pictures, out=out, top_images=options.top_images, rank_view=options.rank_view
        )
        # Before the table of maps is read, for its size.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        codes = scope.maps["patch"].list.len().sum()
    print(f"{count} images, {scope.manifest.fit.l0:.0f} codes a token, {codes:,} in maps: peak {peak:.2f} GiB")


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
