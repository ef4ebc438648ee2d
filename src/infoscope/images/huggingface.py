"""Images of a Hugging Face data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infoscope.errors import InfoscopeError, UnreadableImageError
from infoscope.images.classes import ClassNumbers, choose_column, number_classes
from infoscope.images.decode import decode, read_file, reason_of
from infoscope.images.stored import EncodedSource, RowIds
from infoscope.runtime.file_states import stamp_files

if TYPE_CHECKING:
    import datasets


class HuggingFaceSource(EncodedSource):
    """The first image column of a ``datasets.Dataset``; an image's id is its row.

    Encoded bytes are fetched row by row and decoded as files are; the data set is never read for its length. Where no
    column has the type of images, the first column of bytes is taken.

    Args:
        dataset: one split.
        name: the source as the user named it.
        below: the folders in which the files that rows name must be; None for a data set that the caller made.

    Raises:
        InfoscopeError: the data set has no image column.
    """

    def __init__(self, dataset: datasets.Dataset, name: str | None = None, below: Sequence[Path] | None = None):
        _require_datasets(f"cannot open images from a {type(dataset).__name__}; if it is a data set, ")
        from datasets import Dataset
        from datasets import Image as ImageFeature

        if not isinstance(dataset, Dataset):
            raise InfoscopeError(
                f"cannot open images from a {type(dataset).__name__}: give a folder, a data set with rows "
                "(one split), arrays or PIL images"
            )
        columns = [column for column, feature in dataset.features.items() if isinstance(feature, ImageFeature)]
        raw = [column for column, feature in dataset.features.items() if _is_bytes(feature)]
        if not columns and raw:
            columns = [first_of_pictures(raw, lambda column: dataset[0][column] if len(dataset) else None)]
        elif not columns:
            raise InfoscopeError(
                f"the data set has no image column (its columns: {', '.join(dataset.features)})"
                "; give one with a column of images"
            )
        self._column = columns[0]
        self._below = below
        # The caller may have left it in a format, or with columns, for training.
        dataset = dataset.with_format(None)
        self._dataset = dataset.select_columns(self._column)
        if self._column not in raw:
            self._dataset = self._dataset.cast_column(self._column, ImageFeature(decode=False))
        self._labels = _label_columns(dataset)
        self._label_rows = dataset.select_columns([*self._labels]) if self._labels else None
        super().__init__(
            name or f"dataset {dataset.info.dataset_name or dataset.builder_name or 'in memory'}",
            RowIds(len(dataset)),
            [file["filename"] for file in self._dataset.cache_files],
            str(dataset._fingerprint),
        )

    def stamp(self) -> str:
        """The data set's fingerprint, with the stamp of the files that it is read from."""
        return f"{self.fingerprint} {stamp_files(self.files)}" if self.files else self.fingerprint

    def encoded(self, index: int) -> bytes:
        """See `EncodedSource`."""
        return cell_bytes(self._dataset[index][self._column], self._below)

    def class_numbers(self, column: str | None = None) -> ClassNumbers:
        """Every row's class, from a column of labels; no image is read.

        Args:
            column: its name; ``label``, or the only ``ClassLabel``, when not given.

        Raises:
            InfoscopeError: there is no such column, it must be chosen, or a row has no label.
        """
        column = choose_column(self._labels, column, self.name)
        assert self._label_rows is not None  # a column was chosen from it
        # The whole column at once: row by row takes a thousand times as long.
        return number_classes(self._label_rows[column][:], self._labels[column], self.name)


def _label_columns(dataset: datasets.Dataset) -> dict[str, tuple[str, ...] | None]:
    """The columns that may hold labels, each with the names of its classes where it is a ``ClassLabel``."""
    from datasets import ClassLabel, Value

    columns: dict[str, tuple[str, ...] | None] = {}
    for column, feature in dataset.features.items():
        if isinstance(feature, ClassLabel):
            columns[column] = tuple(feature.names)
        elif isinstance(feature, Value) and feature.dtype.startswith(("int", "uint", "string", "large_string")):
            columns[column] = None
    return columns


def cell_bytes(cell: Mapping[str, Any] | bytes | None, below: Sequence[Path] | None = ()) -> bytes:
    """The bytes of the image in a cell: the cell itself, its field ``bytes``, or the file that its ``path`` names.

    Args:
        cell: the cell.
        below: the folders below which that file must be, once links are followed, so that whoever made the data set
            cannot have other files of this machine opened. A relative path starts at one of them. None for a data set
            that the caller made, whose paths are the caller's own.

    Raises:
        UnreadableImageError: the cell is empty, names a file elsewhere, or its file cannot be read.
    """
    content = cell.get("bytes") if isinstance(cell, Mapping) else cell
    if isinstance(content, bytes):
        return content
    path = cell.get("path") if isinstance(cell, Mapping) else None
    if content is not None or not isinstance(path, str | None):
        raise UnreadableImageError(f"the row holds a {type(content or path).__name__} in place of an image's bytes")
    if not path:
        raise UnreadableImageError("the row has no image")
    return read_file(Path(path) if below is None else _file_below(path, below))


def _file_below(path: str, folders: Sequence[Path]) -> Path:
    """The regular file that a cell names, which must be below one of the folders.

    Raises:
        UnreadableImageError: there is none.
    """
    for folder in folders:
        try:
            root = folder.resolve()
            file = (root / path).resolve()
            if file.is_relative_to(root) and file.is_file():
                return file
        except (OSError, ValueError, RuntimeError):  # a loop of links, or a name that no file can have
            continue
    raise UnreadableImageError(f"the row has no bytes, and {path!r} is no file below the data set's folder")


def _is_bytes(feature: Any) -> bool:
    return str(getattr(feature, "dtype", "")) in ("binary", "large_binary")


def first_of_pictures(columns: Sequence[str], first_value: Callable[[str], Any]) -> str:
    """The first column of bytes whose first row is a picture; the very first where none is.

    Args:
        columns: columns of bytes, at least one.
        first_value: gives a column's first value.
    """
    for column in columns if len(columns) > 1 else ():
        try:
            decode(cell_bytes(first_value(column)))
        except UnreadableImageError:
            continue
        return column
    return columns[0]


def cached_folders() -> list[Path]:
    """Where this machine caches the hub's data sets and their files."""
    import datasets
    from huggingface_hub import constants

    return [Path(datasets.config.HF_DATASETS_CACHE), Path(constants.HF_HUB_CACHE)]


def is_saved_dataset(path: Path) -> bool:
    """Whether a directory was written by a data set's ``save_to_disk``."""
    return (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()


def load_saved(path: Path) -> datasets.Dataset:
    """The data set that ``save_to_disk`` wrote.

    Raises:
        InfoscopeError: the ``datasets`` extra is missing, the files are damaged, or a split must be chosen.
    """
    _require_datasets()
    from datasets import DatasetDict, load_from_disk

    for file in path.rglob("*"):
        if file.exists() and not (file.is_file() or file.is_dir()):
            raise InfoscopeError(f"cannot read the data set in {path}: {file.name} is a pipe or device; save it again")
    try:
        dataset = load_from_disk(str(path))
        # Arrow maps the files and believes their offsets: a wrong one would end the process when the row is read.
        for split in dataset.values() if isinstance(dataset, DatasetDict) else [dataset]:
            split.data.table.validate(full=True)
    except Exception as error:  # arrow, JSON or the file system: either way the directory cannot be read
        raise InfoscopeError(
            f"cannot read the data set in {path}: {reason_of(error)}; save it again, or name another"
        ) from error
    if isinstance(dataset, DatasetDict):
        raise InfoscopeError(f"{path} holds several splits; give one of {', '.join(str(path / s) for s in dataset)}")
    return dataset


def load_hub(name: str) -> datasets.Dataset:
    """The data set ``owner/name[:split]`` of the hub.

    Raises:
        InfoscopeError: the ``datasets`` extra is missing, or there is no such data set or split within reach.
    """
    _require_datasets(f"no such folder of images: {name}; to read it as a data set of the hub, ")
    from datasets import load_dataset

    repository, _, split = name.partition(":")
    try:
        return load_dataset(repository, split=split or "train")
    except Exception as error:  # the network, the name or the parser
        raise InfoscopeError(
            f"no such folder of images: {name}, nor a data set of the hub ({reason_of(error)}); check --images"
        ) from error


def _require_datasets(prefix: str = "to read a data set, ") -> None:
    try:
        import datasets  # noqa: F401
    except ImportError as error:
        raise InfoscopeError(f"{prefix}install infoscope[datasets]") from error
