"""The options of removal, with the reason for each default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from infoscope.errors import InfoscopeError
from infoscope.options import ReadFrom, RemovalMethod, Replacement
from infoscope.runtime.typed import Count, check_fields

# Our choice: a ladder's two sides, equal on the sample, were up to 9 % of a step apart on 1,000 other photographs where
# the sample was of 256, 4 % with 512 and 2 % with 1,000.
SAMPLE_IMAGES = 1000
# Method, section 7: removed energy of a ladder's sets, as shares of the tokens' mean square about their mean, and how
# many sets to a step and side.
STEPS = (0.02, 0.05, 0.1, 0.2, 0.4)
DRAWS = 8


def check_steps(steps: Sequence[float]) -> None:
    """Refuse what is no ladder.

    Raises:
        InfoscopeError: there are no steps, or they do not ascend within 0 to 1.

    Example:
        >>> check_steps((0.1, 0.05))
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: --steps 0.1 0.05: give shares above 0 and at most 1, ascending
    """
    ascending = all(low < high for low, high in pairwise(steps))
    if not steps or not ascending or not steps[0] > 0 or not steps[-1] <= 1:
        given = " ".join(f"{step:g}" for step in steps)
        raise InfoscopeError(f"--steps {given}: give shares above 0 and at most 1, ascending")


@dataclass(frozen=True)
class RemovalConfig:
    """How feature groups are removed.

    Raises:
        InfoscopeError: a choice is not one of those offered, or a number is out of range.

    Example:
        >>> RemovalConfig(random_draws=-1)
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: --random-draws -1 is out of range: choose 0 or more
    """

    sites: tuple[ReadFrom, ...] = ("rerun",)
    """Where the edit acts: rerun runs the rest of the network on from the edited tokens; site reads the block's own
    edited tokens. Both may be given. Our choice: what the model loses is what its own output loses."""
    method: RemovalMethod = "keep-error"
    """keep-error takes the group's contribution from the token and leaves what the SAE does not explain; reconstruct
    decodes the codes that are left. Our choice, so that only the group differs from the untouched model."""
    replacement: Replacement = "zero"
    """What the group's codes become: zero (as the paper), their mean over a sample of images, or those of another image
    (resampled)."""
    random_draws: Count = 5
    """Random groups of equal size, and as many of equal activation mass, for each group. 0 for none. Our choice: enough
    for a spread."""
    ladder: bool = False
    """Compare each group on a ladder of removed energy: at 2, 5, 10, 20 and 40 % of the tokens' mean square, 8 random
    subsets of it and 8 random sets disjoint from it. The fair comparison, but not the default: it adds up to 80
    variants for each group and site, each with a pass or a head of its own."""
    steps: tuple[float, ...] = STEPS
    """The ladder's steps. A step's sets do not depend on what other steps there are. Default: 2 to
    40 %, doubled each time."""
    random_seed: Count = 0
    """Seed of the random groups, of the ladder's sets, and of the images whose codes are taken."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.sites or len(set(self.sites)) < len(self.sites):
            raise InfoscopeError(f"--sites {' '.join(self.sites) or '(none)'}: name rerun, site or both, each once")
        check_steps(self.steps)
        if self.steps != STEPS and not self.ladder:
            raise InfoscopeError("--steps belongs to --ladder: give that too, or leave it out")
