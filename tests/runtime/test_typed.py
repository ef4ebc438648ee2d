"""Options held against the annotations of their fields, and entries of JSON against limits."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from infoscope.errors import InfoscopeError
from infoscope.runtime.typed import AtLeast0, Positive, Range, Share, check_fields, from_json


@dataclass(frozen=True)
class Options:
    count: Positive | None = None
    share: Share = 0.5
    weight: AtLeast0 = 0.0
    norm: Annotated[float, Range(above=0, below=math.inf)] = 1.0
    sides: tuple[Literal["top", "bottom"], ...] = ("top",)
    parts: Annotated[tuple[float, float], Range(0, 1)] = (0.5, 0.5)
    name: str = ""

    def __post_init__(self):
        check_fields(self)


@dataclass(frozen=True)
class Narrower(Options):
    count: Annotated[int, Range(1, 3, unit="apples")] = 1


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"count": 0}, "--count 0 is out of range: choose 1 or more"),
        ({"share": 1.5}, "--share 1.5 is out of range: choose 0 to 1"),
        ({"share": math.nan}, "--share nan is out of range: choose 0 to 1"),
        ({"norm": 0.0}, "--norm 0.0 is out of range: choose a finite number above 0"),
        ({"norm": math.inf}, "--norm inf is out of range: choose a finite number above 0"),
        ({"sides": ("top", "left")}, "--sides 'left' is not known: choose top or bottom"),
        ({"parts": (0.5, -0.5)}, "--parts -0.5 is out of range: choose 0 to 1"),
    ],
)
def test_an_option_that_its_annotation_does_not_allow_is_one_line(options, line):
    with pytest.raises(InfoscopeError) as refused:
        Options(**options)
    assert str(refused.value) == line


def test_what_annotations_allow_passes():
    Options(count=None, share=1, weight=math.inf, sides=(), name="any")


def test_a_subclass_may_narrow_a_field():
    with pytest.raises(InfoscopeError, match="--count 4 is out of range: choose 1 to 3 apples"):
        Narrower(count=4)


def test_an_undefined_number_is_outside_of_no_limit_of_json():
    assert math.isnan(from_json(Share, None, undefined=True))
    with pytest.raises(ValueError, match=r"it is 2\.0, not 0 to 1"):
        from_json(Share, 2)
