"""Dictionaries that nobody trained, as canonical SAEs: channels, principal components, neurons, given directions.

Each is an affine map with ReLU, so ranking, maps, scores and files treat it like any SAE. A code is above 0 or it is
not there, hence a coordinate that runs both ways becomes two features: what a token holds much of, and what it holds
less of than most, are different events at different places, and one map cannot hold both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64

from infoscope.dictionaries.activations import ReLU
from infoscope.dictionaries.kinds import Kind
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError

# Of the largest: below it a component is rounding, where there are fewer tokens than channels.
_RANK = 1e-12


def channel_dictionary(
    mean: Float[np.ndarray, " width"], *, site: Mapping[str, Any] | None = None
) -> SparseAutoencoder:
    """The token's own coordinates around some mean, both signs.

    Feature j is ReLU(x_j - mean_j), feature width + j is ReLU(mean_j - x_j).

    Args:
        mean: what is subtracted: the mean token, so that a feature fires where a channel is unusual and not wherever it
            has its usual value; zeros for the channels as they are.
        site: where the tokens come from.

    Example:
        >>> channels = channel_dictionary(np.array([1.0, 0.0]))
        >>> channels.encode(torch.tensor([[3.0, -4.0]])).tolist(), channels(torch.tensor([[3.0, -4.0]])).tolist()
        ([[2.0, 0.0, 0.0, 4.0]], [[3.0, -4.0]])
    """
    return _both_signs(np.eye(len(mean)), mean.astype(np.float64), "channels", "channels", site)


def pca_dictionary(
    mean: Float64[np.ndarray, " width"],
    covariance: Float64[np.ndarray, "width width"],
    components: int | None = None,
    *,
    site: Mapping[str, Any] | None = None,
) -> SparseAutoencoder:
    """Principal components of tokens, both signs, the component of the largest variance first.

    Feature j is ReLU of the centred token's coordinate on component j, feature n + j of minus it. A component's own
    sign is arbitrary; here its entry of largest magnitude is positive, as in scikit-learn.

    Args:
        mean: the mean token.
        covariance: of the tokens.
        components: n, how many to keep; all that the tokens have by default.
        site: where the tokens come from.

    Raises:
        InfoscopeError: there are not as many components.

    Example:
        >>> pca = pca_dictionary(np.zeros(2), np.diag([1.0, 4.0]), components=1)
        >>> pca.W_dec.abs().tolist(), pca.encode(torch.tensor([[1.0, 3.0]])).tolist()
        ([[0.0, 1.0], [0.0, 1.0]], [[3.0, 0.0]])
    """
    from scipy.linalg import eigh

    variance, vectors = eigh(covariance)
    order = np.argsort(-variance, kind="stable")
    vectors = vectors[:, order].T
    rank = int((variance > _RANK * max(variance.max(), 0.0)).sum())
    if components is not None and not 1 <= components <= rank:
        raise InfoscopeError(
            f"--components {components} is out of range: these tokens have {rank}; choose 1 to that, or leave it out"
        )
    vectors = vectors[: components or rank]
    largest = np.abs(vectors).argmax(1)
    vectors = vectors * np.sign(vectors[np.arange(len(vectors)), largest])[:, None]
    return _both_signs(vectors, mean, "pca", f"pca, {len(vectors)} components", site)


def neuron_dictionary(neurons: int, *, gated: bool, site: Mapping[str, Any] | None = None) -> SparseAutoencoder:
    """The neurons of an MLP as they are, for a backbone that reads neurons.

    A neuron counts as active where it is above 0. GELU and SiLU also give values down to -0.17 and -0.28, which are no
    second event but the rim of not firing, and become 0. In a gated MLP a neuron is a product and runs both ways, so
    each sign is a feature of its own: feature j the positive part of neuron j, feature neurons + j the negative.

    Args:
        neurons: how many the MLP has.
        gated: whether it is gated (`Backbone.gated`).
        site: where the tokens come from.

    Example:
        >>> neuron_dictionary(2, gated=False).encode(torch.tensor([[-0.1, 2.0]])).tolist()
        [[0.0, 2.0]]
    """
    identity, zero = np.eye(neurons), np.zeros(neurons)
    if gated:
        return _both_signs(identity, zero, "neurons", "neurons", site)
    return _of(identity, zero, "neurons", "neurons", site)


def direction_dictionary(
    directions: Float[np.ndarray, "feature width"],
    mean: Float[np.ndarray, " width"],
    *,
    name: str = "directions",
    site: Mapping[str, Any] | None = None,
) -> SparseAutoencoder:
    """Given directions: feature j is ReLU of the token's distance from the mean along direction j, made of length 1.

    A direction has a sign, so each is one feature; give its negative too for both.

    Args:
        directions: one a row, in the space of the tokens.
        mean: what is subtracted first; zeros for nothing.
        name: how the user named them.
        site: where the tokens come from.

    Raises:
        InfoscopeError: a direction is 0, or not finite.

    Example:
        >>> given = direction_dictionary(np.array([[0.0, 2.0]]), np.zeros(2))
        >>> given.encode(torch.tensor([[5.0, 3.0], [5.0, -3.0]])).tolist()
        [[3.0], [0.0]]
    """
    vectors = directions.astype(np.float64)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    if bad := np.flatnonzero(~(np.isfinite(length) & (length > 0))[:, 0]).tolist():
        raise InfoscopeError(f"{name}: direction {bad[0]} is 0, NaN or infinite; leave it out")
    return _of(vectors / length, mean.astype(np.float64), "directions", name, site)


def _both_signs(vectors: np.ndarray, mean: np.ndarray, kind: Kind, name: str, site: Any) -> SparseAutoencoder:
    return _of(np.concatenate([vectors, -vectors]), mean, kind, name, site)


def _of(vectors: np.ndarray, mean: np.ndarray, kind: Kind, name: str, site: Any) -> SparseAutoencoder:
    """Codes ReLU(vectors (x - mean)), with the vectors for decoder."""
    decoder = torch.from_numpy(np.ascontiguousarray(vectors))
    bias = torch.from_numpy(-(vectors @ mean))
    return SparseAutoencoder(
        decoder.T, bias, decoder, torch.from_numpy(mean), ReLU(), name=name, format=kind, site=site
    )
