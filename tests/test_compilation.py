"""Kernels compile with a cache, and without one where nothing can be written."""

from numba.core.caching import CacheImpl

from infoscope.compilation import compiled


def square(number: int) -> int:
    return number * number


def test_a_kernel_keeps_its_machine_code():
    kernel = compiled()(square)
    assert kernel(12) == 144
    assert kernel.stats.cache_path


def test_a_kernel_compiles_where_no_folder_can_be_written(monkeypatch):
    monkeypatch.setattr(CacheImpl, "_locator_classes", [])
    kernel = compiled()(square)
    assert kernel(12) == 144
    assert kernel.stats.cache_path is None
