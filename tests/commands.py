"""Running commands in this process, and reading what they print."""

import json

from infoscope.cli.main import main


def entries(file):
    """What a record holds, without the checksums that its file has beside it."""
    return {key: value for key, value in json.loads(file.read_text()).items() if key not in ("checksum", "files")}


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


def document(capsys, arguments):
    """The JSON document of a command, which is all of its standard output."""
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))
    assert list(found) == ["command", "version", "written", "warnings", "result"]
    assert found["command"] == arguments[0]
    return found
