"""The state of an unfinished training on disk, from which it resumes as if it had never been stopped."""

from __future__ import annotations

import errno
import json
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64, UInt64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from infoscope.errors import InfoscopeError, first_line
from infoscope.runtime.atomic import atomic_write, remove_leftovers
from infoscope.runtime.json_values import to_json
from infoscope.training.config import TrainConfig
from infoscope.training.processes import Processes
from infoscope.training.stream import ShuffleBuffer
from infoscope.training.trained_sae import TrainingPoint

# Our choice: how much work an interruption can lose. Writing takes about as long as a few steps.
EVERY_SECONDS = 120.0
# Several processes must agree on when to write, and asking takes a moment.
STEPS_BETWEEN_QUESTIONS = 10
# Keys of the file's metadata: everything that is not a tensor, and a checksum of that and the tensors.
STATE, CHECKSUM = "state", "crc32"
# The tensor that holds hashes of the images' contents.
IMAGES = "images"


@runtime_checkable
class Witness(Protocol):
    """What knows whether the tokens' images have changed, such as `infoscope.images.watched.Watched`."""

    contents: UInt64[np.ndarray, " image"]

    @property
    def states(self) -> str:
        """A text that differs whenever an image may have changed."""
        ...

    def expect(self, index: Int64[np.ndarray, " image"], contents: UInt64[np.ndarray, " image"]) -> None:
        """Adopt these hashes of images; raises where an image read before has another."""

    def verify(self, index: Int64[np.ndarray, " image"]) -> None:
        """Read images again; raises where one has changed."""


@runtime_checkable
class Resumable(Protocol):
    """One SAE in training, as `infoscope.training.loop.Trainer` is."""

    history: list[TrainingPoint]

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on."""
        ...

    def restore(self, state: dict[str, Tensor], history: list[TrainingPoint]) -> None:
        """Resume from what `state` gave."""


class Checkpoints:
    """Keeps the last state of a training, one file per process.

    Args:
        folder: where to write; None keeps nothing.
        configs: the options of each SAE.
        identity: what made the tokens, as JSON values.
        processes: those that train together.
        seconds: how much time passes between two states.
        images: what the tokens are made from.
    """

    def __init__(
        self,
        folder: Path | None,
        configs: Sequence[TrainConfig],
        identity: Mapping[str, Any],
        processes: Processes,
        seconds: float = EVERY_SECONDS,
        images: Witness | None = None,
    ):
        self._images = images
        self._processes = processes
        self._seconds = seconds
        self._folder = folder
        plan = {"configs": [asdict(config) for config in configs], "tokens": identity, "processes": processes.count}
        self._plan = to_json(plan)
        self._states = None if images is None else images.states
        self._written = time.monotonic()
        if folder is not None and processes.rank == 0:
            remove_leftovers(folder)

    def save_when_due(self, step: int, trainers: Sequence[Resumable], buffer: ShuffleBuffer) -> None:
        """Write the state after ``step`` steps, if enough time has passed since the last one was written.

        Raises:
            InfoscopeError: it cannot be written.
        """
        if self._folder is None or (self._processes.count > 1 and step % STEPS_BETWEEN_QUESTIONS):
            return
        # The first process decides for all.
        if self._processes.gather(time.monotonic() - self._written >= self._seconds)[0]:
            self.save(step, trainers, buffer)

    def save(self, step: int, trainers: Sequence[Resumable], buffer: ShuffleBuffer) -> None:
        """Write the state after ``step`` steps and delete the earlier one; does nothing without a folder.

        Raises:
            InfoscopeError: it cannot be written.
        """
        if self._folder is None:
            return
        tensors = {f"buffer.{name}": tensor for name, tensor in buffer.tensors().items()}
        for number, trainer in enumerate(trainers):
            tensors |= {f"{number}.{name}": tensor for name, tensor in trainer.state().items()}
        if self._images is not None:
            tensors[IMAGES] = torch.from_numpy(self._images.contents.astype(np.int64))
        shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
        # The file cannot hold a tensor without dimensions, nor a view into another.
        tensors = {name: tensor.detach().cpu().reshape(-1).clone() for name, tensor in tensors.items()}
        record = {
            "plan": self._plan,
            "states": self._states,
            "step": step,
            "buffer": buffer.numbers(),
            "shapes": shapes,
            "histories": [[asdict(point) for point in trainer.history] for trainer in trainers],
        }
        before = self._steps()
        with atomic_write(self._file(step)) as temporary:
            try:
                text = json.dumps(record)
                save_file(tensors, temporary, {STATE: text, CHECKSUM: _checksum(text, tensors)})
            except SafetensorError as error:  # how safetensors reports a full disk
                raise OSError(errno.EIO, str(error)) from error
        # The old state goes only once every process has written the new one: whichever is stopped, all share a step.
        self._processes.gather(step)
        for old in before - {step}:
            self._file(old).unlink(missing_ok=True)
        self._written = time.monotonic()

    def restore(self, trainers: Sequence[Resumable], buffer: ShuffleBuffer) -> int:
        """Resume from the last state on disk that all processes have.

        Returns:
            How many steps are done; 0 without a state.

        Raises:
            InfoscopeError: the state belongs to another training or cannot be read, or an image has changed since.
        """
        steps = self._processes.gather(self._steps())
        if not set().union(*steps):
            return 0
        common = set.intersection(*steps)
        if not common:
            raise self._another()
        step: int = max(common)
        tensors, record = _read(self._file(step))
        tensors = {name: tensor.reshape(record["shapes"][name]) for name, tensor in tensors.items()}
        if not all(self._processes.gather(self._is_same(record, tensors))):
            raise self._another()
        for number, trainer in enumerate(trainers):
            history = [TrainingPoint(**point) for point in record["histories"][number]]
            trainer.restore(_under(tensors, f"{number}."), history)
        buffer.restore(_under(tensors, "buffer."), record["buffer"])
        return step

    def _is_same(self, record: dict[str, Any], tensors: Mapping[str, Tensor]) -> bool:
        """Whether a state belongs to this training.

        Where only the times of the images' files differ, the images decide: their contents are hashed again.

        Raises:
            InfoscopeError: it does, but an image has changed since.
        """
        same: bool = record["plan"] == self._plan
        if (
            self._images is None
            or IMAGES not in tensors
            or _without_stamp(record["plan"]) != _without_stamp(self._plan)
        ):
            return same
        images = self._images
        images.expect(np.arange(len(images.contents)), tensors[IMAGES].numpy().astype(np.uint64))
        if record.get("states") == self._states:
            return same
        read = np.flatnonzero(images.contents)
        images.verify(read)
        return same or len(read) > 0

    def _another(self) -> InfoscopeError:
        return InfoscopeError(
            f"{self._folder} holds an unfinished training with other options, tokens or processes; give those again, "
            "or choose another --out"
        )

    def _file(self, step: int) -> Path:
        assert self._folder is not None
        return self._folder / f"process-{self._processes.rank}-{step:09}.safetensors"

    def _steps(self) -> set[int]:
        """After how many steps this process has written a state that is still there."""
        if self._folder is None:
            return set()
        files = self._folder.glob(f"process-{self._processes.rank}-*.safetensors")
        return {int(file.stem.rsplit("-", 1)[1]) for file in files}


def _without_stamp(plan: dict[str, Any]) -> dict[str, Any]:
    """A plan without the sizes and times of the images' files, which copies of the files do not share."""
    tokens = plan["tokens"]
    if not isinstance(tokens.get("images"), dict):
        return plan
    images = {key: value for key, value in tokens["images"].items() if key != "stamp"}
    return plan | {"tokens": tokens | {"images": images}}


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the record of a state.

    Raises:
        InfoscopeError: the file is cut short or damaged.
    """
    if not file.is_file():  # opening a pipe would wait until somebody writes to it
        raise InfoscopeError(f"{file} is not a file; delete it to start the training again")
    try:
        with safe_open(file, "pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a mapping
    # A damaged header can name types that torch lacks, and shapes that the tensors do not have.
    except (OSError, SafetensorError, KeyError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        reason = first_line(error)
        raise InfoscopeError(f"cannot read {file} ({reason}); delete it to start the training again") from error
    text = metadata.get(STATE, "")
    # Without this, a flipped bit in a weight would go unnoticed, and end in an SAE that looks like any other.
    if metadata.get(CHECKSUM) != _checksum(text, tensors):
        what = "does not hold what was written to it" if CHECKSUM in metadata else "is of a version without checksums"
        raise InfoscopeError(f"{file} {what}; delete it to start the training again")
    record: dict[str, Any] = json.loads(text)
    return tensors, record


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    """CRC-32, as 8 hexadecimal digits, of a text and of named tensors of one dimension, their types included.

    Example:
        >>> import torch
        >>> _checksum("a", {"x": torch.zeros(2)}) == _checksum("a", {"x": torch.tensor([0.0, 1e-45])})
        False
    """
    checksum = zlib.crc32(text.encode())
    for name in sorted(tensors):
        checksum = zlib.crc32(f"{name} {tensors[name].dtype} {list(tensors[name].shape)}".encode(), checksum)
        checksum = zlib.crc32(tensors[name].contiguous().view(torch.uint8).numpy().data, checksum)
    return f"{checksum:08x}"
