"""How results show themselves: as text in a terminal, as a table and a card in a notebook.

What draws them stands far above the results themselves, whose modules must not know it. So it is found by its name when
something is first shown, as the package's public names are.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_DRAWN_BY = "infoscope.views.notebook.cards"


class Shown:
    """Shows itself, by what `infoscope.views.notebook.cards` knows of its class."""

    def __repr__(self) -> str:
        return str(_drawer("text")(self))

    def _repr_html_(self) -> str:
        return str(_drawer("html")(self))


def _drawer(form: str) -> Any:
    return getattr(import_module(_DRAWN_BY), form)
