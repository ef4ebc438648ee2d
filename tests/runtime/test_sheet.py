"""Tables as spreadsheets and programs write them."""

import pytest

from infoscope.errors import InfoscopeError
from infoscope.runtime.sheet import read_columns

NAMES = {"name": ("name", "class")}
PLAIN = ["tench", "church, building", 'the "long" one']
WRITTEN = {
    "commas": 'name\ntench\n"church, building"\n"the ""long"" one"\n',
    "beside others": 'id,name,note\n0,tench,"a;b"\n1,"church, building",\n2,"the ""long"" one",x\n',
    "semicolons": 'id;name\n0;tench\n1;church, building\n2;"the ""long"" one"\n',
    "Excel's line": 'sep=;\nid;name\n0;tench\n1;church, building\n2;"the ""long"" one"\n',
    "Excel's line, other separator": 'sep=|\nid|name\n0|tench\n1|church, building\n2|"the ""long"" one"\n',
    "cleared cells": '\n\nid,Name,,\n0,tench,,\n,,,\n1,"church, building",,\n2,"the ""long"" one",\n\n\n',
    "blanks around cells": 'id , Name\n0 , tench \n1, "church, building" \n2,"the ""long"" one"\n',
    "an index without a name": ',class\n0,tench\n1,"church, building"\n2,"the ""long"" one"',
}


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN.keys())
def test_every_way_to_write_a_table_gives_the_same_column(tmp_path, written):
    (tmp_path / "classes.csv").write_text(written)
    assert read_columns(tmp_path / "classes.csv", NAMES).values == {"name": PLAIN}


def test_tabs(tmp_path):
    (tmp_path / "classes.tsv").write_text('class\tid\ntench\t0\nchurch, building\t1\n"the ""long"" one"\t2\n')
    assert read_columns(tmp_path / "classes.tsv", NAMES).values == {"name": PLAIN}


def test_lines_are_the_files_own(tmp_path):
    (tmp_path / "classes.csv").write_text('\nsep=,\nname,note\ntench,"two\nlines"\n\nchurch,\n')
    columns = read_columns(tmp_path / "classes.csv", NAMES, {"note": ("nothing",)})
    assert columns.values == {"name": ["tench", "church"]}
    assert columns.lines == [5, 7]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("", "classes.csv is empty; write a header"),
        ("sep=;\n", "classes.csv is empty; write a header"),
        ("tench\nchurch\n", r"has no column for the name in its header \(tench\): call the column name or class"),
        ("1,tench\n2,church\n", r"has no column for the name in its header \(1, tench\)"),
        ("name,class\na,b\n", "has several columns that may be the name: name, class; keep one"),
        ("name,name\na,b\n", "has several columns that may be the name"),
        (
            "name\nchurch, building\n",
            r"line 2 .* has 2 cells, and the header has 1 \(name\): .* quote what holds a comma",
        ),
        ("id;name\n1;a;b\n", "line 2 .* has 3 cells, and the header has 2 .*semicolon"),
        ("id,name\n1\n", "line 2 .* has 1 cells"),
        ("id,name\n1,\n", "line 2 .* has no name; complete it"),
        ('id,name\n1,"a\nb"\n', "line 3 .* has a line break in name"),
        ('id,name\n1,"a"b\n', "cannot be read as a table"),
        ('id,name\n1,"a\n', "cannot be read as a table"),
        ('sep="\nid,name\n', "cannot be read as a table"),
        ("id,a;b\n1,2;3\n", "what separates the cells of .* is not clear"),
        ("id," + "x" * 200_000 + "\na,b\n", "has no column for the name in its header"),
    ],
)
def test_what_is_no_such_table_is_refused_in_a_line(tmp_path, written, message):
    (tmp_path / "classes.csv").write_text(written)
    with pytest.raises(InfoscopeError, match=message) as refused:
        read_columns(tmp_path / "classes.csv", NAMES)
    assert len(str(refused.value)) < 400
    assert str(refused.value).isprintable()
