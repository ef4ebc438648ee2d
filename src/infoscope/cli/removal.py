"""The flags of removal, shared by the commands that remove feature groups."""

from __future__ import annotations

from dataclasses import dataclass, field

import tyro

from infoscope.analyses.removal.config import RemovalConfig


@dataclass(frozen=True)
class RemovalFlags:
    """Which feature groups are removed, and how."""

    remove: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A feature group, once for each: high-CDS, low-CDS, unscored, a class (local, diffuse, position-bound, global,
    undefined), a rule ('cds > 0.2'), a column between quantiles (cds@0.9-1), list:FILE, or several joined by +.
    nothing, alone, for the untouched model and the reconstruction. Default: high-CDS and low-CDS."""
    config: tyro.conf.OmitArgPrefixes[RemovalConfig] = field(default_factory=RemovalConfig)

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of the groups."""
        return () if self.remove == ("nothing",) else self.remove or ("high-CDS", "low-CDS")
