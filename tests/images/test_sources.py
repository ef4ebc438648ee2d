import pickle
import sys

import numpy as np
import pytest
from PIL import Image

from infoscope.errors import InfoscopeError, UnreadableImageError
from infoscope.images.source import ids_sha256, open_images


@pytest.fixture
def folder(tmp_path):
    """Names whose order differs between bytes, locales and file systems."""
    root = tmp_path / "photographs"
    names = ["b.png", "a/z.JPG", "a.png", "B.png", "a/é.webp", "a10.png", "a2.png", "deep/er/x.bmp"]
    for shade, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (10, 10), (shade, shade, shade)).save(root / name)
    (root / "notes.txt").write_text("no image")
    (root / ".hidden.png").write_bytes(b"")
    return root


def test_folder_order_is_the_byte_order_of_ids(folder):
    images = open_images(folder)
    assert list(images.ids) == sorted(images.ids, key=lambda image_id: image_id.encode())
    assert list(images.ids) == ["B.png", "a.png", "a/z.JPG", "a/é.webp", "a10.png", "a2.png", "b.png", "deep/er/x.bmp"]
    assert images[1].getpixel((0, 0)) == (2, 2, 2)


def test_folder_is_the_same_from_a_relative_path(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert open_images("photographs").ids == open_images(folder).ids


def test_links_are_followed_once(folder):
    (folder / "loop").symlink_to(folder)
    (folder / "a" / "again.png").symlink_to(folder / "b.png")
    ids = open_images(folder).ids
    assert "a/again.png" in ids
    assert len(ids) == 9


def test_ids_hash_depends_on_ids_and_their_order(tmp_path):
    def hashed(names):
        root = tmp_path / "-".join(names)
        root.mkdir()
        for name in names:
            Image.new("RGB", (4, 4)).save(root / f"{name}.png")
        return ids_sha256(open_images(root))

    assert hashed(["a", "b"]) == hashed(["b", "a"])
    assert hashed(["a", "c"]) != hashed(["a", "d"])


@pytest.mark.parametrize("name", ["nowhere", "./a/b", "/no/such/place"])
def test_missing_folder(name):
    with pytest.raises(InfoscopeError, match=f"no such folder of images: {name}"):
        open_images(name)


def test_folder_without_images(tmp_path):
    with pytest.raises(InfoscopeError, match="no images in"):
        open_images(tmp_path)


def test_a_file_is_not_a_folder(folder):
    with pytest.raises(InfoscopeError, match=r"is a file; give the folder"):
        open_images(folder / "b.png")


def test_arrays():
    pixels = np.random.default_rng(0).integers(0, 255, (3, 8, 6, 3), dtype=np.uint8)
    images = open_images(pixels)
    assert len(images) == 3
    assert np.array_equal(np.asarray(images[2]), pixels[2])
    assert open_images([Image.fromarray(p) for p in pixels]).fingerprint == images.fingerprint
    assert ids_sha256(open_images(pixels[::-1])) != ids_sha256(images)


def test_arrays_of_the_wrong_kind():
    with pytest.raises(InfoscopeError, match="uint8"):
        open_images(np.zeros((2, 4, 4, 3), np.float32))
    with pytest.raises(UnreadableImageError, match="not a uint8 image"):
        open_images([np.zeros((4, 4, 3), np.float32)])[0]


@pytest.fixture
def dataset():
    datasets = pytest.importorskip("datasets")
    images = [Image.new("RGB", (8, 6), (shade, 0, 0)) for shade in range(4)]
    features = datasets.Features({"label": datasets.Value("int64"), "picture": datasets.Image()})
    return datasets.Dataset.from_dict({"label": [0, 1, 2, 3], "picture": images}, features=features)


def test_dataset(dataset):
    images = open_images(dataset)
    assert list(images.ids) == ["0", "1", "2", "3"]
    assert [images[i].getpixel((0, 0))[0] for i in range(4)] == [0, 1, 2, 3]
    assert images.fingerprint


def test_saved_dataset_opens_by_its_path(dataset, tmp_path):
    dataset.save_to_disk(tmp_path / "saved")
    images = open_images(tmp_path / "saved")
    assert images[3].getpixel((0, 0)) == (3, 0, 0)
    assert images.name == str(tmp_path / "saved")


def test_saved_splits_must_be_chosen(dataset, tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.DatasetDict({"train": dataset, "test": dataset}).save_to_disk(tmp_path / "saved")
    with pytest.raises(InfoscopeError, match=r"several splits; give one of .*train.*test"):
        open_images(tmp_path / "saved")
    assert len(open_images(tmp_path / "saved" / "test")) == 4


def test_dataset_rows_without_a_readable_image(dataset):
    datasets = pytest.importorskip("datasets")
    broken = datasets.Dataset.from_dict(
        {"image": [{"bytes": b"garbage", "path": None}, None]},
        features=datasets.Features({"image": datasets.Image()}),
    )
    images = open_images(broken)
    for row in range(2):
        with pytest.raises(UnreadableImageError):
            images[row]


def test_a_dataset_is_not_read_for_its_length(dataset, monkeypatch):
    datasets = pytest.importorskip("datasets")

    def refuse(*arguments, **options):
        raise AssertionError("rows were read")

    for reading in ("_getitem", "__getitem__", "__iter__", "map", "filter"):
        monkeypatch.setattr(datasets.Dataset, reading, refuse)
    images = open_images(dataset)
    assert len(images) == len(images.ids) == 4
    assert ids_sha256(images)
    assert images.stamp()


def test_a_dataset_goes_to_other_processes(dataset, tmp_path):
    dataset.save_to_disk(tmp_path / "saved")
    for source in (dataset, tmp_path / "saved"):
        images = open_images(source)
        copy = pickle.loads(pickle.dumps(images))
        assert [copy[row].getpixel((0, 0))[0] for row in range(4)] == [0, 1, 2, 3]
        assert ids_sha256(copy) == ids_sha256(images)


def test_streamed_datasets_are_refused(dataset):
    with pytest.raises(InfoscopeError, match=r"from a IterableDataset: .*a data set with rows"):
        open_images(dataset.to_iterable_dataset())


def test_dataset_without_images(dataset):
    with pytest.raises(InfoscopeError, match=r"no image column \(its columns: label\)"):
        open_images(dataset.remove_columns("picture"))


def test_hub_names_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InfoscopeError, match=r"no such folder of images: owner/name; .*infoscope\[datasets\]"):
        open_images("owner/name")


def test_unknown_kinds_are_refused():
    with pytest.raises(InfoscopeError, match="cannot open images from a int"):
        open_images(3)
