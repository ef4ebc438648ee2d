"""Readers of what probes need and write: labels, masks, depths, stores of features, records of analyses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from fuzz.readers import Found, Reader, register
from fuzz.run_readers import frame
from infoscope.analyses.outliers.record import CutoffUsed, OutlierRecord, Places, Presence, Probes, Stability
from infoscope.analyses.outliers.result import BLOCKS, FEATURES, NORMS, POSITIONS, STABILITY, OutlierResult
from infoscope.analyses.probes.depth_sets import open_depths, open_nyu
from infoscope.analyses.probes.labelled_images import open_labelled, read_devkit
from infoscope.analyses.probes.reading import in_order
from infoscope.analyses.probes.result import PER_CLASS, VARIANTS, ProbeRecord, ProbeResult, open_probe
from infoscope.analyses.probes.segmentation_sets import open_ade20k, open_masks, open_segmentation
from infoscope.analyses.probes.store import FeatureStore, StoredArray
from infoscope.analyses.probes.task import Baseline, Score
from infoscope.analyses.probes.variant_scores import FinishedScores
from infoscope.analyses.removal.variants import Variant
from infoscope.analyses.zeroshot.record import ClassesRecord, HeadRecord, ZeroshotRecord
from infoscope.analyses.zeroshot.result import PREDICTIONS, ZeroshotResult, read_predictions
from infoscope.analyses.zeroshot.result import VARIANTS as ZEROSHOT
from infoscope.errors import UnreadableImageError
from infoscope.runtime.manifest import SkippedImage
from infoscope.runtime.run import Run, open_run
from layouts import write_devkit, write_labelled

# Records of analyses, which the readers of runs use too ---------------------------------------------------------------


def _manifest() -> Any:
    import tempfile

    from fake_runs import fake_run

    with tempfile.TemporaryDirectory() as folder:
        return fake_run(Path(folder) / "run", [0.1, 0.4]).manifest


def write_probe(folder: Path) -> None:
    """A finished probe."""
    manifest = _manifest()
    rows = [("untouched", None, 0.7, 0.0, None, None), ("global", None, 0.6, -0.1, -0.15, -0.05)]
    rows += [("random", draw, 0.6 + draw / 50, -0.08, -0.1, -0.06) for draw in (1, 2)]
    names = ("name", "draw", "score", "difference", "difference_lower", "difference_upper")
    same = {"site": "rerun", "metric": "top1", "features": 1, "mass": 0.25}
    variants = frame(VARIANTS, *(same | dict(zip(names, row, strict=True)) for row in rows))
    per_class = frame(PER_CLASS, {"site": "rerun", "name": "untouched", "class": "cat", "score": 0.5})
    record = ProbeRecord(
        format_version=1, command="infoscope probe", run="run", task="classification", metric="top1",
        higher_is_better=True, recipe={"name": "simple", "version": 2}, options={"seed": 0}, model=manifest.model,
        dictionary=manifest.dictionary, token_set="patches",
        data={"splits": {"train": {"source": "a/train", "images": 16}, "test": {"source": "a/val", "images": 9}}},
        skipped={"train": [SkippedImage(1, "b.png", "is cut short")]}, groups={"global": [1]}, chosen=[{"rate": 0.1}],
        baselines=[Baseline("majority", {"top1": 0.125}, None, {"cat": 0.5}, ["a note"])], notes=["a note"],
        software={"python": "3"}, timings={"heads": 1.0},
    )  # fmt: skip
    ProbeResult(record, variants, per_class).save(folder)


def write_outliers(folder: Path, run: Run) -> None:
    """A finished analysis of outlier tokens."""
    manifest = run.manifest
    norms = {"mean": 12.0, "deviation": 3.0, "median": 10.0, "longest": 50.0, "long_share": 0.02, "present": True}
    blocks = frame(
        BLOCKS,
        *({"block": block, "tokens": 144, "threshold_std": 20.0, "share_std": 0.02, **norms} for block in range(4)),
    )
    positions = frame(
        POSITIONS,
        *(
            {"block": block, "patch": patch, "outliers": int(patch == 3), "mean_norm": 10.0}
            for block in range(4)
            for patch in range(36)
        ),
    )
    bars = frame(NORMS, *({"block": block, "lower": 8.0, "upper": 12.0, "tokens": 140} for block in range(4)))
    moved = frame(STABILITY, {"image": 0, "image_id": "a.png", "size_first": 1, "size_second": 1, "outlier": 0.1})
    features = frame(FEATURES, *({"feature": feature, "outlier_activation": 0.5} for feature in range(5)))
    record = OutlierRecord(
        format_version=1, command="infoscope outliers", options={"seed": 0}, model=manifest.model,
        dictionary=manifest.dictionary, images=manifest.images, sample=4, tokens=144, software={},
        timings={"pass": 1.0},
        presence=Presence("outlier", [3], 0.02, 5.0, 3, 5.0, "Block 3 has outlier tokens."),
        cutoff=CutoffUsed("std", "std", 20.0, 3, 0.02, 2), places=Places(1, 36, 3, 0.5, 0.0, 0.1, 0.5, 0.5),
        stability=Stability(4, 2, 0.1, 1.0, []), probes=Probes(None, None, None, None, None, None, None, ["too few"]),
        groups=None, notes=["a note"],
    )  # fmt: skip
    OutlierResult(record, blocks, positions, bars, moved, features).save(folder)


def write_zeroshot(folder: Path) -> None:
    """A finished zero-shot evaluation."""
    manifest = _manifest()
    same = {"method": "keep-error", "replacement": "zero", "images": 4, "features": 0, "mass": 0.0, "confidence": 0.6}
    variants = frame(
        ZEROSHOT, same | {"name": "untouched", "accuracy": 0.8}, same | {"name": "minus global", "accuracy": 0.5}
    )
    predictions = frame(PREDICTIONS, {"image": 0, "image_id": "a.png", "name": "untouched", "prediction": "cat"})
    record = ZeroshotRecord(
        format_version=1, command="infoscope zeroshot", options={}, model=manifest.model,
        dictionary=manifest.dictionary,
        token_set="patches", images=manifest.images, read=4, labelled=True,
        classes=ClassesRecord(["cat", "dog"], None, "names", {"made": "here"}),
        head=HeadRecord("cls", True, 5, 20.0, None, "option", "softmax"), variants=[], controls=[], software={},
        timings={}, notes=["a note"],
    )  # fmt: skip
    ZeroshotResult(record, variants, lambda: iter([predictions])).save(folder)


def _read_probe(folder: Path, found: Found) -> None:
    result = open_probe(folder)
    found.keep("record", result.to_json())
    found.keep("variants", result.variants)
    found.keep("per_class", result.per_class)
    found.keep("table", result.table)


register(
    Reader("probe record", write_probe, _read_probe, rule="an analysis may say something else where nothing seals it")
)


def _read_predictions(folder: Path, found: Found) -> None:
    found.keep("predictions", read_predictions(folder))


register(Reader("zero-shot predictions", write_zeroshot, _read_predictions, files=("predictions.parquet",)))

# Stores of features ---------------------------------------------------------------------------------------------------

ARRAYS = {"pooled": StoredArray((3,), "float32"), "half": StoredArray((2, 2), "float16")}


def _store(folder: Path) -> None:
    rng = np.random.default_rng(0)
    store = FeatureStore(folder / "store", 6, ARRAYS)
    store.write(0, {"pooled": rng.normal(size=(5, 3)), "half": rng.normal(size=(5, 2, 2))})
    store.finished(6, {2: "is cut short"})
    kept = FinishedScores(folder)
    kept.note_skipped({"train": {1: "is cut short"}})
    score = Score({"top1": 0.5}, 0.5, {"rate": 0.1}, ({"rate": 0.1, "score": 0.5},), {"cat": 0.5}, (1.0, 0.0), ())
    kept.keep(0, Variant("untouched"), score)


def _read_store(folder: Path, found: Found) -> None:
    store = FeatureStore(folder / "store", 6, ARRAYS)
    found.keep("progress", (store.done, dict(store.skipped)))
    if store.done > len(store.skipped):
        found.keep("rows", store.rows)
        for name in ARRAYS:
            rows = store.read(name).reshape(len(store.rows), -1)
            found.take(name, lambda rows=rows: [batch for batch, _ in in_order(rows, np.arange(len(rows)))])
    kept = FinishedScores(folder)
    found.take("skipped", kept.skipped)
    found.take("score", lambda: kept.score(0))


register(Reader("probe store", _store, _read_store, rule="mapped arrays have no checksum", writes=("store", "store/*")))

# Labels ---------------------------------------------------------------------------------------------------------------


def _picture(path: Path, shade: int, size: tuple[int, int] = (6, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 0, 0)).save(path)


def _labels(folder: Path) -> None:
    for shade, name in enumerate(("cat/1.png", "cat/2.png", "dog/1.png", "dog/a b.png")):
        _picture(folder / "images" / name, shade)
    (folder / "list.txt").write_text("cat/1.png 0\n./cat/2.png 0\ndog/1.png 1\ndog/a b.png 1\n")
    for number in (1, 2, 3):
        _picture(folder / "validation" / f"ILSVRC2012_val_{number:08}.png", number)
    write_devkit(folder / "devkit", [3, 1, 2])
    _without_date(folder / "devkit" / "meta.mat")


def _without_date(file: Path) -> None:
    """The time at which MATLAB's files were written is in their first line."""
    file.write_bytes(b"MATLAB 5.0 MAT-file".ljust(116) + file.read_bytes()[116:])


def _read_labels(folder: Path, found: Found) -> None:
    def labelled(images: str, labels: Path) -> Any:
        held = open_labelled(str(folder / images), labels)
        return list(held.images.ids), held.classes, held.labels

    found.take("list", lambda: labelled("images", folder / "list.txt"))
    found.take("devkit", lambda: labelled("validation", folder / "devkit"))
    found.take("devkit's words", lambda: read_devkit(folder / "devkit").words)


register(
    Reader(
        "labels", _labels, _read_labels, files=("list.txt", "devkit/*"), rule="a list may give other labels",
        kinds={"*.mat": ("mat",), "*.txt": ("text",)},
    )
)  # fmt: skip

# Masks ----------------------------------------------------------------------------------------------------------------


def _mask(path: Path, values: np.ndarray, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(values)
    if palette:
        picture.putpalette([number for shade in range(256) for number in (shade, 255 - shade, 7)])
    picture.save(path)


def _masks(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        _picture(folder / "camvid" / "train" / f"{name}.png", 9)
        _mask(folder / "camvid" / "trainannot" / f"{name}.png", rng.integers(0, 12, (4, 6), np.uint8))
        _picture(folder / "own" / "images" / f"{name}.png", 9)
        _mask(folder / "own" / "masks" / f"{name}.png", rng.integers(0, 3, (4, 6), np.uint8), palette=True)
        _picture(folder / "ade" / "images" / "training" / f"{name}.png", 9)
        _mask(
            folder / "ade" / "annotations" / "training" / f"{name}.png", rng.integers(0, 151, (4, 6)).astype(np.uint16)
        )
    (folder / "own" / "classes.txt").write_text("road\nsky\ntree\n")
    rows = [
        "Idx\tRatio\tTrain\tVal\tName",
        *(f"{number}\t0.1\t1\t1\tclass {number}, of it" for number in range(1, 151)),
    ]
    (folder / "ade" / "objectInfo150.txt").write_text("\n".join(rows) + "\n")


def _read_masks(folder: Path, found: Found) -> None:
    own = folder / "own"
    sets = {
        "camvid": lambda: open_segmentation(folder / "camvid", "train"),
        "ade": lambda: open_ade20k(folder / "ade", "train"),
        "named": lambda: open_masks(own / "images", own / "masks", classes=own / "classes.txt"),
        "numbered": lambda: open_masks(own / "images", own / "masks"),
    }
    for name, opened in sets.items():

        def read(opened: Any = opened) -> Any:
            held = opened()
            return held.classes, [held.target(index) for index in range(len(held))]

        found.take(name, read)


register(
    Reader(
        "masks", _masks, _read_masks, rule="a mask may hold other classes",
        files=("*annot*/*.png", "*masks/*.png", "*.txt"),
    )
)  # fmt: skip

# Depths ---------------------------------------------------------------------------------------------------------------


def _depths(folder: Path) -> None:
    rng = np.random.default_rng(0)
    metres = rng.uniform(1, 9, (4, 6)).astype(np.float32)
    for name in ("a", "b", "c"):
        _picture(folder / "images" / f"{name}.png", 9)
    (folder / "depths").mkdir()
    Image.fromarray((metres * 1000).astype(np.uint16)).save(folder / "depths" / "a.png")
    Image.fromarray(metres).save(folder / "depths" / "b.tiff")
    np.save(folder / "depths" / "c.npy", metres)
    (folder / "pairs.txt").write_text("images/a.png depths/a.png 500.0\n/images/c.png /depths/c.npy 500.0\n")


def _read_depths(folder: Path, found: Found) -> None:
    held = open_depths(folder / "images", folder / "depths")
    for index in range(len(held)):
        found.take(f"map {index}", lambda index=index: held.target(index))
    listed = open_depths(folder, listed=folder / "pairs.txt")
    found.keep("ids", list(listed.images.ids))
    for index in range(len(listed)):
        found.take(f"listed {index}", lambda index=index: listed.target(index))


register(Reader("depths", _depths, _read_depths, files=("depths/*", "pairs.txt"), rule="a depth map has no checksum"))


def _nyu(folder: Path) -> None:
    write_labelled(folder, chunks=4)
    _without_date(folder / "splits.mat")


def _read_nyu(folder: Path, found: Found) -> None:
    held = open_nyu(folder, "test", crop="none")
    for index in range(len(held)):
        found.take(f"depth {index}", lambda index=index: held.target(index))
        try:
            found.keep(f"photograph {index}", held.images[index])
        except UnreadableImageError as error:
            found.refuse(error)


register(
    Reader(
        "NYU's labelled file", _nyu, _read_nyu, kinds={"splits.mat": ("mat",), "nyu_*": ("hdf5",)},
        rule="its arrays have no checksum", seconds=0.05,
    )
)  # fmt: skip

assert pl
assert open_run
