"""The state of an unfinished training on disk, so that it goes on as if it had not been stopped."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from infoscope.errors import InfoscopeError
from infoscope.storage.atomic import as_read, atomic_write, remove_leftovers
from infoscope.training.config import TrainConfig
from infoscope.training.processes import Processes
from infoscope.training.result import TrainingPoint
from infoscope.training.stream import ShuffleBuffer
from infoscope.training.trainer import Trainer

# Our choice: what a stop can lose. Writing takes about as long as a few steps.
EVERY_SECONDS = 120.0
# Several processes agree on when to write; asking takes a moment.
STEPS_BETWEEN_QUESTIONS = 10


class Checkpoints:
    """Keeps the last state of a training, a file for each process.

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
        self._folder = folder
        plan = {"configs": [asdict(config) for config in configs], "tokens": identity, "processes": processes.count}
        self._plan = as_read(plan)
        self._written = time.monotonic()
        if folder is not None and processes.rank == 0:
            remove_leftovers(folder)

    def save_when_due(self, step: int, trainers: Sequence[Trainer], buffer: ShuffleBuffer) -> None:
        """Write the state after ``step`` steps, when the last writing is long enough ago.

        Raises:
            InfoscopeError: it cannot be written.
        """
        if self._folder is None or (self._processes.count > 1 and step % STEPS_BETWEEN_QUESTIONS):
            return
        # The first process decides for all.
        if self._processes.gather(time.monotonic() - self._written >= self._seconds)[0]:
            self.save(step, trainers, buffer)

    def save(self, step: int, trainers: Sequence[Trainer], buffer: ShuffleBuffer) -> None:
        """Write the state after ``step`` steps, in place of an earlier one; nothing where there is no folder.

        Raises:
            InfoscopeError: it cannot be written.
        """
        if self._folder is None:
            return
        tensors = {f"buffer.{name}": tensor for name, tensor in buffer.tensors().items()}
        for number, trainer in enumerate(trainers):
            tensors |= {f"{number}.{name}": tensor for name, tensor in trainer.state().items()}
        shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
        # A tensor of no dimensions, or a view into another, is not something the file can hold.
        tensors = {name: tensor.detach().cpu().reshape(-1).clone() for name, tensor in tensors.items()}
        record = {
            "plan": self._plan,
            "step": step,
            "buffer": buffer.numbers(),
            "shapes": shapes,
            "histories": [[asdict(point) for point in trainer.history] for trainer in trainers],
        }
        before = self._steps()
        with atomic_write(self._file(step)) as temporary:
            try:
                save_file(tensors, temporary, {"state": json.dumps(record)})
            except SafetensorError as error:  # how safetensors reports a full disk
                raise OSError(errno.EIO, str(error)) from error
        # Only once every process has written: whichever is stopped, there is a step that all have.
        self._processes.gather(step)
        for old in before - {step}:
            self._file(old).unlink(missing_ok=True)
        self._written = time.monotonic()

    def restore(self, trainers: Sequence[Trainer], buffer: ShuffleBuffer) -> int:
        """Go on from the last state on disk that all processes have.

        Returns:
            How many steps are done; 0 without a state.

        Raises:
            InfoscopeError: it is another training's, or cannot be read.
        """
        steps = self._processes.gather(self._steps())
        if not set().union(*steps):
            return 0
        common = set.intersection(*steps)
        if not common:
            raise self._another()
        step: int = max(common)
        tensors, record = _read(self._file(step))
        if not all(self._processes.gather(record["plan"] == self._plan)):
            raise self._another()
        tensors = {name: tensor.reshape(record["shapes"][name]) for name, tensor in tensors.items()}
        for number, trainer in enumerate(trainers):
            history = [TrainingPoint(**point) for point in record["histories"][number]]
            trainer.restore(_under(tensors, f"{number}."), history)
        buffer.restore(_under(tensors, "buffer."), record["buffer"])
        return step

    def _another(self) -> InfoscopeError:
        return InfoscopeError(
            f"{self._folder} holds an unfinished training with other options, tokens or processes; give those again, "
            "or choose another --out"
        )

    def _file(self, step: int) -> Path:
        assert self._folder is not None
        return self._folder / f"process-{self._processes.rank}-{step:09}.safetensors"

    def _steps(self) -> set[int]:
        """After how many steps this process's states are."""
        if self._folder is None:
            return set()
        files = self._folder.glob(f"process-{self._processes.rank}-*.safetensors")
        return {int(file.stem.rsplit("-", 1)[1]) for file in files}


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(file, "pt") as stored:
            record = json.loads(stored.metadata()["state"])
            return {name: stored.get_tensor(name) for name in stored.keys()}, record  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InfoscopeError(f"cannot read {file} ({error}); delete it to start the training again") from error
