"""Small runs, written through the storage layer, on a 6 x 6 grid of 4-pixel patches with a shift of 2."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from infoscope.options import RULE_VERSIONS
from infoscope.runtime.columns import make_table, write_table
from infoscope.runtime.json_values import read_json, write_json
from infoscope.runtime.manifest import (
    FORMAT_VERSION,
    DictionaryRecord,
    FitRecord,
    ImagesRecord,
    Manifest,
    ModelRecord,
    SkippedImage,
    software_versions,
)
from infoscope.runtime.run import Run, open_run
from infoscope.runtime.schema import MAPS, SCOPE, SHIFT_CURVE, TOP_IMAGES
from infoscope.runtime.seal import write_sealed
from infoscope.scope.partition import partition

GRID, SHIFT, PATCH_SIZE = 6, 2, 4
IDS = ["a.png", "b.png", "deep/c.png", "deep/d.png"]

Entries = dict[tuple[int, int], float]


def _row(feature: int, cds: float | None, overrides: dict[str, Any]) -> dict[str, Any]:
    return {
        "feature": feature,
        "cds": cds,
        "cds_ci_lower": None if cds is None else max(0.0, cds - 0.02),
        "cds_ci_upper": None if cds is None else min(1.0, cds + 0.02),
        "pairs": 4 if cds is not None else 1,
        "vanished": 0.0,
        "retention": 0.9,
        "cds_retained": cds,
        "max_activation": 2.0,
        "images_active": 4,
        "density": 0.1,
        "effective_area": 2.0,
        "cosine_distance": 0.3,
        "mass_ratio": 0.9,
        "position_control": 0.3,
        "position_pairs": 4,
        "cds_null": None if cds is None else 0.4,
        "cds_calibrated": None if cds is None else cds / 0.4,
        "retained_disagrees": None if cds is None else False,
        "cds_even": cds,
        "cds_odd": cds,
        "cds_by_k": [cds, cds, cds],
        "cds_by_floor": [cds, cds, cds],
        "scope_class": "undefined" if cds is None else "local" if cds < 0.2 else "global",
        "class_evidence": "3 of 4 pairs jump",
        "trust": None if cds is None else 0.75,
        "trust_reasons": "posterior: local 0.95",
    } | overrides


def _posterior(row: dict[str, Any], rule_version: int) -> dict[str, Any]:
    """The posterior of a feature's own class, where it has one."""
    name = row["scope_class"]
    if rule_version == 1 or name in ("unsettled", "undefined"):
        return row
    return {f"posterior_{name.replace('-', '_')}": 0.95} | row


def fake_run(
    path: Path,
    cds: list[float | None],
    *,
    ids: list[str] = IDS,
    maps: dict[tuple[int, int, int], Entries] | None = None,
    columns: dict[int, dict[str, Any]] | None = None,
    emd: dict[tuple[int, int], float | None] | None = None,
    names: dict[str, str] | None = None,
    skipped: list[SkippedImage] | None = None,
    source: str = "photographs",
    fvu: float = 0.2,
    sha256: str = "",
    curve: tuple[int, ...] = (),
    rule_version: int = RULE_VERSIONS["posterior"],
) -> Run:
    """Write a run of ``len(cds)`` features whose top images are ``ids``, in that order."""
    generator = np.random.default_rng(0)
    scope, top_images, map_rows = [], [], []
    for feature, score in enumerate(cds):
        scope.append(_posterior(_row(feature, score, (columns or {}).get(feature, {})), rule_version))
        for rank, image_id in enumerate(ids):
            top_images.append(
                {
                    "feature": feature,
                    "rank": rank,
                    "image": rank,
                    "image_id": image_id,
                    "score": 3.0 - 0.5 * rank,
                    "mass_first": 1.0,
                    "mass_second": 1.0,
                    "emd": (emd or {}).get((feature, rank), score),
                }
            )
            for crop in (0, 1):
                cell = tuple(generator.integers(0, GRID, 2).tolist())
                entries = (maps or {}).get((feature, rank, crop), {cell: 1.5})
                patches = sorted((row * GRID + column, value) for (row, column), value in entries.items())
                map_rows.append(
                    {
                        "feature": feature,
                        "rank": rank,
                        "crop": crop,
                        "patch": [patch for patch, _ in patches],
                        "value": [value for _, value in patches],
                    }
                )
    write_table(path / "scope.parquet", make_table(SCOPE, scope), SCOPE)
    write_table(path / "top_images.parquet", make_table(TOP_IMAGES, top_images), TOP_IMAGES)
    write_table(path / "maps.parquet", make_table(MAPS, map_rows), MAPS)
    if curve:
        rows = [
            {
                "feature": feature,
                "shift": shift,
                "cds": score,
                "cds_patches": score and score * shift,
                "pairs": 4,
                "vanished": 0.0,
            }
            | {"cds_ci_lower": score and score / 2, "cds_ci_upper": score and 2 * score}
            for feature, score in enumerate(cds)
            for shift in curve
        ]
        write_table(path / "shift_curve.parquet", make_table(SHIFT_CURVE, rows), SHIFT_CURVE)
    if any(score is not None for score in cds):
        scores = np.array([np.nan if score is None else score for score in cds])
        write_json(path / "partition.json", partition(scores).to_json())
    text = {"model": "tiny/vit", "dictionary": "tiny/sae", "command": "infoscope measure"} | (names or {})
    Manifest(
        format_version=FORMAT_VERSION,
        command=text["command"],
        options={
            "top_images": max(4, len(ids)),
            "shift": SHIFT,
            "rank_by": "max",
            "rank_view": "full",
            "resize": "stretch",
            "min_pairs": 2,
            "empty_as": "leave-out",
            "ground_distance": "euclidean",
        },
        model=ModelRecord(text["model"], None, "0" * 64, "vit", 3, PATCH_SIZE, GRID, 1),
        dictionary=DictionaryRecord(text["dictionary"], "infoscope", "1" * 64, len(cds), "topk"),
        images=ImagesRecord(source, len(ids), sha256, skipped or []),
        software=software_versions(),
        seed=0,
        timings={"ranking": 1.0},
        fit=FitRecord(fvu=fvu, l0=7.25, dead=0.125, sample=12345),
        rule_version=rule_version,
    ).write(path / "manifest.json", [file.name for file in path.iterdir() if file.suffix in (".parquet", ".json")])
    return open_run(path)


def reseal(path: Path, record: str = "manifest.json") -> None:
    """Write the record of a run or a result anew, for the files that it has now: a change that was meant, no damage."""
    value = read_json(path / record)
    write_sealed(path / record, value, list(value["files"]))


def make_photographs(folder: Path) -> Path:
    generator = np.random.default_rng(1)
    for image_id in IDS:
        (folder / image_id).parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / image_id)
    return folder


def unseal(path: Path) -> Path:
    """Make a run one from before there were checksums."""
    value = {key: entry for key, entry in read_json(path / "manifest.json").items() if key not in ("files", "checksum")}
    write_json(path / "manifest.json", value)
    return path
