"""The classes of a zero-shot test, and the prompts for each class."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Int64

from infoscope.analyses.probes.labelled_images import META, PLACES, read_synsets
from infoscope.errors import InfoscopeError
from infoscope.images.classes import read_class_list
from infoscope.runtime.json_values import read_json
from infoscope.runtime.sheet import is_sheet, read_columns
from infoscope.runtime.text import NotTextError, read_lines

HOLE = "{}"

# clip: the default of Radford et al. 2021 (arXiv 2103.00020), section 3.1.4. siglip: the template that the
# documentation of transformers uses for SigLIP and SigLIP 2, and its zero-shot pipeline for every model.
TEMPLATES = MappingProxyType(
    {"clip": ("a photo of a {}.",), "siglip": ("This is a photo of {}.",), "name": (HOLE,)},
)
"""Templates by name."""


def read_templates(source: str | Path) -> tuple[str, ...]:
    """Prompt templates by name, or from a file.

    Args:
        source: ``clip``, ``siglip`` or ``name`` (the bare class name); a JSON list; a ``.csv`` or ``.tsv`` with a
            column ``template``; or any other text file, with one template a line. Each template has ``{}`` where the
            class name goes.

    Raises:
        InfoscopeError: there is no such name or file, or a template does not have ``{}`` once.

    Example:
        >>> read_templates("clip")
        ('a photo of a {}.',)
        >>> read_templates("sketch")
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: no templates sketch: choose clip, siglip or name, or name a file
    """
    if str(source) in TEMPLATES:
        return TEMPLATES[str(source)]
    path = Path(source).expanduser()
    if not path.is_file():
        names = list(TEMPLATES)
        raise InfoscopeError(f"no templates {source}: choose {', '.join(names[:-1])} or {names[-1]}, or name a file")
    templates = _read_file(path)
    check_templates(templates, str(path))
    return templates


def check_templates(templates: tuple[str, ...], source: str) -> None:
    """Refuse templates that cannot be used.

    Raises:
        InfoscopeError: there are none, or one does not have ``{}`` exactly once.
    """
    if not templates:
        raise InfoscopeError(
            f"{source} holds no prompt templates; write one on each line, with {HOLE} for the class name"
        )
    for template in templates:
        if template.count(HOLE) != 1:
            raise InfoscopeError(f"the template {template!r} of {source} needs {HOLE} once, where the class name goes")


def prompts_of(name: str, templates: tuple[str, ...]) -> list[str]:
    """The prompts for a class.

    Example:
        >>> prompts_of("garbage truck", ("a photo of a {}.", "a blurry {}"))
        ['a photo of a garbage truck.', 'a blurry garbage truck']
    """
    return [template.replace(HOLE, name) for template in templates]


def _read_file(path: Path) -> tuple[str, ...]:
    if path.suffix.lower() == ".json":
        value = read_json(path)
        if not isinstance(value, list) or not all(isinstance(template, str) for template in value):
            raise InfoscopeError(f"{path} is not a JSON list of prompt templates; write one")
        return tuple(value)
    if is_sheet(path):
        return tuple(
            read_columns(path, {"template": ("template", "templates", "prompt", "prompts")}).values["template"]
        )
    return tuple(read_lines(path))


_WNID = re.compile(r"n\d{8}")
_SYNSET_LINE = re.compile(r"(n\d{8})\s+(\S.*)")

UNKNOWN = -1
"""Stands for the class, and for the rank, of an image whose class is not known."""


@dataclass(frozen=True)
class Classes:
    """The classes, in order.

    Attributes:
        names: the name of each class in a prompt.
        folders: the folder of each class's images; None where only names are known.
        source: where the names come from, for the record.

    Raises:
        InfoscopeError: there are fewer than two, one has no name, or two share a folder.

    Example:
        >>> Classes(("tench", "church"), ("n01440764", "n03028079")).chosen([1, 0]).names
        ('church', 'tench')
    """

    names: tuple[str, ...]
    folders: tuple[str, ...] | None = None
    source: str = "names"

    def __post_init__(self) -> None:
        if len(self.names) < 2:
            raise InfoscopeError(
                f"{self.source} names {len(self.names)} classes: a choice needs at least two; name more by --classes"
            )
        unnamed = [number for number, name in enumerate(self.names) if not name.strip()]
        if unnamed:
            raise InfoscopeError(f"{self.source}: class {unnamed[0]} has an empty name; write one")
        if self.folders is not None and len(self.folders) != len(set(self.folders)):
            twice = Counter(self.folders).most_common(1)[0][0]
            raise InfoscopeError(f"{self.source} names the folder {twice} twice; keep one of them")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def shared_names(self) -> list[str]:
        """Names that several classes share, so that no text tells these classes apart; in order of first use.

        Example:
            >>> Classes(("crane", "church", "crane")).shared_names
            ['crane']
        """
        return [name for name, count in Counter(self.names).items() if count > 1]

    def match(self, labels: Sequence[str]) -> tuple[Int64[np.ndarray, " label"], str | None]:
        """The class of each label.

        Labels are looked up among the folders, then among the names. Where there are no folders and no label is a name,
        but there are as many labels as names, the names are taken in the order of the labels, and a note says so.

        Args:
            labels: the different labels of the images, in order; usually the names of folders.

        Returns:
            The classes, with `UNKNOWN` for a label that is not a class, and the note or None.

        Example:
            >>> Classes(("tench", "church")).match(["n01440764", "n03028079"])[0]
            array([0, 1])
            >>> Classes(("tench", "church")).match(["church", "cat", "tench"])
            (array([ 1, -1,  0]), None)
        """
        for known in (self.folders, self.names):
            if known is not None and set(labels) & set(known):
                # Reversed, so that of equal names the first counts.
                numbers = {label: number for number, label in reversed(list(enumerate(known)))}
                return np.array([numbers.get(label, UNKNOWN) for label in labels], np.int64), None
        if self.folders is None and len(labels) == len(self.names):
            order = f"in the order of the images' labels, {labels[0]} to {labels[-1]}"
            return np.arange(len(labels)), f"{self.source} has no folders: its names are taken {order}"
        return np.full(len(labels), UNKNOWN, np.int64), None

    def chosen(self, numbers: Sequence[int]) -> Classes:
        """The classes with the given numbers, in that order."""
        folders = None if self.folders is None else tuple(self.folders[number] for number in numbers)
        return Classes(tuple(self.names[number] for number in numbers), folders, self.source)


def classes_of_labels(labels: Sequence[str]) -> Classes:
    """Classes named by the labels of the images, such as their folders; underscores become spaces.

    Raises:
        InfoscopeError: the labels are WordNet ids, like the folders of ImageNet.

    Example:
        >>> classes_of_labels(["church", "garbage_truck"]).names
        ('church', 'garbage truck')
    """
    wordnet = [label for label in labels if _WNID.fullmatch(label)]
    if wordnet:
        raise InfoscopeError(
            f"the label {wordnet[0]} is a WordNet id, not a name: give --classes the ImageNet devkit, its meta.mat, or "
            "a file of names"
        )
    names = tuple(label.replace("_", " ").strip() for label in labels)
    return Classes(names, tuple(labels), "the images' labels")


def read_classes(source: Path | str) -> Classes:
    r"""Classes from a file, or from ImageNet's devkit.

    Args:
        source: a text file, with a name on each line; a ``.csv`` or ``.tsv`` with a header, of which the column
            ``name`` (or ``class``, ``label``) is read, and ``folder`` where there is one; a JSON list of names, or an
            object from folder to name; a list of ImageNet's synsets (lines such as ``n01440764 tench, Tinca tinca``, as
            in ``LOC_synset_mapping.txt`` and ``synset_words.txt``, or the JSON object from a number to
            ``["n01440764", "tench"]``); the devkit's ``meta.mat``, or a directory that holds it. The first of
            several synonyms is taken.

    Raises:
        InfoscopeError: there is no such file, or it names classes in none of these ways.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "classes.txt"
        >>> _ = file.write_text("n01440764 tench, Tinca tinca\nn03028079 church, church building\n")
        >>> read_classes(file).names, read_classes(file).folders
        (('tench', 'church'), ('n01440764', 'n03028079'))
    """
    path = Path(source).expanduser()
    if path.is_dir():
        files = [path / place / META for place in PLACES if (path / place / META).is_file()]
        if not files:
            raise InfoscopeError(f"{path} holds no {META}; give the devkit's directory, or a file of names")
        path = files[0]
    if path.suffix.lower() == ".mat":
        return _from_devkit(path)
    if path.suffix.lower() == ".json":
        return _from_json(path)
    return _from_lines(path)


def _from_lines(path: Path) -> Classes:
    try:
        lines = read_lines(path)
    except NotTextError as error:
        raise InfoscopeError(f"{path} is not a text file: give one with a class name on each line") from error
    synsets = [_SYNSET_LINE.fullmatch(line) for line in lines]
    if lines and all(synsets):
        return _paired([(synset[1], _first(synset[2])) for synset in synsets if synset], path)
    listed = read_class_list(path)
    return Classes(listed.names, listed.folders, str(path))


def _from_json(path: Path) -> Classes:
    value: Any = read_json(path)
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return Classes(tuple(name.strip() for name in value), None, str(path))
    if isinstance(value, dict) and all(isinstance(name, str) for name in value.values()):
        return _paired(list(value.items()), path)
    if isinstance(value, dict) and all(_is_synset(entry) for entry in value.values()):
        return _paired([(entry[0], entry[1].replace("_", " ")) for entry in value.values()], path)
    raise InfoscopeError(f"{path} is neither a list of names nor an object from folder to name; write one of these")


def _is_synset(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and all(isinstance(word, str) for word in entry)


def _from_devkit(path: Path) -> Classes:
    if not path.is_file():
        raise InfoscopeError(f"no such file: {path}; check --classes")
    _, words = read_synsets(path)
    return _paired([(folder, _first(called)) for folder, called in words.items()], path)


def _paired(pairs: list[tuple[str, str]], path: Path) -> Classes:
    ordered = sorted(pairs, key=lambda pair: pair[0].encode())
    return Classes(tuple(name.strip() for _, name in ordered), tuple(folder for folder, _ in ordered), str(path))


def _first(words: str) -> str:
    return words.split(",")[0].strip()
