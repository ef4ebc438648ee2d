"""Waiting for a page."""

import time


def wait_until(page, expression: str, seconds: float = 30.0) -> None:
    """Ask a page until an expression is true: from outside, since the page's own policy lets it evaluate no text."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"still not true: {expression}"
        time.sleep(0.02)
