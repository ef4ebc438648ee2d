"""Words that several layers share: what options choose from, and classes. Importing this loads nothing else."""

from __future__ import annotations

from typing import Literal, get_args

Resize = Literal["stretch", "crop"]
"""How an image becomes square: ignoring its aspect ratio, or by its centre."""

TokenSet = Literal["patch", "all", "cls"]
"""Which of an image's tokens: its patches; all, CLS and registers among them; or CLS alone."""

Reads = Literal["output", "neurons"]
"""What of a block is read: its output, the residual stream after it; or its MLP's neurons, after the nonlinearity."""

Precision = Literal["float32", "tf32", "bf16", "fp16"]
"""In which numbers a model runs."""

Reduction = Literal["max", "mean", "sum"]
"""How a feature's codes over an image's patch tokens become one number."""

EmptyPairs = Literal["leave-out", "one"]
"""What a pair with exactly one empty map counts as: nothing, or distance one."""

Metric = Literal["euclidean", "l1"]
"""Distance between patch centres."""

Match = Literal["size", "mass"]
"""Random groups of as many active features, or of as much activation mass."""

Side = Literal["subset", "disjoint"]
"""Which sets of a ladder: subsets of the group, or sets disjoint from it."""

RemovalMethod = Literal["keep-error", "reconstruct"]
"""What is written back: the token less the group's contribution, or the codes that are left, decoded."""

Replacement = Literal["zero", "mean", "resampled"]
"""What the group's codes become: 0, their mean over a sample of images, or those of another image's token there."""

ReadFrom = Literal["rerun", "site"]
"""What is read: the rest of the network, run on from the edited tokens, or the block's own edited tokens."""

Pooled = Literal["own", "cls", "mean-patch"]
"""Which vector stands for an image: the model's own pooled output (CLIP's projected), its CLS token, or its mean patch
token, the latter two after the norm that follows the last block."""

Probability = Literal["softmax", "sigmoid"]
"""Of one class among all, or of each class by itself, as SigLIP was trained."""

Cutoff = Literal["std", "value", "percentile", "valley"]
"""Above which norm a token is an outlier."""

FolderLabels = Literal["folder"]
"""An image's label is the name of its folder."""

ReportedModel = Literal["clip-b16", "clip-l14"]
"""The models whose probe scores the paper reports."""

FigureKind = Literal["histogram", "scatter", "gallery", "shift", "removal"]
"""Which figure."""

PartitionMethod = Literal["valley", "otsu", "mixture", "quantile", "value"]
"""How the threshold of a partition is found."""

ThresholdKind = Literal["valley", "convention"]
"""Whether a partition's threshold lies in a valley of the density, or is a convention."""

Rules = Literal["posterior", "thresholds"]
"""What a feature's class follows from: the posterior of each class in the light of all features of the run, or the
thresholds of earlier versions, the first of which holds."""

RULE_VERSIONS: dict[Rules, int] = {"thresholds": 1, "posterior": 4}
"""Which version of the rules each option stands for; a run's manifest has the version. Versions 2 and 3, earlier
forms of the posterior, are no longer given."""


def rules_of(version: int) -> str:
    """The name of the rules of a version; of those that no option stands for, the version.

    Example:
        >>> rules_of(1), rules_of(9)
        ('thresholds', 'version 9')
    """
    return {number: name for name, number in RULE_VERSIONS.items()}.get(version, f"version {version}")


ScopeClass = Literal["local", "diffuse", "position-bound", "global", "mixed", "unsettled", "undefined"]
"""What a feature may be called; `infoscope.scope` says when."""

CLASSES: tuple[ScopeClass, ...] = get_args(ScopeClass)
"""The classes in the order in which they are shown."""
