"""`infoscope judge`: what it prints and writes, and that a stop leaves the old run or the new one."""

import json
import random
import shutil
import signal

import pytest

from commands import document, fails, printed
from infoscope.measurement.measure import measure_scope
from infoscope.options import RULE_VERSIONS
from infoscope.runtime.run import PLAN, open_run
from killing import files_below, run_command

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(probed, directions, coloured_folder, tmp_path_factory):
    """The same run by either rules."""
    folder = tmp_path_factory.mktemp("judged")
    for rules in ("posterior", "thresholds"):
        measure_scope(probed, directions, str(coloured_folder / "train"), out=folder / rules, top_images=4, rules=rules)
    return folder


@pytest.fixture
def older(place, tmp_path):
    return shutil.copytree(place / "thresholds", tmp_path / "older")


def test_what_it_prints(older, capsys):
    said = printed(capsys, ["info", str(older)])
    assert "judged by the older rules (thresholds); `infoscope judge RUN` gives it the newer ones" in said
    assert "trust (older rules)" in said
    (older / "report").mkdir()
    said = printed(capsys, ["judge", str(older)])
    assert "older rules" not in said
    assert f"not renewed, and still from the classes of before: {older}/report" in said
    run = open_run(older)
    counts = run.scope["scope_class"].value_counts()
    for name, count in counts.iter_rows():
        assert f"{count} {name}" in said or f"{name} not repeatable here" in said
    assert printed(capsys, ["info", str(older)]).count("older rules") == 0


def test_the_document(older, place, capsys, tmp_path):
    was = document(capsys, ["info", str(older)])["result"]
    found = document(capsys, ["judge", str(older), "--out", f"{tmp_path}/new"])
    new, result = tmp_path / "new", found["result"]
    assert found["written"]["out"] == str(new)
    assert result["before"] == {"rule_version": 1, "classes": was["classes"]}
    assert (result["rule_version"], result["stale"]) == (RULE_VERSIONS["posterior"], [])
    info = document(capsys, ["info", str(new)])["result"]
    for key in set(result) - {"before", "stale"}:
        assert result[key] == info[key]
    assert info["expected_false"] == json.loads((new / "controls.json").read_text())["expected_false"]
    assert info["classes"] == document(capsys, ["info", f"{place}/posterior"])["result"]["classes"]
    assert document(capsys, ["judge", str(older), "--rules", "thresholds"])["result"]["rule_version"] == 1


def test_what_it_refuses(older, tmp_path, capsys):
    assert "no such run directory" in fails(capsys, ["judge", f"{tmp_path}/none"])
    assert "leave --out out" in fails(capsys, ["judge", str(older), "--out", str(older)])
    content = (older / "maps.parquet").read_bytes()
    (older / "maps.parquet").write_bytes(content[:-9])
    before = files_below(older)
    assert "maps.parquet" in fails(capsys, ["judge", str(older)])
    assert files_below(older) == before


def test_a_run_that_would_lose_judgements_is_judged_into_a_new_directory(
    probed, directions, coloured_folder, tmp_path, capsys
):
    run = tmp_path / "run"
    measure_scope(probed, directions, str(coloured_folder / "train"), out=run, top_images=4, ranks=6)
    before = files_below(run)
    line = fails(capsys, ["judge", str(run)])
    assert "ranks 4 to 5 were not kept, so" in line
    assert "give --out" in line
    assert files_below(run) == before
    found = document(capsys, ["judge", str(run), "--out", f"{tmp_path}/new"])
    assert any("ranks 4 to 5 were not kept: the two halves" in line for line in found["warnings"])
    assert files_below(run) == before


def told(folder):
    """What a run says, whichever of the two it is."""
    run = open_run(folder)
    run.check_whole()
    plan, controls = (json.loads((folder / name).read_text()) for name in (PLAN, "controls.json"))
    return run.manifest.rule_version, run.scope, run.partition, controls, plan


def same(one, other):
    return one[0] == other[0] and one[1].equals(other[1]) and one[2:] == other[2:]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_stopped_at_random_moments_it_is_the_old_run_or_the_new_one(place, tmp_path, number):
    run, log = tmp_path / "run", tmp_path / "log"

    def fresh():
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(place / "thresholds", run)

    fresh()
    old = told(run)
    status, moments = run_command(["judge", run], log=log)
    assert status == 0, log.read_text()
    new = told(run)
    assert not same(old, new)
    # Before and after the manifest waits, which is when the new files begin to count, and anywhere.
    replaced = [at for at, what in enumerate(moments, 1) if what.endswith("replace")]
    waits = 2 * 5  # moments, before and after: each of four files was written, and the manifest
    chosen = random.Random(int(number))
    found = set()
    for at in [replaced[0], replaced[waits], *chosen.sample(replaced[waits:-1], 2), chosen.randint(1, len(moments))]:
        fresh()
        status, _ = run_command(["judge", run], at, number, log)
        assert status == (-number if number == signal.SIGKILL else 130), log.read_text()
        now = told(run)
        assert same(now, old) or same(now, new)
        found.add(now[0])
        status, _ = run_command(["judge", run], log=log)
        assert status == 0, log.read_text()
        assert same(told(run), new)
        assert files_below(run).keys() == files_below(place / "thresholds").keys()
    assert found == {1, RULE_VERSIONS["posterior"]}


def test_a_copy_that_is_killed_leaves_nothing_that_looks_like_a_run(place, tmp_path):
    log, out = tmp_path / "log", tmp_path / "new"
    words = ["judge", place / "thresholds", "--out", out]
    before = files_below(place / "thresholds")
    status, _ = run_command(words, 9, log=log)
    assert status == -signal.SIGKILL
    assert not out.exists()
    assert run_command(words, log=log)[0] == 0, log.read_text()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["log", "new"]
    assert files_below(place / "thresholds") == before
    open_run(out).check_whole()
