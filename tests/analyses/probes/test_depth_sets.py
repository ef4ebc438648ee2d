"""Depth sets: NYU's two layouts as they are published, any depth maps, holes, crops, and what is refused."""

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from infoscope.analyses.probes.depth import measure_depths
from infoscope.analyses.probes.depth_sets import eigen_crop, open_depths, open_nyu
from infoscope.analyses.probes.nyu_labelled import MOST_IN_BLOCK, NyuImages
from infoscope.analyses.probes.targets import DenseTargets
from infoscope.errors import InfoscopeError, UnreadableImageError
from infoscope.images.source import ImageSource, ids_sha256
from layouts import COLUMNS, IMAGES, ROWS, TEST, TRAIN, write_labelled

h5py = pytest.importorskip("h5py")


@pytest.fixture(scope="module")
def nyu(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nyu")
    return folder, *write_labelled(folder)


def test_the_official_split(nyu):
    folder, images, depths, _ = nyu
    train, test = (
        open_nyu(folder, "train", crop="none"),
        open_nyu(folder / "nyu_depth_v2_labeled.mat", "test", crop="none"),
    )
    assert isinstance(train, DenseTargets)
    assert isinstance(train.images, ImageSource)
    assert train.classes == ()
    # MATLAB numbers from 1; ids are rows from 0.
    assert list(train.images.ids) == ["0", "2", "3", "7"]
    assert list(test.images.ids) == ["1", "4", "5", "6", "8"]
    for split, numbers in ((train, TRAIN), (test, TEST)):
        assert len(split) == len(split.images) == len(numbers)
        for index, number in enumerate(numbers):
            np.testing.assert_array_equal(np.asarray(split.images[index]), images[..., number - 1])
            np.testing.assert_array_equal(split.target(index), depths[..., number - 1])
            assert split.target(index).dtype == np.float32
    assert len(open_nyu(folder)) == IMAGES
    assert ids_sha256(train.images) != ids_sha256(test.images)


def test_raw_depths_have_holes(nyu):
    folder, _, depths, _ = nyu
    raw = open_nyu(folder, "test", field="rawDepths", crop="none")
    target = raw.target(0)
    assert (target[::3] == 0).all()
    np.testing.assert_array_equal(target[1::3], depths[1::3, :, TEST[0] - 1])


def test_chunks_that_span_images_are_read_once(nyu, tmp_path, monkeypatch):
    _, images, depths, _ = nyu
    write_labelled(tmp_path, chunks=4)
    found = open_nyu(tmp_path, crop="none")
    reads = []
    whole = h5py.Dataset.__getitem__
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda self, key: reads.append(key) or whole(self, key))
    for index in range(IMAGES):
        np.testing.assert_array_equal(np.asarray(found.images[index]), images[..., index])
    assert len(reads) == 3
    assert MOST_IN_BLOCK >= 4
    with ThreadPoolExecutor(4) as executor:
        for index, target in enumerate(executor.map(found.target, range(IMAGES))):
            np.testing.assert_array_equal(target, depths[..., index])


def test_the_labelled_set_goes_to_other_processes(nyu):
    folder, images, *_ = nyu
    split = open_nyu(folder, "test")
    copy = pickle.loads(pickle.dumps(split))
    np.testing.assert_array_equal(copy.target(3), split.target(3))
    np.testing.assert_array_equal(np.asarray(copy.images[3]), images[..., TEST[3] - 1])
    assert copy.images.stamp() == split.images.stamp()
    assert copy.images.fingerprint == split.images.fingerprint


def test_what_is_of_the_other_layout_is_refused(nyu, scenes):
    with pytest.raises(InfoscopeError, match=r"a list of frames .* says nothing of .*labeled.mat: leave it out"):
        open_nyu(nyu[0], "train", listed=scenes / "list.txt")
    with pytest.raises(InfoscopeError, match=r"the field rawDepths is of the labelled .mat, and .* holds frames"):
        open_nyu(scenes / "sync", field="rawDepths")
    with pytest.raises(InfoscopeError, match=r"the official split .*splits.mat is of the labelled .mat"):
        open_nyu(scenes / "sync", splits=nyu[0] / "splits.mat")


def test_what_is_not_the_labelled_set(nyu, tmp_path, monkeypatch):
    folder = nyu[0]
    write_labelled(tmp_path / "a")
    (tmp_path / "a" / "splits.mat").unlink()
    with pytest.raises(InfoscopeError, match=r"no .*splits.mat: the split train .* fetch it, or give its path"):
        open_nyu(tmp_path / "a", "train")
    assert len(open_nyu(tmp_path / "a", "train", splits=folder / "splits.mat")) == len(TRAIN)
    for content, message in (
        ({"trainNdxs": [1], "testNdxs": [10]}, "names image 10 of 9"),
        ({"trainNdxs": [0], "testNdxs": [2]}, "names image 0 of 9"),
        ({"trainNdxs": [1, 2], "testNdxs": [2]}, "has image 2 in both splits"),
        ({"trainNdxs": [1, 2], "testNdxs": []}, "the split test has no images"),
        ({"train": [1, 2]}, r"is not NYU's list of splits \(trainNdxs, testNdxs\)"),
    ):
        savemat(tmp_path / "other.mat", content)
        with pytest.raises(InfoscopeError, match=message):
            open_nyu(folder, "train", splits=tmp_path / "other.mat")
    with pytest.raises(InfoscopeError, match=r"other.mat is no MATLAB 7.3 file \(HDF5\)"):
        open_nyu(tmp_path / "other.mat")
    with h5py.File(tmp_path / "empty.mat", "w") as opened:
        opened["images"] = np.zeros((2, 3, 4), np.uint8)
    with pytest.raises(InfoscopeError, match=r"images in .* has the shape \(2, 3, 4\)"):
        open_nyu(tmp_path / "empty.mat")
    with h5py.File(tmp_path / "none.mat", "w") as opened:
        opened["images"] = np.zeros((2, 3, 4, 5), np.uint8)
    with pytest.raises(InfoscopeError, match="has no depths, which NYU's labelled file has"):
        open_nyu(tmp_path / "none.mat")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InfoscopeError, match=r"install infoscope\[nyu\]"):
        open_nyu(folder)


def test_a_damaged_block_of_photographs_is_skipped(tmp_path):
    write_labelled(tmp_path, chunks=1)
    file = tmp_path / "nyu_depth_v2_labeled.mat"
    with h5py.File(file) as opened:
        place = opened["images"].id.get_chunk_info(4)
    with file.open("r+b") as opened:
        opened.seek(place.byte_offset)
        opened.write(bytes(place.size))
    images = NyuImages(file, [3, 4, 5])
    with pytest.raises(UnreadableImageError, match="image 4: "):
        images[1]
    assert images[2].size == (COLUMNS, ROWS)


def test_eigen_crop_in_target_and_layout(nyu):
    folder, _, depths, _ = nyu
    found = open_nyu(folder, "train")
    inside = eigen_crop(ROWS, COLUMNS)
    np.testing.assert_array_equal(found.target(1), np.where(inside, depths[..., TRAIN[1] - 1], 0))
    assert 0 < inside.sum() < inside.size
    # The crop is of the whole photograph, and the centre square is taken of what is left.
    square = open_nyu(folder, "train", resize="crop").target(1)
    np.testing.assert_array_equal(square, found.target(1)[:, 4:28])


def test_eigen_crop_is_scaled():
    full = eigen_crop(480, 640)
    assert full[45:471, 41:601].all()
    assert full.sum() == 426 * 560
    half = eigen_crop(240, 320)
    # 22.5 to 235.5 rows and 20.5 to 300.5 columns, rounded.
    assert np.flatnonzero(half.any(1))[[0, -1]].tolist() == [22, 235]
    assert np.flatnonzero(half.any(0))[[0, -1]].tolist() == [20, 299]


def frame(folder, name, depth, size=(ROWS, COLUMNS)):
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1]).save(folder / f"rgb_{name}.jpg")
    Image.fromarray(depth).save(folder / f"sync_depth_{name}.png")


@pytest.fixture
def scenes(tmp_path):
    """The usual folders of NYU's frames, in millimetres."""
    for scene, name, depth in (("kitchen_0028b", "00045", 3000), ("basement_0001a", "00000", 1500)):
        frame(tmp_path / "sync" / scene, name, np.full((ROWS, COLUMNS), depth, np.uint16))
    (tmp_path / "list.txt").write_text(
        "/kitchen_0028b/rgb_00045.jpg /kitchen_0028b/sync_depth_00045.png 518.8579\n"
        "/basement_0001a/rgb_00000.jpg /basement_0001a/sync_depth_00000.png 518.8579\n"
    )
    return tmp_path


@pytest.mark.parametrize("listed", [True, False])
def test_nyus_frames(scenes, listed):
    found = open_nyu(scenes / "sync", listed=scenes / "list.txt" if listed else None)
    assert list(found.images.ids) == ["basement_0001a/rgb_00000.jpg", "kitchen_0028b/rgb_00045.jpg"]
    inside = eigen_crop(ROWS, COLUMNS)
    for index, metres in ((0, 1.5), (1, 3.0)):
        np.testing.assert_array_equal(found.target(index), np.where(inside, np.float32(metres), 0))
    counts = measure_depths(found)
    assert counts.mean == 2.25
    assert counts.pixels == 2 * inside.sum()
    assert counts.holes == 2 * (~inside).sum()


def test_a_split_of_frames(scenes):
    with pytest.raises(InfoscopeError, match=r"which frames of .*sync are of the split test\?"):
        open_nyu(scenes / "sync", "test")
    lines = (scenes / "list.txt").read_text().splitlines()
    (scenes / "nyudepthv2_test_files_with_gt.txt").write_text(lines[0])
    (scenes / "sync" / "nyudepthv2_train_files_with_gt.txt").write_text(lines[1])
    assert list(open_nyu(scenes / "sync", "test").images.ids) == ["kitchen_0028b/rgb_00045.jpg"]
    assert list(open_nyu(scenes / "sync", "train").images.ids) == ["basement_0001a/rgb_00000.jpg"]
    frame(scenes / "sync" / "test" / "bathroom", "00001", np.full((ROWS, COLUMNS), 900, np.uint16))
    assert list(open_nyu(scenes / "sync", "test").images.ids) == ["bathroom/rgb_00001.jpg"]


def test_lists_that_do_not_fit(scenes):
    file = scenes / "list.txt"
    for text, message in (
        ("a.jpg\n", r"line 1 of .*list.txt names no depth map"),
        ("kitchen_0028b/rgb_00045.jpg None 518.8\n", r"line 1 of .*list.txt names no depth map"),
        ("\n", "is empty"),
        ("kitchen_0028b/rgb_00045.jpg x.png\n", r"names x.png, which is not in .*sync: give the folder"),
        (
            "kitchen_0028b/rgb_00045.jpg a.png\nkitchen_0028b/rgb_00045.jpg b.png\n",
            r"line 2 of .*: kitchen_0028b/rgb_00045.jpg has the depth map a.png already",
        ),
    ):
        file.write_text(text)
        with pytest.raises(InfoscopeError, match=message):
            open_nyu(scenes / "sync", listed=file)
    with pytest.raises(InfoscopeError, match="cannot read the list"):
        open_nyu(scenes / "sync", listed=scenes / "nowhere.txt")
    (scenes / "sync" / "kitchen_0028b" / "sync_depth_00045.png").unlink()
    with pytest.raises(InfoscopeError, match=r"rgb_00045.jpg has no sync_depth_00045.png beside it"):
        open_nyu(scenes / "sync")
    (scenes / "other").mkdir()
    with pytest.raises(InfoscopeError, match=r"holds neither nyu_depth_v2_labeled.mat nor frames"):
        open_nyu(scenes / "other")
    with pytest.raises(InfoscopeError, match="no such file or folder"):
        open_nyu(scenes / "nowhere")


def stored(folder, name, depth):
    folder.mkdir(parents=True, exist_ok=True)
    if name.endswith(".npy"):
        np.save(folder / name, depth)
    else:
        Image.fromarray(depth).save(folder / name)


@pytest.fixture
def one(tmp_path):
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (6, 4)).save(tmp_path / "pictures" / "a.png")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "dtype", "factor", "scale"),
    [
        ("a.png", np.uint16, 1000, None),
        ("a.png", np.uint16, 5000, 5000.0),
        ("a.tif", np.float32, 1, None),
        ("a.npy", np.float32, 1, None),
        ("a.npy", np.float64, 256, 256.0),
        ("a.npy", np.int32, 1000, None),
    ],
)
def test_kinds_of_depth_maps(one, name, dtype, factor, scale):
    metres = np.arange(1, 25).reshape(4, 6) / 4
    stored(one / "depths", name, (metres * factor).astype(dtype))
    found = open_depths(one / "pictures", one / "depths", depth_scale=scale)
    np.testing.assert_allclose(found.target(0), metres, rtol=1e-6)
    assert found.target(0).dtype == np.float32


def test_every_kind_of_hole(one):
    depth = np.full((4, 6), 2.0, np.float32)
    depth[0] = [0, np.nan, np.inf, -np.inf, -1, 10.5]
    depth[1, :3] = [0.001, 10.0, 0.0011]
    stored(one / "depths", "a.npy", depth)
    target = open_depths(one / "pictures", one / "depths").target(0)
    assert target[0].tolist() == [0] * 6
    assert target[1].tolist() == pytest.approx([0, 0, 0.0011, 2, 2, 2])
    far = open_depths(one / "pictures", one / "depths", most=80.0).target(0)
    assert far[0].tolist() == [0] * 5 + [10.5]
    with pytest.raises(InfoscopeError, match="are no range"):
        open_depths(one / "pictures", one / "depths", least=5.0, most=2.0)


def test_what_is_no_depth_map(one):
    for name, depth, message in (
        ("a.png", np.zeros((4, 6), np.uint8), r"8-bit or coloured pixels \(mode L\)"),
        ("a.png", np.zeros((4, 6, 3), np.uint8), r"8-bit or coloured pixels \(mode RGB\)"),
        (
            "a.png",
            np.full((4, 7), 900, np.uint16),
            r"the depth map .*a.png has 7 x 4 pixels, its photograph a.png has 6 x 4",
        ),
        ("a.png", np.zeros((4, 6), np.uint16), r"a.png is all holes between 0.001 and 10 m: it has no depths at all"),
        ("a.png", np.full((4, 6), 60000, np.uint16), r"all holes .*: its depths are 60 to 60 m; check --depth-scale"),
        ("a.npy", np.zeros((4, 6, 3), np.float32), r"a.npy is float32 \(4, 6, 3\), not numbers \[row, column\]"),
        ("a.npy", np.array([{}]), "cannot read the depth map .*a.npy"),
    ):
        for file in (one / "depths").glob("*"):
            file.unlink()
        stored(one / "depths", name, depth)
        with pytest.raises(InfoscopeError, match=message):
            open_depths(one / "pictures", one / "depths").target(0)
    (one / "depths" / "a.npy").unlink()
    (one / "depths" / "a.png").write_bytes(b"no picture")
    with pytest.raises(InfoscopeError, match=r"cannot read the depth map .*a.png: .*move it and its photograph away"):
        open_depths(one / "pictures", one / "depths").target(0)
    with pytest.raises(InfoscopeError, match="which depth maps are those of"):
        open_depths(one / "pictures")
    with pytest.raises(InfoscopeError, match=r"--depth-scale 0 is out of range"):
        open_depths(one / "pictures", one / "depths", depth_scale=0.0)
    (one / "depths" / "a.png").rename(one / "depths" / "b.png")
    with pytest.raises(InfoscopeError, match=r"1 of 1 photographs in .* have no depth map"):
        open_depths(one / "pictures", one / "depths")
