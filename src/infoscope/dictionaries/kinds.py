"""The dictionaries that are no SAEs: what each is, and what can be said of its fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from infoscope.errors import InfoscopeError

Kind = Literal["channels", "pca", "neurons", "directions"]


@dataclass(frozen=True)
class KindOfDictionary:
    """What is known of a kind.

    Attributes:
        reconstructs: whether its decoder is meant to give the token back, so that an FVU says something.
        note: what the FVU means, or why there is none; a sentence.
    """

    reconstructs: bool
    note: str


KINDS: dict[str, KindOfDictionary] = {
    "channels": KindOfDictionary(
        True, "Channels are no SAE: both signs of all of them are the token itself, so the FVU is 0 by construction."
    ),
    "pca": KindOfDictionary(
        True, "Principal components are no SAE: the FVU is the share of variance outside the components kept."
    ),
    "neurons": KindOfDictionary(
        False, "Neurons are no SAE: they are read as they are and reconstruct nothing, so there is no fit to check."
    ),
    "directions": KindOfDictionary(
        False,
        "Given directions are no SAE: they are not meant to reconstruct the token, so there is no fit to check.",
    ),
}


def reconstructs(dictionary: str) -> bool:
    """Whether a dictionary's decoder is meant to give the token back; an SAE's always is.

    Args:
        dictionary: the name of its format, or its kind.

    Example:
        >>> reconstructs("pca"), reconstructs("neurons"), reconstructs("saelens")
        (True, False, True)
    """
    kind = KINDS.get(dictionary)
    return kind is None or kind.reconstructs


def split_kind(text: str) -> tuple[str, str | None]:
    """A kind and the path after its colon, as ``--dictionary`` names them.

    Raises:
        InfoscopeError: there is no such kind, or a path where none belongs, or none where one does.

    Example:
        >>> split_kind("pca"), split_kind("directions:words.npy")
        (('pca', None), ('directions', 'words.npy'))
        >>> split_kind("directions")
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: --dictionary directions needs a file: directions:PATH, an .npy or .safetensors
        of [n, width]
    """
    kind, _, path = text.partition(":")
    if kind not in KINDS:
        raise InfoscopeError(
            f"--dictionary {text!r} is not known: choose channels, pca, neurons or directions:PATH; "
            "an SAE is named by --sae"
        )
    if kind == "directions" and not path:
        raise InfoscopeError(
            "--dictionary directions needs a file: directions:PATH, an .npy or .safetensors of [n, width]"
        )
    if kind != "directions" and ":" in text:
        raise InfoscopeError(f"--dictionary {kind} takes no file; leave out {':' + path!r}")
    return kind, path or None
