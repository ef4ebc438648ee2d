"""Every function is still checked where its wrapper is made once: by its own types, and by axes of its own call."""

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from jaxtyping import Float64, TypeCheckError

from checked_types import jaxtyped

if typing.TYPE_CHECKING:
    from nowhere import Unknown


def outer(shape, extra=None):
    """A function that is defined anew, with one type or another."""

    @jaxtyped(typechecker=None)
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


def defined(extra):
    """A function that is defined anew with types of the same names, as in the package: one wrapper does for all."""

    @jaxtyped
    def inner(values: "Float64[np.ndarray, ' row']", more: "int" = extra) -> "int":
        return 10 * extra + more

    return inner


def test_definitions_of_one_function_share_a_wrapper_and_nothing_else():
    first, second = defined(1), defined(2)
    assert (first(np.zeros(2)), second(np.zeros(3)), first(np.zeros(4))) == (11, 22, 11)
    assert first.__name__ == "inner"
    with pytest.raises(TypeCheckError):
        defined("1")(np.zeros(2))
    with pytest.raises(TypeCheckError):
        second(np.zeros((2, 2)))


def test_the_package_is_checked_so():
    from infoscope.scope.maps import SparseMaps
    from infoscope.scope.reliability import spearman

    with pytest.raises(TypeCheckError):
        spearman(np.zeros((2, 2)), np.zeros(3))
    with pytest.raises(TypeCheckError):
        SparseMaps(*["text"] * len(dataclasses.fields(SparseMaps)))


@jaxtyped
def kept(first: Float64[np.ndarray, "row column"], second: Float64[np.ndarray, " row"], cut: int = 0) -> Any:
    return shortened(first, cut), second


@jaxtyped
def shortened(values: Float64[np.ndarray, "column row"], cut: int) -> Float64[np.ndarray, "column row"]:
    return values[: len(values) - cut]


def test_an_axis_has_one_size_in_a_call_its_result_and_no_other_call():
    matrix = np.zeros((3, 5))
    kept(matrix, np.zeros(3))
    kept(np.zeros((2, 5)), np.zeros(2))
    with pytest.raises(TypeCheckError):
        kept(matrix, np.zeros(5))
    with pytest.raises(TypeCheckError):
        kept(matrix, np.zeros(3), cut=1)
    shortened(matrix, 0)


@jaxtyped
@dataclasses.dataclass(frozen=True)
class Pair:
    first: Float64[np.ndarray, " row"]
    second: Float64[np.ndarray, " row"]

    @jaxtyped
    def sized(self, size: "int") -> "Pair":
        return self

    @staticmethod
    @jaxtyped
    def named(name: str) -> str:
        return name

    @property
    @jaxtyped
    def wrong(self) -> str:
        return 1


class Longer(Pair):
    pass


def test_dataclasses_methods_and_properties():
    pair = Pair(np.zeros(2), np.zeros(2))
    assert pair.sized(3) is pair
    assert Pair.named("one") == "one"
    for wrong in (lambda: pair.sized("3"), lambda: Pair.named(1), lambda: pair.wrong):
        with pytest.raises(TypeCheckError):
            wrong()
    for kind in (Pair, jaxtyped(Longer)):
        with pytest.raises(TypeCheckError):
            kind(np.zeros(2), np.zeros(3))


@jaxtyped
def counted(values: Float64[np.ndarray, " row"]) -> Iterator[int]:
    yield from range(len(values))


def test_a_generator_is_checked_when_it_is_called():
    assert list(counted(np.zeros(2))) == [0, 1]
    with pytest.raises(TypeCheckError):
        counted([1.0])


@jaxtyped
def halfway(anything: "Unknown", number: "int") -> "int":
    return number


def test_only_the_annotation_that_cannot_be_known_allows_anything():
    assert halfway("anything", 3) == 3
    with pytest.raises(TypeCheckError):
        halfway("anything", "3")


def test_what_is_not_annotated_is_left_alone():
    def plain(value):
        return value

    assert jaxtyped(plain) is plain


def test_errors_of_a_function_pass_through_and_leave_no_axes_behind():
    @jaxtyped
    def fails(values: Float64[np.ndarray, " row"]) -> None:
        raise LookupError("its own")

    for size in (2, 3):
        with pytest.raises(LookupError, match="its own"):
            fails(np.zeros(size))
    kept(np.zeros((4, 5)), np.zeros(4))
