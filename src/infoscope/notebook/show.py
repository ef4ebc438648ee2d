"""How a run, a scope and a feature show themselves; `infoscope.showing` finds this by its name."""

from __future__ import annotations

from html import escape

from infoscope.errors import InfoscopeError
from infoscope.measurement.scope import Scope
from infoscope.notebook.cards import feature_card, scope_card
from infoscope.notebook.words import feature_text, run_text
from infoscope.storage.run import Feature, Run


def html(subject: Run | Scope | Feature) -> str:
    """A table or a card as a piece of HTML: no script, nothing asked for from elsewhere, readable on any ground.

    What cannot be read is said in place of it, since a notebook would print a traceback.
    """
    try:
        if isinstance(subject, Feature):
            return feature_card(subject)
        return scope_card(subject.run if isinstance(subject, Scope) else subject, isinstance(subject, Scope))
    except InfoscopeError as error:
        return f"<p>{escape(str(error))}</p>"


def text(subject: Run | Scope | Feature) -> str:
    """The same in a few lines of text."""
    try:
        if isinstance(subject, Feature):
            return feature_text(subject)
        return run_text(subject.run if isinstance(subject, Scope) else subject)
    except InfoscopeError as error:
        return f"<{type(subject).__name__}: {error}>"
