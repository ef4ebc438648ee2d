"""Class names and prompt templates from every kind of file, and what is refused."""

import json

import numpy as np
import pytest
from scipy.io import savemat

from infoscope.analyses.zeroshot.classes import Classes, classes_of_labels, read_classes, read_templates
from infoscope.errors import InfoscopeError

SYNSETS = {"n01440764": "tench, Tinca tinca", "n03028079": "church, church building", "n02012849": "crane"}


def test_names_a_line_are_taken_in_order_of_the_folders_and_a_note_says_so(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("tench\n\n church \n")
    classes = read_classes(file)
    assert (classes.names, classes.folders) == (("tench", "church"), None)
    found, note = classes.match(["n01440764", "n03028079"])
    assert found.tolist() == [0, 1]
    assert note.endswith("its names are taken in the order of the images' labels, n01440764 to n03028079")
    # Labels that are called as the classes are need no order, and need not all be there.
    found, note = classes.match(["church", "tench", "cat"])
    assert (found.tolist(), note) == ([1, 0, -1], None)
    assert classes.match(["a", "b", "c"])[0].tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("folders.json", json.dumps({folder: words.split(",")[0] for folder, words in SYNSETS.items()})),
        ("LOC_synset_mapping.txt", "\n".join(f"{folder} {words}" for folder, words in SYNSETS.items())),
        (
            "imagenet_class_index.json",
            json.dumps({str(n): [folder, words.split(",")[0]] for n, (folder, words) in enumerate(SYNSETS.items())}),
        ),
    ],
)
def test_folders_are_named_by_a_file(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    classes = read_classes(tmp_path / name)
    assert classes.folders == ("n01440764", "n02012849", "n03028079")
    assert classes.names == ("tench", "crane", "church")
    found, note = classes.match(["n03028079", "n01440764"])
    assert (found.tolist(), note) == ([2, 0], None)


def test_the_devkit_names_imagenets_folders(tmp_path):
    """As ILSVRC2012_devkit_t12/data/meta.mat is laid out: leaves first, then the synsets above them."""
    rows = [*SYNSETS.items(), ("n00015388", "animal, animate being")]
    kind = [
        ("ILSVRC2012_ID", object),
        ("WNID", object),
        ("words", object),
        ("gloss", object),
        ("num_children", object),
        ("children", object),
        ("wordnet_height", object),
        ("num_train_images", object),
    ]
    synsets = np.empty((len(rows), 1), kind)
    for place, (wnid, words) in enumerate(rows):
        children = 0 if wnid in SYNSETS else 2
        synsets[place, 0] = (place + 1, wnid, words, "said of it", children, np.arange(children), 0, 1300)
    (tmp_path / "data").mkdir()
    savemat(tmp_path / "data" / "meta.mat", {"synsets": synsets})
    for source in (tmp_path, tmp_path / "data", tmp_path / "data" / "meta.mat"):
        classes = read_classes(source)
        assert classes.folders == ("n01440764", "n02012849", "n03028079")
        assert classes.names == ("tench", "crane", "church")


def test_labels_name_classes_unless_they_are_wordnet_ids():
    classes = classes_of_labels(["church", "garbage_truck"])
    assert (classes.names, classes.folders) == (("church", "garbage truck"), ("church", "garbage_truck"))
    with pytest.raises(InfoscopeError, match="n01440764 is a WordNet id, not a name: give --classes"):
        classes_of_labels(["church", "n01440764"])


def test_two_classes_of_one_name_are_told():
    classes = Classes(("crane", "church", "crane"), ("n02012849", "n03028079", "n03126707"))
    assert classes.shared_names == ["crane"]
    assert classes.match(["n03126707", "n02012849"])[0].tolist() == [2, 0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "names 0 classes: a choice needs at least two"),
        ("a.txt", "cat\n", "names 1 classes"),
        ("a.json", "3", "neither a list of names nor an object from folder to name"),
        ("a.json", '{"a": 3}', "neither a list of names nor an object"),
        ("a.json", "[", "is not JSON"),
        ("a.json", '["cat", " "]', "class 1 has an empty name"),
        ("a.txt", "n00000001 cat\nn00000001 dog\n", "names the folder n00000001 twice"),
        ("a.mat", "not MATLAB", "is not the devkit's list of classes"),
    ],
)
def test_a_file_that_names_no_classes_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InfoscopeError, match=message):
        read_classes(tmp_path / name)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InfoscopeError, match=r"cannot read .*none.txt: No such file"):
        read_classes(tmp_path / "none.txt")
    with pytest.raises(InfoscopeError, match=r"holds no meta.mat"):
        read_classes(tmp_path)
    (tmp_path / "photo.txt").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(InfoscopeError, match="is not a text file"):
        read_classes(tmp_path / "photo.txt")


def test_templates_are_read_from_files(tmp_path):
    (tmp_path / "t.txt").write_text("a photo of a {}.\n\na drawing of {}\n")
    (tmp_path / "t.json").write_text('["a photo of a {}.", "a drawing of {}"]')
    for name in ("t.txt", "t.json"):
        assert read_templates(tmp_path / name) == ("a photo of a {}.", "a drawing of {}")
    assert read_templates("siglip") == ("This is a photo of {}.",)


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "holds no prompt templates"), ("a photo", "needs {} once"), ("{} and {}", "needs {} once")],
)
def test_templates_without_a_place_for_the_name_are_refused(tmp_path, content, message):
    (tmp_path / "t.txt").write_text(content)
    with pytest.raises(InfoscopeError, match=message):
        read_templates(tmp_path / "t.txt")
