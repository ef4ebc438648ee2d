"""How the pages' templates are read, and what they know."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from infoscope.runtime.hub import short_name

# Our choice: the characters of an id that fit beside a picture.
ID_SHOWN = 16
# What a page may load and run, in a tag, so that it holds on disk too. `file:` stands beside `'self'` because some
# browsers take a page from disk for a site of its own, to which no other file belongs; from a server it allows nothing.
_NOTHING_ELSE = "base-uri 'none'; form-action 'none'"
SITE_POLICY = (
    "default-src 'none'; script-src 'self' file:; style-src 'self' file:; img-src 'self' file: data:; " + _NOTHING_ELSE
)


def make_environment(*packages: str) -> Environment:
    """How templates are read and what they know.

    Args:
        *packages: where templates lie besides this package.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, ".") for package in (*packages, "infoscope.views.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["site_policy"] = SITE_POLICY
    environment.globals["policy_with"] = policy_with
    environment.filters["number"] = lambda value: f"{value:,}"
    environment.filters["score"] = lambda value: f"{value:.3f}"
    environment.filters["short"] = short_name
    environment.filters["tail"] = _tail
    return environment


def policy_with(style: str) -> str:
    """The policy of a page that is one file: its own style and nothing else, not even a script.

    Args:
        style: the text of its one ``<style>``, as it stands between the tags.

    Example:
        >>> policy_with("p { color: red }").split("; ")[1]
        "style-src 'sha256-ngewhhP73WDIbgwseeu52VAAJgKdGUsu1IUQQsAm8m4='"
    """
    digest = b64encode(sha256(style.encode("utf-8")).digest()).decode("ascii")
    return f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; {_NOTHING_ELSE}"


def _tail(image_id: str) -> str:
    """The end of an id, which tells images apart where the beginning is a folder's name.

    Example:
        >>> _tail("n01440764/ILSVRC2012_val_00041668.JPEG"), _tail("12.png")
        ('…l_00041668.JPEG', '12.png')
    """
    return image_id if len(image_id) <= ID_SHOWN else f"…{image_id[1 - ID_SHOWN :]}"
