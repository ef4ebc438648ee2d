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

    Features of two families are planted in four settings: default, adversarial, noisy and mixtures. Prints how well CDS
    tells global features from local ones (AUC), how often the classes are right, and how both fall with noise, fewer
    images, larger shifts and SAEs that are off. An interrupted validation resumes with its next case.
    """

    images: str
    """The photographs: a folder (searched recursively), webdataset shards ('shards/*.tar'), a saved data set, parquet
    files (folder[:split]), or a data set of the hub, owner/name[:split]."""
    out: Path
    """The directory to write the tables to."""
    model: str | None = None
    """A real model to plant features into as well: a local directory in Hugging Face layout, or a hub id."""
    like: Path | None = None
    """A finished run: plant features of both families that are as noisy as its own, and print them beside it. Nothing
    else is measured then, with the run's number of photographs, k, shift and other options."""
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

        if self.like is not None and self.model is not None:
            raise InfoscopeError("--like plants models of its own: leave out --model, or --like")
        images = open_images(self.images)
        backbone = None
        if self.model is not None:
            backbone = open_backbone(self.model, self.block, self.input_side, self.revision, self.hardware)
        found = validate(images, self.config, backbone=backbone, like=self.like, out=self.out)
        from infoscope.analyses.validation.validate import CASES_FILE, FEATURES_FILE, LIKENESS_FILE, SUMMARY

        summary = found.summary()
        files = {"record": SUMMARY, "cases": CASES_FILE, "features": FEATURES_FILE}
        if found.likeness is not None:
            files["likeness"] = LIKENESS_FILE
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
            f"{group['world']}, {group['family']}, {group['setting']}",
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
            terminal.print(_confusion(group, summary["kinds"], summary["classes"]))
    if "likeness" in summary:
        terminal.print(_likeness(summary["likeness"]))
        for family, alike in summary["alike"].items():
            verdict = "falls within" if alike else "does not fall within"
            print(f"{family}: the planted reliability {verdict} 0.1 of the real one")
    if summary["curves"]:
        terminal.print(_curves(summary["curves"]))
    if (alone := summary["outlier_model"]) is not None and alone["dip_p"] is not None:
        rejected = "rejects one mode" if alone["dip_p"] < 0.05 else "does not reject one mode"
        p = "< 0.001" if alone["dip_p"] < 0.001 else f"= {alone['dip_p']:.2g}"
        print(f"local and global features alone: the dip test {rejected} (p {p})")
    print(f"tables: {out}")


def _confusion(group: dict[str, Any], kinds: list[str], classes: list[str]) -> Table:
    title = f"{group['world']}, {group['family']}, {group['setting']}: planted kind by class found"
    table = plain_table(title, ["", *classes])
    for kind, row in zip(kinds, group["confusion"], strict=True):
        if any(row):
            table.add_row(kind, *map(str, row))
    return table


def _likeness(rows: list[dict[str, Any]]) -> Table:
    """The real run beside the planted ones, a column for each family."""
    families = list(dict.fromkeys(row["family"] for row in rows))
    table = plain_table("Like the run: real beside planted", ["measure", "quantile", "real", *families], left=1)
    lines: dict[tuple[str, float | None], list[float | None]] = {}
    for row in rows:
        lines.setdefault((row["measure"], row["quantile"]), [row["real"]]).append(row["planted"])
    for (measure, quantile), figures in lines.items():
        if any(figure is not None for figure in figures):
            share = "" if quantile is None else f"{quantile:g}"
            table.add_row(measure.replace("_", " "), share, *map(_number, figures))
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
