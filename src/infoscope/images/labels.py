"""Labels of images: by folder, beside the images, or given."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from infoscope.errors import InfoscopeError
from infoscope.images.classes import ClassNumbers, WithClassNumbers, number_classes
from infoscope.images.source import ImageSource
from infoscope.options import FolderLabels

COLUMN = "column"
BY_ID = ("folder", "path")
# Folder names that say only that there are pictures inside.
HOLDERS = frozenset({"images", "image", "img"})


def labels_of(images: ImageSource, labels: FolderLabels | Sequence[str]) -> list[str]:
    """One label per image, with at least two different ones.

    Args:
        images: the images.
        labels: ``folder`` for the name of the folder each image is in, or the labels themselves, in order.

    Raises:
        InfoscopeError: there are not as many labels as images, images are in no folder, or all have one label.

    Example:
        >>> import numpy as np
        >>> from infoscope.images.source import open_images
        >>> labels_of(open_images(np.zeros((2, 8, 8, 3), np.uint8)), ["cat", "dog"])
        ['cat', 'dog']
    """
    of_images = folder_labels(images) if labels == "folder" else given_labels(images, labels)
    if len(set(of_images)) < 2:
        raise InfoscopeError(
            f"all images of {images.name} have the label {of_images[0]}: name the folder that holds a folder a class, "
            "or give other --labels or none"
        )
    return of_images


def class_numbers(images: ImageSource, labels: str | Sequence[str]) -> ClassNumbers:
    """The class of every image.

    Args:
        images: the images.
        labels: ``folder`` for the name of the folder each image is in; ``path`` for that folder's path below the
            source, where two classes have folders of one name; ``column`` or ``column:NAME`` for what a data set
            stores beside its images; or the labels themselves, in order.

    Raises:
        InfoscopeError: images are in no folder, there is no such column, or there are not as many labels as images.

    Example:
        >>> import numpy as np
        >>> from infoscope.images.source import open_images
        >>> class_numbers(open_images(np.zeros((2, 8, 8, 3), np.uint8)), ["dog", "cat"]).number
        array([1, 0])
    """
    if not isinstance(labels, str):
        return number_classes(given_labels(images, labels), None, images.name)
    if labels in BY_ID:
        return number_classes(folder_labels(images, whole_path=labels == "path"), None, images.name)
    kind, _, column = labels.partition(":")
    if kind != COLUMN:
        raise InfoscopeError(f"--labels {labels} is not known: choose folder, path, column or column:NAME")
    if not isinstance(images, WithClassNumbers):
        raise InfoscopeError(f"{images.name} is no data set with columns: choose --labels folder")
    return images.class_numbers(column or None)


def folder_labels(images: ImageSource, whole_path: bool = False) -> list[str]:
    """The folder each image is in.

    Where all images are in folders called ``images``, as in Tiny ImageNet (``n01443537/images/0.jpg``), the label is
    the folder above.

    Args:
        images: the images, whose ids are paths.
        whole_path: the whole path of the folder, not its name alone.

    Raises:
        InfoscopeError: an image is in no folder.
    """
    folders = [image_id.rpartition("/")[0] for image_id in images.ids]
    if not all(folders):
        raise InfoscopeError(
            f"{images.ids[folders.index('')]} of {images.name} is in no folder, so it has no label: name the folder "
            "that holds a folder a class, or give other --labels or none"
        )
    if all("/" in folder for folder in folders):
        inner = {folder.rpartition("/")[2] for folder in folders}
        if len(inner) == 1 and inner <= HOLDERS:
            folders = [folder.rpartition("/")[0] for folder in folders]
    # A million images have a thousand labels: interning keeps each text once.
    return [sys.intern(folder if whole_path else folder.rpartition("/")[2]) for folder in folders]


def given_labels(images: ImageSource, labels: Sequence[str]) -> list[str]:
    """Labels in the images' order, as text.

    Raises:
        InfoscopeError: there are not as many as images.
    """
    if len(labels) != len(images):
        raise InfoscopeError(f"{len(labels)} labels for {len(images)} images of {images.name}: give one an image")
    return [str(label) for label in labels]
