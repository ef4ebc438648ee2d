"""Removed energy: the mean squared length of the vector that a removal takes out of a token (method, section 7)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch

from infoscope.analyses.removal.config import RemovalConfig
from infoscope.analyses.removal.groups import FeatureGroup
from infoscope.analyses.removal.ladder import Ladder, build_ladder
from infoscope.analyses.removal.removed import RemovedCodes
from infoscope.analyses.removal.sample import TokenSample
from infoscope.analyses.removal.statistics import CodeStatistics
from infoscope.analyses.removal.variants import Variant
from infoscope.dictionaries.parts import encode_parts
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.options import Replacement


def removed_codes(
    sae: SparseAutoencoder, statistics: CodeStatistics, sample: TokenSample, replacement: Replacement, seed: int = 0
) -> RemovedCodes:
    """What a removal takes out of a sample's tokens, feature by feature.

    Args:
        sae: the dictionary.
        statistics: mean codes, and the images that codes are taken from.
        sample: the tokens.
        replacement: what the codes become.
        seed: seed of the choice of other images, as in `EditedBackbone`.
    """
    scale = sample.scale(sae)
    start, feature, value = sample.start, sample.feature, sample.value.astype(np.float64)
    if replacement == "resampled":
        donor = statistics.donors_of(sample.image_id, seed)
        tokens = statistics.donors[torch.from_numpy(donor), torch.from_numpy(sample.position)]
        codes = encode_parts(sae, tokens.to(sae.W_enc.device))
        other = codes.start.cpu().numpy(), codes.feature.cpu().numpy(), codes.value.cpu().numpy().astype(np.float64)
        start, feature, value = _difference((start, feature, value), other, sae.features)
    mean = statistics.mean if replacement == "mean" else np.zeros(sae.features)
    value = value * np.repeat(scale, np.diff(start))
    return RemovedCodes(start, feature, value, sae.W_dec.detach().cpu().numpy(), scale, mean)


_Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


def _difference(own: _Rows, other: _Rows, features: int) -> _Rows:
    """Codes less others, where either is not 0."""
    from scipy.sparse import csr_matrix

    shape = len(own[0]) - 1, features
    first, second = (csr_matrix((value, feature, start), shape) for start, feature, value in (own, other))
    found = (first - second).tocsr()
    found.sort_indices()
    return found.indptr.astype(np.int64), found.indices.astype(np.int32), found.data


class Energies:
    """The removed energy of variants, on a sample of tokens.

    A variant is compared with the untouched model under ``keep-error``, and with the reconstruction under
    ``reconstruct``. What its group takes out beyond that is the same vector under both, and its energy is reported; the
    reconstruction's own is that of the SAE's error.

    Args:
        sae: the dictionary.
        statistics: mean codes, and the images that codes are taken from.
        sample: the tokens.
        seed: seed of the choice of other images, as in `EditedBackbone`.
    """

    def __init__(self, sae: SparseAutoencoder, statistics: CodeStatistics, sample: TokenSample, seed: int = 0):
        self._sae, self._statistics, self._sample, self._seed = sae, statistics, sample, seed
        self._codes: dict[Replacement, RemovedCodes] = {}
        self._known: dict[tuple[Replacement, bytes], float] = {}

    @classmethod
    def of_statistics(cls, sae: SparseAutoencoder, statistics: CodeStatistics | None, seed: int = 0) -> Energies | None:
        """Those on the sample of some statistics; None where none was drawn."""
        if statistics is None or statistics.sample is None:
            return None
        return cls(sae, statistics, statistics.sample, seed)

    def of(self, variant: Variant) -> float:
        """A variant's removed energy."""
        if variant.group is None:
            return self._error if variant.edited else 0.0
        # Variants at two sites, and the sets of a ladder, are asked for again.
        key = variant.replacement, variant.group.features.tobytes()
        if key not in self._known:
            self._known[key] = self.codes(variant.replacement).energy(variant.group.features)
        return self._known[key]

    def columns(self, variant: Variant) -> dict[str, float | None]:
        """A variant's entries in the columns ``energy`` and ``energy_share``."""
        energy = self.of(variant)
        return {"energy": energy, "energy_share": energy / self.mean_square if self.mean_square else None}

    def codes(self, replacement: Replacement) -> RemovedCodes:
        """What each feature's removal takes out."""
        if replacement not in self._codes:
            self._codes[replacement] = removed_codes(self._sae, self._statistics, self._sample, replacement, self._seed)
        return self._codes[replacement]

    def ladders(self, groups: Sequence[FeatureGroup], removal: RemovalConfig) -> list[Ladder]:
        """Each group's ladder, where a comparison on one is asked for."""
        if not removal.ladder:
            return []
        removed = self.codes(removal.replacement)
        return [
            build_ladder(removed, group, self.mean_square, seed=removal.random_seed, steps=removal.steps)
            for group in groups
        ]

    @cached_property
    def mean_square(self) -> float:
        """Mean squared distance of the sample's tokens from their mean."""
        return self._sample.mean_square

    @cached_property
    def _error(self) -> float:
        """Mean squared length of what the SAE does not explain."""
        sae, sample = self._sae, self._sample
        decoded = self.codes("zero").vectors(np.arange(sae.features))
        tokens = torch.from_numpy(sample.tokens).double()
        bias = sae.b_dec.detach().cpu().double().expand(tokens.shape)
        constant = bias if sae.token_norm is None else sae.token_norm.undo(bias, tokens)
        error = (tokens - constant).numpy() - decoded
        return float(np.einsum("tw,tw->", error, error)) / len(sample)
