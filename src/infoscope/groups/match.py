"""What a random group has in common with the group it is compared with."""

from typing import Literal

Match = Literal["size", "mass"]
"""As many active features, or as much activation mass."""
