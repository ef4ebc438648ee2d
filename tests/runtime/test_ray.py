"""The executor on a real local cluster: the same tables as in one process, whoever dies on the way."""

import os
import signal
import time

import numpy as np
import pytest

from infoscope.errors import InfoscopeError
from infoscope.runtime.executor import Job, LocalExecutor
from infoscope.runtime.partials import Partials

ray = pytest.importorskip("ray", reason="needs infoscope[ray]")

from infoscope.runtime.ray import RayExecutor  # noqa: E402

# What Ray itself warns of is not this project's.
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]


class Result:
    def __init__(self, **arrays):
        self._arrays = arrays

    def arrays(self):
        return self._arrays


class Squares:
    """A worker that squares, and fails as it is told."""

    needs_gpu = False

    def packed(self):
        return self

    def unpacked(self, threads, gpu):
        assert threads >= 1
        assert not gpu
        return self

    def square(self, numbers, advance):
        for _ in numbers:
            advance(1)
        return Result(square=np.square(numbers), process=np.array(os.getpid()))

    def slow(self, numbers, advance):
        time.sleep(0.5)
        return self.square(numbers, advance)

    def die_once(self, numbers, mark, advance):
        if not mark.exists():
            mark.write_text("")
            advance(1)
            os.kill(os.getpid(), signal.SIGKILL)
        return self.square(numbers, advance)

    def die(self, numbers, advance):
        os.kill(os.getpid(), signal.SIGKILL)

    def complain(self, numbers, advance):
        raise InfoscopeError("the picture is upside down; turn it")


@pytest.fixture(scope="module")
def executor():
    with RayExecutor(Squares(), workers=2) as executor:
        yield executor
    assert not ray.is_initialized()


def jobs(work=Squares.square, *more):
    return [Job(f"shard-{i}", 3, work, (np.arange(i, i + 3), *more)) for i in range(7)]


class Steps:
    def __init__(self):
        self.done = 0

    def __call__(self, steps=1, note=""):
        self.done += steps


@pytest.mark.parametrize("kept", [True, False])
def test_results_come_in_order_and_from_both_workers(executor, tmp_path, kept):
    # On a busy machine one worker may have done all before the other is there.
    deadline, seen = time.monotonic() + 120, set()
    while len(seen) < 2 and time.monotonic() < deadline:
        seen = {int(arrays["process"]) for arrays in executor.run(jobs(), Partials(None), Steps())}
    partials, steps = Partials(tmp_path if kept else None), Steps()
    found = list(executor.run(jobs(), partials, steps))
    here = list(LocalExecutor(Squares()).run(jobs(), Partials(None), Steps()))
    for there, own in zip(found, here, strict=True):
        assert np.array_equal(there["square"], own["square"])
        there["square"] += 1  # its own copy, and writable
    assert len({int(arrays["process"]) for arrays in found}) == 2
    assert steps.done == 21
    assert len(list(tmp_path.iterdir())) == (7 if kept else 0)


def test_finished_shards_are_not_done_again(executor, tmp_path):
    partials, steps = Partials(tmp_path), Steps()
    partials.put("shard-3", {"square": np.array([-1])})
    found = list(executor.run(jobs(), partials, steps))
    assert found[3]["square"].tolist() == [-1]
    assert steps.done == 21


def test_a_worker_that_dies_is_replaced(executor, tmp_path):
    steps = Steps()
    found = list(executor.run(jobs(Squares.die_once, tmp_path / "mark"), Partials(None), steps))
    assert [arrays["square"].tolist() for arrays in found] == [[i * i for i in range(s, s + 3)] for s in range(7)]
    assert (tmp_path / "mark").exists()
    assert steps.done == 21


def test_a_worker_killed_at_work_is_replaced(executor, tmp_path):
    found = executor.run(jobs(Squares.slow), Partials(tmp_path), Steps())
    victim = int(next(found)["process"])
    os.kill(victim, signal.SIGKILL)
    rest = list(found)
    assert [arrays["square"][0] for arrays in rest] == [i * i for i in range(1, 7)]
    assert victim not in {int(arrays["process"]) for arrays in rest[2:]}


def test_jobs_that_were_left_do_not_answer_the_next(executor):
    left = executor.run(jobs(Squares.slow), Partials(None), Steps())
    next(left)
    left.close()
    other = [Job(job.name, 3, Squares.square, (job.arguments[0] + 100,)) for job in jobs()]
    found = list(executor.run(other, Partials(None), Steps()))
    assert [arrays["square"][0] for arrays in found] == [(i + 100) ** 2 for i in range(7)]


def test_a_shard_that_always_kills_is_named(executor):
    with pytest.raises(InfoscopeError, match="3 workers died over shard-0"):
        list(executor.run(jobs(Squares.die)[:1], Partials(None), Steps()))


def test_what_the_user_can_mend_is_said_as_here(executor):
    with pytest.raises(InfoscopeError, match=r"^the picture is upside down; turn it$"):
        list(executor.run(jobs(Squares.complain), Partials(None), Steps()))


def test_a_cluster_that_others_fill_is_not_waited_for(executor):
    with pytest.raises(InfoscopeError, match=r"0 of the cluster's \d+ CPU cores are free, too few for --workers 2"):
        RayExecutor(Squares(), workers=2)
