"""``infoscope probe``, ``select`` and ``table``, from their flags to what is printed and written."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
from PIL import Image

from commands import document
from fake_runs import reseal
from infoscope.cli.main import main
from infoscope.runtime.run import open_run

pytestmark = pytest.mark.usefixtures("few_strengths")


@pytest.fixture(scope="module")
def probe_folder(probed_run, coloured_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("probe") / "out"
    given = ["--data", str(coloured_folder), "--out", str(out), "--remove", "cds@0.8-1", "--random-draws", "1"]
    assert main(["probe", str(probed_run.path), *given]) == 0
    return out


@pytest.mark.slow
def test_a_probe_is_printed_and_goes_on_where_it_is_finished(probe_folder, probed_run, coloured_folder, capsys):
    given = ["--data", str(coloured_folder), "--out", str(probe_folder), "--remove", "cds@0.8-1", "--random-draws", "1"]
    assert main(["probe", str(probed_run.path), *given]) == 0
    printed = capsys.readouterr().out
    for part in (
        "untouched",
        "reconstruction",
        "minus cds@0.8-1",
        "random, equal mass",
        "majority",
        "colours",
        "top-1",
    ):
        assert part in printed
    found = document(capsys, ["probe", str(probed_run.path), *given])["result"]
    assert {row["name"] for row in found["table"]} >= {"untouched", "minus cds@0.8-1"}
    assert found["skipped"]["test"][0]["id"] == "red/broken.png"


@pytest.mark.slow
def test_tables_stand_beside_the_papers(probe_folder, capsys):
    found = document(capsys, ["table", str(probe_folder), "--reported", "clip-b16"])["result"]
    untouched = next(row for row in found["rows"] if row["name"] == "untouched")
    assert untouched["scores"]["classification"]["reported"] == 74.82
    told = " ".join(found["differences"])
    assert "the paper's is not known" in told
    assert "(DINOv2, patches of 8 pixels), not CLIP ViT-B/16" in told
    assert "(3 classes, 24 images to train on, 16 to test on), not ImageNet's 1,000 classes" in told
    assert "The scope was measured on 12 images of arrays" in told
    assert "codes become zero, as there" in told
    assert "NYU" not in told
    assert main(["table", str(probe_folder), "--reported", "clip-b16", "--row", "nothing"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "74.82 %" in printed
    assert "secondary source" in printed
    assert "reconstruction" not in printed


@pytest.mark.slow
def test_probes_of_one_task_have_a_column_each(probe_folder, tmp_path, capsys):
    other = tmp_path / "without-mass"
    shutil.copytree(probe_folder, other)
    table = pl.read_parquet(other / "variants.parquet")
    table.with_columns(pl.col("score") / 2).write_parquet(other / "variants.parquet")
    reseal(other, "probe.json")
    found = document(capsys, ["table", str(probe_folder), str(other), str(probe_folder)])["result"]
    assert found["differences"] == []
    for row in found["rows"]:
        scores = row["scores"]
        assert list(scores) == ["classification: out", "classification: without-mass"]
        assert scores["classification: out"]["score"] == 2 * scores["classification: without-mass"]["score"]
    shutil.copytree(other, tmp_path / "other" / "out")
    words = ["table", str(probe_folder), str(tmp_path / "other" / "out"), "--row", "nothing"]
    names = list(document(capsys, words)["result"]["rows"][0]["scores"])
    assert names == [f"classification: {probe_folder}", f"classification: {tmp_path / 'other' / 'out'}"]
    assert main(["table", str(probe_folder), str(other), "--row", "nothing"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "top-1, %, out" in printed
    assert "without-mass" in printed


@pytest.mark.slow
def test_a_selection_is_printed_and_its_features_can_be_removed(probed_run, coloured_folder, tmp_path, capsys):
    given = ["--data", str(coloured_folder), "--out", str(tmp_path / "selection")]
    given += ["--shares", "0.5", "1", "--ends", "top", "--random-draws", "1"]
    given += ["--resize", "crop", "--sample-images", "6", "--keep-features"]
    assert main(["select", str(probed_run.path), *given]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "top 50%" in printed
    assert "the gain is flattered" in printed
    options = json.loads((tmp_path / "selection" / "selection.json").read_text())["options"]
    assert (options["resize"], options["sample_images"], options["keep_features"]) == ("crop", 6, True)
    assert list((tmp_path / "selection" / "partials" / "features").rglob("vectors.npy"))
    found = document(capsys, ["select", str(probed_run.path), *given])["result"]
    choice = found["choice"]
    own = [step for step in found["steps"] if step["match"] is None]
    assert choice["validation"] == max(step["validation"] for step in own)
    removed = json.loads((tmp_path / "selection" / "removed.json").read_text())
    assert removed == choice["removed"]
    # All features of the column, from the top: as many as have a score.
    assert own[-1]["features"] == open_run(probed_run.path).scope["cds"].count()


@pytest.mark.slow
def test_segmentation_and_depth_by_folders(probed_run, coloured_folder, tmp_path, capsys):
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 3)):
        for kind in ("images", "masks", "depths"):
            (tmp_path / split / kind).mkdir(parents=True)
        for number in range(count):
            # The upper or the lower half is bright: a class and a depth of their own.
            half = np.zeros((40, 50), bool)
            half[: 20 if number % 2 else 40, 25:] = True
            noise = random.integers(0, 60, (40, 50, 3))
            pixels = (noise + 180 * half[..., None]).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / "images" / f"{number}.png")
            Image.fromarray(half.astype(np.uint8)).save(tmp_path / split / "masks" / f"{number}.png")
            depth = (1000 + 2000 * half).astype(np.uint16)
            Image.fromarray(depth).save(tmp_path / split / "depths" / f"{number}.png")
    # Its mask is whole, and is not judged.
    (tmp_path / "test" / "images" / "2.png").write_bytes(b"no picture")
    for task, kind, removed in (("segmentation", "masks", "cds@0.5-1"), ("depth", "depths", "nothing")):
        splits = [
            word
            for split in ("train", "test")
            for word in (
                f"--{split}",
                str(tmp_path / split / "images"),
                f"--{split}-targets",
                str(tmp_path / split / kind),
            )
        ]
        given = ["--task", task, *splits, "--remove", removed, "--random-draws", "1"]
        given += ["--out", str(tmp_path / task)]
        found = document(capsys, ["probe", str(probed_run.path), *given])["result"]
        scores = {row["metric"]: row["score"] for row in found["table"] if row["name"] == "untouched"}
        guessed = next(each["test"] for each in found["baselines"] if each["name"] == "majority")
        assert [(skipped["id"], skipped["index"]) for skipped in found["skipped"]["test"]] == [("2.png", 2)]
        assert found["skipped"]["train"] == []
        if task == "segmentation":
            without = {row["name"]: row for row in found["table"] if row["metric"] == "mIoU"}[f"minus {removed}"]
            assert without["features"] > 0
            assert without["score"] != scores["mIoU"]
            assert without["difference"] == pytest.approx(without["score"] - scores["mIoU"])
            assert without["difference_lower"] <= without["difference"] <= without["difference_upper"]
            assert scores["mIoU"] > max(0.7, guessed["mIoU"] + 0.2)
        else:
            assert scores["RMSE"] < 0.6 * guessed["RMSE"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "give --data, or --train and --test"),
        (["--train", "{folder}/train"], "--train needs --test"),
        (["--data", "{folder}", "--test", "{folder}/val"], "--data names all splits"),
        (["--data", "{folder}/nowhere"], "nowhere"),
        (["--train", "{folder}/train", "--test", "{folder}/train"], "both the train and the test split"),
        (["--train", "{folder}/train/red", "--test", "{folder}/val"], "is in no folder"),
        (["--data", "{folder}", "--remove", "loud"], "is not a feature group"),
        (["--data", "{folder}", "--remove", "cds > 2"], "names no feature"),
        (["--data", "{folder}", "--recipe", "best"], "--recipe 'best' is not known"),
        (["--data", "{folder}", "--disk-gib", "0"], "--disk-gib 0"),
        (["--data", "{folder}", "--batch-size", "0"], "--batch-size 0"),
        (["--data", "{folder}", "--task", "segmentation"], "ADE20K"),
        (["--task", "depth", "--train", "{folder}/train", "--test", "{folder}/val"], "--train needs --train-targets"),
        (["--data", "{folder}", "--task", "depth"], "holds neither"),
    ],
)
def test_wrong_input_is_one_line(probed_run, coloured_folder, tmp_path, capsys, given, message):
    words = [word.replace("{folder}", str(coloured_folder)) for word in given]
    assert main(["probe", str(probed_run.path), *words, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert len([line for line in told.splitlines() if line.startswith("infoscope:")]) == 1
    assert not (tmp_path / "out" / "probe.json").exists()


def test_what_is_no_run_and_no_probe_is_named(coloured_folder, tmp_path, capsys):
    assert main(["probe", str(tmp_path / "none"), "--data", str(coloured_folder)]) == 2
    assert "no such run directory" in capsys.readouterr().err
    assert main(["table", str(tmp_path)]) == 2
    assert "holds no finished probe" in capsys.readouterr().err
    assert main(["table"]) == 2
    assert "name at least one folder" in capsys.readouterr().err
