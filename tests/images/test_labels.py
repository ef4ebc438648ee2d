"""Labels by folder, and those that data sets, parquet files and tar shards store beside their images."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from infoscope.errors import InfoscopeError
from infoscope.images.labels import class_numbers, folder_labels
from infoscope.images.source import open_images


def folder_of(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / name)
    return open_images(root)


@pytest.mark.parametrize(
    ("names", "labels", "paths"),
    [
        (["cat/1.png", "dog/1.png"], ["cat", "dog"], ["cat", "dog"]),
        (["train/cat/1.png", "val/cat/1.png"], ["cat", "cat"], ["train/cat", "val/cat"]),
        # Tiny ImageNet's layout: the folder that all share tells nothing apart.
        (["n1/images/1.png", "n2/images/1.png"], ["n1", "n2"], ["n1", "n2"]),
        # As in Places365: two classes have folders of one name.
        (["church/indoor/1.png", "zoo/1.png"], ["indoor", "zoo"], ["church/indoor", "zoo"]),
    ],
)
def test_labels_by_folder(tmp_path, names, labels, paths):
    images = folder_of(tmp_path, *names)
    assert folder_labels(images) == labels
    assert folder_labels(images, whole_path=True) == paths


def test_an_image_beside_the_folders_has_no_label(tmp_path):
    images = folder_of(tmp_path, "cat/1.png", "2.png")
    with pytest.raises(InfoscopeError, match=r"2.png of .* is in no folder, so it has no label"):
        class_numbers(images, "folder")


def test_classes_are_in_byte_order_and_numbers_by_value(tmp_path):
    images = folder_of(tmp_path, "b/1.png", "B/1.png", "a/1.png")
    assert class_numbers(images, "folder").classes == ("B", "a", "b")
    found = class_numbers(images, ["10", "9", "10"])
    assert found.classes == ("9", "10")
    assert found.labels == ["10", "9", "10"]


def test_unknown_kinds_are_refused(tmp_path):
    images = folder_of(tmp_path, "cat/1.png")
    with pytest.raises(InfoscopeError, match="--labels wnid is not known"):
        class_numbers(images, "wnid")
    with pytest.raises(InfoscopeError, match="is no data set with columns"):
        class_numbers(images, "column")
    with pytest.raises(InfoscopeError, match="2 labels for 1 images"):
        class_numbers(images, ["a", "b"])


@pytest.fixture
def pets():
    """A data set with a class label, one without names, and text; its second class has no image."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "picture": datasets.Image(),
            "label": datasets.ClassLabel(names=["dog", "emu", "cat"]),
            "place": datasets.Value("string"),
            "year": datasets.Value("int64"),
            "weight": datasets.Value("float32"),
        }
    )
    return datasets.Dataset.from_dict(
        {
            "picture": [Image.new("RGB", (4, 4))] * 3,
            "label": [2, 0, 2],
            "place": ["x", "y", "x"],
            "year": [10, 9, 9],
            "weight": [1.0, 2.0, 3.0],
        },
        features=features,
    )


@pytest.fixture(params=["data set", "parquet"])
def source(request, pets, tmp_path):
    if request.param == "data set":
        return open_images(pets)
    pets.to_parquet(tmp_path / "pets.parquet", batch_size=2)
    return open_images(tmp_path / "pets.parquet")


def test_columns(source, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a picture was decoded")

    monkeypatch.setattr(type(source), "__getitem__", refuse)
    found = class_numbers(source, "column")
    assert found.classes == ("dog", "emu", "cat")
    assert found.number.tolist() == [2, 0, 2]
    assert class_numbers(source, "column:place").labels == ["x", "y", "x"]
    assert class_numbers(source, "column:year").classes == ("9", "10")
    with pytest.raises(InfoscopeError, match=r"has no column weight of labels \(its columns: label, place, year\)"):
        class_numbers(source, "column:weight")


def test_a_column_must_be_chosen_where_none_is_called_label(pets):
    pytest.importorskip("datasets")
    fine = pets.rename_column("label", "fine")
    assert class_numbers(open_images(fine), "column").classes == ("dog", "emu", "cat")
    two = fine.add_column("coarse", [0, 1, 0]).cast_column("coarse", fine.features["fine"])
    with pytest.raises(InfoscopeError, match=r"has no column label: .*--labels column:fine .*fine, coarse"):
        class_numbers(open_images(two), "column")
    with pytest.raises(InfoscopeError, match=r"has no column label: .*place, year"):
        class_numbers(open_images(fine.remove_columns("fine")), "column")


def test_rows_without_a_label(pets):
    datasets = pytest.importorskip("datasets")
    hidden = datasets.Dataset.from_dict(
        {"picture": [Image.new("RGB", (4, 4))] * 2, "label": [1, -1]},
        features=datasets.Features({key: pets.features[key] for key in ("picture", "label")}),
    )
    with pytest.raises(InfoscopeError, match=r"image 1 of .* has no label: give a split with labels"):
        class_numbers(open_images(hidden), "column")


def write_tar(path, files):
    with tarfile.open(path, "w") as tar:
        for name, content in files:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))


def test_tar_shards(tmp_path):
    picture = io.BytesIO()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(picture, "PNG")
    png = picture.getvalue()
    write_tar(
        tmp_path / "b.tar",
        [("./7.cls", b"3\n"), ("7.png", png), ("7.txt", b"a bird"), ("in/7.png", png), ("in/7.cls", b"12")],
    )
    write_tar(tmp_path / "a.tar", [("1.png", png), ("1.seg.png", png), ("1.cls", b"12"), ("1.txt", b"a cat")])
    images = open_images(tmp_path)
    assert list(images.ids) == ["a.tar/1.png", "b.tar/7.png", "b.tar/in/7.png"]
    found = class_numbers(images, "column")
    assert found.classes == ("3", "12")
    assert found.labels == ["12", "3", "12"]
    with pytest.raises(InfoscopeError, match=r"the sample of b.tar/in/7.png has no .txt file"):
        class_numbers(images, "column:txt")
