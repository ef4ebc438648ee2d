"""A finished run judged anew from its stored maps is the run that measuring it by those rules would have made."""

import dataclasses
import json
import logging
import shutil

import numpy as np
import polars as pl
import pytest

from fake_runs import reseal, unseal
from infoscope.errors import InfoscopeError
from infoscope.measurement.measure import measure_scope
from infoscope.measurement.rejudge import config_of, judge_run
from infoscope.options import RULE_VERSIONS
from infoscope.runtime import replacing
from infoscope.runtime.json_values import read_json, write_json
from infoscope.runtime.replacing import WAITING
from infoscope.runtime.run import PLAN, open_run
from killing import files_below

pytestmark = pytest.mark.slow

OPTIONS = {"top_images": 6, "shift": 1, "min_pairs": 2, "noise_images": 12}
TABLES = ("scope", "top_images", "maps")


@pytest.fixture(scope="module")
def measured(backbone, sae, images, tmp_path_factory):
    """The same measurement by either rules."""
    folder = tmp_path_factory.mktemp("measured")
    for rules in ("posterior", "thresholds"):
        measure_scope(backbone, sae, images, out=folder / rules, rules=rules, **OPTIONS)
    return folder


@pytest.fixture
def copied(measured, tmp_path):
    def copy(rules):
        return shutil.copytree(measured / rules, tmp_path / f"copy-{rules}")

    return copy


def same(one, other):
    """Whether two runs are equal in everything but timings, to the bit."""
    for name in TABLES:
        assert getattr(one, name).equals(getattr(other, name))
    assert one.partition == other.partition
    assert read_json(one.path / "controls.json") == read_json(other.path / "controls.json")
    assert one.code_noise == other.code_noise
    left, right = (dataclasses.replace(run.manifest, timings={}) for run in (one, other))
    assert left == right


@pytest.mark.parametrize("own", ["posterior", "thresholds"])
def test_the_rules_that_a_run_has_change_nothing(measured, copied, own):
    judged = judge_run(copied(own), own)
    same(judged, open_run(measured / own))
    # The tables are the same to the byte too.
    files, before = files_below(judged.path), files_below(measured / own)
    changed = {name for name in files if files[name] != before.get(name)}
    assert changed == {"manifest.json"}
    assert files.keys() == before.keys()
    judged.check_whole()


@pytest.mark.parametrize(("had", "wanted"), [("thresholds", "posterior"), ("posterior", "thresholds")])
def test_other_rules_give_what_measuring_by_them_gives(measured, copied, had, wanted):
    assert not open_run(measured / had).scope.equals(open_run(measured / wanted).scope)
    judged = judge_run(copied(had), wanted)
    same(judged, open_run(measured / wanted))
    assert judged.manifest.rule_version == RULE_VERSIONS[wanted]
    judged.check_whole()


@pytest.mark.parametrize(
    "options",
    [
        {"floor": 0.2, "ground_distance": "l1", "empty_as": "one", "seed": 3},
        {"rank_by": "mean", "rank_view": "crops", "resize": "crop", "noise_images": 0},
        {"shifts": (1, 2), "quantile_images": 4, "shift": 2, "min_pairs": None},
    ],
)
def test_every_option_is_applied(backbone, sae, images, tmp_path, options):
    for rules in ("posterior", "thresholds"):
        measure_scope(backbone, sae, images, out=tmp_path / rules, rules=rules, **OPTIONS | options)
    judged = judge_run(tmp_path / "thresholds", "posterior")
    same(judged, open_run(tmp_path / "posterior"))
    if "shifts" in options:
        assert judged.shift_curve.equals(open_run(tmp_path / "posterior").shift_curve)
        assert judged.quantile_images is not None


def test_a_copy_leaves_the_run_as_it_was(measured, copied, tmp_path):
    run = copied("thresholds")
    before = files_below(run)
    judged = judge_run(run, "posterior", out=tmp_path / "deep" / "new")
    assert files_below(run) == before
    same(judged, open_run(measured / "posterior"))
    judged.check_whole()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["new"]
    for out in (run, tmp_path / "deep" / "new"):
        with pytest.raises(InfoscopeError, match="name another directory"):
            judge_run(run, "posterior", out=out)


def test_measuring_knows_the_directory_again(backbone, sae, images, copied):
    run = judge_run(copied("thresholds"), "posterior")
    assert measure_scope(backbone, sae, images, out=run.path, **OPTIONS).manifest == run.manifest
    # The plan is what a measurement by these rules leaves.
    assert read_json(run.path / PLAN) == read_json(copied("posterior") / PLAN)


@pytest.mark.parametrize(
    ("had", "wanted", "judged", "kept"),
    [
        ("thresholds", "posterior", "judge {}` to judge it again", "--rules thresholds to keep them"),
        ("posterior", "thresholds", "judge {} --rules thresholds` to judge it again", "--rules posterior to keep them"),
    ],
)
@pytest.mark.parametrize("known", [True, False], ids=["its plan names its rules", "as before there was a choice"])
def test_a_finished_run_is_not_taken_for_one_by_other_rules(
    backbone, sae, images, copied, had, wanted, judged, kept, known
):
    folder = copied(had)
    plan = read_json(folder / PLAN)
    if not known:
        plan["options"].pop("rules", None)
        write_json(folder / PLAN, plan)
    before = files_below(folder)
    with pytest.raises(InfoscopeError, match=f"classes by the rules {had}, not {wanted}") as refused:
        measure_scope(backbone, sae, images, out=folder, rules=wanted, **OPTIONS)
    assert judged.format(folder) in str(refused.value)
    assert str(refused.value).endswith(kept)
    assert files_below(folder) == before
    # Either remedy does what it says.
    found = measure_scope(backbone, sae, images, out=folder, rules=had, **OPTIONS)
    assert found.table.equals(open_run(folder).scope)
    assert files_below(folder) == before
    judge_run(folder, wanted)
    found = measure_scope(backbone, sae, images, out=folder, rules=wanted, **OPTIONS)
    assert found.manifest.rule_version == RULE_VERSIONS[wanted]


def test_another_measurement_is_still_another_whatever_its_rules(backbone, sae, images, copied):
    with pytest.raises(InfoscopeError, match=r"another run's directory \(options: min_pairs was 2, now 3\)"):
        measure_scope(backbone, sae, images, out=copied("thresholds"), **OPTIONS | {"min_pairs": 3})


def test_an_unfinished_measurement_by_other_rules_is_named(backbone, sae, images, copied):
    folder = copied("thresholds")
    (folder / "manifest.json").unlink()
    with pytest.raises(InfoscopeError, match=r"another run's directory \(options: rules was thresholds, now not given"):
        measure_scope(backbone, sae, images, out=folder, **OPTIONS)


def test_two_judgements_of_images_that_were_not_kept_are_not_thrown_away(backbone, sae, images, tmp_path, caplog):
    more = tmp_path / "more"
    measure_scope(backbone, sae, images, out=more, ranks=12, rules="thresholds", **OPTIONS)
    measure_scope(backbone, sae, images, out=tmp_path / "plain", **OPTIONS)
    before = files_below(more)
    with pytest.raises(InfoscopeError, match=r"maps of ranks 6 to 11 were not kept, so .*/more would lose its two"):
        judge_run(more)
    # The command that measuring names is one that works.
    with pytest.raises(InfoscopeError, match=f"judge {more} --out NEW` to judge it again"):
        measure_scope(backbone, sae, images, out=more, ranks=12, **OPTIONS)
    with caplog.at_level(logging.WARNING):
        judged = judge_run(more, out=tmp_path / "new")
    assert files_below(more) == before
    assert "the maps of ranks 6 to 11 were not kept" in caplog.text
    assert judged.manifest.options["ranks"] is None
    same(judged, open_run(tmp_path / "plain"))
    assert read_json(judged.path / "controls.json")["judged_images"] == 3
    # As many ranks as k lose nothing.
    measure_scope(backbone, sae, images, out=tmp_path / "equal", ranks=6, **OPTIONS)
    same(judge_run(tmp_path / "equal"), open_run(tmp_path / "plain"))


def test_no_code_noise_is_said(backbone, sae, images, tmp_path, caplog):
    measure_scope(backbone, sae, images, out=tmp_path, **OPTIONS | {"noise_images": 0})
    with caplog.at_level(logging.WARNING):
        judged = judge_run(tmp_path)
    assert "code noise was not measured" in caplog.text
    assert judged.scope["displaced_noise"].max() == 0


def test_a_run_from_before_there_were_these_columns(measured, copied):
    """Runs of earlier versions lack columns, options, the rules' version and checksums."""
    folder = copied("thresholds")
    newer = [
        name
        for name in open_run(folder).scope.columns
        if name.startswith(("posterior", "displace", "class_e", "class_o"))
    ]
    newer.remove("class_evidence")
    table = pl.read_parquet(folder / "scope.parquet")
    table.drop(newer).write_parquet(folder / "scope.parquet")
    value = read_json(folder / "manifest.json")
    del value["rule_version"], value["options"]["rules"], value["options"]["ranks"]
    write_json(folder / "manifest.json", value)
    unseal(folder)
    assert open_run(folder).manifest.rule_version == 1
    judged = judge_run(folder)
    assert judged.scope.equals(open_run(measured / "posterior").scope)
    assert judged.checked
    judged.check_whole()


@pytest.mark.parametrize("name", ["maps.parquet", "scope.parquet", "top_images.parquet", "code_noise.json"])
def test_a_damaged_file_is_refused_and_nothing_changes(copied, name):
    folder = copied("thresholds")
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    before = files_below(folder)
    with pytest.raises(InfoscopeError, match=f"cannot read {name} of"):
        judge_run(folder)
    assert files_below(folder) == before


def test_maps_that_are_not_the_scores_are_refused(copied):
    folder = copied("thresholds")
    maps = pl.read_parquet(folder / "maps.parquet")
    longest = int(maps["patch"].list.len().arg_max())
    other = (
        maps.with_row_index()
        .with_columns(
            pl.when(pl.col("index") == longest)
            .then(pl.col("value").list.eval(pl.element() * pl.int_range(1, 1 + pl.len())))
            .otherwise(pl.col("value"))
            .cast(pl.List(pl.Float32))
            .alias("value")
        )
        .drop("index")
    )
    other.write_parquet(folder / "maps.parquet")
    reseal(folder)
    with pytest.raises(InfoscopeError, match="do not give the distances"):
        judge_run(folder)
    maps.filter(pl.int_range(pl.len()) != longest).write_parquet(folder / "maps.parquet")
    reseal(folder)
    with pytest.raises(InfoscopeError, match="has not one map of each crop for each top image"):
        judge_run(folder)
    maps.with_columns(pl.col("patch").list.reverse()).write_parquet(folder / "maps.parquet")
    reseal(folder)
    with pytest.raises(InfoscopeError, match="not in their order"):
        judge_run(folder)


def test_an_option_of_a_newer_version_is_refused_by_name(copied):
    folder = copied("thresholds")
    value = read_json(folder / "manifest.json")
    value["options"]["weather"] = "fine"
    write_json(folder / "manifest.json", {key: entry for key, entry in value.items() if key != "checksum"})
    with pytest.raises(InfoscopeError, match="weather"):
        judge_run(folder)


def test_the_configuration_is_the_measurements(measured):
    config = config_of(open_run(measured / "thresholds"))
    assert {name: getattr(config, name) for name in OPTIONS} == OPTIONS
    assert config.rules == "thresholds"


def test_a_stop_while_files_are_moved_is_made_good_by_whoever_opens_the_run(measured, copied):
    """The new tables wait, and one of them is in its place already."""
    folder = copied("thresholds")
    waiting = folder / WAITING
    waiting.mkdir()
    (waiting / "partials").mkdir()
    for name in ("scope.parquet", "partition.json", "controls.json", PLAN, "manifest.json"):
        shutil.copy(measured / "posterior" / name, waiting / name)
    (waiting / "scope.parquet").replace(folder / "scope.parquet")
    same(open_run(folder), open_run(measured / "posterior"))
    assert read_json(folder / PLAN) == read_json(measured / "posterior" / PLAN)
    assert not waiting.exists()


def test_no_stop_leaves_a_run_whose_plan_is_of_other_rules(backbone, sae, images, copied, monkeypatch):
    """The process ends as soon as the new manifest waits; the measurement is still known by its directory."""
    folder = copied("thresholds")
    finish = replacing.finish_replacing

    def end(folder, record):
        if (folder / WAITING / record).exists():
            raise SystemExit
        finish(folder, record)

    monkeypatch.setattr(replacing, "finish_replacing", end)
    with pytest.raises(SystemExit):
        judge_run(folder)
    monkeypatch.undo()
    assert (
        measure_scope(backbone, sae, images, out=folder, **OPTIONS).manifest.rule_version == RULE_VERSIONS["posterior"]
    )
    assert "rules" not in read_json(folder / PLAN)["options"]


def test_a_stop_before_the_manifest_waits_leaves_the_old_run(measured, copied):
    folder = copied("thresholds")
    (folder / WAITING).mkdir()
    (folder / WAITING / "scope.parquet").write_bytes(b"half")
    same(open_run(folder), open_run(measured / "thresholds"))
    same(judge_run(folder), open_run(measured / "posterior"))
    assert not (folder / WAITING).exists()


def test_no_number_is_lost_in_json(copied):
    text = (judge_run(copied("thresholds")).path / "controls.json").read_text()
    document = json.loads(text)
    assert document["rule_version"] == RULE_VERSIONS["posterior"]
    table = open_run(copied("posterior")).scope
    for name, share in document["expected_false"].items():
        own = table.filter(scope_class=name)[f"posterior_{name.replace('-', '_')}"].to_numpy()
        assert share == pytest.approx(float(np.mean(1 - own)))
    assert document["expected_false"].keys() == set(table["scope_class"]) - {"unsettled", "undefined"}
