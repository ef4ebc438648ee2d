"""Readers of what this project writes: runs and what is made of them, partial results, checkpoints, token caches."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from fake_runs import fake_run, make_photographs
from fuzz.readers import Found, Reader, register
from infoscope.analyses.comparison import compare_runs
from infoscope.errors import InfoscopeError
from infoscope.images.source import ids_sha256, open_images
from infoscope.measurement.ranking import Ranking
from infoscope.measurement.rejudge import config_of, judge_run, stored_pairs
from infoscope.measurement.result import noise_of
from infoscope.measurement.scoring import score_with_controls
from infoscope.measurement.summary import partition_of
from infoscope.runtime.columns import Table, make_table, write_table
from infoscope.runtime.json_values import write_json
from infoscope.runtime.partials import Partials
from infoscope.runtime.run import MAPS_FILE, Run, claim_directory, open_run
from infoscope.runtime.schema import CROSS_CHECKS, TOP_IMAGES
from infoscope.runtime.token_cache import TokenCacheWriter, open_token_cache
from infoscope.scope.code_noise import CodeNoise
from infoscope.training.checkpoint import Checkpoints
from infoscope.training.config import TrainConfig
from infoscope.training.loop import Trainer
from infoscope.training.processes import Processes
from infoscope.training.stream import ShuffleBuffer
from infoscope.views.comparison.page import write_comparison
from infoscope.views.figures.figure import figure
from infoscope.views.notebook.cards import html, text
from infoscope.views.report.page import write_report
from infoscope.views.report.removal_tables import probe_tables, zeroshot_table
from small import new_autoencoder

SCORES = [0.05, 0.1, 0.3, 0.45, None]
# What a run's checksums are kept under; a run from before there were any has neither.
CHECKSUMS = ("files", "checksum")
UNCHECKED = "a run from before there were checksums is read as it is, and says so"


def frame(table: Table, *rows: dict[str, Any]) -> pl.DataFrame:
    """Rows of a table; what they leave out is null."""
    return make_table(table, rows)


def _run(folder: Path) -> None:
    fake_run(folder, SCORES, curve=(1, 2), fvu=0.2)


def unchecked(folder: Path) -> None:
    """Take the checksums out of a run's manifest, so that its tables can be given what they would never let through."""
    file = folder / "manifest.json"
    held = json.loads(file.read_text())
    file.write_text(json.dumps({key: value for key, value in held.items() if key not in CHECKSUMS}, indent=2))


def _run_of_before(folder: Path) -> None:
    run = fake_run(folder, SCORES, curve=(1, 2))
    checks = [
        {"check": "quantiles", "feature": feature, "cds": score, "pairs": 4, "vanished": 0.0}
        for feature, score in enumerate(SCORES)
    ]
    write_table(folder / "cross_checks.parquet", frame(CROSS_CHECKS, *checks), CROSS_CHECKS)
    (folder / "quantile_images.parquet").write_bytes((folder / "top_images.parquet").read_bytes())
    write_json(folder / "code_noise.json", CodeNoise.none().to_json())
    assert run.path == folder
    unchecked(folder)


def keep_run(run: Run, found: Found) -> None:
    """A run's manifest, its split and every table."""
    found.keep("manifest", {name: value for name, value in asdict(run.manifest).items() if name not in CHECKSUMS})
    for name in ("scope", "top_images", "maps", "shift_curve", "cross_checks", "quantile_images"):
        found.take(name, lambda name=name: getattr(run, name))
    found.take("one feature's maps", lambda: run.maps_where(pl.col("feature") == 1))
    found.take("code noise", lambda: noise_of(run) and noise_of(run).to_json())
    found.take("partition", lambda: partition_of(run))
    found.take("feature", lambda: run.feature(1).values)


def _read_run(folder: Path, found: Found) -> None:
    keep_run(open_run(folder), found)


register(Reader("run", _run, _read_run, sums={"*": "file"}, rule="every file of a run has a checksum"))
register(Reader("run of before", _run_of_before, _read_run, rule=UNCHECKED))

# What is made of a run ------------------------------------------------------------------------------------------------


def _analysed(folder: Path) -> None:
    """A run with photographs and with one analysis of each kind in it."""
    from fuzz.probe_readers import write_outliers, write_probe, write_zeroshot

    photographs = make_photographs(folder / "photographs")
    sums = ids_sha256(open_images(photographs))
    run = fake_run(folder / "run", SCORES, curve=(1, 2), source=str(photographs), sha256=sums)
    write_probe(run.path / "probes" / "classification")
    write_outliers(run.path / "outliers", run)
    write_zeroshot(run.path / "zeroshot")
    unchecked(run.path)
    # The manifest names the photographs as they are found from where the input is read.
    file = run.path / "manifest.json"
    file.write_text(file.read_text().replace(str(folder), "."))


def _read_report(folder: Path, found: Found) -> None:
    run = open_run(folder / "run")
    photographs = open_images(folder / "photographs")
    page = write_report(run, photographs, features_shown=2, gallery_images=1)
    for said in [*probe_tables(run)[1], *zeroshot_table(run)[1]]:
        found.refused.append(f"{folder}: {said}")
    for file in sorted(page.parent.rglob("*")):
        if file.is_file():
            found.keep(file.relative_to(page.parent).as_posix(), file.read_bytes())


register(
    Reader(
        "report",
        _analysed,
        _read_report,
        rule=UNCHECKED,
        files=("run/*",),
        writes=("run/report/*", "run/report"),
        seconds=1.0,
    )
)


def _read_views(folder: Path, found: Found) -> None:
    run = open_run(folder / "run")
    found.keep("text", text(run))
    found.keep("html", html(run))
    found.keep("feature", html(run.feature(1)))
    for kind in ("histogram", "scatter", "shift", "removal"):
        found.take(kind, lambda kind=kind: json.dumps(figure(run, kind).to_dict()))


register(Reader("notebook and figures", _analysed, _read_views, rule=UNCHECKED, files=("run/*",), seconds=0.3))


def _two_runs(folder: Path) -> None:
    fake_run(folder / "one", SCORES)
    fake_run(folder / "two", [0.1, 0.2, 0.2, 0.4, 0.5], fvu=0.3, names={"model": "other/vit"})
    unchecked(folder / "one")


def _read_comparison(folder: Path, found: Found) -> None:
    comparison = compare_runs([folder / "one", folder / "two"])
    found.keep("comparison", comparison.to_json(), finite=False)
    write_comparison(comparison, folder / "out")
    written = json.loads((folder / "out" / "comparison.json").read_text())
    found.keep("page", (folder / "out" / "index.html").read_bytes())
    found.keep("as written", written)


register(
    Reader(
        "compare", _two_runs, _read_comparison, rule=UNCHECKED, files=("one/*",), writes=("out", "out/*"), seconds=0.4
    )
)


def _judgeable(folder: Path) -> None:
    """A run whose distances are those of its maps, as a measurement's are."""
    run = fake_run(folder / "run", SCORES)
    config = config_of(run)
    ranks = config.top_images
    image = run.top_images["image"].to_numpy().astype(np.int64).reshape(len(SCORES), ranks)
    score = run.top_images["score"].to_numpy().reshape(len(SCORES), ranks)
    ranking = replace(Ranking.empty(len(SCORES), ranks), image=image, score=score)
    pairs = stored_pairs(run, ranking, range(len(SCORES)))
    scores, _ = score_with_controls(pairs, run.manifest.model.grid, config, lambda done: None, len(SCORES))
    emd = pl.Series("emd", scores.emd).fill_nan(None)
    write_table(run.path / "top_images.parquet", run.top_images.with_columns(emd), TOP_IMAGES)
    unchecked(run.path)


def _read_judged(folder: Path, found: Found) -> None:
    for rules in ("posterior", "thresholds"):
        run = judge_run(folder / "run", rules, out=folder / rules)
        found.keep(f"by {rules}", run.scope)


register(
    Reader(
        "judge",
        _judgeable,
        _read_judged,
        rule=UNCHECKED,
        files=("run/*",),
        writes=("posterior", "posterior/*", "thresholds", "thresholds/*"),
        seconds=0.5,
    )
)

# Partial results, checkpoints and caches ------------------------------------------------------------------------------

PLAN = {"options": {"top_images": 4, "shift": 2}, "images": {"source": "photographs", "stamp": "0" * 64}, "seed": 0}


def _partials(folder: Path) -> None:
    rng = np.random.default_rng(0)
    write_json(folder / "partials" / "plan.json", PLAN)
    partials = Partials(folder / "partials")
    arrays = {"image": np.arange(40), "score": rng.normal(size=(40, 3)).astype(np.float32), "cells": np.array(9)}
    partials.put("ranking-0", arrays)


def _read_partials(folder: Path, found: Found) -> None:
    found.take("finished", lambda: claim_directory(folder, PLAN))
    partials = Partials(folder / "partials")
    if "ranking-0" in partials:
        found.take("whole", lambda: dict(sorted(partials.read("ranking-0").items())))
        part = partials.part("ranking-0", {})
        for name in ("image", "cells"):
            found.take(f"stretch of {name}", lambda name=name: part.rows(name, 1, 30))


register(
    Reader(
        "partial results", _partials, _read_partials, sums={"*.npz": "container"},
        rule="a plan is compared, not believed",
        writes=("partials/plan.json",),
    )
)  # fmt: skip

CONFIG = TrainConfig(features=10, k=2, tokens=200, batch_tokens=10, buffer_tokens=40, log_every=2)


def _training() -> tuple[Trainer, ShuffleBuffer, Checkpoints, torch.Tensor]:
    tokens = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
    buffer = ShuffleBuffer([tokens], CONFIG.buffer_tokens, CONFIG.tokens, CONFIG.seed)
    return Trainer(new_autoencoder(6, 10, k=2), CONFIG), buffer, None, tokens  # type: ignore[return-value]


def _checkpoint(folder: Path) -> None:
    trainer, buffer, _, _ = _training()
    for step in range(4):
        trainer.step(step, buffer.draw(CONFIG.batch_tokens))
    Checkpoints(folder / "checkpoints", [CONFIG], {"block": 3}, Processes()).save(4, [trainer], buffer)


def _read_checkpoint(folder: Path, found: Found) -> None:
    trainer, buffer, _, _ = _training()
    done = Checkpoints(folder / "checkpoints", [CONFIG], {"block": 3}, Processes()).restore([trainer], buffer)
    found.keep("done", done)
    found.keep("state", trainer.state())
    found.keep("curves", [asdict(point) for point in trainer.history], finite=False)
    # That the state fits together shows in the next step.
    trainer.step(done, buffer.draw(CONFIG.batch_tokens))
    found.keep("next step", trainer.state())


register(
    Reader(
        "training checkpoint", _checkpoint, _read_checkpoint, sums={"*": "file"}, optional=("*",),
        rule="a checkpoint holds a checksum of all that is in it",
    )
)  # fmt: skip


def _cache(folder: Path) -> None:
    tokens = torch.randn(20, 16, 8, generator=torch.Generator().manual_seed(0))
    made_by = {"model": "a/b", "block": 10}
    writer = TokenCacheWriter(folder, made_by, range(20), patches=16, width=8)
    writer.add(list(range(20)), tokens, skipped=[])
    writer.finish({"block": 10, "model": "a/b"})


def _read_cache(folder: Path, found: Found) -> None:
    cache = open_token_cache(folder)
    found.keep("described", (cache.site, cache.patches, cache.width, cache.images))
    found.keep("tokens", torch.cat(list(cache)), finite=False)


register(Reader("token cache", _cache, _read_cache, rule="a shard has no checksum", files=("*.json", "*.safetensors")))

assert InfoscopeError
assert MAPS_FILE
