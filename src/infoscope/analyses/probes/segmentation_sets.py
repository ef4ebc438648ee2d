"""Data sets for segmentation: ADE20K, CamVid, and any folders of images and masks."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from jaxtyping import Int32, Integer, Shaped
from PIL import Image

from infoscope.analyses.probes.pairs import check_size, pair_folders
from infoscope.analyses.probes.targets import IGNORE, MOST_CLASSES, ignore_value, lay_out
from infoscope.errors import InfoscopeError, UnreadableImageError
from infoscope.images.classes import read_class_list
from infoscope.images.decode import as_stored
from infoscope.images.folder import FileSource
from infoscope.images.prefetch import decode_threads
from infoscope.images.stored import StoredIn
from infoscope.options import Resize
from infoscope.runtime.progress import progress
from infoscope.runtime.text import read_lines

GREATEST = 65535
UNKNOWN = -1
# Wrong numbers are named up to here.
NAMED = 5
LOSSY = frozenset({"JPEG", "JPEG2000", "WEBP", "AVIF"})


@dataclass(frozen=True)
class Coding:
    """How the numbers in mask files stand for classes.

    Attributes:
        ignore: numbers in the files that do not count.
        reduce_zero_label: 0 does not count either, and class 0 is written as 1.

    Example:
        >>> Coding(reduce_zero_label=True).decode(np.array([[0, 1, 150, 255]]), 150, "x.png")
        array([[255,   0, 149, 255]], dtype=uint8)
    """

    ignore: tuple[int, ...] = (IGNORE,)
    reduce_zero_label: bool = False

    def decode(
        self, values: Integer[np.ndarray, "row column"], classes: int, file: str
    ) -> Integer[np.ndarray, "row column"]:
        """Class numbers from 0, with `ignore_value` for what does not count.

        Raises:
            InfoscopeError: a number is neither a class nor ignored.
        """
        table = _table(self, classes)
        # The table has an entry for each number that 16 bits hold; others are looked up at its end and refused below.
        inside = (values >= 0) & (values <= GREATEST)
        decoded = table[np.where(inside, values, GREATEST)]
        unknown = (decoded == UNKNOWN) | ~inside
        if unknown.any():
            numbers = np.unique(values[unknown]).tolist()
            more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
            first = int(self.reduce_zero_label)
            raise InfoscopeError(
                f"{file} has the number{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers[:NAMED]))}{more}, "
                f"but {classes} classes are numbered {first} to {first + classes - 1}: give the number that does not "
                "count (--ignore-index), --reduce-zero-label where 0 does not, or the names of all classes"
            )
        return decoded.astype(np.uint8 if ignore_value(classes) == IGNORE else np.uint16)


@cache
def _table(coding: Coding, classes: int) -> Int32[np.ndarray, " number"]:
    """The class of each number in a file."""
    number = np.arange(GREATEST + 1, dtype=np.int32)
    table = number - int(coding.reduce_zero_label)
    table[(table < 0) | (table >= classes)] = UNKNOWN
    ignored = [one for one in coding.ignore if 0 <= one <= GREATEST] + [0] * coding.reduce_zero_label
    table[ignored] = ignore_value(classes)
    table.setflags(write=False)
    return table


def read_mask(file: str) -> Shaped[np.ndarray, "row column"]:
    """The numbers in a mask: of a palette picture its indices, of a grey one its values, of 8 or 16 bits.

    Raises:
        InfoscopeError: the file cannot be read, has colours in place of numbers, or was compressed with loss.
    """

    def stored(image: Image.Image) -> tuple[str | None, str, Shaped[np.ndarray, "row column"] | None]:
        plain = image.mode in ("1", "L", "P", "I") or image.mode.startswith("I;16")
        return image.format, image.mode, np.asarray(image) if plain else None

    try:
        kind, mode, values = as_stored(Path(file), stored)
    except UnreadableImageError as error:
        raise InfoscopeError(
            f"cannot read the mask {file}: {error}; restore it, or move it and its photograph away"
        ) from error
    if values is None:
        raise InfoscopeError(
            f"the mask {file} is coded in colours (mode {mode}), and probes need class numbers: save each pixel's "
            "class number as a grey or palette PNG"
        )
    if kind in LOSSY:
        raise InfoscopeError(
            f"the mask {file} is a {kind}, which may change class numbers: save masks as PNG, from where they are whole"
        )
    return values.astype(np.int32)


def numbers_in(files: Sequence[str]) -> list[int]:
    """All numbers that occur in masks, ascending.

    Raises:
        InfoscopeError: as for `read_mask`.
    """
    seen = np.zeros(GREATEST + 1, bool)
    executor = ThreadPoolExecutor(decode_threads(), thread_name_prefix="masks")
    try:
        with progress("Looking for classes", len(files), "masks") as advance:
            for file, numbers in zip(files, executor.map(lambda file: np.unique(read_mask(file)), files), strict=True):
                if len(numbers) and not (numbers[0] >= 0 and numbers[-1] <= GREATEST):
                    raise InfoscopeError(
                        f"the mask {file} has numbers below 0 or above {GREATEST}: no class numbers"
                        "; save each pixel's class number"
                    )
                seen[numbers] = True
                advance()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
    return np.flatnonzero(seen).tolist()


def classes_from(numbers: Sequence[int], coding: Coding) -> tuple[str, ...]:
    """The classes that numbers in masks speak of: 0 up to the largest, each named by its number in the files.

    Raises:
        InfoscopeError: there is none, or the largest is beyond what a mask can hold.

    Example:
        >>> classes_from([0, 1, 3, 255], Coding())
        ('0', '1', '2', '3')
    """
    first = int(coding.reduce_zero_label)
    counted = [number for number in numbers if number >= first and number not in coding.ignore]
    if not counted:
        raise InfoscopeError("no mask has a class: every number is ignored; check --ignore-index")
    if counted[-1] >= MOST_CLASSES:
        raise InfoscopeError(f"masks have the number {counted[-1]}: give it as --ignore-index if it does not count")
    return tuple(str(number) for number in range(first, counted[-1] + 1))


ADE20K_SPLITS = {"train": "training", "val": "validation"}
ADE20K_CLASSES = 150
OBJECT_INFO = "objectInfo150.txt"
CAMVID_SPLITS = ("train", "val", "test")
CAMVID_CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "cyclist",
)
CAMVID_VOID = 11


@dataclass(frozen=True)
class SegmentationSet:
    """Photographs and the class of every pixel; a `DenseTargets`.

    Attributes:
        images: the photographs.
        classes: the classes' names.
        files: the mask of each photograph.
        coding: how numbers in the masks stand for classes.
        resize: how the view is made square, and so the targets.
    """

    images: FileSource
    classes: tuple[str, ...]
    files: tuple[str, ...]
    coding: Coding
    resize: Resize = "stretch"

    def __len__(self) -> int:
        return len(self.files)

    def stored_in(self) -> StoredIn:
        """Each mask in a file of its own."""
        return StoredIn(self.files, range(len(self.files)), len(self.files))

    def target(self, index: int) -> Integer[np.ndarray, "row column"]:
        """The class of every pixel of photograph ``index``; see `DenseTargets.target`.

        Raises:
            InfoscopeError: the mask cannot be read, has another size than its photograph, or a number is no class.
        """
        file = self.files[index]
        values = read_mask(file)
        check_size(self.images.files[index], file, values.shape)
        return lay_out(self.coding.decode(values, len(self.classes), file), self.resize)


def open_segmentation(root: str | Path, split: str, resize: Resize = "stretch") -> SegmentationSet:
    """One split of a data set whose layout is known: ADE20K's official one, or CamVid's.

    Args:
        root: the folder of the data set.
        split: ``train``, ``val`` or ``test``.
        resize: how the view is made square.

    Raises:
        InfoscopeError: neither layout is found, or there is no such split.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise InfoscopeError(f"no such folder: {root}; give ADE20K's or CamVid's folder")
    if (folder / "images").is_dir() and (folder / "annotations").is_dir():
        return open_ade20k(folder, split, resize)
    if any((folder / f"{name}annot").is_dir() for name in CAMVID_SPLITS):
        return open_camvid(folder, split, resize)
    raise InfoscopeError(
        f"{root} is laid out neither as ADE20K (images/, annotations/) nor as CamVid (train/, trainannot/): give the "
        "folders of photographs and of masks by themselves (--train and --test, each with its -targets)"
    )


def splits_of(root: str | Path) -> dict[str, str]:
    """Which split of a data set of known layout plays which part: heads are judged by one that has masks.

    ADE20K's test masks are not public, so its validation split is the test split, as in published figures.

    Args:
        root: the folder of the data set.
    """
    if (Path(root).expanduser() / "annotations").is_dir():
        return {"train": "train", "test": "val"}
    return {"train": "train", "validation": "val", "test": "test"}


def open_ade20k(root: Path, split: str | None, resize: Resize = "stretch") -> SegmentationSet:
    """ADE20K's scene parsing benchmark: 150 classes, and 0 for everything else, which does not count.

    Args:
        root: the folder with ``images`` and ``annotations`` (``ADEChallengeData2016``).
        split: ``train`` (the folders ``training``) or ``val`` (``validation``); None where both folders hold files
            themselves.
        resize: how the view is made square.

    Raises:
        InfoscopeError: there is no such split, or photographs and annotations do not fit.
    """
    if split is not None and split not in ADE20K_SPLITS:
        raise InfoscopeError(f"ADE20K has no split {split} with annotations: choose {' or '.join(ADE20K_SPLITS)}")
    inner = ADE20K_SPLITS[split] if split else ""
    if inner and not (root / "images" / inner).is_dir():
        raise InfoscopeError(
            f"{root / 'images'} has no folder {inner}, where ADE20K's split {split} is: fetch it whole"
        )
    pairs = pair_folders(root / "images" / inner, root / "annotations" / inner, kind="annotation")
    return SegmentationSet(pairs.images, ade20k_classes(root), pairs.files, Coding(reduce_zero_label=True), resize)


def open_camvid(root: Path, split: str, resize: Resize = "stretch") -> SegmentationSet:
    """CamVid in 11 classes; 11 stands for void, which does not count.

    Args:
        root: the folder with ``train``, ``trainannot`` and so on.
        split: ``train``, ``val`` or ``test``.
        resize: how the view is made square.

    Raises:
        InfoscopeError: there is no such split, or photographs and masks do not fit.
    """
    if split not in CAMVID_SPLITS:
        raise InfoscopeError(f"CamVid has no split {split}: choose {', '.join(CAMVID_SPLITS)}")
    pairs = pair_folders(root / split, root / f"{split}annot")
    return SegmentationSet(pairs.images, CAMVID_CLASSES, pairs.files, Coding(ignore=(CAMVID_VOID, IGNORE)), resize)


def open_masks(
    images: str | Path,
    masks: str | Path,
    *,
    classes: Sequence[str] | str | Path | None = None,
    ignore_index: int | Sequence[int] = IGNORE,
    reduce_zero_label: bool = False,
    image_ending: str = "",
    mask_ending: str = "",
    resize: Resize = "stretch",
) -> SegmentationSet:
    """Any folder of photographs and any of masks, paired by their paths up to the endings.

    Args:
        images: the folder of photographs.
        masks: the folder of masks: grey or palette PNGs of class numbers.
        classes: the classes' names in the order of their numbers, or a text file of them, one a line. Without, the
            masks are all read for the numbers there are; give the test split the training split's ``classes``.
        ignore_index: the number, or numbers, in the files that do not count.
        reduce_zero_label: 0 does not count either, and the first class is written as 1.
        image_ending: see `pair_folders`.
        mask_ending: its ``target_ending``.
        resize: how the view is made square.

    Raises:
        InfoscopeError: a folder is missing or empty, photographs have no masks, or masks hold no class numbers.
    """
    pairs = pair_folders(
        Path(images).expanduser(), Path(masks).expanduser(), image_ending=image_ending, target_ending=mask_ending
    )
    ignore = (ignore_index,) if isinstance(ignore_index, int) else tuple(ignore_index)
    coding = Coding(ignore, reduce_zero_label)
    if classes is None:
        named = classes_from(numbers_in(pairs.files), coding)
    elif isinstance(classes, str | Path):
        named = _names(Path(classes).expanduser(), int(reduce_zero_label))
    else:
        named = tuple(classes)
    if len(named) < 2:
        raise InfoscopeError(f"{masks} has one class only ({named[0]}): a probe needs two to tell apart")
    if len(named) > MOST_CLASSES:
        raise InfoscopeError(f"{len(named)} classes are more than the {MOST_CLASSES} a mask can hold; merge some")
    return SegmentationSet(pairs.images, named, pairs.files, coding, resize)


def ade20k_classes(root: Path | None = None) -> tuple[str, ...]:
    """The first name of each of ADE20K's 150 classes, from the data set's own ``objectInfo150.txt`` where it has one.

    Raises:
        InfoscopeError: that file does not name 150 classes.

    Example:
        >>> ade20k_classes()[:4], len(ade20k_classes())
        (('wall', 'building', 'sky', 'floor'), 150)
    """
    own = None if root is None else root / OBJECT_INFO
    if own is None or not own.is_file():
        text = files("infoscope.analyses.probes").joinpath("ade20k_classes.txt").read_text(encoding="utf-8")
        return tuple(line for line in text.splitlines() if line and not line.startswith("#"))
    rows = [line.split("\t") for line in read_lines(own)[1:]]
    numbered = [row[0].strip() for row in rows] == [str(number) for number in range(1, ADE20K_CLASSES + 1)]
    if not numbered or any(len(row) < 5 for row in rows):
        raise InfoscopeError(f"{own} does not list 150 classes in order: take it from ADE20K's scene parsing release")
    return tuple(row[4].partition(",")[0].strip() for row in rows)


def _names(file: Path, first: int) -> tuple[str, ...]:
    """Names from a file; ``first`` is the number that the first class has in a mask."""
    names = read_class_list(file, first).names
    if not names:
        raise InfoscopeError(f"{file} names no classes: write one a line, in the order of their numbers")
    return names
