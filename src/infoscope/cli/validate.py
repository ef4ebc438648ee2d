"""``infoscope validate``."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import tyro

from infoscope.analyses.validation.config import ValidateConfig
from infoscope.cli.inputs import Hardware, check_writable, open_backbone
from infoscope.cli.output import Answer, Output, cell, console, plain_table
from infoscope.errors import InfoscopeError

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Validate:
    """Check the measurement against planted truth: models whose features are known, built over your photographs.

    Features are planted in two settings, default and adversarial. Prints how well CDS tells global features from local
    ones (AUC), how often the classes are right, and how both fall with noise, fewer images, larger shifts and SAEs that
    are off. An interrupted validation resumes with its next case.
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

    interrupted: ClassVar[str] = "finished cases are kept; the same command resumes after them"

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
    heads = [
        *("features", "dictionary", "seeds", "recovered", "AUC", "least", "classes right", "least", "diffuse as local"),
        *("unscored", "position-bound CDS"),
    ]
    table = plain_table(None, heads, left=2)
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


def _confusion(group: dict[str, Any], classes: list[str]) -> Table:
    table = plain_table(f"{group['world']}, {group['setting']}: planted kind by class found", ["", *classes])
    for kind, row in zip(classes, group["confusion"], strict=False):
        table.add_row(kind, *map(str, row))
    return table


def _curves(points: list[dict[str, Any]]) -> Table:
    table = plain_table("One thing varied, first seed", ("features", "varied", "to", "AUC", "classes right"), left=2)
    for point in points:
        value = f"{point['value']:g}"
        figures = _number(point["auc"]), _share(point["balanced_accuracy"])
        table.add_row(point["setting"], point["axis"].replace("_", " "), value, *figures)
    return table


_number = partial(cell, missing="-")
_share = partial(cell, form=".1%", missing="-")
