"""What is read from the pixels, against loops over cells and patches."""

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve

from infoscope.analyses.planted_blobs.places import (
    bumps,
    landmarks,
    patch_spread,
    read_cells,
    read_looks,
    read_textures,
)
from infoscope.analyses.planted_blobs.shapes import draw_shapes
from planting import GRID, PATCH, SIDE, scenes


@pytest.fixture(scope="module")
def views():
    return [torch.tensor(picture[:SIDE, :SIDE]) for picture in scenes(6)]


def test_landmarks_are_the_local_maxima_of_the_smoothed_response(views):
    filters = torch.randn(3, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    line = np.array([1, 2, 1]) / 4
    for view in views[:3]:
        cells = read_cells(view, GRID).numpy().astype(np.float64)
        found = landmarks(torch.tensor(cells, dtype=torch.float32), filters).numpy()
        smooth = np.stack([convolve(channel, np.outer(line, line), mode="nearest") for channel in cells])
        for number, weights in enumerate(filters.numpy()):
            # scipy turns the kernel around.
            response = sum(
                convolve(smooth[channel], weights[channel][::-1, ::-1], mode="nearest") for channel in range(3)
            )
            expected = {}
            for row in range(1, 2 * GRID - 1):
                for column in range(1, 2 * GRID - 1):
                    near = response[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3]
                    if response[row, column] >= near.max() and response[row, column] > 0:
                        expected[row, column] = response[row, column]
            assert sorted(expected) == list(
                zip(*(ends.tolist() for ends in np.nonzero(found[number] > 0)), strict=True)
            )
            assert [found[number][place] for place in expected] == pytest.approx(list(expected.values()), rel=1e-3)


def test_cells_and_patches_are_means_of_their_pixels(views):
    view = views[0]
    pixels, half = view.numpy().astype(np.float64), PATCH // 2
    cell = pixels[3 * half : 4 * half, 5 * half : 6 * half].mean((0, 1)) / 127.5 - 1
    assert read_cells(view, GRID)[:, 3, 5].tolist() == pytest.approx(cell.tolist(), abs=1e-5)
    patch = pixels[PATCH : 2 * PATCH, 2 * PATCH : 3 * PATCH].mean(-1)
    assert float(patch_spread(view, GRID)[GRID + 2]) == pytest.approx(patch.std(), rel=1e-4)
    near = pixels[: 3 * PATCH, PATCH : 4 * PATCH] / 255
    textures = read_textures(view, GRID)[GRID + 2]
    assert float(textures[4]) == pytest.approx(near.mean(), rel=1e-4)
    assert float(textures[0]) == pytest.approx(near.mean(-1).std(), rel=1e-3)
    assert float(textures[1]) == pytest.approx((near.max(-1) - near.min(-1)).mean(), rel=1e-4)


def test_looks_tell_colours_and_edges_apart():
    red, across = np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255
    across[:, 8:] = 255
    colour, edge = (read_looks(torch.tensor(view)).numpy() for view in (red, across))
    # Five levels a channel: red is full, green and blue are empty.
    assert colour[:15].reshape(3, 5).argmax(1).tolist() == [4, 0, 0]
    assert colour[15:].max() == 0
    assert edge[15:].argmax() == 0
    assert edge[15:][3] < edge[15:][0]


def test_a_bump_is_a_gaussian_that_ends():
    bump = bumps(GRID, 1.2).numpy()
    for place, cell in ((10, 37), (27, 100), (0, 0)):
        row, column = divmod(place, GRID)
        cell_row, cell_column = divmod(cell, 2 * GRID)
        square = (row + 0.5 - cell_row / 2 - 0.25) ** 2 + (column + 0.5 - cell_column / 2 - 0.25) ** 2
        height = np.exp(-square / 2 / 1.44)
        assert bump[place, cell] == pytest.approx(height if height >= 0.15 else 0, abs=1e-6)


def test_shapes_by_hand():
    shapes, names = draw_shapes(14, 6, 14, torch.Generator().manual_seed(3))
    size = {"border": {52}, "side": {14}, "corner": {4}, "row": {14}, "column": {14}, "patch": {1}}
    for shape, name in zip(shapes.reshape(-1, 14, 14).numpy(), names, strict=True):
        on = np.argwhere(shape > 0)
        if name == "ring":
            radius = np.hypot(*(on - 6.5).T)
            assert len(on) >= 8
            assert np.ptp(radius) <= 1
        else:
            assert len(on) in size[name], name
        if name in ("row", "column", "patch"):
            inner = {"row": on[:, :1], "column": on[:, 1:], "patch": on}[name]
            assert inner.min() >= 1
            assert inner.max() <= 12
    assert len({shape.numpy().tobytes() for shape in shapes}) > 8
