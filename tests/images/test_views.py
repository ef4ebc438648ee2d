import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from infoscope.errors import InfoscopeError, UnreadableImageError
from infoscope.images.views import Cut, Views


def photograph(width, height, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BILINEAR)


@given(
    patch=st.sampled_from([4, 7, 14, 16]),
    grid=st.integers(2, 12),
    shift=st.integers(0, 10),
    resize=st.sampled_from(["stretch", "crop"]),
    size=st.tuples(st.integers(30, 120), st.integers(30, 120)),
)
def test_crops_share_exactly_the_pixels_of_the_overlap(patch, grid, shift, resize, size):
    shift = min(shift, grid - 2)
    views = Views(patch, grid, shift, resize)
    first, second = views.crops(photograph(*size))
    side, offset = grid * patch, shift * patch
    assert first.shape == second.shape == (side, side, 3)
    assert np.array_equal(first[offset:, offset:], second[: side - offset, : side - offset])


def test_stretch_is_pillows_bicubic_on_8_bits():
    image = photograph(321, 200)
    views = Views(16, 14, 2)
    whole = np.asarray(image.resize((256, 256), Image.Resampling.BICUBIC))
    first, second = views.crops(image)
    assert np.array_equal(first, whole[:224, :224])
    assert np.array_equal(second, whole[32:, 32:])
    assert np.array_equal(views.full(image), np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC)))


def test_crop_takes_the_centre_of_the_shorter_side():
    image = photograph(500, 300)
    views = Views(14, 16, 2, "crop")
    resized = image.resize((420, 252), Image.Resampling.BICUBIC)
    whole = np.asarray(resized.crop((84, 0, 336, 252)))
    first, second = views.crops(image)
    assert np.array_equal(first, whole[:224, :224])
    assert np.array_equal(second, whole[28:, 28:])


def test_square_images_are_the_same_in_both():
    image = photograph(224, 224)
    for side in ("full", "crops"):
        stretched, cropped = (getattr(Views(14, 16, 2, resize), side)(image) for resize in ("stretch", "crop"))
        assert np.array_equal(stretched, cropped)


@pytest.mark.parametrize("shift", [-1, 15, 16])
def test_a_shift_without_overlap_is_refused(shift):
    with pytest.raises(InfoscopeError, match=rf"--shift {shift} .* choose 0 to 14"):
        Views(14, 16, shift)


def test_the_largest_shift_leaves_two_patches_a_side():
    assert Views(14, 16, 14).shifted_side == 30 * 14


def test_tiny_images_are_unreadable():
    with pytest.raises(UnreadableImageError, match="17 x 40 pixels are fewer than the 18 patches"):
        Views(14, 16, 2).full(Image.new("RGB", (17, 40)))


def test_several_shifts_are_cut_from_one_picture():
    image = photograph(321, 200)
    views = Views(16, 14, 2, shifts=(1, 4))
    whole = np.asarray(image.resize((288, 288), Image.Resampling.BICUBIC))
    first, second = views.crops(image)
    assert np.array_equal(first, whole[:224, :224])
    assert np.array_equal(second, whole[32:256, 32:256])
    corner, side = views.cut(image, [Cut(4, 4), Cut(0, 1)])
    assert np.array_equal(corner, whole[64:, 64:])
    assert np.array_equal(side, whole[:224, 16:240])
    with pytest.raises(UnreadableImageError, match="fewer than the 18 patches"):
        views.full(photograph(17, 40))
    with pytest.raises(InfoscopeError, match="--shift 13 leaves no overlap"):
        Views(16, 14, 2, shifts=(1, 13))


@given(grid=st.integers(2, 9), rolled=st.integers(0, 8))
def test_tokens_are_laid_where_their_pixels_were(grid, rolled):
    """A patch that says where it is in the crop says the same after the roll and its undoing."""
    views = Views(1, grid, 0)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (grid, grid, 3), dtype=np.uint8))
    plain, turned = views.cut(image, [Cut(0, 0), Cut(0, 0, rolled=rolled)])
    assert np.array_equal(turned, np.roll(plain, (rolled, rolled), (0, 1)))
    assert np.array_equal(turned.reshape(-1, 3)[Cut(0, 0, rolled=rolled).order(grid)], plain.reshape(-1, 3))
