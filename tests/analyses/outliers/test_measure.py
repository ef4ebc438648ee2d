"""The whole analysis: on planted outlier tokens, on a model without them, on a real one that has none."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
import torch
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

import infoscope
from commands import entries
from infoscope.analyses.outliers.config import OutlierConfig
from infoscope.analyses.outliers.masks import shift_masks
from infoscope.analyses.outliers.measure import measure_outliers
from infoscope.analyses.outliers.passes import TokenIndex, read_norms, read_tokens
from infoscope.analyses.outliers.result import BLOCKS, FEATURES, NORMS, POSITIONS, STABILITY
from infoscope.analyses.removal.groups import feature_groups
from infoscope.errors import InfoscopeError
from infoscope.images.source import open_images, spread_evenly
from infoscope.images.views import Views
from infoscope.runtime.columns import read_table
from infoscope.runtime.execution import Execution
from infoscope.runtime.run import Run
from infoscope.scope.geometry import patch_distances
from infoscope.views.report.outliers import write_figures
from small import GRID, PATCH, WIDTH, pictures

pytestmark = pytest.mark.slow

REDS = [float(np.asarray(picture)[..., 0].mean()) for picture in pictures(80)]
LABELS = ["red" if red > np.median(REDS) else "pale" for red in REDS]


@pytest.fixture(scope="module")
def found(planted, images, run, sae, tmp_path_factory):
    folder = tmp_path_factory.mktemp("outliers")
    result = measure_outliers(planted, images, run=run, sae=sae, labels=LABELS, out=folder, cutoff="valley")
    return result, folder


def pixels_of(images, view):
    return np.stack([view(images[index]) for index in range(len(images))])


def test_norms_are_those_of_the_tokens_at_every_block(planted, images, at):
    views = Views(PATCH, GRID, 2)
    norms = read_norms(planted, images, views, list(range(6)), Execution(batch_size=4))
    few = [images[index] for index in range(6)]
    for block in range(planted.blocks):
        tokens = at(planted, block).all_tokens(np.stack([views.full(image) for image in few]))
        length = tokens.norm(dim=-1).numpy()
        np.testing.assert_allclose(norms.patches[:, block], length[:, 1:], rtol=1e-5)
        np.testing.assert_allclose(norms.prefix[:, block], length[:, :1], rtol=1e-5)
    for crop in range(2):
        tokens = planted.tokens(np.stack([views.crops(image)[crop] for image in few]))
        np.testing.assert_allclose(norms.crops[:, crop], tokens.norm(dim=-1).numpy(), rtol=1e-5)


def test_tokens_pixels_and_codes_are_those_asked_for(planted, images, sae):
    views = Views(PATCH, GRID, 2)
    image = np.array([2, 3, 7, 11])
    outlier = np.zeros((4, GRID**2), bool)
    outlier[0, 5] = outlier[3, 35] = True
    chosen = {"a": TokenIndex(np.array([3, 0, 3]), np.array([35, 0, 7])), "b": TokenIndex(np.array([1]), np.array([8]))}
    results = [
        read_tokens(planted, sae, images, views, image, outlier, chosen, np.array([1, 3]), Execution(batch_size=size))
        for size in (1, 3)
    ]
    pixels = np.stack([views.full(images[index]) for index in image.tolist()])
    tokens = planted.all_tokens(pixels)
    for found in results:
        for name, those in chosen.items():
            for place, (row, patch) in enumerate(zip(those.row.tolist(), those.patch.tolist(), strict=True)):
                np.testing.assert_allclose(found.vectors[name][place], tokens[row, 1 + patch], rtol=1e-5, atol=1e-5)
                top, left = (PATCH * part for part in divmod(patch, GRID))
                np.testing.assert_array_equal(
                    found.pixels[name][place], pixels[row, top : top + PATCH, left : left + PATCH].ravel()
                )
        np.testing.assert_allclose(found.first, tokens[[1, 3], 0], rtol=1e-5, atol=1e-5)
        codes = sae.encode(tokens[:, 1:]).numpy()
        np.testing.assert_allclose(found.sums.outlier, codes[outlier].sum(0), rtol=1e-4)
        np.testing.assert_allclose(found.sums.normal, codes[~outlier].sum(0), rtol=1e-4)
    # Without an SAE only what is needed is read, and there are no sums.
    bare = read_tokens(planted, None, images, views, image, outlier, chosen, np.array([1, 3]), Execution())
    assert bare.sums is None
    np.testing.assert_allclose(bare.vectors["a"], results[0].vectors["a"], rtol=1e-5, atol=1e-5)


def test_planted_outlier_tokens_are_found(found):
    record = found[0].record
    assert record.presence.kind == "outlier"
    assert record.presence.blocks == [1, 2]
    assert record.presence.sentence.startswith("Outlier tokens at blocks 1 to 2: at block 1, 2.78% of the patch tokens")
    # One token of 36 in every picture, and nothing else.
    assert (record.cutoff.used, record.cutoff.tokens, record.cutoff.images) == ("valley", 80, 80)
    assert record.cutoff.share == pytest.approx(1 / 36)
    blocks = found[0].blocks
    assert blocks["present"].to_list()[:2] == [False, True]
    assert blocks["share_valley"][1] == pytest.approx(1 / 36)
    assert blocks["longest"][1] / blocks["median"][1] > 3
    assert blocks["register_norm"].null_count() == 3


def test_planted_outlier_tokens_sit_all_over_and_jump(found):
    record = found[0].record
    assert record.places.patches > 15
    masks = {mask.mask: mask for mask in record.stability.masks}
    # Two independent single patches on the 4 x 4 overlap: the mean distance over the diagonal.
    distances = patch_distances(GRID - 2)
    chance = distances.mean() / distances.max()
    assert masks["outlier"].mean == pytest.approx(chance, abs=3 * masks["outlier"].error)
    assert masks["outlier"].mean - masks["next"].mean > 3 * masks["next"].below_outlier_error
    assert masks["outlier"].mean > 5 * masks["complement"].mean
    assert record.stability.vanished > 0.2


def test_crops_are_the_runs_where_it_has_several_shifts(planted, images, run, sae):
    several = Run(run.path, replace(run.manifest, options=run.manifest.options | {"shifts": [1, 2, 3]}))
    some = {"sample_images": 12, "cutoff": "valley"}
    found = measure_outliers(planted, images, run=several, sae=sae, **some)
    distances = []
    for shifts in ((1, 2, 3), ()):
        views = Views(PATCH, GRID, 2, shifts=shifts)
        norms = read_norms(planted, images, views, sorted(spread_evenly(80, 12)), Execution())
        threshold = found.record.cutoff.threshold
        distances.append(shift_masks(norms.crops, threshold, grid=GRID, shift=2, image=norms.image).outlier)
    theirs = found.stability["outlier"].to_numpy()
    np.testing.assert_allclose(theirs, distances[0])
    assert not np.allclose(theirs, distances[1], equal_nan=True)
    # A shift that the run did not measure has crops of its own.
    assert measure_outliers(planted, images, run=several, sae=sae, shift=4, **some).record.options["shifts"] == ()


def test_planted_outlier_tokens_know_the_picture_and_not_their_patch(found):
    probes = found[0].record.probes
    assert probes.position_outlier.r2 < 0.1
    assert probes.position_normal.r2 > 0.9
    assert probes.pixels_outlier.r2 < 0.1
    assert probes.pixels_normal.r2 > 0.9
    assert probes.labels_outlier.tokens == probes.labels_normal.tokens == 80
    assert probes.labels_outlier.top1 > 0.8 > probes.labels_normal.top1
    assert probes.labels_special is not None
    assert probes.notes == []


def test_global_features_are_active_on_planted_outlier_tokens(found, run):
    groups = {group.name: group for group in found[0].record.groups.groups if group.kind == "partition"}
    assert groups["high-CDS"].outlier > 3 * groups["high-CDS"].normal
    assert groups["low-CDS"].normal > 3 * groups["low-CDS"].outlier
    assert sum(group.features for group in groups.values()) == 2 * WIDTH


def test_the_rank_correlation_is_that_of_the_ranks(found, run):
    features, cds = found[0].features, run.scope["cds"].to_numpy()
    high, low = (features[f"{kind}_activation"].to_numpy() for kind in ("outlier", "normal"))
    used = ~np.isnan(cds) & (high + low > 0)
    ranks = [rankdata(values) for values in (cds[used], high[used] / (high + low)[used])]
    groups = found[0].record.groups
    assert groups.features == used.sum()
    assert groups.cds_rank_correlation == pytest.approx(np.corrcoef(*ranks)[0, 1])


def test_features_of_outlier_tokens_are_told_as_scikit_learn_says(found, run, planted, images, sae):
    told = found[0].record.groups.on_outliers
    tokens = planted.tokens(pixels_of(images, Views(PATCH, GRID, 2).full))
    outlier = tokens.norm(dim=-1) > found[0].record.cutoff.threshold
    codes = sae.encode(tokens)
    own = (codes[outlier].double().sum(0) > codes[~outlier].double().sum(0)).numpy()
    assert told.features == np.flatnonzero(own).tolist() != []
    assert sum(told.classes.values()) == own.sum()
    fires = (codes.double().sum((0, 1)) > 0).numpy()
    assert [one.measure for one in told.told][:2] == ["cds", "cds_calibrated"]
    for one in told.told:
        values = run.scope[one.measure].to_numpy()
        used = ~np.isnan(values) & (own | fires)
        assert one.features == (used & own).sum()
        if one.auc is not None:
            assert one.auc == pytest.approx(roc_auc_score(own[used], values[used]))
            assert one.median == pytest.approx(np.median(values[used & own]))
            assert one.others_median == pytest.approx(np.median(values[used & ~own]))
    assert told.told[0].auc > 0.9


def test_feature_means_are_those_of_the_dense_codes(found, planted, images, sae):
    views = Views(PATCH, GRID, 2)
    norms = planted.tokens(pixels_of(images, views.full))
    outlier = norms.norm(dim=-1) > found[0].record.cutoff.threshold
    codes = sae.encode(norms)
    features = found[0].features
    np.testing.assert_allclose(features["outlier_activation"], codes[outlier].double().mean(0), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(features["normal_activation"], codes[~outlier].double().mean(0), rtol=1e-4, atol=1e-7)


def test_the_run_gives_its_groups_and_its_classes(run):
    names = [group.name for group in feature_groups(run) if group.kind == "partition"]
    assert names == ["high-CDS", "low-CDS", "unscored"]
    classes = pl.Series("scope_class", ["global", "local"] * WIDTH)
    classed = Run(run.path, run.manifest)
    classed.__dict__["scope"] = run.scope.with_columns(classes)
    groups = feature_groups(classed)
    assert [(group.name, group.kind, len(group.features)) for group in groups[3:]] == [
        ("local", "class", WIDTH),
        ("global", "class", WIDTH),
    ]
    assert groups[4].features.tolist() == list(range(0, 2 * WIDTH, 2))


def test_the_result_does_not_depend_on_the_batch(planted, images, run, sae):
    some = {"run": run, "sae": sae, "sample_images": 30, "cutoff": "valley"}
    whole, parts = (measure_outliers(planted, images, **some, **how) for how in ({}, {"batch_size": 5, "threads": 1}))
    first, second = (json.loads(json.dumps(result.to_json())) for result in (whole, parts))
    for value in (first, second):
        del value["timings"]
    assert_close(first, second)
    np.testing.assert_allclose(whole.features["normal_activation"], parts.features["normal_activation"], rtol=1e-5)


def assert_close(first, second):
    """Equal, numbers to a millionth of themselves."""
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_close(first[key], second[key])
    elif isinstance(first, list):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_close(one, other)
    else:
        assert first == (pytest.approx(second, rel=1e-4, abs=1e-6) if isinstance(first, float) else second)


def test_what_is_written_is_whole_and_described(found):
    result, folder = found
    for name, table in (("blocks", BLOCKS), ("positions", POSITIONS), ("norms", NORMS), ("stability", STABILITY)):
        assert read_table(folder / f"{name}.parquet", table).equals(getattr(result, name))
    assert read_table(folder / "features.parquet", FEATURES).equals(result.features)
    assert entries(folder / "outliers.json") == json.loads(json.dumps(result.to_json()))
    sums = result.norms.group_by("block").agg(pl.col("tokens").sum()).sort("block")["tokens"].to_list()
    assert sums == [80 * GRID**2] * 3
    here = result.positions.filter(pl.col("block") == 1)
    assert here["outliers"].sum() == result.record.cutoff.tokens
    assert here.height == GRID**2
    # Written again without a run: nothing of the old one stays.
    replace(result, features=None).save(folder)
    assert not (folder / "features.parquet").exists()
    result.save(folder)


def test_figures_are_drawings(found):
    for path in write_figures(*found):
        drawing = ElementTree.fromstring(path.read_text())
        assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
        assert len(list(drawing.iter())) > 20


def test_a_model_without_them_is_said_to_have_none(plain, images):
    found = measure_outliers(plain, images, sample_images=60)
    record = found.record
    assert record.presence.kind == "tail"
    assert record.presence.blocks == []
    assert record.presence.sentence.startswith("No outlier tokens: at no block")
    # The tail is analysed all the same.
    assert record.cutoff.tokens > 0
    assert record.sample == 60
    assert record.groups is None
    assert found.features is None
    assert any("single one decides" in note for note in record.notes)
    without_valley = measure_outliers(plain, images, sample_images=20, cutoff="valley").record
    assert (without_valley.cutoff.asked, without_valley.cutoff.used) == ("valley", "std")
    assert any("no valley: mean + 3 std is taken" in note for note in without_valley.notes)


def test_a_cutoff_that_nothing_passes(plain, images, tmp_path):
    found = measure_outliers(plain, images, sample_images=10, cutoff="value", cutoff_value=1e6, out=tmp_path)
    assert found.record.cutoff.tokens == 0
    assert found.record.stability.pairs == 0
    assert found.record.places.likeliest is None
    assert found.blocks["share_value"].to_list() == [0.0, 0.0, 0.0]
    write_figures(found, tmp_path)


def test_a_picture_that_cannot_be_read_is_named(planted, tmp_path):
    for index, picture in enumerate(pictures(4)):
        picture.save(tmp_path / f"{index}.png")
    (tmp_path / "1.png").write_bytes(b"no")
    record = measure_outliers(planted, tmp_path).record
    assert record.sample == 3
    assert [skipped.id for skipped in record.images.skipped] == ["1.png"]
    for file in tmp_path.iterdir():
        file.write_bytes(b"no")
    with pytest.raises(InfoscopeError, match=r"none of the 4 images in .* can be read"):
        measure_outliers(planted, tmp_path)


def test_tokens_that_are_not_finite_are_refused(plain, images):
    class Broken(torch.nn.Module):
        def __init__(self, block):
            super().__init__()
            self.block = block

        def forward(self, *arguments, **options):
            return self.block(*arguments, **options) * torch.inf

    blocks = plain.block_list
    good, blocks[2] = blocks[2], Broken(blocks[2])
    try:
        with pytest.raises(InfoscopeError, match="gives tokens that are NaN or infinite on 0: choose another"):
            measure_outliers(plain, images, sample_images=3)
    finally:
        blocks[2] = good


def test_run_model_and_sae_must_belong_together(planted, images, run, sae, at):
    for options, message in (
        ({"run": run}, "give the SAE it measured too"),
        ({"sae": sae}, "give the run that measured it too"),
    ):
        with pytest.raises(InfoscopeError, match=message):
            measure_outliers(planted, images, **options)
    with pytest.raises(InfoscopeError, match="was measured with block 1, not 2"):
        measure_outliers(at(planted, 2), images, run=run, sae=sae)
    other = replace(run.manifest, dictionary=replace(run.manifest.dictionary, sha256="0" * 64))
    with pytest.raises(InfoscopeError, match="was measured with SAE weights 000"):
        measure_outliers(planted, images, run=Run(run.path, other), sae=sae)


def test_labels_must_fit(planted, images):
    for labels, message in (
        (["a"] * 3, "3 labels for 80 images"),
        (["a"] * 80, "all images of .* have the label a"),
        ("folder", "0 of .* is in no folder"),
    ):
        with pytest.raises(InfoscopeError, match=message):
            measure_outliers(planted, images, labels=labels)


def test_the_sample_is_spread_evenly(planted, images):
    assert sorted(spread_evenly(80, 80)) == list(range(80))
    assert sorted(spread_evenly(3, 1)) == [0]
    record = measure_outliers(planted, images, OutlierConfig(sample_images=3))
    assert record.stability["image"].to_list() == [0, 40, 79]


def test_the_real_model_has_no_outlier_tokens(dinov2_path, imagenette):
    backbone = infoscope.load_backbone(dinov2_path, block=10, device="cpu")
    pool = open_images(imagenette / "val")
    record = measure_outliers(backbone, pool, sample_images=2).record
    assert record.presence.kind == "tail"
    assert record.presence.blocks == []
    assert 1.3 < record.presence.reach < 2
    assert record.cutoff.tokens > 0
