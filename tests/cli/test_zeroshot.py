"""`infoscope zeroshot` as a person meets it."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from commands import document, fails
from fake_runs import reseal
from infoscope.analyses.zeroshot.classes import Classes
from infoscope.analyses.zeroshot.embeddings import class_embeddings, write_embeddings
from infoscope.analyses.zeroshot.result import PREDICTIONS
from infoscope.cli.main import main
from infoscope.dictionaries.activations import TopK
from infoscope.dictionaries.formats.infoscope import save_sae
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.runtime.columns import read_table
from infoscope.runtime.run import open_run
from language import PROJECTED, SIDE, WIDTH, save

pytestmark = pytest.mark.slow

FOLDERS = ("cat", "dog", "garbage_truck")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A CLIP with its tokenizer, photographs in three folders, an SAE and its run."""
    folder = tmp_path_factory.mktemp("place")
    save("clip", folder / "model")
    for number in range(18):
        pixels = np.random.default_rng(number).integers(0, 256, (5, 5, 3), dtype=np.uint8)
        kind = folder / "images" / FOLDERS[number % 3]
        kind.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((50, 40), Image.Resampling.BICUBIC).save(kind / f"{number:02}.png")
    both = torch.cat([torch.eye(WIDTH), -torch.eye(WIDTH)], dim=1)
    site = {"model": f"{folder}/model", "block": 1, "input_side": SIDE, "tokens": "patch"}
    sae = SparseAutoencoder(both, torch.zeros(2 * WIDTH), both.T, torch.zeros(WIDTH), TopK(6), site=site)
    save_sae(sae, folder / "sae")
    measure = ["measure", "--sae", f"{folder}/sae", "--images", f"{folder}/images", "--top-images", "4"]
    assert main([*measure, "--shift", "1", "--resize", "crop", "--out", f"{folder}/run"]) == 0
    return folder


def test_a_run_and_folders_of_images_are_all_it_needs(place, capsys):
    words = ["zeroshot", f"{place}/run", "--images", "run", "--remove", "high-CDS", "--random-draws", "2"]
    words += ["--draws", "50"]
    assert main(words) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for part in (
        "edited at block 1, patch tokens",
        "18 of 18",
        "3 of the images' labels",
        "'a photo of a {}.'",
        "own vector, projected, cosine x 12.18 (checkpoint); softmax",
        "untouched",
        "reconstruction",
        "minus high-CDS",
        "minus random of equal size as high-CDS (2 draws)",
        "right to wrong",
        f"written: {place}/run/zeroshot",
    ):
        assert part in printed
    folder = place / "run" / "zeroshot"
    assert {file.name for file in folder.iterdir()} == {
        "zeroshot.json",
        "zeroshot.parquet",
        "predictions.parquet",
        "class_embeddings.safetensors",
    }
    record = json.loads((folder / "zeroshot.json").read_text())
    assert record["options"]["resize"] == "crop"  # the run's
    assert record["classes"]["names"] == ["cat", "dog", "garbage truck"]
    assert [row["name"] for row in record["results"]] == [
        "untouched",
        "reconstruction",
        "minus high-CDS",
        *["minus random of equal size as high-CDS"] * 2,
        *["minus random of equal mass as high-CDS"] * 2,
    ]
    assert [control["draws"] for control in record["controls"]] == [2, 2]
    assert 0 < record["results"][2]["mass"] < 1
    assert read_table(folder / "predictions.parquet", PREDICTIONS).height == 18 * 7
    # The run itself is as it was.
    assert open_run(place / "run").scope.height == 2 * WIDTH


def test_a_file_of_class_embeddings_takes_the_place_of_texts(place, capsys, tmp_path):
    vectors = np.random.default_rng(1).normal(size=(3, WIDTH)).astype(np.float32)
    write_embeddings(tmp_path / "a.safetensors", class_embeddings(Classes(FOLDERS, FOLDERS), vectors))
    np.save(tmp_path / "a.npy", vectors)
    (tmp_path / "names.json").write_text(json.dumps({folder: folder.title() for folder in FOLDERS}))
    words = ["zeroshot", f"{place}/run", "--images", "run", "--random-draws", "0", "--pooled", "cls", "--draws", "20"]
    words += ["--remove", "list:" + str(tmp_path / "features"), "--out", f"{tmp_path}/out"]
    (tmp_path / "features").write_text("0\n3\n")
    first = document(capsys, [*words, "--class-embeddings", f"{tmp_path}/a.safetensors"])["result"]
    assert (first["head"]["pooled"], first["head"]["projected"]) == ("cls", False)
    assert first["head"]["scale_source"] == "checkpoint"
    assert [row["features"] for row in first["results"]] == [0, 0, 2]
    assert first["results"][0]["mass"] is None  # nothing needed a sample's codes
    assert not (tmp_path / "out" / "class_embeddings.safetensors").exists()
    words += ["--class-embeddings", f"{tmp_path}/a.npy", "--classes", f"{tmp_path}/names.json"]
    second = document(capsys, words)["result"]
    assert second["classes"]["names"] == ["Cat", "Dog", "Garbage_Truck"]
    assert [row["accuracy"] for row in second["results"]] == [row["accuracy"] for row in first["results"]]


def test_other_replacements_and_unknown_classes(place, capsys, tmp_path):
    (tmp_path / "names.txt").write_text("red dog\ncat\ntruck\nphoto\ngarbage\nthis\n")
    words = ["zeroshot", f"{place}/run", "--images", "run", "--classes", f"{tmp_path}/names.txt", "--labels", "none"]
    words += ["--draws", "20"]
    words += ["--replacement", "mean", "--random-draws", "0", "--remove", "cds@0-0.5", "--out", f"{tmp_path}/out"]
    assert main(words) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "flips" in printed
    assert "accuracy" not in printed
    record = json.loads((tmp_path / "out" / "zeroshot.json").read_text())
    assert not record["labelled"]
    assert record["variants"][2]["replacement"] == "mean"


def test_groups_are_compared_on_a_ladder(place, capsys, tmp_path):
    words = ["zeroshot", f"{place}/run", "--images", "run", "--remove", "cds@0-0.5", "--random-draws", "1"]
    words += ["--draws", "20", "--ladder"]
    words += ["--out", f"{tmp_path}/out"]
    assert main(words) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "accuracy at equal removed energy: cds@0-0.5" in printed
    assert "Subsets of a group and sets disjoint from it take out equally much" in printed
    record = json.loads((tmp_path / "out" / "zeroshot.json").read_text())
    sets = [row for row in record["results"] if row["side"] is not None]
    unfair = {each["step"] for each in record["no_fair_control"]}
    assert {row["step"] for row in sets} | unfair == {0.02, 0.05, 0.1, 0.2, 0.4}
    assert sets
    for row in sets:
        assert abs(row["energy_share"] / row["step"] - 1) <= 0.02
        assert (row["overlap"] > 0) == (row["side"] == "subset")
    summary = [row for row in record["ladder"] if row["metric"] == "accuracy"]
    assert [row["step"] for row in summary] == [None, 0.02, 0.05, 0.1, 0.2, 0.4]
    for step in unfair:
        assert f"at {step:.0%}: " in printed
        assert "no fair control" in printed
    found = document(capsys, words)["result"]
    assert found["ladder"] == record["ladder"]


def test_images_elsewhere_have_a_sample_elsewhere(place, capsys, tmp_path):
    shutil.copytree(place / "run", tmp_path / "run")
    manifest = tmp_path / "run" / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f"{place}/images", f"{tmp_path}/gone"))
    reseal(tmp_path / "run")
    words = ["zeroshot", f"{tmp_path}/run", "--images", f"{place}/images", "--remove", "high-CDS", "--draws", "20"]
    line = fails(capsys, words)
    assert f"no such folder of images: {tmp_path}/gone" in line
    assert "(a sample of the run's images is read; --codes-from names others)" in line
    words += ["--codes-from", f"{place}/images", "--random-draws", "1"]
    assert document(capsys, words)["result"]["read"] == 18


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["/no/such/run"], "no such run directory: /no/such/run"),
        (["{place}/run", "--images", "{place}/none"], "no such folder of images"),
        (["{place}/run", "--sites", "site"], "--sites site has no meaning here: zero-shot reads"),
        (["{place}/run", "--labels", "none"], "--labels none leaves the classes open"),
        (["{place}/run", "--classes", "/none.txt"], "cannot read /none.txt"),
        (["{place}/run", "--templates", "sketch"], "no templates sketch: choose clip, siglip or name"),
        (["{place}/run", "--class-embeddings", "/none.npy"], "no such file of class embeddings: /none.npy"),
        (["{place}/run", "--class-embeddings", "a.npy", "--templates", "clip"], "--templates makes class embeddings"),
        (["{place}/run", "--text-model", "{place}/sae"], "sae has no config.json"),
        (["{place}/run", "--remove", "big"], "--remove 'big' is not a feature group"),
        (["{place}/run", "--draws", "0"], "--draws 0 is out of range"),
        (["{place}/run", "--logit-scale", "-2"], "a logit scale of -2.0 orders no classes"),
        (["{place}/run", "--images", "{place}/images/dog"], "in no folder"),
        (["{place}/run", "--out", "{place}/sae/sae.json"], "sae.json is a file; --out needs a directory"),
    ],
)
def test_bad_flags_are_one_line(place, capsys, words, message):
    images = [] if "--images" in words else ["--images", "run"]
    assert message in fails(capsys, ["zeroshot", *(word.format(place=place) for word in words), *images])


def test_embeddings_of_another_width_are_refused(place, capsys, tmp_path):
    np.save(tmp_path / "a.npy", np.eye(3, PROJECTED + 1))
    words = ["zeroshot", f"{place}/run", "--images", "run", "--class-embeddings", f"{tmp_path}/a.npy"]
    words += ["--classes", "labels"]
    assert f"of width {PROJECTED + 1} do not go with" in fails(capsys, [*words, "--random-draws", "0"])
