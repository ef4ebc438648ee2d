"""Labels of images, for the probes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Literal

from infoscope.errors import InfoscopeError
from infoscope.images.source import ImageSource

Labels = Literal["folder"]


def labels_of(images: ImageSource, labels: Labels | Sequence[str]) -> list[str]:
    """One label an image.

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
    if labels == "folder":
        found = [PurePosixPath(image_id).parent.name for image_id in images.ids]
        if not all(found):
            raise InfoscopeError(
                f"{images.ids[found.index('')]} of {images.name} is in no folder, so it has no label: name the folder "
                "that holds a folder a class, or leave out --labels"
            )
    else:
        found = [str(label) for label in labels]
        if len(found) != len(images):
            raise InfoscopeError(f"{len(found)} labels for {len(images)} images of {images.name}: give one an image")
    if len(set(found)) < 2:
        raise InfoscopeError(
            f"all images of {images.name} have the label {found[0]}: name the folder that holds a folder a class, "
            "or leave out --labels"
        )
    return found
