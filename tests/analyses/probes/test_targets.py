"""A target is laid out as the view is."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from infoscope.analyses.probes.targets import ignore_value, lay_out
from infoscope.images.views import Views


def test_stretch_leaves_a_target_as_it_is():
    target = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert lay_out(target, "stretch") is target


@given(st.integers(60, 400), st.integers(60, 400), st.sampled_from([(14, 16), (16, 14), (8, 6)]))
def test_crop_is_the_views_square_within_a_pixel_of_the_models(width, height, model):
    views = Views(*model, resize="crop")
    # The two channels say where along each axis a pixel was.
    across = np.broadcast_to(np.linspace(0, 255, width), (height, width))
    down = np.broadcast_to(np.linspace(0, 255, height)[:, None], (height, width))
    picture = Image.fromarray(np.stack([across, down, down], axis=2).round().astype(np.uint8))
    seen = views.full(picture).astype(float)
    kept = [lay_out(channel, "crop") for channel in (across, down)]
    side = min(width, height)
    for axis, (channel, target) in enumerate(zip((0, 1), kept, strict=True)):
        assert target.shape == (side, side)
        pixels = (width, height)[channel]
        # Where the middle of the view and of the target are, in pixels of the photograph.
        middle = seen[views.side // 2 - 1 : views.side // 2 + 1, views.side // 2 - 1 : views.side // 2 + 1, axis].mean()
        expected = target.mean()
        assert abs(middle - expected) / 255 * (pixels - 1) < side / views.side + 1 + pixels / 255


def test_the_value_for_ignore():
    assert [ignore_value(classes) for classes in (2, 255, 256)] == [255, 255, 65535]
