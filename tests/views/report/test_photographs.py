import os

import numpy as np
import pytest
from PIL import Image

from infoscope.errors import InfoscopeError
from infoscope.images.source import ids_sha256, open_images
from infoscope.views.report.photographs import find_photographs


def test_a_folder_is_not_listed_to_find_its_files(fake_run, photographs, monkeypatch):
    run = fake_run([0.1], source=str(photographs))
    monkeypatch.setattr(os, "walk", None)
    found = find_photographs(run)
    assert found.missing == ""
    np.testing.assert_array_equal(
        np.asarray(found.of("deep/c.png")), np.asarray(Image.open(photographs / "deep/c.png"))
    )
    assert found.of("no.png") is None
    assert found.of("../run/manifest.json") is None


def test_what_is_gone_is_said_and_can_be_named(fake_run, photographs):
    run = fake_run([0.1], source="gone/photographs/of/mine")
    found = find_photographs(run)
    assert "no such folder of images: gone/photographs/of/mine" in found.missing
    assert found.of("a.png") is None
    assert find_photographs(run, str(photographs)).of("a.png") is not None
    with pytest.raises(InfoscopeError, match="no such folder"):
        find_photographs(run, "elsewhere/that/is/gone")


def test_the_network_is_asked_only_where_it_may_be(fake_run):
    found = find_photographs(fake_run([0.1], source="owner/images"), network=False)
    assert found.missing == "owner/images is not asked for over the network: give images="


def test_images_without_names_must_be_those_that_were_measured(fake_run):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    run = fake_run([0.1], ids=["0", "1", "2", "3"], sha256=ids_sha256(open_images(pixels)))
    np.testing.assert_array_equal(np.asarray(find_photographs(run, pixels).of("2")), pixels[2])
    with pytest.raises(InfoscopeError, match="not the images that were measured"):
        find_photographs(run, 255 - pixels)
