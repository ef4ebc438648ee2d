"""`infoscope check` and `infoscope saes` as a person meets them, and the fit in what `measure` and `report` say."""

import json
import shutil

import pytest

from commands import document, fails, printed
from infoscope.cli.main import main
from infoscope.dictionaries import registry
from infoscope.dictionaries.registry import KNOWN, KnownSAE
from infoscope.runtime.run import open_run
from small import SIDE, pictures, save_model


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model, photographs and an SAE trained on block 1."""
    folder = tmp_path_factory.mktemp("place")
    save_model(folder / "model")
    (folder / "images").mkdir()
    for i, picture in enumerate(pictures(30)):
        picture.save(folder / "images" / f"{i:02}.png")
    train = ["train", "--model", f"{folder}/model", "--block", "1", "--input-side", str(SIDE)]
    train += ["--features", "96", "--k", "16", "--tokens", "60000", "--batch-tokens", "256"]
    assert main([*train, "--images", f"{folder}/images", "--out", f"{folder}/sae"]) == 0
    return folder


def check(place, *words, **changed):
    options = {"sae": f"{place}/sae", "images": f"{place}/images", **changed}
    return ["check", *(word for key, value in options.items() for word in (f"--{key}", str(value))), *words]


def edit_site(place, folder, **changed):
    """A copy of the SAE whose description says something else of its site."""
    shutil.copytree(place / "sae", folder)
    description = json.loads((folder / "sae.json").read_text())
    description["site"] = {key: value for key, value in (description["site"] | changed).items() if value is not None}
    del description["checksum"]
    (folder / "sae.json").write_text(json.dumps(description))
    return folder


@pytest.mark.slow
def test_an_sae_fits_where_it_was_trained(place, capsys):
    out = printed(capsys, check(place))
    for part in ("96 features", "block 1", "30 of 30; 1,080 patch tokens", "1 is the mean token", "(k 16)", "a token"):
        assert part in out
    assert "fit fits" in out
    assert "warning" not in out


@pytest.mark.slow
def test_another_block_is_a_warning_and_no_error(place, capsys):
    out = printed(capsys, check(place, block=2))
    assert "warning The SAE was trained on block 1, and these tokens are of block 2: give --block 1." in out
    assert "fit fits" not in out
    assert "fit The SAE does not fit" in out or "fit By its FVU alone" in out or "only loosely" in out


@pytest.mark.slow
def test_json_says_the_same(place, capsys):
    value = document(capsys, check(place))["result"]
    assert value["fits"] is True
    assert value["fit"]["warnings"] == []
    assert value["model"]["block"] == 1
    assert value["images"] == {"source": f"{place}/images", "count": 30, "sampled": 30}
    found = document(capsys, check(place, block=0))
    value = found["result"]
    assert value["fits"] is False
    assert "trained on block 1" in value["fit"]["warnings"][0]
    assert found["warnings"] == value["fit"]["warnings"]


@pytest.mark.slow
def test_python_says_the_same(place, capsys):
    import infoscope

    backbone = infoscope.load_backbone(place / "model", 1, input_side=SIDE, device="cpu")
    fit = infoscope.check_fit(backbone, infoscope.load_sae(place / "sae"), place / "images")
    assert document(capsys, check(place))["result"]["fit"]["fvu"] == pytest.approx(fit.fvu)


@pytest.mark.slow
def test_what_the_description_says_is_judged(place, capsys, tmp_path):
    cls = edit_site(place, tmp_path / "cls", tokens="cls")
    assert "trained on CLS tokens only" in printed(capsys, check(place, sae=cls))
    long = edit_site(place, tmp_path / "long", mean_token_norm=1e4)
    assert "that the SAE was trained on. Likely cause: a missing normalisation" in printed(
        capsys, check(place, sae=long)
    )
    other = edit_site(place, tmp_path / "other", sha256="0" * 64)
    assert "trained on another checkpoint: weights 000000000000" in printed(capsys, check(place, sae=other))


@pytest.mark.slow
def test_an_image_that_cannot_be_read_is_counted(place, capsys, tmp_path):
    shutil.copytree(place / "images", tmp_path / "images")
    (tmp_path / "images" / "07.png").write_bytes(b"no")
    assert "29 of 30; 1 could not be read" in printed(capsys, check(place, images=tmp_path / "images"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images": "/no/such/folder"}, "no such folder of images: /no/such/folder"),
        ({"sae": "/no/such/sae"}, "no such SAE: /no/such/sae"),
        ({"sae": "msae"}, "msae gives no maps over patches"),
        ({"sae": "saev-clip-b61"}, "did you mean saev-clip-b16?"),
        ({"model": "/no/such/model"}, "no such model: /no/such/model"),
        ({"block": "3"}, "--block 3 is out of range"),
        ({"batch-size": "0"}, "--batch-size 0 is out of range"),
        ({"threads": "0"}, "--threads 0 is out of range"),
        ({"input-side": "50"}, "input side 50 is not a whole number"),
    ],
)
def test_bad_flags_are_one_line(place, capsys, changed, message):
    assert message in fails(capsys, check(place, **changed))


@pytest.mark.slow
def test_a_site_that_is_not_stated_is_asked_for(place, capsys, tmp_path):
    silent = edit_site(place, tmp_path / "silent", model=None, block=None)
    assert "does not say which site it was trained on; give --model" in fails(capsys, check(place, sae=silent))
    assert "give --block" in fails(capsys, check(place, sae=silent, model=place / "model"))


@pytest.mark.slow
def test_measure_and_report_say_the_warnings_too(place, capsys, tmp_path):
    cls = edit_site(place, tmp_path / "cls", tokens="cls")
    options = ["--sae", str(cls), "--images", f"{place}/images", "--top-images", "4", "--out", f"{tmp_path}/run"]
    warning = "The SAE was trained on CLS tokens only: patch tokens are outside what it was trained on."
    assert f"warning {warning}" in printed(capsys, ["measure", *options])
    assert open_run(tmp_path / "run").manifest.fit.warnings == [warning]
    assert f"warning {warning}" in printed(capsys, ["info", f"{tmp_path}/run"])
    assert main(["report", f"{tmp_path}/run"]) == 0
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert 0 < page.find(warning) < page.find("In numbers")
    assert "<b>doubtful</b>" in page


@pytest.mark.slow
def test_a_name_of_the_registry_gives_model_block_and_tokens(place, capsys, tmp_path, monkeypatch):
    silent = edit_site(place, tmp_path / "silent", model=None, block=None, tokens=None)
    # What the hub would give is put in its place.
    small = {"name": "small-sae", "hub_id": "owner/small", "model": f"{place}/model"}
    small |= {"format": "infoscope", "source": "this test"}
    known = KnownSAE(
        **small, block=1, tokens="cls", features=96, activation="topk(16)", why="cls", patch_maps="doubtful"
    )
    monkeypatch.setitem(registry._BY_NAME, "small-sae", known)
    monkeypatch.setattr("infoscope.dictionaries.loading._fetch", lambda name: silent)
    out = printed(capsys, check(place, sae="small-sae", **{"input-side": SIDE}))
    assert "block 1" in out
    assert "trained on CLS tokens only" in out
    off = KnownSAE(**small, block=2)
    monkeypatch.setitem(registry._BY_NAME, "small-sae", off)
    monkeypatch.setattr("infoscope.dictionaries.loading._fetch", lambda name: place / "sae")
    assert "is of block 2, and what owner/small gave is of block 1" in fails(capsys, check(place, sae="small-sae"))


def test_saes_lists_all_and_shows_one(capsys):
    out = printed(capsys, ["saes"])
    assert all(entry.name in out for entry in KNOWN)
    assert all(entry.model in out for entry in KNOWN if entry.model)
    one = printed(capsys, ["saes", "clip-scope-22"])
    for part in ("lewington/CLIP-ViT-L-scope", "22_resid", "65,536", "22, from 0", "model card"):
        assert part in one
    assert "not stated" in printed(capsys, ["saes", "sae-for-vlm"])
    assert [entry["name"] for entry in document(capsys, ["saes"])["result"]["saes"]] == [entry.name for entry in KNOWN]
    assert "no known SAE is called clip-scope-23; did you mean" in fails(capsys, ["saes", "clip-scope-23"])
