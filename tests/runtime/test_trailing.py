import threading

import pytest

from infoscope.runtime.executor import trailing


def test_one_task_is_under_way_while_the_caller_goes_on():
    go, done = threading.Event(), []
    with trailing(aside=True) as follow:
        follow(lambda: go.wait(30) and done.append(1))
        assert not done  # the caller is here, and the task is not over
        go.set()
        follow(lambda: done.append(2))
        assert done[:1] == [1]  # never two ahead
    assert done == [1, 2]


def test_nothing_is_put_aside_without_a_device():
    done = []
    with trailing(aside=False) as follow:
        follow(lambda: done.append(threading.current_thread()))
        assert done == [threading.current_thread()]


def follow_all(aside, *tasks, then=lambda: None):
    with trailing(aside) as follow:
        for task in tasks:
            follow(task)
        then()


@pytest.mark.parametrize("aside", [True, False])
@pytest.mark.parametrize("tasks", [1, 3])
def test_what_a_task_raises_is_raised(aside, tasks):
    with pytest.raises(ZeroDivisionError):
        follow_all(aside, *[lambda: 1 / 0] * tasks)


def test_the_callers_own_error_comes_through_after_the_task():
    done = []

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow_all(True, lambda: done.append(1), then=stop)
    assert done == [1]
