"""What an SAE makes of features that live on few tokens, and what helps (docs/training.md).

    python benchmarks/mixtures.py --images imagenette/train --test imagenette/val --out OUT
    python benchmarks/mixtures.py --images imagenette/train --test imagenette/val --out OUT --model parked --block 8

Without a model: planted ones (docs/validation.md), whose global features fire together on five outlier tokens of a
view. One thing at a time is varied against the SAE of `infoscope validate`; figures are of photographs not trained on.
Of a real model the truth is not known: instead, a linear probe names the photograph's folder from an outlier token,
from its reconstruction, and from its codes. Figures are kept in OUT; only what is missing there is trained.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from sklearn.linear_model import RidgeClassifierCV
from torch.nn import functional

import infoscope
from common import print_table
from infoscope.analyses.planted.plant import Planted
from infoscope.analyses.validation.cases import BATCH_TOKENS, LEARNING_RATE, RECOVERED, kind_share, match_directions
from infoscope.analyses.validation.validate import hold
from infoscope.dictionaries.fvu import FVU
from infoscope.training.config import TrainConfig
from outlier_streams import Stream, Tokens, Variation, train

OWN = 0.9
"""A planted direction has a feature of its own if a decoder direction has this cosine with it. Our choice."""
ALWAYS = 0.9
"""A feature that fires on this share of the outlier tokens says little but that they are outliers. Our choice."""
MOST = 30_000
"""Normal tokens that figures are of."""


@dataclass(frozen=True)
class Benchmark:
    """Options of the benchmark."""

    images: str
    """Photographs to train on."""
    test: str
    """Others to measure on."""
    out: Path
    model: str | None = None
    """A real model with outlier tokens, such as one of `infoscope park`; planted ones otherwise."""
    block: int = -1
    photographs: int = 300
    tests: int = 400
    tokens: int = 600_000
    seeds: tuple[int, ...] = (0, 1)
    only: tuple[str, ...] = ()
    """Variations to train and show; all by default."""


BOTH = {
    "baseline": Variation(),
    "BatchTopK": Variation({"activation": "batchtopk"}),
    "4 x tokens": Variation(tokens=4),
    "outliers 15 %": Variation(share=0.15),
    "one length": Variation(edit="length"),
    "direction": Variation(edit="direction"),
    "direction, outliers 15 %": Variation(edit="direction", share=0.15),
    "direction, 4 x tokens": Variation(edit="direction", tokens=4),
}
OF_PLANTED = BOTH | {
    "width 200": Variation({"features": 200}),
    "width 1,600": Variation({"features": 1600}),
    "k 4": Variation({"k": 4}),
    "k 48": Variation({"k": 48}),
    "Matryoshka 50, 150": Variation({"prefixes": (50, 150)}),
    "outliers 40 %": Variation(share=0.4),
    "10 x photographs": Variation(photographs=10),
    "10 x photographs, 4 x tokens": Variation(photographs=10, tokens=4),
    "direction, k 48": Variation({"k": 48}, edit="direction"),
    "direction, BatchTopK": Variation({"activation": "batchtopk"}, edit="direction"),
    "direction, 10 x photographs, 4 x tokens": Variation(edit="direction", photographs=10, tokens=4),
}
OF_REAL = BOTH | {"k 64": Variation({"k": 64}), "Matryoshka 128, 512": Variation({"prefixes": (128, 512)})}


def describe(tokens: Tokens, planted: Planted | None) -> str:
    """What outlier tokens are like: how far they lie from the others in common, and how many planted codes are on."""
    normal, outliers = tokens.of_kind(False), tokens.of_kind(True)
    squares = (outliers - normal.mean(0)).square().sum(1).mean()
    common = (outliers.mean(0) - normal.mean(0)).square().sum() / squares
    words = [f"{len(outliers):,} outlier tokens, {len(outliers) / (len(normal) + len(outliers)):.1%} of all"]
    words += [f"{common:.1%} of their squared distance from the mean normal token is common to them"]
    if planted:
        on = outliers @ planted.dictionary.W_dec.detach().T > planted.config.least_code
        for name, mine in (
            ("codes", on),
            ("global codes", on[:, torch.tensor([kind == "global" for kind in planted.kinds])]),
        ):
            few, middle, many = mine.sum(1).double().quantile(torch.tensor([0.05, 0.5, 0.95]).double()).tolist()
            words += [f"{middle:.0f} {name} on each ({few:.0f} to {many:.0f})"]
    return "; ".join(words)


@torch.no_grad()
def on_both(sae: infoscope.SparseAutoencoder, stream: Stream, test: Tokens) -> dict[str, float]:
    """What is left of outlier tokens and of the others, each against the variance of its kind; and how many codes."""
    found: dict[str, float] = {}
    for name, tokens in (("outliers", test.of_kind(True)), ("normal", test.of_kind(False)[:MOST])):
        edited, back = stream.scaled(tokens)
        codes, fvu = sae.encode(edited), FVU(sae.width)
        fvu.update(tokens, back(sae.decode(codes)))
        fires = (codes > 0).double().mean(0)
        found |= {f"FVU {name}": fvu.value, f"L0 {name}": float(fires.sum())}
        if name == "outliers":
            found["always"] = float((fires >= ALWAYS).sum())
    return found


@torch.no_grad()
def against_truth(sae: infoscope.SparseAutoencoder, stream: Stream, test: Tokens, planted: Planted) -> dict[str, float]:
    """For the global features on outlier tokens, and for all others on normal ones: how well the SAE has them.

    All planted directions are at right angles, so that a token's product with one is its code.
    """
    truth, rows = planted.dictionary.W_dec.detach(), functional.normalize(sae.W_dec.detach(), dim=1)
    latent, _ = match_directions(truth.numpy(), rows.numpy())
    recovered = kind_share(truth.numpy(), planted.kinds, rows.numpy()[latent]) >= RECOVERED
    is_global = np.array(planted.kinds) == "global"
    found: dict[str, float] = {}
    for name, mine, tokens in (
        ("global", is_global, test.of_kind(True)),
        ("others", ~is_global, test.of_kind(False)[:MOST]),
    ):
        true, codes = tokens @ truth[mine].T, sae.encode(stream.scaled(tokens)[0])
        cosine = (truth[mine] @ rows.T).abs()
        part = ((true > planted.config.least_code).float().T @ codes) * cosine
        spread = part.sum(1).square() / part.square().sum(1).clamp_min(1e-12)
        there, seen = (functional.normalize(values - values.mean(0), dim=0) for values in (true, codes))
        found |= {
            f"{name} recovered": float(recovered[mine].sum()),
            f"{name} own": float((cosine.amax(1) >= OWN).sum()),
            f"{name} cosine": float(cosine.amax(1).mean()),
            f"{name} spread": float(spread.median()),
            f"{name} R2": float((there.T @ seen).square().amax(1).mean()),
        }
    return found


@torch.no_grad()
def probes(sae: infoscope.SparseAutoencoder, stream: Stream, test: Tokens) -> dict[str, float]:
    """How often a linear probe on one outlier token names the photograph's folder, on photographs of the test."""
    sides = []
    for tokens in (stream.tokens, test):
        raw = tokens.of_kind(True)
        edited, back = stream.scaled(raw)
        codes = sae.encode(edited)
        sides.append({"token": raw, "reconstruction": back(sae.decode(codes)), "codes": codes})
    scores = {}
    for name, seen in sides[0].items():
        known, unknown = (((side[name] - seen.mean(0)) / seen.std()).numpy() for side in sides)
        probe = RidgeClassifierCV(np.logspace(-1, 5, 13)).fit(known, stream.tokens.folders())
        scores[f"class from {name}"] = float(probe.score(unknown, test.folders()))
    return scores


def main(options: Benchmark) -> None:
    variations = OF_REAL if options.model else OF_PLANTED
    chosen = {name: each for name, each in variations.items() if not options.only or name in options.only}
    options.out.mkdir(parents=True, exist_ok=True)
    # A real model's tokens are the same for all seeds.
    for seeds in [options.seeds] if options.model else [(seed,) for seed in options.seeds]:
        run_seeds(options, chosen, seeds)
    rows = []
    for name in chosen:
        found = [json.loads(record(options, name, seed).read_text()) for seed in options.seeds]
        rows.append((name, *(" ".join(f"{one[key]:.3g}" for one in found) for key in found[0])))
    print_table("", ["", *found[0]], rows, left=1, width=260)


def run_seeds(options: Benchmark, variations: dict[str, Variation], seeds: tuple[int, ...]) -> None:
    """Train what is missing on one model's tokens, and keep its figures."""
    base = TrainConfig(batch_tokens=BATCH_TOKENS, learning_rate=LEARNING_RATE)
    if options.model:
        planted, base = None, replace(base, features=1024, k=32)
        backbone = infoscope.load_backbone(options.model, options.block, device="cpu")
    else:
        planted = infoscope.plant(hold(infoscope.open_images(options.images), options.photographs), seed=seeds[0])
        base, backbone = replace(base, features=400, k=16), planted.backbone
    read: dict[int, Tokens] = {}
    test: Tokens | None = None
    missing = [(name, seed) for name in variations for seed in seeds if not record(options, name, seed).exists()]
    # Those of equally many photographs after each other, so that only one set of tokens is in memory.
    for name, seed in sorted(missing, key=lambda each: variations[each[0]].photographs):
        variation = variations[name]
        count = options.photographs * variation.photographs
        if count not in read:
            read = {count: Tokens.read(backbone, options.images, count)}
            print(f"{count} photographs, seed {seed}: {describe(read[count], planted)}", flush=True)
        test = test or Tokens.read(backbone, options.test, options.tests, read[count].limit)
        stream = Stream.of(read[count], variation)
        config = replace(base, **variation.options, seed=seed, tokens=options.tokens * variation.tokens)
        sae = train(stream, config)
        found = on_both(sae, stream, test)
        found |= against_truth(sae, stream, test, planted) if planted else probes(sae, stream, test)
        record(options, name, seed).write_text(json.dumps(found))


def record(options: Benchmark, name: str, seed: int) -> Path:
    """Where the figures of one SAE are kept."""
    world = "real" if options.model else "planted"
    return options.out / f"{world}, {name}, {seed}.json"


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
