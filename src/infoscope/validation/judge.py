"""Scores and classes held against the truth: arrays in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int64

from infoscope.planted.config import KINDS
from infoscope.scope.classes import CLASSES

COLUMNS: tuple[str, ...] = (*KINDS, *(name for name in CLASSES if name not in KINDS))
"""The scope classes, the planted kinds first: what is right then lies on the diagonal."""


def scope_auc(kinds: Sequence[str], score: Float[np.ndarray, " feature"]) -> float:
    """Area under the ROC curve of a score for global against local features; NaN where one of them has no score.

    Features without a score are left out.

    Example:
        >>> scope_auc(["local", "global", "diffuse", "local"], np.array([0.1, 0.4, 0.9, np.nan]))
        1.0
    """
    from sklearn.metrics import roc_auc_score

    names = np.asarray(kinds)
    asked = np.isin(names, ["local", "global"]) & ~np.isnan(score)
    positive = names[asked] == "global"
    if positive.all() or not positive.any():
        return float("nan")
    return float(roc_auc_score(positive, score[asked]))


def confusion(kinds: Sequence[str], found: Sequence[str]) -> Int64[np.ndarray, "kind found"]:
    """How many features of each kind, in the order of `KINDS`, were given each class, in the order of `COLUMNS`.

    Example:
        >>> confusion(["local", "local"], ["local", "undefined"])[0].tolist()
        [1, 0, 0, 0, 1]
    """
    from sklearn.metrics import confusion_matrix

    matrix: Int64[np.ndarray, "kind found"] = confusion_matrix(list(kinds), list(found), labels=list(COLUMNS))
    return matrix[: len(KINDS)]


def balanced_accuracy(kinds: Sequence[str], found: Sequence[str]) -> float:
    """Mean over the kinds there are of the share that got its class; ``undefined`` is wrong.

    Example:
        >>> balanced_accuracy(["local", "local", "global"], ["local", "undefined", "global"])
        0.75
    """
    from sklearn.metrics import recall_score

    present = [kind for kind in KINDS if kind in kinds]
    return float(recall_score(list(kinds), list(found), labels=present, average="macro", zero_division=0))
