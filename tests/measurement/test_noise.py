"""Code noise of a measurement: the same however it is run, and what a direct recomputation gives."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from infoscope.dictionaries.activations import Gated, JumpReLU, ReLU
from infoscope.errors import InfoscopeError
from infoscope.images.views import Views
from infoscope.images.watched import digest_pixels
from infoscope.measurement import noise as noise_module
from infoscope.measurement.config import MeasureConfig
from infoscope.measurement.measure import measure_scope
from infoscope.measurement.noise import Counting, jittered
from infoscope.measurement.ranking import Ranking
from infoscope.measurement.result import Scope, noise_of
from infoscope.measurement.scoring import score_with_controls
from infoscope.runtime.run import open_run
from infoscope.scope.classes import SETTLED
from infoscope.scope.maps import MapPairs, SparseMaps
from small import pictures

OPTIONS = {"top_images": 4, "shift": 2, "min_pairs": 2}
NOISE = ("cds_noise", "cds_excess")
# What follows from code noise as well as from the maps.
BY_NOISE = {"displaced_noise", "displacement", "displacement_error", "noise_jumps"}
BY_NOISE |= {"displacement_following", "displacement_following_error"}
JUDGED = BY_NOISE | {"scope_class", "class_evidence", "trust", "trust_reasons", "class_even", "class_odd"}
JUDGED |= {f"posterior_{name.replace('-', '_')}" for name in SETTLED}
JUDGED |= {f"pairs_{what}" for what in ("following", "staying", "still", "jumping")}


def pairs_of(run, cells):
    """The maps of a run's table as pairs, as a later judgement reads them."""
    top = run.top_images.sort("feature", "rank")
    crops = []
    for crop in (0, 1):
        maps = run.maps.filter(pl.col("crop") == crop).sort("feature", "rank")
        start = np.concatenate([[0], np.cumsum(maps["patch"].list.len().to_numpy())]).astype(np.int64)
        entries = [maps[name].explode().drop_nulls().to_numpy() for name in ("patch", "value")]
        crops.append(SparseMaps(start, *entries, cells))
    return MapPairs(*(top[name].to_numpy() for name in ("feature", "rank", "image", "score")), *crops)


def test_noise_changes_classes_and_no_score(backbone, sae, images):
    """By the older rules it changes no class either."""
    judged = {"scope_class", "class_evidence", "class_even", "class_odd", "trust", "trust_reasons"}
    for rules, others in (("thresholds", set()), ("posterior", judged)):
        without = measure_scope(backbone, sae, images, **OPTIONS, noise_images=0, rules=rules).table
        scope = measure_scope(backbone, sae, images, **OPTIONS, rules=rules).table
        changed = {name for name in scope.columns if not scope[name].equals(without[name])}
        moves = {name for name in changed if rules == "posterior" and name.startswith(("posterior_", "pairs_"))}
        assert changed <= {*NOISE} | BY_NOISE | others | moves
        assert changed >= {*NOISE, "displaced_noise", "displacement", "displacement_following"}


def test_noise_adds_columns(backbone, sae, images):
    without = measure_scope(backbone, sae, images, **OPTIONS, noise_images=0)
    scope = measure_scope(backbone, sae, images, **OPTIONS)
    assert without.code_noise is None
    assert without.table.select(pl.col(NOISE).null_count()).row(0) == (sae.features, sae.features)
    assert scope.maps.equals(without.maps)
    assert scope.top_images.equals(without.top_images)
    # A score needs no other noise than its own pairs do.
    assert scope.table["cds_noise"].is_null().equals(scope.table["cds"].is_null())
    assert scope.table["cds_noise"].median() > 0


def test_how_it_is_run_changes_nothing(backbone, sae, images, monkeypatch):
    scope = measure_scope(backbone, sae, images, **OPTIONS, noise_images=9)
    assert scope.code_noise.images == 9
    monkeypatch.setattr(noise_module, "SHARD_IMAGES", 2)
    other = measure_scope(backbone, sae, images, **OPTIONS, noise_images=9, batch_size=3, threads=3, shard_images=7)
    assert other.code_noise.to_json() == scope.code_noise.to_json()
    assert other.table.equals(scope.table)
    more = measure_scope(backbone, sae, images, **OPTIONS, noise_images=9, ranks=8)
    assert more.code_noise.to_json() == scope.code_noise.to_json()
    assert more.table.select(NOISE).equals(scope.table.select(NOISE))
    seeded = measure_scope(backbone, sae, images, **OPTIONS, noise_images=9, seed=1)
    assert seeded.code_noise.to_json() != scope.code_noise.to_json()


def test_it_is_what_a_direct_recomputation_gives(backbone, sae, images):
    scope = measure_scope(backbone, sae, images, **OPTIONS)
    chosen = sorted(scope.top_images["image"].unique())
    views, codes, lost, new = Views(backbone.patch_size, backbone.grid, 2), 0, 0, 0
    for index in chosen:
        clean = views.crops(images[index])[0]
        rng = np.random.default_rng([0, digest_pixels(clean)])
        noisy = np.clip(np.round(clean + 2 * rng.standard_normal(clean.shape)), 0, 255).astype(np.uint8)
        before, after = (sae.encode(backbone.tokens(view[None])[0]) > 0 for view in (clean, noisy))
        codes += int(before.sum())
        lost += int((before & ~after).sum())
        new += int((after & ~before).sum())
    noise = scope.code_noise
    assert noise.images == len(chosen)
    assert sum(noise.lost.count) == sum(noise.lost_by_margin.count) == codes
    assert lost > 20
    shares = zip(noise.lost.count, noise.lost.pooled, strict=True)
    assert sum(count * share for count, share in shares if count) == pytest.approx(lost)
    assert sum(noise.appeared) + noise.alone == new


def test_a_directory_keeps_it_and_judges_from_it(backbone, sae, images, tmp_path):
    scope = measure_scope(backbone, sae, images, **OPTIONS, out=tmp_path / "run")
    run = open_run(tmp_path / "run")
    noise = noise_of(run)
    assert noise.to_json() == scope.code_noise.to_json() == Scope.load(tmp_path / "run").code_noise.to_json()
    config = MeasureConfig(**OPTIONS)
    pairs = pairs_of(run, backbone.grid**2)
    _, controls = score_with_controls(pairs, backbone.grid, config, lambda _: None, sae.features, noise)
    means = pl.DataFrame({"feature": pairs.feature, "noise": controls.noise}).filter(pl.col("noise").is_not_nan())
    means = means.group_by("feature").agg(pl.col("noise").mean())
    both = means.join(run.scope.select("feature", "cds_noise"), on="feature").drop_nulls()
    assert both.height > 10
    assert both["noise"].to_list() == pytest.approx(both["cds_noise"].to_list())


@pytest.mark.parametrize("change", [{"format_version": 2}, {"spread": []}, {"lost": None}])
def test_a_file_that_is_no_code_noise_is_named(backbone, sae, images, tmp_path, change):
    measure_scope(backbone, sae, images, **OPTIONS, noise_images=2, out=tmp_path)
    for name in ("code_noise.json", "manifest.json"):
        value = json.loads((tmp_path / name).read_text())
        if name == "code_noise.json":
            value |= change
        else:  # as a run from before there were checksums
            value = {key: entry for key, entry in value.items() if key not in ("files", "checksum")}
        (tmp_path / name).write_text(json.dumps(value))
    with pytest.raises(InfoscopeError, match=r"code_noise\.json.*measure again"):
        noise_of(open_run(tmp_path))
    (tmp_path / "code_noise.json").unlink()
    assert noise_of(open_run(tmp_path)) is None


def test_a_finished_run_from_before_there_was_code_noise_is_not_passed_off_as_one_with_it(
    backbone, sae, images, tmp_path
):
    measure_scope(backbone, sae, images, **OPTIONS, out=tmp_path)
    (tmp_path / "code_noise.json").unlink()
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    older = {key: entry for key, entry in manifest.items() if key not in ("files", "checksum")}
    (tmp_path / "manifest.json").write_text(json.dumps(older))
    with pytest.raises(InfoscopeError, match=r"finished, but without code noise.*--out NEW"):
        measure_scope(backbone, sae, images, **OPTIONS, out=tmp_path)


def test_the_older_rules_need_no_code_noise(backbone, sae, images, tmp_path):
    measured = measure_scope(backbone, sae, images, **OPTIONS, out=tmp_path, rules="thresholds")
    (tmp_path / "code_noise.json").unlink()
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    older = {key: entry for key, entry in manifest.items() if key not in ("files", "checksum")}
    (tmp_path / "manifest.json").write_text(json.dumps(older))
    again = measure_scope(backbone, sae, images, **OPTIONS, out=tmp_path, rules="thresholds")
    assert again.table.equals(measured.table)


def test_it_resumes_with_the_first_shard_that_is_missing(backbone, sae, images, tmp_path, monkeypatch):
    whole = measure_scope(backbone, sae, images, **OPTIONS)
    monkeypatch.setattr(noise_module, "SHARD_IMAGES", 10)
    done, count = [], noise_module.count_shard

    def stopping(passes, countings, image, *rest):
        if image[0] > 10 and not done.count("stopped"):
            done.append("stopped")
            raise KeyboardInterrupt
        done.append(len(image))
        return count(passes, countings, image, *rest)

    monkeypatch.setattr(noise_module, "count_shard", stopping)
    with pytest.raises(KeyboardInterrupt):
        measure_scope(backbone, sae, images, **OPTIONS, out=tmp_path)
    resumed = measure_scope(backbone, sae, images, **OPTIONS, out=tmp_path)
    assert resumed.table.equals(whole.table)
    before = done[: done.index("stopped")]
    assert before
    assert sum(entry for entry in done if entry != "stopped") == whole.code_noise.images


def test_units_are_thresholds_where_there_are_any(sae):
    ranking = Ranking.empty(sae.features, 1)
    ranking.score[:, 0] = np.arange(sae.features)

    def counting(activation):
        return Counting.of(replace_activation(sae, activation), ranking)

    token = Counting.of(sae, ranking)
    assert token.basis == "token"
    assert token.short_scale == (np.median([1.0, *range(1, sae.features)]),)
    threshold = torch.full((sae.features,), 0.25)
    assert counting(JumpReLU(threshold)).short_scale == (0.25,)
    threshold[3] = -1.0  # acts as 0, so the feature's largest score is the unit
    own = counting(JumpReLU(threshold))
    assert (own.basis, own.scale[2], own.scale[3]) == ("threshold", 0.25, 3.0)
    ones = torch.ones(sae.features)
    for activation in (ReLU(), Gated(ones, ones)):
        largest = counting(activation)
        assert (largest.basis, largest.scale[:3].tolist()) == ("maximum", [1.0, 1.0, 2.0])


def replace_activation(sae, activation):
    return type(sae)(sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec, activation)


def test_codes_without_competition_are_counted_too(backbone, sae, images):
    """With a bias that keeps them sparse; margins are then values."""
    relu = type(sae)(sae.W_enc, sae.b_enc - 6.0, sae.W_dec, sae.b_dec, ReLU())
    noise = measure_scope(backbone, relu, images, **OPTIONS, noise_images=6).code_noise
    assert noise.basis == "maximum"
    assert len(noise.scale) == sae.features
    assert sum(noise.lost.count) > 100
    again = type(noise).from_json(json.loads(json.dumps(noise.to_json())))
    assert again.scale == noise.scale
    assert replace(again, scale=(1.0,)).scale_of(np.array([3, 4], np.uint32)).tolist() == [1.0, 1.0]
    assert again.scale_of(np.array([3, 4], np.uint32)).tolist() == list(noise.scale[3:5])


def test_pixels_are_jittered_by_image_and_seed_alone():
    grey = np.full((80, 80, 3), 128, np.uint8)
    noise = jittered(grey, 0).astype(float) - grey
    assert noise.std() == pytest.approx(2.0, rel=0.05)
    assert np.array_equal(noise, jittered(grey, 0).astype(float) - grey)
    for other, seed in ((grey + 1, 0), (grey, 1)):
        assert not np.array_equal(noise, jittered(other, seed).astype(float) - other)
    assert jittered(np.full((8, 8, 3), 255, np.uint8), 0).max() == 255


def test_an_image_that_cannot_be_read_changes_no_noise(backbone, sae, tmp_path):
    for number, picture in enumerate(pictures(12)):
        picture.save(tmp_path / f"{number:02}.png")
    whole = measure_scope(backbone, sae, str(tmp_path), **OPTIONS, noise_images=5)
    (tmp_path / "00-broken.png").write_bytes(b"no")
    other = measure_scope(backbone, sae, str(tmp_path), **OPTIONS, noise_images=5)
    assert other.manifest.images.skipped
    assert other.code_noise.to_json() == whole.code_noise.to_json()
    assert other.table.equals(whole.table)
