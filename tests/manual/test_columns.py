"""The tables of columns in docs/run-directory.md are those that the columns' declarations make."""

import importlib.util
import re
import sys

import polars as pl
import pytest

from infoscope.analyses.zeroshot.result import VARIANTS
from infoscope.runtime.columns import Column, declare
from infoscope.runtime.schema import SCOPE
from snippets import ROOT

PAGE = ROOT / "docs" / "run-directory.md"


@pytest.fixture(scope="module")
def pages():
    spec = importlib.util.spec_from_file_location("manual_pages_of_columns", ROOT / "manual" / "pages.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks its module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_the_page_says_what_is_declared(pages):
    text = PAGE.read_text(encoding="utf-8")
    assert pages.with_column_tables(text) == text, "run `python manual/pages.py`"
    assert len(re.findall("<!-- columns: ", text)) == len(re.findall("<!-- end of columns -->", text)) == 22
    for columns in (SCOPE, VARIANTS):
        for name in columns:
            assert f"`{name}`" in text


def test_a_column_that_changes_makes_the_page_out_of_date(pages):
    text = PAGE.read_text(encoding="utf-8")
    assert pages.with_column_tables(text.replace("what speaks for the class", "the class's evidence")) == text


def test_types_units_versions_and_intervals_are_shown(pages):
    columns = declare(
        {
            "patch": Column(pl.List(pl.UInt16), "index", "patches on the p x p grid"),
            "gain": Column(pl.Float64, "0 to 1", "more than cds_null", since="0.2"),
            "gain_lower": Column(pl.Float64, "0 to 1", "one end"),
            "gain_upper": Column(pl.Float64, "0 to 1", "the other"),
        }
    )
    assert pages.column_table(columns).splitlines()[2:] == [
        "| `patch` | list of u16 | index | patches on the p x p grid |",
        "| `gain`, `gain_lower`, `gain_upper` | f64 | 0 to 1 "
        "| more than `cds_null`; one end; the other; since 0.2, null in older runs |",
    ]
