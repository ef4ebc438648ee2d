"""Classification sets in their published layouts, and splits that share one list of classes."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infoscope.analyses.probes.classification import classification_task
from infoscope.analyses.probes.labelled_images import open_labelled, read_devkit, share_classes
from infoscope.analyses.probes.tasks import TaskFlags
from infoscope.errors import InfoscopeError
from infoscope.images.prefetch import decode_ahead
from layouts import WNIDS, picture, write_devkit


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """ImageNet as it is unpacked: a folder a class to train on, one folder to validate, and the devkit."""
    root = tmp_path_factory.mktemp("imagenet")
    for wnid in WNIDS:
        for number in (1, 22):
            picture(root / "train" / wnid / f"{wnid}_{number}.JPEG")
    for number in range(1, 6):
        picture(root / "val" / f"ILSVRC2012_val_{number:08d}.JPEG", shade=50 * number)
    write_devkit(root / "ILSVRC2012_devkit_t12" / "data", [2, 3, 3, 1, 2])
    return root


def test_imagenet(imagenet):
    train, val = share_classes(open_labelled(imagenet / "train"), open_labelled(imagenet / "val"))
    assert train.classes == val.classes == tuple(WNIDS)
    assert train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    # The devkit's numbers are in an order of their own: 2 is the third folder, 3 the first, 1 the second.
    assert val.labels.tolist() == [2, 0, 0, 1, 2]
    assert len(val) == 5
    assert np.asarray(val.images[4])[0, 0, 0] == pytest.approx(250, abs=3)
    assert pickle.loads(pickle.dumps(val)).labels.tolist() == val.labels.tolist()


@pytest.mark.parametrize("place", ["", "data", "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"])
def test_the_devkit_may_be_named(imagenet, tmp_path, place):
    flat = tmp_path / "elsewhere"
    flat.mkdir()
    # Photographs may be missing: each is known by the number in its name.
    for number in (2, 5):
        picture(flat / f"ILSVRC2012_val_{number:08d}.JPEG")
    with pytest.raises(InfoscopeError, match=r"validation photographs in one folder.*devkit's folder as --labels"):
        open_labelled(flat)
    found = open_labelled(flat, imagenet / "ILSVRC2012_devkit_t12" / place)
    assert [found.classes[label] for label in found.labels] == [WNIDS[0], WNIDS[2]]
    devkit = read_devkit(imagenet / "ILSVRC2012_devkit_t12" / place)
    assert devkit.words[WNIDS[1]] == f"{WNIDS[1]} in words"
    assert "n00001740" not in devkit.words


def test_imagenet_with_a_folder_a_class_to_validate(imagenet, tmp_path):
    for wnid in reversed(WNIDS):
        picture(tmp_path / "val" / wnid / "ILSVRC2012_val_00000007.JPEG")
    _, val = share_classes(open_labelled(imagenet / "train"), open_labelled(tmp_path / "val"))
    assert val.labels.tolist() == [0, 1, 2]


def test_a_devkit_that_does_not_fit(imagenet, tmp_path):
    write_devkit(tmp_path / "short", [1, 2])
    with pytest.raises(InfoscopeError, match=r"val_00000003.JPEG is none of the 2 photographs of"):
        open_labelled(imagenet / "val", tmp_path / "short")
    with pytest.raises(InfoscopeError, match=r"n01440764_1.JPEG is none of the 5 photographs"):
        open_labelled(imagenet / "train", imagenet / "ILSVRC2012_devkit_t12")
    write_devkit(tmp_path / "wrong", [1, 9])
    with pytest.raises(InfoscopeError, match=r"names class 9, which .*meta.mat has not"):
        read_devkit(tmp_path / "wrong")
    (tmp_path / "wrong" / "meta.mat").write_bytes(b"no matrix")
    with pytest.raises(InfoscopeError, match=r"meta.mat is not the devkit's list of classes"):
        read_devkit(tmp_path / "wrong")
    (tmp_path / "wrong" / "meta.mat").unlink()
    with pytest.raises(InfoscopeError, match=r"no meta.mat in .*wrong: give the folder of ImageNet's devkit"):
        read_devkit(tmp_path / "wrong")


def test_a_list_of_paths_and_labels(imagenet, tmp_path):
    picture(tmp_path / "pictures" / "a b.jpg")
    for name in ("z.jpg", "c/d.jpg", "unlisted.jpg"):
        picture(tmp_path / "pictures" / name)
    file = tmp_path / "val.txt"
    file.write_text("z.jpg 65\n\n./c/d.jpg\t9\n/a b.jpg 65\n")
    found = open_labelled(tmp_path / "pictures", str(file))
    assert list(found.images.ids) == ["a b.jpg", "c/d.jpg", "z.jpg"]
    assert found.classes == ("9", "65")
    assert found.labels.tolist() == [1, 0, 1]
    for text, message in (
        ("z.jpg\n", r"line 1 of .*val.txt is not a path and a label: z.jpg"),
        ("z.jpg 1\nno.jpg 2\n", r"line 2 of .*: there is no image no.jpg in .*pictures"),
        ("z.jpg 1\nz.jpg 2\n", r"line 2 of .*: z.jpg has the label 1 already, and now 2"),
        ("\n", "is empty"),
    ):
        file.write_text(text)
        with pytest.raises(InfoscopeError, match=message):
            open_labelled(tmp_path / "pictures", file)
    with pytest.raises(InfoscopeError, match=r"the labels .*nolist.txt are no file, and none of folder"):
        open_labelled(tmp_path / "pictures", str(tmp_path / "nolist.txt"))
    with pytest.raises(InfoscopeError, match="is no folder of images"):
        open_labelled(np.zeros((1, 4, 4, 3), np.uint8), file)


def test_splits_share_the_training_splits_classes(tmp_path):
    pixels = np.zeros((3, 4, 4, 3), np.uint8)
    train, test = open_labelled(pixels, ["c", "a", "a"]), open_labelled(pixels, ["c", "b", "d"])
    with pytest.raises(
        InfoscopeError, match=r"arrays has classes b, d, which arrays has no images of .it has classes a, c"
    ):
        share_classes(train, test)
    with pytest.raises(InfoscopeError, match=r"all images of arrays are of class a: a probe needs two"):
        share_classes(open_labelled(pixels, ["a"] * 3))
    one = open_labelled(pixels, ["c"] * 3)
    assert share_classes(train, one)[1].labels.tolist() == [1, 1, 1]


def test_a_class_without_training_images_is_no_class(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["x", "y", "z"])})
    train, test = (
        open_labelled(
            datasets.Dataset.from_dict(
                {"image": [Image.new("RGB", (4, 4))] * len(labels), "label": labels}, features=features
            )
        )
        for labels in ([2, 0], [0, 2, 2])
    )
    shared = share_classes(train, test)
    assert shared[0].classes == ("x", "z")
    assert shared[1].labels.tolist() == [0, 1, 1]


def test_a_damaged_photograph_keeps_its_place(tmp_path):
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg"):
        picture(tmp_path / name)
    (tmp_path / "a" / "2.jpg").write_bytes(b"no picture")
    found = open_labelled(tmp_path)
    batches = list(decode_ahead(found.images, range(3), np.asarray, batch_size=3))
    assert batches[0].index == [0, 2]
    assert [index for index, _ in batches[0].unreadable] == [1]
    assert found.labels[batches[0].index].tolist() == [0, 1]


def test_no_images(tmp_path):
    with pytest.raises(InfoscopeError, match="no images in"):
        open_labelled(tmp_path)


def test_labels_of_all_splits_or_of_each(imagenet, tmp_path):
    devkit, val = str(imagenet / "ILSVRC2012_devkit_t12"), tmp_path / "val"
    for number in (2, 4):
        picture(val / f"ILSVRC2012_val_{number:08d}.JPEG")
    # Away from the devkit, which is then named for all splits and read for the photographs that it is of.
    for labels in (devkit, imagenet / "ILSVRC2012_devkit_t12" / "data" / "meta.mat", {"test": devkit}):
        task = classification_task(imagenet / "train", val, labels=labels)
        assert task.labelled["train"].labels.tolist() == [0, 0, 1, 1, 2, 2]
        assert task.labelled["test"].labels.tolist() == [0, 1]
    listed = tmp_path / "val.txt"
    listed.write_text("".join(f"ILSVRC2012_val_{number:08d}.JPEG {WNIDS[2]}\n" for number in (2, 4)))
    task = classification_task(imagenet / "train", val, labels={"test": str(listed)})
    assert task.labelled["test"].labels.tolist() == [2, 2]
    with pytest.raises(InfoscopeError, match=r"a list is of one split .--train-labels"):
        classification_task(imagenet / "train", val, labels=listed)
    with pytest.raises(InfoscopeError, match="is none of the 5 photographs"):
        classification_task(imagenet / "train", val, labels={"train": devkit, "test": devkit})


def test_the_command_lines_labels_and_splits(imagenet, tmp_path):
    for split in ("train", "val", "test"):
        for name in ("a", "b"):
            picture(tmp_path / split / f"{name}.jpg")
        (tmp_path / f"{split}.txt").write_text("a.jpg x\nb.jpg y\n" if split == "train" else "a.jpg y\nb.jpg y\n")
    flags = {
        f"{split}_labels": str(tmp_path / f"{folder}.txt")
        for split, folder in (("train", "train"), ("validation", "val"), ("test", "test"))
    }
    task = TaskFlags(data=str(tmp_path), **flags).open("stretch")
    assert {split: images.name for split, images in task.splits.items()} == {
        "train": str(tmp_path / "train"),
        "validation": str(tmp_path / "val"),
        "test": str(tmp_path / "test"),
    }
    assert [task.labelled[split].labels.tolist() for split in ("train", "validation", "test")] == [
        [0, 1],
        [1, 1],
        [1, 1],
    ]
    (tmp_path / "val").rename(tmp_path / "else")
    del flags["validation_labels"]
    task = TaskFlags(data=str(tmp_path), **flags).open("stretch")
    assert {split: Path(images.name).name for split, images in task.splits.items()} == {
        "train": "train",
        "test": "test",
    }
    devkit = str(imagenet / "ILSVRC2012_devkit_t12")
    assert TaskFlags(data=str(imagenet), labels=devkit).open("stretch").labelled["test"].labels.tolist() == [
        2,
        0,
        0,
        1,
        2,
    ]
    with pytest.raises(InfoscopeError, match="--labels is of all splits"):
        TaskFlags(data=str(tmp_path), labels="folder", **flags).open("stretch")
    with pytest.raises(InfoscopeError, match="--validation-labels: there are no validation images"):
        TaskFlags(data=str(tmp_path), validation_labels="folder", **flags).open("stretch")


def test_imagenette(imagenette):
    train, val = share_classes(open_labelled(imagenette / "train"), open_labelled(imagenette / "val"))
    assert train.classes == val.classes
    assert np.bincount(train.labels).tolist() == [300] * 10
    assert np.bincount(val.labels).tolist() == [100] * 10
