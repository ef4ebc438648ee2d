"""Text as people's editors write it."""

import codecs
import os
from pathlib import Path

import pytest

from infoscope.errors import InfoscopeError
from infoscope.runtime.json_values import read_json
from infoscope.runtime.text import read_lines, read_text

TEXT = "tench\nchâteau 犬\n"
ENCODED = {
    "utf-8": TEXT.encode(),
    "utf-8 with mark": codecs.BOM_UTF8 + TEXT.encode(),
    "utf-16 little": codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
    "utf-16 big": codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    "utf-32 little": codecs.BOM_UTF32_LE + TEXT.encode("utf-32-le"),
    "utf-32 big": codecs.BOM_UTF32_BE + TEXT.encode("utf-32-be"),
    "windows": codecs.BOM_UTF8 + TEXT.replace("\n", "\r\n").encode(),
    "old mac": TEXT.replace("\n", "\r").encode(),
}


@pytest.mark.parametrize("encoded", ENCODED.values(), ids=ENCODED.keys())
def test_every_encoding_gives_the_same_text(tmp_path: Path, encoded: bytes):
    (tmp_path / "text").write_bytes(encoded)
    assert read_text(tmp_path / "text") == TEXT
    assert read_lines(tmp_path / "text") == ["tench", "château 犬"]


def test_only_line_ends_separate_lines(tmp_path: Path):
    (tmp_path / "text").write_text("a\x0cb\n\n c\u2028d \n", encoding="utf-8")
    assert read_lines(tmp_path / "text") == ["a\x0cb", "c\u2028d"]


@pytest.mark.parametrize("content", [b"caf\xe9\n", b"t\0e\0n\0c\0h\0", codecs.BOM_UTF16_LE + b"abc"])
def test_other_encodings_are_refused_in_a_line(tmp_path: Path, content: bytes):
    (tmp_path / "text").write_bytes(content)
    with pytest.raises(InfoscopeError, match=r"is not text .*; save it as UTF-8$"):
        read_text(tmp_path / "text")


def test_what_is_no_regular_file_is_refused_and_never_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(InfoscopeError, match="not a regular file"):
            read_text(path)
    with pytest.raises(InfoscopeError, match=r"cannot read .*missing: No such file"):
        read_text(tmp_path / "missing")


def test_json_with_a_mark_is_read(tmp_path: Path):
    (tmp_path / "value.json").write_bytes(codecs.BOM_UTF8 + b'{\r\n"a": 1}')
    assert read_json(tmp_path / "value.json") == {"a": 1}


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000])
def test_deep_json_is_refused_in_a_line(tmp_path: Path, content: str):
    (tmp_path / "value.json").write_text(content)
    with pytest.raises(InfoscopeError, match=r"nested too deeply|is not JSON"):
        read_json(tmp_path / "value.json")
