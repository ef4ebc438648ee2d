"""Views of an image: the full view and the two shifted crops (method, section 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from infoscope.errors import InfoscopeError, check_choice
from infoscope.images.decode import UnreadableImageError
from infoscope.images.resize import Resize


@dataclass(frozen=True)
class Views:
    """The geometry of shifted context cropping for one model.

    Attributes:
        patch_size: n, pixels per patch side.
        grid: p, patches per side of the model's input.
        shift: s, patches between the two crops, 0 <= s <= p-2.
        resize: how an image that is not square becomes square: ``stretch`` ignores the aspect ratio, ``crop``
            takes the shorter side to the target and then the centre.

    Raises:
        InfoscopeError: the shift is outside 0..p-2.

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

    def __post_init__(self) -> None:
        check_choice("resize", self.resize, Resize)
        if self.grid < 2:
            raise InfoscopeError(f"an input of {self.side} pixels is one patch: choose an --input-side of at least two")
        if not 0 <= self.shift <= self.grid - 2:
            raise InfoscopeError(
                f"--shift {self.shift} leaves no overlap to compare: this model's grid is "
                f"{self.grid} x {self.grid} patches, so choose 0 to {self.grid - 2}"
            )

    @property
    def side(self) -> int:
        """pn: pixels per side of the model's input."""
        return self.grid * self.patch_size

    @property
    def shifted_side(self) -> int:
        """(p+s)n: pixels per side of the image from which both crops are cut."""
        return (self.grid + self.shift) * self.patch_size

    def full(self, image: Image.Image) -> UInt8[np.ndarray, "height width 3"]:
        """The whole image at the model's input size, ``[pn, pn, 3]``.

        Raises:
            UnreadableImageError: the image has fewer than p+s pixels a side, less than one to a patch.
        """
        return np.asarray(self._square(image, self.side))

    def crops(self, image: Image.Image) -> UInt8[np.ndarray, "crop height width 3"]:
        """Both crops, ``[2, pn, pn, 3]``: at (0, 0) and at (sn, sn) of the image resized to (p+s)n.

        Raises:
            UnreadableImageError: as for `full`.
        """
        pixels = np.asarray(self._square(image, self.shifted_side))
        offset = self.shift * self.patch_size
        return np.stack([pixels[: self.side, : self.side], pixels[offset:, offset:]])

    def _square(self, image: Image.Image, side: int) -> Image.Image:
        """An RGB image as ``side`` x ``side``, by Pillow's bicubic filter on 8-bit values."""
        width, height = image.size
        if min(width, height) < self.grid + self.shift:
            raise UnreadableImageError(
                f"{width} x {height} pixels are fewer than the {self.grid + self.shift} patches on a side"
            )
        if self.resize == "stretch":
            return image.resize((side, side), Image.Resampling.BICUBIC)
        # The longer side is rounded down and the crop's offset too, as transformers' image processors do.
        short = min(width, height)
        width, height = width * side // short, height * side // short
        left, top = (width - side) // 2, (height - side) // 2
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        return resized.crop((left, top, left + side, top + side))
