"""Segmentation and depth from Python on tiny folders, ranges beyond ten metres, and scores that there are not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import infoscope
from dense_data import Maps, depths, segments
from infoscope.analyses.probes.reading import DenseFeatures
from infoscope.analyses.probes.store import FeatureStore, StoredArray
from infoscope.analyses.probes.tasks import TaskFlags
from infoscope.errors import InfoscopeError

FAR = 50.0


def stored(path, task, seed, skipped=()):
    """Features of all splits, as a variant has them."""
    random = np.random.default_rng(seed)
    stores = {}
    for split, images in task.splits.items():
        stores[split] = FeatureStore(path / split, len(images), {"patches": StoredArray((16, 4), "float32")})
        left_out = {at: "is cut short" for at in skipped if split == "train"}
        count = len(images) - len(left_out)
        stores[split].write(0, {"patches": random.standard_normal((count, 16, 4)).astype(np.float32)})
        stores[split].finished(len(images), left_out)
    return stores


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Photographs, masks of three classes and depths to 50 m, in two splits."""
    root = tmp_path_factory.mktemp("dense")
    random = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 2)):
        for kind in ("images", "masks", "depths"):
            (root / split / kind).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / split / "images" / f"{number}.png")
            Image.fromarray(np.uint8(pixels[..., 0] % 3)).save(root / split / "masks" / f"{number}.png")
            metres = random.uniform(1, FAR - 1, (12, 16)).astype(np.float32)
            np.save(root / split / "depths" / f"{number}.npy", metres)
    return root


def of_split(folders, split, kind):
    return folders / split / "images", folders / split / kind


@pytest.fixture(scope="module")
def segmentation(folders):
    train = infoscope.open_masks(*of_split(folders, "train", "masks"))
    return infoscope.segmentation_task(
        train, infoscope.open_masks(*of_split(folders, "test", "masks"), classes=train.classes)
    )


@pytest.fixture(scope="module")
def depth(folders):
    return infoscope.depth_task(
        *(infoscope.open_depths(*of_split(folders, split, "depths"), most=FAR) for split in ("train", "test"))
    )


def test_tasks_are_made_from_python(segmentation, depth):
    assert segmentation.classes == ("0", "1", "2")
    assert segmentation.check().notes == depth.check().notes == ()
    assert {split: len(images) for split, images in depth.splits.items()} == {"train": 3, "test": 2}
    assert depth.describe()["splits"]["test"]["range"] == [0.001, FAR]


def test_what_lies_beyond_ten_metres_is_predicted_there(depth):
    def far(images, seed):
        features, maps = depths(images, seed)
        return DenseFeatures(features.patches), Maps(5 * each for each in maps)

    pairs = {"train": far(12, 0), "test": far(4, 1)}
    score = depth.score(pairs, depth.recipes["simple"], torch.device("cpu"), 0)
    truth = np.concatenate([each[each > 0] for each in pairs["test"][1]])
    assert (truth > 10).mean() > 0.5
    # Clipped to 10 m, no head could do better than this.
    clipped = np.sqrt((np.clip(truth - 10, 0, None) ** 2).mean())
    assert score.test["RMSE"] < 0.7 * clipped


def test_splits_of_other_ranges_are_refused(folders):
    train, test = (
        infoscope.open_depths(*of_split(folders, split, "depths"), most=most)
        for split, most in (("train", FAR), ("test", 10.0))
    )
    with pytest.raises(InfoscopeError, match=r"from 0\.001 to 10 m in the test split and from 0\.001 to 50 m"):
        infoscope.depth_task(train, test)


def test_flags_of_depth_reach_the_data(folders, tmp_path):
    images, targets = of_split(folders, "train", "depths")
    of_test = {"test": str(folders / "test" / "images"), "test_targets": folders / "test" / "depths"}
    flags = TaskFlags("depth", train=str(images), train_targets=targets, **of_test)
    plain = flags.open("stretch").targets["test"]
    assert (plain.least, plain.most, plain.crop) == (0.001, 10.0, "none")
    own = replace(flags, least_depth=2.0, most_depth=40.0, crop="eigen").open("stretch").targets["test"]
    assert (own.least, own.most, own.crop) == (2.0, 40.0, "eigen")
    found = own.target(0)
    assert not found[:, 0].any()
    assert found[found > 0].min() > 2
    with pytest.raises(InfoscopeError, match=r"depths from 0\.001 to inf m are no range"):
        replace(flags, most_depth=float("inf")).open("stretch")
    with pytest.raises(InfoscopeError, match="--least-depth and --most-depth are of --train"):
        TaskFlags("depth", data=str(tmp_path), most_depth=40.0).open("stretch")


def test_nyus_flags_reach_the_data(tmp_path):
    pytest.importorskip("h5py")
    from layouts import TEST, write_labelled

    _, filled, raw = write_labelled(tmp_path)
    row = TEST[0] - 1
    for field, values in (("depths", filled), ("rawDepths", raw)):
        targets = TaskFlags("depth", data=str(tmp_path), nyu_depths=field, crop="none").open("stretch").targets
        np.testing.assert_array_equal(targets["test"].target(0), values[..., row])
    assert targets["train"].depths.form == "rawDepths"


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_score_of_no_pixel_is_refused(segmentation, depth, split):
    said = {"validation": "the validation .* no held-out pixel counts", "test": "the test .* no test pixel counts"}[
        split
    ]
    for task, make, hole in ((segmentation, segments, 255), (depth, depths, 0)):
        pairs = {"train": make(6), "validation": make(2, seed=1), "test": make(2, seed=2)}
        features, maps = pairs[split]
        pairs[split] = features, Maps(np.full_like(each, hole) for each in maps)
        with pytest.raises(InfoscopeError, match=said):
            task.score(pairs, task.recipes["simple"], torch.device("cpu"), 0)


@pytest.mark.parametrize("name", ["segmentation", "depth"])
def test_training_targets_are_read_once_for_all_variants(name, request, probed, tmp_path, monkeypatch):
    task = replace(request.getfixturevalue(name))
    train, recipe, reads = task.targets["train"], task.recipes["simple"], []
    read = type(train).target

    def counted(self, index):
        reads.extend([index] if self is train else [])
        return read(self, index)

    monkeypatch.setattr(type(train), "target", counted)
    for variant in range(3):
        # A photograph could not be read for the last variant: what was kept would be of other photographs.
        features = stored(tmp_path / str(variant), task, variant, skipped=(1,) if variant == 2 else ())
        reads.clear()
        found = task.fit(features, recipe, probed, seed=0)
        # The choice is made on the pixels of one held-out image, which are read each time.
        assert (len(reads) == 1) == (variant == 1)
        assert found == replace(task).fit(features, recipe, probed, seed=0)
