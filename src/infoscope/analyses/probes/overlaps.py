"""Each test image's intersections and unions, from which mIoU can be resampled, and what file names say of frames."""

from __future__ import annotations

import base64
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np
from jaxtyping import Float64, Int64

# CamVid's frames: the sequence, then the number of the frame in it.
_FRAME = re.compile(r"(\d{4}(?:TP|R0|E5)|Seq\d+VD)_f?\d+(_.*)?")


def pack_overlaps(counts: Int64[np.ndarray, "image 2 class"]) -> str:
    """Each image's intersection and union with every class, in pixels, as a text.

    An image has pixels of few classes, and as numbers in JSON those of 2,000 images and 150 classes would take
    megabytes for each variant.

    Example:
        >>> counts = np.array([[[3, 0], [4, 1]]])
        >>> unpack_overlaps(pack_overlaps(counts)).tolist()
        [[[3, 0], [4, 1]]]
    """
    packed = base64.b64encode(zlib.compress(np.ascontiguousarray(counts, "<u4").tobytes())).decode()
    return f"{counts.shape[2]}:{packed}"


def unpack_overlaps(text: str) -> Int64[np.ndarray, "image 2 class"]:
    """What `pack_overlaps` made a text of."""
    classes, _, packed = text.partition(":")
    counts = np.frombuffer(zlib.decompress(base64.b64decode(packed)), "<u4")
    return counts.reshape(-1, 2, int(classes)).astype(np.int64)


def resampled_miou(
    counts: Int64[np.ndarray, "image 2 class"], times: Int64[np.ndarray, "draw image"]
) -> Float64[np.ndarray, " draw"]:
    """The mIoU of images that are drawn several times or not at all, from the sums of their counts.

    Args:
        counts: each image's intersection and union with every class.
        times: how often each draw has each image.

    Example:
        >>> counts = np.array([[[1, 0], [2, 0]], [[0, 3], [1, 3]]])
        >>> resampled_miou(counts, np.array([[1, 1], [2, 0]])).round(3)
        array([0.667, 0.5  ])
    """
    # Exact: the sums stay far below 2^53.
    sums = times.astype(np.float64) @ counts.reshape(len(counts), -1).astype(np.float64)
    intersection, union = sums.reshape(len(times), 2, -1).transpose(1, 0, 2)
    there = union > 0
    iou = np.divide(intersection, union, out=np.zeros_like(union), where=there)
    mean: Float64[np.ndarray, " draw"] = iou.sum(1) / np.maximum(there.sum(1), 1)
    return mean


def miou_interval(
    own: Int64[np.ndarray, "image 2 class"],
    base: Int64[np.ndarray, "image 2 class"],
    seed: int = 0,
    draws: int = 2000,
) -> tuple[float, float]:
    """95 % interval of a difference of mIoU, by the paired percentile bootstrap over images.

    Args:
        own: counts of a variant.
        base: counts on the same images of what it is compared with.
        seed: of the resampling.
        draws: resamples.

    Example:
        >>> counts = np.array([[[1, 0], [2, 0]], [[0, 3], [1, 3]]])
        >>> miou_interval(counts, counts)
        (0.0, 0.0)
    """
    random = np.random.default_rng(seed)
    images, differences = len(own), []
    for _ in range(0, draws, 100):
        drawn = random.integers(0, images, (100, images))
        times = np.stack([np.bincount(draw, minlength=images) for draw in drawn])
        differences.append(resampled_miou(own, times) - resampled_miou(base, times))
    low, high = np.quantile(np.concatenate(differences), (0.025, 0.975))
    return float(low), float(high)


def sequence_note(ids: Sequence[str]) -> str | None:
    """A warning where the file names say that images are frames of a few sequences; None where they do not.

    Neighbouring frames show the same street, so that resampling frames understates how far a score varies.

    Example:
        >>> sequence_note(["test/0001TP_008550.png", "test/Seq05VD_f00000.png", "test/Seq05VD_f00030.png"])
        'the 3 test images are frames of 2 sequences (0001TP, Seq05VD): an interval over frames is no claim about
        streets'
        >>> sequence_note(["ADE_val_00000001.jpg"])
    """
    matched = [_FRAME.fullmatch(PurePath(name).stem) for name in ids]
    if not ids or not all(matched):
        return None
    sequences = Counter(match[1] for match in matched if match)
    named = ", ".join(sorted(sequences))
    count = "1 sequence" if len(sequences) == 1 else f"{len(sequences)} sequences"
    frames = f"the {len(ids)} test images are frames of {count} ({named})"
    return f"{frames}: an interval over frames is no claim about streets"
