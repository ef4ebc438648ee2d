"""Images in parquet shards, as the Hugging Face hub stores data sets; no second copy is made of them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from infoscope.errors import InfoscopeError, UnreadableImageError
from infoscope.images.classes import ClassNumbers, choose_column, number_classes
from infoscope.images.decode import reason_of
from infoscope.images.huggingface import cell_bytes, first_of_pictures
from infoscope.images.outputs import kind_of_output
from infoscope.images.stored import EncodedSource, Recent, RowIds, StoredIn

if TYPE_CHECKING:
    import pyarrow as pa

# train-00000-of-00002.parquet, with a hash in older data sets; train.parquet; 0000.parquet.
SHARD_NAME = re.compile(r"(?P<split>.*?)(?:-\d+-of-(?P<count>\d+)(?:-[0-9a-f]{16})?|[-_.]?\d+)?")
# Threads that decode consecutive rows are at work in at most two row groups, one's end and the next one's beginning.
GROUPS_KEPT = 2
# How deep a configuration's files may lie below its folder: in its `data`, or in a folder for each split.
CONFIGURATION_DEPTH = 2


class ParquetSource(EncodedSource):
    """The first image column of parquet files, read a row group at a time; an image's id is its row over all files.

    Only the footers are read when the source is opened. Images in order cost one read of each row group; images in
    random order, as in training, may cost one read each.

    Args:
        files: the parquet files, in order.
        name: the source as the user named it.
        below: folders, besides those of the parquet files, in which the files that rows name may be.

    Raises:
        InfoscopeError: pyarrow is missing, or a file is unreadable or has no image column.
    """

    files: list[Path]

    def __init__(self, files: Sequence[Path], name: str, below: Sequence[Path] = ()):
        files = [file.absolute() for file in files]
        self._below = [folder.absolute() for folder in below]
        self._column = ""
        # For each row group its file and its number within that file; and the row after its last.
        self._groups: list[tuple[int, int]] = []
        rows: list[int] = []
        digest = hashlib.sha256()
        for number, file in enumerate(files):
            footer, column, group_rows = _footer(file)
            if number and column != self._column:
                raise InfoscopeError(
                    f"{file} holds its images in {column}, the files before it in {self._column}; open them apart"
                )
            digest.update(footer)
            self._column = column
            self._groups += [(number, group) for group in range(len(group_rows))]
            rows += group_rows
        self._ends = np.cumsum(rows, dtype=np.int64)
        self._recent: Recent[pa.ChunkedArray] = Recent(GROUPS_KEPT)
        # Footers hold the sizes and statistics of every row group, so other content has other footers.
        super().__init__(name, RowIds(sum(rows)), files, digest.hexdigest())

    def encoded(self, index: int) -> bytes:
        """See `EncodedSource`."""
        index = range(len(self))[index]
        group = int(np.searchsorted(self._ends, index, side="right"))
        cells = self._recent.get(group, self._read)
        row = index - int(self._ends[group])  # from the group's end, so negative
        if len(cells) + row < 0:
            raise UnreadableImageError("its row group has fewer rows than when it was opened")
        beside = self.files[self._groups[group][0]].parent
        return cell_bytes(cells[row].as_py(), [beside, *self._below])

    def forget(self) -> None:
        """Read the bytes again, whatever is asked for next."""
        self._recent.clear()

    def stored_in(self) -> StoredIn:
        """The parquet files."""
        file_of_group = np.array([number for number, _ in self._groups], np.int64)
        rows = np.diff(self._ends, prepend=0)
        rows_of_file = np.bincount(file_of_group, rows, len(self.files)).astype(np.int64)
        return StoredIn(self.files, np.cumsum([0, *rows_of_file])[:-1].tolist(), len(self))

    def class_numbers(self, column: str | None = None) -> ClassNumbers:
        """Every row's class, from a column of labels; no image is read.

        Args:
            column: its name; ``label``, or the only one that the data set calls a class label, when not given.

        Raises:
            InfoscopeError: there is no such column, it must be chosen, or a row has no label.
        """
        import pyarrow as pa
        from pyarrow import parquet

        labels: list[Any] = []
        names: tuple[str, ...] | None = None
        for number, file in enumerate(self.files):
            try:
                with parquet.ParquetFile(file) as opened:
                    if not number:
                        candidates = _label_columns(opened.schema_arrow)
                        column = choose_column(candidates, column, self.name)
                        names = candidates[column]
                    labels += opened.read(columns=[column]).column(0).to_pylist()
            except (OSError, IndexError, pa.ArrowException) as error:
                raise InfoscopeError(
                    f"cannot read the column {column} of {file}: {reason_of(error)}"
                    "; fetch it again, or take it out of the folder"
                ) from error
        return number_classes(labels, names, self.name)

    def _read(self, group: int) -> pa.ChunkedArray:
        import pyarrow as pa
        from pyarrow import parquet

        number, within = self._groups[group]
        file = self.files[number]
        try:
            with parquet.ParquetFile(file) as opened:
                return opened.read_row_group(within, columns=[self._column]).column(0)
        except (OSError, IndexError, pa.ArrowException) as error:
            raise UnreadableImageError(f"{file.name}, row group {within}: {reason_of(error)}") from error


def split_files(folder: Path, split: str, named: str) -> list[Path] | None:
    """The parquet files of one split in a folder, as the hub lays them out; None where there are none.

    They lie in the folder or in its ``data``; else in folders of configurations or splits, one or two levels down.

    Args:
        folder: the folder.
        split: the split; empty where the user named none.
        named: the folder as the user named it.

    Raises:
        InfoscopeError: the user must choose a split or configuration, there is none of that name, or some of its files
            are missing.
    """
    for directory in (folder, folder / "data"):
        splits: dict[str, list[Path]] = {}
        for file in sorted(directory.glob("*.parquet")):
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
    parents = [parent for parent in (folder, folder / "data") if parent.is_dir()]
    below = [entry for parent in parents for entry in sorted(parent.iterdir())]
    holders = [entry for entry in below if _holds_parquet(entry, CONFIGURATION_DEPTH)]
    if not holders:
        return None
    by_name = {holder.name: holder for holder in holders}
    if split in by_name:  # each split has a folder
        return split_files(by_name[split], "", f"{named}/{by_name[split].relative_to(folder)}")
    if len(holders) > 1:
        end = f":{split}" if split else ""
        raise InfoscopeError(
            f"{named} holds several configurations or splits; give one of "
            + ", ".join(f"{named}/{holder.relative_to(folder)}{end}" for holder in holders)
        )
    return split_files(holders[0], split, f"{named}/{holders[0].relative_to(folder)}")


def _holds_parquet(folder: Path, depth: int) -> bool:
    """Whether a folder, or one up to ``depth - 1`` levels below, holds parquet files not written by infoscope."""
    if folder.name.startswith(".") or not folder.is_dir():
        return False
    entries = sorted(folder.iterdir())
    if kind_of_output(folder, {entry.name for entry in entries}) is not None:
        return False
    if any(entry.suffix == ".parquet" and not entry.name.startswith(".") and entry.is_file() for entry in entries):
        return True
    return depth > 1 and any(_holds_parquet(entry, depth - 1) for entry in entries)


def _shard_name(file: Path) -> re.Match[str]:
    match = SHARD_NAME.fullmatch(file.stem)
    assert match is not None  # every part of the expression may be empty
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
        columns = [first_of_pictures(raw, lambda column: _first_value(file, column))]
    if not columns:
        raise InfoscopeError(
            f"{file} has no image column (its columns: {', '.join(schema.names)}); give files with a column of images"
        )
    return footer, columns[0], rows


def _image_columns(schema: pa.Schema) -> list[str]:
    """The columns that hold images, by the data set's own description where it has one: sounds are stored alike."""
    import pyarrow as pa

    columns = [
        field.name for field in schema if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
    ]
    features = _features(schema)
    if features is None:
        return columns
    return [column for column in columns if features.get(column, {"_type": "Image"}).get("_type") == "Image"]


def _byte_columns(schema: pa.Schema) -> list[str]:
    """The columns of plain bytes, as writers other than ``datasets`` store pictures."""
    import pyarrow as pa

    kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return [field.name for field in schema if any(is_kind(field.type) for is_kind in kinds)]


def _first_value(file: Path, column: str) -> Any:
    """A column's first value that is not null; None where there is none."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as opened:
            for batch in opened.iter_batches(batch_size=8, columns=[column]):
                return next((value for value in batch.column(0).to_pylist() if value is not None), None)
    except (OSError, pa.ArrowException):  # reported when its images are read
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
    """How a data set describes its columns; None where the file was not written by ``datasets``."""
    described = (schema.metadata or {}).get(b"huggingface")
    if described is None:
        return None
    try:
        features = json.loads(described)["info"]["features"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not isinstance(features, dict):
        return None
    # A feature that is a list of features is written as a list, and is neither images nor labels.
    return {column: feature for column, feature in features.items() if isinstance(feature, dict)}
