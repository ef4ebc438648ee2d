"""The tasks that there are, and splits that are the same images."""

from typing import get_args

import numpy as np
import pytest

from infoscope.analyses.probes.recipes import RECIPES
from infoscope.analyses.probes.task import refuse_shared
from infoscope.analyses.probes.tasks import TASKS, TaskName, find_task
from infoscope.errors import InfoscopeError
from infoscope.images.source import open_images
from layouts import picture


def test_every_task_that_can_be_named_is_there_with_every_recipe():
    assert tuple(TASKS) == get_args(TaskName)
    for name in TASKS:
        task = find_task(name)
        assert task.name == name
        assert task.metric in task.units
        assert task.recipes.keys() == RECIPES.keys()


@pytest.fixture
def folders(tmp_path, monkeypatch):
    for split in ("train", "other", "test"):
        for number in range(3):
            picture(tmp_path / split / "a" / f"{number}.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("train", "validation", "test", "said"),
    [
        ("train", "other", "./train", "both the train and the test split: name other images to test on"),
        ("train", "{root}/other/../train", "test", "both the train and the validation split: .* or leave it out"),
        ("train", "test/", "{root}/test", "both the validation and the test split"),
    ],
)
def test_one_folder_under_two_names_is_refused(folders, train, validation, test, said):
    named = {"train": train, "test": test, "validation": validation}
    splits = {split: open_images(name.replace("{root}", str(folders))) for split, name in named.items()}
    with pytest.raises(InfoscopeError, match=said):
        refuse_shared(splits)


def test_other_images_are_not_the_same(folders):
    # Files of the same names in several folders; arrays of one name and other pixels; a part of the same folder.
    refuse_shared({split: open_images(split) for split in ("train", "test", "other")})
    pixels = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    refuse_shared({"train": open_images(pixels), "test": open_images(pixels + 1)})
    with pytest.raises(InfoscopeError, match="arrays is both the train and the test split"):
        refuse_shared({"train": open_images(pixels), "test": open_images(pixels.copy())})
    whole = open_images("train")
    refuse_shared({"train": whole.subset([0, 1]), "test": whole.subset([2])})


def test_splits_that_share_some_images_are_refused_with_one_of_them(folders):
    (folders / "link").symlink_to(folders / "train")
    whole, linked = open_images("train"), open_images("link/a")
    with pytest.raises(InfoscopeError, match=r"train and the test split share 1 images \(the first: .*train/a/1.jpg\)"):
        refuse_shared({"train": whole.subset([0, 1]), "test": whole.subset([1, 2])})
    with pytest.raises(InfoscopeError, match=r"train and the validation split share 3 images .*leave it out"):
        refuse_shared({"train": whole, "test": open_images("other"), "validation": linked})
    (folders / "links").mkdir()
    (folders / "links" / "0.jpg").symlink_to(folders / "train" / "a" / "2.jpg")
    with pytest.raises(InfoscopeError, match=r"share 1 images \(the first: .*train/a/2.jpg\)"):
        refuse_shared({"train": whole, "test": open_images("links")})
