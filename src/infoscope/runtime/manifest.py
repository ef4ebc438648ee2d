"""The manifest of a run: everything needed to read it or to repeat it."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

from infoscope.errors import InfoscopeError
from infoscope.runtime.json_values import read_json, to_json
from infoscope.runtime.seal import CHECKSUM, FILES, FileSum, check_record, sums_of, write_sealed
from infoscope.runtime.typed import AtLeast0, Count, Positive, Range, Share, from_json

FORMAT_VERSION = 2
# What to do where a file of a run is damaged.
MEASURE_AGAIN = "restore it, or measure again into a new directory"

# Patches of a grid are numbered in 16 bits.
Grid = Annotated[int, Range(1, 256)]


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
    block: Count
    patch_size: Positive
    grid: Grid
    prefix_tokens: Count
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
    features: Positive
    activation: str


@dataclass(frozen=True)
class SkippedImage:
    """An image that could not be read; its index stays its own."""

    index: Count
    id: str
    reason: str


@dataclass(frozen=True)
class ImagesRecord:
    """The pool of images: source, length (skipped ones included), and a hash over the ids in order.

    ``notes`` are files that look like images and have no index, since no program here reads them, and images whose
    values leave a doubt, a line each. ``stamp`` is the source's: of files, a hash over their sizes and times.
    ``contents_sha256`` is a hash over the hashes of all images' bytes, where all were read, and ``contents`` are these
    hashes themselves where they are few: eight bytes an image, in order, as base64. ``contents_of`` is what they are
    over: ``bytes``, or ``pixels`` where the source has none. These four are None in runs from before they were kept.
    """

    source: str
    count: Count
    ids_sha256: str
    skipped: list[SkippedImage]
    notes: list[str] = field(default_factory=list)
    stamp: str | None = None
    contents_sha256: str | None = None
    contents: str | None = None
    contents_of: Literal["bytes", "pixels"] | None = None

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
        l0: codes above 0 per patch token, over all images.
        dead: share of features that none of these images activates.
        sample: patch tokens of the sample.
        sample_l0: as ``l0``, on the sample.
        sample_dead: as ``dead``, on the sample.
        k: codes a token keeps under TopK; None under other activation functions.
        token_norm: mean Euclidean norm of the sample's tokens, as the model gives them.
        trained_norm: the same of the tokens the SAE was trained on, where it says so.
        warnings: what speaks against the SAE, a line each; empty where nothing does, None in runs that are older than
            this judgement.
        note: of a dictionary that was not trained to reconstruct tokens, what its FVU means, or why it has none.
    """

    fvu: float | None
    l0: AtLeast0
    dead: Share
    sample: Count
    sample_l0: AtLeast0 | None = None
    sample_dead: Share | None = None
    k: Count | None = None
    token_norm: AtLeast0 | None = None
    trained_norm: AtLeast0 | None = None
    warnings: list[str] | None = None
    note: str | None = None


@dataclass(frozen=True)
class OptionsRecord:
    """The options that the tables are read by, where a manifest has them; it may have others, which are only shown."""

    top_images: Positive | None = None
    ranks: Positive | None = None
    shift: Count | None = None
    shifts: list[Count] | None = None
    min_pairs: Positive | None = None
    quantile_images: Count | None = None
    resize: str | None = None
    rank_by: str | None = None
    rank_view: str | None = None
    ground_distance: str | None = None
    empty_as: str | None = None


@dataclass(frozen=True)
class Manifest:
    """What ``manifest.json`` holds. Timings are seconds by stage.

    Attributes:
        format_version: of the run directory.
        command: how the measurement was asked for.
        options: all of them, with defaults.
        model: the backbone.
        dictionary: the SAE, or what is measured in its place.
        images: the pool.
        software: versions.
        seed: of what is drawn.
        timings: seconds by stage.
        fit: whether the SAE fits the model.
        rule_version: of the rules that classes and trust follow from: 1, thresholds; 4, posteriors (2, 3: earlier
            forms).
        files: by name, the checksum of every other file of the run; None where it is not written, or was written
            before there were any. They say nothing of what was measured, so manifests are compared without them.
        sealed: whether the manifest was checked against a checksum of its own.
    """

    format_version: int
    command: str
    options: dict[str, Any]
    model: ModelRecord
    dictionary: DictionaryRecord
    images: ImagesRecord
    software: dict[str, str]
    seed: int
    timings: dict[str, AtLeast0]
    fit: FitRecord
    rule_version: Positive = 1
    files: dict[str, FileSum] | None = field(default=None, compare=False)
    sealed: bool = field(default=False, compare=False)

    def write(self, path: Path, files: Sequence[str] = (), known: Mapping[str, FileSum] | None = None) -> None:
        """Write as JSON, atomically, with checksums of the run's other files and of itself.

        Args:
            path: ``manifest.json``.
            files: the names of the others, which are in the same folder already.
            known: the checksums of those that are not.

        Raises:
            InfoscopeError: a file cannot be read, or the manifest not be written.
        """
        entries = to_json(self)
        del entries["sealed"]
        write_sealed(path, entries, files, known=known)

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read ``manifest.json``.

        Raises:
            InfoscopeError: the file is missing, not JSON, lacks a field, has one of another type, is of another format
                version, or was changed since it was written.
        """
        value = read_json(path)
        version = value.get("format_version") if isinstance(value, dict) else None
        if version != FORMAT_VERSION:
            older = isinstance(version, int) and version < FORMAT_VERSION
            raise InfoscopeError(
                f"{path} has format_version {str(version)[:20]}; this infoscope reads {FORMAT_VERSION}: "
                + ("it lacks the controls, so measure again into a new directory" if older else "measure again")
                + ", or install the version that wrote it"
            )
        files, sealed = sums_of(value, path), CHECKSUM in value
        entries = {name: entry for name, entry in value.items() if name not in (CHECKSUM, FILES)}
        try:
            manifest = from_json(cls, entries | {"files": None, "sealed": sealed})
            from_json(OptionsRecord, manifest.options, other_entries=True)
        except ValueError as error:
            raise InfoscopeError(f"{path} is not a manifest of this format ({error}); measure again") from error
        check_record(value, path, MEASURE_AGAIN)
        return replace(manifest, files=files)


def software_versions() -> dict[str, str]:
    """Versions of what a measurement's numbers can depend on.

    Example:
        >>> sorted(software_versions())
        ['infoscope', 'numba', 'numpy', 'pillow', 'python', 'torch', 'transformers']
    """
    packages = ["infoscope", "numba", "numpy", "pillow", "torch", "transformers"]
    return {"python": platform.python_version()} | {package: metadata.version(package) for package in packages}
