"""Data sets for classification: images with a class each, and splits that share one list of classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from infoscope.analyses.probes.matlab import load_mat
from infoscope.errors import InfoscopeError
from infoscope.images.classes import WithClassNumbers, number_classes
from infoscope.images.folder import FileSource
from infoscope.images.labels import BY_ID, COLUMN, class_numbers
from infoscope.images.source import Images, ImageSource, open_images
from infoscope.runtime.sheet import is_sheet, read_columns
from infoscope.runtime.text import read_text

TRUTH = "ILSVRC2012_validation_ground_truth.txt"
META = "meta.mat"
PLACES = ("", "data", "ILSVRC2012_devkit_t12", "ILSVRC2012_devkit_t12/data", "devkit", "devkit/data")
VALIDATION_NAME = re.compile(r"(?:.*/)?ILSVRC2012_val_(\d{8})\.\w+")


@dataclass(frozen=True)
class Devkit:
    """What the devkit of ILSVRC 2012 says.

    Attributes:
        folder: where it is.
        wnid: the name of each class's training folder, by the devkit's number from 1.
        words: that class in words, by its folder's name.
        truth: the number of the class of each validation photograph, in the order of their numbers.
    """

    folder: Path
    wnid: dict[int, str]
    words: dict[str, str]
    truth: Int64[np.ndarray, " image"]

    def labels(self, ids: Sequence[str]) -> list[str]:
        """The training folder's name for each validation photograph.

        Raises:
            InfoscopeError: a name is not that of a validation photograph.
        """
        folders = []
        for image_id in ids:
            named = VALIDATION_NAME.fullmatch(image_id)
            number = int(named[1]) if named else 0
            if not 1 <= number <= len(self.truth):
                raise InfoscopeError(
                    f"{image_id} is none of the {len(self.truth)} photographs of {self.folder / TRUTH}: keep the names "
                    "ILSVRC2012_val_00000001.JPEG and so on"
                )
            folders.append(self.wnid[int(self.truth[number - 1])])
        return folders


def names_devkit(path: str | Path) -> bool:
    """Whether a path is where `read_devkit` would look: a folder, or one of the devkit's two files."""
    file = Path(path).expanduser()
    return file.is_dir() or file.name in (META, TRUTH)


def are_validation_photographs(ids: Sequence[str]) -> bool:
    """Whether images are ImageNet's validation photographs in one folder, by the name of the first.

    Example:
        >>> [are_validation_photographs([name]) for name in ("ILSVRC2012_val_00000001.JPEG", "n01440764/1.JPEG")]
        [True, False]
    """
    return "/" not in ids[0] and VALIDATION_NAME.fullmatch(ids[0]) is not None


def find_devkit(near: Path) -> Path | None:
    """The folder of the devkit's two files in or near a folder; None where they are not."""
    for folder in (near, near.parent, near.parent.parent):
        for inner in PLACES:
            if (folder / inner / TRUTH).is_file() and (folder / inner / META).is_file():
                return folder / inner
    return None


def read_devkit(path: Path) -> Devkit:
    """Read ``meta.mat`` and the list of true classes.

    Args:
        path: the devkit, its ``data`` folder, or one of the two files.

    Raises:
        InfoscopeError: a file is missing, cannot be read, or holds something else.
    """
    folder = path if path.is_dir() else path.parent
    folder = next((folder / inner for inner in PLACES if (folder / inner / META).is_file()), folder)
    meta, truth = folder / META, folder / TRUTH
    for file in (meta, truth):
        if not file.is_file():
            raise InfoscopeError(f"no {file.name} in {folder}: give the folder of ImageNet's devkit, which has both")
    wnid, words = read_synsets(meta)
    try:
        numbers = np.array([int(line) for line in read_text(truth).split()], np.int64)
    except (ValueError, OverflowError) as error:
        raise InfoscopeError(
            f"{truth} is no list of class numbers, one a line: {error}; fetch the devkit again"
        ) from error
    unknown = [int(number) for number in np.unique(numbers) if int(number) not in wnid]
    if unknown:
        raise InfoscopeError(f"{truth} names class {unknown[0]}, which {meta} has not: take both from one devkit")
    return Devkit(folder, wnid, words, numbers)


def read_synsets(meta: Path) -> tuple[dict[int, str], dict[str, str]]:
    """The classes of ``meta.mat`` that have photographs: the synsets without children.

    Returns:
        By the devkit's number from 1 a class's training folder, and by folder what it is called in words.

    Raises:
        InfoscopeError: the file cannot be read, or is something else.
    """
    try:
        synsets: Any = np.atleast_1d(load_mat(meta)["synsets"])
        leaves = [
            (int(one["ILSVRC2012_ID"]), str(one["WNID"]), str(one["words"]))
            for one in synsets
            if not int(one["num_children"])
        ]
    # What is no structure of synsets fails in any way.
    except Exception as error:
        raise InfoscopeError(f"{meta} is not the devkit's list of classes: {error}; fetch the devkit again") from error
    return {number: wnid for number, wnid, _ in leaves}, {wnid: words for _, wnid, words in leaves}


# What a table's columns may be called.
_PATHS = ("path", "file", "filename", "file_name", "file_path", "filepath", "image", "image_path", "image_id")
_LABELS = ("label", "class", "class_name", "classname", "label_name", "category")
_SPLITS = ("split", "subset", "set", "fold", "partition")
# So many classes are named before the rest is counted.
NAMED = 5


@dataclass(frozen=True)
class LabelledImages:
    """Images and the class of each.

    Attributes:
        images: the images.
        classes: the classes' names.
        labels: each image's class number.
    """

    images: ImageSource
    classes: tuple[str, ...]
    labels: Int64[np.ndarray, " image"]

    def __len__(self) -> int:
        return len(self.images)


def open_labelled(source: Images, labels: str | Path | Sequence[str] | None = None) -> LabelledImages:
    """Open images with a class each.

    Args:
        source: whatever `open_images` takes.
        labels: ``folder``, ``path``, ``column`` or ``column:NAME`` (see `class_numbers`); a text file whose lines are
            a path below ``source`` and a label, or a ``.csv`` or ``.tsv`` with columns ``path`` and ``label``, of which
            only the listed images are taken; ImageNet's devkit (its folder, or either of its files), for a folder of
            validation photographs; or the labels themselves. Without, ``column`` for data sets, parquet files and tar
            shards, the devkit where it lies near a folder of validation photographs, and else ``folder``.

    Raises:
        InfoscopeError: the images or labels cannot be read, or an image has no label.

    Example:
        >>> pets = open_labelled(np.zeros((3, 8, 8, 3), np.uint8), ["dog", "cat", "dog"])
        >>> pets.classes, pets.labels
        (('cat', 'dog'), array([1, 0, 1]))
    """
    images = open_images(source)
    if labels is None:
        labels = _default_labels(images)
    if isinstance(labels, str | Path):
        file = Path(labels).expanduser()
        if isinstance(labels, Path) or not is_kind(labels):
            if names_devkit(file):
                named = number_classes(read_devkit(file).labels(images.ids))
                return LabelledImages(images, named.classes, named.number)
            if file.is_file():
                return _listed(images, file)
            raise InfoscopeError(
                f"the labels {labels} are no file, and none of folder, path, column and column:NAME: name a list of "
                "paths and labels, or the devkit's folder"
            )
    numbered = class_numbers(images, labels if isinstance(labels, str) else list(labels))
    return LabelledImages(images, numbered.classes, numbered.number)


def share_classes(train: LabelledImages, *others: LabelledImages) -> tuple[LabelledImages, ...]:
    """The same splits with one list of classes: those that the training split has images of, in its order.

    Args:
        train: the split that heads are trained on.
        others: validation and test splits.

    Raises:
        InfoscopeError: the training split has fewer than two classes, or another split has one it lacks.

    Example:
        >>> pictures = np.zeros((2, 8, 8, 3), np.uint8)
        >>> train, test = open_labelled(pictures, ["b", "a"]), open_labelled(pictures, ["b", "b"])
        >>> share_classes(train, test)[1].labels
        array([1, 1])
    """
    used = np.unique(train.labels)
    classes = tuple(train.classes[number] for number in used.tolist())
    if len(classes) < 2:
        raise InfoscopeError(
            f"all images of {train.images.name} are of class {classes[0]}: a probe needs two classes to tell apart"
        )
    position = {name: number for number, name in enumerate(classes)}
    shared = []
    for split in (train, *others):
        there = np.unique(split.labels).tolist()
        unknown = [split.classes[number] for number in there if split.classes[number] not in position]
        if unknown:
            raise InfoscopeError(
                f"{split.images.name} has {_named(unknown)}, which {train.images.name} has no images of "
                f"(it has {_named(classes)}): give splits of one data set, with labels of one kind"
            )
        number = np.full(len(split.classes), -1, np.int64)
        number[there] = [position[split.classes[one]] for one in there]
        shared.append(replace(split, classes=classes, labels=number[split.labels]))
    return tuple(shared)


def _named(classes: Sequence[str]) -> str:
    few = ", ".join(classes[:NAMED])
    return f"class{'es' if len(classes) > 1 else ''} {few}" + (
        f" and {len(classes) - NAMED} more" if len(classes) > NAMED else ""
    )


def is_kind(labels: str) -> bool:
    """Whether a text says where labels are in the images' own ids or columns, and is no file's name.

    Example:
        >>> is_kind("column:fine_label"), is_kind("val.txt")
        (True, False)
    """
    return labels in (*BY_ID, COLUMN) or labels.startswith(f"{COLUMN}:")


def _default_labels(images: ImageSource) -> str | Path:
    """Where the labels of images are most likely to be."""
    if isinstance(images, WithClassNumbers):
        return COLUMN
    if isinstance(images, FileSource) and are_validation_photographs(images.ids):
        folder = Path(images.files[0]).parent
        devkit = find_devkit(folder)
        if devkit is None:
            raise InfoscopeError(
                f"{images.name} holds ImageNet's validation photographs in one folder, and neither it nor the folders "
                f"above hold {TRUTH} and {META}: give the devkit's folder as --labels; other splits' labels stay "
                "their folders"
            )
        return devkit
    return "folder"


def _listed(images: ImageSource, file: Path) -> LabelledImages:
    """The images that a list names, with its labels."""
    if not isinstance(images, FileSource):
        raise InfoscopeError(
            f"{file} lists paths, but {images.name} is no folder of images: leave the list out, or "
            "name each split's labels by --train-labels, --validation-labels and --test-labels"
        )
    label: dict[str, str] = {}
    known = {image_id: row for row, image_id in enumerate(images.ids)}
    for number, stated, name in _lines(file):
        path = stated.removeprefix("./").lstrip("/")
        if not path:
            raise InfoscopeError(
                f"line {number} of {file} is not a path and a label: {name[:200]}; complete it or take it out"
            )
        if path not in known:
            raise InfoscopeError(
                f"line {number} of {file}: there is no image {path} in {images.name}; paths start below the folder "
                "that is given, and a list is of one split (--train-labels, --validation-labels, --test-labels)"
            )
        if label.setdefault(path, name) != name:
            raise InfoscopeError(
                f"line {number} of {file}: {path} has the label {label[path]} already, and now {name}"
                "; keep one of the two"
            )
    if not label:
        raise InfoscopeError(f"the list {file} is empty; write a path and a label a line")
    listed = images.subset(sorted(known[path] for path in label))
    numbered = number_classes([label[image_id] for image_id in listed.ids], None, str(file))
    return LabelledImages(listed, numbered.classes, numbered.number)


def _lines(file: Path) -> list[tuple[int, str, str]]:
    """The lines of a list that hold anything: their numbers from 1, the path and the label on each."""
    if is_sheet(file):
        columns = read_columns(file, {"path": _PATHS, "label": _LABELS}, {"split": _SPLITS}, "the list")
        splits = sorted(set(columns.values.get("split", [])))
        if len(splits) > 1:
            raise InfoscopeError(
                f"{file} lists several splits ({', '.join(splits[:NAMED])}), and a list is of one: save the rows of "
                "each as a file of its own"
            )
        return list(zip(columns.lines, columns.values["path"], columns.values["label"], strict=True))
    lines = []
    for number, line in enumerate(read_text(file, "the list").split("\n"), 1):
        if line.strip():
            # A path may have blanks; a label has none.
            path, _, name = line.strip().replace("\t", " ").rpartition(" ")
            lines.append((number, path.strip(), name))
    return lines
