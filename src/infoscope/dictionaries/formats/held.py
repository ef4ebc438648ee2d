"""What a checkpoint holds, handed out by name, so that in the end nothing that changes codes is left unread.

A tensor that nobody asked for is how a threshold of another activation becomes a plain ReLU without a word. Here a
reader asks for what it uses, names what is harmless, and `close` refuses the rest.
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

# What weights are stored in; eight-bit floats are not, since their scales lie elsewhere.
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# What a compiler or a wrapper puts before the name of whatever it wraps, wherever that is in a name.
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
# Parts of an SAE whose names are all there is to know it by.
_PARTS = ("encoder", "decoder", "dictionary", "activation")

# Words in the keys of a configuration that speak of what happens between a token and its codes.
_STEMS = re.compile(
    r"activ|nonlin|norm|scal|thresh|top_?k|gat(e|ing)|bias|b_dec|b_enc|pre_b|cent(er|re)|whiten|nois|clamp|transcod|relu|jump"
    r"|temper|quantiz|multiplier|architecture|dropout|shift|offset|signed|tied|rotat|projection|subtract|w_skip"
    r"|skip_connection|(^|_)(k|eps|mask|mean|std)(_|$)"
)
# Of these, what SAEs do as a rule, so that False changes codes and does not mean "switched off".
_USUAL = re.compile(r"^(apply|use)_\w*(b_dec|bias|relu|cent)|^(enc\w*_)?bias$|^relu$|^cent(er|re)_")
# Keys with such a word that take part in training alone, or describe a place: ends and beginnings, then whole names.
_TRAINING = re.compile(
    r"_(lr|beta|momentum|coeff(icient)?s?|penalty|steps?|warm_?up|alpha|window|path|dir|init|method|scheduler|grads?)$"
    r"|_loss(_|$)|_aux(_|$)|_init_|^(lr|l1|aux|dead|wandb|resample|checkpoint|dataset|optim|adam|decoder_heuristic)_"
    r"|reinit|resampl|^log_|_mixing_fraction$|_norm_multiple$"
)
_HARMLESS = {
    "activation_dim": "a size",
    "activations_path": "where training read its tokens",
    "act_store_device": "where training kept its tokens",
    "use_cached_activations": "where training read its tokens",
    "new_cached_activations_path": "where training wrote its tokens",
    "use_sparse_activations": "how training computed",
    "autocast_lm": "how training computed",
    "max_grad_norm": "a bound of gradients",
    "lp_norm": "the penalty of training",
    "mse_loss_normalization": "the loss of training",
    "normalize_sae_decoder": "a constraint of training, which the weights hold",
    "normalize_decoder": "a constraint of training, which the weights hold",
    "normalize_w_dec": "a constraint of training, which the weights hold",
    "scale_sparsity_penalty_by_decoder_norm": "the penalty of training",
    "n_batches_for_norm_estimate": "how training estimated a scale",
    "decoder_init_norm": "where training began",
    "noise_density": "noise in training alone",
    "jumprelu_bandwidth": "the gradient of training",
    "jumprelu_init_threshold": "where training began",
    "jumprelu_sparsity_loss_mode": "the loss of training",
    "jumprelu_tanh_scale": "the loss of training",
    "apply_k_annealing": "training alone",
    "multi_topk": "the loss of training",
    "model_kwargs": "how the model was loaded",
    "model_from_pretrained_kwargs": "how the model was loaded",
    "scale_mean": "read from the run's configuration",
    "special_tokens_mask": "which tokens training took",
    "scaler": "mixed precision in training",
    "grad_scaler": "mixed precision in training",
}


class Tensors:
    """The entries of a state dict; those that are no tensors count as settings.

    Args:
        entries: by name; a prefix that all share, as a wrapper adds it, is left off (`unwrapped`).
        path: the file, for messages.

    Example:
        >>> held = Tensors({"module.W_enc": torch.ones(2, 3), "module.threshold": torch.ones(3)}, Path("sae.pt"))
        >>> held.take("W_enc")[0].dtype
        torch.float64
        >>> held.close("a ReLU SAE")
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
        self._left = set(self._tensors)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    @property
    def names(self) -> set[str]:
        """Of all tensors, asked for or not."""
        return set(self._tensors)

    def take(self, *names: str) -> list[Tensor]:
        """Tensors by name, in float64, in which they are folded.

        Raises:
            InfoscopeError: some are not there, or are not real numbers.
        """
        if absent := [name for name in names if name not in self._tensors]:
            raise InfoscopeError(f"{self.path} lacks {few(absent)}; fetch the SAE again")
        self._left -= set(names)
        return [self._floats(name).to(torch.float64) for name in names]

    def scaled(self, factors: Mapping[str, float]) -> None:
        """Put tensors times a factor in their places, in their own precision, as the project that stored them would."""
        for name in factors.keys() & self.names:
            self._tensors[name] = self._floats(name) * factors[name]

    def divided(self, factors: Mapping[str, float]) -> None:
        """The same with tensors divided by a factor, which rounds otherwise than multiplying by its inverse."""
        for name in factors.keys() & self.names:
            self._tensors[name] = self._floats(name) / factors[name]

    def threshold(self, name: str, features: int, never: Collection[float] | None = None) -> Tensor:
        """The one threshold of a BatchTopK, for each feature.

        Args:
            name: of the tensor.
            features: how many.
            never: the values that it has before training sets it; by default whatever is not above 0.

        Raises:
            InfoscopeError: it is missing, more than one number, or was never set: then it is no threshold.
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
        """A tensor that holds one whole number, if it is there.

        Raises:
            InfoscopeError: it holds something else.
        """
        if name not in self._tensors:
            return None
        self._left.discard(name)
        tensor = self._tensors[name]
        value = tensor.item() if tensor.numel() == 1 and tensor.dtype != torch.bool else None
        if not isinstance(value, int | float) or not math.isfinite(value) or value != int(value):
            raise InfoscopeError(f"{self.path}: {name} is not one whole number; fetch the SAE again")
        return int(value)

    def harmless(self, reasons: Mapping[str, str]) -> None:
        """Name tensors that change no code, each with the reason."""
        self._left -= set(reasons)

    def left(self) -> set[str]:
        """What nobody has asked for yet."""
        return set(self._left)

    def close(self, kind: str) -> None:
        """Refuse what nobody asked for.

        Args:
            kind: what the file was read as: "a ReLU SAE".

        Raises:
            InfoscopeError: there is such a tensor, or a setting among the entries that speaks of codes.
        """
        if left := sorted(self._left):
            raise InfoscopeError(
                f"{self.path} holds {few(left)}, which {kind} does not use, so what it does to codes is not known; "
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
    """A configuration out of somebody's file: values by key, checked as they are asked for.

    Args:
        values: as JSON or a pickle has them.
        where: the file, or the part of it, for messages.
        harmless: keys that change no code, in this format.

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
        self._left = {key for key in values if key not in harmless}

    def __contains__(self, key: str) -> bool:
        """Whether it is there and not null."""
        return self._values.get(key) is not None

    @property
    def names(self) -> set[str]:
        """All keys, asked for or not."""
        return set(self._values)

    def get(self, key: str, default: Any = None) -> Any:
        """A value of any type; the default where it is not there or null."""
        self._left.discard(key)
        value = self._values.get(key, default)
        return default if value is None else value

    def whole(self, key: str, least: int = 1) -> int | None:
        """A whole number; None where it is not there or null.

        Raises:
            InfoscopeError: it is something else, or smaller than ``least``.
        """
        value = self.get(key)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
            raise self._wrong(key, f"a whole number of at least {least}")
        return value

    def needed(self, key: str) -> int:
        """A whole number of at least 1 that has to be there.

        Raises:
            InfoscopeError: it is not, or is something else.
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
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def text(self, key: str) -> str | None:
        """A string; None where it is not there or null.

        Raises:
            InfoscopeError: it is something else.
        """
        value = self.get(key)
        if value is not None and not isinstance(value, str):
            raise self._wrong(key, "a string")
        return value

    def part(self, key: str) -> Settings:
        """An object inside; an empty one where it is not there or null.

        Raises:
            InfoscopeError: it is no object.
        """
        value = self.get(key, {})
        if not isinstance(value, Mapping):
            raise self._wrong(key, "an object")
        return Settings({str(name): item for name, item in value.items()}, f"{self.where}: {key}")

    def sizes(self, path: Path, W_enc: Tensor, width: str, features: str) -> None:
        """Refuse weights of another size than the configuration says, where it does.

        Raises:
            InfoscopeError: they differ, or a size is no whole number.
        """
        for key, side in ((width, 0), (features, 1)):
            said = self.whole(key)
            if said is not None and W_enc.ndim == 2 and W_enc.shape[side] != said:
                raise InfoscopeError(
                    f"{path}: W_enc has shape {list(W_enc.shape)} as [width, features], but the configuration says "
                    f"{key} {shown(said)}; fetch the SAE again"
                )

    def refuse(self, keys: Iterable[str], why: str) -> None:
        """Refuse keys that are set though they have no place beside the rest.

        Raises:
            InfoscopeError: one is.
        """
        for key in keys:
            if not _off(self.get(key)):
                raise InfoscopeError(f"{self.where}: {key} is {shown(self.get(key))}, {why}")

    def close(self) -> None:
        """Refuse keys that nobody asked for, as far as they speak of codes and are not switched off.

        Trainers write a great many keys, and new ones with every version; those that only steer training are let be.

        Raises:
            InfoscopeError: there is such a key.
        """
        for key in sorted(self._left):
            low = key.lower()
            if (
                (_off(self._values[key]) and not self._acts_when_false(key))
                or not _STEMS.search(low)
                or low in _HARMLESS
                or _TRAINING.search(low)
            ):
                continue
            raise InfoscopeError(
                f"{self.where}: {shown(key)[1:-1]} is {shown(self._values[key])}, which may change codes and is not "
                "known; name another checkpoint, or take the key out if it changes none"
            )

    def _acts_when_false(self, key: str) -> bool:
        """Whether a setting is False that takes something away from what SAEs do as a rule."""
        return self._values[key] is False and _USUAL.search(key.lower()) is not None

    def _wrong(self, key: str, expected: str) -> InfoscopeError:
        return InfoscopeError(f"{self.where}: {key} is {shown(self._values.get(key))}, expected {expected}; correct it")


def unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by the names that they have in the SAE itself.

    Compiling a module puts ``_orig_mod.`` before its names, training it in parallel ``module.``, and keeping it inside
    another module that one's name for it. What all names share tells nothing, so it is left off.

    Example:
        >>> sorted(unwrapped({"module._orig_mod.W_enc": torch.ones(1), "module._orig_mod.b_dec": torch.ones(1)}))
        ['W_enc', 'b_dec']
        >>> sorted(unwrapped({"encoder.weight": torch.ones(1), "encoder.bias": torch.ones(1)}))
        ['encoder.bias', 'encoder.weight']
    """
    names = {str(name): [part for part in str(name).split(".") if part not in _WRAPPERS] for name in tensors}
    while len(names) > 1:  # of one name alone, nothing is shared
        first = {parts[0] for parts in names.values() if parts}
        if len(first) != 1 or first & set(_PARTS) or any(len(parts) < 2 for parts in names.values()):
            break
        names = {name: parts[1:] for name, parts in names.items()}
    renamed = {".".join(parts): tensors[name] for name, parts in names.items() if name in tensors}
    return renamed if len(renamed) == len(tensors) else dict(tensors)


def _off(value: Any) -> bool:
    """Whether a setting is switched off, whatever it would do."""
    return value is None or value is False or (isinstance(value, str | list | dict) and value in ("", "none", [], {}))
