"""What is killed while it works is finished by the same command, as if nothing had happened."""

import json
import random
import shutil
import signal

import numpy as np
import pytest

from coloured import COLOURS
from infoscope.analyses.zeroshot.classes import Classes
from infoscope.analyses.zeroshot.embeddings import class_embeddings, write_embeddings
from killing import files_below, run_command
from small import WIDTH

pytestmark = pytest.mark.slow

# The demo takes the longest.
KILLS = {"demo": 2}
# What differs from one start to the next: how long it took, and how it was asked for.
CHANGING = ("timings", "command", "run", "checksum")


@pytest.fixture(scope="module")
def place(probed, directions, coloured_folder, tmp_path_factory):
    """A run of the coloured pictures, and class embeddings of them."""
    from infoscope.measurement.measure import measure_scope

    folder = tmp_path_factory.mktemp("killed")
    measure_scope(probed, directions, str(coloured_folder / "train"), out=folder / "run", top_images=4)
    vectors = np.random.default_rng(0).normal(size=(len(COLOURS), WIDTH))
    write_embeddings(folder / "classes.safetensors", class_embeddings(Classes(tuple(COLOURS)), vectors))
    return folder


def commands(place, coloured_folder, run):
    """By name, the words of each command and the folder it writes."""
    groups = ["--remove", "cds@0.8-1", "--random-draws", "1"]
    classes = ["--class-embeddings", place / "classes.safetensors", "--draws", "20", "--shard-images", "4"]
    return {
        "probe": (
            ["probe", run, "--data", coloured_folder, *groups, "--no-baselines", "--batch-size", "4"],
            run / "probes",
        ),
        "outliers": (["outliers", run], run / "outliers"),
        "zeroshot": (["zeroshot", run, "--images", "run", *classes, *groups], run / "zeroshot"),
        "report": (["report", run, "--gallery-images", "2"], run / "report"),
        "demo": (["demo", "--out", run, "--no-open", "--photographs", "16"], run),
    }


def content(folder):
    """Every file of a finished folder, without what changes from one start to the next."""
    found = files_below(folder)
    for name in found:
        if name.endswith(".json") and "partials" not in name:
            value = json.loads(found[name])
            if isinstance(value, dict):
                found[name] = {key: entry for key, entry in value.items() if key not in CHANGING}
    return found


def fresh(place, name, where):
    """A copy of the run to work in, under one path for all, which records name; the demo makes its own."""
    shutil.rmtree(where, ignore_errors=True)
    if name != "demo":
        shutil.copytree(place / "run", where)
    return where


@pytest.mark.parametrize("name", ["probe", "outliers", "zeroshot", "report", "demo"])
def test_killed_at_random_moments(place, coloured_folder, tmp_path, name):
    run, log = fresh(place, name, tmp_path / "run"), tmp_path / "log"
    words, folder = commands(place, coloured_folder, run)[name]
    status, moments = run_command(words, log=log)
    assert status == 0, log.read_text()
    assert len(moments) > 10
    whole = content(folder)
    fresh(place, name, run)
    chosen = random.Random(name)
    # At first with a file that is written and not there yet, then anywhere.
    times = [chosen.choice([at for at, what in enumerate(moments, 1) if what == "before replace"])]
    times += [chosen.randint(1, len(moments)) for _ in range(KILLS.get(name, 3) - 1)]
    for at in times:
        status, _ = run_command(words, at, log=log)
        # It may have had less to do than that, after what an earlier start finished.
        assert status == -signal.SIGKILL or (status == 0 and at != times[0]), log.read_text()
    status, _ = run_command(words, log=log)
    assert status == 0, log.read_text()
    again = content(folder)
    assert sorted(again) == sorted(whole)
    assert [name for name in whole if again[name] != whole[name]] == []


@pytest.mark.parametrize("name", ["probe", "outliers", "zeroshot", "report"])
def test_interrupted_it_says_so_in_a_line(place, coloured_folder, tmp_path, name):
    run, log = fresh(place, name, tmp_path / "run"), tmp_path / "log"
    words, folder = commands(place, coloured_folder, run)[name]
    status, _ = run_command(words, 5, signal.SIGINT, log)
    said = log.read_text()
    assert status == 130, said
    assert "Traceback" not in said
    assert [line for line in said.splitlines() if line.startswith("infoscope: interrupted; ")] != []
    assert not list(folder.rglob("*.tmp"))
