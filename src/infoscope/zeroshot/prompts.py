"""Prompts: what a text tower is given for a class."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

from infoscope.errors import InfoscopeError
from infoscope.storage.atomic import read_json
from infoscope.storage.sheet import is_sheet, read_columns
from infoscope.storage.text import read_lines

HOLE = "{}"

# clip: the default of Radford et al. 2021 (arXiv 2103.00020), section 3.1.4. siglip: what the documentation of
# transformers gives SigLIP and SigLIP 2, and its zero-shot pipeline every model.
TEMPLATES = MappingProxyType(
    {"clip": ("a photo of a {}.",), "siglip": ("This is a photo of {}.",), "name": (HOLE,)},
)
"""The named templates."""


def read_templates(source: str | Path) -> tuple[str, ...]:
    """Prompt templates by name, or from a file.

    Args:
        source: ``clip``, ``siglip`` or ``name`` (the bare class name); a JSON list; a ``.csv`` or ``.tsv`` with a
            column ``template``; or any other text file, one a line. Each has ``{}`` where the class name goes.

    Raises:
        InfoscopeError: there is no such name or file, or a template has no place for the name.

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
    """Refuse templates that are none.

    Raises:
        InfoscopeError: there are none, or one does not have exactly one place for the name.
    """
    if not templates:
        raise InfoscopeError(f"{source} holds no prompt templates; write one a line, with {HOLE} for the class name")
    for template in templates:
        if template.count(HOLE) != 1:
            raise InfoscopeError(f"the template {template!r} of {source} needs {HOLE} once, where the class name goes")


def prompts_of(name: str, templates: tuple[str, ...]) -> list[str]:
    """A class's prompts.

    Example:
        >>> prompts_of("garbage truck", ("a photo of a {}.", "a blurry {}"))
        ['a photo of a garbage truck.', 'a blurry garbage truck']
    """
    return [template.replace(HOLE, name) for template in templates]


def _read_file(path: Path) -> tuple[str, ...]:
    if path.suffix.lower() == ".json":
        value = read_json(path)
        if not isinstance(value, list) or not all(isinstance(template, str) for template in value):
            raise InfoscopeError(f"{path} is no JSON list of prompt templates; write one")
        return tuple(value)
    if is_sheet(path):
        return tuple(
            read_columns(path, {"template": ("template", "templates", "prompt", "prompts")}).values["template"]
        )
    return tuple(read_lines(path))
