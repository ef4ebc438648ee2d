"""Which of an image's tokens an SAE is of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast, get_args

from infoscope.errors import InfoscopeError

TokenSet = Literal["patch", "all", "cls"]
"""Its patch tokens; all, CLS and registers among them; or CLS."""


def tokens_of(token_set: TokenSet, prefix: int) -> slice:
    """The place of a set's tokens among all of an image's.

    Args:
        token_set: the set.
        prefix: tokens before the first patch, CLS first.

    Example:
        >>> list(range(8))[tokens_of("patch", prefix=5)]
        [5, 6, 7]
    """
    return {"patch": slice(prefix, None), "all": slice(None), "cls": slice(1)}[token_set]


def token_set_of(site: Mapping[str, Any] | None) -> TokenSet:
    """The set that an SAE was trained on, by its site; patch tokens where it does not say.

    Raises:
        InfoscopeError: it names a set that is not known.

    Example:
        >>> token_set_of({"tokens": "all"}), token_set_of(None)
        ('all', 'patch')
    """
    named = (site or {}).get("tokens")
    if named is None:
        return "patch"
    if named not in get_args(TokenSet):
        raise InfoscopeError(
            f"the SAE was trained on the tokens {named!r}, which is none of {', '.join(get_args(TokenSet))}: correct "
            "tokens in the site of its sae.json, or take an SAE of tokens that are known"
        )
    return cast("TokenSet", named)
