"""How large and how quick a site is: a run repeated to any number of features, written, and opened in Chromium.

    python benchmarks/site.py RUN --images PHOTOGRAPHS --features 65536 --out big-run

The features of RUN are repeated with noise on every number, so that no two points lie on each other, and each
repetition takes its top images from elsewhere among the photographs. The maps, texts and thumbnails are real.
"""

from __future__ import annotations

import argparse
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from infoscope.images.source import ids_sha256, open_images
from infoscope.runtime.columns import write_table
from infoscope.runtime.manifest import Manifest
from infoscope.runtime.run import Run, open_run
from infoscope.runtime.schema import MAPS, SCOPE, TOP_IMAGES
from infoscope.views.report.page import write_report

# Columns that are no free numbers, or that texts and pages compare with each other.
KEPT = {"feature", "pairs", "position_pairs", "images_active", "retained_disagrees"}
BRUSH = """
async () => {
  const over = document.querySelector(".plot .u-over"), box = over.getBoundingClientRect();
  const at = (x, y) => ({ clientX: box.left + x * box.width, clientY: box.top + y * box.height });
  const mouse = { bubbles: true, pointerId: 1, pointerType: "mouse", button: 0 };
  const send = (type, place) => over.dispatchEvent(new PointerEvent(type, { ...mouse, ...place }));
  const afterPaint = () =>
    new Promise((done) =>
      requestAnimationFrame(() => {
        const channel = new MessageChannel();
        channel.port1.onmessage = done;
        channel.port2.postMessage(0);
      }),
    );
  over.setPointerCapture = () => {};
  send("pointerdown", at(0.3, 0.3));
  const steps = [];
  for (let step = 1; step <= 30; step += 1) {
    const start = performance.now();
    send("pointermove", at(0.3 + 0.012 * step, 0.3 + 0.015 * step));
    await afterPaint();
    steps.push(performance.now() - start);
  }
  send("pointerup", at(0.66, 0.75));
  return steps;
}
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", required=True)
    parser.add_argument("--features", type=int, default=65536)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--written", action="store_true", help="the site is there already: only open it")
    options = parser.parse_args()
    if not options.written:
        images = open_images(options.images)
        run = repeat_run(open_run(options.run), images.ids, ids_sha256(images), options.features, options.out)
        start, spent = time.perf_counter(), time.process_time()
        write_report(run, images)
        print(f"written in {time.perf_counter() - start:.0f} s ({time.process_time() - spent:.0f} s of CPU)")
    show_size(options.out / "report", options.features)
    show_speed(options.out / "report" / "index.html")


def repeat_run(run: Run, ids: Any, ids_hash: str, features: int, out: Path) -> Run:
    """A run of ``features`` features in ``out``, made of another's."""
    times = -(-features // run.scope.height)
    random = np.random.default_rng(0)
    scopes, tops, maps = [], [], []
    for repetition in range(times):
        shift = pl.col("feature") + repetition * run.scope.height
        noise = [
            (pl.col(name) * pl.Series(random.uniform(0.97, 1.03, run.scope.height)))
            .clip(None, 1.0 if column.is_share else None)
            .alias(name)
            for name, column in SCOPE.items()
            if column.dtype == pl.Float64 and name not in KEPT
        ]
        scopes.append(run.scope.with_columns(noise if repetition else []).with_columns(shift.cast(pl.UInt32)))
        moved = (pl.col("image") + repetition * 977) % len(ids)
        tops.append(
            run.top_images.with_columns(shift.cast(pl.UInt32), moved.alias("image")).with_columns(
                pl.Series(ids)
                .gather(pl.Series((run.top_images["image"] + repetition * 977) % len(ids)))
                .alias("image_id")
            )
        )
        maps.append(run.maps.with_columns(shift.cast(pl.UInt32)))
    for name, frames, table in (("scope", scopes, SCOPE), ("top_images", tops, TOP_IMAGES), ("maps", maps, MAPS)):
        write_table(out / f"{name}.parquet", pl.concat(frames).filter(pl.col("feature") < features), table)
    shutil.copy(run.path / "partition.json", out)
    manifest: Manifest = run.manifest
    images = replace(manifest.images, count=len(ids), ids_sha256=ids_hash, skipped=[])
    dictionary = replace(manifest.dictionary, features=features)
    names = ["scope.parquet", "top_images.parquet", "maps.parquet", "partition.json"]
    replace(manifest, images=images, dictionary=dictionary).write(out / "manifest.json", names)
    return open_run(out)


def show_size(folder: Path, features: int) -> None:
    """Bytes of the site, all and per 1,000 features, by kind."""
    for name, pattern in (
        ("all", "**/*"),
        ("features", "data/features/*"),
        ("columns", "data/columns/*"),
        ("thumbnails", "images/**/*.webp"),
    ):
        files = [file for file in folder.glob(pattern) if file.is_file()]
        size = sum(file.stat().st_size for file in files)
        print(f"{name}: {size / 1e6:.1f} MB in {len(files):,} files, {size / 1e3 / features:.2f} MB per 1,000 features")


def show_speed(page: Path) -> None:
    """Time until the explorer can be used, until a feature's page is there, and of a brush's step.

    Beside each the processor time of the page's own thread, which other work on the machine does not lengthen.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for width in (1440, 390):
            tab = browser.new_page(viewport={"width": width, "height": 900})
            tab.set_default_timeout(120_000)
            session = tab.context.new_cdp_session(tab)
            session.send("Performance.enable", {"timeDomain": "threadTicks"})

            def spent(session: Any = session) -> Any:
                metrics = session.send("Performance.getMetrics")["metrics"]
                return sum(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")

            start = time.perf_counter()
            tab.goto(f"{page.resolve().as_uri()}#/explore")
            tab.wait_for_selector(".features tbody tr:nth-child(25)")
            ready, ready_cpu = time.perf_counter() - start, spent()
            steps = tab.evaluate(BRUSH)
            step_cpu = (spent() - ready_cpu) / len(steps)
            start, before = time.perf_counter(), spent()
            tab.goto(f"{page.resolve().as_uri()}#/feature/100")
            tab.wait_for_selector("h1:has-text('Feature 100')")
            opened, opened_cpu = time.perf_counter() - start, spent() - before
            print(
                f"{width} pixels: explorer after {ready:.2f} s (CPU {ready_cpu:.2f} s), a feature after {opened:.2f} s "
                f"(CPU {opened_cpu:.2f} s), a brush step {np.median(steps):.0f} ms (median of {len(steps)}; CPU "
                f"{1e3 * step_cpu:.0f} ms)"
            )
        browser.close()


if __name__ == "__main__":
    main()
