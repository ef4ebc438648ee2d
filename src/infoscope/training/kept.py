"""TopK and BatchTopK, with or without nested prefixes: codes are kept or not, and no penalty is needed."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from infoscope.dictionaries.activations import Activation, JumpReLU, TopK
from infoscope.dictionaries.sparse_kernel import entries_above
from infoscope.training.autoencoder import Output, TrainingAutoencoder, reconstruction_loss
from infoscope.training.processes import Processes
from infoscope.training.sparse_step import Entries, PreActivations, Select, keep_topk, sparse_reconstruction

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


# Share of what it was that the running mean of the least code kept holds on to at each step. Measured: with 0.99 the
# threshold lags behind the weights of a run of 250 steps, and half as many codes are left as in training.
MEMORY = 0.9


class KeptCodes(TrainingAutoencoder):
    """What the two share: on a CPU only codes that are kept are touched (`sparse_step`), elsewhere all.

    With prefixes the loss is the mean over nested dictionaries, each the first so many features, of what it leaves
    unexplained (Matryoshka; Bussmann et al. 2025, arXiv 2503.17547, section 3).

    Args:
        k: codes to keep, a token.
        prefixes: sizes of the nested dictionaries, ascending; the last is all features.
    """

    revives: ClassVar[bool] = True

    def __init__(self, *start: Any, k: int, prefixes: tuple[int, ...]):
        super().__init__(*start)
        self.k = k
        self._edges = (0, *prefixes)
        self._group = np.repeat(np.arange(len(prefixes), dtype=np.int16), np.diff(self._edges))

    def forward(self, tokens: Float[Tensor, "token width"], rise: float) -> Output:
        """See `TrainingAutoencoder`; there is no penalty to rise."""
        sparse = tokens.device.type == "cpu"
        total, active = (self._sparse if sparse else self._dense)(tokens)
        reconstructions = total + self.decoder_bias
        losses = [reconstruction_loss(tokens, reconstruction) for reconstruction in reconstructions]
        return Output(reconstructions[-1], active, torch.stack(losses).mean())

    @abstractmethod
    def select(self) -> Select:
        """Which codes are kept, on a CPU."""

    @abstractmethod
    def codes(self, pre: Float[Tensor, "token feature"]) -> Float[Tensor, "token feature"]:
        """Dense codes, elsewhere."""

    def _sparse(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        total, kept = sparse_reconstruction(
            tokens, self.encoder, self.encoder_bias, self.decoder, self.select(), self._group
        )
        self.learn_from(kept)
        return total, torch.bincount(torch.from_numpy(kept[1]), minlength=len(self.encoder))

    def learn_from(self, kept: Entries) -> None:
        """Take note of what was kept."""

    def _dense(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        codes = self.codes(self.pre_activations(tokens))
        parts = [
            codes[:, first:last] @ self.decoder[first:last]
            for first, last in zip(self._edges, self._edges[1:], strict=False)
        ]
        return torch.stack(parts).cumsum(0), (codes > 0).sum(0)


class TopKAutoencoder(KeptCodes):
    """The k largest codes of each token (Gao et al. 2024, arXiv 2406.04093)."""

    def select(self) -> Select:
        """See `KeptCodes`."""
        return keep_topk(self.k)

    def codes(self, pre: Float[Tensor, "token feature"]) -> Float[Tensor, "token feature"]:
        """See `KeptCodes`."""
        return TopK(self.k)(pre)

    def activation(self) -> Activation:
        """See `TrainingAutoencoder`."""
        return TopK(self.k)


class BatchTopKAutoencoder(KeptCodes):
    """The largest codes of a batch, k a token on average; the SAE that is saved has a threshold instead.

    The threshold is the mean over the last batches of the least code that was kept (Bussmann et al. 2024,
    arXiv 2412.06410, section 3): tokens are then encoded each by itself.
    """

    threshold: Tensor

    def __init__(self, *start: Any, k: int, prefixes: tuple[int, ...]):
        super().__init__(*start, k=k, prefixes=prefixes)
        self.register_buffer("threshold", torch.zeros((), dtype=torch.float64))
        self._keep = KeepBatchTopK(k, self.processes)

    def select(self) -> Select:
        """See `KeptCodes`."""
        self._keep.least = float(self.threshold)
        return self._keep

    def learn_from(self, kept: Entries) -> None:
        """Move the threshold."""
        self._move(self._keep.least)

    def codes(self, pre: Float[Tensor, "token feature"]) -> Float[Tensor, "token feature"]:
        """See `KeptCodes`."""
        positive = torch.relu(pre)
        count = min(self.k * sum(self.processes.gather(len(pre))), positive.numel() * self.processes.count)
        largest = positive.detach().flatten().topk(min(count, positive.numel())).values
        largest = torch.cat([some.to(pre.device) for some in self.processes.gather(largest)])
        least = largest.topk(count).values[-1]
        self._move(float(least))
        return torch.where(positive >= least, positive, 0.0)

    def activation(self) -> Activation:
        """See `TrainingAutoencoder`."""
        return JumpReLU(torch.full((len(self.encoder),), float(self.threshold)))

    def _move(self, least: float) -> None:
        # Until there is a past, this batch is all there is.
        share = MEMORY if float(self.threshold) > 0 else 0.0
        self.threshold.mul_(share).add_((1 - share) * least)
