"""The canonical sparse autoencoder that every format is read into."""

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
    """z = (x - shift) / scale with a shift and a scale of each token's own, so that no weight can hold them.

    Attributes:
        kind: ``layer_norm``: shift by the token's mean, scale by its unbiased standard deviation plus ``eps``, which is
            left out again when it is undone, as SAELens and ViT-Prisma do. ``unit_norm``: no shift; to a norm of the
            root of the width.
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
        """The decoder's output on the scale of the tokens it is of."""
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

    Nothing is subtracted from tokens first: whatever centring and scale an SAE was trained with is folded into its
    weights. Only what differs from token to token cannot be: ``token_norm`` is applied to x first, and undone on the
    reconstruction. The weights are fixed; `infoscope.training` makes new ones.

    Args:
        W_enc: encoder, ``[width, features]``.
        b_enc: encoder bias, ``[features]``.
        W_dec: decoder, ``[features, width]``; row j is the direction of feature j.
        b_dec: decoder bias, ``[width]``.
        activation: the activation function.
        token_norm: what is done to each token by itself, if anything.
        name: how the user named it: a path or hub id.
        format: the checkpoint format it was read from.
        sha256: SHA-256 of the weights file, 64 hex digits; taken from the weights themselves when not given.
        site: where its tokens come from (model, revision, block, ...), when known.

    Raises:
        InfoscopeError: the shapes do not belong together, or a weight is NaN or infinite.

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
        held: dict[str, Tensor] = {}
        for key, tensor in tensors.items():
            value = tensor.detach().cpu()
            # A tied encoder and decoder may be one tensor, which a safetensors file takes for a mistake.
            shared = any(value.data_ptr() == other.data_ptr() for other in held.values())
            held[key] = value.clone() if shared else value
        return held

    def _apply(self, change: Callable[[Tensor], Tensor], recurse: bool = True) -> SparseAutoencoder:
        """What moves a module to another device; torch's own does not know the activation function's tensors."""
        super()._apply(change, recurse)  # type: ignore[no-untyped-call]
        self.activation = map_tensors(self.activation, change)
        return self

    def pre_activations(self, tokens: Float[Tensor, "*token width"]) -> Float[Tensor, "*token feature"]:
        """``tokens W_enc + b_enc``."""
        flat = torch.addmm(self.b_enc, tokens.reshape(-1, self.width), self.W_enc)
        return flat.view(*tokens.shape[:-1], self.features)

    def encode(self, tokens: Float[Tensor, "*token width"]) -> Float[Tensor, "*token feature"]:
        """Codes, dense; `encode_sparse` is for many tokens."""
        return self.activation(self.pre_activations(self.token_norm.apply(tokens) if self.token_norm else tokens))

    def decode(
        self, codes: Float[Tensor, "*token feature"], tokens: Float[Tensor, "*token width"] | None = None
    ) -> Float[Tensor, "*token width"]:
        """Reconstructions of the tokens behind some codes.

        Args:
            codes: what `encode` gave.
            tokens: those tokens; needed with a ``token_norm``, since a code does not tell a token's own scale.

        Raises:
            InfoscopeError: there is a ``token_norm``, and no tokens.
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


def _check(name: str, weights: Mapping[str, Tensor], of_activation: Mapping[str, Tensor]) -> None:
    W_enc = weights["W_enc"]
    if W_enc.ndim != 2 or 0 in W_enc.shape:
        raise InfoscopeError(
            f"SAE {name}: W_enc has shape {_shape(W_enc)}, expected [width, features]; transpose or fetch it again"
        )
    width, features = W_enc.shape
    weights = {**weights, **of_activation}
    expected = {"b_enc": (features,), "W_dec": (features, width), "b_dec": (width,)}
    expected |= dict.fromkeys(of_activation, (features,))
    for key, shape in expected.items():
        if weights[key].shape != shape:
            raise InfoscopeError(
                f"SAE {name}: {key} has shape {_shape(weights[key])}, expected {list(shape)} "
                f"to go with W_enc {_shape(W_enc)}"
                "; fetch the SAE again"
            )
    for key, weight in weights.items():
        if not weight.is_floating_point() or weight.dtype.itemsize < 2:
            raise InfoscopeError(f"SAE {name}: {key} holds {weight.dtype}, expected floating-point numbers; save it so")
        # In the precision that codes are computed in: a float64 beyond its range is infinite there.
        if not torch.isfinite(weight.detach().to(torch.float32)).all():
            raise InfoscopeError(f"SAE {name}: {key} holds NaN or infinity; fetch or train the SAE again")


def _shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape)
