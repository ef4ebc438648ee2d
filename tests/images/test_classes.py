"""Names of classes in tables with several columns that may hold them."""

import pytest

from infoscope.errors import InfoscopeError
from infoscope.images.classes import read_class_list


def written(tmp_path, text):
    file = tmp_path / "classes.csv"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("label,name", ("0,tench", "1,church")),
        ("label,class", ("0,tench", "1,church")),
        ("name,label", ("tench,1", "church,2")),
        ("id,label", ("0,tench", "1,church")),
        ("id,class_id,class_name", ("0,0,tench", "1,1,church")),
        # A code that is no number does not number the rows.
        ("class,name", ("n01440764,tench", "n03028079,church")),
        ("wnid,label,name", ("n01440764,0,tench", "n03028079,1,church")),
    ],
)
def test_of_several_columns_the_one_that_says_most_has_the_names(tmp_path, header, rows):
    listed = read_class_list(written(tmp_path, "\n".join((header, *rows))))
    assert listed.names == ("tench", "church")
    assert listed.folders == (("n01440764", "n03028079") if header.startswith("wnid") else None)


@pytest.mark.parametrize("header", ["label,name", "class,name", "index,name"])
def test_a_column_of_numbers_beside_the_names_must_be_in_order(tmp_path, header):
    with pytest.raises(InfoscopeError, match=r"line 2 of .* has the number 1 out of order: sort the rows"):
        read_class_list(written(tmp_path, f"{header}\n1,church\n0,tench\n"), first=0)


def test_two_columns_of_the_same_name_are_refused(tmp_path):
    with pytest.raises(InfoscopeError, match="several columns that may be the name: name, name"):
        read_class_list(written(tmp_path, "name,name\na,b\n"))
