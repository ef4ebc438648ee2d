"""Images in parquet shards, as the Hugging Face hub stores data sets; no second copy is made of them."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from infoscope.errors import InfoscopeError
from infoscope.images.class_numbers import ClassNumbers, choose_column, number_classes
from infoscope.images.decode import UnreadableImageError, decode, reason_of
from infoscope.images.huggingface import cell_bytes, first_of_pictures
from infoscope.images.ids import RowIds, StoredIn
from infoscope.images.own import kind_of_own
from infoscope.images.patterns import matching_files
from infoscope.images.recent import Recent
from infoscope.runtime.file_states import stamp_files

if TYPE_CHECKING:
    import pyarrow as pa

# train-00000-of-00002.parquet, with a hash in older data sets; train.parquet; 0000.parquet.
SHARD_NAME = re.compile(r"(?P<split>.*?)(?:-\d+-of-(?P<count>\d+)(?:-[0-9a-f]{16})?|[-_.]?\d+)?")
# The threads that decode a stretch of rows are at most at the end of one row group and the beginning of the next.
GROUPS_KEPT = 2
# A configuration's folder, its `data` or its splits' folders.
CONFIGURATION_DEPTH = 2


class ParquetSource:
    """The first image column of parquet files, read a row group at a time; an image's id is its row over all files.

    Only the footers are read here. Images in order cost one read of each row group; images in random order, as in
    training, may cost one each.

    Args:
        files: the parquet files, in order.
        name: the source as the user named it.
        below: the folders in which files may be that rows name in place of bytes; those of the parquet files when not
            given.

    Raises:
        InfoscopeError: pyarrow is missing, or a file is unreadable or has no image column.
    """

    def __init__(self, files: Sequence[Path], name: str, below: Sequence[Path] = ()):
        self.name = name
        self._files = [file.absolute() for file in files]
        self._below = [folder.absolute() for folder in below]
        digest = hashlib.sha256()
        self._column = ""
        groups: list[tuple[int, int, int]] = []
        for number, file in enumerate(self._files):
            footer, column, rows = _footer(file)
            if number and column != self._column:
                raise InfoscopeError(
                    f"{file} holds its images in {column}, the files before it in {self._column}; open them apart"
                )
            digest.update(footer)
            self._column = column
            groups += [(number, group, count) for group, count in enumerate(rows)]
        # Sizes and statistics of every row group are in the footers, so another content has others.
        self.fingerprint = digest.hexdigest()
        self._groups = [(number, group) for number, group, _ in groups]
        self._ends = np.cumsum([count for _, _, count in groups], dtype=np.int64)
        self.ids = RowIds(int(self._ends[-1]) if groups else 0)
        self._recent: Recent[pa.ChunkedArray] = Recent(GROUPS_KEPT)

    def stamp(self) -> str:
        """SHA-256 over every file's size and time of change."""
        return stamp_files(self._files)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Image.Image:
        return self.decoded(index, self.encoded(index))

    def encoded(self, index: int) -> bytes:
        """A cell's bytes.

        Raises:
            UnreadableImageError: it has none, or its row group cannot be read.
        """
        index = range(len(self))[index]
        group = int(np.searchsorted(self._ends, index, side="right"))
        cells = self._recent.get(group, self._read)
        row = index - int(self._ends[group])
        if len(cells) + row < 0:
            raise UnreadableImageError("its row group has fewer rows than when it was opened")
        beside = self._files[self._groups[group][0]].parent
        return cell_bytes(cells[row].as_py(), [beside, *self._below])

    def decoded(self, index: int, encoded: bytes) -> Image.Image:
        """The picture in a cell's bytes.

        Raises:
            UnreadableImageError: as for `decode`.
        """
        return decode(io.BytesIO(encoded))

    def forget(self) -> None:
        """Read anew whatever is asked for next."""
        self._recent.clear()

    def stored_in(self) -> StoredIn:
        """The files."""
        file = np.array([number for number, _ in self._groups], np.int64)
        rows = np.diff(self._ends, prepend=0)
        of_file = np.bincount(file, rows, len(self._files)).astype(np.int64)
        return StoredIn(self._files, np.cumsum([0, *of_file])[:-1].tolist(), len(self))

    def class_numbers(self, column: str | None = None) -> ClassNumbers:
        """Every row's class, from a column of labels; no image is read.

        Args:
            column: its name; ``label``, or the only one that the data set calls a class label, when not given.

        Raises:
            InfoscopeError: there is no such column, it must be chosen, or a row has no label.
        """
        import pyarrow as pa
        from pyarrow import parquet

        values: list[Any] = []
        names: tuple[str, ...] | None = None
        for number, file in enumerate(self._files):
            try:
                with parquet.ParquetFile(file) as opened:
                    if not number:
                        known = _label_columns(opened.schema_arrow)
                        column = choose_column(known, column, self.name)
                        names = known[column]
                    values += opened.read(columns=[column]).column(0).to_pylist()
            except (OSError, IndexError, pa.ArrowException) as error:
                raise InfoscopeError(
                    f"cannot read the column {column} of {file}: {reason_of(error)}"
                    "; fetch it again, or take it out of the folder"
                ) from error
        return number_classes(values, names, self.name)

    def _read(self, group: int) -> pa.ChunkedArray:
        import pyarrow as pa
        from pyarrow import parquet

        number, within = self._groups[group]
        file = self._files[number]
        try:
            with parquet.ParquetFile(file) as opened:
                return opened.read_row_group(within, columns=[self._column]).column(0)
        except (OSError, IndexError, pa.ArrowException) as error:
            raise UnreadableImageError(f"{file.name}, row group {within}: {reason_of(error)}") from error


def open_parquet(pattern: str) -> ParquetSource:
    """The parquet files that a path, a glob or a brace pattern names (see `matching_files`).

    Raises:
        InfoscopeError: as for `ParquetSource` and `matching_files`.
    """
    return ParquetSource(matching_files(pattern), pattern)


def open_parquet_folder(folder: Path, split: str, name: str, folder_name: str) -> ParquetSource | None:
    """The parquet files of one split in a folder, as the hub lays them out; None where there are none.

    They lie in the folder or in its ``data``; else in folders of configurations, or of splits, one or two down.

    Args:
        folder: the folder.
        split: the split; empty where none was named.
        name: the source as the user named it.
        folder_name: the folder as the user named it.

    Raises:
        InfoscopeError: a split or configuration must be chosen, there is none of that name, or some of its files are
            missing.
    """
    files = _split_files(folder, split, folder_name)
    return None if files is None else ParquetSource(files, name, [folder])


def _split_files(folder: Path, split: str, named: str) -> list[Path] | None:
    for place in (folder, folder / "data"):
        splits: dict[str, list[Path]] = {}
        for file in sorted(place.glob("*.parquet")):
            if not file.name.startswith(".") and file.is_file():
                splits.setdefault(_shard_name(file)["split"], []).append(file)
        if splits:
            break
    else:
        return _in_configuration(folder, split, named)
    if split not in splits and (split or len(splits) > 1):
        problem = f"has no split {split}" if split else "holds several splits"
        raise InfoscopeError(f"{named} {problem}; give one of {', '.join(f'{named}:{known}' for known in splits)}")
    files = splits[split] if split in splits else next(iter(splits.values()))
    count = _shard_name(files[0])["count"]
    if count is not None and int(count) != len(files):
        raise InfoscopeError(
            f"{files[0].parent} has {len(files)} of {int(count)} parquet files; fetch the others, or give a pattern "
            f"such as {files[0].parent}/*.parquet for these alone"
        )
    return files


def _in_configuration(folder: Path, split: str, named: str) -> list[Path] | None:
    """The files of the only configuration or split that has a folder of its own, or of the split that was named."""
    below = [place for place in (folder, folder / "data") if place.is_dir()]
    found = [each for place in below for each in sorted(place.iterdir()) if _holds_parquet(each, CONFIGURATION_DEPTH)]
    if not found:
        return None
    by_name = {each.name: each for each in found}
    if split in by_name:  # a folder a split
        return _split_files(by_name[split], "", f"{named}/{by_name[split].relative_to(folder)}")
    if len(found) > 1:
        end = f":{split}" if split else ""
        raise InfoscopeError(
            f"{named} holds several configurations or splits; give one of "
            + ", ".join(f"{named}/{each.relative_to(folder)}{end}" for each in found)
        )
    return _split_files(found[0], split, f"{named}/{found[0].relative_to(folder)}")


def _holds_parquet(folder: Path, depth: int) -> bool:
    """Whether a folder holds parquet files of images, so far down; not one that infoscope wrote."""
    if folder.name.startswith(".") or not folder.is_dir():
        return False
    entries = sorted(folder.iterdir())
    if kind_of_own(folder, {entry.name for entry in entries}) is not None:
        return False
    if any(entry.suffix == ".parquet" and not entry.name.startswith(".") and entry.is_file() for entry in entries):
        return True
    return depth > 1 and any(_holds_parquet(entry, depth - 1) for entry in entries)


def _shard_name(file: Path) -> re.Match[str]:
    match = SHARD_NAME.fullmatch(file.stem)
    assert match is not None  # every part of it may be empty
    return match


def _footer(file: Path) -> tuple[bytes, str, list[int]]:
    """The bytes of a parquet file's footer, the name of its first image column, and the rows of its row groups."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise InfoscopeError(f"to read {file.name} and other parquet files, install infoscope[datasets]") from error
    try:
        with file.open("rb") as stream:
            opened = parquet.ParquetFile(stream)
            rows = [opened.metadata.row_group(group).num_rows for group in range(opened.metadata.num_row_groups)]
            schema = opened.schema_arrow
            # A footer ends with its own length in four bytes and the format's mark in four.
            stream.seek(-8, 2)
            length = int.from_bytes(stream.read(4), "little")
            stream.seek(-8 - length, 2)
            footer = stream.read(length)
    except (OSError, pa.ArrowException) as error:
        raise InfoscopeError(
            f"cannot read {file}: {reason_of(error)}; fetch it again, or take it out of the folder"
        ) from error
    columns = _image_columns(schema)
    raw = [] if columns else _byte_columns(schema)
    if raw:
        columns = [first_of_pictures(raw, lambda column: _first(file, column))]
    if not columns:
        raise InfoscopeError(
            f"{file} has no image column (its columns: {', '.join(schema.names)}); give files with a column of images"
        )
    return footer, columns[0], rows


def _image_columns(schema: pa.Schema) -> list[str]:
    """The columns that hold images, going by what the data set says of itself where it does (sounds look alike)."""
    import pyarrow as pa

    columns = [
        field.name for field in schema if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
    ]
    features = _features(schema)
    if features is None:
        return columns
    return [column for column in columns if features.get(column, {"_type": "Image"}).get("_type") == "Image"]


def _byte_columns(schema: pa.Schema) -> list[str]:
    """The columns of bytes alone, as other writers than ``datasets`` store pictures."""
    import pyarrow as pa

    kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return [field.name for field in schema if any(is_kind(field.type) for is_kind in kinds)]


def _first(file: Path, column: str) -> Any:
    """A column's first value that is not null; None where there is none."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as opened:
            for batch in opened.iter_batches(batch_size=8, columns=[column]):
                return next((value for value in batch.column(0).to_pylist() if value is not None), None)
    except (OSError, pa.ArrowException):  # it will be told when its images are read
        pass
    return None


def _label_columns(schema: pa.Schema) -> dict[str, tuple[str, ...] | None]:
    """The columns that may hold labels, each with the names of its classes where the data set gives them."""
    import pyarrow as pa

    features = _features(schema) or {}
    return {
        field.name: tuple(features.get(field.name, {}).get("names") or ()) or None
        for field in schema
        if pa.types.is_integer(field.type) or pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
    }


def _features(schema: pa.Schema) -> dict[str, Any] | None:
    """What a data set says of its columns; None where it is not one of the hub's."""
    described = (schema.metadata or {}).get(b"huggingface")
    if described is None:
        return None
    try:
        features = json.loads(described)["info"]["features"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not isinstance(features, dict):
        return None
    # What is no object says nothing: lists of features are written as lists, and are neither images nor labels.
    return {column: feature for column, feature in features.items() if isinstance(feature, dict)}
