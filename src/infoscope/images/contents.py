"""Hashes of images' contents as records hold them: eight bytes an image, as text."""

from __future__ import annotations

import base64

import numpy as np
from jaxtyping import UInt64

# Our choice: the hashes of this many images take 107 kB in a record, and their files are read within seconds.
MOST_COMPARED = 10_000


def packed_contents(contents: UInt64[np.ndarray, " image"]) -> str | None:
    """The hashes of images (see `infoscope.images.watched.Watched`) as a record holds them; None where they are many.

    Example:
        >>> packed_contents(np.array([7], np.uint64))
        'BwAAAAAAAAA='
    """
    if len(contents) > MOST_COMPARED:
        return None
    return base64.b64encode(np.ascontiguousarray(contents, "<u8").tobytes()).decode("ascii")


def unpacked_contents(packed: str, count: int) -> UInt64[np.ndarray, " image"]:
    """The hashes that `packed_contents` made a text of.

    Args:
        packed: the text.
        count: how many there should be.

    Raises:
        ValueError: the text holds something else.

    Example:
        >>> unpacked_contents("BwAAAAAAAAA=", 1).tolist()
        [7]
    """
    contents = np.frombuffer(base64.b64decode(packed, validate=True), "<u8").astype(np.uint64)
    if len(contents) != count:
        raise ValueError(f"it holds {len(contents):,} hashes, not {count:,}")
    return contents
