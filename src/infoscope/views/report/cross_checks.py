"""What a shift curve and the cross-checks say of all features together, in plain sentences."""

from __future__ import annotations

import numpy as np
import polars as pl

from infoscope.runtime.run import Run
from infoscope.scope.reliability import spearman


def cross_check_rows(run: Run) -> list[tuple[str, str]]:
    """A name and a sentence for the curve and for each check; none where none was asked for."""
    curve, checks = run.shift_curve, run.cross_checks
    rows = [] if curve is None else [("shift curve", curve_sentence(curve))]
    if checks is not None:
        scores = run.scope.select("feature", pl.col("cds").alias("main"))
        for (name,), check in checks.group_by(["check"], maintain_order=True):
            rows.append((str(name), check_sentence(check.join(scores, on="feature", maintain_order="left"))))
    return rows


def curve_sentence(curve: pl.DataFrame) -> str:
    """Median distances in patches, over the features that are scored at every shift.

    Example:
        >>> rows = {"feature": [0, 0, 1, 1], "shift": [1, 2, 1, 2], "cds_patches": [0.5, 1.5, 2.0, None]}
        >>> curve_sentence(pl.DataFrame(rows))
        'median patches moved at shift 1: 0.50, 2: 1.50 (1 feature scored at every shift)'
    """
    shifts = curve["shift"].n_unique()
    whole = curve.drop_nulls("cds_patches").filter(pl.len().over("feature") == shifts)
    if whole.is_empty():
        return "no feature is scored at every shift"
    medians = whole.group_by("shift").agg(pl.col("cds_patches").median()).sort("shift")
    count = whole["feature"].n_unique()
    moved = ", ".join(f"{shift}: {median:.2f}" for shift, median in medians.iter_rows())
    return f"median patches moved at shift {moved} ({count:,} feature{'s' * (count != 1)} scored at every shift)"


def check_sentence(check: pl.DataFrame) -> str:
    """One check's median beside the score's, and whether the two order the features alike.

    Args:
        check: rows of one check, with the score of `scope.parquet` as ``main``.

    Example:
        >>> rows = {"main": [0.1, 0.2, 0.4, 0.3], "cds": [0.2, 0.3, 0.9, None], "difference": [-0.1, -0.1, -0.5, None]}
        >>> check_sentence(pl.DataFrame(rows))
        'median CDS 0.300 (score 0.200), difference -0.100, rank correlation 1.00 over 3 features'
    """
    both = check.drop_nulls(["main", "cds"])
    if both.is_empty():
        return "no feature has both scores"
    score, other = (np.median(both[name].to_numpy()) for name in ("main", "cds"))
    known = both["difference"].drop_nulls()
    difference = f", difference {np.median(known.to_numpy()):+.3f}" if len(known) else ""
    correlation = spearman(both["main"].to_numpy(), both["cds"].to_numpy())
    alike = "no rank correlation" if np.isnan(correlation) else f"rank correlation {correlation:.2f}"
    return f"median CDS {other:.3f} (score {score:.3f}){difference}, {alike} over {both.height:,} features"
