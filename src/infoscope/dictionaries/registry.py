"""From what ``--sae`` names to a path or hub id, by the list of known public SAEs."""

from __future__ import annotations

import difflib
from pathlib import Path

from infoscope.dictionaries.known_saes import KNOWN, KnownSAE
from infoscope.errors import InfoscopeError

_BY_NAME = {entry.name: entry for entry in KNOWN}


def resolve(name: str) -> tuple[str, KnownSAE | None]:
    """What ``--sae`` names: a path or hub id, and what is known of it.

    A path that exists comes before a name of the registry.

    Args:
        name: a path, a name of the registry, or a hub id.

    Raises:
        InfoscopeError: the SAE has no patch maps, it is not on the hub, or the name resembles one of the registry.

    Example:
        >>> path, known = resolve("saev-clip-b16")
        >>> path, known.block
        ('osunlp/SAE_CLIP_24K_ViT-B-16_IN1K', 10)
        >>> resolve("clip-scope-8")[0], resolve("some/other-sae")
        ('lewington/CLIP-ViT-L-scope/8_resid', ('some/other-sae', None))
    """
    if Path(name).expanduser().exists():
        return name, None
    entry = _BY_NAME.get(name) or next((known for known in KNOWN if known.place == name), None)
    if entry is None:
        close = difflib.get_close_matches(name, _BY_NAME, n=1) if "/" not in name else []
        if close:
            raise InfoscopeError(f"no such SAE: {name}; did you mean {close[0]}? `infoscope saes` lists the known ones")
        return name, None
    if entry.patch_maps == "no":
        raise InfoscopeError(f"{name} gives no maps over patches: {entry.why}; `infoscope saes` lists SAEs that do")
    if entry.place is None:
        raise InfoscopeError(f"where {name} is on the hub is not stated; download it and name its directory with --sae")
    return entry.place, entry


def known_sae(name: str) -> KnownSAE:
    """The registry's entry of a name.

    Raises:
        InfoscopeError: there is none.

    Example:
        >>> known_sae("clip-scope-22").features
        65536
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    close = difflib.get_close_matches(name, _BY_NAME, n=1)
    hint = f"did you mean {close[0]}?" if close else "`infoscope saes` lists them"
    raise InfoscopeError(f"no known SAE is called {name}; {hint}")
