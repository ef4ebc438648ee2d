"""What heads read: features and targets that need not fit into memory, and the part held out for choosing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float16, Float32, Int64, Shaped

from infoscope.errors import InfoscopeError

Rows: TypeAlias = Float32[np.ndarray, "_ _"] | Float16[np.ndarray, "_ _"]
# Of any number of rows, since one signature may have several.
Index: TypeAlias = Int64[np.ndarray, " _"]

# Rows to a product. Fixed, since sums of float32 depend on where they are cut: no result may depend on a setting.
BATCH_ROWS = 4096
# Bytes that are read in one go when rows are mixed; our choice: long enough not to wait for a disk's seeks.
STRETCH_BYTES = 256 * 1024


def in_order(
    rows: Rows, index: Index, size: int = BATCH_ROWS
) -> Iterator[tuple[Float32[np.ndarray, "row feature"], Index]]:
    """The given rows as float32, a batch at a time.

    Args:
        rows: all rows, an array or a memmap.
        index: which of them, ascending.
        size: rows to a batch.

    Yields:
        The batch's rows, and which they are.

    Raises:
        InfoscopeError: a row has a value that is not finite.

    Example:
        >>> rows = np.arange(10, dtype=np.float32).reshape(5, 2)
        >>> [batch[:, 0].tolist() for batch, _ in in_order(rows, np.array([0, 2, 4]), size=2)]
        [[0.0, 4.0], [8.0]]
    """
    for start in range(0, len(index), size):
        which = index[start : start + size]
        # Neighbours are read as one stretch, which is many times as fast from a disk as row by row.
        stretch = len(which) > 0 and which[-1] - which[0] == len(which) - 1
        batch = rows[which[0] : which[-1] + 1] if stretch else rows[which]
        yield checked(np.asarray(batch, dtype=np.float32), which), which


def mixed(
    rows: Rows, index: Index, size: int, window: int, seed: tuple[int, ...]
) -> Iterator[tuple[Float32[np.ndarray, "row feature"], Index]]:
    """Each of the given rows once, in random order, in batches of equal size; a last batch that is not full is dropped.

    Where there are more rows than a window holds, stretches of neighbours are drawn at random until the window is full
    and are mixed in it. So the disk is read in stretches, and memory holds one window.

    Args:
        rows: all rows, an array or a memmap.
        index: which of them, ascending.
        size: rows to a batch.
        window: rows that are held and mixed.
        seed: decides the order.

    Yields:
        The batch's rows as float32, and which they are.

    Raises:
        InfoscopeError: a row has a value that is not finite.

    Example:
        >>> rows = np.arange(8, dtype=np.float32).reshape(8, 1)
        >>> batches = list(mixed(rows, np.arange(8), size=4, window=8, seed=(0,)))
        >>> sorted(np.concatenate([batch for batch, _ in batches]).ravel().tolist())
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    """
    random = np.random.default_rng(seed)
    if len(index) <= window:
        order = random.permutation(len(index))
        for start in range(0, len(order) - size + 1, size):
            picked = index[order[start : start + size]]
            yield checked(np.asarray(rows[picked], dtype=np.float32), picked), picked
        return
    length = max(1, STRETCH_BYTES // (rows.itemsize * rows.shape[1]))
    stretches = random.permutation(-(-len(index) // length))
    held: list[Index] = []
    left = np.zeros(0, np.int64)
    for at, stretch in enumerate(stretches):
        held.append(index[stretch * length : (stretch + 1) * length])
        full = sum(map(len, held)) + len(left) >= window
        if not full and at + 1 < len(stretches):
            continue
        which = np.concatenate([left, *held])
        held = []
        read = np.concatenate([rows[part[0] : part[-1] + 1][part - part[0]] for part in _neighbours(which)])
        order = random.permutation(len(which))
        used = len(order) // size * size
        for start in range(0, used, size):
            picked = order[start : start + size]
            yield checked(np.asarray(read[picked], dtype=np.float32), which[picked]), which[picked]
        left = np.sort(which[order[used:]])


def checked(batch: Float32[np.ndarray, "row feature"], which: Index) -> Float32[np.ndarray, "row feature"]:
    """The batch itself.

    Raises:
        InfoscopeError: it has a value that is not finite.
    """
    # A sum is not finite if any part is not, and is many times as fast as asking each value.
    if not np.isfinite(batch.sum(dtype=np.float64)):
        wrong = which[~np.isfinite(batch).all(1)]
        if len(wrong):
            raise InfoscopeError(
                f"the features of row {wrong[0]} hold NaN or infinity ({len(wrong)} of {len(which)} rows read together "
                "do): extract them again, with --feature-type float32 where float16 overflows"
            )
    return batch


def _neighbours(which: Index) -> list[Index]:
    """The index, cut wherever the next row is not one of the few that follow."""
    cuts = np.flatnonzero((np.diff(which) < 1) | (np.diff(which) > 8)) + 1
    return np.split(which, cuts)


def split_by_class(labels: Int64[np.ndarray, " image"], share: float, seed: int) -> tuple[Index, Index]:
    """Training and held-out images, every class in both as far as it has two images.

    Args:
        labels: each image's class.
        share: of each class's images, that is held out; rounded, at least one of two images or more.
        seed: decides which.

    Returns:
        The indices of those to train on and of those held out, ascending.

    Raises:
        InfoscopeError: no class has two images.

    Example:
        >>> train, held = split_by_class(np.array([0] * 5 + [1] * 10 + [2]), share=0.2, seed=0)
        >>> len(train), len(held)
        (13, 3)
    """
    # The seed's second number keeps this draw apart from the order of batches, which has 1 there.
    random = np.random.default_rng((seed, 0))
    held: list[Index] = []
    for each in np.unique(labels):
        members = np.flatnonzero(labels == each)
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        held.append(random.permutation(members)[:count])
    return _both(np.concatenate(held) if held else np.zeros(0, np.int64), len(labels))


def split(count: int, share: float, seed: int) -> tuple[Index, Index]:
    """Training and held-out images, whatever they show.

    Example:
        >>> [len(part) for part in split(10, share=0.2, seed=0)]
        [8, 2]
    """
    chosen = np.random.default_rng((seed, 0)).permutation(count)
    return _both(chosen[: min(max(round(share * count), 1), max(count - 1, 0))].astype(np.int64), count)


def _both(held: Index, count: int) -> tuple[Index, Index]:
    if not len(held):
        raise InfoscopeError(
            f"{count} training images are too few to hold some out for the choice: give validation images, or two "
            "images of a class at least"
        )
    inside = np.zeros(count, bool)
    inside[held] = True
    return np.flatnonzero(~inside), np.flatnonzero(inside)


Patches: TypeAlias = Float32[np.ndarray, "_ _ _"] | Float16[np.ndarray, "_ _ _"]
Target: TypeAlias = Shaped[np.ndarray, "row column"]


@runtime_checkable
class Targets(Protocol):
    """A target for each image, laid out as the view the model had, at its own resolution."""

    def __len__(self) -> int: ...

    def target(self, index: int) -> np.ndarray:
        """Class numbers, the type's largest where they do not count; or metres, 0 for holes."""
        ...


@dataclass(frozen=True, eq=False)
class DenseFeatures:
    """Patch tokens of images, arrays or memmaps.

    Attributes:
        patches: ``[image, patch, feature]``, patches row-major on a square grid.
        cls: each image's CLS token, where a recipe has it beside each patch.

    Raises:
        InfoscopeError: the patches are no square grid, or the CLS tokens are of other images or another width.

    Example:
        >>> DenseFeatures(np.zeros((2, 9, 4), np.float32)).grid
        3
    """

    patches: Patches
    cls: Rows | None = None

    def __post_init__(self) -> None:
        if self.patches.shape[1] != self.grid**2 or self.grid == 0:
            raise InfoscopeError(f"{self.patches.shape[1]} patches are no square grid: leave out CLS and registers")
        if self.cls is not None and self.cls.shape != (self.patches.shape[0], self.patches.shape[2]):
            raise InfoscopeError(
                f"CLS tokens of shape {list(self.cls.shape)} do not belong to patches of shape "
                f"{list(self.patches.shape)}: store one an image, of the same width"
            )

    def __len__(self) -> int:
        return len(self.patches)

    @property
    def grid(self) -> int:
        """p, patches a side."""
        return math.isqrt(self.patches.shape[1])

    @property
    def width(self) -> int:
        """Features of a patch token."""
        return int(self.patches.shape[2])

    @property
    def rows(self) -> Rows:
        """All patches as rows, image after image; no copy."""
        return self.patches.reshape(-1, self.width)

    def read(self, index: int, *, with_cls: bool = False) -> Float32[np.ndarray, "patch feature"]:
        """One image's patches, each with the CLS token after it where that is asked for.

        Raises:
            InfoscopeError: they are not finite, or there are no CLS tokens.
        """
        patches = np.asarray(self.patches[index], dtype=np.float32)
        if with_cls:
            if self.cls is None:
                raise InfoscopeError(
                    "this recipe reads the CLS token beside each patch, and none is stored"
                    "; extract them again, with this recipe"
                )
            cls = np.asarray(self.cls[index], dtype=np.float32)
            patches = np.concatenate([patches, np.broadcast_to(cls, patches.shape)], axis=1)
        return checked(patches, np.full(len(patches), index))


def check_pairs(features: DenseFeatures, targets: Targets) -> None:
    """Refuse features and targets of other images.

    Raises:
        InfoscopeError: their numbers differ, or there are none.
    """
    if len(features) != len(targets):
        raise InfoscopeError(f"there are {len(features)} images' features and {len(targets)} targets: give one each")
    if not len(features):
        raise InfoscopeError("there are no images to train or choose on: check the split")
