"""``infoscope park``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from infoscope.cli.inputs import Hardware, check_writable, open_backbone
from infoscope.cli.output import Answer, Output
from infoscope.errors import InfoscopeError
from infoscope.runtime.typed import Range, check_fields


@dataclass(frozen=True)
class Park:
    """Leave a model's registers out and put what they held on patches: a model with outlier tokens, to try things on.

    The weights stay as they were trained; the place of the outliers is moved, which whoever shows the model must say.
    What is written is a model that every other command takes as --model.
    """

    model: str
    """A model with register tokens: a local directory in Hugging Face layout, or a hub id."""
    images: str
    """Photographs that the register and the neurons that write it are found on, as for `infoscope measure`; 64 of them
    are looked at."""
    out: Path
    """A new directory for the model."""
    patches: Annotated[int, Range(0)] = 1
    """On how many patches of each view the register is put; 0 leaves the registers out and moves nothing, as a control.
    Our choice: one, as there was one register."""
    input_side: int | None = None
    """Pixels per side of the model's input. Default: the model's own."""
    revision: str | None = None
    """The model's revision on the hub."""
    hardware: tyro.conf.OmitArgPrefixes[Hardware] = field(default_factory=Hardware)
    output: tyro.conf.OmitArgPrefixes[Output] = field(default_factory=Output)

    interrupted: ClassVar[str] = "nothing was written"

    def __post_init__(self) -> None:
        check_fields(self)

    def run(self) -> Answer:
        """Run the command."""
        if self.out.exists():
            raise InfoscopeError(f"{self.out} exists already; name another directory")
        check_writable(self.out)
        from infoscope.backbones.moved_registers import move_registers, moved_neurons, save_moved

        backbone = open_backbone(self.model, -1, self.input_side, self.revision, self.hardware)
        moved = move_registers(backbone, self.images, patches=self.patches)
        found = moved_neurons(moved)
        assert found is not None
        save_moved(moved, self.out)
        values = dict(zip(found.neurons.tolist(), (round(value, 2) for value in found.values.tolist()), strict=True))

        def show() -> None:
            print(
                f"block {found.block}: {len(values)} neurons write the register; set on {self.patches} of each view's"
            )
            print(
                f"{moved.grid**2} patches: " + ", ".join(f"{neuron} to {value:g}" for neuron, value in values.items())
            )
            print(f"next: infoscope outliers --model {self.out} --images {self.images}")

        def result() -> dict[str, Any]:
            return {
                "block": found.block,
                "neurons": list(values),
                "values": list(values.values()),
                "patches": self.patches,
            }

        return Answer(show, result, {"out": self.out})
