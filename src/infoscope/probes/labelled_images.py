"""Data sets for classification: images with a class each, and splits that share one list of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from infoscope.errors import InfoscopeError
from infoscope.images.class_numbers import WithClassNumbers, number_classes
from infoscope.images.folder import FileSource
from infoscope.images.labels import BY_ID, COLUMN, class_numbers
from infoscope.images.source import Images, ImageSource, open_images
from infoscope.probes.imagenet_devkit import (
    META,
    TRUTH,
    are_validation_photographs,
    find_devkit,
    names_devkit,
    read_devkit,
)
from infoscope.storage.sheet import is_sheet, read_columns
from infoscope.storage.text import read_text

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
        labels = _found(images)
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
    found = class_numbers(images, labels if isinstance(labels, str) else list(labels))
    return LabelledImages(images, found.classes, found.number)


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
    place = {name: number for number, name in enumerate(classes)}
    shared = []
    for split in (train, *others):
        there = np.unique(split.labels).tolist()
        unknown = [split.classes[number] for number in there if split.classes[number] not in place]
        if unknown:
            raise InfoscopeError(
                f"{split.images.name} has {_named(unknown)}, which {train.images.name} has no images of "
                f"(it has {_named(classes)}): give splits of one data set, with labels of one kind"
            )
        number = np.full(len(split.classes), -1, np.int64)
        number[there] = [place[split.classes[one]] for one in there]
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


def _found(images: ImageSource) -> str | Path:
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
                f"line {number} of {file} is not a path and a label: {name}; complete it or take it out"
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
    kept = images.kept(sorted(known[path] for path in label))
    found = number_classes([label[image_id] for image_id in kept.ids], None, str(file))
    return LabelledImages(kept, found.classes, found.number)


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
    found = []
    for number, line in enumerate(read_text(file, "the list").split("\n"), 1):
        if line.strip():
            # A path may have blanks; a label has none.
            path, _, name = line.strip().replace("\t", " ").rpartition(" ")
            found.append((number, path.strip(), name))
    return found
