"""TopK and BatchTopK in training, Matryoshka or not: the largest codes are kept, so that no penalty is needed."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from infoscope.dictionaries.activations import Activation, JumpReLU, TopK
from infoscope.dictionaries.codes_kernel import entries_above
from infoscope.dictionaries.sparse import join_entries
from infoscope.training.autoencoder import Output, TrainingAutoencoder, reconstruction_loss
from infoscope.training.processes import Processes
from infoscope.training.sparse_step import Entries, PreActivations, Select, keep_topk, sparse_reconstruction

# Our choice: codes below this share of the least code kept from the batch before are ignored at first; where too few
# are above it, the batch is encoded again.
MARGIN = 0.8


class KeepBatchTopK:
    """Keeps the ``k * tokens`` largest positive codes of the batches of all processes together.

    Of equal codes, those of lower processes, tokens and features are kept.

    Args:
        k: codes to keep per token, on average.
        processes: those that hold parts of the batch.

    Attributes:
        least: the smallest code kept from the last batch; 0 where all positive ones were.

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
        start, feature, value = _codes_above(pre, MARGIN * self.least)
        count = sum(self._processes.gather(len(start) - 1)) * self.k
        if self.least > 0 and sum(self._processes.gather(len(value))) < count:
            start, feature, value = _codes_above(pre, 0.0)
        is_kept, self.least = self._largest(value, count)
        kept_before = np.concatenate([[0], np.cumsum(is_kept)])
        return kept_before[start].astype(np.int64), feature[is_kept], value[is_kept]

    def _largest(self, value: Float32[np.ndarray, " entry"], count: int) -> tuple[Bool[np.ndarray, " entry"], float]:
        """Which of this process's codes are among the ``count`` largest of all, and the least of those; 0 of fewer."""
        by_process = self._processes.gather(value)
        together = np.concatenate(by_process)
        if len(together) < count:
            return np.ones(len(value), bool), 0.0
        least = np.partition(together, len(together) - count)[len(together) - count]
        # Codes equal to the least one share what room the larger ones leave, in the order of the processes.
        room = count - int((together > least).sum())
        before = np.concatenate([together[:0], *by_process[: self._processes.rank]])
        room = max(room - int((before == least).sum()), 0)
        tied = value == least
        return (value > least) | (tied & (np.cumsum(tied) <= room)), float(least)


def _codes_above(pre: PreActivations, bound: float) -> Entries:
    return join_entries(entries_above(chunk, bound) for chunk in pre.chunks())


# How much of its former value the running mean of the least code kept retains at each step. Measured: with 0.99 the
# threshold lags behind the weights of a run of 250 steps, and half as many codes are left as in training.
MEMORY = 0.9


class LargestCodes(TrainingAutoencoder):
    """What the two share: a CPU touches only the codes that are kept (`sparse_step`), a GPU all of them.

    With prefixes, the loss is the mean over the prefixes of what each leaves unexplained (Matryoshka; Bussmann et al.
    2025, arXiv 2503.17547, section 3).
    """

    revives: ClassVar[bool] = True

    def __init__(self, *start: Any):
        super().__init__(*start)
        sizes = self.config.nested_sizes
        self._edges = (0, *sizes)
        # The smallest prefix that holds each feature.
        self._prefix = np.repeat(np.arange(len(sizes), dtype=np.int16), np.diff(self._edges))

    def forward(self, tokens: Float[Tensor, "token width"], rise: float) -> Output:
        """See `TrainingAutoencoder`; there is no penalty to rise."""
        total, active = (self._sparse if tokens.device.type == "cpu" else self._dense)(tokens)
        reconstructions = total + self.decoder_bias
        losses = [reconstruction_loss(tokens, reconstruction) for reconstruction in reconstructions]
        return Output(reconstructions[-1], active, torch.stack(losses).mean())

    @abstractmethod
    def select(self) -> Select:
        """Which codes are kept, on a CPU."""

    @abstractmethod
    def codes(self, pre: Float[Tensor, "token feature"]) -> Float[Tensor, "token feature"]:
        """Dense codes, on a GPU."""

    def learn_from(self, kept: Entries) -> None:
        """Use what was kept from a batch, on a CPU."""

    def _sparse(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        weights = self.encoder, self.encoder_bias, self.decoder
        total, kept = sparse_reconstruction(tokens, *weights, self.select(), self._prefix)
        self.learn_from(kept)
        return total, torch.bincount(torch.from_numpy(kept[1]), minlength=len(self.encoder))

    def _dense(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        codes = self.codes(self.pre_activations(tokens))
        added = [
            codes[:, first:last] @ self.decoder[first:last]
            for first, last in zip(self._edges, self._edges[1:], strict=False)
        ]
        return torch.stack(added).cumsum(0), (codes > 0).sum(0)


class TopKAutoencoder(LargestCodes):
    """The k largest codes of each token (Gao et al. 2024, arXiv 2406.04093)."""

    def select(self) -> Select:
        """See `LargestCodes`."""
        return keep_topk(self.config.k)

    def codes(self, pre: Float[Tensor, "token feature"]) -> Float[Tensor, "token feature"]:
        """See `LargestCodes`."""
        return TopK(self.config.k)(pre)

    def activation(self) -> Activation:
        """See `TrainingAutoencoder`."""
        return TopK(self.config.k)


class BatchTopKAutoencoder(LargestCodes):
    """The largest codes of a batch, on average k per token; the saved SAE has a threshold instead.

    The threshold is the mean over the last batches of the least code that was kept (Bussmann et al. 2024,
    arXiv 2412.06410, section 3): it lets each token be encoded without the others.
    """

    threshold: Tensor

    def __init__(self, *start: Any):
        super().__init__(*start)
        self.register_buffer("threshold", torch.zeros((), dtype=torch.float64))
        self._keep = KeepBatchTopK(self.config.k, self.processes)

    def select(self) -> Select:
        """See `LargestCodes`."""
        self._keep.least = float(self.threshold)
        return self._keep

    def learn_from(self, kept: Entries) -> None:
        """Move the threshold."""
        self._move(self._keep.least)

    def codes(self, pre: Float[Tensor, "token feature"]) -> Float[Tensor, "token feature"]:
        """See `LargestCodes`."""
        positive = torch.relu(pre)
        count = min(self.config.k * sum(self.processes.gather(len(pre))), positive.numel() * self.processes.count)
        largest = positive.detach().flatten().topk(min(count, positive.numel())).values
        of_all = torch.cat([values.to(pre.device) for values in self.processes.gather(largest)])
        least = of_all.topk(count).values[-1]
        self._move(float(least))
        return torch.where(positive >= least, positive, 0.0)

    def activation(self) -> Activation:
        """See `TrainingAutoencoder`."""
        return JumpReLU(torch.full((len(self.encoder),), float(self.threshold)))

    def _move(self, least: float) -> None:
        # The first batch has no past to average with.
        memory = MEMORY if float(self.threshold) > 0 else 0.0
        self.threshold.mul_(memory).add_((1 - memory) * least)
