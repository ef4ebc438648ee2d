"""What extracting the features of all variants costs, over the model's bare forward passes.

    python benchmarks/extraction.py --run RUN --images photographs

Everything is counted: decoding, codes, edits, the passes from the edit on, the final norm, and what is written.
Processor time, so that other work on the machine counts less; one run, in turns. Prints ratios.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from infoscope.analyses.probes.store import FeatureStore, Readout, Wanted, extract
from infoscope.analyses.removal.config import RemovalConfig
from infoscope.analyses.removal.edited import EditedBackbone
from infoscope.analyses.removal.groups import named_group
from infoscope.analyses.removal.statistics import read_statistics
from infoscope.analyses.removal.variants import plan_variants
from infoscope.backbones.loading import load_backbone
from infoscope.backbones.whole_pass import WholePass
from infoscope.dictionaries.loading import load_sae
from infoscope.images.source import ImageSource, open_images
from infoscope.images.views import Views
from infoscope.runtime.execution import Execution
from infoscope.runtime.run import open_run


@dataclass(frozen=True)
class Options:
    """What is measured."""

    run: Path
    """A run, whose model and SAE are where it names them."""
    images: str
    """Photographs."""
    count: int = 64
    """How many of them."""
    turns: int = 3
    """How often each is measured; the least counts."""


READOUTS = {
    "classification": Readout((("cls", -1), ("mean", -1))),
    "dense": Readout(patches=True),
}


def main(options: Options) -> None:
    """Measure and print."""
    run = open_run(options.run)
    record = run.manifest.model
    backbone = load_backbone(record.name, record.block, input_side=record.grid * record.patch_size, device="cpu")
    sae = load_sae(run.manifest.dictionary.name)
    every = open_images(options.images)
    pictures = [every[index] for index in np.linspace(0, len(every) - 1, options.count).astype(int)]
    images = open_images(pictures)
    statistics = read_statistics(backbone, sae, images, sample_images=32)
    edited = EditedBackbone(backbone, sae, statistics=statistics)
    groups = [named_group(run, name) for name in ("high-CDS", "low-CDS")]
    variants = plan_variants(groups, statistics.mass, RemovalConfig(sites=("rerun", "site")))
    passes = 1 + sum(variant.edited and variant.site == "rerun" for variant in variants)
    view = Views(backbone.patch_size, backbone.grid, 0).full
    pixels = [np.stack([view(picture) for picture in pictures[at : at + 8]]) for at in range(0, options.count, 8)]

    def bare() -> None:
        for batch in pixels:
            WholePass(backbone, batch)

    def extracted(readout: Readout, images: ImageSource) -> None:
        with tempfile.TemporaryDirectory() as folder:
            stores = [
                FeatureStore(Path(folder) / str(number), len(images), readout.arrays(backbone))
                for number in range(len(variants))
            ]
            wanted = [Wanted(variant, readout, store) for variant, store in zip(variants, stores, strict=True)]
            extract(edited, images, wanted, resize="stretch", execution=Execution())

    jobs: dict[str, Callable[[], None]] = {"bare": bare}
    for name, readout in READOUTS.items():
        jobs[name] = lambda readout=readout: extracted(readout, images)  # type: ignore[misc]
    spent = {name: float("inf") for name in jobs}
    for _ in range(options.turns):
        for name, job in jobs.items():
            start = time.process_time()
            job()
            spent[name] = min(spent[name], time.process_time() - start)
    print(
        f"{len(variants)} variants at both sites, {passes} distinct passes, block {backbone.block} of {backbone.blocks}"
    )
    for name in READOUTS:
        ratio = spent[name] / spent["bare"]
        print(f"{name}: {ratio:.2f} over bare, {ratio / passes:.2f} over distinct passes x bare")


if __name__ == "__main__":
    main(tyro.cli(Options))
