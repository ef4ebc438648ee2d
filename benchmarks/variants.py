"""Every variant of SAE trained on the same tokens: what it leaves unexplained, with how many codes, and its scope.

    python benchmarks/variants.py --cache caches/3f0c5a9be1d2a764 --model MODEL --images photographs

Figures are of tokens held out. With a model and images, every SAE is measured too.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro

import infoscope
from infoscope.dictionaries.loading import load_sae
from infoscope.training.config import TrainConfig
from infoscope.training.from_cache import train_several_on_cache


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark."""

    cache: Path
    """A finished token cache (`infoscope train --cache`)."""
    out: Path
    """Where the SAEs go; those that are there are not trained again."""
    model: str | None = None
    images: str | None = None
    count: int = 300
    """Images to measure on."""
    features: int = 4096
    tokens: int = 500_000


def variants(options: Benchmark) -> dict[str, TrainConfig]:
    base = TrainConfig(features=options.features, tokens=options.tokens)
    nested = (options.features // 16, options.features // 4)
    return {
        "topk": base,
        "matryoshka topk": replace(base, prefixes=nested),
        "batchtopk": replace(base, activation="batchtopk"),
        "matryoshka batchtopk": replace(base, activation="batchtopk", prefixes=nested),
        "jumprelu quadratic": replace(base, activation="jumprelu"),
        "jumprelu step": replace(base, activation="jumprelu", l0_loss="step", l0_weight=1.0),
        "jumprelu tanh": replace(base, activation="jumprelu", l0_loss="tanh", l0_weight=0.2),
        "gated": replace(base, activation="gated"),
        "relu": replace(base, activation="relu"),
    }


def main(options: Benchmark) -> None:
    torch.set_num_threads(2)
    for name, config in variants(options).items():
        folder = options.out / name.replace(" ", "-")
        if not (folder / "sae.json").exists():
            start = time.perf_counter()
            train_several_on_cache(options.cache, [config], out=folder)
            print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    print("| variant | FVU | L0 | dead | scored | median CDS | 95 % |\n|---|---|---|---|---|---|---|")
    for name in variants(options):
        print(row(options, name, options.out / name.replace(" ", "-")), flush=True)


def row(options: Benchmark, name: str, folder: Path) -> str:
    """One line of the table."""
    from infoscope.runtime.json_values import read_json

    found = read_json(folder / "sae.json")["training"]["held_out"]
    cells = [name, f"{found['fvu']:.3f}", f"{found['l0']:.1f}", f"{found['dead']:.1%}"]
    if options.model and options.images:
        sae = load_sae(folder)
        assert sae.site is not None
        backbone = infoscope.load_backbone(options.model, block=sae.site["block"], device="cpu")
        images = infoscope.open_images(options.images)
        some = [images[i] for i in np.linspace(0, len(images) - 1, options.count).round().astype(int)]
        cds = infoscope.measure_scope(backbone, sae, some).table["cds"].drop_nulls()
        cells += [f"{len(cds) / sae.features:.1%}"]
        cells += [f"{value:.3f}" for value in np.quantile(cds.to_numpy(), (0.5, 0.95))] if len(cds) else ["", ""]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
