"""Jobs on Ray: workers are processes, on this machine or a cluster, that hold the model and the SAE.

What travels is the worker, once, and each job's few arrays and results; images are read where they are used. Finished
shards are kept by this process, under the same names as on one machine. A worker that dies is replaced, and its shard
done again.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from infoscope.errors import InfoscopeError
from infoscope.runtime.execution import WAITING, available_cores
from infoscope.runtime.executor import Job, limit_threads
from infoscope.runtime.partials import Arrays, Partials
from infoscope.runtime.progress import Advance

_LOGGER = logging.getLogger(__name__)

# Our choice: how often workers are asked how far they are.
POLL_SECONDS = 0.5
# Our choice: what was in use a moment ago is free by then.
ROOM_SECONDS = 5.0
# Our choice: a worker imports, unpacks and is ready in seconds; a busy cluster may be slow to place it.
START_SECONDS = 180.0
# Our choice: a shard that takes its worker down this often would take down the next as well.
MOST_DEATHS = 3
# Our choice: enough that cores do not wait for each other much, few enough that copies of the model fit.
CORES_PER_WORKER = 4


@runtime_checkable
class Portable(Protocol):
    """A worker that can be sent to another process."""

    @property
    def needs_gpu(self) -> bool:
        """Whether it works on a GPU."""

    def packed(self) -> Portable:
        """A copy that can be pickled where there is no GPU."""
        ...

    def unpacked(self, threads: int, gpu: bool) -> object:
        """The worker of a packed copy, in the process that uses it, on its GPU or on ``threads`` cores."""
        ...


class _Actor:
    """In a process of its own: a worker, and how far it is."""

    def __init__(self, packed: Portable, threads: int, gpu: bool):
        self._threads = threads
        self._steps = 0
        self._problem = ""
        try:
            self._worker = packed.unpacked(threads, gpu)
        except InfoscopeError as error:
            self._problem = str(error)

    def ready(self) -> int:
        """Its process, once it has all it needs."""
        return os.getpid()

    def run(self, job: Job) -> Arrays | str:
        """The job's arrays, or what the user can mend, in words."""
        if self._problem:
            return self._problem
        self._steps = 0
        limit_threads(self._threads)
        try:
            return job.run(self._worker, self._advance)
        except InfoscopeError as error:
            return str(error)

    def _advance(self, steps: int = 1, note: str = "") -> None:
        self._steps += steps

    def steps(self) -> int:
        """How far the job under way is; answered while it runs."""
        return self._steps


@dataclass
class _Slot:
    """One place for a worker, and what it is doing."""

    actor: Any
    starting: Any
    job: Job | None = None
    result: Any = None
    asked: Any = None
    steps: int = 0


class RayExecutor(AbstractContextManager["RayExecutor"]):
    """Workers on Ray, as a context that ends them.

    Args:
        worker: what each of them is a copy of.
        workers: how many; by default one a GPU, or one for every `CORES_PER_WORKER` cores of the cluster.
        address: of a running cluster (see ``ray.init``); by default one is started on this machine, and ended with
            the context.

    Raises:
        InfoscopeError: the ``ray`` extra is missing, the cluster cannot be reached, or has no room for the workers.
    """

    def __init__(self, worker: Portable, workers: int | None = None, address: str | None = None):
        try:
            import ray
        except ImportError as error:
            raise InfoscopeError("--executor ray needs Ray: install infoscope[ray]") from error
        self._ray = ray
        self._death = ""
        self._started = not ray.is_initialized()
        if self._started:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            self._connect(workers, address)
        try:
            self._gpu = worker.needs_gpu
            self.workers, self._threads = self._room(workers)
            self._worker = ray.put(worker.packed())
            self._slots = [self._slot() for _ in range(self.workers)]
        except BaseException:
            self._disconnect()
            raise

    def run(self, jobs: Sequence[Job], partials: Partials, advance: Advance) -> Iterator[Arrays]:
        """See `Executor`.

        Raises:
            InfoscopeError: as the jobs do, or a shard's workers keep dying.
        """
        waiting = deque(job for job in jobs if job.name not in partials)
        results: dict[str, Arrays] = {}
        deaths: Counter[str] = Counter()
        advance(sum(job.size for job in jobs if job.name in partials))
        try:
            for job in jobs:
                while job.name not in results and job.name not in partials:
                    self._assign(waiting)
                    for slot in self._ended(advance):
                        done, slot.job = slot.job, None
                        assert done is not None
                        arrays = self._result(slot)
                        if arrays is None:
                            deaths[done.name] += 1
                            self._check_deaths(done, deaths[done.name])
                            advance(-slot.steps)
                            waiting.appendleft(done)
                            self._slots[self._slots.index(slot)] = self._slot()
                            continue
                        advance(done.size - slot.steps)
                        _LOGGER.debug("shard %s: finished by worker %d", done.name, self._slots.index(slot))
                        if partials.directory is None:
                            results[done.name] = arrays
                        else:
                            partials.put(done.name, arrays)
                yield results.pop(job.name) if job.name in results else partials.read(job.name)
        finally:
            # A worker that was stopped in the middle of a job cannot take the next one.
            for number, slot in enumerate(self._slots):
                if slot.job is not None:
                    self._ray.kill(slot.actor)
                    self._slots[number] = self._slot()

    def __exit__(self, *_: object) -> None:
        for slot in self._slots:
            self._ray.kill(slot.actor)
        self._disconnect()

    def _room(self, workers: int | None) -> tuple[int, int]:
        """How many workers to start, with how many cores each; it waits only briefly for what others hold."""
        kind, what = ("GPU", "GPUs") if self._gpu else ("CPU", "CPU cores")
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        slots = sum(int(node.get(kind, 0)) for node in nodes)
        deadline = time.monotonic() + ROOM_SECONDS
        while True:
            free = int(self._ray.available_resources().get(kind, 0))
            wanted = workers or max(1, free if self._gpu else free // CORES_PER_WORKER)
            if free >= wanted:
                break
            if time.monotonic() > deadline:
                raise InfoscopeError(
                    f"{free} of the cluster's {slots} {what} are free, too few for --workers {wanted}"
                    "; lower --workers, or wait for others to end"
                )
            time.sleep(POLL_SECONDS)
        if self._gpu:
            return wanted, min(int(node.get("CPU", 1) // node["GPU"]) or 1 for node in nodes if node.get("GPU"))
        # A worker is on one machine: as many cores to each as lets all of them find a place.
        threads = max(1, free // wanted)
        while threads > 1 and sum(int(node.get("CPU", 0)) // threads for node in nodes) < wanted:
            threads -= 1
        return wanted, threads

    def _connect(self, workers: int | None, address: str | None) -> None:
        options: dict[str, Any] = {"address": address or "local"}
        if not address:
            options |= {"num_cpus": max(available_cores(), workers or 1), "include_dashboard": False}
        elif WAITING in os.environ:
            # Workers of a cluster that runs already do not inherit it from this process.
            options["runtime_env"] = {"env_vars": {WAITING: os.environ[WAITING]}}
        try:
            self._ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
        except Exception as error:  # connections fail in as many ways as there are networks
            reason = " ".join(str(error).split())
            raise InfoscopeError(
                f"cannot use the Ray cluster at {address or 'this machine'}: {reason}"
                "; check --address, or leave it out to start Ray on this machine"
            ) from error

    def _disconnect(self) -> None:
        if self._started:
            self._ray.shutdown()

    def _check_deaths(self, job: Job, deaths: int) -> None:
        if deaths == MOST_DEATHS:
            raise InfoscopeError(
                f"{deaths} workers died over {job.name} ({self._death}); where it is for want of memory, give fewer "
                "--workers or a smaller --batch-size: the same command resumes"
            )

    def _slot(self) -> _Slot:
        """A place with a worker on its way."""
        # A worker with a GPU is never short of cores; those of one without are what it is placed by.
        options = {"num_cpus": 0 if self._gpu else self._threads, "num_gpus": int(self._gpu)}
        # Two threads: one works, one says how far it is.
        kind = self._ray.remote(_Actor).options(max_concurrency=2, scheduling_strategy="SPREAD", **options)
        actor = kind.remote(self._worker, self._threads, self._gpu)
        return _Slot(actor, actor.ready.remote())

    def _assign(self, waiting: deque[Job]) -> None:
        """Give jobs to workers that are ready and idle; the others are still starting, or never will.

        Raises:
            InfoscopeError: no worker is ready, and none has started for a while.
        """
        deadline = time.monotonic() + START_SECONDS
        while waiting:
            for number, slot in enumerate(self._slots):
                if slot.starting is not None and self._ray.wait([slot.starting], timeout=0)[0]:
                    try:
                        self._ray.get(slot.starting)
                        slot.starting = None
                    except self._ray.exceptions.RayError as error:
                        self._death = _last_line(error)
                        self._slots[number] = self._slot()
                elif slot.starting is None and slot.job is None and waiting:
                    slot.job, slot.steps = waiting.popleft(), 0
                    slot.result = slot.actor.run.remote(slot.job)
            if any(slot.job is not None for slot in self._slots):
                return
            if time.monotonic() > deadline:
                why = self._death or "the cluster has no place for it"
                raise InfoscopeError(
                    f"no worker has started within {START_SECONDS:.0f} seconds ({why}); give fewer --workers, and see "
                    "that every machine has the same infoscope installed"
                )
            time.sleep(0.02)

    def _ended(self, advance: Advance) -> list[_Slot]:
        """Slots whose job is done or lost, after a short wait; reports how far the others are."""
        busy = [slot for slot in self._slots if slot.job is not None]
        if not busy:
            return []
        ready, _ = self._ray.wait([slot.result for slot in busy], num_returns=1, timeout=POLL_SECONDS)
        for slot in busy:
            if slot.asked is None:
                slot.asked = slot.actor.steps.remote()
            elif self._ray.wait([slot.asked], timeout=0)[0]:
                answer, slot.asked = slot.asked, None
                try:
                    steps = min(self._ray.get(answer), slot.job.size if slot.job else 0)
                except self._ray.exceptions.RayError:
                    continue
                if steps > slot.steps:
                    advance(steps - slot.steps)
                    slot.steps = steps
        return [slot for slot in busy if slot.result in ready]

    def _result(self, slot: _Slot) -> Arrays | None:
        """What the slot's worker gave; None when it died."""
        try:
            outcome: Arrays | str = self._ray.get(slot.result)
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError as error:  # killed, out of memory, its machine gone, its result lost
            self._death = _last_line(error)
            return None
        if isinstance(outcome, str):
            raise InfoscopeError(outcome)
        # Ray's arrays share its memory and are read-only; a ranking merges in place.
        return {name: array.copy() for name, array in outcome.items()}


def _last_line(error: Exception) -> str:
    """Where Ray's long messages name the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
