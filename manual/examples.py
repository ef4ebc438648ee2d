"""For the manual's generator: an ``Example:`` of a docstring is code, as an ``Examples:`` is."""

import re
from typing import Any

import griffe


class Examples(griffe.Extension):  # type: ignore[misc]
    """Has the examples of each docstring read as doctests, rather than as a box of prose."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rename the heading before the docstring is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.M)
