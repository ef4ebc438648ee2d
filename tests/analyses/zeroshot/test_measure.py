"""The whole evaluation against the model run by hand, and what it keeps, resumes, skips and refuses."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from polars.testing import assert_frame_equal
from scipy.io import savemat

import infoscope
from commands import entries
from infoscope.analyses.removal.edited import EditedBackbone
from infoscope.analyses.removal.groups import FeatureGroup
from infoscope.analyses.removal.statistics import read_statistics
from infoscope.analyses.removal.variants import Variant
from infoscope.analyses.zeroshot.classes import Classes, read_classes
from infoscope.analyses.zeroshot.embeddings import class_embeddings
from infoscope.analyses.zeroshot.measure import measure_zeroshot
from infoscope.analyses.zeroshot.result import PREDICTIONS, VARIANTS
from infoscope.analyses.zeroshot.text import embed_classes
from infoscope.backbones.loading import load_backbone
from infoscope.dictionaries.activations import TopK
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.images.source import open_images
from infoscope.runtime.columns import METADATA_KEY, read_table
from language import WIDTH

NAMES = ("dog", "cat", "red garbage truck")
LABELS = [NAMES[place % 3] for place in range(12)]
EVEN = FeatureGroup("even", "list", np.arange(0, 2 * WIDTH, 2, dtype=np.uint32))
NONE = FeatureGroup("none", "list", np.zeros(0, np.uint32))
EVERY = FeatureGroup("every", "list", np.arange(2 * WIDTH, dtype=np.uint32))
VARIANTS_RUN = [
    Variant("reconstruction", method="reconstruct"),
    Variant("minus none", NONE),
    Variant("minus even", EVEN),
    Variant("only b_dec", EVERY, method="reconstruct"),
]


def lossy_sae():
    """Directions up and down of which a token keeps a third: its reconstruction is not the token."""
    both = torch.cat([torch.eye(WIDTH), -torch.eye(WIDTH)], dim=1)
    return SparseAutoencoder(both, torch.zeros(2 * WIDTH), both.T.contiguous(), torch.zeros(WIDTH), TopK(WIDTH // 3))


@pytest.fixture(scope="module")
def place(saved, photographs):
    """Each family's model at its middle block, with its classes, by kind."""
    made = {}
    for kind in ("clip", "siglip"):
        folder = saved(kind).folder
        classes = embed_classes(folder, Classes(NAMES), device="cpu")
        made[kind] = load_backbone(folder, block=1, device="cpu"), classes
    return made


def evaluated(place, kind, photographs, **options):
    backbone, classes = place[kind]
    options = {"draws": 50} | options
    variants = options.pop("variants", VARIANTS_RUN)
    return measure_zeroshot(
        backbone, lossy_sae(), photographs, options.pop("labels", LABELS), classes, variants, **options
    )


@pytest.fixture(scope="module")
def found(place, photographs):
    return {kind: evaluated(place, kind, photographs) for kind in place}


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_untouched_predictions_are_those_of_transformers(kind, found, place, saved, photographs):
    whole, (backbone, classes) = saved(kind), place[kind]
    prompts = [classes.source["templates"][0].format(name) for name in NAMES]
    with torch.no_grad():
        logits = whole.model(**whole.pixels(backbone.normalise(photographs)), **whole.tokens(prompts)).logits_per_image
    chance = logits.softmax(1).numpy()
    rows = found[kind].predictions.filter(pl.col("name") == "untouched")
    assert rows["prediction"].to_list() == [NAMES[each] for each in logits.argmax(1)]
    np.testing.assert_allclose(rows["confidence"], chance.max(1), rtol=1e-4)
    np.testing.assert_allclose(rows["true_probability"], chance[np.arange(12), np.arange(12) % 3], rtol=1e-3)
    accuracy = np.mean([row == label for row, label in zip(rows["prediction"], LABELS, strict=True)])
    assert found[kind].variants["accuracy"][0] == pytest.approx(accuracy)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_removing_nothing_changes_nothing(kind, found):
    rows = found[kind].predictions
    columns = ["prediction", "rank", "confidence", "true_probability", "entropy", "margin"]
    untouched, none = (rows.filter(pl.col("name") == name)[columns] for name in ("untouched", "minus none"))
    assert untouched.equals(none)
    row = found[kind].variants.filter(pl.col("name") == "minus none").to_dicts()[0]
    changes = [name for name in row if name.endswith("_change") or name in ("flips", "right_to_wrong", "true_rose")]
    assert [row[name] for name in changes] == [0] * len(changes)
    assert row["features"] == 0
    # The removals that do remove something show.
    others = found[kind].variants.filter(pl.col("name").is_in(["minus even", "reconstruction"]))
    assert (others["true_probability_change"].abs() > 1e-4).all()


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_each_variant_is_the_edited_model(kind, found, place, photographs):
    """SigLIP's pooling head and CLIP's projection, on the edited backbone's own output."""
    backbone, classes = place[kind]
    edited = EditedBackbone(backbone, lossy_sae())
    ids = [str(place) for place in range(12)]
    projection = None if kind == "siglip" else _projection(backbone)
    for variant, outputs in edited.run(photographs, ids, [Variant("untouched"), *VARIANTS_RUN]):
        vector = outputs.pooled if projection is None else outputs.pooled @ projection.T
        cosine = torch.nn.functional.normalize(vector).numpy() @ classes.vectors.T
        chance = torch.from_numpy(cosine * classes.logits.scale).softmax(1).numpy()
        rows = found[kind].predictions.filter(pl.col("name") == variant.name)
        np.testing.assert_allclose(rows["confidence"], chance.max(1), rtol=1e-4)
        assert rows["prediction"].to_list() == [NAMES[each] for each in chance.argmax(1)]


def _projection(backbone):
    from safetensors.torch import load_file

    return load_file(backbone.weight_files[0])["visual_projection.weight"]


def test_without_its_patches_siglip_sees_one_picture(found):
    """All of its tokens are patches: with b_dec for each, every picture is the same to the blocks after."""
    rows = found["siglip"].predictions.filter(pl.col("name") == "only b_dec")
    assert rows["prediction"].n_unique() == 1
    np.testing.assert_allclose(rows["entropy"], rows["entropy"][0], rtol=1e-5)
    # CLIP keeps its CLS token, which saw the picture in the blocks before.
    rows = found["clip"].predictions.filter(pl.col("name") == "only b_dec")
    assert rows["entropy"].std() > 1e-3


def test_figures_are_those_of_the_predictions(found):
    result = found["clip"]
    rows = result.predictions
    by_variant = {name: rows.filter(pl.col("name") == name) for name in result.variants["name"]}
    before = by_variant["untouched"]
    for row in result.variants.iter_rows(named=True):
        after = by_variant[row["name"]]
        assert row["images"] == 12
        assert row["entropy"] == pytest.approx(after["entropy"].mean())
        assert row["accuracy"] == pytest.approx((after["prediction"] == after["label"]).mean())
        assert row["top5"] is None
        if row["name"] == "untouched":
            assert row["flips"] is None
            continue
        assert row["flips"] == pytest.approx((after["prediction"] != before["prediction"]).mean())
        assert row["confidence_rose"] == pytest.approx((after["confidence"] > before["confidence"]).mean())
        assert row["accuracy_ci_lower"] <= row["accuracy"] <= row["accuracy_ci_upper"]


def test_batches_and_shards_change_nothing(found, place, photographs):
    once = found["clip"].predictions
    again = evaluated(place, "clip", photographs, batch_size=5, shard_images=4).predictions
    exact = ["image", "image_id", "name", "label", "prediction", "rank"]
    assert once[exact].equals(again[exact])
    for column in ("confidence", "entropy", "margin"):
        np.testing.assert_allclose(again[column], once[column], rtol=1e-4, atol=1e-6)


def test_a_folder_holds_all_of_it(found, place, photographs, tmp_path):
    result = evaluated(place, "clip", photographs, out=tmp_path / "out", shard_images=5)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "predictions.parquet",
        "zeroshot.json",
        "zeroshot.parquet",
    ]
    table = read_table(tmp_path / "out" / "zeroshot.parquet", VARIANTS)
    assert table.equals(result.variants)
    assert_frame_equal(table, found["clip"].variants, rel_tol=1e-3, abs_tol=1e-5)
    predictions = read_table(tmp_path / "out" / "predictions.parquet", PREDICTIONS)
    assert predictions.equals(result.predictions)
    assert predictions["image"].to_list() == [image for image in range(12) for _ in range(5)]
    columns = json.loads(pl.read_parquet_metadata(tmp_path / "out" / "predictions.parquet")[METADATA_KEY])
    assert columns["entropy"]["unit"] == "nats"
    record = entries(tmp_path / "out" / "zeroshot.json")
    assert record == result.to_json()
    assert record["classes"]["names"] == list(NAMES)
    assert record["head"] | {"scale": 0} == {
        "pooled": "own",
        "projected": True,
        "width": 20,
        "scale": 0,
        "bias": None,
        "scale_source": "checkpoint",
        "probability": "softmax",
    }
    assert [variant["features"] for variant in record["variants"]] == [0, 0, 0, 24, 48]
    assert record["results"][0]["name"] == "untouched"


def test_a_stopped_evaluation_goes_on(place, photographs, tmp_path, monkeypatch):
    calls = []
    original = EditedBackbone.run

    def stopped(self, pixels, *arguments):
        calls.append(len(pixels))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, pixels, *arguments)

    monkeypatch.setattr(EditedBackbone, "run", stopped)
    options = {"out": tmp_path / "out", "shard_images": 4, "batch_size": 4}
    with pytest.raises(KeyboardInterrupt):
        evaluated(place, "clip", photographs, **options)
    assert not (tmp_path / "out" / "zeroshot.json").exists()
    assert len(list((tmp_path / "out" / "partials").iterdir())) == 2
    result = evaluated(place, "clip", photographs, **options)
    assert calls == [4, 4, 4, 4]  # the third shard alone is read again
    assert result.predictions.height == 60
    assert not (tmp_path / "out" / "partials").exists()
    # Shards of another question are not taken for this one's.
    calls[:] = [0] * 3
    evaluated(place, "clip", photographs, **options, variants=VARIANTS_RUN[:1])
    assert calls == [0, 0, 0, 4, 4, 4]


def test_bad_images_are_skipped_and_named(place, tmp_path):
    folder = tmp_path / "images"
    for number in range(4):
        kind = folder / NAMES[number % 2]
        kind.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(
            kind / f"{number}.png"
        )
    (folder / "dog" / "torn.png").write_bytes((folder / "dog" / "0.png").read_bytes()[:200])
    result = evaluated(place, "clip", folder, labels="folder", shard_images=2, out=tmp_path / "out")
    assert result.record.read == 4
    (skipped,) = result.record.images.skipped
    assert skipped.id == "dog/torn.png"
    assert skipped.index == 4
    assert result.predictions["image_id"].unique(maintain_order=True).to_list() == [
        "cat/1.png",
        "cat/3.png",
        "dog/0.png",
        "dog/2.png",
    ]
    assert result.predictions["label"].to_list() == ["cat"] * 10 + ["dog"] * 10
    for file in folder.rglob("*.png"):
        file.write_bytes(b"torn")
    with pytest.raises(InfoscopeError, match=r"none of the 5 images in .* can be read"):
        evaluated(place, "clip", folder, labels="folder")


def test_imagenet_as_it_is_unpacked(place, tmp_path):
    """A flat folder of validation photographs: the devkit says what each is of, and what that is called."""
    folders = ["n01440764", "n02102040", "n03000684"]
    fields = ["ILSVRC2012_ID", "WNID", "words", "num_children"]
    synsets = np.zeros((3, 1), [(field, object) for field in fields])
    for number, (wnid, name) in enumerate(zip(folders, NAMES, strict=True)):
        synsets[number, 0] = (number + 1, wnid, f"{name}, another word for it", 0)
    devkit = tmp_path / "ILSVRC2012_devkit_t12" / "data"
    devkit.mkdir(parents=True)
    savemat(devkit / "meta.mat", {"synsets": synsets})
    (devkit / "ILSVRC2012_validation_ground_truth.txt").write_text("3\n1\n1\n2\n")
    (tmp_path / "val").mkdir()
    for number in range(1, 5):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "val" / f"ILSVRC2012_val_{number:08d}.JPEG")
    backbone, clip = place["clip"]
    classes = class_embeddings(read_classes(tmp_path), clip.vectors, clip.logits)
    result = measure_zeroshot(backbone, lossy_sae(), tmp_path / "val", "auto", classes, draws=10)
    assert result.predictions["label"].to_list() == ["red garbage truck", "dog", "dog", "cat"]


def test_only_the_classes_that_are_there_may_be_chosen_among(place, photographs):
    labels = ["dog", "red garbage truck"] * 6
    result = evaluated(place, "clip", photographs, labels=labels, among="present", variants=[])
    assert result.record.classes.names == ["dog", "red garbage truck"]
    assert set(result.predictions["prediction"]) <= set(labels)
    assert result.predictions["label"].to_list() == labels


def test_without_labels_nothing_is_said_of_what_is_right(place, photographs):
    result = evaluated(place, "siglip", photographs, labels=None)
    row = result.variants.row(3, named=True)
    assert row["flips"] is not None
    unknown = ("accuracy", "top5", "calibration_error", "right_to_wrong", "true_rose", "true_probability_change")
    assert [row[name] for name in unknown] == [None] * 6
    assert result.predictions["label"].null_count() == result.predictions["rank"].null_count() == 60
    assert not result.record.labelled


def test_a_sigmoid_needs_siglips_bias(place, photographs):
    softly, by_itself = (
        evaluated(place, "siglip", photographs, probability=kind, variants=[]) for kind in ("softmax", "sigmoid")
    )
    assert softly.predictions["prediction"].equals(by_itself.predictions["prediction"])
    assert by_itself.record.head.bias == -1.5
    assert not np.allclose(softly.predictions["confidence"], by_itself.predictions["confidence"])
    with pytest.raises(InfoscopeError, match="--probability sigmoid needs a bias"):
        evaluated(place, "clip", photographs, probability="sigmoid")
    assert evaluated(place, "clip", photographs, probability="sigmoid", logit_bias=-3.0).record.head.bias == -3.0


def test_other_replacements_take_a_samples_codes(place, photographs):
    backbone, _ = place["clip"]
    sae, images = lossy_sae(), open_images(photographs)
    variant = Variant("mean for even", EVEN, replacement="mean")
    with pytest.raises(InfoscopeError, match="a mean replacement needs a sample's codes"):
        evaluated(place, "clip", photographs, variants=[variant])
    statistics = read_statistics(backbone, sae, images)
    result = evaluated(
        place, "clip", photographs, variants=[variant, Variant("minus even", EVEN)], statistics=statistics
    )
    assert result.variants["replacement"].to_list() == ["zero", "mean", "zero"]
    assert result.variants["true_probability"].n_unique() == 3


def test_what_the_image_is_read_from_may_not_see_an_edit(place, photographs):
    """CLS of the last block has nothing after it: patch tokens edited there reach no output of CLIP's."""
    backbone, classes = place["clip"]
    result = measure_zeroshot(backbone.at(block=-1), lossy_sae(), photographs, LABELS, classes, VARIANTS_RUN, draws=10)
    assert result.variants["flips"].to_list()[1:] == [0, 0, 0, 0]
    (note,) = result.record.notes
    assert "patch tokens edited there cannot reach" in note


def test_draws_of_a_random_group_are_summed_up(place, photographs):
    random = np.random.default_rng(0)
    drawn = [
        Variant(
            "minus random",
            FeatureGroup("r", "random", np.sort(random.choice(48, 20, False)).astype("u4")),
            draw=number + 1,
        )
        for number in range(3)
    ]
    result = evaluated(place, "clip", photographs, variants=drawn)
    (control,) = result.record.controls
    values = result.variants["entropy"].to_numpy()[1:]
    assert (control.name, control.draws) == ("minus random", 3)
    assert control.mean["entropy"] == pytest.approx(values.mean())
    assert control.deviation["entropy"] == pytest.approx(values.std(ddof=1))


def test_what_cannot_be_evaluated_is_refused(place, photographs):
    backbone, classes = place["clip"]

    def refused(message, **options):
        with pytest.raises(InfoscopeError, match=message):
            evaluated(place, "clip", photographs, **options)

    refused("minus even is of the site site: zero-shot reads", variants=[Variant("minus even", EVEN, site="site")])
    refused("5 labels", labels=LABELS[:5])
    refused("4 of 12 images are of 'bird'", labels=["bird" if label == "cat" else label for label in LABELS])
    refused("in no folder", labels="folder")
    refused("--among present needs to know", labels=None, among="present")
    refused("two variants are called minus even", variants=[Variant("minus even", EVEN)] * 2)
    other = class_embeddings(Classes(NAMES), np.eye(3))
    with pytest.raises(InfoscopeError, match="of width 3 do not go with"):
        measure_zeroshot(backbone, lossy_sae(), photographs, LABELS, other)
    broken = replace(classes, logits=None)
    infinite = SparseAutoencoder(
        torch.eye(WIDTH), torch.zeros(WIDTH), torch.full((WIDTH, WIDTH), 1e38), torch.zeros(WIDTH), TopK(4)
    )
    with pytest.raises(InfoscopeError, match=r"\(reconstruction\) gives logits that are NaN or infinite on 0"):
        measure_zeroshot(backbone, infinite, photographs, LABELS, broken, VARIANTS_RUN[:1])


def test_names_of_the_package(place):
    assert infoscope.measure_zeroshot is measure_zeroshot
