"""What is found without any model: by each patch's colours, and by guessing what is most frequent."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Float32, Int, Int64, UInt8

from infoscope.analyses.probes.metrics import Confusion, DepthErrors, top_k
from infoscope.analyses.probes.survey import ClassCounts, DepthCounts, targets_ahead
from infoscope.analyses.probes.targets import DenseTargets
from infoscope.backbones.backbone import Backbone
from infoscope.errors import InfoscopeError
from infoscope.images.prefetch import all_unreadable, decode_ahead
from infoscope.images.source import ImageSource
from infoscope.images.views import Views
from infoscope.runtime.choices import Resize
from infoscope.runtime.progress import progress


def patch_colours(
    pixels: UInt8[np.ndarray, "image height width 3"], patch_size: int
) -> Float32[np.ndarray, "image patch 6"]:
    """The mean colour of each patch and its spread (standard deviation), red, green and blue from 0 to 1.

    They stand where a model's tokens do, for the same heads; their mean over patches stands for an image's features.

    Args:
        pixels: views as the model has them, before its own mean and standard deviation are applied.
        patch_size: n, pixels per patch side.

    Raises:
        InfoscopeError: the view is not made of whole patches.

    Example:
        >>> pixels = np.zeros((1, 2, 4, 3), np.uint8)
        >>> pixels[0, :, :2, 0] = 255
        >>> pixels[0, 0, 2:, 1] = 255
        >>> patch_colours(pixels, 2)
        array([[[1. , 0. , 0. , 0. , 0. , 0. ],
                [0. , 0.5, 0. , 0. , 0.5, 0. ]]], dtype=float32)
    """
    images, height, width, _ = pixels.shape
    n = patch_size
    if height % n or width % n:
        raise InfoscopeError(f"a view of {width} x {height} pixels is not made of patches of {n}")
    patches = pixels.reshape(images, height // n, n, width // n, n, 3).transpose(0, 1, 3, 2, 4, 5)
    patches = patches.reshape(images, -1, n * n, 3)
    mean = patches.mean(2, dtype=np.float64)
    # From sums of whole numbers, so that a patch of one colour has a spread of exactly 0.
    squares = np.square(patches, dtype=np.int64).sum(2)
    variance = (n * n * squares - patches.sum(2, dtype=np.int64) ** 2) / (n * n) ** 2
    return (np.concatenate([mean, np.sqrt(variance)], axis=2) / 255).astype(np.float32)


def majority_label(
    train: Int[np.ndarray, " train_image"], test: Int[np.ndarray, " image"], classes: int
) -> tuple[int, float, float]:
    """Always guessing the training split's most frequent class.

    Args:
        train: class numbers of the training split.
        test: those of the split that is judged.
        classes: how many there are.

    Returns:
        The class (of several the first), its top-1 and the top-5 of the five most frequent on ``test``.

    Example:
        >>> majority_label(np.array([2, 2, 0]), np.array([2, 0, 1, 1]), 3)
        (2, 0.25, 1.0)
    """
    frequency = np.bincount(train, minlength=classes)
    scores = np.broadcast_to(frequency, (len(test), classes))
    return int(frequency.argmax()), top_k(scores, test, 1), top_k(scores, test, 5)


def majority_class(train: ClassCounts, test: ClassCounts) -> Confusion:
    """Segmentation by the training split's most frequent class everywhere; of the test split counts are enough.

    Args:
        train: what `count_classes` found in the training split.
        test: what it found in the split that is judged.

    Example:
        >>> train, test = (ClassCounts(("sky", "road"), np.array(pixels), 0) for pixels in ([9, 5], [2, 6]))
        >>> majority_class(train, test).iou
        array([0.25, 0.  ])
    """
    found = Confusion(test.classes)
    found.counts[:, train.most_frequent] = test.pixels
    return found


def mean_depth(train: DepthCounts, test: DenseTargets, indices: Iterable[int] | None = None) -> DepthErrors:
    """Depth by the training split's mean everywhere, which no other constant beats in RMSE on that split.

    Args:
        train: what `measure_depths` found in the training split.
        test: the split that is judged.
        indices: which of its photographs; all when not given.

    Raises:
        InfoscopeError: a depth map of the test split is wrong.
    """
    errors = DepthErrors(most=float(np.finfo(np.float32).max))
    chosen = list(range(len(test)) if indices is None else indices)
    with progress("Guessing the mean depth", len(chosen), "targets") as advance:
        for _, target in targets_ahead(test, chosen):
            errors.add(target, np.full(target.shape, train.mean, np.float32))
            advance()
    return errors


_BATCH = 64


def split_colours(
    images: ImageSource, backbone: Backbone, resize: Resize, threads: int | None = None
) -> tuple[Float32[np.ndarray, "image patch 6"], Int64[np.ndarray, " image"]]:
    """Every patch's colours, and the positions of the images that could be read.

    Memory grows with the images: six numbers a patch, a hundredth of a model's tokens.

    Args:
        images: the images.
        backbone: whose patches they are; it is not run.
        resize: how an image becomes square.
        threads: decoding threads.

    Raises:
        InfoscopeError: no image can be read.
    """
    return _read(images, backbone, resize, threads, lambda colours: colours)


def image_colours(
    images: ImageSource, backbone: Backbone, resize: Resize, threads: int | None = None
) -> tuple[Float32[np.ndarray, "image 6"], Int64[np.ndarray, " image"]]:
    """Each image's mean over its patches' colours, six numbers an image; see `split_colours`."""
    return _read(images, backbone, resize, threads, lambda colours: colours.mean(1))


def _read(
    images: ImageSource,
    backbone: Backbone,
    resize: Resize,
    threads: int | None,
    keep: Callable[[np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    view = Views(backbone.patch_size, backbone.grid, 0, resize).full
    found: list[np.ndarray] = []
    rows: list[int] = []
    reason = ""
    with progress("Reading colours", len(images), "images") as advance:
        for batch in decode_ahead(images, range(len(images)), view, _BATCH, threads):
            reason = reason or next((why for _, why in batch.unreadable), "")
            if batch.index:
                found.append(keep(patch_colours(batch.pixels, backbone.patch_size)))
                rows += batch.index
            advance(len(batch.index) + len(batch.unreadable))
    if not rows:
        raise all_unreadable(images, reason)
    return np.concatenate(found), np.array(rows, np.int64)
