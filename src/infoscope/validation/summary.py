"""A validation in a few lines: the main cases over their seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from infoscope.validation.judge import COLUMNS

_LEAST = ("auc", "auc_calibrated", "balanced_accuracy")
_MEAN = ("recovered", "unscored", "diffuse_as_local", "position_cds")


def summarise(cases: pl.DataFrame) -> dict[str, Any]:
    """Least and mean figures over seeds, by world, setting and dictionary.

    Args:
        cases: rows of `infoscope.validation.table.CASES`.

    Returns:
        ``groups``: one entry for each of them, with the number of seeds, the least and the mean over seeds of each
        figure (None where no case has it), and the confusion summed over seeds; ``classes``: its columns;
        ``outlier_model``: the dip test's p and the AUC on local and global features alone.
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
    return {"groups": groups, "classes": list(COLUMNS), "outlier_model": model}
