import io

import pytest

from infoscope.runtime import progress as progress_module
from infoscope.runtime.progress import progress


class Clock:
    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


def test_plain_lines_come_seldom_and_with_an_estimate(clock, capsys):
    with progress("Ranking", 100, "images") as advance:
        for _ in range(100):
            clock.now += 1.0
            advance(1, "note")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Ranking: 15 of 100 images, about 85 s left; note"
    assert lines[-1] == "Ranking: 100 of 100 images; note"
    assert len(lines) == 7


def test_what_is_done_at_once_is_silent(clock, capsys):
    with progress("Scores", 3, "pairs") as advance:
        clock.now += 1.0
        advance(3)
    assert capsys.readouterr().err == ""


def test_disabled(capsys):
    with progress("Scores", 3, "pairs", enabled=False) as advance:
        advance(3, "note")
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with progress("Ranking", 2, "images") as advance:
        advance(2, "FVU 0.2")
    assert "Ranking" in terminal.getvalue()
    assert "FVU 0.2" in terminal.getvalue()
