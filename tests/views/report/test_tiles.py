import numpy as np
import polars as pl
import pytest
from PIL import Image

from infoscope.errors import UnreadableImageError
from infoscope.images.views import Views
from infoscope.views.report.tiles import GROUND, codes_of, crop_tiles

VIEWS = Views(patch_size=4, grid=6, shift=2)
RED = "#ff0000"


def test_a_map_lies_on_the_patches_it_was_measured_at():
    rows = pl.DataFrame({"crop": [0, 1], "patch": [[15], [0, 35]], "value": [[2.0], [4.0, 1.0]]})
    codes = codes_of(rows, 6)
    assert codes[0, 2, 3] == 0.5
    assert codes[1, 0, 0] == 1.0
    first, second = crop_tiles(None, codes, VIEWS, RED, 60)
    assert first.shape == second.shape == (60, 60, 3)
    red = [(tile[:, :, 0].astype(int) - tile[:, :, 1] > 40) for tile in (first, second)]
    cells = [mask.reshape(6, 10, 6, 10).mean((1, 3)) > 0.5 for mask in red]
    assert np.argwhere(cells[0]).tolist() == [[2, 3]]
    assert np.argwhere(cells[1]).tolist() == [[0, 0], [5, 5]]
    # The larger code hides more of what is behind it.
    assert second[5, 5, 1] < first[25, 35, 1] < GROUND


def test_both_crops_show_the_same_pixels_where_they_overlap_and_a_veil_elsewhere():
    pixels = np.random.default_rng(0).integers(0, 120, (32, 32, 3), dtype=np.uint8)
    first, second = crop_tiles(Image.fromarray(pixels), np.zeros((2, 6, 6)), VIEWS, RED, 24)
    # Inside the frame, which is a pixel wide here.
    np.testing.assert_array_equal(first[9:23, 9:23], second[1:15, 1:15])
    bare, _ = crop_tiles(Image.fromarray(np.zeros_like(pixels)), np.zeros((2, 6, 6)), VIEWS, RED, 24)
    assert bare[4, 4, 0] > bare[14, 14, 0]


def test_an_image_too_small_for_the_crops_is_refused():
    with pytest.raises(UnreadableImageError, match="fewer than the 8 patches"):
        crop_tiles(Image.new("RGB", (7, 7)), np.zeros((2, 6, 6)), VIEWS, RED, 24)
