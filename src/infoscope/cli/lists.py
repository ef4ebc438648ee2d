"""Flags that take several numbers, separated by commas."""

from __future__ import annotations

from typing import Annotated

import tyro


def _parse(words: list[str]) -> tuple[int, ...]:
    return tuple(int(word) for word in words[0].split(","))


Numbers = Annotated[
    tuple[int, ...],
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT[,INT...]",
        instance_from_str=_parse,
        is_instance=lambda value: isinstance(value, tuple) and all(isinstance(number, int) for number in value),
        str_from_instance=lambda value: [",".join(str(number) for number in value)],
    ),
]
"""One whole number or several: ``16,32,64``."""
