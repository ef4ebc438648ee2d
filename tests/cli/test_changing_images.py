"""Photographs, masks and weights that are replaced while a command works, or between two starts of it."""

import json
import logging
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import infoscope
from coloured import COLOURS
from commands import fails
from infoscope.analyses.outliers import measure as outlying
from infoscope.analyses.outliers.measure import measure_outliers
from infoscope.analyses.probes import probe as probing
from infoscope.analyses.probes.classification import classification_task
from infoscope.analyses.removal.groups import FeatureGroup
from infoscope.analyses.removal.variants import Variant
from infoscope.analyses.zeroshot import measure as zeroshooting
from infoscope.analyses.zeroshot.classes import Classes
from infoscope.analyses.zeroshot.embeddings import class_embeddings
from infoscope.analyses.zeroshot.measure import measure_zeroshot
from infoscope.backbones.loading import load_backbone
from infoscope.cli.main import main
from infoscope.dictionaries.formats.infoscope import save_sae
from infoscope.dictionaries.loading import load_sae
from infoscope.errors import InfoscopeError
from infoscope.images.source import open_images
from infoscope.measurement import measure as measuring
from infoscope.measurement.identity import other_images
from infoscope.measurement.measure import measure_scope
from infoscope.runtime.run import open_run
from infoscope.training import train as training
from infoscope.training.train import train_sae
from infoscope.views.report.contents import Options, ReportFiles
from infoscope.views.report.photographs import find_photographs
from small import SIDE, WIDTH

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("few_strengths")]

CHANGED = "has changed since it was first read; put back what was there and give the same command again"
QUIET = {}


@pytest.fixture
def folder(coloured_folder, tmp_path):
    """The coloured pictures, to be changed."""
    shutil.copytree(coloured_folder, tmp_path / "pictures")
    return tmp_path / "pictures"


def change(file):
    """Another picture under a name; gives what brings the first one back."""
    before = file.read_bytes()
    Image.effect_noise((SIDE, SIDE), 90).convert("RGB").save(file)
    return lambda: file.write_bytes(before)


def touch(folder):
    for file in folder.rglob("*.png"):
        os.utime(file, ns=(5, 5))


@pytest.fixture
def before(monkeypatch):
    """Has something happen before a function of a module is called for the first time."""

    def patch(module, name, happen):
        own, happened = getattr(module, name), []

        def first(*arguments, **options):
            if not happened:
                happened.append(None)
                happened[0] = happen()
            return own(*arguments, **options)

        monkeypatch.setattr(module, name, first)
        return happened

    return patch


def measured(probed, directions, folder, **options):
    return measure_scope(probed, directions, str(folder / "train"), top_images=4, **QUIET, **options)


def test_a_measurement_does_not_mix_two_sets_of_photographs(probed, directions, folder, before, tmp_path):
    whole = measured(probed, directions, folder)
    back = before(measuring, "map_images", lambda: change(folder / "train" / "red" / "3.png"))
    with pytest.raises(InfoscopeError, match=rf"red/3\.png of .* {CHANGED}"):
        measured(probed, directions, folder, out=tmp_path / "run")
    assert not (tmp_path / "run" / "manifest.json").exists()
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "run" / "partials").glob("ranking-*")}
    assert kept
    with pytest.raises(InfoscopeError, match=CHANGED):  # by the next start too
        measured(probed, directions, folder, out=tmp_path / "run")
    back[0]()
    again = measured(probed, directions, folder, out=tmp_path / "run")
    assert again.table.equals(whole.table)
    assert again.manifest.images.contents_sha256 == whole.manifest.images.contents_sha256


def test_a_photograph_that_no_second_pass_reads_is_compared_at_the_end(probed, directions, folder, before, tmp_path):
    before(measuring, "judge_features", lambda: change(folder / "train" / "green" / "0.png"))
    with pytest.raises(InfoscopeError, match=rf"green/0\.png of .* {CHANGED}"):
        measured(probed, directions, folder, out=tmp_path / "run")
    assert not (tmp_path / "run" / "manifest.json").exists()


def test_photographs_that_were_only_touched_are_no_difference(
    probed, directions, folder, before, tmp_path, monkeypatch
):
    out = tmp_path / "run"

    def stop():
        raise KeyboardInterrupt

    before(measuring, "map_images", stop)
    with pytest.raises(KeyboardInterrupt):
        measured(probed, directions, folder, out=out)
    touch(folder)
    before(measuring, "judge_features", lambda: touch(folder))
    scope = measured(probed, directions, folder, out=out)
    touch(folder)
    monkeypatch.setattr(measuring, "rank_images", lambda *_: pytest.fail("measured twice"))
    assert measured(probed, directions, folder, out=out).table.equals(scope.table)
    change(folder / "train" / "red" / "0.png")
    with pytest.raises(InfoscopeError, match="have changed since they were measured into"):
        measured(probed, directions, folder, out=out)


def test_an_analysis_of_outliers_does_not(probed, folder, before, tmp_path):
    before(outlying, "shift_masks", lambda: change(folder / "train" / "red" / "3.png"))
    with pytest.raises(InfoscopeError, match=rf"red/3\.png of .* {CHANGED}"):
        measure_outliers(probed, str(folder / "train"), out=tmp_path / "out", **QUIET)
    assert not (tmp_path / "out").exists()


def zeroshot(probed, directions, folder, out):
    vectors = np.random.default_rng(0).normal(size=(len(COLOURS), WIDTH))
    half = FeatureGroup("half", "list", np.arange(WIDTH, dtype=np.uint32))
    return measure_zeroshot(
        probed, directions, str(folder / "train"), "folder", class_embeddings(Classes(tuple(COLOURS)), vectors),
        [Variant("half", half)], out=out, draws=20, shard_images=4, **QUIET,
    )  # fmt: skip


def test_zeroshot_does_not_and_does_again_what_has_changed(probed, directions, folder, before, tmp_path, monkeypatch):
    photograph = folder / "train" / "red" / "3.png"
    before(zeroshooting, "summarise", lambda: change(photograph))
    with pytest.raises(InfoscopeError, match=rf"red/3\.png of .* {CHANGED}"):
        zeroshot(probed, directions, folder, tmp_path / "out")
    assert not (tmp_path / "out" / "zeroshot.json").exists()
    touch(folder / "train" / "blue")
    from infoscope.analyses.zeroshot import scoring

    own, read = scoring._score_shard, []
    monkeypatch.setattr(scoring, "_score_shard", lambda *given: read.append(given[2]) or own(*given))
    again = zeroshot(probed, directions, folder, tmp_path / "out")
    assert read == [range(16, 20)]
    assert again.predictions.equals(zeroshot(probed, directions, folder, tmp_path / "other").predictions)


def trained(probed, folder, out, **options):
    options = {"features": 40, "k": 4, "tokens": 4000, "batch_tokens": 200, "buffer_tokens": 400} | options
    return train_sae(probed, str(folder / "train"), out=out, **QUIET, **options)


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_a_training_does_not(probed, folder, before, tmp_path, cache):
    whole = trained(probed, folder, None, cache=cache)
    back = before(training, "look_downstream", lambda: change(folder / "train" / "red" / "3.png"))
    with pytest.raises(InfoscopeError, match=rf"red/3\.png of .* {CHANGED}"):
        trained(probed, folder, tmp_path / "sae", cache=cache)
    assert not (tmp_path / "sae" / "sae.json").exists()
    with pytest.raises(InfoscopeError, match=CHANGED):
        trained(probed, folder, tmp_path / "sae", cache=cache)
    back[0]()
    touch(folder)
    assert torch.equal(trained(probed, folder, tmp_path / "sae", cache=cache).W_enc, whole.W_enc)
    assert sorted(file.name for file in (tmp_path / "sae").iterdir()) == [
        "sae.json",
        "sae.safetensors",
        "training.json",
    ]


def test_a_token_cache_is_not_finished_on_two_sets(probed, folder, tmp_path, monkeypatch):
    from infoscope.runtime.token_cache import TokenCacheWriter

    own, added = TokenCacheWriter.add, []

    def add(self, *given):
        if not added:
            added.append([change(file) for file in (folder / "train").rglob("*.png")])
        own(self, *given)

    monkeypatch.setattr(TokenCacheWriter, "add", add)
    with pytest.raises(InfoscopeError, match=CHANGED):
        trained(probed, folder, tmp_path / "sae", cache=str(tmp_path / "cache"))
    assert not list((tmp_path / "cache").rglob("manifest.json"))


def probe(probed_run, probed, directions, task, out):
    group = FeatureGroup("half", "list", np.arange(WIDTH, dtype=np.uint32))
    config = infoscope.ProbeConfig(baselines=False)
    removal = infoscope.RemovalConfig(random_draws=0)
    return infoscope.probe_groups(probed_run, probed, directions, task, [group], config, removal, out=out, **QUIET)


def test_a_probe_does_not(probed_run, probed, directions, folder, before, tmp_path):
    def task():
        return classification_task(str(folder / "train"), str(folder / "val"))

    def run():
        return probe(probed_run, probed, directions, task(), tmp_path / "out")

    back = before(probing, "score_variants", lambda: change(folder / "train" / "red" / "3.png"))
    with pytest.raises(InfoscopeError, match=rf"red/3\.png of .* {CHANGED}"):
        run()
    assert not (tmp_path / "out" / "probe.json").exists()
    back[0]()
    touch(folder)
    found = run()
    touch(folder)
    assert run().variants.equals(found.variants)
    change(folder / "val" / "red" / "3.png")
    with pytest.raises(InfoscopeError, match=rf"red/3\.png of .* {CHANGED}"):
        run()


def test_a_probe_sees_masks_that_change(probed_run, probed, directions, before, tmp_path):
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for kind in ("images", "masks"):
            (tmp_path / split / kind).mkdir(parents=True)
        for number in range(3):
            pixels = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / "images" / f"{number}.png")
            Image.fromarray(np.uint8(pixels[..., 0] % 2)).save(tmp_path / split / "masks" / f"{number}.png")

    def run():
        train, test = (
            infoscope.open_masks(tmp_path / split / "images", tmp_path / split / "masks", classes=("a", "b"))
            for split in ("train", "test")
        )
        return probe(probed_run, probed, directions, infoscope.segmentation_task(train, test), tmp_path / "out")

    mask = tmp_path / "train" / "masks" / "1.png"
    flipped = Image.fromarray(np.asarray(Image.open(mask))[::-1])  # as many pixels of each class
    before(probing, "score_variants", lambda: flipped.save(mask))
    with pytest.raises(InfoscopeError, match=rf"1\.png of the targets of .* {CHANGED}"):
        run()
    assert not (tmp_path / "out" / "probe.json").exists()
    with pytest.raises(InfoscopeError, match=rf"1\.png of the targets of .* {CHANGED}"):
        run()


def test_weights_that_are_written_over_change_no_model_that_is_loaded(probed, directions, tmp_path):
    probed.model.save_pretrained(tmp_path / "model")
    save_sae(directions, tmp_path / "sae")
    backbone = load_backbone(tmp_path / "model", block=1, input_side=SIDE, device="cpu")
    sae = load_sae(tmp_path / "sae")
    weights = {name: weight.clone() for name, weight in backbone.model.state_dict().items()}
    for file in (tmp_path / "model" / "model.safetensors", tmp_path / "sae" / "sae.safetensors"):
        with file.open("r+b") as stream:  # in place: what is mapped would see it
            stream.seek(file.stat().st_size // 2)
            stream.write(b"\x11" * (file.stat().st_size // 2))
    assert all(torch.equal(weight, weights[name]) for name, weight in backbone.model.state_dict().items())
    assert torch.equal(sae.W_enc, directions.W_enc)
    assert torch.equal(sae.W_dec, directions.W_dec)
    with pytest.raises(InfoscopeError, match="have changed since they were loaded; load them again"):
        _ = backbone.sha256


@pytest.fixture
def run(probed, directions, folder, tmp_path):
    measured(probed, directions, folder, out=tmp_path / "run")
    return open_run(tmp_path / "run")


def test_an_analysis_says_in_a_line_where_its_images_are_others(run, probed, directions, folder, caplog):
    images = open_images(str(folder / "train"))
    assert other_images(run, images) is None
    touch(folder)
    assert other_images(run, open_images(str(folder / "train"))) is None
    assert "has 16 images, and" in other_images(run, open_images(str(folder / "val")))
    (folder / "train" / "red" / "0.png").rename(folder / "train" / "red" / "9.png")
    assert "have other names than those that" in other_images(run, open_images(str(folder / "train")))
    (folder / "train" / "red" / "9.png").rename(folder / "train" / "red" / "0.png")
    change(folder / "train" / "red" / "3.png")
    with caplog.at_level(logging.INFO, "infoscope"):
        measure_outliers(probed, str(folder / "train"), run=run, sae=directions, **QUIET)
    (line,) = [record for record in caplog.records if "have changed since" in record.message]
    assert line.levelno == logging.WARNING
    assert "1 of the 24 images of" in line.message
    assert "(the first: red/3.png)" in line.message


def test_a_photograph_is_never_shown_for_another_of_its_name(run, folder, capsys):
    shown = run.top_images.select("image", "image_id").unique("image").sort("image")
    first = shown["image_id"][0]
    change(folder / "train" / first)
    site = ReportFiles(run, open_images(str(folder / "train")), Options())
    pictures = dict(zip(shown["image_id"], site.thumbnails.each(shown["image_id"]), strict=True))
    assert [name for name, picture in pictures.items() if picture is None] == [first]
    found = find_photographs(run)
    assert found.of(first) is None
    assert found.of(shown["image_id"][1]) is not None
    with pytest.raises(InfoscopeError, match="has changed since it was measured"):
        found.read(first)
    capsys.readouterr()
    assert main(["report", str(run.path), "--json"]) == 0
    (warning,) = [said for said in json.loads(capsys.readouterr().out)["warnings"] if "have changed" in said]
    assert f"(the first: {first})" in warning
    feature = run.top_images.filter(image_id=first)["feature"][0]
    words = [
        "figure",
        str(run.path),
        "gallery",
        "--features",
        str(feature),
        "--pairs",
        "4",
        "--out",
        str(folder / "gallery.svg"),
    ]
    assert "has changed since it was measured" in fails(capsys, words)


def test_runs_on_photographs_of_one_name_are_on_the_same_only_where_these_are(
    run, probed, directions, folder, tmp_path
):
    from infoscope.analyses.comparison import on_same_images

    change(folder / "train" / "red" / "3.png")
    measured(probed, directions, folder, out=tmp_path / "other")
    other = open_run(tmp_path / "other")
    assert not on_same_images([run, other])
    older = replace(other.manifest, images=replace(other.manifest.images, contents=None, contents_sha256=None))
    assert on_same_images([run, replace(other, manifest=older)])
