"""How ids of the Hugging Face hub are recognised."""

from __future__ import annotations

import re

_NAME = r"[\w.-]+/[\w.-]+"
_SPLIT = r"(:[\w.:\[\]%+-]+)?"


def is_hub_id(name: str, *, with_split: bool = False) -> bool:
    """Whether ``name`` has the form owner/name, or owner/name:split, and is no relative path.

    Example:
        >>> is_hub_id("openai/clip-vit-base-patch16"), is_hub_id("./model"), is_hub_id("a/b/c")
        (True, False, False)
        >>> is_hub_id("owner/images:train[:10%]"), is_hub_id("owner/images:train[:10%]", with_split=True)
        (False, True)
    """
    return not name.startswith(".") and re.fullmatch(_NAME + (_SPLIT if with_split else ""), name) is not None
