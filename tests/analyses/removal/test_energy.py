"""Removed energy against the edited tokens themselves, and against dense algebra in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from infoscope.analyses.removal.edited import EditedBackbone
from infoscope.analyses.removal.energy import Energies, removed_codes
from infoscope.analyses.removal.groups import FeatureGroup
from infoscope.analyses.removal.statistics import read_statistics
from infoscope.analyses.removal.variants import Variant
from infoscope.images.views import Views
from small import FEATURES

pytestmark = pytest.mark.slow

KINDS = ["topk", "relu", "signed", "layer_norm", "unit_norm"]
REPLACEMENTS = ["zero", "mean", "resampled"]


def statistics_of(backbone, sae, images, **options):
    return read_statistics(backbone, sae, images, sample_images=12, donors=4, **options)


def edited_tokens(edited, images, *variants):
    """Each variant's own patch tokens of all images, one call an image."""
    view = Views(edited.backbone.patch_size, edited.backbone.grid, 0).full
    found = [[] for _ in variants]
    for index in range(len(images)):
        runs = edited.run(view(images[index])[None], [images.ids[index]], variants)
        for place, (_, outputs) in enumerate(runs):
            found[place].append(outputs.tokens[1][0, edited.backbone.prefix_tokens :].double())
    return [torch.cat(tokens).numpy() for tokens in found]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("replacement", REPLACEMENTS)
def test_it_is_what_the_edited_tokens_lack(backbone, saes, images, group, kind, replacement):
    sae = saes[kind]
    # 12 images of 36 tokens: the sample holds them all.
    statistics = statistics_of(backbone, sae, images)
    assert len(statistics.sample) == 12 * 36
    edited = EditedBackbone(backbone, sae, statistics=statistics, seed=3)
    variants = [
        Variant("untouched", site="site"),
        Variant("reconstruction", method="reconstruct", site="site"),
        Variant("keep-error", group, "keep-error", replacement, "site"),
        Variant("reconstruct", group, "reconstruct", replacement, "site"),
    ]
    untouched, reconstruction, kept, decoded = edited_tokens(edited, images, *variants)
    energies = Energies(sae, statistics, statistics.sample, seed=3)
    lacking = {
        "untouched": np.zeros_like(untouched),
        "reconstruction": untouched - reconstruction,
        "keep-error": untouched - kept,
        "reconstruct": reconstruction - decoded,
    }
    for variant in variants:
        expected = (lacking[variant.name] ** 2).sum(1).mean()
        assert energies.of(variant) == pytest.approx(expected, rel=1e-4), variant.name
    assert energies.of(variants[2]) > 0.01
    centred = untouched - untouched.mean(0)
    assert energies.mean_square == pytest.approx((centred**2).sum(1).mean(), rel=1e-4)
    columns = energies.columns(variants[2])
    assert columns["energy_share"] == columns["energy"] / energies.mean_square


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("replacement", REPLACEMENTS)
def test_it_is_exact_in_float64(backbone, saes, images, kind, replacement):
    sae = saes[kind]
    statistics = statistics_of(backbone, sae, images)
    sample = statistics.sample
    codes = np.zeros((len(sample), FEATURES))
    codes[np.repeat(np.arange(len(sample)), np.diff(sample.start)), sample.feature] = sample.value
    instead = {"zero": np.zeros_like(codes), "mean": np.broadcast_to(statistics.mean, codes.shape)}
    donor = statistics.donors_of(sample.image_id, 7)
    tokens = torch.stack([statistics.donors[one, at] for one, at in zip(donor, sample.position, strict=True)])
    instead["resampled"] = sae.encode(tokens).double().numpy()
    x = sample.tokens.astype(np.float64)
    scale = np.ones((len(x), 1))
    if sae.token_norm is not None:
        by_deviation = sae.token_norm.kind == "layer_norm"
        scale = x.std(1, ddof=1, keepdims=True) if by_deviation else np.sqrt((x**2).mean(1, keepdims=True))
    removed = removed_codes(sae, statistics, sample, replacement, seed=7)
    tolerance = 1e-5 if replacement == "resampled" else 1e-12  # the donors' codes are encoded in other batches
    for features in ([3], [0, 1, 2, 40], list(range(FEATURES)), []):
        taken = (codes - instead[replacement])[:, features] @ sae.W_dec.double().numpy()[features] * scale
        expected = (taken**2).sum(1).mean()
        assert removed.energy(np.array(features, np.int64)) == pytest.approx(expected, rel=tolerance, abs=1e-15)


def test_the_sample_does_not_depend_on_batches(backbone, saes, images):
    group = FeatureGroup("some", "list", np.arange(0, FEATURES, 3, dtype=np.uint32))
    energies = []
    for size in (1, 3, 8):
        statistics = statistics_of(backbone, saes["topk"], images, batch_size=size)
        energies.append(Energies(saes["topk"], statistics, statistics.sample).of(Variant("minus", group)))
    np.testing.assert_allclose(energies, energies[0], rtol=1e-5)


def test_without_a_sample_there_is_none(saes):
    assert Energies.of_statistics(saes["topk"], None) is None
