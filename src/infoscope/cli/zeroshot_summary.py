"""What ``infoscope zeroshot`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table

from infoscope.analyses.zeroshot.record import ControlRecord, ZeroshotRecord
from infoscope.analyses.zeroshot.result import ZEROSHOT_FILE, ZeroshotResult
from infoscope.cli.ladder_summary import ladder_notes, ladder_tables, share
from infoscope.cli.output import WIDE, console, name_skipped, plain_table, print_rows
from infoscope.measurement.shared_images import shared_lines


def print_zeroshot(result: ZeroshotResult, out: Path) -> None:
    """Print how the images were classified, then the figures of each variant and what each changes."""
    record = result.record
    print_rows(_inputs(record))
    controls = {control.name: control for control in record.controls}
    rows = [row for row in result.variants.to_dicts() if row["draw"] in (None, 1) and row["side"] is None]
    # Tables are wide: where nobody's window says how wide they may be, they are as wide as they need.
    terminal = console(wide=WIDE)
    terminal.print(_levels(rows, controls, record.labelled))
    if len(rows) > 1:
        terminal.print(_changes(rows[1:], controls, record.labelled))
    ladder = result.ladder
    for name in ("accuracy", "flips") if record.labelled else ("flips", "confidence_change"):
        for table in ladder_tables(ladder, name, _TITLES[name], partial(_number, name)):
            terminal.print(table)
    skipped = [asdict(image) for image in record.images.skipped]
    print_rows(
        [
            *([("skipped", f"{len(skipped)}: {name_skipped(skipped, out / ZEROSHOT_FILE)}")] if skipped else []),
            *[("test images", line) for line in shared_lines(record.shared_images)],
            *[("note", note) for note in (*record.images.notes, *record.notes)],
            (
                "reading",
                "In brackets the 95 % bootstrap interval over images, each compared with itself; ± is the standard "
                "deviation over the draws of a random group.",
            ),
            *ladder_notes(ladder),
        ]
    )
    print(f"written: {out}")


def _inputs(record: ZeroshotRecord) -> list[tuple[str, str]]:
    model, head, classes = record.model, record.head, record.classes
    bias = "" if head.bias is None else f", bias {head.bias:.2f}"
    source = classes.embeddings.get("file") or classes.embeddings.get("model", "given")
    prompts = classes.embeddings.get("templates")
    named = (
        f" by {len(prompts)} prompts each" if prompts and len(prompts) > 1 else f" by {prompts[0]!r}" if prompts else ""
    )
    return [
        ("model", f"{model.name} ({model.family}), edited at block {model.block}, {record.token_set} tokens"),
        ("SAE", f"{record.dictionary.name}, {record.dictionary.features:,} features"),
        ("images", f"{record.images.source}, {record.read:,} of {record.images.count:,}"),
        ("classes", f"{len(classes.names):,} of {classes.source}; embeddings: {source}{named}"),
        (
            "logits",
            f"{head.pooled} vector{', projected' if head.projected else ''}, cosine x {head.scale:.2f}{bias} "
            f"({head.scale_source}); {head.probability}",
        ),
    ]


def _levels(rows: list[dict[str, Any]], controls: Mapping[str, ControlRecord], labelled: bool) -> Table:
    """Each variant by itself."""
    shown = ["entropy", "margin", "confidence"]
    if labelled:
        shown = ["accuracy", *(["top5"] if rows[0]["top5"] is not None else []), *shown, "calibration_error"]
    heads = ["", "features", "mass", "energy", *(_TITLES[name] for name in shown)]
    table = plain_table("Of each variant", heads, unbroken=range(1, len(heads)))
    for row in rows:
        control = controls.get(row["name"])
        cells = [_level(name, row, control) for name in shown]
        table.add_row(_named(row, control), *_removed(row), *cells)
    return table


def _changes(rows: list[dict[str, Any]], controls: Mapping[str, ControlRecord], labelled: bool) -> Table:
    """What each variant changes."""
    shown = ["flips"]
    shown += ["right_to_wrong", "wrong_to_right", "true_probability_change"] if labelled else []
    shown += ["confidence_change", "confidence_rose", "entropy_change"]
    table = plain_table("Against the untouched model, image by image", ["", *(_TITLES[name] for name in shown)])
    for row in rows:
        control = controls.get(row["name"])
        table.add_row(_named(row, control), *[_change(name, row, control) for name in shown])
    return table


_TITLES = {
    "accuracy": "accuracy",
    "top5": "top-5",
    "entropy": "entropy",
    "margin": "margin",
    "confidence": "confidence",
    "calibration_error": "ECE",
    "flips": "flips",
    "right_to_wrong": "right to wrong",
    "wrong_to_right": "wrong to right",
    "true_probability_change": "own class's probability",
    "confidence_change": "confidence",
    "confidence_rose": "it rose in",
    "entropy_change": "entropy",
}
_SHARES = ("accuracy", "top5", "flips", "right_to_wrong", "wrong_to_right", "confidence_rose", "calibration_error")


def _named(row: dict[str, Any], control: ControlRecord | None) -> str:
    return row["name"] if control is None else f"{row['name']} ({control.draws} draws)"


def _removed(row: dict[str, Any]) -> tuple[str, str, str]:
    energy = share(row["energy_share"]) if row["energy_share"] else ""
    if not row["features"]:
        return "", "", energy
    return f"{row['features']:,}", "" if row["mass"] is None else f"{row['mass']:.1%}", energy


def _number(name: str, value: float | None, signed: bool = False) -> str:
    if value is None:
        return ""
    sign = "+" if signed else ""
    return f"{value:{sign}.1%}" if name in _SHARES else f"{value:{sign}.3f}"


def _level(name: str, row: dict[str, Any], control: ControlRecord | None) -> str:
    """A figure; of a random group its mean over the draws and their spread."""
    if control is None or name not in control.mean:
        return _number(name, row[name])
    spread = control.deviation[name]
    return _number(name, control.mean[name]) + ("" if spread is None else f" ± {_number(name, spread)}")


def _change(name: str, row: dict[str, Any], control: ControlRecord | None) -> str:
    signed = name.endswith("_change")
    if control is not None and name in control.mean:
        spread = control.deviation[name]
        return _number(name, control.mean[name], signed) + ("" if spread is None else f" ± {_number(name, spread)}")
    lower, upper = row[f"{name}_ci_lower"], row[f"{name}_ci_upper"]
    interval = f" [{_number(name, lower, signed)}, {_number(name, upper, signed)}]"
    return _number(name, row[name], signed) + interval
