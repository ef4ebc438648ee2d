"""Small dense targets that a linear head can learn."""

import numpy as np

from infoscope.analyses.probes.reading import DenseFeatures

GRID, WIDTH, CLASSES = 4, 6, 3


class Maps(list):
    """Targets held in memory."""

    def target(self, index):
        return self[index]


def segments(images, seed=0, shape=(19, 26)):
    """Patches whose features tell the class of the block of pixels under them, and some void pixels."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(CLASSES, WIDTH))
    kinds = random.integers(0, CLASSES, (images, GRID * GRID))
    patches = centres[kinds] + 0.4 * random.normal(size=(images, GRID * GRID, WIDTH))
    row, column = ((2 * np.arange(size) + 1) * GRID // (2 * size) for size in shape)
    masks = kinds.reshape(-1, GRID, GRID)[:, row][:, :, column].astype(np.uint8)
    masks[random.random(masks.shape) < 0.1] = 255
    return DenseFeatures(patches.astype(np.float32)), Maps(masks)


def depths(images, seed=0, shape=(18, 22)):
    """Patches whose features tell their depth, some holes, and a CLS token that tells the mean."""
    random = np.random.default_rng(seed)
    depth = random.uniform(0.5, 9, (images, GRID * GRID))
    turn = np.random.default_rng(8).normal(size=(1, WIDTH))
    patches = depth[:, :, None] / 5 * turn + 0.05 * random.normal(size=(images, GRID * GRID, WIDTH))
    row, column = ((2 * np.arange(size) + 1) * GRID // (2 * size) for size in shape)
    maps = depth.reshape(-1, GRID, GRID)[:, row][:, :, column].astype(np.float32)
    maps[random.random(maps.shape) < 0.2] = 0
    cls = np.repeat(depth.mean(1)[:, None], WIDTH, axis=1) / 5
    return DenseFeatures(patches.astype(np.float32), cls.astype(np.float32)), Maps(maps)
