"""From a configuration and a checkpoint's tensors to a model of transformers, with every weight accounted for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import nn

from infoscope.errors import InfoscopeError, few, no_memory_to, ran_out_of_memory

_LOGGER = logging.getLogger(__name__)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Buffers of whole numbers, which a model makes anew.
_COUNTS = ("position_ids", "num_batches_tracked", "relative_position_index", "token_type_ids")
_NAMED = 3
"""How many weights an error names before it only counts."""


@dataclass(frozen=True)
class Built:
    """A model, and which of its weights its checkpoint does not have.

    Attributes:
        model: in evaluation mode and without gradients.
        missing: their names; none is needed for what the model was built for, and they hold random numbers.
    """

    model: nn.Module
    missing: tuple[str, ...]


def build_model(
    name: str,
    kind: str,
    model_class: str,
    config: Any,
    weights: Mapping[str, torch.Tensor],
    dtype: torch.dtype,
    needed: Callable[[str], bool] = lambda weight: True,
    options: Mapping[str, Any] | None = None,
) -> Built:
    """Build a model from tensors, so that transformers opens no file, adapter or pickle.

    Args:
        name: of the checkpoint, for messages.
        kind: what it is to be, for messages: "CLIP", say.
        model_class: name of the class in transformers.
        config: its configuration.
        weights: the tensors by name; a checkpoint may carry more than the model, which is not loaded.
        dtype: of the model's weights.
        needed: whether the model is of no use without a weight of that name.
        options: what the class takes besides its configuration.

    Raises:
        InfoscopeError: the configuration describes no such model, a weight that is needed is missing, has another
            shape, is of whole numbers, complex or of eight bits, or is not finite; memory is short.
    """
    import transformers

    # transformers would take quantised numbers for the weights themselves, without their scale.
    if odd := sorted(
        weight
        for weight, tensor in weights.items()
        if tensor.dtype not in _FLOATS and weight.rpartition(".")[2] not in _COUNTS
    ):
        raise InfoscopeError(
            f"{name}: {few(odd)} hold {str(weights[odd[0]].dtype).removeprefix('torch.')}, expected floating-point "
            "numbers of 16 bits or more; name the model it was made from"
        )

    try:
        model, report = getattr(transformers, model_class).from_pretrained(
            None,
            config=config,
            state_dict=dict(weights),
            dtype=dtype,
            attn_implementation="sdpa",
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **(options or {}),
        )
    except Exception as error:  # a configuration may be well-formed and still describe no model
        if ran_out_of_memory(error):
            raise no_memory_to(f"build {name}") from error
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InfoscopeError(
            f"{name}: no {kind} model can be built from its config.json ({reason}); fetch it again"
        ) from error
    for tensor in chain(model.parameters(), model.buffers()):
        # What safetensors gives is the file itself, mapped: written to later, it would change the model under its user.
        tensor.data = tensor.data.clone()
    mismatched = [weight for weight, *_ in report["mismatched_keys"]]
    for problem, names in (("are missing", report["missing_keys"]), ("have another shape", mismatched)):
        if wanted := sorted(filter(needed, names)):
            raise InfoscopeError(
                f"{name}: the weights do not fit its config.json as a {kind} model: "
                f"{_some(wanted)} {problem}; fetch the model again"
            )
    broken = sorted(weight for weight, values in model.named_parameters() if not values.isfinite().all())
    if broken:
        raise InfoscopeError(
            f"{name}: {_some(broken)} hold NaN or infinity as {str(dtype).removeprefix('torch.')}; "
            "fetch the model again or choose another --precision"
        )
    return Built(model.eval().requires_grad_(False), tuple(sorted({*report["missing_keys"], *mismatched})))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars and load reports off the terminal; what they say is checked by `build_model`.

    They are let through where the logger ``infoscope`` takes debugging messages, as under ``--verbose``.
    """
    from transformers.utils import logging as transformers_logging

    if _LOGGER.isEnabledFor(logging.DEBUG):
        yield
        return
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
