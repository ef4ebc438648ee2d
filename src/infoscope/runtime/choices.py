"""The options that are one of a few words, apart from what acts on them, so that naming one loads nothing."""

from __future__ import annotations

from typing import Literal

Resize = Literal["stretch", "crop"]


Metric = Literal["euclidean", "l1"]


Match = Literal["size", "mass"]
"""As many active features, or as much activation mass."""
