"""A run of which a bit was flipped, a file cut or lost, or whose entries are of other types: a line, no value."""

import json
import os
import shutil
from types import MappingProxyType

import numpy as np
import polars as pl
import pytest

from commands import fails, printed
from fake_runs import fake_run, make_photographs, reseal, unseal
from infoscope.cli.main import main
from infoscope.errors import InfoscopeError
from infoscope.measurement.map_sets import DIAGONAL, POSITION, PRE, QUANTILES
from infoscope.measurement.result import Scope
from infoscope.measurement.summary import partition_of, settings_of
from infoscope.runtime.columns import Column, read_table, write_table
from infoscope.runtime.run import claim_directory, open_run
from infoscope.runtime.schema import CHECKS, SCOPE

FILES = (
    "manifest.json",
    "partition.json",
    "scope.parquet",
    "top_images.parquet",
    "maps.parquet",
    "shift_curve.parquet",
)
SMALL = Column(pl.UInt8, "", "")
PLAN = {"options": {"shift": 2}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    return fake_run(path, [0.1, 0.2, None, 0.4, 0.5], curve=(1, 2))


@pytest.fixture
def copy(whole, tmp_path):
    shutil.copytree(whole.path, tmp_path / "run")
    return tmp_path / "run"


def everything(path):
    """All that is read of a run."""
    run = open_run(path)
    tables = [run.scope, run.top_images, run.maps, run.shift_curve, run.cross_checks, run.quantile_images]
    partition = partition_of(run)
    described = (run.manifest, run.partition, settings_of(run), partition and partition.threshold)
    return [None if table is None else table.to_dicts() for table in tables], described


def read_all(path):
    run = open_run(path)
    run.check_whole()
    return run.maps


def answer(path):
    """All that is read of a run, or the line that refuses it."""
    try:
        return everything(path)
    except InfoscopeError as error:
        line = str(error)
    assert "\n" not in line
    return line


def refused(capsys, words):
    """The line a command ends with; before it there may be warnings, such as of photographs that are elsewhere."""
    capsys.readouterr()
    assert main(words) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert captured.out == ""
    return captured.err.splitlines()[-1]


def flip(file, random):
    content = bytearray(file.read_bytes())
    content[random.integers(len(content))] ^= 1 << random.integers(8)
    file.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_is_a_line_and_never_another_value(whole, copy, name):
    random, expected, refused = np.random.default_rng(0), everything(whole.path), 0
    for _ in range(60):
        shutil.copy(whole.path / name, copy / name)
        flip(copy / name, random)
        found = answer(copy)
        refused += isinstance(found, str)
        assert isinstance(found, str) or found == expected
    assert refused >= (50 if name == "manifest.json" else 60)  # white space of JSON may become other white space


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FILES if name != "manifest.json"])
def test_a_flipped_bit_in_a_run_from_before_checksums_is_no_traceback(copy, name):
    unseal(copy)
    random, content = np.random.default_rng(1), (copy / name).read_bytes()
    for _ in range(60):
        (copy / name).write_bytes(content)
        flip(copy / name, random)
        answer(copy)


def test_maps_are_looked_at_when_they_are_first_read_and_nothing_is_written(copy):
    before = {file.name: (file.stat().st_mtime_ns, file.stat().st_size) for file in copy.iterdir()}
    flip(copy / "maps.parquet", np.random.default_rng(3))
    os.utime(copy / "maps.parquet", ns=(before["maps.parquet"][0],) * 2)
    run = open_run(copy)
    _ = run.scope, run.top_images
    with pytest.raises(
        InfoscopeError, match=r"cannot read maps\.parquet of .*: it is damaged.*; restore it, or measure"
    ):
        run.maps_where(pl.col("feature") == 0)
    assert {file.name: (file.stat().st_mtime_ns, file.stat().st_size) for file in copy.iterdir()} == before


def test_a_run_from_before_checksums_is_opened_and_says_so(copy, capsys):
    assert open_run(copy).checked
    assert "all files are as they were written" in printed(capsys, ["info", str(copy)])
    expected = everything(copy)
    unseal(copy)
    assert not open_run(copy).checked
    assert everything(copy) == expected
    assert "checksums none: manifest.json says nothing of the files' content" in printed(capsys, ["info", str(copy)])


def test_a_manifest_changed_on_purpose_says_so(copy, capsys):
    value = json.loads((copy / "manifest.json").read_text())
    value["images"]["source"] = "moved"
    (copy / "manifest.json").write_text(json.dumps(value))
    line = fails(capsys, ["info", str(copy)])
    assert "does not match its own checksum" in line
    assert 'if you changed it on purpose, take the entry "checksum" out of it' in line
    del value["checksum"]
    (copy / "manifest.json").write_text(json.dumps(value))
    assert "manifest.json has no checksum of its own" in printed(capsys, ["info", str(copy)])


@pytest.mark.parametrize("name", ["maps.parquet", "scope.parquet", "partition.json"])
@pytest.mark.parametrize("damage", ["cut", "gone", "flipped"])
def test_a_finished_run_is_finished_only_if_all_its_files_are_whole(copy, name, damage):
    for file in list(copy.iterdir()):  # as a measurement that has just ended leaves it
        file.rename(file.with_name(f"{file.name}.kept"))
    assert claim_directory(copy.parent / "new", PLAN) is False
    for file in list(copy.iterdir()):
        file.rename(copy.parent / "new" / file.name.removesuffix(".kept"))
    assert claim_directory(copy.parent / "new", PLAN) is True
    file = copy.parent / "new" / name
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-7])
    else:
        flip(file, np.random.default_rng(0))
    with pytest.raises(InfoscopeError, match=f"cannot read {name} of .*; restore it, or measure again into a new"):
        claim_directory(copy.parent / "new", PLAN)


def test_a_run_saved_anew_in_the_same_place_has_the_files_of_the_new_one_alone(whole, tmp_path):
    Scope.load(whole.path).save(tmp_path / "run")
    assert open_run(tmp_path / "run").shift_curve is not None
    alone = Scope.load(whole.path)
    Scope(alone.table, alone.top_images, alone.maps, alone.manifest).save(tmp_path / "run")
    assert open_run(tmp_path / "run").shift_curve is None
    assert set(open_run(tmp_path / "run").manifest.files) == {
        "scope.parquet",
        "top_images.parquet",
        "maps.parquet",
        "partition.json",
        "controls.json",
    }


def edited(value, path, new):
    *above, last = path.split(".")
    for key in above:
        value = value[int(key)] if key.isdigit() else value[key]
    if new is KeyError:
        del value[last]
    else:
        value[last] = new


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "new", "said"),
    [
        ("images.count", "x", "images.count is 'x', not a whole number"),
        ("images.count", -1, "images.count is -1, not 0 or more"),
        ("images.count", 1e308, "images.count is 1e.308, not a whole number"),
        ("images.skipped", 3, "images.skipped is 3, not a list"),
        ("images.skipped", [{"index": 0}], r"images.skipped\[0\].id is missing"),
        ("images.skipped", [[1]], r"images.skipped\[0\] is a list, not an object"),
        ("options", [], "options is a list, not an object"),
        ("options.top_images", "16", "top_images is '16', not a whole number"),
        ("options.top_images", 10**30, "top_images is 1000.*, not a whole number"),
        ("options.shift", {"a": 1}, "shift is an object, not a whole number"),
        ("options.shifts", [1, "2"], r"shifts\[1\] is '2', not a whole number"),
        ("options.min_pairs", 0, "min_pairs is 0, not 1 or more"),
        ("options.resize", 4, "resize is 4, not text"),
        ("fit", None, "fit is null, not an object"),
        ("fit.fvu", {"mean": 0.5}, "fit.fvu is an object, not a number"),
        ("fit.fvu", float("nan"), "fit.fvu is nan, not a number"),
        ("fit.l0", float("inf"), "fit.l0 is inf, not a number"),
        ("fit.dead", True, "fit.dead is True, not a number"),
        ("fit.warnings", "none", "fit.warnings is 'none', not a list"),
        ("fit.later", 1, "fit.later is no entry of it"),
        ("model", "vit", "model is 'vit', not an object"),
        ("model.grid", 0, "model.grid is 0, not 1 to 256"),
        ("model.grid", 10**9, "model.grid is 1000000000, not 1 to 256"),
        ("model.block", None, "model.block is null, not a whole number"),
        ("model.mean", [[0.5]], r"model.mean\[0\] is a list, not a number"),
        ("dictionary.features", 2.5, "dictionary.features is 2.5, not a whole number"),
        ("timings.ranking", "1 s", "timings.ranking is '1 s', not a number"),
        ("software.python", 3, "software.python is 3, not text"),
        ("seed", KeyError, "seed is missing"),
        ("later", 1, "later is no entry of it"),
    ],
)
def test_a_manifest_of_other_types_is_one_line(copy, capsys, path, new, said):
    unseal(copy)
    value = json.loads((copy / "manifest.json").read_text())
    edited(value, path, new)
    (copy / "manifest.json").write_text(json.dumps(value))
    with pytest.raises(InfoscopeError, match=said):
        open_run(copy)
    for words in (["info"], ["report"], ["figure", "histogram", "--out", f"{copy}.svg"], ["outliers"]):
        assert "is not a manifest of this format" in fails(capsys, [words[0], str(copy), *words[1:]])


@pytest.mark.parametrize("name", ["manifest.json", "partition.json"])
def test_json_nested_deeply_is_one_line(copy, capsys, name):
    unseal(copy)
    (copy / name).write_text("[" * 100_000 + "]" * 100_000)
    assert "nested too deeply" in fails(capsys, ["info", str(copy)])


@pytest.mark.parametrize(
    ("entry", "new"),
    [
        ("threshold", None),
        ("threshold", "0.2"),
        ("dip", None),
        ("dip", {"statistic": [], "p": 0.1}),
        ("bic", 3),
        ("bic", [None, {}]),
        ("mixture_modes", 1.5),
        ("kind", 7),
    ],
)
def test_a_partition_of_other_types_is_one_line(copy, capsys, entry, new):
    value = json.loads((copy / "partition.json").read_text())
    (copy / "partition.json").write_text(json.dumps(value | {entry: new}))
    reseal(copy)
    for command in ("info", "report"):
        assert "is not a partition" in refused(capsys, [command, str(copy)])


def changed(file, **columns):
    """A table with columns of other values, written past the checks."""
    pl.read_parquet(file, glob=False).with_columns(**columns).write_parquet(file)


FEATURE, FIRST = pl.col("feature"), pl.int_range(pl.len()) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "columns", "said"),
    [
        ("scope", {"scope_class": pl.lit("nearby")}, "a scope_class 'nearby', which is none of local, diffuse"),
        ("scope", {"scope_class": pl.lit(None, pl.String)}, "no scope_class in 5 rows"),
        ("scope", {"feature": FEATURE + 1}, r"values of feature that cannot be \(5 of 5\)"),
        ("scope", {"feature": FEATURE.reverse()}, "not one row for each of 5 features in their order"),
        ("scope", {"feature": pl.lit(None, pl.UInt32)}, "no feature in 5 rows"),
        ("scope", {"cds": pl.lit(float("nan"))}, "values of cds that are no numbers"),
        ("scope", {"cds": pl.lit(7.0)}, "values of cds outside 0 to 1"),
        ("scope", {"cds": pl.lit("0.5")}, "lacks the columns cds of this format"),
        ("scope", {"cds": pl.concat_list("cds")}, "lacks the columns cds of this format"),
        ("scope", {"trust": pl.struct("cds")}, "lacks the columns trust of this format"),
        ("scope", {"pairs": pl.lit(b"1")}, "lacks the columns pairs of this format"),
        ("scope", {"cds_by_k": pl.concat_list(pl.lit(float("inf")))}, "values of cds_by_k that are no numbers"),
        ("scope", {"trust_reasons": pl.lit(None, pl.String)}, "no trust_reasons in 5 rows"),
        ("top_images", {"rank": pl.lit(60000, pl.UInt16)}, r"values of rank that cannot be \(60000 of 4\)"),
        ("top_images", {"rank": pl.lit(0, pl.UInt16)}, "several rows for one feature, rank"),
        ("top_images", {"image": pl.lit(2**63, pl.UInt64)}, "values of image that cannot be"),
        ("top_images", {"image_id": pl.lit(None, pl.String)}, "no image_id in 20 rows"),
        ("top_images", {"feature": FEATURE + 1000}, "values of feature that cannot be"),
        ("top_images", {"score": pl.lit(None, pl.Float32)}, "no score in 20 rows"),
        ("maps", {"patch": pl.concat_list(pl.lit(36, pl.UInt16))}, r"values of patch that cannot be \(36 of 36\)"),
        ("maps", {"patch": pl.lit([], pl.List(pl.UInt16))}, "another number of codes than of patches"),
        ("maps", {"value": pl.concat_list(pl.lit(None, pl.Float32))}, "no value in"),
        ("maps", {"value": pl.lit(None, pl.List(pl.Float32))}, "no value in"),
        ("maps", {"crop": pl.lit(2, pl.UInt8)}, r"values of crop that cannot be \(2 of 2\)"),
        ("maps", {"crop": pl.lit(0, pl.UInt8)}, "several rows for one feature, rank, crop"),
        ("maps", {"value": pl.concat_list(pl.lit(float("nan"), pl.Float32))}, "values of value that are no numbers"),
        ("shift_curve", {"shift": pl.lit(6, pl.UInt16)}, r"values of shift that cannot be \(6 of 6\)"),
    ],
)
def test_cells_that_cannot_be_are_one_line(copy, tmp_path, capsys, name, columns, said):
    unseal(copy)
    changed(copy / f"{name}.parquet", **columns)
    with pytest.raises(InfoscopeError, match=said) as raised:
        read_all(copy)
    assert "\n" not in str(raised.value)
    folder = make_photographs(tmp_path / "photographs")
    line = refused(capsys, ["report", str(copy), "--images", str(folder)])
    assert f"{name}.parquet" in line
    if name == "scope":
        other = shutil.copytree(copy, tmp_path / "other")
        assert "scope.parquet" in fails(capsys, ["compare", str(copy), str(other), "--out", f"{tmp_path}/compared"])
        assert "scope.parquet" in fails(capsys, ["figure", str(copy), "scatter", "--out", f"{tmp_path}/a.svg"])


def test_a_table_that_is_a_folder_or_a_pipe_is_one_line(copy):
    for make in (os.mkdir, os.mkfifo):
        shutil.rmtree(copy / "scope.parquet", ignore_errors=True)
        (copy / "scope.parquet").unlink(missing_ok=True)
        make(copy / "scope.parquet")
        with pytest.raises(InfoscopeError, match=r"cannot read .*scope\.parquet"):
            open_run(copy)
        with pytest.raises(InfoscopeError, match=r"cannot read .*scope\.parquet \(it is not a regular file\)"):
            read_table(copy / "scope.parquet", SCOPE)


def test_a_panic_of_polars_is_a_line_and_ctrl_c_is_not(copy, monkeypatch):
    def panics(*given, **options):
        raise pl.exceptions.PanicException("assertion failed\nat src/lib.rs")

    def stopped(*given, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(pl.LazyFrame, "collect", panics)
    with pytest.raises(InfoscopeError, match=r"cannot read .*scope\.parquet \(assertion failed\)"):
        read_table(copy / "scope.parquet", SCOPE)
    monkeypatch.setattr(pl.LazyFrame, "collect", stopped)
    with pytest.raises(KeyboardInterrupt):
        read_table(copy / "scope.parquet", SCOPE)
    monkeypatch.undo()
    monkeypatch.setattr(pl.DataFrame, "write_parquet", panics)
    with pytest.raises(InfoscopeError, match=r"cannot write .*b\.parquet: assertion failed; choose another --out"):
        write_table(copy / "b.parquet", pl.DataFrame(schema={"a": pl.UInt8}), MappingProxyType({"a": SMALL}))


def test_the_checks_that_tables_may_hold_are_those_of_the_layer_above():
    assert set(CHECKS) == {PRE, POSITION, DIAGONAL, QUANTILES}
