"""The exported names are exactly those that work, and importing the package costs nothing heavy."""

import subprocess
import sys

import pytest

import infoscope


def test_every_public_name_is_there():
    assert set(infoscope.__all__) == set(infoscope._HOMES)
    for name in infoscope.__all__:
        assert getattr(infoscope, name).__name__ == name
    assert set(infoscope.__all__) <= set(dir(infoscope))


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="has no attribute 'mesure_scope'"):
        _ = infoscope.mesure_scope


@pytest.mark.parametrize("module", ["infoscope", "infoscope.cli.main"])
def test_nothing_heavy_is_imported_until_used(module):
    heavy = ("torch", "numba", "altair", "transformers", "polars", "numpy", "jaxtyping", "ray")
    code = f"import sys, {module}; print(*(set({heavy}) & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert found == []
