"""Where an SAE's tokens come from, worked out from the names that projects give to places in a model."""

from __future__ import annotations

import re
from typing import Any

# The depths of vision transformers of standard sizes, and the words in names that stand for them.
_DEPTHS = ((12, "small|base|s|b"), (24, "large|l"), (32, "huge|h"), (27, "so400m"), (40, "giant|g"))

_OPENAI = {"vit-b-32": "base-patch32", "vit-b-16": "base-patch16", "vit-l-14": "large-patch14"}
_OPENAI["vit-l-14-336"] = "large-patch14-336"
_DINOV2 = {"s": "small", "b": "base", "l": "large", "g": "giant"}


def hub_model(name: str) -> str:
    """The hub's name of a model that open_clip or torch.hub names differently; any other name unchanged.

    Example:
        >>> hub_model("open-clip:laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K"), hub_model("ViT-B-16/openai")
        ('laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K', 'openai/clip-vit-base-patch16')
        >>> hub_model("dinov2_vitb14_reg"), hub_model("gpt2")
        ('facebook/dinov2-with-registers-base', 'gpt2')
    """
    name = re.sub(r"^(open-clip|hf-hub):", "", name)
    architecture, _, weights = name.partition("/")
    if weights == "openai" and architecture.lower().removesuffix("-quickgelu") in _OPENAI:
        return f"openai/clip-vit-{_OPENAI[architecture.lower().removesuffix('-quickgelu')]}"
    if dinov2 := re.fullmatch(r"dinov2_vit([sblg])14(_reg)?", name):
        return f"facebook/dinov2-{'with-registers-' if dinov2.group(2) else ''}{_DINOV2[dinov2.group(1)]}"
    return name


def depth_of(model: Any) -> int | None:
    """Number of blocks of a vision transformer of a standard size; None for a name that does not tell.

    Example:
        >>> depth_of("openai/clip-vit-base-patch16"), depth_of("ViT-L-14/openai"), depth_of("facebook/dinov2-giant")
        (12, 24, 40)
        >>> depth_of("wkcn/TinyCLIP-ViT-40M-32-Text-19M-LAION400M") is None
        True
    """
    name = str(model or "").lower()
    for depth, words in _DEPTHS:
        if re.search(rf"(?:vit|dinov2|dinov2_vit|siglip2?)[-_]?(?:{words})(?=$|[-_/.\d])", name):
            return depth
    return None


def make_site(
    *,
    model: Any = None,
    hook: str | None = None,
    layer: Any = None,
    tokens: str | None = None,
    residual: bool | None = None,
) -> dict[str, Any] | None:
    """An SAE's site, from what is known about it.

    Args:
        model: the model's name in the file; the site has the hub's name, see `hub_model`.
        hook: the project's own name for the place, which the site always keeps.
        layer: the block, for projects that name it beside the hook; below 0 it counts from the end.
        tokens: ``patch``, ``cls`` or ``all``.
        residual: whether ``layer`` means the block's output. By default the hook's name tells.

    Returns:
        ``model``, ``hook``, ``tokens`` and, where the place is the output of a block whose 0-based index is known,
        ``block``. None when nothing is known.

    Example:
        >>> make_site(model="openai/clip-vit-base-patch32", hook="blocks.9.hook_resid_post", tokens="all")
        {'model': 'openai/clip-vit-base-patch32', 'block': 9, 'hook': 'blocks.9.hook_resid_post', 'tokens': 'all'}
        >>> make_site(hook="blocks.9.hook_mlp_out")
        {'hook': 'blocks.9.hook_mlp_out'}
        >>> make_site(model="openai/clip-vit-base-patch16", hook="-2_resid", layer=-2, residual=True)
        {'model': 'openai/clip-vit-base-patch16', 'block': 10, 'hook': '-2_resid'}
    """
    model = hub_model(str(model)) if model else None
    stream = re.fullmatch(r"blocks\.(-?\d+)\.hook_resid_(post|pre)", hook or "")
    block = int(stream.group(1)) if stream else None
    if stream is None and residual and isinstance(layer, int):
        block = layer
    if block is not None and block < 0:
        depth = depth_of(model)
        block = None if depth is None else depth + block
    if block is not None and stream is not None and stream.group(2) == "pre":
        block -= 1  # the input of a block is the output of the one before
    site = {
        "model": model,
        "block": block if block is not None and block >= 0 else None,
        "hook": hook or None,
        "tokens": tokens,
    }
    return {key: value for key, value in site.items() if value is not None} or None
