"""`infoscope outliers` as a person meets it."""

import json
import shutil
from dataclasses import asdict

import pytest

from commands import document, entries, fails
from fake_runs import reseal
from infoscope.cli.main import main
from infoscope.dictionaries.formats.infoscope import save_sae
from infoscope.runtime.run import open_run
from small import SIDE, pictures, save_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model, photographs in two folders, an SAE and its run."""
    import torch

    from infoscope.dictionaries.activations import TopK
    from infoscope.dictionaries.sae import SparseAutoencoder
    from small import WIDTH

    folder = tmp_path_factory.mktemp("place")
    save_model(folder / "model")
    for i, picture in enumerate(pictures(20)):
        (folder / "images" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        picture.save(folder / "images" / "ab"[i % 2] / f"{i:02}.png")
    both = torch.cat([torch.eye(WIDTH), -torch.eye(WIDTH)], dim=1)
    site = {"model": f"{folder}/model", "block": 1, "input_side": SIDE}
    sae = SparseAutoencoder(both, torch.zeros(2 * WIDTH), both.T, torch.zeros(WIDTH), TopK(4), site=site)
    save_sae(sae, folder / "sae")
    measure = ["measure", "--sae", f"{folder}/sae", "--images", f"{folder}/images", "--top-images", "4"]
    assert main([*measure, "--shift", "1", "--resize", "crop", "--out", f"{folder}/run"]) == 0
    return folder


def test_a_run_is_all_it_needs(place, capsys):
    assert main(["outliers", f"{place}/run", "--labels", "folder"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    for part in (
        "block 1, 6 x 6 patches",
        "20 of 20; 720 tokens",
        "found ",
        "mean + 3 std",
        "high-CDS",
        "low-CDS",
        "EMD of masks",
        f"written: {place}/run/outliers",
    ):
        assert part in words
    folder = place / "run" / "outliers"
    names = {file.name for file in folder.iterdir()}
    tables = {f"{name}.parquet" for name in ("blocks", "positions", "norms", "stability", "features")}
    assert names == tables | {"outliers.json", "share.svg", "norms.svg", "places.svg"}
    record = json.loads((folder / "outliers.json").read_text())
    # Shift and resize are the run's.
    assert (record["options"]["shift"], record["options"]["resize"]) == (1, "crop")
    assert record["model"]["block"] == 1
    assert record["dictionary"]["features"] == 64
    groups = record["groups"]["groups"]
    assert [group["name"] for group in groups if group["kind"] == "partition"] == ["high-CDS", "low-CDS", "unscored"]
    assert sum(group["features"] for group in groups if group["kind"] == "class") in (0, 64)
    tokens, on_pixels = record["stability"]["tokens"], record["stability"]["on_pixels"]
    assert f"of {tokens:,} tail tokens on the overlap in the first crop, {on_pixels:.0%} are on" in words
    assert record["groups"]["on_outliers"]["features"] == []
    assert "none has more than half of its activation on tail tokens" in words
    # The run itself is as it was, and its site says what was found.
    assert open_run(place / "run").scope.height == 64
    assert main(["report", f"{place}/run"]) == 0
    page = " ".join((place / "run" / "report" / "index.html").read_text().split())
    assert f"Of the {tokens:,} such tokens on the overlap of the first crop {100 * on_pixels:.0f} % are on" in page
    assert "more than half of the activation on outlier tokens" not in page
    # A model of random weights has no such features; a record that has some is shown with them.
    told = {"measure": "cds", "auc": 0.75, "features": 2, "median": 0.25, "others_median": None}
    record["groups"]["on_outliers"] = {"features": [3, 5], "classes": {"mixed": 2}, "told": [told]}
    (folder / "outliers.json").write_text(json.dumps({key: record[key] for key in record if key != "checksum"}))
    assert main(["report", f"{place}/run"]) == 0
    page = " ".join((place / "run" / "report" / "index.html").read_text().split())
    assert "2 features with more than half of the activation on outlier tokens: 2 mixed</caption>" in page
    assert '<th scope="row">CDS</th><td>0.75</td><td>2</td><td>0.250</td><td>\u2013</td>' in page


def test_without_a_run_nothing_is_written_unless_asked(place, capsys, tmp_path):
    words = ["outliers", "--model", f"{place}/model", "--images", f"{place}/images", "--input-side", str(SIDE)]
    words += ["--sample-images", "4", "--shift", "1"]
    assert main(words) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "block 2, 6 x 6 patches" in out  # the last
    assert "4 of 20; 144 tokens" in out
    assert "high-CDS" not in out
    assert "written" not in out
    found = document(capsys, [*words, "--block", "0", "--out", f"{tmp_path}/found"])
    record = found["result"]
    assert found["written"] == {"out": f"{tmp_path}/found", "record": f"{tmp_path}/found/outliers.json"}
    assert record["groups"] is None
    assert record["model"]["block"] == 0
    assert entries(tmp_path / "found" / "outliers.json") == record
    assert not (tmp_path / "found" / "features.parquet").exists()


def test_images_sae_and_model_may_have_moved(place, capsys, tmp_path):
    shutil.copytree(place / "run", tmp_path / "run")
    manifest = tmp_path / "run" / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f"{place}/", f"{tmp_path}/gone/"))
    reseal(tmp_path / "run")
    words = ["outliers", f"{tmp_path}/run", "--sample-images", "3", "--json"]
    assert f"no such folder of images: {tmp_path}/gone/images" in fails(capsys, words)
    words += ["--images", f"{place}/images"]
    assert f"no such model: {tmp_path}/gone/model" in fails(capsys, words)
    words += ["--model", f"{place}/model"]
    assert f"no such SAE: {tmp_path}/gone/sae" in fails(capsys, words)
    assert main([*words, "--sae", f"{place}/sae"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dictionary", "features"),
    [(["pca", "--components", "3"], 6), (["channels", "--no-centre"], 64), (["neurons"], 128)],
    ids=["pca", "channels", "neurons"],
)
def test_a_dictionary_without_training_is_made_again(place, capsys, tmp_path, dictionary, features):
    words = ["--images", f"{place}/images", "--top-images", "4", "--shift", "1,2", "--out", f"{tmp_path}/run"]
    model = ["--model", f"{place}/model", "--block", "1", "--input-side", str(SIDE)]
    assert main(["measure", "--dictionary", *dictionary, *model, *words]) == 0
    capsys.readouterr()
    record = document(capsys, ["outliers", f"{tmp_path}/run", "--sample-images", "3"])["result"]
    run = open_run(tmp_path / "run").manifest
    assert record["dictionary"] == asdict(run.dictionary)
    assert record["dictionary"]["features"] == features
    assert record["model"]["reads"] == run.model.reads
    assert record["options"]["shifts"] == [1, 2]


def test_a_dictionary_that_comes_out_otherwise_is_refused(place, capsys, tmp_path):
    words = ["--images", f"{place}/images", "--top-images", "4", "--out", f"{tmp_path}/run"]
    model = ["--model", f"{place}/model", "--block", "1", "--input-side", str(SIDE)]
    assert main(["measure", "--dictionary", "channels", *model, *words]) == 0
    line = fails(capsys, ["outliers", f"{tmp_path}/run", "--images", f"{place}/images/a"])
    assert "the run's dictionary, channels, cannot be made again" in line
    assert "name a saved copy by --sae" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a run, or give --model and --images"),
        (["--model", "m"], "name a run, or give --images"),
        (["--sae", "s"], "--sae goes with a run"),
        (["/no/such/run"], "no such run directory: /no/such/run"),
        (["{place}/images"], "images is not a run directory"),
        (["{place}/run", "--block", "2"], "was measured with block 1, not 2"),
        (["{place}/run", "--cutoff", "value"], "--cutoff value needs a norm"),
        (["{place}/run", "--shift", "5"], "--shift 5 leaves no overlap"),
        (["{place}/run", "--batch-size", "0"], "--batch-size 0 is out of range"),
        (["{place}/run", "--out", "{place}/sae/sae.json"], "sae.json is a file; --out needs a directory"),
        (["{place}/run", "--images", "{place}/images/a", "--labels", "folder"], "is in no folder, so it has no label"),
    ],
)
def test_bad_flags_are_one_line(place, capsys, words, message):
    assert message in fails(capsys, ["outliers", *(word.format(place=place) for word in words)])
