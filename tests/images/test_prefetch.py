import threading
import time

import numpy as np
import pytest
from PIL import Image

from infoscope.errors import UnreadableImageError
from infoscope.images.prefetch import decode_ahead


class Source:
    """Images that arrive out of order, some broken, and that count how many are held at once."""

    name, fingerprint = "test", ""

    def stamp(self):
        return ""

    def __init__(self, count, broken=()):
        self.ids = [str(i) for i in range(count)]
        self.broken = set(broken)
        self.asked = []

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        self.asked.append(index)
        time.sleep(0.002 * ((index * 7) % 3))
        if index in self.broken:
            raise UnreadableImageError(f"broken {index}")
        return Image.new("RGB", (2, 2), (index, 0, 0))


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("batch_size", [1, 3, 8, 100])
def test_order_and_content_do_not_depend_on_threads(threads, batch_size):
    source = Source(23, broken=[0, 5, 6, 22])
    batches = list(decode_ahead(source, range(23), np.asarray, batch_size, threads))
    readable = [i for i in range(23) if i not in source.broken]
    assert [i for batch in batches for i in batch.index] == readable
    assert [int(p[0, 0, 0]) for batch in batches for p in batch.pixels] == readable
    assert [u for batch in batches for u in batch.unreadable] == [(i, f"broken {i}") for i in (0, 5, 6, 22)]
    assert [len(batch.index) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)


def test_all_broken_is_one_empty_batch():
    (batch,) = decode_ahead(Source(3, broken=range(3)), range(3), np.asarray, 2)
    assert batch.index == []
    assert len(batch.unreadable) == 3


def test_memory_is_bounded_by_the_batch_size():
    source = Source(200)
    batches = decode_ahead(source, range(200), np.asarray, batch_size=4, threads=2)
    next(batches)
    time.sleep(0.2)
    assert len(source.asked) <= 4 + 3 * 4
    batches.close()


def test_closing_stops_the_threads():
    batches = decode_ahead(Source(50), range(50), np.asarray, batch_size=4, threads=2)
    next(batches)
    batches.close()
    time.sleep(0.2)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_other_errors_are_not_swallowed():
    with pytest.raises(ZeroDivisionError):
        list(decode_ahead(Source(3), range(3), lambda image: 1 / 0, 2))
