"""A whole probe on a small model: what is removed is missed, and nothing else changes a score."""

import dataclasses
import json
from functools import partial

import numpy as np
import polars as pl
import pytest

from infoscope.analyses.probes.classification import ClassificationTask
from infoscope.analyses.probes.config import ProbeConfig
from infoscope.analyses.probes.probe import probe_groups
from infoscope.analyses.probes.result import open_probe
from infoscope.analyses.removal.config import RemovalConfig
from infoscope.analyses.removal.groups import FeatureGroup
from infoscope.analyses.removal.ladder import build_ladder
from infoscope.errors import InfoscopeError
from small import WIDTH

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("few_strengths")]

ALL = FeatureGroup("all", "list", np.arange(2 * WIDTH, dtype=np.uint32))
FEW = FeatureGroup("few", "list", np.arange(3, dtype=np.uint32))
REMOVAL = RemovalConfig(sites=("rerun", "site"), method="reconstruct", random_draws=2)
FEWER = RemovalConfig(sites=("rerun", "site"), method="reconstruct", random_draws=0)
QUIET = {}


@pytest.fixture(scope="module")
def found(probed_run, probed, directions, coloured, tmp_path_factory):
    out = tmp_path_factory.mktemp("probe")
    return probe_groups(probed_run, probed, directions, coloured, [FEW], removal=REMOVAL, out=out, **QUIET), out


@pytest.fixture(scope="module")
def whole(probed_run, probed, directions, coloured, tmp_path_factory):
    config, out = ProbeConfig(baselines=False), tmp_path_factory.mktemp("whole")
    return probe_groups(probed_run, probed, directions, coloured, [ALL, FEW], config, FEWER, out=out, **QUIET)


def score(result, site, name, metric="top-1"):
    rows = result.table.filter(site=site, name=name, metric=metric)
    assert rows.height == 1
    return rows.row(0, named=True)


def test_what_is_removed_is_missed(whole):
    result = whole
    for site in ("rerun", "site"):
        untouched = score(result, site, "untouched")
        assert untouched["score"] > 0.9
        # The reconstruction is the token.
        assert score(result, site, "reconstruction")["score"] == untouched["score"]
        assert score(result, site, "minus few")["features"] == 3
    # Without any feature every patch token is b_dec.
    nothing = score(result, "site", "minus all")
    assert nothing["mass"] == pytest.approx(1)
    assert nothing["score"] <= 0.4


def test_draws_are_rows_of_their_own_and_one_row_of_the_table(found):
    result, _ = found
    drawn = result.variants.filter(name="minus random of equal size as few", metric="top-1", site="site")
    assert drawn["draw"].to_list() == [1, 2]
    row = score(result, "site", "minus random of equal size as few")
    assert row["draws"] == 2
    assert row["score"] == pytest.approx(drawn["score"].mean())
    assert row["spread"] == pytest.approx(drawn["score"].std())


def test_differences_are_to_the_untouched_model_at_the_same_site(found):
    result, _ = found
    for row in result.variants.iter_rows(named=True):
        base = score(result, row["site"], "untouched", row["metric"])["score"]
        assert row["difference"] == pytest.approx(row["score"] - base)
        if row["name"] != "untouched" and row["metric"] == "top-1":
            assert row["difference_lower"] <= row["difference"] <= row["difference_upper"]


def test_images_that_cannot_be_read_are_left_out_and_named(found, coloured):
    result, _ = found
    (skipped,) = result.record.skipped["test"]
    assert skipped.id == "red/broken.png"
    assert coloured.splits["test"].ids[skipped.index] == skipped.id
    assert result.record.skipped["train"] == []
    # 15 of 16 are judged.
    assert {round(value * 15, 6) % 1 for value in result.variants.filter(metric="top-1")["score"]} == {0}


def test_baselines_know_no_model(found):
    baselines = {baseline.name: baseline for baseline in found[0].record.baselines}
    assert baselines["majority"].test["top-1"] == pytest.approx(5 / 15)
    assert baselines["colours"].test["top-1"] == 1.0


def test_a_probe_is_read_back(found):
    result, out = found
    again = open_probe(out)
    assert again.record == result.record
    assert again.variants.equals(result.variants)
    assert again.per_class.equals(result.per_class)
    assert json.loads((out / "probe.json").read_text())["task"] == "classification"
    assert not list((out / "partials" / "features").rglob("*.npy"))


def test_scores_do_not_depend_on_batches_or_on_the_space_for_features(
    whole, probed_run, probed, directions, coloured, tmp_path
):
    config = ProbeConfig(disk_gib=1e-9, keep_features=True, baselines=False)
    again = probe_groups(
        probed_run, probed, directions, coloured, [ALL, FEW], config, FEWER, out=tmp_path, batch_size=3, **QUIET
    )
    assert again.variants.equals(whole.variants)
    assert len(list((tmp_path / "partials" / "features").rglob("vectors.npy"))) == 2 * 2 * 4


def test_an_interrupted_probe_goes_on(whole, probed_run, probed, directions, coloured, tmp_path, monkeypatch):
    fit, fitted = ClassificationTask.fit, []

    def stop(self, features, *arguments):
        if len(fitted) == 5:
            raise KeyboardInterrupt
        fitted.append(features)
        return fit(self, features, *arguments)

    arguments = (probed_run, probed, directions, coloured, [ALL, FEW], ProbeConfig(baselines=False), FEWER)
    monkeypatch.setattr(ClassificationTask, "fit", stop)
    with pytest.raises(KeyboardInterrupt):
        probe_groups(*arguments, out=tmp_path, **QUIET)
    monkeypatch.setattr(ClassificationTask, "fit", lambda *given: fitted.append(given[1]) or fit(*given))
    # All features are there: no image is read again.
    monkeypatch.setattr("infoscope.analyses.probes.store.decode_ahead", lambda *given, **options: iter(()))
    again = probe_groups(*arguments, out=tmp_path, **QUIET)
    assert len(fitted) == 2 * 4
    assert again.variants.equals(whole.variants)


def test_a_folder_of_another_probe_is_refused(found, probed_run, probed, directions, coloured):
    with pytest.raises(InfoscopeError, match="another run's directory"):
        probe_groups(probed_run, probed, directions, coloured, [ALL], removal=REMOVAL, out=found[1], **QUIET)


def test_random_groups_are_the_same_at_both_sites_and_kept(found):
    groups = found[0].record.groups
    assert groups["minus few"] == [0, 1, 2]
    assert len(groups["minus random of equal size as few, draw 2"]) == 3
    assert found[0].variants.filter(pl.col("name") == "minus few")["features"].unique().to_list() == [3]


def test_scores_of_other_labels_are_not_taken_over(found, probed_run, probed, directions, coloured):
    other = dataclasses.replace(
        coloured,
        labelled={
            split: dataclasses.replace(labelled, labels=np.roll(labelled.labels, 1))
            for split, labelled in coloured.labelled.items()
        },
    )
    with pytest.raises(InfoscopeError, match="labels"):
        probe_groups(probed_run, probed, directions, other, [FEW], removal=REMOVAL, out=found[1], **QUIET)


def test_what_is_finished_is_read_back(found, probed_run, probed, directions, coloured, monkeypatch):
    monkeypatch.setattr("infoscope.analyses.probes.probe.prepare", None)
    again = probe_groups(probed_run, probed, directions, coloured, [FEW], removal=REMOVAL, out=found[1], **QUIET)
    assert again.variants.equals(found[0].variants)


def test_every_row_says_what_was_taken_out(whole, found):
    for result in (whole, found[0]):
        for row in result.variants.iter_rows(named=True):
            assert row["energy"] == pytest.approx(0, abs=1e-9) or row["name"] not in ("untouched", "reconstruction")
            assert row["energy"] > 0 or not row["features"]
    every = score(whole, "rerun", "minus all")
    # Without any feature a token is b_dec, which is 0 here: all of its square is taken out, its mean with it.
    assert every["energy_share"] > 1
    drawn = found[0].variants.filter(name="minus random of equal size as few")
    assert drawn["control_of"].unique().to_list() == ["few"]
    assert drawn["overlap"].is_between(0, 1).all()


def test_groups_are_compared_on_a_ladder(probed_run, probed, directions, coloured, tmp_path, monkeypatch):
    short = partial(build_ladder, draws=2)
    monkeypatch.setattr("infoscope.analyses.removal.energy.build_ladder", short)
    half = FeatureGroup("half", "list", np.flatnonzero(np.arange(2 * WIDTH) % WIDTH % 2).astype(np.uint32))
    removal = RemovalConfig(random_draws=1, ladder=True, steps=(0.1, 0.2, 0.9))
    config = ProbeConfig(baselines=False)
    arguments = (probed_run, probed, directions, coloured, [half], config, removal)
    result = probe_groups(*arguments, out=tmp_path, **QUIET)
    sets = result.variants.filter(pl.col("side").is_not_null() & (pl.col("metric") == "top-1"))
    assert sets["control_of"].unique().to_list() == ["half"]
    assert ((sets["energy_share"] / sets["step"] - 1).abs() <= 0.02).all()
    removed = result.record.groups
    for row in sets.iter_rows(named=True):
        features = removed[f"{row['name']}, draw {row['draw']}"]
        assert len(features) == row["features"]
        assert np.isin(features, half.features).all() == (row["side"] == "subset")
        assert row["overlap"] == pytest.approx(np.isin(half.features, features).mean())
    ladder = result.ladder.filter(metric="top-1")
    reached = set(sets["step"])
    assert reached
    assert set(ladder["step"].drop_nulls()) == {0.1, 0.2, 0.9}
    for row in ladder.filter(pl.col("step").is_not_null()).iter_rows(named=True):
        assert (row["no_fair_control"] is None) == (row["step"] in reached)
    assert {unfair.step for unfair in result.record.no_fair_control} == {0.1, 0.2, 0.9} - reached
    again = open_probe(tmp_path)
    assert again.record == result.record
    assert again.ladder.equals(result.ladder)


def test_a_probe_without_a_ladder_is_told_apart_as_before_there_was_one():
    from infoscope.analyses.probes.probe import _of_removal

    assert not {"ladder", "steps"} & set(_of_removal(RemovalConfig()))
    assert _of_removal(RemovalConfig(ladder=True))["ladder"] is True
    assert "steps" not in _of_removal(RemovalConfig(ladder=True))
    assert _of_removal(RemovalConfig(ladder=True, steps=(0.1,)))["steps"] == [0.1]
