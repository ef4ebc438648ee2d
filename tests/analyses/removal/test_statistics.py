"""Codes over a sample, against means made by hand, and the choice of donors."""

import numpy as np
import pytest
import torch

from infoscope.analyses.removal.statistics import CodeStatistics, read_statistics
from infoscope.errors import InfoscopeError
from infoscope.images.source import open_images
from infoscope.images.views import Views

KEYS = {}


def tokens_of(backbone, images, indices):
    view = Views(backbone.patch_size, backbone.grid, 0).full
    return torch.cat([backbone.tokens(view(images[index])[None]) for index in indices])


@pytest.mark.parametrize("kind", ["relu", "signed", "layer_norm"])
def test_means_and_mass(backbone, saes, images, kind):
    sae = saes[kind]
    found = read_statistics(backbone, sae, images, sample_images=5, donors=3, **KEYS)
    # Positions evenly apart from the first to the last of twelve: 0, 2.75, 5.5, 8.25 and 11, to the even whole number.
    tokens = tokens_of(backbone, images, [0, 3, 6, 8, 11])
    codes = sae.encode(tokens).double().numpy().reshape(-1, sae.features)
    assert found.tokens == len(codes)
    np.testing.assert_allclose(found.mean, codes.mean(0), rtol=1e-4, atol=1e-6)
    size = np.abs(codes).mean(0) * np.linalg.norm(sae.W_dec.double().numpy(), axis=1)
    np.testing.assert_allclose(found.mass, size, rtol=1e-4, atol=1e-6)
    # A code's sign counts in its mean and not in its mass.
    signed = found.mass > 1.001 * found.mean * np.linalg.norm(sae.W_dec.numpy(), axis=1) + 1e-6
    assert signed.any() == (kind == "signed")
    assert found.donor_ids == tuple(images.ids[index] for index in (0, 6, 11))
    torch.testing.assert_close(found.donors, tokens[[0, 2, 4]], rtol=1e-4, atol=1e-4)


def test_they_do_not_depend_on_batches_or_threads(backbone, saes, images):
    found = [
        read_statistics(
            backbone, saes["topk"], images, sample_images=7, donors=3, batch_size=size, threads=threads, **KEYS
        )
        for size, threads in ((1, 1), (3, 2), (7, 1))
    ]
    for other in found[1:]:
        np.testing.assert_allclose(other.mean, found[0].mean, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(other.mass, found[0].mass, rtol=1e-4, atol=1e-6)
        assert other.donor_ids == found[0].donor_ids
        torch.testing.assert_close(other.donors, found[0].donors, rtol=1e-4, atol=1e-4)


def with_donors(*names):
    empty = np.zeros(0)
    return CodeStatistics(empty, empty, 0, torch.zeros(len(names), 1, 1), names)


def test_a_donor_is_chosen_by_id_and_seed_alone_and_is_never_the_image_itself():
    names = [f"train/{number}.jpg" for number in range(16)]
    statistics = with_donors(*names)
    others = [f"val/{number}.jpg" for number in range(1600)]
    chosen = statistics.donors_of(names + others, 0)
    assert all(names[donor] != own for donor, own in zip(chosen, names, strict=False))
    assert statistics.donors_of(others[::-1], 0).tolist() == chosen[: len(names) - 1 : -1].tolist()
    assert statistics.donors_of(others[7:8], 0).tolist() == [chosen[len(names) + 7]]
    counts = np.bincount(chosen[len(names) :], minlength=16)
    assert counts.min() > 60  # of 100 expected
    # Another seed is another choice: whose donor was shared is no longer told by it.
    again = statistics.donors_of(others, 1)
    assert 60 < (again == chosen[len(names) :]).sum() < 140
    table = np.zeros((16, 16))
    np.add.at(table, (chosen[len(names) :], again), 1)
    assert (table > 0).mean() > 0.9
    assert with_donors("a", "b").donors_of(["a", "b", "a"], 5).tolist() == [1, 0, 1]


def test_images_that_cannot_be_read_are_left_out(backbone, saes, images, tmp_path):
    for index in range(4):
        images[index].save(tmp_path / f"{index}.png")
    (tmp_path / "1.png").write_bytes(b"no picture")
    source = open_images(tmp_path)
    found = read_statistics(backbone, saes["topk"], source, sample_images=4, donors=4, **KEYS)
    assert found.donor_ids == ("0.png", "2.png", "3.png")
    assert found.tokens == 3 * backbone.grid**2
    assert len(read_statistics(backbone, saes["topk"], source, donors=0, **KEYS).donors) == 0
    for index in range(4):
        (tmp_path / f"{index}.png").write_bytes(b"no picture")
    with pytest.raises(InfoscopeError, match="none of"):
        read_statistics(backbone, saes["topk"], open_images(tmp_path), **KEYS)


def test_numbers_out_of_range(backbone, saes, images):
    with pytest.raises(InfoscopeError, match="--sample-images 0 is out of range"):
        read_statistics(backbone, saes["topk"], images, sample_images=0, **KEYS)
