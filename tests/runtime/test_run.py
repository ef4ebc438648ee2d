import json

import polars as pl
import pytest

from fake_runs import fake_run
from infoscope.errors import InfoscopeError
from infoscope.runtime.columns import METADATA_KEY, Column, declare, read_table, write_table
from infoscope.runtime.manifest import (
    FORMAT_VERSION,
    DictionaryRecord,
    FitRecord,
    ImagesRecord,
    Manifest,
    ModelRecord,
    SkippedImage,
)
from infoscope.runtime.run import claim_directory, open_run
from infoscope.runtime.schema import SCOPE
from infoscope.views.report.explorer import explorer_columns

PLAN = {"format_version": 1, "options": {"shift": 2, "top_images": 16}, "dictionary": "abc"}

MANIFEST = Manifest(
    format_version=FORMAT_VERSION,
    command="infoscope measure",
    options={"shift": 2},
    model=ModelRecord("m", None, "0" * 64, "clip", 10, 16, 14, 1),
    dictionary=DictionaryRecord("s", "infoscope", "1" * 64, 8, "topk(4)"),
    images=ImagesRecord("photographs", 3, "2" * 64, [SkippedImage(1, "b.png", "truncated")]),
    software={"python": "3.11"},
    seed=0,
    timings={"ranking": 1.5},
    fit=FitRecord(0.2, 4.0, 0.0, 300),
)


def test_manifest_round_trip(tmp_path):
    MANIFEST.write(tmp_path / "manifest.json")
    assert Manifest.read(tmp_path / "manifest.json") == MANIFEST


def test_manifest_of_another_version(tmp_path):
    MANIFEST.write(tmp_path / "manifest.json")
    value = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(value | {"format_version": 99}))
    with pytest.raises(InfoscopeError, match="format_version 99; this infoscope reads 2"):
        Manifest.read(tmp_path / "manifest.json")
    (tmp_path / "manifest.json").write_text(json.dumps({"format_version": FORMAT_VERSION}))
    with pytest.raises(InfoscopeError, match="not a manifest of this format"):
        Manifest.read(tmp_path / "manifest.json")


def test_a_new_or_empty_directory_is_claimed(tmp_path):
    assert claim_directory(tmp_path / "new" / "run", PLAN) is False
    assert claim_directory(tmp_path / "new" / "run", PLAN) is False  # unfinished: goes on
    MANIFEST.write(tmp_path / "new" / "run" / "manifest.json")
    assert claim_directory(tmp_path / "new" / "run", PLAN) is True


def test_a_kill_before_the_plan_was_whole_leaves_the_directory_free(tmp_path):
    (tmp_path / "partials").mkdir()
    (tmp_path / "partials" / ".plan.json.77.tmp").write_text('{"form')
    assert claim_directory(tmp_path, PLAN) is False
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["plan.json"]


def test_another_runs_directory_is_refused_and_named(tmp_path):
    claim_directory(tmp_path, PLAN)
    other = PLAN | {"options": {"shift": 3, "top_images": 16}}
    with pytest.raises(InfoscopeError, match=r"is another run's directory \(options: shift was 2, now 3\)"):
        claim_directory(tmp_path, other)


def test_somebodys_files_are_not_mixed_with(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InfoscopeError, match="is not empty and not a run"):
        claim_directory(tmp_path, PLAN)
    with pytest.raises(InfoscopeError, match="is a file"):
        claim_directory(tmp_path / "thesis.tex", PLAN)


def test_opening_what_is_not_a_finished_run(tmp_path):
    with pytest.raises(InfoscopeError, match="no such run directory"):
        open_run(tmp_path / "gone")
    with pytest.raises(InfoscopeError, match=r"is not a run directory: it has no manifest\.json"):
        open_run(tmp_path)
    claim_directory(tmp_path, PLAN)
    with pytest.raises(InfoscopeError, match="unfinished measurement"):
        open_run(tmp_path)


def scope_frame():
    values = {name: [[0]] if column.dtype.is_nested() else [0] for name, column in SCOPE.items()}
    values |= {name: ["local"] for name, column in SCOPE.items() if column.choices}
    return pl.DataFrame(values).cast({name: column.dtype for name, column in SCOPE.items()})


def test_tables_carry_units_and_meanings(tmp_path):
    write_table(tmp_path / "scope.parquet", scope_frame(), SCOPE)
    columns = json.loads(pl.read_parquet_metadata(tmp_path / "scope.parquet")[METADATA_KEY])
    assert set(columns) == set(SCOPE)
    assert all(column["meaning"] and "unit" in column for column in columns.values())
    assert columns["effective_area"]["unit"] == "patches"
    assert read_table(tmp_path / "scope.parquet", SCOPE).equals(scope_frame())


def test_tables_of_another_shape_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected"):
        write_table(tmp_path / "scope.parquet", scope_frame().drop("cds"), SCOPE)
    scope_frame().drop("cds").write_parquet(tmp_path / "scope.parquet")
    with pytest.raises(InfoscopeError, match="lacks the columns cds"):
        read_table(tmp_path / "scope.parquet", SCOPE)


def test_a_run_from_before_a_column_opens_with_nulls_and_one_without_an_old_column_is_refused(tmp_path, monkeypatch):
    before = fake_run(tmp_path, [0.1, 0.4]).scope
    newer = Column(pl.Float64, "0 to 1", "what a later version adds", required=True, panel="controls", since="9.0")
    lists = Column(pl.List(pl.UInt16), "index", "another", since="9.0")
    names = list(SCOPE)
    columns = declare({name: SCOPE[name] for name in names[:2]} | {"added": newer} | dict(SCOPE) | {"listed": lists})
    monkeypatch.setattr("infoscope.runtime.run.SCOPE", columns)
    monkeypatch.setattr("infoscope.views.report.explorer.QUANTITIES", {"cds": SCOPE["cds"], "added": newer})
    run = open_run(tmp_path)
    assert run.scope.columns == list(columns) != names
    assert run.scope["added"].to_list() == [None, None]
    assert run.scope.schema["listed"] == pl.List(pl.UInt16)
    assert run.scope.select(names).equals(before)
    assert run.feature(1).values["added"] is None
    (added,) = [column for column in explorer_columns(run) if column.name == "added"]
    assert (added.to_json()["known"], added.panel) == (0, "controls")
    # What it is read as can be written, and then every column is there.
    write_table(tmp_path / "again.parquet", run.scope, columns)
    assert list(pl.read_parquet_schema(tmp_path / "again.parquet")) == list(columns)
    # A value that is there must be one that can be.
    run.scope.with_columns(added=pl.lit(2.0)).write_parquet(tmp_path / "again.parquet")
    with pytest.raises(InfoscopeError, match="holds values of added outside 0 to 1"):
        read_table(tmp_path / "again.parquet", columns)
    run.scope.drop("trust").write_parquet(tmp_path / "again.parquet")
    with pytest.raises(InfoscopeError, match="lacks the columns trust of this format") as raised:
        read_table(tmp_path / "again.parquet", columns)
    assert "\n" not in str(raised.value)


def test_damaged_tables_are_one_line(tmp_path):
    write_table(tmp_path / "scope.parquet", scope_frame(), SCOPE)
    data = (tmp_path / "scope.parquet").read_bytes()
    (tmp_path / "scope.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(InfoscopeError, match=r"cannot read .*scope\.parquet") as raised:
        read_table(tmp_path / "scope.parquet", SCOPE)
    assert "\n" not in str(raised.value)
    with pytest.raises(InfoscopeError, match="cannot read"):
        read_table(tmp_path / "gone.parquet", SCOPE)
