"""The demo on fewer of its own photographs: the same path, shorter; and what it brings along."""

import hashlib
import json
import re
import socket
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import infoscope
from infoscope.analyses.zeroshot.embeddings import read_embeddings
from infoscope.cli import demo as command
from infoscope.cli.main import main
from infoscope.demo.bundle import bundled

MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What the command prints, and the run that it leaves, without any network."""
    out = tmp_path_factory.mktemp("demo") / "run"
    with pytest.MonkeyPatch.context() as patch:

        def refuse(*given):
            raise AssertionError(f"the demo asked for the network: {given}")

        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        # Not in place of `print` itself, which numba looks up when it first compiles.
        with redirect_stdout(StringIO()) as printed:
            assert main(["demo", "--out", str(out), "--no-open", "--photographs", "24"]) == 0
    return out, printed.getvalue()


@pytest.mark.slow
def test_it_leaves_a_finished_run_with_its_site(shown):
    out, _ = shown
    run = infoscope.open_run(out)
    assert run.manifest.images.count == 24
    assert run.scope["cds"].is_not_null().sum() > 100
    assert "<html" in (out / "report" / "index.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_what_it_says_of_removal_is_what_was_measured(shown):
    out, printed = shown
    variants = pl.read_parquet(out / "zeroshot" / "zeroshot.parquet")
    untouched = variants.row(by_predicate=pl.col("name") == "untouched", named=True)
    assert f"right for {untouched['accuracy']:.1%} of the crops" in printed
    for name, words in (
        ("high-CDS", "high-CDS ones"),
        ("low-CDS", "low-CDS ones"),
        ("on-outliers", "of outlier tokens"),
    ):
        row = variants.row(by_predicate=pl.col("name") == f"minus {name}", named=True)
        drawn = variants.filter(pl.col("name") == f"minus random of equal mass as {name}")
        assert f"Without the {row['features']:,} {words} ({row['mass']:.0%} of the activation)" in printed
        as_many = variants.filter(pl.col("name") == f"minus random of equal size as {name}")
        assert (
            f"right for {row['accuracy']:.1%}; without as many random features {as_many['accuracy'].mean():.1%}, "
            f"without random features of as much activation {drawn['accuracy'].mean():.1%}" in printed
        )


@pytest.mark.slow
def test_what_it_says_of_outlier_tokens_is_what_was_measured(shown):
    out, printed = shown
    record = json.loads((out / "outliers" / "outliers.json").read_text())
    assert record["presence"]["kind"] == "outlier", "the demo's model has outlier tokens"
    assert record["presence"]["sentence"] in " ".join(printed.split())
    assert f"{record['stability']['on_pixels']:.0%} are outliers in the second crop too" in printed
    theirs = record["groups"]["on_outliers"]
    count = len(theirs["features"])
    said = "1 feature has most of its" if count == 1 else f"{count} features have most of their"
    assert f"{said} activation on them" in printed
    told = theirs["told"][0]
    assert told["measure"] == "cds"
    if told["median"] is not None:
        assert f": median CDS {told['median']:.3f}, where that of the others is" in printed
    assert (out / "outliers" / "places.svg").is_file()
    page = (out / "report" / "index.html").read_text(encoding="utf-8")
    assert record["presence"]["sentence"] in page


@pytest.mark.slow
def test_it_ends_with_the_page_the_time_and_the_memory(shown):
    out, printed = shown
    assert f"The report: {out / 'report' / 'index.html'}" in printed
    assert " of memory" in printed.splitlines()[-1]
    assert printed.splitlines()[-1].startswith("took ")


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--json", "--quiet"])
def test_a_program_reads_nothing_but_the_answer_and_no_browser_opens(shown, flag, capsys, monkeypatch):
    """Of the run that is there already, which the same command reads and shows again."""
    monkeypatch.setattr("webbrowser.open", lambda address: pytest.fail("a browser was opened"))
    monkeypatch.setenv("DISPLAY", ":0")
    out, _ = shown
    assert main(["demo", "--out", str(out), "--photographs", "24", flag]) == 0
    said = capsys.readouterr().out
    page = str(out / "report" / "index.html")
    if flag == "--quiet":
        assert said == f"{page}\n"
    else:
        document = json.loads(said)
        assert document["written"]["page"] == page
        assert {row["name"] for row in document["result"]["without_groups"]} >= {"untouched", "minus high-CDS"}


def test_photographs_out_of_range_are_refused(capsys, tmp_path):
    assert main(["demo", "--out", str(tmp_path / "run"), "--photographs", "3", "--no-open"]) == 2
    assert "--photographs 3 is out of range: choose 16 to " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_installation_without_the_bundle_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr("infoscope.demo.bundle.files", lambda package: tmp_path)
    with pytest.raises(infoscope.InfoscopeError, match=r"lacks demo-vit and demo-sae and .*; install infoscope again"):
        bundled()


def test_a_browser_is_opened_only_where_there_is_a_screen(monkeypatch, capsys, tmp_path):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    command._open(tmp_path / "index.html")
    assert opened == []
    assert f"open {tmp_path / 'index.html'}" in capsys.readouterr().out
    monkeypatch.setenv("DISPLAY", ":0")
    command._open(tmp_path / "index.html")
    assert opened == [(tmp_path / "index.html").as_uri()]


def test_the_bundle_is_small_and_belongs_together():
    bundle = bundled()
    data = bundle.model.parent
    files = [file for file in data.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 25 * MEBIBYTE
    said = json.loads((bundle.sae / "sae.json").read_text())["site"]
    assert said["sha256"] == infoscope.load_backbone(bundle.model, 0, device="cpu").sha256
    width = json.loads((bundle.model / "config.json").read_text())["projection_dim"]
    assert {read_embeddings(file).width for file in (bundle.classes, bundle.subjects)} == {width}


def test_no_place_of_the_machine_that_made_it_is_in_the_bundle():
    for file in bundled().model.parent.rglob("*.json"):
        assert '"/' not in file.read_text(), file
    for embeddings in (bundled().classes, bundled().subjects):
        assert b'"/' not in embeddings.read_bytes()[:4096], embeddings


def test_every_subject_has_its_licence_in_the_card_and_its_own_embedding():
    bundle = bundled()
    subjects = sorted(folder.name for of in (bundle.photographs, bundle.test_photographs) for folder in of.iterdir())
    assert read_embeddings(bundle.subjects).classes.names == tuple(subjects)
    card = (bundle.model.parent.parent / "CARD.md").read_text(encoding="utf-8")
    for subject in subjects:
        row = next(line for line in card.splitlines() if line.startswith(f"| {subject} |"))
        assert any(licence in row for licence in ("CC0", "public domain")), row


def test_no_photograph_is_both_measured_and_tested_on():
    """Two crops of one photograph count as one, which no hash can tell: the folders do."""
    measured, tested = (
        {folder.name for folder in of.iterdir()} for of in (bundled().photographs, bundled().test_photographs)
    )
    assert (len(measured), len(tested)) == (8, 4)
    assert not measured & tested


@pytest.mark.slow
def test_the_removal_is_tested_on_photographs_that_were_not_measured(shown):
    out, printed = shown
    record = json.loads((out / "zeroshot" / "zeroshot.json").read_text())
    assert record["images"]["count"] == 12
    assert record["shared_images"] | {"trained": None} == {
        "images": 12,
        "own": False,
        "measured": {"shared": 0, "first": [], "unknown": ""},
        "trained": None,
    }
    measured = set(infoscope.open_run(out).top_images["image_id"].str.split("/").list.first())
    predictions = pl.read_parquet(out / "zeroshot" / "predictions.parquet")
    assert not measured & set(predictions["image_id"].str.split("/").list.first())
    assert "24 crops of 8 photographs to measure it on, and 12 crops of 4 others to test on" in " ".join(
        printed.split()
    )


def test_no_two_crops_are_the_same_picture():
    files = sorted(file for of in (bundled().photographs, bundled().test_photographs) for file in of.rglob("*.jpg"))
    assert len({hashlib.sha256(file.read_bytes()).digest() for file in files}) == len(files)


def test_the_figures_of_the_card_are_those_that_were_measured():
    kept = Path(__file__).parents[2] / "reproductions" / "demo_model" / "figures.json"
    figures = json.loads(kept.read_text())
    card = (bundled().model.parent.parent / "CARD.md").read_text(encoding="utf-8")
    assert figures["model"]["linear"] > figures["random"]["linear"] + 0.1
    assert figures["model"]["zero-shot"] > figures["random"]["nearest mean"] + 0.1
    for model, names in (("model", ("linear", "zero-shot")), ("random", ("linear",)), ("pixels", ("linear",))):
        for name in names:
            assert f"{100 * figures[model][name]:.1f} %" in card, (model, name)


def test_the_pages_say_what_the_whole_demo_gives():
    """`demo.json` is `infoscope demo --json`; a change that moves its figures must be told in the pages too."""
    root = Path(__file__).parents[2]
    result = json.loads((root / "reproductions" / "demo_model" / "demo.json").read_text())["result"]
    tutorial, page = ((root / "docs" / name).read_text() for name in ("tutorial.md", "demo.md"))
    features, cds = result["features"], result["cds"]
    assert f"{features['scored']} of {features['all']} features fire" in page
    assert f"Here {features['scored']} of {features['all']} features fire" in tutorial
    assert f"with {features['low_cds']} low-CDS features and {features['high_cds']} high-CDS ones" in tutorial
    assert f"below {cds['0.25']:.3f}, half below {cds['0.5']:.3f}, a quarter above" in page
    assert f"below {cds['0.5']:.3f}, and the highest is {cds['1.0']:.3f}" in tutorial
    assert f"threshold {result['threshold']:.3f} is a convention" in tutorial
    assert f"FVU {result['fit']['fvu']:.3f}, {result['fit']['l0']:.0f} features a token" in tutorial
    for name, count in result["classes"].items():
        assert re.search(rf"\b{count}(?: are)?\s{name}\b", tutorial), name
    rows = pl.DataFrame(result["without_groups"]).group_by("name", maintain_order=True).agg(pl.col("accuracy").mean())
    for name, accuracy in rows.filter(pl.col("name") != "reconstruction").iter_rows():
        assert f"| {100 * accuracy:.1f} % |" in tutorial, name
        assert f"{accuracy:.1%}" in page, name


def test_class_embeddings_are_of_unit_length_and_differ():
    vectors = read_embeddings(bundled().classes).vectors
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (vectors @ vectors.T - np.eye(len(vectors)) < 0.95).all()
