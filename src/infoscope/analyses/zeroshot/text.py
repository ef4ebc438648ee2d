"""The text towers of CLIP, SigLIP and SigLIP 2, which turn class names into class embeddings."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from infoscope.analyses.zeroshot.classes import TEMPLATES, Classes, check_templates, prompts_of
from infoscope.analyses.zeroshot.embeddings import (
    ClassEmbeddings,
    class_embeddings,
    read_embeddings,
    read_logit_scale,
    write_embeddings,
)
from infoscope.backbones.checkpoint import Checkpoint, find_checkpoint, hash_files
from infoscope.backbones.hardware import find_device
from infoscope.backbones.loading import build_model, quiet
from infoscope.errors import InfoscopeError
from infoscope.runtime.progress import progress

_LOGGER = logging.getLogger(__name__)
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "tokenizer.model",
)
# Our choice. It is no option, since how prompts are batched changes the last digit of an embedding.
PROMPT_BATCH = 64


class _Tower(NamedTuple):
    """How one family's text tower is built and fed."""

    family: str
    model_class: str
    templates: str
    padded: bool  # prompts are padded to full length, and the padding is attended to


_CLIP = _Tower("CLIP text", "CLIPTextModelWithProjection", "clip", False)
# By the model type of a whole model; that of its text tower alone ends in _text_model.
_TOWERS = MappingProxyType(
    {
        "clip": _CLIP,
        "siglip": _Tower("SigLIP text", "SiglipTextModel", "siglip", True),
        "siglip2": _Tower("SigLIP 2 text", "Siglip2TextModel", "siglip", True),
    }
)


@dataclass(frozen=True, eq=False)
class TextTower:
    """A text model with its tokenizer. Made by `load_text_tower`.

    Attributes:
        name: the path or hub id that it was loaded from.
        family: ``CLIP text``, ``SigLIP text`` or ``SigLIP 2 text``.
        length: most tokens of a prompt.
        padded: whether prompts are padded to that length and the padding is attended to, as SigLIP was trained.
        model: the text model of transformers.
        tokenizer: the tokenizer of transformers, from the same checkpoint.
    """

    name: str
    family: str
    length: int
    padded: bool
    model: nn.Module
    tokenizer: Any

    def embed(self, prompts: list[str]) -> Float32[Tensor, "prompt width"]:
        """The prompts' embeddings as the model gives them, not normalised.

        Prompts are converted to lower case, as the training texts of all three families were.

        Raises:
            InfoscopeError: a prompt has more tokens than the model takes.
        """
        words = [prompt.lower() for prompt in prompts]
        lengths = [len(ids) for ids in self.tokenizer(words, verbose=False)["input_ids"]]
        longest = int(np.argmax(lengths))
        if lengths[longest] > self.length:
            raise InfoscopeError(
                f"{self.name} takes {self.length} tokens, and {prompts[longest]!r} has {lengths[longest]}: shorten the "
                "class name or the template"
            )
        padding: dict[str, Any] = (
            {"padding": "max_length", "max_length": self.length, "return_attention_mask": False}
            if self.padded
            else {"padding": True}
        )
        tokens = self.tokenizer(words, return_tensors="pt", **padding)
        device = next(self.model.parameters()).device
        with torch.inference_mode():
            output = self.model(**{name: values.to(device) for name, values in tokens.items()})
        embeddings: Tensor = output.pooler_output if self.padded else output.text_embeds
        return embeddings.to(torch.float32, copy=True)


def load_text_tower(model: str | Path, *, device: str = "auto", revision: str | None = None) -> TextTower:
    """Load a text model and its tokenizer.

    Args:
        model: a directory in Hugging Face layout or a hub id, of a whole CLIP, SigLIP or SigLIP 2 model or of its text
            tower. Code that comes with a model is never run.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ...
        revision: branch, tag or commit on the hub.

    Raises:
        InfoscopeError: there is no such model, it has no text tower, its weights do not fit its configuration, or its
            tokenizer cannot be read.

    Example:
        >>> load_text_tower("no/such/directory")
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: no such model: no/such/directory; name a directory, or a hub id like
        openai/clip-vit-base-patch16
    """
    return _build(find_checkpoint(model, revision, beside=TOKENIZER_FILES), device)


def embed_classes(
    model: str | Path,
    classes: Classes,
    templates: tuple[str, ...] | None = None,
    *,
    cache: Path | None = None,
    device: str = "auto",
    revision: str | None = None,
) -> ClassEmbeddings:
    """Class embeddings from a text tower: a class's prompts, each normalised, are averaged and normalised again.

    Args:
        model: as for `load_text_tower`.
        classes: the classes.
        templates: prompt templates; by default those of the family (see `infoscope.analyses.zeroshot.classes`).
        cache: a safetensors file; it is read if it is for the same model, tokenizer, names and templates, and otherwise
            written.
        device: as for `load_text_tower`.
        revision: as for `load_text_tower`.

    Raises:
        InfoscopeError: as for `load_text_tower`; or a template cannot be used, a prompt is too long, or the cache
            cannot be written.
    """
    checkpoint = find_checkpoint(model, revision, beside=TOKENIZER_FILES)
    templates = templates or TEMPLATES[_tower_of(checkpoint).templates]
    check_templates(templates, "the templates")
    source = {
        "model": checkpoint.name,
        "revision": checkpoint.revision,
        "weights_sha256": hash_files(checkpoint.weight_files),
        "tokenizer_sha256": _tokenizer_hash(checkpoint.directory),
        "templates": list(templates),
    }
    source["key"] = _key(source, classes)
    if cache is not None and cache.is_file():
        cached = read_embeddings(cache)
        if cached.source.get("key") == source["key"]:
            return cached
    tower = _build(checkpoint, device)
    vectors = _averaged(tower, classes, templates)
    embeddings = class_embeddings(classes, vectors, read_logit_scale(checkpoint.weight_files), source)
    if cache is not None:
        write_embeddings(cache, embeddings)
    return embeddings


def _averaged(tower: TextTower, classes: Classes, templates: tuple[str, ...]) -> Float32[np.ndarray, "class width"]:
    prompts = [prompt for name in classes.names for prompt in prompts_of(name, templates)]
    parts = []
    with progress("Embedding prompts", len(prompts), "prompts") as advance:
        for start in range(0, len(prompts), PROMPT_BATCH):
            batch = prompts[start : start + PROMPT_BATCH]
            parts.append(nn.functional.normalize(tower.embed(batch).to(torch.float64), dim=-1).cpu().numpy())
            advance(len(batch))
    vectors: np.ndarray = np.concatenate(parts).reshape(len(classes), len(templates), -1).mean(1)
    return vectors.astype(np.float32)


def _build(checkpoint: Checkpoint, device: str) -> TextTower:
    import transformers

    row = _tower_of(checkpoint)
    on_device = find_device(device)
    with quiet():
        try:
            config = transformers.CONFIG_MAPPING[checkpoint.config["model_type"]].from_dict(dict(checkpoint.config))
            text = getattr(config, "text_config", config)
            if text is not config and row is _CLIP:
                text.projection_dim = (
                    config.projection_dim
                )  # the text part of the configuration may state a different one
            length = int(text.max_position_embeddings)
        except Exception as error:  # each configuration class checks its fields in its own way
            reason = " ".join(str(error).split())
            raise InfoscopeError(
                f"{checkpoint.name}: config.json does not describe a {row.family} model ({reason}); fetch it again"
            ) from error
        weights = checkpoint.read_weights()
        text_weights = {name: weights[name] for name in weights if name.startswith(("text_model.", "text_projection."))}
        if not text_weights and any(name.startswith("vision_model.") for name in weights):
            raise _no_text(checkpoint)
        built = build_model(checkpoint.name, row.family, row.model_class, text, text_weights or weights, torch.float32)
        tokenizer = _tokenizer(checkpoint)
    _LOGGER.debug("text tower %s: %s on %s", checkpoint.name, row.family, on_device)
    return TextTower(checkpoint.name, row.family, length, row.padded, built.model.to(on_device), tokenizer)


def _tower_of(checkpoint: Checkpoint) -> _Tower:
    row = _TOWERS.get(str(checkpoint.config.get("model_type")).removesuffix("_text_model"))
    if row is None:
        raise _no_text(checkpoint)
    return row


def _no_text(checkpoint: Checkpoint) -> InfoscopeError:
    kind = checkpoint.config.get("model_type")
    return InfoscopeError(
        f"{checkpoint.name} ({kind}) has no text tower: name a whole CLIP, SigLIP or SigLIP 2 model by --text-model, "
        "or give --class-embeddings"
    )


def _tokenizer(checkpoint: Checkpoint) -> Any:
    """The tokenizer that the checkpoint's files describe, in the class that they name if that can be used."""
    import transformers

    directory = checkpoint.directory
    present = [name for name in TOKENIZER_FILES if (directory / name).is_file()]
    if not {"tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model"} & set(present):
        raise InfoscopeError(
            f"{checkpoint.name} has no tokenizer files; fetch the whole model, or give --class-embeddings"
        )
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        try:
            return transformers.AutoTokenizer.from_pretrained(directory, **options)
        except ImportError:  # SigLIP's own class needs sentencepiece; a generic one reads the same from tokenizer.json
            if "tokenizer.json" not in present:
                raise
            return transformers.PreTrainedTokenizerFast.from_pretrained(directory, **options)
    except ImportError as error:
        raise InfoscopeError(
            f"the tokenizer of {checkpoint.name} has no tokenizer.json: to read its {' and '.join(present)}, install "
            "sentencepiece and protobuf"
        ) from error
    except Exception as error:  # damaged tokenizer files raise errors of many types
        reason = " ".join(str(error).split())[:200]
        raise InfoscopeError(f"cannot read the tokenizer of {checkpoint.name} ({reason}); fetch it again") from error


def _tokenizer_hash(directory: Path) -> str:
    return hash_files([directory / name for name in TOKENIZER_FILES if (directory / name).is_file()])


def _key(source: dict[str, Any], classes: Classes) -> str:
    """A hash of everything that the embeddings depend on, which leaves out where the model is stored."""
    from importlib.metadata import version

    depends_on = {name: source[name] for name in ("weights_sha256", "tokenizer_sha256", "templates")}
    depends_on |= {"names": classes.names, "folders": classes.folders, "transformers": version("transformers")}
    return hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()
