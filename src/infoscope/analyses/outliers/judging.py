"""From norms and masks to what is said of them: presence, places, stability."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float64

from infoscope.analyses.outliers.cutoffs import LONG, PRESENT_SHARE, BlockNorms
from infoscope.analyses.outliers.masks import OTHERS, MaskShifts
from infoscope.analyses.outliers.record import MaskDistance, Places, Presence, Stability


def judge_presence(blocks: list[BlockNorms], block: int) -> Presence:
    """Whether a model has outlier tokens, and whether the block in question has.

    Args:
        blocks: the norms of every block, in order.
        block: the one the analyses are about.

    Example:
        >>> from infoscope.analyses.outliers.cutoffs import describe_norms
        >>> print(judge_presence([describe_norms(np.linspace(1, 2, 20000, dtype=np.float32))], 0).sentence)
        No outlier tokens: at no block are 1 in 10,000 patch tokens longer than 3 times the median norm (the longest
        token, at block 0, has 1.3 times). What is above the cutoff is the tail of one distribution.
    """
    having = [number for number, found in enumerate(blocks) if found.present]
    here = blocks[block]
    farthest = max(range(len(blocks)), key=lambda number: blocks[number].reach)
    rule = f"1 in {round(1 / PRESENT_SHARE):,} patch tokens longer than {LONG:g} times the median norm"
    tail = "What is above the cutoff is the tail of one distribution."
    if here.present:
        sentence = (
            f"Outlier tokens at {_named(having)}: at block {block}, {here.long_share:.2%} of the patch tokens are "
            f"longer than {LONG:g} times the median norm, the longest {here.reach:.1f} times."
        )
    elif having:
        sentence = (
            f"Outlier tokens at {_named(having)}, but none at block {block}: there not {rule} "
            f"(the longest has {here.reach:.1f} times). {tail}"
        )
    else:
        sentence = (
            f"No outlier tokens: at no block are {rule} "
            f"(the longest token, at block {farthest}, has {blocks[farthest].reach:.1f} times). {tail}"
        )
    return Presence(
        kind="outlier" if here.present else "tail",
        blocks=having,
        long_share=here.long_share,
        reach=here.reach,
        farthest_block=farthest,
        farthest_reach=blocks[farthest].reach,
        sentence=sentence,
    )


def judge_places(outlier: Bool[np.ndarray, "image patch"], grid: int) -> Places:
    """Where on the grid the outlier tokens sit.

    Example:
        >>> outlier = np.zeros((2, 16), bool)
        >>> outlier[0, 0] = outlier[1, 0] = outlier[0, 1] = outlier[1, 5] = True
        >>> found = judge_places(outlier, grid=4)
        >>> found.patches, found.likeliest, found.corner_share, found.border_share, found.border_even
        (3, 0, 0.5, 0.75, 0.75)
    """
    count = outlier.sum(0)
    total = int(count.sum())
    square = count.reshape(grid, grid)
    corners = int(square[np.ix_([0, -1], [0, -1])].sum()) if grid > 1 else total
    border = total - int(square[1:-1, 1:-1].sum())
    cells = grid * grid
    likeliest = int(np.argmax(count))
    return Places(
        patches=int((count > 0).sum()),
        cells=cells,
        likeliest=likeliest if total else None,
        likeliest_share=int(count[likeliest]) / total if total else None,
        corner_share=corners / total if total else None,
        corner_even=min(4, cells) / cells,
        border_share=border / total if total else None,
        border_even=(cells - max(grid - 2, 0) ** 2) / cells,
    )


def judge_stability(shifts: MaskShifts) -> Stability:
    """The distances over images, with standard errors.

    Example:
        >>> from infoscope.analyses.outliers.masks import shift_masks
        >>> norms = np.ones((1, 2, 16), np.float32)
        >>> norms[0, 0, 5] = norms[0, 1, 2] = 9.0
        >>> found = judge_stability(shift_masks(norms, 3.0, grid=4, shift=1, image=np.array([0])))
        >>> found.pairs, found.size, [round(each.mean, 3) for each in found.masks][:1]
        (1, 1.0, [0.707])
    """
    valid = shifts.valid
    masks = []
    for name in ("outlier", *OTHERS):
        distance: Float64[np.ndarray, " image"] = getattr(shifts, name)
        used = valid & ~np.isnan(distance)
        mean, error = _mean(distance[used])
        below, below_error = (None, None) if name == "outlier" else _mean((shifts.outlier - distance)[used])
        masks.append(MaskDistance(name, int(used.sum()), mean, error, below, below_error))
    return Stability(
        images=len(valid),
        pairs=int(valid.sum()),
        vanished=None if math.isnan(shifts.vanished) else shifts.vanished,
        size=float(shifts.sizes[valid].mean()) if valid.any() else None,
        masks=masks,
    )


def _mean(values: Float64[np.ndarray, " value"]) -> tuple[float | None, float | None]:
    """Mean and its standard error."""
    if not len(values):
        return None, None
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    return float(values.mean()), error


def _named(blocks: list[int]) -> str:
    """Blocks in words: ``block 3``, ``blocks 5 to 7 and 9``.

    Example:
        >>> _named([3]), _named([5, 6, 7, 9]), _named([0, 1])
        ('block 3', 'blocks 5 to 7 and 9', 'blocks 0 to 1')
    """
    runs: list[list[int]] = []
    for block in blocks:
        if runs and block == runs[-1][-1] + 1:
            runs[-1].append(block)
        else:
            runs.append([block])
    words = [f"{run[0]} to {run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    return ("block " if len(blocks) == 1 else "blocks ") + " and ".join(
        [", ".join(words[:-1]), words[-1]] if len(words) > 1 else words
    )
