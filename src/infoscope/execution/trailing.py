"""Work that trails one step behind: the host finishes a batch while the device has the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

Task = Callable[[], None]


@contextmanager
def trailing(aside: bool) -> Iterator[Callable[[Task], None]]:
    """Do tasks in order: at once, or aside in one thread, of which at most one is ahead of the caller.

    Args:
        aside: whether there is a device to keep busy meanwhile; on a CPU the tasks would only take turns.

    Yields:
        A function that takes a task; it waits for the one before, and raises what that one raised. When the block ends
        all are done.

    Example:
        >>> done = []
        >>> with trailing(aside=True) as follow:
        ...     for number in range(3):
        ...         follow(lambda number=number: done.append(number))
        >>> done
        [0, 1, 2]
    """
    if not aside:
        yield lambda task: task()
        return
    before: list[Future[None]] = []

    def follow(task: Task) -> None:
        if before:
            before.pop().result()
        before.append(pool.submit(task))

    with ThreadPoolExecutor(1, thread_name_prefix="trailing") as pool:
        yield follow
        if before:
            before.pop().result()
