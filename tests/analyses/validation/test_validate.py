"""A small validation from end to end, in Python and on the command line."""

import json

import numpy as np
import polars as pl
import pytest
from PIL import Image

import small
from infoscope.analyses.validation.cases import CASES
from infoscope.analyses.validation.config import ValidateConfig
from infoscope.analyses.validation.validate import hold, load_validation, summarise, validate
from infoscope.backbones.loading import load_backbone
from infoscope.cli.main import main
from infoscope.errors import InfoscopeError
from infoscope.images.source import open_images
from planting import scenes

OPTIONS = {
    "photographs": 10,
    "seeds": 1,
    "features": 40,
    "top_images": 3,
    "trained_features": 48,
    "tokens": 4000,
    "curves": False,
}


@pytest.fixture(scope="module")
def pictures():
    return scenes(10, 256)


@pytest.fixture(scope="module")
def found(pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("validation")
    backbone = load_backbone(
        small.save_model(tmp_path_factory.mktemp("model")), block=1, input_side=small.SIDE, device="cpu"
    )
    options = {**OPTIONS, "features": 24}
    return validate(pictures, backbone=backbone, out=out, **options), out, backbone


@pytest.mark.slow
def test_every_case_has_its_rows(found):
    cases, features = found[0].cases, found[0].features
    assert cases.select("world", "family", "setting", "dictionary", "outlier_model").rows() == [
        ("planted", "patches", "default", "planted", False),
        ("planted", "patches", "default", "trained", False),
        ("planted", "patches", "adversarial", "planted", False),
        ("planted", "patches", "adversarial", "trained", False),
        ("planted", "patches", "noisy", "planted", False),
        ("planted", "patches", "mixtures", "planted", False),
        ("planted", "patches", "default", "planted", True),
        *[("planted", "blobs", name, "planted", False) for name in ("default", "adversarial", "noisy", "mixtures")],
        ("real", "patches", "default", "planted", False),
        ("real", "patches", "adversarial", "planted", False),
    ]
    assert features.height == 13 * 24
    assert cases["recovered"][0] == 1
    assert features.filter(dictionary="planted")["match"].to_list() == pytest.approx([1.0] * 11 * 24)
    one = features.filter(
        world="planted", family="patches", setting="default", dictionary="planted", outlier_model=False
    )
    assert one["feature"].to_list() == one["latent"].to_list() == list(range(24))
    counted = np.sum(cases["confusion"][0].to_list(), axis=1)
    assert counted.tolist() == [10, 6, 6, 2, 0, 0]
    mixed = features.filter(pl.col("kind").str.starts_with("mixed"), family="patches")
    assert mixed.height == 12
    assert mixed["graded"].is_between(0.3, 0.7).all()


@pytest.mark.slow
def test_figures_are_those_of_the_features(found):
    case = found[0].cases.row(0, named=True)
    rows = found[0].features.filter(
        world="planted", family="patches", setting="default", dictionary="planted", outlier_model=False
    )
    scored = rows.filter(pl.col("cds").is_not_null())
    high, low = (scored.filter(kind=kind)["cds"].to_numpy() for kind in ("global", "local"))
    wins = (high[:, None] > low).mean() + 0.5 * (high[:, None] == low).mean()
    assert case["auc"] == pytest.approx(wins)
    right = [(part["scope_class"] == kind).mean() for (kind,), part in rows.group_by(["kind"])]
    assert case["balanced_accuracy"] == pytest.approx(np.mean(right))
    assert case["line"] == pytest.approx(2 / 11)
    assert found[0].summary()["groups"][0]["auc_least"] == case["auc"]


@pytest.mark.slow
def test_a_stopped_validation_goes_on_and_a_finished_one_is_read(found, pictures):
    first, out, backbone = found
    (out / "validation.json").unlink()
    last = sorted((out / "partials").glob("case-*.parquet"))[-1]
    before = {file.name: file.stat().st_mtime_ns for file in (out / "partials").glob("case-*.parquet")}
    last.unlink()
    again = validate(pictures, backbone=backbone, out=out, **{**OPTIONS, "features": 24})
    assert again.features.equals(first.features)
    assert again.cases.drop("seconds").equals(first.cases.drop("seconds"))
    after = {file.name: file.stat().st_mtime_ns for file in (out / "partials").glob("case-*.parquet")}
    assert [name for name in before if before[name] != after[name]] == [last.name]
    assert load_validation(out).features.equals(first.features)
    with pytest.raises(InfoscopeError, match="another run's directory"):
        validate(pictures[:8], backbone=backbone, out=out, **{**OPTIONS, "features": 24})


def test_the_cases_of_a_whole_validation():
    cases = ValidateConfig().cases(real=True)
    main_cases = [case for case in cases if case.axis == "main" and not case.outlier_model]
    assert len(main_cases) == 4 * 5 + 2 * 5 + 4 * 5 + 2
    assert len({case.title for case in cases}) == len(cases)
    assert {case.axis for case in cases} == {
        "main",
        "noise",
        "background",
        "top_images",
        "shift",
        "cosine",
        "photographs",
    }


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"photographs": 7}, "--photographs 7 is out of range: choose 8 or more"),
        ({"shift": 13}, "--shift 13 leaves no overlap: choose 0 to 12"),
        ({"trained_features": 199}, "--trained-features 199 cannot stand for 200 planted ones: choose as many or more"),
        ({"trained_k": 401}, "--trained-k 401 is more than --trained-features"),
    ],
)
def test_options_out_of_range_are_refused_before_the_first_case(options, line):
    with pytest.raises(InfoscopeError, match=line):
        ValidateConfig(**options)


@pytest.mark.slow
def test_a_real_model_too_narrow_for_the_features_is_refused_before_the_first_case(found, pictures, tmp_path):
    backbone = found[2]
    features = backbone.width + 1
    options = OPTIONS | {"features": features, "trained": False}
    with pytest.raises(
        InfoscopeError, match=f"has tokens of width {backbone.width}, too few for {features} directions"
    ):
        validate(pictures, backbone=backbone, out=tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_the_summary_has_what_becomes_of_it_when_one_thing_varies():
    row = dict.fromkeys(CASES) | {
        "world": "planted",
        "setting": "default",
        "seed": 0,
        "family": "patches",
        "dictionary": "planted",
    }
    row |= {"axis": "main", "outlier_model": False, "noise": 0.3, "auc": 1.0, "balanced_accuracy": 0.9, "unscored": 0.0}
    rows = [row, row | {"axis": "noise", "noise": 1.0, "auc": 0.8}, row | {"axis": "noise", "noise": 0.0}]
    cases = pl.DataFrame(rows, schema={name: column.dtype for name, column in CASES.items()})
    assert [(point["axis"], point["value"], point["auc"]) for point in summarise(cases)["curves"]] == [
        ("noise", 0.0, 1.0),
        ("noise", 0.3, 1.0),
        ("noise", 1.0, 0.8),
    ]


def test_photographs_are_held_small_and_in_order(tmp_path):
    for number, size in enumerate(((500, 900), (30, 40), (800, 420))):
        Image.new("RGB", size, (number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_bytes(b"no picture")
    held = hold(open_images(str(tmp_path)), 10)
    assert [held[i].size for i in range(len(held))] == [(384, 691), (30, 40), (731, 384)]


@pytest.mark.slow
def test_the_command(pictures, tmp_path, capsys):
    for number, picture in enumerate(pictures[:8]):
        Image.fromarray(picture).save(tmp_path / f"{number:02}.png")
    words = ["--images", str(tmp_path), "--out", f"{tmp_path}/out", "--features", "20", "--top-images", "2"]
    assert main(["validate", *words, "--seeds", "1", "--no-trained", "--no-curves"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for part in (
        "planted, patches, default",
        "planted, blobs, noisy",
        "planted kind by class found",
        "dip test",
        "tables:",
    ):
        assert part in printed
    summary = json.loads((tmp_path / "out" / "validation.json").read_text())
    settings = ["default", "adversarial", "noisy", "mixtures"]
    assert [group["setting"] for group in summary["groups"]] == 2 * settings
    assert [group["family"] for group in summary["groups"]] == 4 * ["patches"] + 4 * ["blobs"]
    for wrong, message in (
        (["--images", f"{tmp_path}/none"], "no such folder of images"),
        (["--revision", "main"], "belong to --model"),
        (["--seeds", "0"], "--seeds 0 is out of range"),
    ):
        assert main(["validate", *words, *wrong]) == 2
        assert message in capsys.readouterr().err
