"""Segmentation sets: the published layouts, any masks, and what is refused."""

import pickle
import shutil

import numpy as np
import pytest
from PIL import Image

from infoscope.analyses.probes.segmentation import ClassCounts, check_trainable, count_classes
from infoscope.analyses.probes.segmentation_sets import (
    Coding,
    ade20k_classes,
    open_ade20k,
    open_masks,
    open_segmentation,
)
from infoscope.analyses.probes.targets import DenseTargets, read_targets
from infoscope.errors import InfoscopeError
from infoscope.images.prefetch import decode_ahead

SIZE = (4, 6)


def photograph(path, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1]).save(path)


def mask(path, values, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(values))
    if mode == "P":
        picture.putpalette([number for shade in range(256) for number in (shade, 255 - shade, 7)])
    picture.save(path)
    return path


def values(*numbers, dtype=np.uint8):
    return np.resize(np.array(numbers, dtype), SIZE)


@pytest.fixture
def ade(tmp_path):
    """ADE20K's official tree."""
    for split, name in (("training", "train"), ("validation", "val")):
        for number in (2, 1):
            stem = f"ADE_{name}_{number:08d}"
            photograph(tmp_path / "images" / split / f"{stem}.jpg")
            mask(tmp_path / "annotations" / split / f"{stem}.png", values(0, 1, number, 150))
    (tmp_path / "sceneCategories.txt").write_text("ADE_train_00000001 street\n")
    return tmp_path


def test_ade20k(ade):
    train = open_segmentation(ade, "train")
    assert isinstance(train, DenseTargets)
    assert list(train.images.ids) == ["ADE_train_00000001.jpg", "ADE_train_00000002.jpg"]
    assert len(train.classes) == 150
    # 0 does not count, and 1 to 150 become 0 to 149.
    target = train.target(1)
    assert target.dtype == np.uint8
    assert target.ravel()[:8].tolist() == [255, 0, 1, 149, 255, 0, 1, 149]
    assert list(open_segmentation(ade, "val").images.ids) == ["ADE_val_00000001.jpg", "ADE_val_00000002.jpg"]
    copy = pickle.loads(pickle.dumps(train))
    np.testing.assert_array_equal(copy.target(1), target)
    with pytest.raises(InfoscopeError, match="ADE20K has no split test with annotations: choose train or val"):
        open_segmentation(ade, "test")
    shutil.rmtree(ade / "images" / "training")
    with pytest.raises(InfoscopeError, match=r"has no folder training, where ADE20K's split train is"):
        open_segmentation(ade, "train")


def test_ade20ks_own_names_are_taken(ade):
    header = "Idx\tRatio\tTrain\tVal\tName\n"
    rows = [f"{number}{' ' * (number == 22)}\t0.1\t9\t9\tthing {number}, object\n" for number in range(1, 151)]
    (ade / "objectInfo150.txt").write_text(header + "".join(rows))
    assert open_segmentation(ade, "val").classes[149] == "thing 150"
    (ade / "objectInfo150.txt").write_text(header + "".join(rows[:-1]))
    with pytest.raises(InfoscopeError, match="does not list 150 classes in order"):
        open_segmentation(ade, "val")


def test_the_names_that_are_shipped():
    names = ade20k_classes()
    assert len(set(names)) == 150
    assert [names[number - 1] for number in (1, 21, 75, 131, 150)] == ["wall", "car", "computer", "screen", "flag"]


def test_the_sample_of_ade20k(data_root):
    folder = data_root / "data" / "ade20k-sample"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: set INFOSCOPE_DATA")
    sample = open_ade20k(folder, None)
    counts = count_classes(sample)
    stored = [np.asarray(Image.open(file)) for file in sample.files]
    assert counts.ignored == sum((one == 0).sum() for one in stored)
    assert counts.pixels.sum() + counts.ignored == sum(one.size for one in stored)
    assert counts.classes[counts.most_frequent] == "sky"
    for index, (target, picture) in enumerate(zip(map(sample.target, range(3)), sample.images, strict=True)):
        assert target.shape == picture.size[::-1], index


def test_camvid(data_root):
    folder = data_root / "data" / "camvid"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: set INFOSCOPE_DATA")
    splits = [open_segmentation(folder, split, "crop") for split in ("train", "val", "test")]
    assert [len(split) for split in splits] == [367, 101, 233]
    counts = count_classes(splits[0], range(5))
    assert counts.pixels.sum() + counts.ignored == 5 * 360 * 360
    assert counts.ignored > 0
    # The sky is above the road.
    target = splits[0].target(0)
    rows = [np.nonzero(target == splits[0].classes.index(name))[0].mean() for name in ("sky", "road")]
    assert rows[0] < rows[1]
    with pytest.raises(InfoscopeError, match="CamVid has no split all"):
        open_segmentation(folder, "all")


def test_any_masks_by_their_numbers(tmp_path):
    for stem, numbers in (("a", (0, 3)), ("b/c", (1, 255))):
        photograph(tmp_path / "pictures" / f"{stem}.jpeg")
        mask(tmp_path / "masks" / f"{stem}.png", values(*numbers))
    found = open_masks(tmp_path / "pictures", tmp_path / "masks")
    assert found.classes == ("0", "1", "2", "3")
    assert list(found.images.ids) == ["a.jpeg", "b/c.jpeg"]
    assert np.unique(found.target(1)).tolist() == [1, 255]
    reduced = open_masks(tmp_path / "pictures", tmp_path / "masks", reduce_zero_label=True)
    assert reduced.classes == ("1", "2", "3")
    assert [np.unique(reduced.target(index)).tolist() for index in (0, 1)] == [[2, 255], [0, 255]]
    other = open_masks(tmp_path / "pictures", tmp_path / "masks", ignore_index=3, classes=("x", "y"))
    assert np.unique(other.target(0)).tolist() == [0, 255]
    with pytest.raises(InfoscopeError, match=r"b/c.png has the number 255, but 2 classes are numbered 0 to 1"):
        other.target(1)


def test_names_of_classes_from_a_file(tmp_path):
    photograph(tmp_path / "pictures" / "a.png")
    mask(tmp_path / "masks" / "a.png", values(0, 2))
    names = tmp_path / "names.txt"
    names.write_text("road\n\nsky\ncat\n")
    assert open_masks(tmp_path / "pictures", tmp_path / "masks", classes=names).classes == ("road", "sky", "cat")
    names.write_text("road\nsky\n")
    with pytest.raises(
        InfoscopeError, match=r"a.png has the number 2, but 2 classes are numbered 0 to 1: .*--ignore-index"
    ):
        open_masks(tmp_path / "pictures", tmp_path / "masks", classes=str(names)).target(0)
    names.write_text("\n")
    with pytest.raises(InfoscopeError, match="names no classes"):
        open_masks(tmp_path / "pictures", tmp_path / "masks", classes=names)
    with pytest.raises(InfoscopeError, match="cannot read the names of classes"):
        open_masks(tmp_path / "pictures", tmp_path / "masks", classes=tmp_path / "nowhere")


def test_endings_say_what_belongs_together(tmp_path):
    """Cityscapes: three files a photograph, of which one is its mask."""
    for stem in ("aachen/aachen_000000_000019", "bochum/bochum_000000_000313"):
        photograph(tmp_path / "left" / f"{stem}_leftImg8bit.png")
        mask(tmp_path / "fine" / f"{stem}_gtFine_labelTrainIds.png", values(0, 18, 255))
        mask(tmp_path / "fine" / f"{stem}_gtFine_instanceIds.png", values(7000, dtype=np.uint16))
    with pytest.raises(InfoscopeError, match=r"2 of 2 photographs in .*left have no mask .*say how names end"):
        open_masks(tmp_path / "left", tmp_path / "fine")
    found = open_masks(
        tmp_path / "left", tmp_path / "fine", image_ending="_leftImg8bit.png", mask_ending="_gtFine_labelTrainIds.png"
    )
    assert len(found) == 2
    assert len(found.classes) == 19
    with pytest.raises(InfoscopeError, match=r"no masks in .* that end in _color.png"):
        open_masks(tmp_path / "left", tmp_path / "fine", mask_ending="_color.png")
    with pytest.raises(InfoscopeError, match=r"no images in .* end in _right.png"):
        open_masks(tmp_path / "left", tmp_path / "fine", image_ending="_right.png")


@pytest.mark.parametrize(
    ("name", "stored", "mode"),
    [
        ("a.png", values(0, 1, 2, 255), "P"),
        ("a.png", values(0, 1, 2, 255, dtype=np.uint16), None),
        ("a.png", values(0, 1, 2, 255), None),
        ("a.tif", values(0, 1, 2, 255, dtype=np.int32), None),
        ("a.png", values(False, True, dtype=bool), None),
    ],
)
def test_kinds_of_masks(tmp_path, name, stored, mode):
    photograph(tmp_path / "pictures" / "a.jpg")
    with Image.open(mask(tmp_path / "masks" / name, stored, mode)) as image:
        assert mode is None or image.mode == mode
    found = open_masks(tmp_path / "pictures", tmp_path / "masks")
    np.testing.assert_array_equal(found.target(0), stored)


def test_many_classes_are_wide(tmp_path):
    photograph(tmp_path / "pictures" / "a.jpg")
    mask(tmp_path / "masks" / "a.png", values(0, 255, 299, 65535, dtype=np.uint16))
    found = open_masks(tmp_path / "pictures", tmp_path / "masks", ignore_index=65535)
    assert len(found.classes) == 300
    assert found.target(0).dtype == np.uint16
    np.testing.assert_array_equal(np.unique(found.target(0)), [0, 255, 299, 65535])
    counts = count_classes(found)
    assert counts.ignored == 6
    assert np.flatnonzero(counts.pixels).tolist() == [0, 255, 299]


def test_codings():
    wild = np.array([[-1, 70000, 3]], np.int32)
    with pytest.raises(InfoscopeError, match=r"x.png has the numbers -1, 3, 70000, but 2 classes"):
        Coding().decode(wild, 2, "x.png")
    with pytest.raises(InfoscopeError, match=r"has the numbers 2, 3, 4, 5, 6 and 3 more, but 2 classes"):
        Coding().decode(np.arange(10)[None], 2, "x.png")
    # A number that does not count is that of the file, before 0 is taken out.
    assert Coding((3,), True).decode(np.arange(5)[None], 4, "x.png").tolist() == [[255, 0, 1, 255, 3]]


def test_what_is_no_mask_is_refused(tmp_path):
    photograph(tmp_path / "pictures" / "a.jpg")
    masks = tmp_path / "masks"
    found = open_masks
    for name, content, message in (
        ("a.png", np.zeros((*SIZE, 3), np.uint8), r"a.png is coded in colours \(mode RGB\)"),
        ("a.jpg", values(0, 1), r"a.jpg is a JPEG, which may change class numbers"),
        ("a.png", values(255, 255), "every number is ignored; check --ignore-index"),
        ("a.png", values(0, 255), r"masks has one class only \(0\)"),
        ("a.png", np.full(SIZE, 65535, np.uint16), "number 65535: give it as --ignore-index"),
        ("a.tif", np.full(SIZE, -4, np.int32), "numbers below 0"),
    ):
        shutil.rmtree(masks, ignore_errors=True)
        mask(masks / name, content)
        with pytest.raises(InfoscopeError, match=message):
            found(tmp_path / "pictures", masks)
    (masks / "a.tif").write_bytes(b"no picture")
    with pytest.raises(InfoscopeError, match=r"cannot read the mask .*a.tif: .*move it and its photograph away"):
        open_masks(tmp_path / "pictures", masks)


def test_photographs_and_masks_must_fit(ade):
    annotations = ade / "annotations" / "training"
    mask(annotations / "ADE_train_00000001.png", np.zeros((6, 4), np.uint8))
    with pytest.raises(InfoscopeError, match=r"00000001.png has 4 x 6 pixels, its photograph ADE_.*jpg has 6 x 4"):
        open_segmentation(ade, "train").target(0)
    with pytest.raises(InfoscopeError, match="has 4 x 6 pixels"):
        count_classes(open_segmentation(ade, "train"))
    mask(annotations / "ADE_train_00000002.png", values(151))
    with pytest.raises(InfoscopeError, match=r"has the number 151, but 150 classes are numbered 1 to 150"):
        open_segmentation(ade, "train").target(1)
    (annotations / "ADE_train_00000002.png").unlink()
    with pytest.raises(
        InfoscopeError, match=r"1 of 2 photographs in .*training have no annotation .*ADE_train_00000002"
    ):
        open_segmentation(ade, "train")
    for file in (ade / "images" / "training").iterdir():
        file.unlink()
    with pytest.raises(InfoscopeError, match=r"no images in .*training"):
        open_segmentation(ade, "train")


def test_two_masks_of_one_photograph(tmp_path):
    photograph(tmp_path / "pictures" / "a.jpg")
    mask(tmp_path / "masks" / "a.png", values(0, 1))
    mask(tmp_path / "masks" / "a.tif", values(0, 1))
    with pytest.raises(InfoscopeError, match=r"a.png and .*a.tif are both masks of a"):
        open_masks(tmp_path / "pictures", tmp_path / "masks")


def test_a_photograph_on_its_side_is_judged_upright(tmp_path):
    picture = Image.new("RGB", (4, 6))
    exif = picture.getexif()
    exif[0x0112] = 6
    (tmp_path / "pictures").mkdir()
    picture.save(tmp_path / "pictures" / "a.jpg", exif=exif)
    mask(tmp_path / "masks" / "a.png", values(0, 1))
    found = open_masks(tmp_path / "pictures", tmp_path / "masks")
    assert found.images[0].size == SIZE[::-1]
    assert found.target(0).shape == SIZE


def test_a_damaged_photograph_is_skipped_and_its_mask_kept(ade):
    (ade / "images" / "training" / "ADE_train_00000001.jpg").write_bytes(b"no picture")
    train = open_segmentation(ade, "train")
    batch = next(decode_ahead(train.images, range(2), np.asarray, batch_size=2))
    assert batch.index == [1]
    assert batch.unreadable[0][0] == 0
    assert train.target(0).shape == SIZE


def test_targets_come_in_the_order_that_is_asked_for(ade):
    train = open_segmentation(ade, "train")
    order = [1, 0, 1, 1, 0] * 5
    for threads in (1, 3):
        found = list(read_targets(train, order, threads=threads))
        assert all(np.array_equal(target, train.target(index)) for index, target in zip(order, found, strict=True))


def test_unknown_layouts(tmp_path):
    with pytest.raises(InfoscopeError, match="no such folder: "):
        open_segmentation(tmp_path / "nowhere", "train")
    with pytest.raises(InfoscopeError, match=r"neither as ADE20K .* nor as CamVid"):
        open_segmentation(tmp_path, "train")
    photograph(tmp_path / "pictures" / "a.jpg")
    with pytest.raises(InfoscopeError, match="no such folder of masks"):
        open_masks(tmp_path / "pictures", tmp_path / "masks")


def test_one_class_to_train_on():
    with pytest.raises(InfoscopeError, match="all pixels of the training masks are of class road"):
        check_trainable(ClassCounts(("sky", "road"), np.array([0, 9]), 3))
    check_trainable(ClassCounts(("sky", "road"), np.array([1, 9]), 3))


def test_a_split_of_ignored_pixels_alone(tmp_path):
    photograph(tmp_path / "pictures" / "a.jpg")
    mask(tmp_path / "masks" / "a.png", values(255))
    with pytest.raises(InfoscopeError, match=r"no pixel of the masks of .* counts"):
        count_classes(open_masks(tmp_path / "pictures", tmp_path / "masks", classes=("a", "b")))
