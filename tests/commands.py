"""Running commands in this process, and reading what they print."""

from infoscope.cli.main import main


def printed(capsys, arguments):
    """What a command that ends well prints, with single spaces."""
    capsys.readouterr()
    assert main(arguments) == 0
    return " ".join(capsys.readouterr().out.split())


def fails(capsys, arguments, status=2):
    """The one line a failing command prints, and nothing beside it on stdout."""
    capsys.readouterr()
    assert main(arguments) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    (line,) = [line for line in captured.err.splitlines() if line.startswith("infoscope: ")]
    return line
