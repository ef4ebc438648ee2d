"""How feature groups are removed, with the reason for each default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from infoscope.errors import InfoscopeError, check_choice

Method = Literal["keep-error", "reconstruct"]
"""What is written back: the token less the group's contribution, or the codes that are left, decoded."""

Replacement = Literal["zero", "mean", "resampled"]
"""What the group's codes become: 0, their mean over a sample of images, or those of another image's token there."""

Site = Literal["rerun", "site"]
"""What is read: the rest of the network, run on from the edited tokens, or the block's own edited tokens."""

# Our choice: as the fit check, 65,536 tokens of a 16 x 16 grid.
SAMPLE_IMAGES = 256


@dataclass(frozen=True)
class RemovalConfig:
    """How feature groups are removed.

    Raises:
        InfoscopeError: a choice is none of those there are, or a number is out of range.

    Example:
        >>> RemovalConfig(random_draws=-1)
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: --random-draws -1 is out of range: choose 0 or more
    """

    sites: tuple[Site, ...] = ("rerun",)
    """Where the edit acts: rerun runs the rest of the network on from the edited tokens; site reads the block's own
    edited tokens. Both may be given. Our choice: what the model loses is what its own output loses."""
    method: Method = "keep-error"
    """keep-error takes the group's contribution from the token and leaves what the SAE does not explain; reconstruct
    decodes the codes that are left. Our choice, so that only the group differs from the untouched model."""
    replacement: Replacement = "zero"
    """What the group's codes become: zero (as the paper), their mean over a sample of images, or those of another image
    (resampled)."""
    random_draws: int = 5
    """Random groups of equal size, and as many of equal activation mass, for each group. 0 for none. Our choice: enough
    for a spread."""
    random_seed: int = 0
    """Of the random groups and of the images whose codes are taken."""

    def __post_init__(self) -> None:
        for site in self.sites:
            check_choice("sites", site, Site)
        if not self.sites or len(set(self.sites)) < len(self.sites):
            raise InfoscopeError(f"--sites {' '.join(self.sites) or '(none)'}: name rerun, site or both, each once")
        check_choice("method", self.method, Method)
        check_choice("replacement", self.replacement, Replacement)
        for flag, number in (("--random-draws", self.random_draws), ("--random-seed", self.random_seed)):
            if number < 0:
                raise InfoscopeError(f"{flag} {number} is out of range: choose 0 or more")
