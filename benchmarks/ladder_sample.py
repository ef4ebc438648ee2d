"""How far a ladder's sets, of equal energy on a sample of images, are from it on others.

infoscope measure --sae SAE --images photographs --out run
python benchmarks/ladder_sample.py run --sample photographs --others more-photographs

The groups are the lowest and the highest quarter of the features by CDS. Printed is how far each side's sets
are from the step: their mean, the lowest and the highest, as shares of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from infoscope.analyses.removal.energy import Energies
from infoscope.analyses.removal.groups import named_group
from infoscope.analyses.removal.ladder import build_ladder
from infoscope.analyses.removal.statistics import read_statistics
from infoscope.backbones.loading import load_backbone
from infoscope.dictionaries.loading import load_sae
from infoscope.images.source import open_images
from infoscope.runtime.run import open_run


@dataclass(frozen=True)
class Benchmark:
    """Options of the comparison."""

    run: Annotated[Path, tyro.conf.Positional]
    """A finished run, whose model, SAE and CDS are taken."""
    sample: str
    """Images that the sets are drawn on."""
    others: str
    """Images that the sets are tried on."""
    sizes: tuple[int, ...] = (128, 256, 512, 1000)
    """Images in the sample."""
    steps: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2)
    """The ladder's steps."""


def main(options: Benchmark) -> None:
    torch.set_num_threads(1)
    run = open_run(options.run)
    model = run.manifest.model
    backbone, sae = load_backbone(model.name, model.block), load_sae(run.manifest.dictionary.name)
    groups = [named_group(run, text) for text in ("cds@0-0.25", "cds@0.75-1")]
    others = Energies.of_statistics(
        sae, read_statistics(backbone, sae, open_images(options.others), sample_images=1000)
    )
    assert others is not None
    elsewhere = others.codes("zero")
    for size in options.sizes:
        statistics = read_statistics(backbone, sae, open_images(options.sample), sample_images=size)
        energies = Energies.of_statistics(sae, statistics)
        assert energies is not None
        for group in groups:
            ladder = build_ladder(energies.codes("zero"), group, energies.mean_square, steps=options.steps)
            for step in options.steps:
                for side in ("subset", "disjoint"):
                    off = [
                        elsewhere.energy(one.features) / others.mean_square / step - 1
                        for one in ladder.sets
                        if (one.step, one.side) == (step, side)
                    ]
                    if off:
                        said = f"mean {np.mean(off):+.1%}, {min(off):+.1%} to {max(off):+.1%}"
                        print(f"{size:,} images, {group.name}, {step:.0%}, {side}: {said}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
