"""The manifest of a run: everything needed to read it or to repeat it."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from infoscope.errors import InfoscopeError
from infoscope.storage.atomic import read_json, write_json

FORMAT_VERSION = 2


@dataclass(frozen=True)
class ModelRecord:
    """The backbone: where it came from, which weights, the site its tokens are read at, and how it was run.

    ``mean`` and ``std`` are those of the normalised pixels; the input has ``grid * patch_size`` pixels a side.
    ``reads`` is what of the block is read: its ``output``, or its MLP's ``neurons``.
    """

    name: str
    revision: str | None
    sha256: str
    family: str
    block: int
    patch_size: int
    grid: int
    prefix_tokens: int
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    dtype: str = "float32"
    precision: str = "float32"
    device: str = "cpu"
    reads: str = "output"


@dataclass(frozen=True)
class DictionaryRecord:
    """The SAE: where it came from, which weights, how many features and what activation function.

    Of a dictionary that is no SAE, ``format`` is its kind: channels, pca, neurons or directions.
    """

    name: str
    format: str
    sha256: str
    features: int
    activation: str


@dataclass(frozen=True)
class SkippedImage:
    """An image that could not be read; its index stays its own."""

    index: int
    id: str
    reason: str


@dataclass(frozen=True)
class ImagesRecord:
    """The pool of images: source, length (skipped ones included), and a hash over the ids in order."""

    source: str
    count: int
    ids_sha256: str
    skipped: list[SkippedImage]

    @property
    def read(self) -> int:
        """How many of them were read."""
        return self.count - len(self.skipped)


@dataclass(frozen=True)
class FitRecord:
    """Does the SAE fit the model on these images?

    Attributes:
        fvu: fraction of variance unexplained, against the mean token (whose own is 1), on the sample; None when no
            image of it can be read.
        l0: codes above 0 per patch token, over all images that were passed over.
        dead: share of features that none of these images activates.
        sample: patch tokens of the sample.
        sample_l0: as ``l0``, on the sample.
        sample_dead: as ``dead``, on the sample.
        k: codes a token keeps under TopK; None under other activation functions.
        token_norm: mean Euclidean norm of the sample's tokens, as the model gives them.
        trained_norm: the same of the tokens the SAE was trained on, where it says so.
        warnings: what speaks against the SAE, a line each; empty where nothing does, None in runs from before this was
            judged.
        note: of a dictionary that was not trained to reconstruct tokens, what its FVU means, or why it has none.
    """

    fvu: float | None
    l0: float
    dead: float
    sample: int
    sample_l0: float | None = None
    sample_dead: float | None = None
    k: int | None = None
    token_norm: float | None = None
    trained_norm: float | None = None
    warnings: list[str] | None = None
    note: str | None = None


@dataclass(frozen=True)
class Manifest:
    """What ``manifest.json`` holds. Timings are seconds by stage."""

    format_version: int
    command: str
    options: dict[str, Any]
    model: ModelRecord
    dictionary: DictionaryRecord
    images: ImagesRecord
    software: dict[str, str]
    seed: int
    timings: dict[str, float]
    fit: FitRecord

    def write(self, path: Path) -> None:
        """Write as JSON, atomically."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read ``manifest.json``.

        Raises:
            InfoscopeError: the file is missing, not JSON, lacks a field, or is of another format version.
        """
        value = read_json(path)
        version = value.get("format_version") if isinstance(value, dict) else None
        if version != FORMAT_VERSION:
            older = isinstance(version, int) and version < FORMAT_VERSION
            raise InfoscopeError(
                f"{path} has format_version {version}; this infoscope reads {FORMAT_VERSION}: "
                + ("it lacks the controls, so measure again into a new directory" if older else "measure again")
                + ", or install the version that wrote it"
            )
        try:
            images = value["images"]
            return cls(
                **{each.name: value[each.name] for each in fields(cls)}
                | {
                    "model": ModelRecord(**value["model"]),
                    "dictionary": DictionaryRecord(**value["dictionary"]),
                    "images": ImagesRecord(
                        **images | {"skipped": [SkippedImage(**skipped) for skipped in images["skipped"]]}
                    ),
                    "fit": FitRecord(**value["fit"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise InfoscopeError(f"{path} is not a manifest of this format ({error}); measure again") from error


def software_versions() -> dict[str, str]:
    """Versions of what a measurement's numbers can depend on.

    Example:
        >>> sorted(software_versions())
        ['infoscope', 'numba', 'numpy', 'pillow', 'python', 'torch', 'transformers']
    """
    packages = ["infoscope", "numba", "numpy", "pillow", "torch", "transformers"]
    return {"python": platform.python_version()} | {package: metadata.version(package) for package in packages}
