"""The two scans behind `gather_maps`: count the entries of each map, then write them.

``slot[feature]`` is the pair that a feature belongs to in the current image, or -1. It is filled and emptied image by
image, so that a scan costs as much as there are codes, not as there are features. ``views`` are the two views of an
image that are compared, of the ``per_image`` views whose codes are given.
"""

import numpy as np

from infoscope.runtime.compilation import compiled


@compiled()
def count_entries(
    start: np.ndarray,
    code_feature: np.ndarray,
    begin: np.ndarray,
    feature: np.ndarray,
    cells: int,
    features: int,
    views: np.ndarray,
    per_image: int,
    counts: np.ndarray,
) -> None:
    """Add to ``counts[crop, pair + 1]`` the number of entries of each wanted pair's map."""
    slot = np.full(features, -1, np.int64)
    for image in range(len(begin) - 1):
        for pair in range(begin[image], begin[image + 1]):
            slot[feature[pair]] = pair
        for crop in range(2):
            first = (per_image * image + views[crop]) * cells
            for entry in range(start[first], start[first + cells]):
                pair = slot[code_feature[entry]]
                if pair >= 0:
                    counts[crop, pair + 1] += 1
        for pair in range(begin[image], begin[image + 1]):
            slot[feature[pair]] = -1


@compiled()
def fill_entries(
    start: np.ndarray,
    code_feature: np.ndarray,
    code_value: np.ndarray,
    begin: np.ndarray,
    feature: np.ndarray,
    cells: int,
    features: int,
    views: np.ndarray,
    per_image: int,
    starts: np.ndarray,
    split: int,
    patch: np.ndarray,
    value: np.ndarray,
) -> None:
    """Write the entries of each wanted pair's maps, patches ascending; the second crop's begin at ``split``."""
    slot = np.full(features, -1, np.int64)
    written = starts.copy()
    for image in range(len(begin) - 1):
        for pair in range(begin[image], begin[image + 1]):
            slot[feature[pair]] = pair
        for crop in range(2):
            first = (per_image * image + views[crop]) * cells
            for cell in range(cells):
                for entry in range(start[first + cell], start[first + cell + 1]):
                    pair = slot[code_feature[entry]]
                    if pair >= 0:
                        target = written[crop, pair] + (split if crop == 1 else 0)
                        patch[target] = cell
                        value[target] = code_value[entry]
                        written[crop, pair] += 1
        for pair in range(begin[image], begin[image + 1]):
            slot[feature[pair]] = -1
