"""The embeddings of classes, on disk and in memory, and the scale of the logits that they give."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from infoscope.analyses.zeroshot.classes import Classes
from infoscope.errors import InfoscopeError, few
from infoscope.runtime.arrays import read_npy, unreadable
from infoscope.runtime.atomic import atomic_write, remedy_of
from infoscope.runtime.seal import CHECKSUM

DEFAULT_SCALE = 100.0
"""The largest scale that Radford et al. 2021 (arXiv 2103.00020), section 2.5, allow in training."""


@dataclass(frozen=True)
class LogitScale:
    """Scale and bias of logits: a logit is ``scale * cosine + bias``.

    Attributes:
        scale: above 0; the exponential of what CLIP and SigLIP call ``logit_scale``.
        bias: the bias that SigLIP has; None, which counts as 0, where nothing states one.
        source: where the scale comes from: ``option``, ``checkpoint``, ``class embeddings`` or ``default``.
    """

    scale: float
    bias: float | None = None
    source: str = "default"

    def __post_init__(self) -> None:
        if not (self.scale > 0 and math.isfinite(self.scale)):
            raise InfoscopeError(f"a logit scale of {self.scale} orders no classes: give a number above 0")
        if self.bias is not None and not math.isfinite(self.bias):
            raise InfoscopeError(f"a logit bias of {self.bias} is not a number; give one by --logit-bias")


def read_logit_scale(weight_files: Sequence[Path]) -> LogitScale | None:
    """Scale and bias from a checkpoint; None where it has no ``logit_scale``, such as one of a vision model alone.

    Raises:
        InfoscopeError: a file cannot be read, or the scale is not one finite number.

    Example:
        >>> import tempfile, torch
        >>> from safetensors.torch import save_file
        >>> file = Path(tempfile.mkdtemp()) / "model.safetensors"
        >>> save_file({"logit_scale": torch.tensor(4.6052), "logit_bias": torch.tensor([-12.0])}, file)
        >>> logits = read_logit_scale([file])
        >>> round(logits.scale, 1), logits.bias, logits.source
        (100.0, -12.0, 'checkpoint')
    """
    tensors = read_tensors(weight_files, ("logit_scale", "logit_bias"))
    if "logit_scale" not in tensors:
        return None
    scale, bias = tensors["logit_scale"], tensors.get("logit_bias")
    if scale.numel() != 1 or (bias is not None and bias.numel() != 1):
        raise InfoscopeError(f"{weight_files[0].parent}: logit_scale is not one number; fetch the model again")
    try:
        factor = math.exp(float(scale))
    except OverflowError:
        factor = math.inf
    if not 0 < factor < math.inf:  # refuses NaN too
        raise InfoscopeError(
            f"{weight_files[0].parent}: logit_scale is {float(scale)}, the logarithm of no scale; fetch the model again"
        )
    return LogitScale(factor, None if bias is None else float(bias), "checkpoint")


def read_tensors(weight_files: Sequence[Path], names: Sequence[str]) -> dict[str, Tensor]:
    """The tensors of the given names that a checkpoint has, in float32.

    Raises:
        InfoscopeError: a file cannot be read.
    """
    tensors: dict[str, Tensor] = {}
    for file in weight_files:
        try:
            with safe_open(file, "pt") as stored:
                for name in set(names) & set(stored.keys()):
                    tensors[name] = stored.get_tensor(name).to(torch.float32)
        except Exception as error:  # a wrong header makes safetensors and torch fail in many ways
            raise unreadable(file, error) from error
    return tensors


TENSOR = "embeddings"


@dataclass(frozen=True, eq=False)
class ClassEmbeddings:
    """One vector of length 1 for each class.

    Attributes:
        classes: the classes, in order.
        vectors: ``[class, width]``, of unit length.
        logits: scale and bias that belong to them, where these are known.
        source: where they come from, for the record: a file, or model, tokenizer and templates.
    """

    classes: Classes
    vectors: Float32[np.ndarray, "class width"]
    logits: LogitScale | None = None
    source: dict[str, Any] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Length of a vector."""
        return int(self.vectors.shape[1])

    def chosen(self, numbers: list[int]) -> ClassEmbeddings:
        """The embeddings of the classes with the given numbers, in that order."""
        return replace(self, classes=self.classes.chosen(numbers), vectors=self.vectors[numbers])


def class_embeddings(
    classes: Classes,
    vectors: np.ndarray,
    logits: LogitScale | None = None,
    source: dict[str, Any] | None = None,
) -> ClassEmbeddings:
    """Check vectors and scale them to unit length.

    Args:
        classes: the classes.
        vectors: ``[class, width]``, of any length above 0.
        logits: scale and bias, where they are known.
        source: where they come from.

    Raises:
        InfoscopeError: they are not one finite vector for each class, or one of them is zero.

    Example:
        >>> class_embeddings(Classes(("cat", "dog")), np.array([[3.0, 4.0], [0.0, 2.0]])).vectors.tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 1.0]]
        >>> class_embeddings(Classes(("cat", "dog")), np.array([[3.0, 4.0], [0.0, 0.0]]))
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: class embeddings: the one for dog is all zero, which has no direction; create
        it again
    """
    source = source or {}
    name = source.get("file", "class embeddings")
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating):
        raise InfoscopeError(f"{name}: class embeddings are [class, width] of floats; these are {_shape(vectors)}")
    if len(vectors) != len(classes):
        raise InfoscopeError(
            f"{name} has {len(vectors):,} embeddings for the {len(classes):,} classes of {classes.source}; "
            "give each class one embedding"
        )
    exact = vectors.astype(np.float64)
    for problem, broken in (
        ("is NaN or infinite", ~np.isfinite(exact).all(1)),
        ("is all zero, which has no direction", ~exact.any(1)),
    ):
        if broken.any():
            which = classes.names[int(np.argmax(broken))]
            raise InfoscopeError(f"{name}: the one for {which} {problem}; create it again")
    # Divided by the largest entry first, so that squares neither overflow nor underflow.
    exact /= np.abs(exact).max(1, keepdims=True)
    unit = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    return ClassEmbeddings(classes, unit.astype(np.float32), logits, source)


def write_embeddings(path: Path | str, embeddings: ClassEmbeddings) -> None:
    """Write a safetensors file, with names, folders, scale and source in its metadata.

    Raises:
        InfoscopeError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "classes.safetensors"
        >>> write_embeddings(file, class_embeddings(Classes(("cat", "dog")), np.eye(2, 3), LogitScale(20.0)))
        >>> read = read_embeddings(file)
        >>> read.classes.names, read.width, read.logits.scale
        (('cat', 'dog'), 3, 20.0)
    """
    path = Path(path)
    metadata = {"names": json.dumps(embeddings.classes.names)}
    if embeddings.classes.folders is not None:
        metadata["folders"] = json.dumps(embeddings.classes.folders)
    if embeddings.logits is not None:
        metadata["logits"] = json.dumps({"scale": embeddings.logits.scale, "bias": embeddings.logits.bias})
    metadata["source"] = json.dumps(embeddings.source)
    vectors = np.ascontiguousarray(embeddings.vectors)
    try:
        with atomic_write(path) as temporary:
            save_file({TENSOR: vectors}, temporary, metadata | {CHECKSUM: _checksum(vectors, metadata)})
    except SafetensorError as error:  # which is how safetensors reports a full disk
        raise InfoscopeError(f"cannot write {path}: {error}; {remedy_of(error)}") from error


def _checksum(vectors: np.ndarray, metadata: Mapping[str, str]) -> str:
    """A checksum of vectors and metadata, since one flipped bit can make a vector that of another class."""
    text = json.dumps({key: value for key, value in metadata.items() if key != CHECKSUM}, sort_keys=True)
    return hashlib.sha256(text.encode() + np.ascontiguousarray(vectors).tobytes()).hexdigest()


def read_embeddings(path: Path | str, classes: Classes | None = None) -> ClassEmbeddings:
    """Read class embeddings.

    Args:
        path: a safetensors file with one tensor ``[class, width]`` (or one called ``embeddings``), whose metadata may
            hold JSON lists of the names under ``names`` and of the folders under ``folders``; or an ``.npy`` file.
        classes: the classes, in the order of the file; needed where the file does not name them.

    Raises:
        InfoscopeError: the file cannot be read, has no such tensor, names no classes or other ones than ``classes``, or
            as for `class_embeddings`.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InfoscopeError(f"no such file of class embeddings: {path}; check --class-embeddings")
    suffix = path.suffix.lower()
    metadata: dict[str, str] = {}
    if suffix == ".npy":
        vectors = read_npy(path, "cannot be read", "write it with numpy.save, without objects")
    elif suffix == ".safetensors":
        vectors, metadata = _read_safetensors(path)
    else:
        raise InfoscopeError(f"{path} is neither .safetensors nor .npy; give class embeddings as one of these")
    named = _classes_in(metadata, path)
    if classes is None and named is None:
        raise InfoscopeError(f"{path} names no classes; give their names, in its order, by --classes")
    if classes is not None and named is not None and classes.names != named.names:
        differing = [pair for pair in zip(classes.names, named.names, strict=False) if pair[0] != pair[1]]
        what = f"{differing[0][0]!r} for {differing[0][1]!r}" if differing else f"{len(classes)} for {len(named)} names"
        raise InfoscopeError(f"{classes.source} and {path} name different classes ({what}); leave out --classes")
    # Names given by hand must be the file's own, but the file may also know the folders.
    chosen = named if classes is None or (classes.folders is None and named is not None) else classes
    assert chosen is not None
    source = _json(metadata, "source", path) or {}
    return class_embeddings(chosen, vectors, _logits_in(metadata, path), {**source, "file": str(path)})


def _read_safetensors(path: Path) -> tuple[np.ndarray, dict[str, str]]:
    try:
        with safe_open(path, "pt") as tensors:
            names, metadata = list(tensors.keys()), dict(tensors.metadata() or {})
            name = TENSOR if TENSOR in names else names[0] if len(names) == 1 else None
            if name is None:
                raise InfoscopeError(f"{path} holds {few(names) or 'nothing'}; call the class embeddings {TENSOR!r}")
            if spare := sorted(set(names) - {name}):
                raise InfoscopeError(
                    f"{path} holds {few(spare)} beside {name}, which nothing here reads; leave it out, and give a "
                    "logit scale by --logit-scale"
                )
            tensor = tensors.get_tensor(name)
    except InfoscopeError:
        raise
    except Exception as error:  # a wrong header makes safetensors and torch fail in many ways
        raise unreadable(path, error, "create it again") from error
    if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        given = f"{list(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"
        raise InfoscopeError(f"{path}: class embeddings are [class, width] of floats; these are {given}")
    # Converted by torch, since numpy has no bfloat16.
    vectors = tensor.to(torch.float32).numpy()
    if CHECKSUM in metadata and metadata[CHECKSUM] != _checksum(vectors, metadata):
        raise InfoscopeError(f"{path} is damaged: it does not match its own checksum; restore it, or create it again")
    return vectors, metadata


def _classes_in(metadata: dict[str, str], path: Path) -> Classes | None:
    names, folders = _json(metadata, "names", path), _json(metadata, "folders", path)
    if names is None:
        return None
    for key, words in (("names", names), ("folders", folders)):
        if words is not None and not (isinstance(words, list) and all(isinstance(word, str) for word in words)):
            raise InfoscopeError(f"{path}: {key} in its metadata is not a JSON list of strings; create it again")
    if folders is not None and len(folders) != len(names):
        raise InfoscopeError(f"{path} has {len(names)} names and {len(folders)} folders; create it again")
    return Classes(tuple(names), None if folders is None else tuple(folders), str(path))


def _logits_in(metadata: dict[str, str], path: Path) -> LogitScale | None:
    value = _json(metadata, "logits", path)
    if value is None:
        return None
    try:
        bias = value["bias"]
        return LogitScale(float(value["scale"]), None if bias is None else float(bias), "class embeddings")
    except (KeyError, TypeError, ValueError) as error:
        raise InfoscopeError(
            f"{path}: logits in its metadata has no scale and bias ({error}); create it again"
        ) from error


def _json(metadata: dict[str, str], key: str, path: Path) -> Any:
    try:
        return json.loads(metadata[key]) if key in metadata else None
    except (ValueError, RecursionError) as error:
        raise InfoscopeError(f"{path}: {key} in its metadata is not JSON ({error}); create it again") from error


def _shape(vectors: np.ndarray) -> str:
    return f"{list(vectors.shape)} of {vectors.dtype}"
