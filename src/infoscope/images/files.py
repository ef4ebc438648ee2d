"""Which files images lie in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64


@dataclass(frozen=True)
class StoredIn:
    """Which files images lie in.

    Attributes:
        files: the files.
        first: the position of each file's first image; its others follow.
        count: images in all.

    Example:
        >>> StoredIn(["a.tar", "b.tar"], [0, 3], 5).images_in(np.array([1])).tolist()
        [3, 4]
    """

    files: Sequence[str | Path]
    first: Sequence[int]
    count: int

    def images_in(self, files: Int64[np.ndarray, " file"]) -> Int64[np.ndarray, " image"]:
        """The positions of the images in some of the files."""
        ends = np.append(np.asarray(self.first, np.int64)[1:], self.count)
        ranges = [np.arange(self.first[file], ends[file]) for file in files.tolist()]
        return np.concatenate(ranges) if ranges else np.zeros(0, np.int64)
