"""The check that is made once still checks each function, and no two functions share one that differ in a type."""

import numpy as np
import pytest
from jaxtyping import Float64, TypeCheckError, jaxtyped

from checked_types import checked


def outer(shape, extra=None):
    """A function that is defined anew, with one type or another."""

    @jaxtyped(typechecker=checked)
    def inner(values: Float64[np.ndarray, shape], count: int = 1) -> int | None:
        return extra

    return inner


@pytest.mark.parametrize("shape", ["row", "row column"])
def test_every_definition_is_checked_by_its_own_types(shape):
    good, bad = np.zeros((2,) * len(shape.split())), np.zeros((2, 2, 2))
    for extra in (None, 3):
        inner = outer(shape, extra)
        assert inner(good) == extra
        for wrong in ((bad, 1), (good, "1"), (good.astype(np.float32), 1)):
            with pytest.raises(TypeCheckError):
                inner(*wrong)
    with pytest.raises(TypeCheckError):
        outer(shape, "given back")(good)


def test_the_package_is_checked_so():
    from infoscope.scope.reliability import spearman

    with pytest.raises(TypeCheckError):
        spearman(np.zeros((2, 2)), np.zeros(3))


def test_equal_signatures_share_a_check_and_others_do_not():
    def one(value: int) -> int:
        return value

    def other(value: str) -> int:
        return len(value)

    other.__qualname__ = one.__qualname__
    assert checked(one) is checked(one)
    assert checked(other) is not checked(one)
    assert checked(other)("four") == 4
