"""The ways an image becomes square, by name; apart from what does it, so that naming one loads nothing."""

from typing import Literal

Resize = Literal["stretch", "crop"]
