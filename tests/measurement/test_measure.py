"""The pipeline on a small random model: what must not matter, what must be refused, and what goes on after a stop."""

import dataclasses
import io
import json
import subprocess
import sys
import warnings
from typing import ClassVar

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from fake_runs import unseal
from infoscope.dictionaries import activations
from infoscope.dictionaries.activations import ReLU
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.images.source import open_images
from infoscope.images.views import Views
from infoscope.measurement import fit as fit_module
from infoscope.measurement import maps, scoring
from infoscope.measurement import measure as measure_module
from infoscope.measurement.identity import check_belongs
from infoscope.measurement.measure import measure_scope
from infoscope.measurement.passes import Passes
from infoscope.measurement.result import Scope
from infoscope.runtime.execution import Execution
from infoscope.runtime.run import open_run
from infoscope.scope.classes import CLASSES, SETTLED
from infoscope.scope.geometry import patch_distances
from reference import emd

TABLES = ("table", "top_images", "maps")


def measure(backbone, sae, images, **options):
    return measure_scope(backbone, sae, images, **{"top_images": 4, "shift": 2} | options)


def same(first, second):
    return all(getattr(first, name).equals(getattr(second, name)) for name in TABLES)


def with_relu(sae):
    """With some of its codes above 0."""
    return SparseAutoencoder(sae.W_enc, sae.b_enc - 6, sae.W_dec, sae.b_dec, ReLU())


@dataclasses.dataclass(frozen=True)
class NearMaximum:
    """Neither pointwise nor top-k: what reaches half of the token's largest pre-activation."""

    name: ClassVar[str] = "near-maximum"
    pointwise: ClassVar[bool] = False
    signed: ClassVar[bool] = False

    def __call__(self, pre):
        return torch.where(pre >= 0.5 * pre.amax(-1, keepdim=True), torch.relu(pre), 0.0)

    def at(self, features):
        raise ValueError("a code depends on all features")

    def scaled(self, factor):
        return self

    def __str__(self):
        return self.name


def with_near_maximum(sae):
    return SparseAutoencoder(sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec, NearMaximum())


@pytest.fixture(scope="module")
def tokens(backbone, images):
    """By resize, the tokens of each image's full view and of its two crops, one view at a time: [image][view]."""
    found = {}
    for resize in ("stretch", "crop"):
        views = Views(backbone.patch_size, backbone.grid, 2, resize)
        shown = [(views.full(images[i]), *views.crops(images[i])) for i in range(len(images))]
        found[resize] = [[backbone.tokens(view[None]) for view in of_image] for of_image in shown]
    return found


@pytest.fixture(scope="module")
def undisturbed(backbone, sae, images):
    """By the view that ranks, what a measurement gives that nothing interrupts and no option cuts in pieces."""
    return {rank_view: measure(backbone, sae, images, rank_view=rank_view) for rank_view in ("full", "crops")}


def dense_codes(sae, tokens):
    """[image, view, patch, feature], one view at a time."""
    return np.stack([[sae.encode(view)[0].numpy() for view in of_image] for of_image in tokens])


@pytest.mark.slow
@pytest.mark.parametrize("rank_by", ["max", "mean", "sum"])
@pytest.mark.parametrize("rank_view", ["full", "crops"])
@pytest.mark.parametrize("resize", ["stretch", "crop"])
@pytest.mark.parametrize("kind", ["topk", "relu", "someone's own"])
def test_every_option_follows_the_definition(backbone, sae, images, tokens, rank_by, rank_view, resize, kind):
    if kind != "topk":
        sae = with_relu(sae) if kind == "relu" else with_near_maximum(sae)
    # Code noise and the posterior of the classes are tested by themselves, and here they would take half of the time.
    apart = {"noise_images": 0, "rules": "thresholds"}
    scope = measure(backbone, sae, images, rank_by=rank_by, rank_view=rank_view, resize=resize, batch_size=5, **apart)

    codes = dense_codes(sae, tokens[resize])
    crops = codes[:, 1:]
    ranked = codes[:, :1] if rank_view == "full" else crops
    reduced = ranked.max(2) if rank_by == "max" else ranked.astype(float).sum(2)
    if rank_by == "mean":
        reduced = reduced / backbone.grid**2
    score = reduced.astype(np.float32).max(1)  # the larger of the two crops, or the full view's own
    assert np.array_equal(scope.table["images_active"], (score > 0).sum(0))
    assert np.allclose(scope.table["density"], (ranked > 0).mean((0, 1, 2)), atol=1e-12)

    side = backbone.grid - 2
    distances = patch_distances(side)
    top = scope.top_images.partition_by("feature", as_dict=True)
    for feature in range(sae.features):
        order = [int(i) for i in np.argsort(-score[:, feature], kind="stable")[:4] if score[i, feature] > 0]
        rows = top.get((feature,))
        assert (rows["image"].to_list() if rows is not None else []) == order
        pairs, position, overlaps = [], [], []
        for image in order:
            first, second = crops[image, :, :, feature].reshape(2, backbone.grid, backbone.grid).astype(float)
            position.append(emd(first.ravel(), second.ravel(), patch_distances(backbone.grid)))
            overlap = first[2:, 2:].ravel(), second[:side, :side].ravel()
            pairs.append(emd(*overlap, distances))
            if not np.isnan(pairs[-1]):
                overlaps.append(overlap)
        null = [emd(overlaps[i - 1][0], overlaps[i][1], distances) for i in range(len(overlaps))]
        placed = [value for value in position if not np.isnan(value)]
        for name, values in (("position_control", placed), ("cds_null", null)):
            expected = None if len(values) < 2 else pytest.approx(np.mean(values), abs=1e-9)
            assert scope.table[name][feature] == expected
        valid = [pair for pair in pairs if not np.isnan(pair)]
        assert scope.table["pairs"][feature] == len(valid)
        if len(valid) < 2:
            assert scope.table["cds"][feature] is None
        else:
            assert scope.table["cds"][feature] == pytest.approx(np.mean(valid), abs=1e-9)
    assert scope.table["cds"].count() > 10


@pytest.mark.slow
@pytest.mark.parametrize("rank_view", ["full", "crops"])
@pytest.mark.parametrize("kind", ["topk", "relu"])
def test_nothing_depends_on_batches_threads_or_shards(backbone, sae, images, undisturbed, rank_view, kind):
    whole = undisturbed[rank_view]
    if kind == "relu":
        sae = with_relu(sae)
        whole = measure(backbone, sae, images, rank_view=rank_view)
    for batch_size, threads, shard in ((1, 1, 1024), (7, 5, 9), (40, 2, 1)):
        execution = Execution(batch_size=batch_size, threads=threads, shard_images=shard)
        again = measure(backbone, sae, images, rank_view=rank_view, execution=execution)
        assert same(whole, again)
        assert again.manifest.fit.fvu == pytest.approx(whole.manifest.fit.fvu, rel=1e-12)


@pytest.mark.slow
def test_nothing_depends_on_how_pairs_are_cut_for_scoring(backbone, sae, images, undisturbed, monkeypatch):
    monkeypatch.setattr(scoring, "SHARD_PAIRS", 5)
    monkeypatch.setattr(maps, "MAPS_BYTES", 7000)
    assert same(undisturbed["full"], measure(backbone, sae, images))


def test_a_floor_takes_weak_codes_for_nothing(backbone, sae, images):
    sae = with_relu(sae)
    whole, floored = measure(backbone, sae, images), measure(backbone, sae, images, floor=0.25)
    assert whole.maps.equals(floored.maps)
    # The sensitivity table's own distances, at the same floor.
    expected = whole.table["cds_by_floor"].list.get(1)
    assert expected.count() > 0
    assert floored.table["cds"].equals(expected.alias("cds"))
    assert not floored.table["cds"].equals(whole.table["cds"])


def test_classes_controls_and_trust_are_there(backbone, sae, images, tmp_path):
    scope = measure(backbone, sae, images, out=tmp_path / "run")
    assert set(scope.table["scope_class"].unique()) <= set(CLASSES)
    settled = pl.col("scope_class").is_in(SETTLED)
    assert scope.table.filter(settled).height > 0
    assert scope.table.filter(settled)["trust"].is_between(0, 1).all()
    assert scope.table.filter(~settled)["trust"].is_null().all()
    assert scope.table.select("class_evidence", "trust_reasons").null_count().sum_horizontal().item() == 0
    assert scope.table["cds_by_k"].list.len().unique().to_list() == [3]
    assert scope.table["cds_by_k"].list.get(2).equals(scope.table["cds"].alias("cds_by_k"))
    assert json.loads((tmp_path / "run" / "controls.json").read_text()) == scope.controls().to_json()
    assert Scope.load(tmp_path / "run").controls() == scope.controls()


def test_no_shift_no_distance(backbone, sae, images):
    scope = measure(backbone, sae, images, shift=0)
    scored = scope.table["cds"].drop_nulls()
    assert len(scored) > 10
    assert (scored == 0).all()
    assert scope.top_images["emd"].drop_nulls().max() == 0
    assert scope.table["position_control"].max() == 0
    assert scope.table["scope_class"].unique().to_list() == ["undefined"]


def test_fit_is_against_the_mean_on_the_ranking_view(backbone, sae, images):
    scope = measure(backbone, sae, images)
    views = Views(backbone.patch_size, backbone.grid, 2)
    pixels = np.stack([views.full(images[i]) for i in range(len(images))])
    tokens = backbone.tokens(pixels).flatten(0, 1)
    codes = sae.encode(tokens)
    exact, rebuilt = tokens.double(), sae.decode(codes).double()
    fvu = ((exact - rebuilt) ** 2).sum() / ((exact - exact.mean(0)) ** 2).sum()
    assert scope.manifest.fit.fvu == pytest.approx(float(fvu), rel=1e-5)
    assert scope.manifest.fit.l0 == pytest.approx(float((codes > 0).sum(1).double().mean()))
    assert scope.manifest.fit.dead == float(((codes > 0).sum(0) == 0).double().mean())
    assert scope.manifest.fit.sample == len(tokens)


def test_a_run_directory_says_the_same_as_the_result(backbone, sae, images, tmp_path):
    scope = measure(backbone, sae, images, out=tmp_path / "run")
    assert same(scope, Scope.load(tmp_path / "run"))
    run = open_run(tmp_path / "run")
    assert run.manifest == scope.manifest
    assert run.partition == scope.partition().to_json()
    assert sorted(path.name for path in (tmp_path / "run").rglob("*") if path.is_file()) == [
        "code_noise.json",
        "controls.json",
        "manifest.json",
        "maps.parquet",
        "partition.json",
        "plan.json",
        "scope.parquet",
        "top_images.parquet",
    ]
    lists = run.maps["patch"].list
    assert (lists.len() == run.maps["value"].list.len()).all()
    assert run.maps.height == 2 * run.top_images.height


def test_a_finished_run_is_read_and_another_is_refused(backbone, sae, images, tmp_path, monkeypatch):
    scope = measure(backbone, sae, images, out=tmp_path)
    monkeypatch.setattr(Passes, "rank", lambda *_: pytest.fail("measured twice"))
    assert same(scope, measure(backbone, sae, images, out=tmp_path, batch_size=3))
    with pytest.raises(InfoscopeError, match="options: top_images was 4, now 5"):
        measure(backbone, sae, images, out=tmp_path, top_images=5)
    with pytest.raises(InfoscopeError, match="another run's directory"):
        measure(backbone, sae, open_images([images[i] for i in range(20)]), out=tmp_path)
    other = SparseAutoencoder(sae.W_enc + 1, sae.b_enc, sae.W_dec, sae.b_dec, sae.activation)
    with pytest.raises(InfoscopeError, match="another run's directory"):
        measure(backbone, other, images, out=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("rank_view", ["full", "crops"])
@pytest.mark.parametrize("stopped_after", [1, 6, 9])
def test_an_interrupted_run_resumes(
    backbone, sae, images, undisturbed, tmp_path, monkeypatch, rank_view, stopped_after
):
    calls = []

    def stopping(work):
        def counted(*arguments):
            calls.append(work.__name__)
            if len(calls) == stopped_after:
                raise KeyboardInterrupt
            return work(*arguments)

        return counted

    with monkeypatch.context() as patch:
        for name in ("rank", "rank_crops", "maps"):
            patch.setattr(Passes, name, stopping(getattr(Passes, name)))
        try:
            measure(backbone, sae, images, rank_view=rank_view, out=tmp_path / "run", shard_images=5)
            assert len(calls) < stopped_after
        except KeyboardInterrupt:
            with pytest.raises(InfoscopeError, match="unfinished"):
                open_run(tmp_path / "run")
        done = len(calls) - 1
        calls.clear()
        calls.extend(["offset"] * 100)  # past the stop
        again = measure(backbone, sae, images, rank_view=rank_view, out=tmp_path / "run", shard_images=5)
        total = 5 if rank_view == "crops" else 10
        assert len(calls) - 100 == max(total - done, 0) or stopped_after > total
    assert same(undisturbed[rank_view], again)


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_kept_maps_that_are_damaged_are_made_again(backbone, sae, images, tmp_path, monkeypatch):
    whole = measure(backbone, sae, images, out=tmp_path / "whole")

    def stopped(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Scope, "save", stopped)
        with pytest.raises(KeyboardInterrupt):
            measure(backbone, sae, images, out=tmp_path / "run")
    (kept,) = (tmp_path / "run" / "partials").glob("scores-*.parquet")
    flip(kept)
    measure(backbone, sae, images, out=tmp_path / "run")
    assert open_run(tmp_path / "run").maps.equals(whole.maps)


@pytest.mark.slow
@pytest.mark.parametrize("checked", [True, False])
def test_a_finished_run_without_its_maps_is_not_finished(backbone, sae, images, tmp_path, checked):
    measure(backbone, sae, images, out=tmp_path)
    if not checked:
        unseal(tmp_path)
    maps = tmp_path / "maps.parquet"
    content = maps.read_bytes()
    maps.write_bytes(content[:-20])
    with pytest.raises(InfoscopeError, match=r"cannot read .*maps\.parquet.*; restore it, or measure again into a new"):
        measure(backbone, sae, images, out=tmp_path)
    maps.unlink()
    with pytest.raises(InfoscopeError, match=r"cannot read .*maps\.parquet.*; restore it, or measure again into a new"):
        measure(backbone, sae, images, out=tmp_path)
    maps.write_bytes(content)
    assert measure(backbone, sae, images, out=tmp_path).maps.height


@pytest.mark.slow
@pytest.mark.parametrize("rank_view", ["full", "crops"])
def test_ranking_a_batch_while_the_model_has_the_next_changes_nothing(backbone, sae, images, monkeypatch, rank_view):
    sae = with_relu(sae)
    whole = measure(backbone, sae, images, rank_view=rank_view, batch_size=4)
    monkeypatch.setattr(Passes, "trails", True)
    assert same(whole, measure(backbone, sae, images, rank_view=rank_view, batch_size=4))


@pytest.mark.slow
@pytest.mark.parametrize("stored", [True, False])
def test_a_scope_is_saved_and_loaded_again(backbone, sae, images, tmp_path, stored):
    scope = measure(backbone, sae, images, out=tmp_path / "run" if stored else None)
    scope.save(tmp_path / "copy")
    assert same(scope, type(scope).load(tmp_path / "copy"))
    assert open_run(tmp_path / "copy").manifest == scope.manifest


def test_bad_images_are_skipped_counted_and_named(backbone, sae, images, tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i in range(12):
        images[i].save(folder / f"{i:02}.png")
    # Pixel noise is drawn by an image's place, which broken ones before it change.
    whole = measure(backbone, sae, open_images(folder), noise_images=0)
    (folder / "00-broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    Image.new("RGB", (3, 300)).save(folder / "05-thin.png")
    scope = measure(backbone, sae, open_images(folder), out=tmp_path / "run", noise_images=0)
    assert scope.table.equals(whole.table)
    skipped = {image.id: image for image in scope.manifest.images.skipped}
    assert list(skipped) == ["00-broken.jpg", "05-thin.png"]
    assert skipped["05-thin.png"].index == 6  # it keeps its place
    assert "3 x 300 pixels" in skipped["05-thin.png"].reason
    assert scope.manifest.images.count == 14
    assert set(scope.top_images["image_id"]).isdisjoint(skipped)


def test_all_images_bad(backbone, sae, tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(b"no")
    with pytest.raises(InfoscopeError, match=r"none of the 3 images in .* can be read \(the first: "):
        measure(backbone, sae, open_images(tmp_path))


def test_repaired_images_are_read_again(backbone, sae, images, tmp_path):
    folder, out = tmp_path / "photographs", tmp_path / "run"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.png").write_bytes(b"no")
    with pytest.raises(InfoscopeError, match="none of the 3 images"):
        measure(backbone, sae, open_images(folder), out=out)
    for i in range(3):
        images[i].save(folder / f"{i}.png")
    with pytest.raises(InfoscopeError, match="another run's directory"):
        measure(backbone, sae, open_images(folder), out=out)
    assert measure(backbone, sae, open_images(folder), out=tmp_path / "other").manifest.images.skipped == []


def test_a_fit_that_cannot_be_checked_does_not_end_the_measurement(backbone, sae, images, tmp_path, monkeypatch):
    monkeypatch.setattr(fit_module, "SAMPLE_IMAGES", 1)
    folder = tmp_path / "photographs"
    folder.mkdir()
    (folder / "0.png").write_bytes(b"no")  # the only image of the sample
    for i in range(1, 6):
        images[i].save(folder / f"{i}.png")
    scope = measure(backbone, sae, open_images(folder), out=tmp_path / "run")
    assert scope.manifest.fit.fvu is None
    assert Scope.load(tmp_path / "run").manifest.fit.fvu is None


def test_a_picture_whose_file_is_cut_short_is_skipped(backbone, sae, images):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    file = io.BytesIO()
    noise.save(file, "JPEG")
    cut = Image.open(io.BytesIO(file.getvalue()[:2500]))
    scope = measure(backbone, sae, [images[0], cut, images[1]])
    assert [skipped.index for skipped in scope.manifest.images.skipped] == [1]


def test_named_options_come_before_those_of_a_config(backbone, sae, images):
    config = measure_module.MeasureConfig(top_images=3)
    options = measure_scope(backbone, sae, images, config, shift=1).manifest.options
    assert (options["top_images"], options["shift"]) == (3, 1)


def test_no_more_ranks_than_images(backbone, sae, images):
    scope = measure(backbone, sae, [images[0], images[1]], top_images=60000, min_pairs=1)
    assert scope.top_images["rank"].max() == 1


def test_in_a_pool_of_fewer_than_k_images_every_k_has_its_own_scores(backbone, sae, images):
    scope = measure(backbone, sae, [images[i] for i in range(5)], top_images=16, min_pairs=3)
    sizes = [1, 2, 4, 8, 16]
    assert set(scope.table["cds_by_k"].list.len()) == {len(sizes)}
    by_k = scope.controls().by_k
    assert list(by_k) == sizes
    # With five images the first eight and the first sixteen are all of them, and the first four are not.
    for size in (8, 16):
        assert by_k[size].features > 0
        assert (by_k[size].mean, round(by_k[size].spearman, 12)) == (by_k[size].cds_mean, 1.0)
    assert by_k[4].mean != by_k[4].cds_mean
    scored = scope.table.filter(pl.col("scope_class") != "undefined", pl.col("cds").is_not_null())
    assert scored.height
    for pairs, reasons in scored.select("pairs", "trust_reasons").iter_rows():
        assert f"{pairs} of 16 pairs are valid" in reasons


def test_an_sae_of_another_width(backbone, sae, images):
    narrow = SparseAutoencoder(sae.W_enc[:8], sae.b_enc, sae.W_dec[:, :8], sae.b_dec[:8], sae.activation)
    with pytest.raises(InfoscopeError, match=r"takes tokens of width 8, but .* has width 32"):
        measure(backbone, narrow, images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shift": 5}, "--shift 5 leaves no overlap"),
        ({"top_images": 0}, "--top-images 0 is out of range"),
        ({"min_pairs": 9}, "--min-pairs 9 is out of range"),
        ({"batch_size": 0}, "--batch-size 0 is out of range"),
        ({"seed": -1}, "--seed -1 is out of range"),
    ],
)
def test_options_out_of_range_write_nothing(backbone, sae, images, tmp_path, options, message):
    with pytest.raises(InfoscopeError, match=message):
        measure(backbone, sae, images, out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_choices_are_checked_without_a_type_checker():
    # In a process of its own, since under pytest a type checker would speak first.
    code = """
import infoscope
wrong = dict(rank_by="median", rank_view="crop", resize="centre", empty_as="0", ground_distance="L1")
for name, value in wrong.items():
    try:
        infoscope.MeasureConfig(**{name: value})
    except infoscope.InfoscopeError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "--rank-by 'median' is not known: choose max, mean or sum",
        "--rank-view 'crop' is not known: choose full or crops",
        "--resize 'centre' is not known: choose stretch or crop",
        "--empty-as '0' is not known: choose leave-out or one",
        "--ground-distance 'L1' is not known: choose euclidean or l1",
    ]


def test_too_few_images_for_any_score(backbone, sae, images, tmp_path):
    scope = measure(backbone, sae, open_images([images[0]]), top_images=16, out=tmp_path / "run")
    assert scope.table["cds"].count() == 0
    assert open_run(tmp_path / "run").partition["threshold"] is None


def test_a_dictionary_that_never_fires(backbone, sae, images):
    silent = SparseAutoencoder(sae.W_enc, sae.b_enc - 1e6, sae.W_dec, sae.b_dec, sae.activation)
    scope = measure(backbone, silent, images)
    assert scope.manifest.fit.dead == 1
    assert scope.top_images.height == scope.maps.height == 0
    assert scope.table["max_activation"].to_list() == [0] * sae.features


def test_no_warning_reaches_the_user(backbone, sae, images):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measure(backbone, sae, images)


def test_the_manifest_holds_every_option_with_its_default(backbone, sae, images):
    manifest = measure(backbone, sae, images).manifest
    assert set(manifest.options) == {field.name for field in dataclasses.fields(measure_module.MeasureConfig)}
    assert manifest.options["min_pairs"] == 2
    assert manifest.model.sha256 == backbone.sha256
    assert manifest.dictionary.activation == "topk(6)"


@pytest.mark.slow
def test_an_activation_function_of_someone_s_own(backbone, sae, images, tmp_path):
    """With every option that encodes anew, and through the run's directory."""
    mine = with_near_maximum(sae)
    options = {"shifts": (1, 2), "map_activation": "pre", "quantile_images": 4}
    scope = measure(backbone, mine, images, out=tmp_path / "run", **options)
    assert scope.table["cds"].count() > 10
    assert scope.manifest.dictionary.activation == "near-maximum"
    assert same(scope, measure(backbone, mine, images, execution=Execution(batch_size=7, threads=5), **options))
    assert open_run(tmp_path / "run").scope.equals(scope.table)


@dataclasses.dataclass(frozen=True)
class ShareOfMaximum(activations._Function):
    """Its number is not among the weights."""

    name: ClassVar[str] = "share-of-maximum"
    pointwise: ClassVar[bool] = False
    share: float = 0.5

    def __call__(self, pre):
        return torch.where(pre >= self.share * pre.amax(-1, keepdim=True), torch.relu(pre), 0.0)


def with_activation(sae, activation):
    return SparseAutoencoder(sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec, activation)


def test_the_numbers_of_an_activation_function_tell_runs_apart(backbone, sae, images, tmp_path):
    half = with_activation(sae, ShareOfMaximum(0.5))
    assert str(half.activation) == "share-of-maximum(share=0.5)"
    measure(backbone, half, images, out=tmp_path)
    with pytest.raises(InfoscopeError, match="another run's directory"):
        measure(backbone, with_activation(sae, ShareOfMaximum(0.95)), images, out=tmp_path)
    check_belongs(open_run(tmp_path), backbone, half)
    with pytest.raises(InfoscopeError, match=r"activation function share-of-maximum\(share=0.5\), not topk\(6\)"):
        check_belongs(open_run(tmp_path), backbone, sae)
