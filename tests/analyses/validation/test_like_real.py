"""A run's noise against loops over its maps and against noise that was planted; and a world like it."""

import numpy as np
import polars as pl
import pytest

from infoscope.analyses.planted.plant import plant
from infoscope.analyses.validation.like_real import (
    COMPARED,
    LIKENESS,
    QUANTILES,
    RunNoise,
    compare_runs,
    measure_options,
    read_noise,
)
from infoscope.analyses.validation.validate import validate
from infoscope.cli.main import main
from infoscope.errors import InfoscopeError
from infoscope.measurement.measure import measure_scope
from infoscope.runtime.columns import make_table
from infoscope.scope.classes import CLASSES
from infoscope.scope.reliability import spearman
from planting import GRID, SHAPE, SILENT, scenes

K = 12


@pytest.fixture(scope="module")
def pictures():
    return scenes(50)


def measured(pictures, **options):
    planted = plant(pictures, **SHAPE, **SILENT, outlier_keeps=1.0, **options)
    return planted, measure_scope(planted.backbone, planted.dictionary, pictures, top_images=K, shift=2)


@pytest.fixture(scope="module")
def noisy(pictures):
    return measured(pictures, peaked=True, dropout=0.5, dropout_at_peak=0.1, areas=(9.0,) * 40)


def test_the_noise_is_that_of_loops_over_the_maps(noisy):
    run, p, s = noisy[1].run, GRID, 2
    found = read_noise(run)
    maps = np.zeros((40, K, 2, p, p))
    for feature, rank, crop, patch, value in run.maps.iter_rows():
        maps[feature, rank, crop].flat[patch] = value
    first, second = maps[:, :, 0, s:, s:], maps[:, :, 1, : p - s, : p - s]
    expected = []
    for feature in range(40):
        heights, lost, apart, ratios, masses = [], [], [], [], []
        for ours, theirs in zip(first[feature], second[feature], strict=True):
            if not (ours.any() and theirs.any()):
                continue
            masses.append(abs(np.log(ours.sum() / theirs.sum())))
            for mine, other in ((ours, theirs), (theirs, ours)):
                on = mine > 0
                heights += (mine[on] / mine.max()).tolist()
                lost += (other[on] == 0).tolist()
            both = (ours > 0) & (theirs > 0)
            if both.any():
                apart += 2 * (ours[both] / ours.max() - theirs[both] / theirs.max()).tolist()
                logs = np.log(ours[both] / theirs[both])
                ratios += 2 * (logs - logs.mean()).tolist()
        if len(heights) >= 20 and apart:
            slope, start = np.polyfit(heights, np.array(lost, float), 1)
            errors = np.sqrt(np.mean(np.square(apart)) / 2), np.sqrt(np.mean(np.square(ratios)) / 2)
            expected.append([start, start + slope, *errors, np.median(masses) / 0.6745 / np.sqrt(2), np.mean(lost)])
    start, end, error, log_error, log_mass, lost = np.array(expected).T
    assert len(found.dropout) == len(expected) > 12
    np.testing.assert_allclose(found.dropout, start.clip(0, 0.95), atol=1e-5)
    np.testing.assert_allclose(found.dropout_at_peak, end.clip(0, 0.95), atol=1e-5)
    np.testing.assert_allclose(found.error, error, atol=1e-5)
    np.testing.assert_allclose(found.log_error, log_error, atol=1e-4)
    assert (found.gain <= log_mass + 1e-6).all()
    assert (found.area > 1).all()
    assert lost.mean() > 0.2


def test_planted_dropout_and_gain_are_found_again(pictures, noisy):
    """Of local features, whose places are the same in both crops; the line is the planted one."""

    def found(scope):
        # Tables hold features in order, and the noise leaves out those with few codes.
        noise = read_noise(scope.run)
        return {name: np.median(getattr(noise, name)) for name in ("dropout", "dropout_at_peak", "gain")}

    local = (0.97, 0.01, 0.01, 0.01)
    common = {"peaked": True, "areas": (9.0,) * 40, "shares": local}
    lossy = found(measured(pictures, dropout=0.5, dropout_at_peak=0.1, **common)[1])
    assert lossy["dropout"] == pytest.approx(0.5, abs=0.1)
    assert lossy["dropout_at_peak"] == pytest.approx(0.1, abs=0.08)
    loud = found(measured(pictures, gain=0.6, **common)[1])
    assert loud["dropout"] < 0.02
    assert loud["gain"] == pytest.approx(0.6, abs=0.15)
    assert found(measured(pictures, **common)[1])["gain"] < 0.05


def test_what_belongs_to_a_feature_is_drawn_together():
    number = np.arange(50.0)
    noise = RunNoise(number / 100, number / 200, number, 2 * number, 3 * number, 1 + number)
    drawn = noise.drawn(30, 4)
    np.testing.assert_array_equal(drawn.gain, 3 * drawn.error)
    np.testing.assert_array_equal(drawn.dropout, drawn.error / 100)
    assert len(set(drawn.error)) > 15
    assert drawn.error.tolist() != noise.drawn(30, 5).error.tolist()
    options = noise.options(30, 4, 64)
    assert options["dropout"] == tuple(drawn.dropout.tolist())
    assert max(options["areas"]) <= 32


def test_rows_of_the_comparison_are_quantiles_and_reliabilities():
    random = np.random.default_rng(0)

    def table(size, name):
        values = {column: random.random(size) for column in (*COMPARED, "cds_even", "cds_odd")}
        return pl.DataFrame(values).with_columns(scope_class=pl.lit(name), seed=pl.lit(0))

    real, planted = table(40, "local"), table(30, "global")
    rows = {(row["measure"], row["quantile"]): row for row in compare_runs("blobs", real, planted)}
    assert len(rows) == 1 + len(CLASSES) + len(COMPARED) * len(QUANTILES)
    make_table(LIKENESS, list(rows.values()))
    for side, found in (("real", real), ("planted", planted)):
        halves = found["cds_even"].to_numpy(), found["cds_odd"].to_numpy()
        r = spearman(*halves)
        assert rows["reliability", None][side] == pytest.approx(2 * r / (1 + r) if r > 0 else r)
        assert rows["cds", 0.25][side] == pytest.approx(np.quantile(found["cds"].to_numpy(), 0.25))
    assert np.isnan(rows["reliability within global", None]["real"])
    assert rows["reliability within global", None]["planted"] == rows["reliability", None]["planted"]


@pytest.fixture(scope="module")
def like(noisy, pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("like")
    noisy[1].save(folder / "run")
    return folder, validate(pictures, like=folder / "run", out=folder / "out", seeds=1, features=24)


@pytest.mark.slow
def test_a_validation_like_a_run_has_its_options_and_stands_beside_it(like, noisy):
    _, found = like
    assert found.cases.select("family", "setting", "top_images", "photographs").rows() == [
        ("patches", "like-real", K, 50),
        ("blobs", "like-real", K, 50),
    ]
    assert measure_options(noisy[1].run).top_images == K
    assert found.cases["noise"].null_count() == 2
    assert found.likeness is not None
    real = noisy[1].table["cds"].drop_nulls().to_numpy()
    median = found.likeness.filter(measure="cds", quantile=0.5)
    assert median["family"].to_list() == ["patches", "blobs"]
    assert median["real"].to_list() == pytest.approx([np.median(real)] * 2)
    planted = [found.features.filter(family=family)["cds"].median() for family in ("patches", "blobs")]
    assert median["planted"].to_list() == pytest.approx(planted)
    counts = found.features.filter(family="patches")["kind"].value_counts().rows()
    assert dict(counts)["local"] >= 18
    assert set(found.summary()["alike"]) == {"patches", "blobs"}


@pytest.mark.slow
def test_the_command_prints_both_beside_each_other(like, pictures, tmp_path, capsys):
    from PIL import Image

    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{number:02}.png")
    words = ["validate", "--images", str(tmp_path), "--like", f"{like[0]}/run", "--out", f"{tmp_path}/out"]
    assert main([*words, "--seeds", "1", "--features", "24"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for part in ("real beside planted", "reliability within local", "support iou 0.5", "0.1 of the real one"):
        assert part in printed
    assert (tmp_path / "out" / "likeness.parquet").is_file()
    assert main([*words, "--top-images", "5"]) == 2
    assert "--top-images is the run's own with --like" in capsys.readouterr().err


@pytest.mark.slow
def test_what_does_not_go_with_a_run(like, pictures):
    with pytest.raises(InfoscopeError, match="--photographs is the run's own"):
        validate(pictures, like=like[0] / "run", photographs=20)
    with pytest.raises(InfoscopeError, match="no such"):
        validate(pictures, like=like[0] / "nowhere")
