"""What a model with outlier tokens shows, from runs in which `infoscope outliers --labels folder` has run.

python benchmarks/phenomenon.py runs/block-8-one runs/block-8-four --beside outliers-without --chart docs/phenomenon.svg

Printed are, a run a column: whether the outlier tokens are there, where they go under the shift, what they carry, the
modes of CDS, what tells their features from the others, and the classes with their repeatability. The chart is of norms
by block, of the first run of each model and of the analyses without a run that are given beside.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import altair
import polars as pl
import tyro
from rich.console import Console
from rich.table import Table

from infoscope.measurement.controls import RunControls, controls_of
from infoscope.runtime.run import open_run


@dataclass(frozen=True)
class Benchmark:
    """Options of the table."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Finished runs with outliers/ in them."""
    beside: tuple[Path, ...] = ()
    """Folders of `infoscope outliers --out`, of models without a run."""
    names: tuple[str, ...] = ()
    """What the models of the chart are called, those beside last. Default: the models' own names."""
    chart: Path | None = None
    """Where to write the chart, as SVG."""


@dataclass(frozen=True)
class Found:
    """A run, or an analysis of outlier tokens alone, as read from disk."""

    title: str
    model: str
    record: dict[str, Any]
    blocks: pl.DataFrame
    controls: RunControls | None = None
    partition: dict[str, Any] | None = None

    @classmethod
    def read(cls, path: Path) -> Found:
        """What is in a run's directory, or in that of an analysis alone."""
        alone = (path / "outliers.json").is_file()
        folder = path if alone else path / "outliers"
        record = json.loads((folder / "outliers.json").read_text())
        blocks = pl.read_parquet(folder / "blocks.parquet")
        model = Path(record["model"]["name"]).name
        title = f"{model}, block {record['model']['block']}"
        if alone:
            return cls(title, model, record, blocks)
        run = open_run(path)
        return cls(title, model, record, blocks, controls_of(run), run.partition)


def presence(found: Found) -> dict[str, str]:
    """Whether the outlier tokens are there, and where they go."""
    record, kept = found.record, found.record["stability"]
    masks = {mask["mask"]: mask["mean"] for mask in kept["masks"]}
    return {
        "above 3 x the median": f"{record['presence']['long_share']:.2%}",
        "longest over median": f"{record['presence']['reach']:.1f}",
        "above the cutoff": f"{record['cutoff']['share']:.2%}",
        "views with one": f"{record['cutoff']['images'] / record['sample']:.1%}",
        "on the same pixels": f"{kept['on_pixels']:.0%} of {kept['tokens']:,}",
        "at the same place": f"{kept['at_place']:.0%}",
        "gone in one crop": f"{kept['vanished']:.0%}",
        "EMD of their masks": f"{masks['outlier']:.3f}, {masks['outlier'] / masks['random']:.0%} of chance",
    }


def carried(found: Found) -> dict[str, str]:
    """What tokens carry: an outlier token, and a normal one."""
    probes = found.record["probes"]
    rows = {}
    for name, key, form in (("position, R2", "r2", ".2f"), ("position, top-1", "top1", ".1%")):
        rows[name] = _both(probes["position_outlier"], probes["position_normal"], key, form)
    rows["pixels, R2"] = _both(probes["pixels_outlier"], probes["pixels_normal"], "r2", ".2f")
    rows["class, top-1"] = _both(probes["labels_outlier"], probes["labels_normal"], "top1", ".1%")
    rows["class from CLS"] = f"{probes['labels_special']['top1']:.1%}" if probes["labels_special"] else ""
    return rows


def _both(outlier: dict[str, Any] | None, normal: dict[str, Any] | None, key: str, form: str) -> str:
    return f"{outlier[key]:{form}} / {normal[key]:{form}}" if outlier and normal else ""


def spectrum(found: Found) -> dict[str, str]:
    """The modes of CDS, the features of outlier tokens, the classes."""
    if found.partition is None or found.controls is None:
        return {}
    dip, groups, controls = found.partition["dip"], found.record["groups"], found.controls
    rows = {"dip": f"{dip['statistic']:.4f}, p = {dip['p']:.2g}", "threshold": found.partition["kind"]}
    for group in groups["groups"]:
        if group["kind"] == "partition":
            rows[f"{group['name']} on outlier / normal"] = f"{group['outlier']:.1f} / {group['normal']:.1f}"
    own = groups["on_outliers"]
    if own is not None:
        rows["features of outlier tokens"] = f"{len(own['features'])}: " + _counts(own["classes"])
        for told in own["told"]:
            if told["auc"] is not None:
                said = f"{told['auc']:.2f} ({told['median']:.2f}, others {told['others_median']:.2f})"
                rows[f"AUC of {told['measure']}"] = said
    rows["all features"] = _counts(controls.classes)
    repeats = controls.repeatability
    if repeats is not None:
        positive = {name: share for name, share in repeats.positive.items() if share > 0}
        rows["halves agree"] = f"{repeats.agreement:.0%}, kappa {repeats.kappa:.2f}"
        rows["positive agreement"] = ", ".join(f"{name} {share:.2f}" for name, share in positive.items())
    return rows


def _counts(classes: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in classes.items() if count)


def show(title: str, founds: list[Found], rows_of: Callable[[Found], dict[str, str]]) -> None:
    """A table: a finding a row, a run a column."""
    table = Table("", *(found.title for found in founds), title=title)
    columns = [rows_of(found) for found in founds]
    for name in dict.fromkeys(name for column in columns for name in column):
        table.add_row(name, *(column.get(name, "") for column in columns))
    Console(width=200).print(table)


def draw(models: dict[str, Found]) -> altair.LayerChart:
    """The longest norm over the median one, by block."""
    rows = [
        {"block": row["block"], "ratio": row["longest"] / row["median"], "model": name}
        for name, found in models.items()
        for row in found.blocks.iter_rows(named=True)
    ]
    y = altair.Y("ratio:Q", title="longest / median norm (log scale)", scale=altair.Scale(type="log"))
    lines = (
        altair.Chart(pl.DataFrame(rows))
        .mark_line(point=True)
        .encode(
            x=altair.X("block:Q", title="block", axis=altair.Axis(format="d", tickMinStep=1, grid=False)),
            y=y,
            color=altair.Color(
                "model:N",
                title=None,
                sort=list(models),
                legend=altair.Legend(orient="bottom", columns=1, labelLimit=440),
            ),
        )
    )
    rule = altair.Chart(pl.DataFrame({"ratio": [3.0]})).mark_rule(strokeDash=[5, 3]).encode(y=y)
    chart: altair.LayerChart = (lines + rule).properties(width=460, height=300)
    return chart


def main(options: Benchmark) -> None:
    runs, beside = ([Found.read(path) for path in paths] for paths in (options.runs, options.beside))
    show("Presence", [*runs, *beside], presence)
    show("What tokens carry: outlier / normal", [*runs, *beside], carried)
    show("CDS", runs, spectrum)
    if options.chart is not None:
        # By their weights: two models may have one name.
        weights = {found.record["model"]["sha256"]: found for found in reversed([*runs, *beside])}
        ordered = list(reversed(weights.values()))
        names = options.names or tuple(found.model for found in ordered)
        if not len(ordered) == len(names) == len(set(names)):
            raise SystemExit(f"--names {' '.join(names)}: give each of the {len(ordered)} models a name of its own")
        draw(dict(zip(names, ordered, strict=True))).save(str(options.chart))


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
