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


def split_hub_path(name: str) -> tuple[str, str] | None:
    """A repository's id and the folder or file in it; None where ``name`` is no owner/name or owner/name/inside.

    Example:
        >>> split_hub_path("owner/saes"), split_hub_path("owner/saes/layer_9/weights.pt"), split_hub_path("/a/b")
        (('owner/saes', ''), ('owner/saes', 'layer_9/weights.pt'), None)
    """
    parts = name.rstrip("/").split("/")
    repository, inside = "/".join(parts[:2]), parts[2:]
    if not is_hub_id(repository) or any(part in ("", ".", "..") for part in parts):
        return None
    return repository, "/".join(inside)


def short_name(name: str) -> str:
    """A hub id as it is, a path by its last part.

    Example:
        >>> short_name("openai/clip-vit-base-patch16"), short_name("../models/dinov2/")
        ('openai/clip-vit-base-patch16', 'dinov2')
    """
    parts = name.replace("\\", "/").rstrip("/").split("/")
    local = len(parts) > 2 or parts[0] in ("", ".", "..", "~")
    return parts[-1] if local else name
