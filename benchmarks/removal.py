"""What removing feature groups costs over the bare forward passes.

    python benchmarks/removal.py --sae SAE --images photographs

All variants of one batch, as `EditedBackbone.run` gives them: untouched, reconstruction, random groups by zero, and one
each by the mean and resampled, at both sites. In turns with it the bare forward of the same pixels to the model's end,
and the parts alone. Seconds are the processor's, so that other work on the machine counts for little, and of one
thread, so that none waits for another; medians.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numba
import numpy as np
import torch
import tyro

import infoscope
from common import print_table
from infoscope.analyses.removal.edited import EditedBackbone
from infoscope.analyses.removal.groups import FeatureGroup
from infoscope.analyses.removal.statistics import read_statistics
from infoscope.analyses.removal.variants import Variant
from infoscope.backbones.backbone import Backbone
from infoscope.backbones.whole_pass import WholePass
from infoscope.dictionaries.parts import decode_part, encode_parts
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.images.views import Views
from infoscope.options import ReadFrom


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark."""

    sae: str
    """A trained SAE; its model and block are those it names."""
    images: str
    model: str | None = None
    groups: int = 10
    """Random groups by zero; their sizes go from 1 feature to all but one."""
    batch_size: int | None = None
    """Images to a batch. Default: the model's own."""
    turns: int = 7
    threads: int = 1


def variants(groups: list[FeatureGroup], site: ReadFrom) -> list[Variant]:
    return [
        Variant("untouched", site=site),
        Variant("reconstruction", method="reconstruct", site=site),
        *(Variant(f"minus {group.name}", group, site=site) for group in groups),
        Variant("mean", groups[0], replacement="mean", site=site),
        Variant("resampled", groups[0], replacement="resampled", site=site),
    ]


def random_groups(features: int, count: int) -> list[FeatureGroup]:
    random = np.random.default_rng(0)
    sizes = np.linspace(1, features - 1, count).astype(int)
    drawn = [np.sort(random.permutation(features)[:size]).astype(np.uint32) for size in sizes]
    return [FeatureGroup(f"{len(some)}", "random", some) for some in drawn]


def timed(parts: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Processor seconds of each part, in turns; the first is for warming up."""
    found: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(turns + 1):
        for name, call in parts.items():
            start = time.process_time()
            call()
            found[name].append(time.process_time() - start)
    return {name: median(times[1:]) for name, times in found.items()}


def main(options: Benchmark) -> None:
    torch.set_num_threads(options.threads)
    numba.set_num_threads(options.threads)
    sae = infoscope.load_sae(options.sae)
    assert sae.site is not None
    backbone = infoscope.load_backbone(options.model or sae.site["model"], block=sae.site["block"])
    images = infoscope.open_images(options.images)
    count = options.batch_size or backbone.batch_size
    view = Views(backbone.patch_size, backbone.grid, 0).full
    pixels = np.stack([view(images[index]) for index in range(count)])
    statistics = read_statistics(backbone, sae, images, sample_images=32, donors=16)
    edited = EditedBackbone(backbone, sae, statistics=statistics)
    seconds = timed(parts(edited, pixels, list(images.ids[:count]), options), options.turns)
    show(backbone, sae, seconds, options)


def parts(
    edited: EditedBackbone, pixels: np.ndarray, ids: list[str], options: Benchmark
) -> dict[str, Callable[[], object]]:
    backbone, sae, last = edited.backbone, edited.sae, [edited.backbone.blocks - 1]
    groups = random_groups(sae.features, options.groups)
    whole = WholePass(backbone, pixels, last)
    tokens = whole.stream[:, backbone.prefix_tokens :].flatten(0, 1)
    codes = encode_parts(sae, tokens, backbone.grid**2)
    half = torch.arange(sae.features, device=tokens.device) % 2 == 0
    end = backbone.at(block=-1)

    def run(*sites: ReadFrom) -> None:
        for _ in edited.run(pixels, ids, [one for site in sites for one in variants(groups, site)], last):
            pass

    return {
        "bare forward": lambda: end.all_tokens(pixels),
        "rerun": lambda: run("rerun"),
        "site": lambda: run("site"),
        "rerun and site": lambda: run("rerun", "site"),
        "one pass from the edit on": lambda: whole.run_from(whole.stream),
        "codes of the batch": lambda: encode_parts(sae, tokens, backbone.grid**2),
        "half of the codes decoded": lambda: decode_part(sae, codes, half),
    }


def show(backbone: Backbone, sae: SparseAutoencoder, seconds: dict[str, float], options: Benchmark) -> None:
    bare, tail = seconds["bare forward"], seconds["one pass from the edit on"]
    edits = options.groups + 3
    rows = []
    for name, took in seconds.items():
        over_these = ["", "", ""]
        if name in ("rerun", "site", "rerun and site"):
            again = 0 if name == "site" else edits
            over_these = [f"{1 + again}", f"{took / bare / (1 + again):.3f}", f"{took / (bare + again * tail):.3f}"]
        rows.append([name, f"{took / bare:.3f}", *over_these])
    title = (
        f"{backbone.family}, block {backbone.block} of {backbone.blocks}; {sae.features:,} features; "
        f"{options.batch_size or backbone.batch_size} images; {edits} edits and the untouched model a site"
    )
    heads = ("what", "over bare", "distinct passes", "over these", "over one bare and the passes from the edit on")
    print_table(title, heads, rows, left=1, width=140)


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
