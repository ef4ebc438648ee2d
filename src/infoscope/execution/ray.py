"""Jobs on Ray: workers are processes, on this machine or a cluster, that hold the model and the SAE.

What travels is the worker, once, and each job's few arrays and results; images are read where they are used. Finished
shards are kept by this process, under the same names as on one machine. A worker that dies is replaced, and its shard
done again.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from infoscope.cores import available_cores
from infoscope.errors import InfoscopeError
from infoscope.execution.executor import Job
from infoscope.execution.limits import limit_threads
from infoscope.execution.partials import Arrays, Partials
from infoscope.progress import Advance

# Our choice: how often workers are asked how far they are.
POLL_SECONDS = 0.5
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
        self._worker = packed.unpacked(threads, gpu)
        self._steps = 0

    def run(self, job: Job) -> Arrays | str:
        """The job's arrays, or what the user can mend, in words."""
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
    job: Job | None = None
    result: Any = None
    asked: Any = None
    steps: int = 0


class RayExecutor(AbstractContextManager["RayExecutor"]):
    """Workers on Ray, as a context that lets them go at its end.

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
        self._started = not ray.is_initialized()
        if self._started:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            self._connect(workers, address)
        try:
            self._gpu = worker.needs_gpu
            kind, what = ("GPU", "GPUs") if self._gpu else ("CPU", "CPU cores")
            slots, free = (int(r.get(kind, 0)) for r in (ray.cluster_resources(), ray.available_resources()))
            self.workers = workers or max(1, free if self._gpu else free // CORES_PER_WORKER)
            if free < self.workers:
                raise InfoscopeError(
                    f"{free} of the cluster's {slots} {what} are free, too few for --workers {self.workers}"
                )
            cores = int(ray.available_resources().get("CPU", 1))
            self._threads = max(1, cores // self.workers)
            self._worker = ray.put(worker.packed())
            self._slots = [_Slot(self._actor()) for _ in range(self.workers)]
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
        for job in jobs:
            while job.name not in results and job.name not in partials:
                for slot in self._slots:
                    if slot.job is None and waiting:
                        slot.job, slot.steps = waiting.popleft(), 0
                        slot.result = slot.actor.run.remote(slot.job)
                for slot in self._ended(advance):
                    done, slot.job = slot.job, None
                    assert done is not None
                    arrays = self._result(slot)
                    if arrays is None:
                        deaths[done.name] += 1
                        if deaths[done.name] == MOST_DEATHS:
                            raise InfoscopeError(
                                f"{MOST_DEATHS} workers died over {done.name}, for want of memory perhaps; give fewer "
                                "--workers or a smaller --batch-size, and the same command goes on"
                            )
                        advance(-slot.steps)
                        waiting.appendleft(done)
                        slot.actor = self._actor()
                        continue
                    advance(done.size - slot.steps)
                    if partials.directory is None:
                        results[done.name] = arrays
                    else:
                        partials.put(done.name, arrays)
            yield results.pop(job.name) if job.name in results else partials.read(job.name)

    def __exit__(self, *_: object) -> None:
        for slot in self._slots:
            self._ray.kill(slot.actor)
        self._disconnect()

    def _connect(self, workers: int | None, address: str | None) -> None:
        options: dict[str, Any] = {"address": address} if address else {}
        if not address:
            options = {"num_cpus": max(available_cores(), workers or 1), "include_dashboard": False}
        try:
            self._ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
        except Exception as error:  # connections fail in as many ways as there are networks
            reason = " ".join(str(error).split())
            raise InfoscopeError(f"cannot use the Ray cluster at {address or 'this machine'}: {reason}") from error

    def _disconnect(self) -> None:
        if self._started:
            self._ray.shutdown()

    def _actor(self) -> Any:
        options = {"num_cpus": self._threads, "num_gpus": int(self._gpu), "scheduling_strategy": "SPREAD"}
        # Two threads: one works, one says how far it is.
        return (
            self._ray.remote(_Actor)
            .options(max_concurrency=2, **options)
            .remote(self._worker, self._threads, self._gpu)
        )

    def _ended(self, advance: Advance) -> list[_Slot]:
        """Slots whose job is done or lost, after a short wait; reports how far the others are."""
        busy = [slot for slot in self._slots if slot.job is not None]
        ready, _ = self._ray.wait([slot.result for slot in busy], num_returns=1, timeout=POLL_SECONDS)
        for slot in busy:
            if slot.asked is None:
                slot.asked = slot.actor.steps.remote()
            elif self._ray.wait([slot.asked], timeout=0)[0]:
                with_answer, slot.asked = slot.asked, None
                try:
                    steps = min(self._ray.get(with_answer), slot.job.size if slot.job else 0)
                except self._ray.exceptions.RayActorError:
                    continue
                if steps > slot.steps:
                    advance(steps - slot.steps)
                    slot.steps = steps
        return [slot for slot in busy if slot.result in ready]

    def _result(self, slot: _Slot) -> Arrays | None:
        """What the slot's worker gave; None when it died."""
        try:
            outcome: Arrays | str = self._ray.get(slot.result)
        except (self._ray.exceptions.RayActorError, self._ray.exceptions.ObjectLostError):
            return None
        if isinstance(outcome, str):
            raise InfoscopeError(outcome)
        # Ray's arrays share its memory and are read-only; a ranking merges in place.
        return {name: array.copy() for name, array in outcome.items()}
