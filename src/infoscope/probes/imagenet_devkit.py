"""The labels of ImageNet's validation photographs, which lie in one folder and are told apart by the devkit alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from infoscope.errors import InfoscopeError
from infoscope.probes.matlab import load_mat
from infoscope.storage.text import read_text

TRUTH = "ILSVRC2012_validation_ground_truth.txt"
META = "meta.mat"
PLACES = ("", "data", "ILSVRC2012_devkit_t12", "ILSVRC2012_devkit_t12/data", "devkit", "devkit/data")
VALIDATION_NAME = re.compile(r"(?:.*/)?ILSVRC2012_val_(\d{8})\.\w+")


@dataclass(frozen=True)
class Devkit:
    """What the devkit of ILSVRC 2012 says.

    Attributes:
        place: its folder.
        wnid: the name of each class's training folder, by the devkit's number from 1.
        words: that class in words, by its folder's name.
        truth: the number of the class of each validation photograph, in the order of their numbers.
    """

    place: Path
    wnid: dict[int, str]
    words: dict[str, str]
    truth: Int64[np.ndarray, " image"]

    def labels(self, ids: Sequence[str]) -> list[str]:
        """The training folder's name for each validation photograph.

        Raises:
            InfoscopeError: a name is not that of a validation photograph.
        """
        found = []
        for image_id in ids:
            named = VALIDATION_NAME.fullmatch(image_id)
            number = int(named[1]) if named else 0
            if not 1 <= number <= len(self.truth):
                raise InfoscopeError(
                    f"{image_id} is none of the {len(self.truth)} photographs of {self.place / TRUTH}: keep the names "
                    "ILSVRC2012_val_00000001.JPEG and so on"
                )
            found.append(self.wnid[int(self.truth[number - 1])])
        return found


def names_devkit(place: str | Path) -> bool:
    """Whether a place is where `read_devkit` would look: a folder, or one of the devkit's two files."""
    file = Path(place).expanduser()
    return file.is_dir() or file.name in (META, TRUTH)


def are_validation_photographs(ids: Sequence[str]) -> bool:
    """Whether images are ImageNet's validation photographs in one folder, by the name of the first.

    Example:
        >>> [are_validation_photographs([name]) for name in ("ILSVRC2012_val_00000001.JPEG", "n01440764/1.JPEG")]
        [True, False]
    """
    return "/" not in ids[0] and VALIDATION_NAME.fullmatch(ids[0]) is not None


def find_devkit(near: Path) -> Path | None:
    """The folder of the devkit's two files in or near a folder; None where they are not."""
    for folder in (near, near.parent, near.parent.parent):
        for place in PLACES:
            if (folder / place / TRUTH).is_file() and (folder / place / META).is_file():
                return folder / place
    return None


def read_devkit(place: Path) -> Devkit:
    """Read ``meta.mat`` and the list of true classes.

    Args:
        place: the devkit, its ``data`` folder, or one of the two files.

    Raises:
        InfoscopeError: a file is missing, cannot be read, or holds something else.
    """
    folder = place if place.is_dir() else place.parent
    folder = next((folder / inner for inner in PLACES if (folder / inner / META).is_file()), folder)
    meta, truth = folder / META, folder / TRUTH
    for file in (meta, truth):
        if not file.is_file():
            raise InfoscopeError(f"no {file.name} in {folder}: give the folder of ImageNet's devkit, which has both")
    wnid, words = read_synsets(meta)
    try:
        numbers = np.array([int(line) for line in read_text(truth).split()], np.int64)
    except ValueError as error:
        raise InfoscopeError(
            f"{truth} is no list of class numbers, one a line: {error}; fetch the devkit again"
        ) from error
    unknown = [int(number) for number in np.unique(numbers) if int(number) not in wnid]
    if unknown:
        raise InfoscopeError(f"{truth} names class {unknown[0]}, which {meta} has not: take both from one devkit")
    return Devkit(folder, wnid, words, numbers)


def read_synsets(meta: Path) -> tuple[dict[int, str], dict[str, str]]:
    """The classes of ``meta.mat`` that have photographs: the synsets without children.

    Returns:
        By the devkit's number from 1 a class's training folder, and by folder what it is called in words.

    Raises:
        InfoscopeError: the file cannot be read, or is something else.
    """
    try:
        synsets: Any = np.atleast_1d(load_mat(meta)["synsets"])
        leaves = [
            (int(one["ILSVRC2012_ID"]), str(one["WNID"]), str(one["words"]))
            for one in synsets
            if not int(one["num_children"])
        ]
    # What is no structure of synsets fails in any way.
    except Exception as error:
        raise InfoscopeError(f"{meta} is not the devkit's list of classes: {error}; fetch the devkit again") from error
    return {number: wnid for number, wnid, _ in leaves}, {wnid: words for _, wnid, words in leaves}
