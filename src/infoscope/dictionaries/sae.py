"""The canonical sparse autoencoder that every format is read into, and what is folded into its weights."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from safetensors.torch import save
from torch import Tensor, nn

from infoscope.dictionaries.activations import Activation, activation_tensors, map_tensors
from infoscope.errors import InfoscopeError, shown

NormKind = Literal["layer_norm", "unit_norm"]
KINDS: tuple[NormKind, ...] = get_args(NormKind)


@dataclass(frozen=True)
class TokenNorm:
    """z = (x - shift) / scale, where each token has its own shift and scale, so that no weight can hold them.

    Attributes:
        kind: ``layer_norm``: shift by the token's mean, scale by its unbiased standard deviation plus ``eps``; undoing
            it leaves ``eps`` out, as SAELens and ViT-Prisma do. ``unit_norm``: no shift, and a scale that gives the
            token a norm of the root of the width.
        eps: added to the standard deviation.

    Example:
        >>> norm = TokenNorm("layer_norm")
        >>> shift, scale = norm.statistics(torch.tensor([[1.0, 2.0, 3.0]]))
        >>> shift.tolist(), scale.tolist()
        ([[2.0]], [[1.0]])
    """

    kind: NormKind
    eps: float = 1e-5

    def statistics(self, tokens: Float[Tensor, "*token width"]) -> tuple[Tensor, Tensor]:
        """Shift and scale of each token, without ``eps``, ``[token, 1]``."""
        if self.kind == "layer_norm":
            return tokens.mean(-1, keepdim=True), tokens.std(-1, keepdim=True)
        scale = tokens.norm(dim=-1, keepdim=True) / tokens.shape[-1] ** 0.5
        return torch.zeros_like(scale), scale

    def apply(self, tokens: Float[Tensor, "*token width"]) -> Float[Tensor, "*token width"]:
        """The tokens as the encoder takes them."""
        shift, scale = self.statistics(tokens)
        return (tokens - shift) / (scale + self.eps if self.kind == "layer_norm" else scale)

    def undo(
        self, reconstruction: Float[Tensor, "*token width"], tokens: Float[Tensor, "*token width"]
    ) -> Float[Tensor, "*token width"]:
        """The decoder's output, shifted and scaled back as the tokens were."""
        shift, scale = self.statistics(tokens)
        return reconstruction * scale + shift

    def to_json(self) -> dict[str, Any]:
        """For ``sae.json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TokenNorm:
        """What `to_json` gave.

        Raises:
            InfoscopeError: it is something else.
        """
        eps = value.get("eps")
        for kind in KINDS:
            if value.get("kind") == kind and isinstance(eps, float) and 0 <= eps < math.inf and len(value) == 2:
                return cls(kind, eps)
        raise InfoscopeError(f"unknown token norm {shown(dict(value))}")


WEIGHTS = ("W_enc", "b_enc", "W_dec", "b_dec")


class SparseAutoencoder(nn.Module):
    """codes = activation(x W_enc + b_enc); reconstruction = codes W_dec + b_dec.

    Nothing is subtracted from tokens first: any centring and scale that an SAE was trained with is folded into its
    weights. Only what differs from token to token cannot be folded: ``token_norm`` is applied to x first, and undone on
    the reconstruction. The weights are fixed; `infoscope.training` trains new ones.

    Args:
        W_enc: encoder, ``[width, features]``.
        b_enc: encoder bias, ``[features]``.
        W_dec: decoder, ``[features, width]``; row j is the direction of feature j.
        b_dec: decoder bias, ``[width]``.
        activation: the activation function.
        token_norm: what is done to each token by itself, if anything.
        name: how the user named it: a path or hub id.
        format: the checkpoint format it was read from.
        sha256: SHA-256 of the weights file, 64 hex digits; computed from the weights when not given.
        site: where its tokens come from (model, revision, block, ...), when known.

    Raises:
        InfoscopeError: the shapes do not match, or a weight is NaN or infinite.

    Example:
        >>> from infoscope.dictionaries.activations import TopK
        >>> sae = SparseAutoencoder(torch.eye(3, 4), torch.zeros(4), torch.eye(4, 3), torch.zeros(3), TopK(1))
        >>> sae.width, sae.features
        (3, 4)
        >>> sae.encode(torch.tensor([[1.0, 2.0, 0.5]])).tolist(), sae(torch.tensor([[1.0, 2.0, 0.5]])).tolist()
        ([[0.0, 2.0, 0.0, 0.0]], [[0.0, 2.0, 0.0]])
    """

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor

    def __init__(
        self,
        W_enc: Tensor,
        b_enc: Tensor,
        W_dec: Tensor,
        b_dec: Tensor,
        activation: Activation,
        *,
        token_norm: TokenNorm | None = None,
        name: str = "in memory",
        format: str = "infoscope",
        sha256: str | None = None,
        site: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        weights = dict(zip(WEIGHTS, (W_enc, b_enc, W_dec, b_dec), strict=True))
        _check(name, weights, activation_tensors(activation))
        for key, weight in weights.items():
            value = weight.detach().to(torch.float32).contiguous()
            self.register_parameter(key, nn.Parameter(value, requires_grad=False))
        self.activation = map_tensors(activation, lambda tensor: tensor.detach().to(torch.float32))
        self.token_norm = token_norm
        self.name = name
        self.format = format
        self.site = None if site is None else dict(site)
        self._sha256 = sha256

    @property
    def width(self) -> int:
        """Length of a token, d_in."""
        return self.W_enc.shape[0]

    @property
    def features(self) -> int:
        """Number of features, d_sae."""
        return self.W_enc.shape[1]

    @property
    def sha256(self) -> str:
        """SHA-256 of the weights file; for weights never saved, of the file that `save_sae` would write."""
        if self._sha256 is None:
            self._sha256 = hashlib.sha256(save(self.weights())).hexdigest()
        return self._sha256

    def weights(self) -> dict[str, Tensor]:
        """All tensors by name, on the CPU: the four of `WEIGHTS`, and the activation function's."""
        tensors = {key: getattr(self, key) for key in WEIGHTS} | activation_tensors(self.activation)
        weights: dict[str, Tensor] = {}
        for key, tensor in tensors.items():
            value = tensor.detach().cpu()
            # A tied encoder and decoder may share memory, which safetensors refuses to save.
            shared = any(value.data_ptr() == other.data_ptr() for other in weights.values())
            weights[key] = value.clone() if shared else value
        return weights

    def _apply(self, change: Callable[[Tensor], Tensor], recurse: bool = True) -> SparseAutoencoder:
        """Move the activation function's tensors too, when the module is moved to another device."""
        super()._apply(change, recurse)  # type: ignore[no-untyped-call]
        self.activation = map_tensors(self.activation, change)
        return self

    def pre_activations(self, tokens: Float[Tensor, "*token width"]) -> Float[Tensor, "*token feature"]:
        """``tokens W_enc + b_enc``."""
        flat = torch.addmm(self.b_enc, tokens.reshape(-1, self.width), self.W_enc)
        return flat.view(*tokens.shape[:-1], self.features)

    def encode(self, tokens: Float[Tensor, "*token width"]) -> Float[Tensor, "*token feature"]:
        """Codes, dense; for many tokens use `encode_sparse`."""
        return self.activation(self.pre_activations(self.token_norm.apply(tokens) if self.token_norm else tokens))

    def decode(
        self, codes: Float[Tensor, "*token feature"], tokens: Float[Tensor, "*token width"] | None = None
    ) -> Float[Tensor, "*token width"]:
        """Reconstructions of tokens from their codes.

        Args:
            codes: what `encode` gave.
            tokens: the tokens; needed with a ``token_norm``, because codes do not hold a token's own scale.

        Raises:
            InfoscopeError: there is a ``token_norm``, but no tokens are given.
        """
        reconstruction = codes @ self.W_dec + self.b_dec
        if self.token_norm is None:
            return reconstruction
        if tokens is None:
            raise InfoscopeError(
                f"SAE {self.name} scales each token by its own {self.token_norm.kind}: give decode the tokens too"
            )
        return self.token_norm.undo(reconstruction, tokens)

    def forward(self, tokens: Float[Tensor, "*token width"]) -> Float[Tensor, "*token width"]:
        """Reconstructions: encode, then decode."""
        return self.decode(self.encode(tokens), tokens)


def fold_centring(W_enc: Tensor, b_enc: Tensor, b_dec: Tensor) -> Tensor:
    """The encoder's bias for tokens that are not centred first: ``(x - b_dec) W_enc + b_enc = x W_enc + (this)``.

    Args:
        W_enc: ``[width, features]``.
        b_enc: ``[features]``.
        b_dec: what was subtracted from tokens in training, ``[width]``.

    Example:
        >>> fold_centring(torch.eye(2), torch.zeros(2), torch.tensor([1.0, 2.0])).tolist()
        [-1.0, -2.0]
    """
    if W_enc.ndim != 2 or b_dec.shape != W_enc.shape[:1] or b_enc.shape != W_enc.shape[1:]:
        return b_enc  # the check of shapes in `SparseAutoencoder` names the wrong one
    return b_enc - b_dec @ W_enc


def fold_decoder_norm(W_enc: Tensor, b_enc: Tensor, W_dec: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Encoder, encoder bias and decoder with decoder rows of length 1: the rows' norms move into the codes.

    Reconstructions stay the same. But top-k may keep other entries, so this is only for SAEs whose trainer did the
    same. A row of zeros is left alone.

    Args:
        W_enc: ``[width, features]``.
        b_enc: ``[features]``.
        W_dec: ``[features, width]``.

    Example:
        >>> W_enc, b_enc, W_dec = fold_decoder_norm(torch.eye(2), torch.ones(2), 2 * torch.eye(2))
        >>> W_enc.tolist(), b_enc.tolist(), W_dec.tolist()
        ([[2.0, 0.0], [0.0, 2.0]], [2.0, 2.0], [[1.0, 0.0], [0.0, 1.0]])
    """
    if W_enc.ndim != 2 or W_dec.shape != (W_enc.shape[1], W_enc.shape[0]) or b_enc.shape != W_enc.shape[1:]:
        return W_enc, b_enc, W_dec
    norm = W_dec.norm(dim=1)
    norm = torch.where(norm > 0, norm, 1.0)
    return W_enc * norm, b_enc * norm, W_dec / norm[:, None]


def _check(name: str, weights: Mapping[str, Tensor], of_activation: Mapping[str, Tensor]) -> None:
    shape = list(weights["W_enc"].shape)
    if len(shape) != 2 or 0 in shape:
        raise InfoscopeError(
            f"SAE {name}: W_enc has shape {shape}, expected [width, features]; transpose or fetch it again"
        )
    width, features = shape
    weights = {**weights, **of_activation}
    expected = {"b_enc": [features], "W_dec": [features, width], "b_dec": [width]}
    expected |= {key: [features] for key in of_activation}
    for key, right in expected.items():
        if list(weights[key].shape) != right:
            raise InfoscopeError(
                f"SAE {name}: {key} has shape {list(weights[key].shape)}, expected {right} to go with W_enc {shape}"
                "; fetch the SAE again"
            )
    for key, weight in weights.items():
        if not weight.is_floating_point() or weight.dtype.itemsize < 2:
            raise InfoscopeError(f"SAE {name}: {key} holds {weight.dtype}, expected floating-point numbers; save it so")
        # In float32, in which codes are computed: a float64 may be beyond its range.
        if not torch.isfinite(weight.detach().to(torch.float32)).all():
            raise InfoscopeError(f"SAE {name}: {key} holds NaN or infinity; fetch or train the SAE again")
