"""Views of an image: the full view and the two shifted crops (method, section 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from infoscope.errors import InfoscopeError, UnreadableImageError, check_choice
from infoscope.options import Resize


@dataclass(frozen=True)
class Cut:
    """One view that is cut from a resized picture, and how its tokens are laid on the grid; all in patches.

    Attributes:
        top: its first row.
        left: its first column.
        rolled: how far its pixels are rolled down and right, around the edges, before the model sees them. The tokens
            are rolled back, so that a cell of a map stands for the same pixels as without rolling.
        mirrored: whether its tokens are laid out from right to left; the pixels are not mirrored.

    Example:
        >>> [cut.order(2).tolist() for cut in (Cut(0, 0), Cut(1, 1, rolled=1), Cut(0, 1, mirrored=True))]
        [[0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2]]
    """

    top: int
    left: int
    rolled: int = 0
    mirrored: bool = False

    def order(self, grid: int) -> Int64[np.ndarray, " patch"]:
        """The token, row-major as the model gives them, of each cell of a map on ``grid`` patches a side."""
        token = np.arange(grid * grid).reshape(grid, grid)
        token = np.roll(token, (-self.rolled, -self.rolled), axis=(0, 1))
        return (token[:, ::-1] if self.mirrored else token).ravel()


@dataclass(frozen=True)
class Views:
    """The geometry of shifted context cropping for one model.

    Attributes:
        patch_size: n, pixels per patch side.
        grid: p, patches per side of the model's input.
        shift: s, patches between the two crops, 0 <= s <= p-2.
        resize: how an image that is not square becomes square: ``stretch`` ignores the aspect ratio, ``crop``
            resizes the shorter side to the target and takes the centre.
        shifts: further shifts whose crops are cut from the same picture, which is resized for the largest shift.

    Raises:
        InfoscopeError: a shift is outside 0..p-2.

    Example:
        >>> views = Views(patch_size=14, grid=16, shift=2)
        >>> views.side, views.shifted_side
        (224, 252)
        >>> views.crops(Image.new("RGB", (640, 480))).shape
        (2, 224, 224, 3)
    """

    patch_size: int
    grid: int
    shift: int = 2
    resize: Resize = "stretch"
    shifts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_choice("resize", self.resize, Resize)
        if self.grid < 2:
            raise InfoscopeError(f"an input of {self.side} pixels is one patch: choose an --input-side of at least two")
        for shift in (self.shift, *self.shifts):
            if not 0 <= shift <= self.grid - 2:
                raise InfoscopeError(
                    f"--shift {shift} leaves no overlap to compare: this model's grid is "
                    f"{self.grid} x {self.grid} patches, so choose 0 to {self.grid - 2}"
                )

    @property
    def reach(self) -> int:
        """The largest shift, in patches."""
        return max(self.shift, *self.shifts, 0)

    @property
    def side(self) -> int:
        """pn: pixels per side of the model's input."""
        return self.grid * self.patch_size

    @property
    def shifted_side(self) -> int:
        """(p+s)n for the largest s: pixels per side of the image from which the crops are cut."""
        return (self.grid + self.reach) * self.patch_size

    def full(self, image: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
        """The whole image at the model's input size, ``[pn, pn, 3]``.

        Raises:
            UnreadableImageError: the image has fewer than p+s pixels a side, less than one to a patch.
        """
        return np.asarray(self._square(image, self.side))

    def whole(self, image: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
        """The picture that all crops are cut from, ``[(p+s)n, (p+s)n, 3]`` for the largest s.

        Raises:
            UnreadableImageError: as for `full`.
        """
        return np.asarray(self._square(image, self.shifted_side))

    def crops(self, image: Image.Image) -> UInt8[np.ndarray, "crop height width 3"]:
        """Both crops, ``[2, pn, pn, 3]``: at (0, 0) and at (sn, sn) of the resized image.

        Raises:
            UnreadableImageError: as for `full`.
        """
        return self.cut(image, (Cut(0, 0), Cut(self.shift, self.shift)))

    def cut(self, image: Image.Image, cuts: Sequence[Cut]) -> UInt8[np.ndarray, "view height width 3"]:
        """Views that are cut from the image resized to `shifted_side`, ``[view, pn, pn, 3]``.

        Raises:
            UnreadableImageError: as for `full`.
        """
        pixels = self.whole(image)
        n, side = self.patch_size, self.side
        return np.stack(
            [
                np.roll(
                    pixels[cut.top * n : cut.top * n + side, cut.left * n : cut.left * n + side],
                    (cut.rolled * n, cut.rolled * n),
                    axis=(0, 1),
                )
                for cut in cuts
            ]
        )

    def _square(self, image: Image.Image, side: int) -> Image.Image:
        """An RGB image as ``side`` x ``side``, by Pillow's bicubic filter on 8-bit values."""
        width, height = image.size
        if min(width, height) < self.grid + self.reach:
            raise UnreadableImageError(
                f"{width} x {height} pixels are fewer than the {self.grid + self.reach} patches on a side"
            )
        if self.resize == "stretch":
            return image.resize((side, side), Image.Resampling.BICUBIC)
        # The longer side and the crop's offset are rounded down, as transformers' image processors do.
        short = min(width, height)
        width, height = width * side // short, height * side // short
        left, top = (width - side) // 2, (height - side) // 2
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        return resized.crop((left, top, left + side, top + side))
