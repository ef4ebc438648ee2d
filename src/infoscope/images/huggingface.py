"""Images of a Hugging Face data set."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from infoscope.errors import InfoscopeError
from infoscope.images.class_numbers import ClassNumbers, choose_column, number_classes
from infoscope.images.decode import UnreadableImageError, decode
from infoscope.images.ids import RowIds

if TYPE_CHECKING:
    import datasets


class HuggingFaceSource:
    """The first image column of a ``datasets.Dataset``; an image's id is its row.

    Encoded bytes are fetched row by row and decoded as files are; the data set is never read for its length.

    Raises:
        InfoscopeError: the data set has no image column.
    """

    def __init__(self, dataset: datasets.Dataset, name: str | None = None):
        _require_datasets(f"cannot open images from a {type(dataset).__name__}; if it is a data set, ")
        from datasets import Dataset
        from datasets import Image as ImageFeature

        if not isinstance(dataset, Dataset):
            raise InfoscopeError(
                f"cannot open images from a {type(dataset).__name__}: give a folder, a data set with rows "
                "(one split), arrays or PIL images"
            )
        columns = [column for column, feature in dataset.features.items() if isinstance(feature, ImageFeature)]
        if not columns:
            raise InfoscopeError(
                f"the data set has no image column (its columns: {', '.join(dataset.features)})"
                "; give one with a column of images"
            )
        self._column = columns[0]
        self._dataset = dataset.select_columns(self._column).cast_column(self._column, ImageFeature(decode=False))
        self._labels = _label_columns(dataset)
        self._label_rows = dataset.select_columns([*self._labels]) if self._labels else None
        self.name = name or f"dataset {dataset.info.dataset_name or dataset.builder_name or 'in memory'}"
        self.fingerprint = str(dataset._fingerprint)
        self.ids = RowIds(len(dataset))

    def stamp(self) -> str:
        """The data set's fingerprint."""
        return self.fingerprint

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Image.Image:
        return decode_cell(self._dataset[index][self._column])

    def class_numbers(self, column: str | None = None) -> ClassNumbers:
        """Every row's class, from a column of labels; no image is read.

        Args:
            column: its name; ``label``, or the only ``ClassLabel``, when not given.

        Raises:
            InfoscopeError: there is no such column, it must be chosen, or a row has no label.
        """
        column = choose_column(self._labels, column, self.name)
        assert self._label_rows is not None  # a column was chosen from it
        # As a whole: row by row takes a thousand times as long.
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


def decode_cell(cell: Mapping[str, Any] | None) -> Image.Image:
    """The image in a cell of an image column as data sets store it: its bytes, or the path of its file.

    Raises:
        UnreadableImageError: the cell is empty, or as for `decode`.
    """
    if cell is None or (cell["bytes"] is None and cell.get("path") is None):
        raise UnreadableImageError("the row has no image")
    return decode(io.BytesIO(cell["bytes"]) if cell["bytes"] is not None else Path(cell["path"]))


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

    try:
        dataset = load_from_disk(str(path))
    except Exception as error:  # arrow, JSON and file errors alike: the directory cannot be read
        raise InfoscopeError(
            f"cannot read the data set in {path}: {first_line(error)}; save it again, or name another"
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
        dataset = load_dataset(repository, split=split or "train")
    except Exception as error:  # network, naming and parsing errors alike
        raise InfoscopeError(
            f"no such folder of images: {name}, nor a data set of the hub ({first_line(error)}); check --images"
        ) from error
    return dataset


def _require_datasets(prefix: str = "to read a data set, ") -> None:
    try:
        import datasets  # noqa: F401
    except ImportError as error:
        raise InfoscopeError(f"{prefix}install infoscope[datasets]") from error


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
