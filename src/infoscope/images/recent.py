"""The last few things that were read, kept for whoever asks next."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """The last few things read by number, each once, by whichever thread asks first; a copy starts empty.

    Example:
        >>> recent = Recent(2)
        >>> recent.get(7, str), recent.get(7, len)     # the second is not read again
        ('7', '7')
        >>> recent.clear()
        >>> recent.get(7, float)
        7.0
    """

    def __init__(self, kept: int):
        self._kept = kept
        self._lock = Lock()
        self._futures: OrderedDict[int, Future[T]] = OrderedDict()

    def __reduce__(self) -> tuple[type[Recent[T]], tuple[int]]:
        return type(self), (self._kept,)

    def clear(self) -> None:
        """Forget what was read."""
        with self._lock:
            self._futures.clear()

    def get(self, number: int, read: Callable[[int], T]) -> T:
        """What ``read(number)`` gave when it was read last, or gives now."""
        with self._lock:
            future = self._futures.get(number)
            mine = future is None
            if future is None:
                future = self._futures[number] = Future()
                if len(self._futures) > self._kept:
                    self._futures.popitem(last=False)
            self._futures.move_to_end(number)
        if mine:
            try:
                future.set_result(read(number))
            except BaseException as error:
                future.set_exception(error)
        return future.result()
