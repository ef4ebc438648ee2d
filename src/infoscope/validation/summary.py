"""A validation in a few lines: the main cases over their seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from infoscope.validation.judge import COLUMNS

_LEAST = ("auc", "auc_calibrated", "balanced_accuracy")
_POINT = ("auc", "balanced_accuracy", "unscored")
_MEAN = ("recovered", "unscored", "diffuse_as_local", "position_cds")


def summarise(cases: pl.DataFrame) -> dict[str, Any]:
    """Least and mean figures over seeds, by world, setting and dictionary.

    Args:
        cases: rows of `infoscope.validation.table.CASES`.

    Returns:
        ``groups``: one entry for each of them, with the number of seeds, the least and the mean over seeds of each
        figure (None where no case has it), and the confusion summed over seeds; ``classes``: its columns;
        ``outlier_model``: the dip test's p and the AUC on local and global features alone; ``curves``: by setting, axis
        and value what becomes of AUC and classes, each with the main case of the same seed as its point of comparison.
    """
    main = cases.filter((pl.col("axis") == "main") & ~pl.col("outlier_model"))
    groups = []
    for key, group in main.group_by(["world", "setting", "dictionary"], maintain_order=True):
        entry: dict[str, Any] = dict(zip(("world", "setting", "dictionary"), key, strict=True)) | {
            "seeds": group.height
        }
        for name in _LEAST:
            entry |= {f"{name}_least": group[name].min(), f"{name}_mean": group[name].mean()}
        entry |= {name: group[name].mean() for name in _MEAN}
        known = group["confusion"].drop_nulls().to_list()
        entry["line"] = group["line"][0]
        entry["confusion"] = np.sum(known, axis=0).tolist() if known else None
        entry["seconds"] = group["seconds"].sum()
        groups.append(entry)
    alone = cases.filter(pl.col("outlier_model"))
    model = alone.select("auc", "dip_p").row(0, named=True) if alone.height else None
    return {"groups": groups, "classes": list(COLUMNS), "outlier_model": model, "curves": _curves(cases)}


def _curves(cases: pl.DataFrame) -> list[dict[str, Any]]:
    varied = cases.filter(pl.col("axis") != "main")
    points = []
    for (setting, axis), group in varied.group_by(["setting", "axis"], maintain_order=True):
        same = (pl.col("setting") == setting) & (pl.col("seed") == group["seed"][0]) & (pl.col("world") == "planted")
        main = cases.filter(same & (pl.col("axis") == "main") & (pl.col("dictionary") == "planted"))
        rows = pl.concat([main.filter(~pl.col("outlier_model")), group])
        points += [
            {"setting": setting, "axis": axis, "value": float(row[str(axis)])} | {name: row[name] for name in _POINT}
            for row in rows.sort(str(axis)).iter_rows(named=True)
        ]
    return points
