import base64
import io

import numpy as np
import polars as pl
import pytest
from PIL import Image

from infoscope.images.source import ids_sha256, open_images
from infoscope.images.views import Views
from infoscope.report.strips import (
    Photographs,
    feature_pairs,
    overlap_pixels,
    overlay_uri,
    photograph_uri,
    same_images,
)
from infoscope.storage.manifest import ImagesRecord

VIEWS = Views(patch_size=4, grid=6, shift=2)
RED = (200, 10, 20)


def decode(uri: str, media_type: str) -> np.ndarray:
    head, content = uri.split(",")
    assert head == f"data:{media_type};base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGBA"))


def expected_alpha(cells: dict[tuple[int, int], int]) -> np.ndarray:
    alpha = np.zeros((4, 4), int)
    for cell, value in cells.items():
        alpha[cell] = value
    return alpha


def pairs_of(run, photographs=None, rows=None):
    return feature_pairs(
        run.top_images, run.maps if rows is None else rows, photographs or Photographs(None, VIEWS), RED
    )


def test_overlays_show_the_same_pixels_on_one_scale(fake_run):
    # On the overlap, row r and column c of the first crop's grid are r - 2 and c - 2; the second's stay as they are.
    maps = {
        (0, 0, 0): {(3, 4): 2.0, (5, 5): 1.0, (0, 0): 100.0, (1, 5): 50.0},
        (0, 0, 1): {(1, 2): 4.0, (0, 3): 3.0, (4, 1): 70.0, (5, 5): 80.0},
    }
    pair = pairs_of(fake_run([0.1, 0.3], maps=maps))[0][0]
    first, second = (decode(tile.overlay, "image/png") for tile in pair.tiles)
    # 4 is the larger of the two maxima on the overlap; what lies outside does not set the scale.
    np.testing.assert_array_equal(first[..., 3], expected_alpha({(1, 2): 148, (3, 3): 104}))
    np.testing.assert_array_equal(second[..., 3], expected_alpha({(1, 2): 235, (0, 3): 191}))
    assert (first[first[..., 3] > 0][:, :3] == RED).all()
    assert pair.tiles[0].description == (
        "feature 0, image a.png, first crop: 2 of 16 shared patches active, peak at row 2, column 3"
    )
    assert pair.tiles[1].description.endswith("second crop: 2 of 16 shared patches active, peak at row 2, column 3")


def test_an_empty_map_is_clear_and_named(fake_run):
    maps = {(1, 2, 0): {(5, 5): 1.0}, (1, 2, 1): {(5, 5): 9.0}, (0, 1, 0): {}, (0, 1, 1): {}}
    run = fake_run([0.1, 0.3], maps=maps, emd={(1, 2): None})
    pairs = pairs_of(run)
    first, second = pairs[1][2].tiles
    assert not first.empty
    assert decode(first.overlay, "image/png")[3, 3, 3] == 235, "the scale is the pair's own, not the feature's"
    assert second.empty
    assert not decode(second.overlay, "image/png")[..., 3].any()
    assert "no activation on the shared patches" in second.description
    assert pairs[1][2].emd is None
    assert all(tile.empty for tile in pairs[0][1].tiles)


def test_a_map_without_a_row_is_empty_and_moves_no_other(fake_run):
    run = fake_run([0.1, 0.3], maps={(0, 3, 0): {(2, 2): 1.0}, (1, 0, 0): {(4, 2): 1.0}})
    rows = run.maps.filter((pl.col("feature") != 0) | (pl.col("rank") != 1))
    pairs = pairs_of(run, rows=rows)
    assert all(tile.empty for tile in pairs[0][1].tiles)
    assert pairs[0][3].tiles[0].description.endswith("peak at row 1, column 1")
    assert pairs[1][0].tiles[0].description.endswith("peak at row 3, column 1")


def test_the_order_of_rows_does_not_matter(fake_run):
    run = fake_run([0.1, 0.3])
    shuffled = feature_pairs(
        run.top_images.sample(fraction=1, shuffle=True, seed=0),
        run.maps.sample(fraction=1, shuffle=True, seed=1),
        Photographs(None, VIEWS),
        RED,
    )
    assert shuffled == pairs_of(run)
    assert [pair.rank for pair in shuffled[1]] == [1, 2, 3, 4]


def test_the_weakest_code_is_seen_and_an_empty_map_has_no_scale():
    faint = decode(overlay_uri(np.array([[1e-9, 1.0]], np.float32), 1.0, RED), "image/png")
    assert faint[0, :, 3].tolist() == [60, 235]
    assert not decode(overlay_uri(np.zeros((2, 2), np.float32), 0.0, RED), "image/png")[..., 3].any()


def test_the_photograph_is_cut_to_the_pixels_both_crops_share():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)  # already (6 + 2) x 4
    image = Image.fromarray(pixels)
    shared = overlap_pixels(image, VIEWS)
    np.testing.assert_array_equal(shared, pixels[8:24, 8:24])
    np.testing.assert_array_equal(shared, VIEWS.crops(image)[1, :16, :16])


def test_photographs_are_small_but_not_blown_up():
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    assert decode(photograph_uri(noise), "image/jpeg").shape == (160, 160, 4)
    flat = np.full((40, 40, 3), (200, 100, 50), np.uint8)
    found = decode(photograph_uri(flat), "image/jpeg")
    assert found.shape == (40, 40, 4)
    assert np.abs(found[..., :3].astype(int) - (200, 100, 50)).max() <= 3


def test_each_photograph_is_kept_once_and_found_by_id(fake_run, photographs):
    # An image that was added since moves every index behind it, but no id.
    Image.new("RGB", (8, 8)).save(photographs / "0-new.png")
    shown = Photographs(open_images(photographs), VIEWS)
    pairs = pairs_of(fake_run([0.1, 0.3]), shown)
    assert len(shown.uris) == 4
    assert [pair.photograph for pair in pairs[0]] == [pair.photograph for pair in pairs[1]] == [0, 1, 2, 3]
    expected = photograph_uri(overlap_pixels(Image.open(photographs / "deep/d.png"), VIEWS))
    assert shown.uris[3] == expected


def test_a_missing_and_a_broken_photograph_are_counted_and_the_rest_shown(fake_run, photographs):
    (photographs / "a.png").unlink()
    (photographs / "b.png").write_bytes(b"no image")
    shown = Photographs(open_images(photographs), VIEWS)
    pairs = pairs_of(fake_run([0.1, 0.3]), shown)
    assert [pair.photograph for pair in pairs[1]] == [None, None, 0, 1]
    assert shown.unreadable == ["a.png", "b.png"]


@pytest.mark.parametrize("changed", [False, True])
def test_ids_that_only_count_hold_while_the_content_is_the_same(changed):
    pixels = np.zeros((3, 8, 8, 3), np.uint8)
    record = ImagesRecord("arrays", 3, ids_sha256(open_images(pixels)), [])
    now = pixels.copy()
    now[1, 0, 0, 0] = changed
    assert same_images(open_images(now), record) is not changed


def test_ids_that_name_files_hold_when_others_come_or_go(photographs, folder_sha256):
    (photographs / "b.png").unlink()
    assert same_images(open_images(photographs), ImagesRecord("photographs", 4, folder_sha256, []))
