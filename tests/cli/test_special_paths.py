"""Every command below a folder whose name is full of what patterns are made of, and beside one that it would match."""

import ast
import json
import shutil
import tarfile
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import infoscope
from coloured import write_coloured
from commands import document
from fake_runs import fake_run
from infoscope.cli.main import COMMANDS, main
from infoscope.runtime.run import open_run
from language import SIDE, save
from register_model import save_register_model

pytestmark = pytest.mark.usefixtures("few_strengths")

NAME = "a [b] * ü"
# What `NAME` means as a pattern.
MATCHED = "a b x ü"
SOURCES = Path(infoscope.__file__).parent


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A CLIP, photographs in folders a colour, an SAE trained on them and its run, all below the folder."""
    root = tmp_path_factory.mktemp("place")
    (root / MATCHED).mkdir()
    folder = root / NAME
    save("clip", folder / "model")
    save_register_model(folder / "registers")
    write_coloured(folder / "images", "train", 6, seed=0)
    write_coloured(folder / "images", "val", 4, seed=1)
    for kind in ("cat", "dog"):
        shutil.copytree(folder / "images" / "val" / "red", folder / "kinds" / kind)
        (folder / "kinds" / kind / "broken.png").unlink(missing_ok=True)
    train = ["train", "--model", f"{folder}/model", "--block", "1", "--input-side", str(SIDE), "--features", "48"]
    train += ["--k", "4", "--tokens", "4000", "--batch-tokens", "256", "--cache", f"{folder}/caches"]
    assert main([*train, "--images", f"{folder}/images", "--out", f"{folder}/sae"]) == 0
    measure = ["measure", "--sae", f"{folder}/sae", "--images", f"{folder}/images", "--top-images", "4"]
    measure += ["--shift", "1", "--diagonal", "both", "--quantile-images", "4"]
    for run in ("run", "run[1]"):
        assert main([*measure, "--out", f"{folder}/{run}"]) == 0
    return folder


# Words after the command; {p} is the folder. In this order: later ones read what earlier ones have written.
WORDS = {
    "train": "--from-cache {cache} --features 16 --k 2 --tokens 500 --batch-tokens 128 --out {p}/cached",
    "measure": "--sae {p}/sae --images {p}/images --top-images 4 --shift 1,2 --out {p}/curve",
    "info": "{p}/run",
    "judge": "{p}/run[1] --rules thresholds --out {p}/judged[1]",
    "check": "--sae {p}/sae --images {p}/images",
    "outliers": "{p}/run",
    "probe": "{p}/run[1] --data {p}/images --remove cds@0.5-1 --random-draws 1",
    "select": "{p}/run[1] --data {p}/images --shares 0.5 --match size --random-draws 1",
    "predictors": "{p}/run[1] --data {p}/images --group-by cds --quantiles 2 --steps 0.05 --draws 2",
    "zeroshot": "{p}/run[1] --images {p}/kinds --remove high-CDS --random-draws 1 --draws 20",
    "table": "{p}/run[1]/probes/classification",
    "compare": "{p}/run {p}/curve --out {p}/compared",
    "sweep": "--model {p}/model --input-side 32 --images {p}/images --top-images 4 --shift 1 --dictionary pca "
    "--components 8 --blocks 0,1 --out {p}/sweep",
    "report": "{p}/run[1] --features-shown 2",
    "figure": "{p}/run[1] removal --out {p}/removal[1].svg",
    "serve": "{p}/run[1] --port 0 --features-shown 2",
    "validate": "--images {p}/images --out {p}/validation --photographs 16 --seeds 1 --features 24 --top-images 3 "
    "--no-trained --no-curves",
    "park": "--model {p}/registers --images {p}/images --input-side 56 --out {p}/parked[1]",
    "demo": "--out {p}/demo --no-open --photographs 16",
}


@pytest.fixture(scope="module")
def ran(place):
    """The folder, once every command has run below it."""
    before = sorted(place.parent.iterdir())
    (cache,) = (place / "caches").iterdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ThreadingHTTPServer, "serve_forever", lambda server: None)
        for command, words in WORDS.items():
            given = [word.replace("{p}", str(place)).replace("{cache}", str(cache)) for word in words.split()]
            assert main([command, *given]) == 0, command
    assert sorted(place.parent.iterdir()) == before
    return place


@pytest.mark.slow
def test_every_command_takes_paths_as_they_are(ran):
    assert not list((ran.parent / MATCHED).iterdir())
    written = ("outliers/outliers.json", "[1]/probes/classification/probe.json", "[1]/report/index.html")
    written += ("[1]/selections/classification/selection.json", "[1]/zeroshot/zeroshot.json")
    written += ("[1]/predictors/predictors.json",)
    assert all((ran / f"run{name}").is_file() for name in written if name.startswith("["))
    assert (ran / "run" / written[0]).is_file()
    assert (ran / "removal[1].svg").is_file()


RESULTS = {
    "run/outliers": (("blocks.parquet", "norms.parquet", "positions.parquet"), "report {p}/run", 2),
    "run[1]/probes/classification": (("variants.parquet", "per_class.parquet"), "table {r}", 2),
    "run[1]/selections/classification": (
        ("steps.parquet", "removed.json"),
        "figure {p}/run[1] removal --out {p}/f.svg",
        2,
    ),
    "run[1]/zeroshot": (("zeroshot.parquet",), "report {p}/run[1]", 0),
    "cached": (("training.json",), "report {r}", 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("result", RESULTS)
def test_one_flipped_bit_in_a_stored_result_is_named(ran, result, capsys):
    names, words, status = RESULTS[result]
    folder = ran / result
    random = np.random.default_rng(0)
    for name in names:
        content = (folder / name).read_bytes()
        for _ in range(4):
            damaged = bytearray(content)
            damaged[random.integers(len(content))] ^= 1 << int(random.integers(8))
            (folder / name).write_bytes(damaged)
            given = [word.replace("{p}", str(ran)).replace("{r}", str(folder)) for word in words.split()]
            capsys.readouterr()
            assert main(given) == status
            said = capsys.readouterr()
            told = said.err if status else (ran / "run[1]" / "report" / "index.html").read_text()
            assert f"cannot read {name} of" in told
            assert "Traceback" not in told
        (folder / name).write_bytes(content)


def test_these_are_all_commands_that_read_or_write_a_folder():
    assert set(COMMANDS) - set(WORDS) == {"saes", "completion"}


def test_a_run_is_opened_by_its_own_name_beside_one_that_it_would_match(tmp_path):
    fake_run(tmp_path / "run1", [0.1, 0.2, 0.3])
    own = fake_run(tmp_path / "run[1]", [0.4, 0.5])
    assert own.scope["cds"].to_list() == [0.4, 0.5]
    assert own.maps.height == own.maps_where(pl.col("feature") >= 0).height == 2 * 4 * 2
    assert own.top_images["feature"].n_unique() == 2


def test_a_pattern_below_such_a_folder_still_is_one(tmp_path):
    folder = tmp_path / NAME / "shards [1]"
    folder.mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    for number in range(3):
        with tarfile.open(folder / f"train-{number}.tar", "w") as archive:
            archive.add(tmp_path / "a.png", f"{number}.png")
    for pattern, count in (("train-*.tar", 3), ("train-{0..1}.tar", 2), ("train-[02].tar", 2), ("train-1.tar", 1)):
        assert len(infoscope.open_images(f"{folder}/{pattern}")) == count


@pytest.mark.slow
def test_the_answers_are_those_of_a_plain_path(place, tmp_path, capsys):
    shutil.copytree(place / "run[1]", tmp_path / "plain")
    there, here = (document(capsys, ["info", str(run)])["result"] for run in (place / "run[1]", tmp_path / "plain"))
    assert json.dumps(there) == json.dumps(here)
    assert there["checked"]
    assert open_run(place / "run[1]").checked


def test_tables_are_read_in_one_place():
    # Its readers take paths for patterns unless they are told otherwise, so there is one place that tells them.
    readers = {"read_parquet", "scan_parquet", "read_csv", "scan_csv", "read_ipc", "scan_ipc", "read_ndjson"}
    readers |= {"read_parquet_schema", "read_parquet_metadata", "scan_ndjson", "read_json", "read_avro", "scan_delta"}
    found = []
    for file in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
            if named and node.value.id in ("pl", "polars") and node.attr in readers:
                found.append((file.relative_to(SOURCES).as_posix(), node.attr))
            if isinstance(node, ast.ImportFrom) and node.module == "polars":
                found.append((file.relative_to(SOURCES).as_posix(), "from polars import"))
    assert found == [("runtime/columns.py", "scan_parquet")]
