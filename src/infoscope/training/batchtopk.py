"""The largest codes of a whole batch, k a token on average (Bussmann et al. 2024, arXiv 2412.06410)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32

from infoscope.dictionaries.sparse_kernel import entries_above
from infoscope.training.processes import Processes
from infoscope.training.sparse_step import Entries, PreActivations

# Our choice: codes below this share of the least one kept in the batch before are not looked at; where too few are
# above it, the batch is encoded again.
MARGIN = 0.8


class KeepBatchTopK:
    """Keeps the ``k * tokens`` largest positive codes of the batches of all processes together.

    Of equal codes those of lower processes, tokens and features are kept.

    Args:
        k: codes to keep, a token on average.
        processes: those that hold parts of the batch.

    Attributes:
        least: the smallest code kept of the last batch; 0 where all positive ones were.

    Example:
        >>> import torch
        >>> keep = KeepBatchTopK(1, Processes())
        >>> tokens = torch.tensor([[1.0, 2.0, 3.0], [0.5, 0.2, 0.0]])
        >>> start, feature, value = keep(PreActivations(tokens, torch.eye(3), torch.zeros(3)))
        >>> start.tolist(), feature.tolist(), value.tolist(), keep.least
        ([0, 2, 2], [1, 2], [2.0, 3.0], 2.0)
    """

    def __init__(self, k: int, processes: Processes):
        self.k = k
        self.least = 0.0
        self._processes = processes

    def __call__(self, pre: PreActivations) -> Entries:
        """This process's share of the codes that are kept."""
        start, feature, value = _candidates(pre, MARGIN * self.least)
        count = sum(self._processes.gather(len(start) - 1)) * self.k
        if self.least > 0 and sum(self._processes.gather(len(value))) < count:
            start, feature, value = _candidates(pre, 0.0)
        kept, self.least = self._largest(value, count)
        rows = np.concatenate([[0], np.cumsum(kept)])[start].astype(np.int64)
        return rows, feature[kept], value[kept]

    def _largest(self, value: Float32[np.ndarray, " entry"], count: int) -> tuple[Bool[np.ndarray, " entry"], float]:
        """Which of this process's codes are among the ``count`` largest of all, and the least of those; 0 of fewer."""
        everyone = self._processes.gather(value)
        together = np.concatenate(everyone)
        if len(together) < count:
            return np.ones(len(value), bool), 0.0
        least = np.partition(together, len(together) - count)[len(together) - count]
        room = count - int((together > least).sum())
        before = np.concatenate([together[:0], *everyone[: self._processes.rank]])
        room = max(room - int((before == least).sum()), 0)
        tied = value == least
        return (value > least) | (tied & (np.cumsum(tied) <= room)), float(least)


def _candidates(pre: PreActivations, bound: float) -> Entries:
    parts = [entries_above(chunk, bound) for chunk in pre.chunks()]
    start = np.concatenate([[0], np.cumsum(np.concatenate([count for count, _, _ in parts]))]).astype(np.int64)
    return start, np.concatenate([part[1] for part in parts]), np.concatenate([part[2] for part in parts])
