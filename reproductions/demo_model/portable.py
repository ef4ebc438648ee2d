"""Step 5: the SAE as the demo brings it along.

Its record names the model and the photographs by where they were on one machine. Here they get names of no machine, and
the record a new checksum. The curves of its training stay behind.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import tyro

from infoscope.runtime.json_values import read_json
from infoscope.runtime.seal import write_sealed

WEIGHTS, RECORD = "sae.safetensors", "sae.json"


@dataclass(frozen=True)
class Portable:
    """Copy it."""

    sae: Path
    """The folder that `infoscope train` wrote."""
    out: Path
    """The folder to write."""
    model: str = "demo-vit"
    """What the model is called there."""
    images: str = "imagenette-train"
    """What the photographs are called that it was trained on."""

    def run(self) -> None:
        """Write it."""
        record = read_json(self.sae / RECORD)
        record["site"]["model"] = self.model
        record["site"]["images"]["source"] = self.images
        self.out.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.sae / WEIGHTS, self.out)
        write_sealed(self.out / RECORD, record)


if __name__ == "__main__":
    tyro.cli(Portable).run()
