"""``infoscope validate``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import tyro

from infoscope.analyses.validation.config import ValidateConfig
from infoscope.cli.inputs import Hardware, check_writable, open_backbone
from infoscope.cli.output import Answer, Output
from infoscope.errors import InfoscopeError


@dataclass(frozen=True)
class Validate:
    """Check the measurement against planted truth: models whose features are known, built over your photographs.

    Features are planted in two settings, default and adversarial. Prints how well CDS tells global features from local
    ones (AUC), how often the classes are right, and how both fall with noise, fewer images, larger shifts and SAEs that
    are off. A validation that was stopped goes on with its next case.
    """

    images: str
    """The photographs: a folder (searched recursively), webdataset shards ('shards/*.tar'), a saved data set, parquet
    files (folder[:split]), or a data set of the hub, owner/name[:split]."""
    out: Path
    """The directory to write the tables to."""
    model: str | None = None
    """A real model to plant features into as well: a local directory in Hugging Face layout, or a hub id."""
    block: int = -2
    """The block whose tokens they are planted into, from 0; negative counts from the end."""
    input_side: int | None = None
    """Pixels per side of the real model's input. Default: the model's own (DINOv2: 224)."""
    revision: str | None = None
    """The real model's revision on the hub."""
    config: tyro.conf.OmitArgPrefixes[ValidateConfig] = field(default_factory=ValidateConfig)
    hardware: tyro.conf.OmitArgPrefixes[Hardware] = field(default_factory=Hardware)
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)

    interrupted: ClassVar[str] = "finished cases are kept, and the same command goes on there"

    def run(self) -> Answer:
        """Run the command."""
        check_writable(self.out)
        if self.model is None and (self.input_side or self.revision):
            raise InfoscopeError("--input-side and --revision belong to --model; give it, or leave them out")
        from infoscope.analyses.validation.validate import validate
        from infoscope.images.source import open_images

        images = open_images(self.images)
        backbone = None
        if self.model is not None:
            backbone = open_backbone(self.model, self.block, self.input_side, self.revision, self.hardware)
        found = validate(images, self.config, backbone=backbone, out=self.out)
        from infoscope.analyses.validation.validate import CASES_FILE, FEATURES_FILE, SUMMARY

        summary = found.summary()
        files = {"record": SUMMARY, "cases": CASES_FILE, "features": FEATURES_FILE}
        return Answer(
            lambda: _print(summary, self.out),
            lambda: summary,
            {"out": self.out} | {name: self.out / file for name, file in files.items()},
        )


def _print(summary: dict[str, Any], out: Path) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    heads = (
        "features",
        "dictionary",
        "seeds",
        "recovered",
        "AUC",
        "least",
        "classes right",
        "least",
        "diffuse as local",
        "unscored",
    )
    for number, head in enumerate((*heads, "position-bound CDS")):
        table.add_column(head, justify="left" if number < 2 else "right")
    for group in summary["groups"]:
        table.add_row(
            f"{group['world']}, {group['setting']}",
            group["dictionary"],
            str(group["seeds"]),
            _share(group["recovered"]),
            _number(group["auc_mean"]),
            _number(group["auc_least"]),
            _share(group["balanced_accuracy_mean"]),
            _share(group["balanced_accuracy_least"]),
            _share(group["diffuse_as_local"]),
            _share(group["unscored"]),
            f"{_number(group['position_cds'])} (line {group['line']:.3f})",
        )
    from infoscope.cli.output import console

    terminal = console(wide=140)
    terminal.print(table)
    for group in summary["groups"]:
        if group["dictionary"] == "planted" and group["confusion"] is not None:
            terminal.print(_confusion(group, summary["classes"]))
    if summary["curves"]:
        terminal.print(_curves(summary["curves"]))
    if (alone := summary["outlier_model"]) is not None and alone["dip_p"] is not None:
        rejected = "rejects one mode" if alone["dip_p"] < 0.05 else "does not reject one mode"
        p = "< 0.001" if alone["dip_p"] < 0.001 else f"= {alone['dip_p']:.2g}"
        print(f"local and global features alone: the dip test {rejected} (p {p})")
    print(f"tables: {out}")


def _confusion(group: dict[str, Any], classes: list[str]) -> Any:
    from rich.table import Table

    title = f"{group['world']}, {group['setting']}: planted kind by class found"
    table = Table(title=title, box=None, pad_edge=False, title_justify="left")
    table.add_column("")
    for name in classes:
        table.add_column(name, justify="right")
    for kind, row in zip(classes, group["confusion"], strict=False):
        table.add_row(kind, *map(str, row))
    return table


def _curves(points: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table(title="One thing varied, first seed", box=None, pad_edge=False, title_justify="left")
    for number, name in enumerate(("features", "varied", "to", "AUC", "classes right")):
        table.add_column(name, justify="left" if number < 2 else "right")
    for point in points:
        value = f"{point['value']:g}"
        figures = _number(point["auc"]), _share(point["balanced_accuracy"])
        table.add_row(point["setting"], point["axis"].replace("_", " "), value, *figures)
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
