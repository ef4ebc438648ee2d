"""The state of an unfinished training on disk, so that it goes on as if it had not been stopped."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from infoscope.errors import InfoscopeError
from infoscope.storage.atomic import atomic_write, remove_leftovers
from infoscope.training.config import TrainConfig
from infoscope.training.processes import Processes
from infoscope.training.result import TrainingPoint
from infoscope.training.stream import ShuffleBuffer
from infoscope.training.trainer import Trainer

# Our choice: what a stop can lose. Writing takes about as long as a few steps.
EVERY_SECONDS = 120.0


class Checkpoints:
    """Keeps the last state of a training, one file a process.

    Args:
        folder: where; None keeps nothing.
        configs: the options of each SAE.
        identity: what made the tokens, as JSON values.
        processes: those that train together.
        seconds: between two writings.
    """

    def __init__(
        self,
        folder: Path | None,
        configs: Sequence[TrainConfig],
        identity: Mapping[str, Any],
        processes: Processes,
        seconds: float = EVERY_SECONDS,
    ):
        self._processes = processes
        self._seconds = seconds
        self._file = None if folder is None else folder / f"process-{processes.rank}.safetensors"
        plan = {"configs": [asdict(config) for config in configs], "tokens": identity, "processes": processes.count}
        self._plan = json.loads(json.dumps(plan))
        self._written = time.monotonic()
        if folder is not None:
            remove_leftovers(folder)

    def save_when_due(self, step: int, trainers: Sequence[Trainer], buffer: ShuffleBuffer) -> None:
        """Write the state after ``step`` steps, when the last writing is long enough ago.

        Raises:
            InfoscopeError: it cannot be written.
        """
        if self._file is None or not self._processes.gather(time.monotonic() - self._written >= self._seconds)[0]:
            return
        tensors = {f"buffer.{name}": tensor for name, tensor in buffer.tensors().items()}
        for number, trainer in enumerate(trainers):
            tensors |= {f"{number}.{name}": tensor for name, tensor in trainer.state().items()}
        # A tensor of no dimensions, or a view into another, is not something the file can hold.
        tensors = {name: tensor.detach().cpu().reshape(-1).clone() for name, tensor in tensors.items()}
        record = {
            "plan": self._plan,
            "step": step,
            "buffer": buffer.numbers(),
            "shapes": {name: list(shape) for name, shape in self._shapes(trainers, buffer).items()},
            "histories": [[asdict(point) for point in trainer.history] for trainer in trainers],
        }
        with atomic_write(self._file) as temporary:
            try:
                save_file(tensors, temporary, {"state": json.dumps(record)})
            except SafetensorError as error:  # how safetensors reports a full disk
                raise OSError(errno.EIO, str(error)) from error
        self._written = time.monotonic()

    def restore(self, trainers: Sequence[Trainer], buffer: ShuffleBuffer) -> int:
        """Go on from the state on disk.

        Returns:
            How many steps are done; 0 without a state.

        Raises:
            InfoscopeError: it is another training's, or cannot be read.
        """
        found = self._file is not None and self._file.is_file()
        if not all(self._processes.gather(found)):
            return 0
        assert self._file is not None
        tensors, record = _read(self._file)
        if record["plan"] != self._plan:
            raise InfoscopeError(
                f"{self._file.parent} holds an unfinished training with other options or tokens; give those again, "
                "or choose another --out"
            )
        steps = self._processes.gather(record["step"])
        if len(set(steps)) > 1:
            # One process was stopped between the others' writing and its own.
            raise InfoscopeError(f"the files in {self._file.parent} are of different steps; delete it to start again")
        tensors = {name: tensor.reshape(record["shapes"][name]) for name, tensor in tensors.items()}
        for number, trainer in enumerate(trainers):
            history = [TrainingPoint(**point) for point in record["histories"][number]]
            trainer.restore(_under(tensors, f"{number}."), history)
        buffer.restore(_under(tensors, "buffer."), record["buffer"])
        return int(record["step"])

    @staticmethod
    def _shapes(trainers: Sequence[Trainer], buffer: ShuffleBuffer) -> dict[str, torch.Size]:
        shapes = {f"buffer.{name}": tensor.shape for name, tensor in buffer.tensors().items()}
        for number, trainer in enumerate(trainers):
            shapes |= {f"{number}.{name}": tensor.shape for name, tensor in trainer.state().items()}
        return shapes


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(file, "pt") as stored:
            record = json.loads(stored.metadata()["state"])
            return {name: stored.get_tensor(name) for name in stored.keys()}, record  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InfoscopeError(f"cannot read {file} ({error}); delete it to start the training again") from error
