"""The contents of a checkpoint, handed out by name, so that nothing that changes codes is left unread.

A tensor that no reader asks for is how a JumpReLU's threshold is lost and the SAE silently becomes a plain ReLU. Here a
reader asks for what it uses and names what is harmless, and `close` refuses the rest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from infoscope.errors import InfoscopeError, few, shown

# The types of weights. Eight-bit floats are missing, because their scales are stored elsewhere.
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# What compilers and wrappers put before the name of a module that they wrap, at any place in a name.
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
# Parts of an SAE whose names identify it, so that they are no prefix to be removed.
_PARTS = ("encoder", "decoder", "dictionary", "activation")

# Words in the keys of a configuration that refer to what happens between a token and its codes.
_STEMS = re.compile(
    r"activ|nonlin|norm|scal|thresh|top_?k|gat(e|ing)|bias|b_dec|b_enc|pre_b|cent(er|re)|whiten|nois|clamp|transcod|relu|jump"
    r"|temper|quantiz|multiplier|architecture|dropout|shift|offset|signed|tied|rotat|projection|subtract|w_skip"
    r"|skip_connection|(^|_)(k|eps|mask|mean|std)(_|$)"
)
# Of these, what SAEs usually do, so that False changes codes instead of meaning "switched off".
_USUAL = re.compile(r"^(apply|use)_\w*(b_dec|bias|relu|cent)|^(enc\w*_)?bias$|^relu$|^cent(er|re)_")
# Keys with such a word that concern training alone, or a path: first by their beginnings and ends, then by name.
_TRAINING = re.compile(
    r"_(lr|beta|momentum|coeff(icient)?s?|penalty|steps?|warm_?up|alpha|window|path|dir|init|method|scheduler|grads?)$"
    r"|_loss(_|$)|_aux(_|$)|_init_|^(lr|l1|aux|dead|wandb|resample|checkpoint|dataset|optim|adam|decoder_heuristic)_"
    r"|reinit|resampl|^log_|_mixing_fraction$|_norm_multiple$"
)
_HARMLESS = {
    # A size, and how the model was loaded.
    "activation_dim", "model_kwargs", "model_from_pretrained_kwargs",
    # Where training read, kept and wrote its tokens, and which it took.
    "activations_path", "act_store_device", "use_cached_activations", "new_cached_activations_path",
    "special_tokens_mask",
    # How training computed: sparse, or in mixed precision.
    "use_sparse_activations", "autocast_lm", "scaler", "grad_scaler",
    # Where training began, and its gradients.
    "decoder_init_norm", "jumprelu_init_threshold", "max_grad_norm", "jumprelu_bandwidth",
    # The loss and its penalty.
    "lp_norm", "mse_loss_normalization", "scale_sparsity_penalty_by_decoder_norm", "jumprelu_sparsity_loss_mode",
    "jumprelu_tanh_scale", "multi_topk",
    # Constraints that the saved weights already fulfil.
    "normalize_sae_decoder", "normalize_decoder", "normalize_w_dec",
    # What acts in training alone: noise, a k that changes, the estimate of a scale.
    "noise_density", "apply_k_annealing", "n_batches_for_norm_estimate",
    # Read from the run's own configuration.
    "scale_mean",
}  # fmt: skip


class Tensors:
    """The entries of a state dict; those that are not tensors count as settings.

    Args:
        entries: by name; a prefix that all share, such as a wrapper adds, is removed (`unwrapped`).
        path: the file, for messages.

    Example:
        >>> tensors = Tensors({"module.W_enc": torch.ones(2, 3), "module.threshold": torch.ones(3)}, Path("sae.pt"))
        >>> tensors.take("W_enc")[0].dtype
        torch.float64
        >>> tensors.close("a ReLU SAE")
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: sae.pt holds threshold, which a ReLU SAE does not use, so what it does to codes
        is not known; name a checkpoint without it, or correct the configuration
    """

    def __init__(self, entries: Mapping[Any, Any], path: Path):
        self.path = path
        self._tensors = unwrapped({key: value for key, value in entries.items() if isinstance(value, Tensor)})
        self._settings = Settings(
            {str(key): value for key, value in entries.items() if not isinstance(value, Tensor)}, str(path)
        )
        self._unread = set(self._tensors)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    @property
    def names(self) -> set[str]:
        """The names of all tensors, asked for or not."""
        return set(self._tensors)

    def take(self, *names: str) -> list[Tensor]:
        """Tensors by name, in float64, the precision in which they are folded.

        Raises:
            InfoscopeError: some are missing, or are not real numbers.
        """
        if absent := [name for name in names if name not in self._tensors]:
            raise InfoscopeError(f"{self.path} lacks {few(absent)}; fetch the SAE again")
        self._unread -= set(names)
        return [self._floats(name).to(torch.float64) for name in names]

    def scale(self, factor: float, *, multiply: Collection[str], divide: Collection[str]) -> None:
        """Multiply some tensors by a factor and divide others by it, those that are there.

        This is done in the tensors' own precision, as the project that stored them would. Dividing rounds differently
        from multiplying by the inverse.
        """
        for name in set(multiply) & self.names:
            self._tensors[name] = self._floats(name) * factor
        for name in set(divide) & self.names:
            self._tensors[name] = self._floats(name) / factor

    def threshold(self, name: str, features: int, never: Collection[float] | None = None) -> Tensor:
        """The single threshold of a BatchTopK, repeated for each feature.

        Args:
            name: the tensor's name.
            features: how many features there are.
            never: the values that it has before training sets it; by default everything that is not above 0.

        Raises:
            InfoscopeError: it is missing, is more than one number, or was never set and so is no threshold.
        """
        (value,) = self.take(name)
        if value.numel() != 1:
            raise InfoscopeError(
                f"{self.path}: {name} has shape {list(value.shape)}, expected one number; fetch the SAE again"
            )
        number = float(value)
        if number in never if never is not None else number <= 0:
            raise InfoscopeError(
                f"{self.path}: {name} is {number:g}, as it is before training sets it, so how the SAE encodes one "
                "token is not known; name a later checkpoint"
            )
        return value.reshape(1).expand(features).clone()

    def whole(self, name: str) -> int | None:
        """A tensor that holds one whole number; None where it is missing.

        Raises:
            InfoscopeError: it holds something else.
        """
        if name not in self._tensors:
            return None
        self._unread.discard(name)
        tensor = self._tensors[name]
        value = tensor.item() if tensor.numel() == 1 and tensor.dtype != torch.bool else None
        if not isinstance(value, int | float) or not math.isfinite(value) or value != int(value):
            raise InfoscopeError(f"{self.path}: {name} is not one whole number; fetch the SAE again")
        return int(value)

    def harmless(self, reasons: Mapping[str, str]) -> None:
        """Declare that tensors change no code, each with the reason."""
        self._unread -= set(reasons)

    def close(self, kind: str) -> None:
        """Refuse tensors that were not asked for.

        Args:
            kind: what the file was read as: "a ReLU SAE".

        Raises:
            InfoscopeError: there is such a tensor, or a setting among the entries that may change codes.
        """
        if unread := sorted(self._unread):
            raise InfoscopeError(
                f"{self.path} holds {few(unread)}, which {kind} does not use, so what it does to codes is not known; "
                "name a checkpoint without it, or correct the configuration"
            )
        self._settings.close()

    def _floats(self, name: str) -> Tensor:
        tensor = self._tensors[name].detach()
        if tensor.dtype not in _FLOATS:
            raise InfoscopeError(
                f"{self.path}: {name} holds {tensor.dtype}, expected floating-point numbers of 16 bits or more; save "
                "it so"
            )
        return tensor


class Settings:
    """A configuration from a file: values by key, checked as they are asked for.

    Args:
        values: as JSON or a pickle has them.
        where: the file, or the part of it, for messages.
        harmless: keys that change no code in this format.

    Example:
        >>> config = Settings({"d_in": 6, "k": "32", "noise": 0.1}, "cfg.json")
        >>> config.whole("d_in"), config.flag("signed", False)
        (6, False)
        >>> config.whole("k")
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: cfg.json: k is '32', expected a whole number of at least 1; correct it
        >>> config.close()
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: cfg.json: noise is 0.1, which may change codes and is not known; name another
        checkpoint, or take the key out if it changes none
    """

    def __init__(self, values: Mapping[str, Any], where: str, harmless: Collection[str] = ()):
        self.where = where
        self._values = values
        self._unread = {key for key in values if key not in harmless}

    def __contains__(self, key: str) -> bool:
        """Whether it is there and not null."""
        return self._values.get(key) is not None

    @property
    def names(self) -> set[str]:
        """All keys, asked for or not."""
        return set(self._values)

    def get(self, key: str, default: Any = None) -> Any:
        """A value of any type; the default where it is missing or null."""
        self._unread.discard(key)
        value = self._values.get(key, default)
        return default if value is None else value

    def whole(self, key: str, least: int = 1) -> int | None:
        """A whole number; None where it is missing or null.

        Raises:
            InfoscopeError: it is something else, or smaller than ``least``.
        """
        value: int | None = self._typed(key, int, f"a whole number of at least {least}")
        if value is not None and value < least:
            raise self._wrong(key, f"a whole number of at least {least}")
        return value

    def needed(self, key: str) -> int:
        """A whole number of at least 1 that must be there.

        Raises:
            InfoscopeError: it is missing, or is something else.
        """
        value = self.whole(key)
        if value is None:
            raise self._wrong(key, "a whole number of at least 1")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false.

        Raises:
            InfoscopeError: it is something else.
        """
        value: bool = self._typed(key, bool, "true or false", default)
        return value

    def text(self, key: str) -> str | None:
        """A string; None where it is missing or null.

        Raises:
            InfoscopeError: it is something else.
        """
        value: str | None = self._typed(key, str, "a string")
        return value

    def part(self, key: str) -> Settings:
        """An object inside; an empty one where it is missing or null.

        Raises:
            InfoscopeError: it is not an object.
        """
        value = self._typed(key, Mapping, "an object", {})
        return Settings({str(name): item for name, item in value.items()}, f"{self.where}: {key}")

    def sizes(self, path: Path, W_enc: Tensor, width: str, features: str) -> None:
        """Refuse weights whose size differs from what the configuration says.

        Args:
            path: the file with the weights, for messages.
            W_enc: ``[width, features]``.
            width: the key of the width; it may be missing.
            features: the key of the number of features; it may be missing.

        Raises:
            InfoscopeError: a size differs, or is not a whole number.
        """
        for key, side in ((width, 0), (features, 1)):
            stated = self.whole(key)
            if stated is not None and W_enc.ndim == 2 and W_enc.shape[side] != stated:
                raise InfoscopeError(
                    f"{path}: W_enc has shape {list(W_enc.shape)} as [width, features], but the configuration says "
                    f"{key} {shown(stated)}; fetch the SAE again"
                )

    def refuse(self, keys: Iterable[str], why: str) -> None:
        """Refuse keys that are set although they contradict the rest.

        Raises:
            InfoscopeError: one is.
        """
        for key in keys:
            if not _off(self.get(key)):
                raise InfoscopeError(f"{self.where}: {key} is {shown(self.get(key))}, {why}")

    def close(self) -> None:
        """Refuse keys that were not asked for, if they may change codes and are not switched off.

        Trainers write a great many keys, and new ones with every version; those that only concern training are ignored.

        Raises:
            InfoscopeError: there is such a key.
        """
        for key in sorted(self._unread):
            if self._may_change_codes(key):
                raise InfoscopeError(
                    f"{self.where}: {shown(key)[1:-1]} is {shown(self._values[key])}, which may change codes and is "
                    "not known; name another checkpoint, or take the key out if it changes none"
                )

    def _may_change_codes(self, key: str) -> bool:
        name, value = key.lower(), self._values[key]
        if _off(value) and not (value is False and _USUAL.search(name)):
            return False
        return bool(_STEMS.search(name)) and name not in _HARMLESS and not _TRAINING.search(name)

    def _typed(self, key: str, kind: type, expected: str, default: Any = None) -> Any:
        value = self.get(key, default)
        # In Python, True and False are whole numbers too.
        if value is None or (isinstance(value, kind) and (kind is bool or not isinstance(value, bool))):
            return value
        raise self._wrong(key, expected)

    def _wrong(self, key: str, expected: str) -> InfoscopeError:
        return InfoscopeError(f"{self.where}: {key} is {shown(self._values.get(key))}, expected {expected}; correct it")


def unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by the names that they have in the SAE itself.

    Compiling a module puts ``_orig_mod.`` before its names, training it in parallel puts ``module.``, and keeping it
    inside another module puts that one's name for it. What all names share carries no information, so it is removed.

    Example:
        >>> sorted(unwrapped({"module._orig_mod.W_enc": torch.ones(1), "module._orig_mod.b_dec": torch.ones(1)}))
        ['W_enc', 'b_dec']
        >>> sorted(unwrapped({"encoder.weight": torch.ones(1), "encoder.bias": torch.ones(1)}))
        ['encoder.bias', 'encoder.weight']
    """
    names = {str(name): [part for part in str(name).split(".") if part not in _WRAPPERS] for name in tensors}
    while len(names) > 1:  # a single name shares nothing
        first = {parts[0] for parts in names.values() if parts}
        if len(first) != 1 or first & set(_PARTS) or any(len(parts) < 2 for parts in names.values()):
            break
        names = {name: parts[1:] for name, parts in names.items()}
    renamed = {".".join(parts): tensors[name] for name, parts in names.items() if name in tensors}
    return renamed if len(renamed) == len(tensors) else dict(tensors)


def _off(value: Any) -> bool:
    """Whether a setting is switched off, whatever it would do."""
    return value is None or value is False or (isinstance(value, str | list | dict) and value in ("", "none", [], {}))
