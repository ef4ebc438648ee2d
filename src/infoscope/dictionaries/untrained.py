"""Dictionaries that are not SAEs: channels, principal components, neurons, and directions from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float64

from infoscope.dictionaries.activations import ReLU
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError, few
from infoscope.runtime.arrays import read_npy, read_safetensors

Kind = Literal["channels", "pca", "neurons", "directions"]


@dataclass(frozen=True)
class KindOfDictionary:
    """What to know about a kind of dictionary.

    Attributes:
        reconstructs: whether its decoder is meant to reconstruct the token, so that an FVU means something.
        note: what the FVU means or why there is none, in a sentence.
    """

    reconstructs: bool
    note: str


KINDS: dict[str, KindOfDictionary] = {
    "channels": KindOfDictionary(
        True, "Channels are no SAE: both signs of all of them are the token itself, so the FVU is 0 by construction."
    ),
    "pca": KindOfDictionary(
        True, "Principal components are no SAE: the FVU is the share of variance outside the components kept."
    ),
    "neurons": KindOfDictionary(
        False, "Neurons are no SAE: they are read as they are and reconstruct nothing, so there is no fit to check."
    ),
    "directions": KindOfDictionary(
        False, "Given directions are no SAE: they are not meant to reconstruct the token, so there is no fit to check."
    ),
}


def reconstructs(dictionary: str) -> bool:
    """Whether a dictionary's decoder is meant to reconstruct the token; an SAE's always is.

    Args:
        dictionary: the name of its format, or its kind.

    Example:
        >>> reconstructs("pca"), reconstructs("neurons"), reconstructs("saelens")
        (True, False, True)
    """
    kind = KINDS.get(dictionary)
    return kind is None or kind.reconstructs


def split_kind(text: str) -> tuple[str, str | None]:
    """The kind and the path after its colon, as ``--dictionary`` gives them.

    Raises:
        InfoscopeError: there is no such kind, it has a path but takes none, or it lacks the path it needs.

    Example:
        >>> split_kind("pca"), split_kind("directions:words.npy")
        (('pca', None), ('directions', 'words.npy'))
        >>> split_kind("directions")
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: --dictionary directions needs a file: directions:PATH, an .npy or .safetensors
        of [n, width]
    """
    kind, _, path = text.partition(":")
    if kind not in KINDS:
        raise InfoscopeError(
            f"--dictionary {text!r} is not known: choose channels, pca, neurons or directions:PATH; "
            "an SAE is named by --sae"
        )
    if kind == "directions" and not path:
        raise InfoscopeError(
            "--dictionary directions needs a file: directions:PATH, an .npy or .safetensors of [n, width]"
        )
    if kind != "directions" and ":" in text:
        raise InfoscopeError(f"--dictionary {kind} takes no file; leave out {':' + path!r}")
    return kind, path or None


TENSOR, MEAN = "directions", "mean"


def read_directions(path: Path | str) -> tuple[Float[np.ndarray, "feature width"], Float[np.ndarray, " width"] | None]:
    """Directions from an ``.npy`` file, or from a ``.safetensors`` file that may hold a mean too.

    Args:
        path: an array ``[n, width]``; or a safetensors file with a tensor ``directions``, or with only one tensor of
            two axes, and perhaps a ``mean``, ``[width]``. Beside ``directions``, other tensors of two axes are taken
            for other directions and ignored; any further tensor, such as a bias, is refused.

    Returns:
        The directions, and the mean to subtract from tokens first, where the file holds one.

    Raises:
        InfoscopeError: there is no such file, it holds something else, or it is neither kind of file.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "words.npy"
        >>> np.save(path, np.ones((3, 8), np.float32))
        >>> directions, mean = read_directions(path)
        >>> directions.shape, mean
        ((3, 8), None)
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InfoscopeError(f"no such file of directions: {path}; give an .npy or .safetensors of [n, width]")
    mean = None
    if path.suffix == ".npy":
        directions = read_npy(path, "is not a readable .npy file", "write it again")
    elif path.suffix == ".safetensors":
        directions, mean = _read_safetensors(path)
    else:
        raise InfoscopeError(f"{path} is neither .npy nor .safetensors; save the directions as one of the two")
    if directions.ndim != 2 or 0 in directions.shape or directions.dtype.kind != "f":
        raise InfoscopeError(
            f"{path} holds {list(directions.shape)} of {directions.dtype}; directions are [n, width] of floating point"
        )
    if mean is not None and (mean.shape != directions.shape[1:] or not np.isfinite(mean).all()):
        raise InfoscopeError(f"{path}: mean has shape {list(mean.shape)}, or NaN in it; it belongs to [width]")
    return directions.astype(np.float32), mean


def _read_safetensors(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    tensors = read_safetensors(path, "write it again")
    candidates = [TENSOR] if TENSOR in tensors else [key for key, value in tensors.items() if value.ndim == 2]
    if len(candidates) != 1:
        raise InfoscopeError(f"{path} holds {few(sorted(tensors)) or 'nothing'}: call the directions {TENSOR!r}")
    if spare := sorted(key for key, value in tensors.items() if value.ndim != 2 and key not in (*candidates, MEAN)):
        raise InfoscopeError(
            f"{path} holds {few(spare)}, which directions do not use, so what it does to codes is not known; leave it "
            f"out, or call what is to be subtracted {MEAN!r}"
        )
    for key in {candidates[0], MEAN} & tensors.keys():
        if tensors[key].dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            raise InfoscopeError(
                f"{path}: {key} holds {tensors[key].dtype}; directions are [n, width] of floating point"
            )
    mean = tensors.get(MEAN)
    # torch converts to float32, because numpy has no bfloat16.
    return tensors[candidates[0]].float().numpy(), None if mean is None else mean.float().numpy()


# Share of the largest variance below which a component is only rounding, as where there are fewer tokens than channels.
_RANK = 1e-12


def channel_dictionary(
    mean: Float[np.ndarray, " width"], *, site: Mapping[str, Any] | None = None
) -> SparseAutoencoder:
    """The token's own coordinates around a mean, with a feature for each sign.

    Feature j is ReLU(x_j - mean_j), feature width + j is ReLU(mean_j - x_j).

    Args:
        mean: what is subtracted: the mean token, so that a feature fires where a channel is unusual and not wherever it
            has its usual value; zeros leave the channels as they are.
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
    """Principal components of tokens, in order of falling variance, with a feature for each sign.

    Feature j is ReLU of the centred token's coordinate on component j, and feature n + j is ReLU of its negative. A
    component's own sign is arbitrary; here its entry of largest magnitude is positive, as in scikit-learn.

    Args:
        mean: the mean token.
        covariance: the tokens' covariance.
        components: n, how many to keep; by default all that the tokens have.
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
    # eigh gives rising variances, with each vector a column.
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

    A neuron counts as active where it is above 0. GELU and SiLU also give values down to -0.17 and -0.28; these are not
    an event of their own but the edge of not firing, and become 0. In a gated MLP a neuron is a product and takes
    either sign, so each sign is a feature of its own: feature j is the positive part of neuron j, feature neurons + j
    the negative part.

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
    """Given directions: feature j is ReLU of the token's distance from the mean along direction j, scaled to length 1.

    A direction has a sign, so each is one feature; to have both signs, give its negative too.

    Args:
        directions: one per row, in the space of the tokens.
        mean: what is subtracted first; zeros subtract nothing.
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
    if unusable := np.flatnonzero(~(np.isfinite(length) & (length > 0))[:, 0]).tolist():
        raise InfoscopeError(f"{name}: direction {unusable[0]} is 0, NaN or infinite; leave it out")
    return _of(vectors / length, mean.astype(np.float64), "directions", name, site)


def _both_signs(vectors: np.ndarray, mean: np.ndarray, kind: Kind, name: str, site: Any) -> SparseAutoencoder:
    return _of(np.concatenate([vectors, -vectors]), mean, kind, name, site)


def _of(vectors: np.ndarray, mean: np.ndarray, kind: Kind, name: str, site: Any) -> SparseAutoencoder:
    """Codes ReLU(vectors (x - mean)), with the vectors as decoder."""
    decoder = torch.from_numpy(np.ascontiguousarray(vectors))
    bias = torch.from_numpy(-(vectors @ mean))
    return SparseAutoencoder(
        decoder.T, bias, decoder, torch.from_numpy(mean), ReLU(), name=name, format=kind, site=site
    )
