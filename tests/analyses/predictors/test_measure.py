"""One comparison from end to end, on the small model of `coloured`."""

import json

import numpy as np
import polars as pl
import pytest

from infoscope.analyses.predictors.config import PredictorConfig
from infoscope.analyses.predictors.measure import measure_predictors
from infoscope.analyses.predictors.result import TABLES, open_predictors
from infoscope.analyses.removal.ladder import TOLERANCE
from infoscope.cli.main import main
from infoscope.errors import InfoscopeError

CONFIG = PredictorConfig(group_by=("cds", "density"), quantiles=2, steps=(0.05, 0.9), draws=2, sample_images=8)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("predictors") / "out"


@pytest.fixture(scope="module")
def result(probed_run, probed, directions, coloured, out):
    return measure_predictors(probed_run, probed, directions, coloured, CONFIG, ["cds@0-0.25"], out=out)


def test_every_set_takes_out_what_its_step_says(result):
    sets = result.removals.drop_nulls("step")
    assert len(sets)
    assert (sets["energy_share"] / sets["step"] - 1).abs().max() <= TOLERANCE
    groups = {name: set(features) for name, features in result.record.groups.items()}
    assert [len(groups[f"cds, {part} of 2"] & groups[f"cds, {3 - part} of 2"]) for part in (1, 2)] == [0, 0]


def test_effects_are_the_differences_of_the_removals(result):
    fair = result.effects.filter(pl.col("no_fair_control").is_null())
    assert len(fair)
    for row in fair.to_dicts():
        column = {"top-1": "top_1", "loss": "loss"}[row["metric"]]
        own = result.removals.filter(
            *(pl.col(name).eq_missing(row[name]) for name in ("measure", "part", "step", "head"))
        )
        means = {side: own.filter(pl.col("side") == side)[column].mean() for side in ("subset", "disjoint")}
        assert row["subset"] == pytest.approx(means["subset"], abs=1e-6)
        assert row["difference"] == pytest.approx(means["subset"] - means["disjoint"], abs=1e-6)
    unfair = result.effects.filter(pl.col("no_fair_control").is_not_null())
    assert set(unfair["step"]) == {0.9}
    assert unfair["difference"].is_null().all()


def test_a_further_group_is_removed_beside_the_groups_of_measures(result, probed_run):
    own = result.removals.filter(pl.col("measure") == "cds@0-0.25")
    assert own["part"].is_null().all()
    scored = probed_run.scope.drop_nulls("cds")
    lowest = set(scored.sort("cds", "feature").head(round(len(scored) / 4))["feature"])
    assert set(result.record.groups["cds@0-0.25"]) == lowest
    assert own["features"][0] == len(lowest)
    assert "cds@0-0.25" not in result.ends["measure"].unique().to_list()


def test_the_ends_are_the_subsets_of_the_outermost_groups(result):
    assert set(result.ends["step"]) == {0.05}
    row = result.ends.filter(measure="cds", head="own", metric="top-1").row(0, named=True)
    subsets = {
        part: result.removals.filter(measure="cds", part=part, step=0.05, side="subset", head="own")["top_1"].mean()
        for part in (1, 2)
    }
    assert row["difference"] == pytest.approx(subsets[2] - subsets[1])


def test_the_colour_is_read_and_the_broken_photograph_is_named(result):
    assert result.record.head["top_1"] > 0.8
    assert [image.id for image in result.record.skipped["test"]] == ["red/broken.png"]
    assert result.record.shared_images.images == 16


def test_it_is_written_whole_and_read_again(result, out, probed_run, probed, directions, coloured):
    read = open_predictors(out)
    for name in TABLES:
        assert read.tables[name].equals(result.tables[name]), name
    assert read.record == result.record
    again = measure_predictors(probed_run, probed, directions, coloured, CONFIG, ["cds@0-0.25"], out=out)
    assert again.record.timings == result.record.timings


def test_another_comparison_is_not_mixed_with_it(result, out, probed_run, probed, directions, coloured):
    other = PredictorConfig(group_by=("cds",), quantiles=2, steps=(0.05,), draws=2, sample_images=8)
    with pytest.raises(InfoscopeError, match="choose another --out"):
        measure_predictors(probed_run, probed, directions, coloured, other, out=out)


def test_a_stopped_comparison_ends_as_an_unstopped_one(
    result, out, probed_run, probed, directions, coloured, tmp_path, monkeypatch
):
    from infoscope.analyses.predictors.removals import Classifier

    score, calls = Classifier.score, []

    def stopping(self, sets, *rest):
        calls.append(len(sets))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return score(self, sets, *rest)

    monkeypatch.setattr(Classifier, "score", stopping)
    with pytest.raises(KeyboardInterrupt):
        measure_predictors(probed_run, probed, directions, coloured, CONFIG, ["cds@0-0.25"], out=tmp_path / "out")
    resumed = measure_predictors(probed_run, probed, directions, coloured, CONFIG, ["cds@0-0.25"], out=tmp_path / "out")
    # Two groups were kept; of the other three and the untouched tokens, each is scored once.
    assert len(calls) == 3 + 3 + 1
    for name in TABLES:
        assert resumed.tables[name].equals(result.tables[name]), name


@pytest.mark.slow
def test_the_command_prints_what_it_found_and_how_sure_it_is(probed_run, coloured_folder, tmp_path, capsys):
    given = ["predictors", str(probed_run.path), "--data", str(coloured_folder), "--out", str(tmp_path / "out")]
    given += [
        "--group-by",
        "cds",
        "--quantiles",
        "2",
        "--steps",
        "0.05",
        "0.9",
        "--draws",
        "2",
        "--sample-images",
        "8",
        "--remove",
        "cds@0-0.25",
    ]
    assert main(given) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "on the diagonal, reliability between halves" in printed
    assert "no fair control" in printed
    assert "have a fair control, and" in printed
    assert "none of the 16 test images is among those that the run was measured on" in printed
    assert main([*given, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document["written"]) == {"out", "record", *TABLES}
    assert set(TABLES) <= set(document["result"])
    assert np.isclose(document["result"]["removals"][0]["energy_share"], 0)


def test_a_dictionary_of_other_tokens_is_refused(probed_run, probed, directions, coloured, tmp_path, monkeypatch):
    monkeypatch.setattr(directions, "site", (directions.site or {}) | {"token_set": "all", "tokens": "all"})
    with pytest.raises(InfoscopeError, match="give a run of an SAE of patch tokens"):
        measure_predictors(probed_run, probed, directions, coloured, CONFIG, out=tmp_path / "out")
