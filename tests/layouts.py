"""Data sets in miniature, in the layouts in which they are published."""

import numpy as np
from PIL import Image
from scipy.io import savemat

WNIDS = ["n01440764", "n02102040", "n03000684"]
ROWS, COLUMNS, IMAGES = 24, 32, 9
TRAIN, TEST = [1, 3, 4, 8], [2, 5, 6, 7, 9]


def write_labelled(folder, chunks=None):
    """The labelled set as MATLAB writes it: HDF5 after a block of its own, every array the other way round."""
    import h5py

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (ROWS, COLUMNS, 3, IMAGES), dtype=np.uint8)
    depths = rng.uniform(0.7, 9.9, (ROWS, COLUMNS, IMAGES)).astype(np.float32)
    raw = depths.copy()
    raw[::3] = 0
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "nyu_depth_v2_labeled.mat"
    with h5py.File(file, "w", userblock_size=512) as opened:
        for name, array in (("images", images), ("depths", depths), ("rawDepths", raw)):
            kept = None if chunks is None else (chunks, *array.T.shape[1:])
            data = opened.create_dataset(name, data=array.T, chunks=kept, compression=chunks and "gzip")
            data.attrs["MATLAB_class"] = np.bytes_(array.dtype.name)
        opened["labels"] = np.zeros((IMAGES, COLUMNS, ROWS), np.uint16)
    with file.open("r+b") as opened:
        opened.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    savemat(folder / "splits.mat", {"trainNdxs": np.array(TRAIN)[:, None], "testNdxs": np.array(TEST)[:, None]})
    return images, depths, raw


def picture(path, shade=0, side=6):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (shade, 0, 0)).save(path, "JPEG")


def write_devkit(folder, truth, ids=(3, 1, 2)):
    """The devkit's two files as they are published: a struct array with the inner nodes after the classes."""
    fields = ["ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height"]
    synsets = np.zeros((len(WNIDS) + 1, 1), dtype=[(field, object) for field in [*fields, "num_train_images"]])
    rows = [(number, wnid, f"{wnid} in words", "", 0, [], 0, 1300) for number, wnid in zip(ids, WNIDS, strict=True)]
    rows.append((4, "n00001740", "entity", "", 3, [1, 2, 3], 5, 0))
    for place, row in enumerate(rows):
        synsets[place, 0] = row
    folder.mkdir(parents=True)
    savemat(folder / "meta.mat", {"synsets": synsets})
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{number}\n" for number in truth))
