"""The shift curve and the cross-checks on a small random model, against the method written out slowly."""

import copy
import dataclasses
import random

import numpy as np
import polars as pl
import pytest
import torch
from scipy.stats import spearmanr

from infoscope.dictionaries.activations import ReLU
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.images.views import Views
from infoscope.measurement import maps, ranking
from infoscope.measurement.measure import measure_scope
from infoscope.measurement.result import Scope
from infoscope.measurement.summary import check_sentence, cross_check_rows
from infoscope.runtime.partials import Partials
from infoscope.runtime.run import open_run
from infoscope.scope.geometry import patch_distances
from reference import emd

TABLES = ("table", "top_images", "maps", "shift_curve", "cross_checks", "quantile_images")
ALL = {
    "shifts": (0, 1, 3),
    "map_activation": "pre",
    "quantile_images": 3,
    "control": "position-matched",
    "diagonal": "both",
}
TOP, SEED, COUNT = 4, 5, 14


def measure(backbone, sae, images, **options):
    chosen = {"top_images": TOP, "shift": 2, "seed": SEED} | options
    return measure_scope(backbone, sae, images, **chosen)


def same(one, other):
    return all(getattr(one, name).equals(getattr(other, name)) for name in TABLES)


@pytest.fixture(scope="module")
def few(images):
    return [images[i] for i in range(COUNT)]


@pytest.fixture(scope="module")
def relu(sae):
    """With some of its codes above 0."""
    return SparseAutoencoder(sae.W_enc, sae.b_enc - 6, sae.W_dec, sae.b_dec, ReLU())


@pytest.fixture(scope="module")
def measured(backbone, sae, few):
    return measure(backbone, sae, few, **ALL)


class Slowly:
    """Every view by itself, dense maps, POT."""

    def __init__(self, backbone, sae, images, reach):
        self.backbone, self.sae, self.images, self.p = backbone, sae, images, backbone.grid
        views = Views(backbone.patch_size, self.p, reach)
        side, n = views.shifted_side, backbone.patch_size
        self.pictures = [np.asarray(image.resize((side, side), 3)) for image in images]
        self.full = [views.full(image) for image in images]
        self.n = n

    def crop(self, image, top, left):
        n, side = self.n, self.p * self.n
        return self.pictures[image][top * n : top * n + side, left * n : left * n + side]

    def maps(self, pixels, pre=False, backbone=None):
        """[row, column, feature]."""
        tokens = (backbone or self.backbone).tokens(pixels[None].copy())[0]
        codes = torch.relu(self.sae.pre_activations(tokens)) if pre else self.sae.encode(tokens)
        return codes.numpy().reshape(self.p, self.p, -1).astype(float)

    def distance(self, first, second, s):
        """By feature, of maps on the overlap."""
        distances = patch_distances(self.p - s)
        return np.array([emd(a.ravel(), b.ravel(), distances) for a, b in zip(first.T, second.T, strict=True)])

    def shifted(self, image, s, pre=False):
        first, second = self.maps(self.crop(image, 0, 0), pre), self.maps(self.crop(image, s, s), pre)
        return self.distance(first[s:, s:], second[: self.p - s, : self.p - s], s)

    def other_diagonal(self, image, s):
        first, second = self.maps(self.crop(image, 0, s)), self.maps(self.crop(image, s, 0))
        return self.distance(first[s:, : self.p - s], second[: self.p - s, s:], s)

    def position_matched(self, image, s):
        """The second crop by a model whose table is the first crop's on the overlap."""
        first, second = self.maps(self.crop(image, 0, 0)), self.maps(self.crop(image, s, s), backbone=self.rolled(s))
        return self.distance(first[s:, s:], second[: self.p - s, : self.p - s], s)

    def rolled(self, s):
        other = dataclasses.replace(self.backbone, model=copy.deepcopy(self.backbone.model))
        prefix = other.position_table.shape[1] - self.p**2
        with torch.no_grad():
            table = other.position_table[0, prefix:].view(self.p, self.p, -1)
            table.copy_(table.roll((-s, -s), (0, 1)))
        return other

    def ranking(self):
        """[image, feature]."""
        return np.stack([self.maps(pixels).max((0, 1)) for pixels in self.full]).astype(np.float32)


def mix(value):
    """SplitMix64 in whole numbers of Python."""
    value = (value + 0x9E3779B97F4A7C15) % 2**64
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
    return value ^ value >> 31


def spread(score, count, seed):
    """Images at the middle of equal parts of a sample of the active ones."""
    active = [i for i in range(len(score)) if score[i] > 0]
    kept = sorted(active, key=lambda i: mix(i ^ mix(seed)))[: 4 * count]
    ranked = sorted(kept, key=lambda i: (-score[i], i))
    if len(ranked) < count:
        return ranked
    return [ranked[int((part + 0.5) * len(ranked) / count)] for part in range(count)]


def mean(values, least):
    valid = [value for value in values if not np.isnan(value)]
    return np.mean(valid) if len(valid) >= least else None


def agree(found, expected, within=1e-6):
    assert [value is None for value in found] == [value is None for value in expected]
    known = [(a, b) for a, b in zip(found, expected, strict=True) if b is not None]
    assert len(known) > 10
    assert max(np.abs(a - b) for a, b in known) < within


@pytest.mark.slow
def test_everything_follows_the_definition(backbone, sae, few, measured):
    slowly = Slowly(backbone, sae, few, reach=3)
    score = slowly.ranking()
    features = range(sae.features)
    top = [[int(i) for i in np.argsort(-score[:, j], kind="stable")[:TOP] if score[i, j] > 0] for j in features]
    ways = {
        **{f"shift-{s}": lambda i, s=s: slowly.shifted(i, s) for s in (0, 1, 2, 3)},
        "pre-activations": lambda i: slowly.shifted(i, 2, pre=True),
        "position-matched": lambda i: slowly.position_matched(i, 2),
        "other-diagonal": lambda i: slowly.other_diagonal(i, 2),
    }
    distance = {name: np.stack([way(i) for i in range(len(few))]) for name, way in ways.items()}

    def expected(name, images=top, least=TOP // 2):
        return [mean(distance[name][images[j], j], least) for j in features]

    agree(measured.table["cds"], expected("shift-2"))
    for s in (0, 1, 2, 3):
        row = measured.shift_curve.filter(shift=s)
        agree(row["cds"], expected(f"shift-{s}"))
        agree(row["cds_patches"], [d and d * np.sqrt(2) * (5 - s) for d in expected(f"shift-{s}")], within=1e-5)
        assert row["pairs"].to_list() == [int((~np.isnan(distance[f"shift-{s}"][top[j], j])).sum()) for j in features]
    checks = {name: check for (name,), check in measured.cross_checks.group_by("check", maintain_order=True)}
    assert list(checks) == ["pre-activations", "position-matched", "other-diagonal", "quantiles"]
    for name in list(checks)[:3]:
        agree(checks[name]["cds"], expected(name), within=1e-4)
        difference = distance["shift-2"] - distance[name]
        agree(checks[name]["difference"], [mean(difference[top[j], j], TOP // 2) for j in features], within=1e-4)
        both = [int((~np.isnan(difference[top[j], j])).sum()) for j in features]
        assert checks[name]["difference_pairs"].to_list() == both

    chosen = [spread(score[:, j], 3, SEED) for j in features]
    assert measured.quantile_images.group_by("feature", maintain_order=True).agg("image")["image"].to_list() == [
        images for images in chosen if images
    ]
    assert any(len(set(images)) == 3 and images != top[j][:3] for j, images in enumerate(chosen))
    agree(checks["quantiles"]["cds"], expected("shift-2", chosen, least=2))
    assert checks["quantiles"]["difference"].null_count() == sae.features


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "rank_view"), [("topk", "full"), ("relu", "crops")])
def test_nothing_depends_on_batches_threads_shards_or_memory(
    backbone, sae, relu, few, measured, monkeypatch, kind, rank_view
):
    sae = relu if kind == "relu" else sae
    whole = measured if rank_view == "full" else measure(backbone, sae, few, rank_view=rank_view, **ALL)
    monkeypatch.setattr(maps, "MAPS_BYTES", 60_000)
    monkeypatch.setattr(ranking, "SHARDS_TO_FOLD", 2)
    assert len(maps.feature_chunks(sae.features, TOP, backbone.grid**2)) > 1
    for batch_size, threads, shard in ((1, 1, 3), (9, 3, 5)):
        again = measure(
            backbone, sae, few, rank_view=rank_view, batch_size=batch_size, threads=threads, shard_images=shard, **ALL
        )
        assert same(whole, again)


@pytest.mark.slow
@pytest.mark.parametrize("rank_view", ["full", "crops"])
def test_a_stop_after_any_file(backbone, sae, few, measured, tmp_path, monkeypatch, rank_view):
    whole = measured if rank_view == "full" else measure(backbone, sae, few, rank_view=rank_view, **ALL)
    monkeypatch.setattr(maps, "MAPS_BYTES", 60_000)
    put, moments, puts = Partials.put, random.Random(0), []

    def stopping(self, name, arrays):
        put(self, name, arrays)
        puts.append(name)
        if len(puts) == after:
            raise KeyboardInterrupt

    monkeypatch.setattr(Partials, "put", stopping)
    stops = 0
    while True:
        after = moments.randint(3, 9)
        puts.clear()
        try:
            found = measure(backbone, sae, few, rank_view=rank_view, out=tmp_path / "run", shard_images=4, **ALL)
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops >= 3
    assert same(whole, found)
    loaded = Scope.load(tmp_path / "run")
    assert same(whole, loaded)
    assert [file.name for file in (tmp_path / "run" / "partials").iterdir()] == ["plan.json"]
    with pytest.raises(InfoscopeError, match=r"options: quantile_images was 3, now 0"):
        measure(backbone, sae, few, rank_view=rank_view, out=tmp_path / "run", **ALL | {"quantile_images": 0})
    rows = dict(cross_check_rows(open_run(tmp_path / "run")))
    assert "rank correlation" in rows["pre-activations"]
    assert rows["shift curve"].startswith("median patches moved at shift 0: 0.00, 1: ")


def test_one_shift_is_what_it_was(backbone, sae, few):
    alone = measure(backbone, sae, few)
    assert alone.shift_curve is alone.cross_checks is alone.quantile_images is None
    listed = measure(backbone, sae, few, shifts=(2,))
    assert listed.table.equals(alone.table)
    assert listed.shift_curve is None
    # The cross-checks leave the score as it is, and so do smaller shifts, whose crops fit into the same picture.
    checked = measure(backbone, sae, few, **ALL | {"shifts": (1,)})
    for name in ("table", "top_images", "maps"):
        assert getattr(checked, name).equals(getattr(alone, name))
    assert listed.manifest.options["shifts"] == [2]


def glued(backbone, place):
    """A model that sees no pixels, and a feature of the token at one place."""
    model = copy.deepcopy(backbone.model)
    with torch.no_grad():
        model.embeddings.patch_embeddings.projection.weight.zero_()
    blind = dataclasses.replace(backbone, model=model)
    tokens = blind.tokens(np.zeros((1, blind.input_side, blind.input_side, 3), np.uint8))[0]
    centred = tokens - tokens.mean(0)
    along = centred @ centred[place]
    second = along.sort(descending=True).values[1]
    assert along.argmax() == place
    W_enc = centred[place][:, None]
    b_enc = -(tokens.mean(0) @ centred[place]) - (along[place] + second) / 2
    return blind, SparseAutoencoder(W_enc, b_enc[None], W_enc.T.clone(), tokens.mean(0), ReLU())


@pytest.mark.slow
def test_a_glued_feature_is_on_the_line_and_position_explains_it(backbone, few):
    blind, sae = glued(backbone, 2 * 6 + 2)
    found = measure(blind, sae, few, shift=1, shifts=(0, 1, 2), control="position-matched")
    curve = found.shift_curve.sort("shift")
    assert curve["cds"].to_list() == pytest.approx([0, 1 / 4, 2 / 3])  # s / (p - s - 1)
    assert curve["cds_patches"].to_list() == pytest.approx([0, np.sqrt(2), 2 * np.sqrt(2)])
    matched = found.cross_checks.row(0, named=True)
    assert matched["cds"] == 0
    assert matched["difference"] == found.table["cds"][0] == pytest.approx(1 / 4)


def test_a_feature_of_the_pixels_is_flat(backbone, sae, few):
    model = copy.deepcopy(backbone.model)
    with torch.no_grad():
        model.embeddings.position_embeddings.zero_()
        for block in model.encoder.layer:
            block.layer_scale1.lambda1.zero_()  # no attention
    found = measure(dataclasses.replace(backbone, model=model), sae, few, shifts=(1, 2, 3, 4))
    moved = found.shift_curve["cds"].drop_nulls()
    assert len(moved) > 40
    assert moved.max() < 1e-5


def test_positions_without_a_table_cannot_be_matched(backbone, sae, few, tmp_path):
    rotary = dataclasses.replace(backbone, layout=dataclasses.replace(backbone.layout, position_table=None))
    with pytest.raises(
        InfoscopeError, match=r"needs a learned position table, and .* has none: its positions are rotary"
    ):
        measure(rotary, sae, few, control="position-matched", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shifts": (1, 5)}, "--shift 5 leaves no overlap"),
        ({"quantile_images": -1}, "--quantile-images -1 is out of range"),
    ],
)
def test_options_out_of_range(backbone, sae, few, options, message):
    with pytest.raises(InfoscopeError, match=message):
        measure(backbone, sae, few, **options)


def test_competition_is_what_the_pre_activations_leave_out(backbone, relu, few):
    """Under ReLU nothing competes, and the codes are the pre-activations."""
    found = measure(backbone, relu, few, map_activation="pre")
    check = found.cross_checks
    agree(check["cds"], found.table["cds"].to_list())
    assert check["difference"].drop_nulls().abs().max() < 1e-6


@pytest.mark.slow
def test_the_rank_correlation_of_a_check_is_scipys(measured):
    check = measured.cross_checks.filter(check="pre-activations")
    both = pl.DataFrame({"a": measured.table["cds"], "b": check["cds"]}).drop_nulls()
    expected = spearmanr(both["a"], both["b"]).statistic
    assert 0 < expected < 1
    sentence = check_sentence(check.with_columns(main=measured.table["cds"]))
    assert f"rank correlation {expected:.2f} over {both.height} features" in sentence
