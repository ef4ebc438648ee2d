"""Data sets for depth: NYU Depth v2 in both of its layouts, and any photographs with depth maps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Real
from PIL import Image

from infoscope.analyses.probes.nyu_labelled import NyuDepths, NyuField, NyuImages, NyuSplit, find_labelled, split_rows
from infoscope.analyses.probes.pairs import Pairs, check_size, pair_folders, pair_list
from infoscope.analyses.probes.targets import lay_out
from infoscope.errors import InfoscopeError, UnreadableImageError, check_choice
from infoscope.images.decode import as_stored
from infoscope.images.folder import FolderSource, readable_suffixes
from infoscope.images.source import ImageSource
from infoscope.images.stored import StoredIn
from infoscope.options import Resize
from infoscope.runtime.arrays import read_array

DepthCrop = Literal["none", "eigen"]

# Metres; the range of Kinect's depth, and that of DINOv2's recipe.
LEAST, MOST = 0.001, 10.0
# Whole numbers in a file are millimetres, as Kinect's and NYU's are.
WHOLE_SCALE = 1000.0
PUBLISHED_LIST = "nyudepthv2_{}_files_with_gt.txt"
# Rows 45 to 470 and columns 41 to 600 of 480 x 640: where NYU's projected depth maps have values (Eigen et al. 2014).
EIGEN_ROWS, EIGEN_COLUMNS, EIGEN_SIZE = (45, 471), (41, 601), (480, 640)


@runtime_checkable
class Depths(Protocol):
    """Depth maps as they are stored."""

    @property
    def form(self) -> str:
        """What the stored numbers are: two sets of other forms hold other depths."""
        ...

    def read(self, index: int) -> Real[np.ndarray, "row column"]:
        """Map ``index`` in metres; holes in whatever way the file has them."""
        ...

    def where(self, index: int) -> str:
        """What map ``index`` is called in a message."""
        ...

    def stored_in(self) -> StoredIn:
        """The files, and which maps lie in which."""
        ...

    def forget(self) -> None:
        """Drop what was read, so that whatever is asked for next is read again."""


@dataclass(frozen=True)
class DepthFiles:
    """Depth maps in files of their own.

    Attributes:
        photographs: the photograph of each map, whose size it must have.
        files: the maps: 16-bit PNG, float TIFF, or ``.npy``.
        scale: units to the metre; None for 1,000 where a file holds whole numbers and 1 where it holds floats.
    """

    photographs: tuple[str, ...]
    files: tuple[str, ...]
    scale: float | None = None

    @property
    def form(self) -> str:
        """Units to the metre."""
        return f"{self.scale:g} to the metre" if self.scale else f"whole numbers {WHOLE_SCALE:g} to the metre, floats 1"

    def read(self, index: int) -> Real[np.ndarray, "row column"]:
        """Map ``index`` in metres.

        Raises:
            InfoscopeError: the file cannot be read, has no depths, or another size than its photograph.
        """
        file = self.files[index]
        stored = _read_array(file) if file.lower().endswith(".npy") else _read_picture(file)
        check_size(self.photographs[index], file, stored.shape, "depth map")
        integers = np.issubdtype(stored.dtype, np.integer)
        return stored / np.float32(self.scale or (WHOLE_SCALE if integers else 1.0))

    def stored_in(self) -> StoredIn:
        """Each map in a file of its own."""
        return StoredIn(self.files, range(len(self.files)), len(self.files))

    def forget(self) -> None:
        """Nothing is kept."""

    def where(self, index: int) -> str:
        """The file's name."""
        return self.files[index]


@dataclass(frozen=True)
class DepthSet:
    """Photographs and the depth of every pixel; a `DenseTargets` without classes.

    Attributes:
        images: the photographs.
        depths: their depth maps.
        least: depths count strictly between it and ``most``, in metres.
        most: see ``least``.
        crop: ``eigen`` takes what lies outside of `eigen_crop` for holes.
        resize: how the view is made square, and so the targets.
    """

    images: ImageSource
    depths: Depths
    least: float = LEAST
    most: float = MOST
    crop: DepthCrop = "none"
    resize: Resize = "stretch"

    def __post_init__(self) -> None:
        check_choice("crop", self.crop, DepthCrop)
        if not 0 < self.least < self.most < float("inf"):
            raise InfoscopeError(f"depths from {self.least} to {self.most} m are no range: choose 0 < least < most")

    @property
    def classes(self) -> tuple[str, ...]:
        """None: depths have no classes."""
        return ()

    def __len__(self) -> int:
        return len(self.images)

    def stored_in(self) -> StoredIn:
        """Where the maps are."""
        return self.depths.stored_in()

    def forget(self) -> None:
        """Drop what was read, so that whatever is asked for next is read again."""
        self.depths.forget()

    def target(self, index: int) -> Float32[np.ndarray, "row column"]:
        """The depth of every pixel of photograph ``index``, in metres, 0 for holes.

        A hole is 0, negative, NaN or infinite in the file, out of range, or outside of the crop.

        Raises:
            InfoscopeError: the map cannot be read, has another size than its photograph, or is all holes.
        """
        stored = self.depths.read(index).astype(np.float32)
        # NaN compares as False.
        counts = (stored > self.least) & (stored < self.most)
        if self.crop == "eigen":
            counts &= eigen_crop(*stored.shape)
        if not counts.any():
            finite = stored[np.isfinite(stored) & (stored > 0)]
            there = (
                f"its depths are {finite.min():g} to {finite.max():g} m" if len(finite) else "it has no depths at all"
            )
            raise InfoscopeError(
                f"{self.depths.where(index)} is all holes between {self.least:g} and {self.most:g} m: {there}; check "
                "--depth-scale, or move it and its photograph away"
            )
        return lay_out(np.where(counts, stored, np.float32(0)), self.resize)


def eigen_crop(rows: int, columns: int) -> Bool[np.ndarray, "row column"]:
    """The pixels by which NYU Depth v2 is judged: rows 45 to 470 and columns 41 to 600 of 480 x 640.

    A picture of another size has the same share of it, with bounds rounded to whole pixels.

    Example:
        >>> crop = eigen_crop(480, 640)
        >>> int(crop.sum()) == 426 * 560, crop[44:46, 41].tolist(), crop[470, 600:602].tolist()
        (True, [False, True], [True, False])
    """
    inside = np.zeros((rows, columns), bool)
    top, bottom = (round(bound * rows / EIGEN_SIZE[0]) for bound in EIGEN_ROWS)
    left, right = (round(bound * columns / EIGEN_SIZE[1]) for bound in EIGEN_COLUMNS)
    inside[top:bottom, left:right] = True
    return inside


def open_nyu(
    root: str | Path,
    split: NyuSplit | None = None,
    *,
    splits: str | Path | None = None,
    listed: str | Path | None = None,
    field: NyuField = "depths",
    crop: DepthCrop = "eigen",
    resize: Resize = "stretch",
) -> DepthSet:
    """NYU Depth v2: the labelled ``.mat``, or the usual folders of frames.

    Args:
        root: ``nyu_depth_v2_labeled.mat`` or the folder that holds it; else the folder of the scenes' folders, in
            which ``rgb_00000.jpg`` is the photograph of ``sync_depth_00000.png`` (16 bit, millimetres).
        split: ``train`` or ``test``. Of the ``.mat``, 795 or 654 of its 1,449 photographs. Of frames, those of a folder
            of that name below ``root``, or of the list of that split in or beside ``root``. None takes all.
        splits: of the ``.mat``: the official ``splits.mat``; beside it when not given.
        listed: of frames: a list of those to take, "photograph depth-map focal-length" a line.
        field: of the ``.mat``: ``depths``, in which holes are filled in, or ``rawDepths``, as measured.
        crop: ``eigen`` as in published figures; ``none`` keeps the rim, where no depths were measured.
        resize: how the view is made square.

    Raises:
        InfoscopeError: neither layout is found, an option is of the other one, a file is damaged or missing, or h5py
            is not installed.
    """
    path = Path(root).expanduser()
    if not path.exists():
        raise InfoscopeError(f"no such file or folder: {root}; give NYU's labelled .mat or the folder of its frames")
    labelled = find_labelled(path)
    if labelled is not None:
        if listed is not None:
            raise InfoscopeError(f"a list of frames ({listed}) says nothing of {labelled}: leave it out")
        rows = split_rows(labelled, split, None if splits is None else Path(splits).expanduser())
        return DepthSet(NyuImages(labelled, rows), NyuDepths(labelled, rows, field), crop=crop, resize=resize)
    if field != "depths" or splits is not None:
        given = f"the official split {splits}" if splits is not None else f"the field {field}"
        raise InfoscopeError(f"{given} is of the labelled .mat, and {root} holds frames: leave it out")
    if listed is None and split is not None:
        check_choice("split", split, NyuSplit)
        if (path / split).is_dir():
            path = path / split
        else:
            listed = _published_list(path, split)
    pairs = _frames(path) if listed is None else pair_list(path, Path(listed).expanduser())
    return _of_files(pairs, WHOLE_SCALE, LEAST, MOST, crop, resize)


def open_depths(
    images: str | Path,
    depths: str | Path | None = None,
    *,
    listed: str | Path | None = None,
    depth_scale: float | None = None,
    least: float = LEAST,
    most: float = MOST,
    image_ending: str = "",
    depth_ending: str = "",
    crop: DepthCrop = "none",
    resize: Resize = "stretch",
) -> DepthSet:
    """Any folder of photographs and any of depth maps, paired by their paths up to the endings.

    Args:
        images: the folder of photographs.
        depths: the folder of depth maps: 16-bit PNG, float TIFF, or ``.npy``.
        listed: in place of that folder, a list of pairs, "photograph depth-map" a line; its paths begin below
            ``images``.
        depth_scale: units to the metre; 1,000 (millimetres) for whole numbers and 1 for floats when not given.
        least: depths count strictly between it and ``most``, in metres.
        most: see ``least``.
        image_ending: see `pair_folders`.
        depth_ending: its ``target_ending``.
        crop: ``eigen`` for pictures of NYU Depth v2.
        resize: how the view is made square.

    Raises:
        InfoscopeError: a folder is missing or empty, photographs have no depth maps, or the scale is not above 0.
    """
    if depth_scale is not None and not 0 < depth_scale < float("inf"):
        raise InfoscopeError(f"--depth-scale {depth_scale:g} is out of range: give the units to the metre, above 0")
    folder = Path(images).expanduser()
    if (depths is None) == (listed is None):
        raise InfoscopeError(
            f"which depth maps are those of {images}? Give their folder or a list of pairs, one of both"
        )
    if listed is not None:
        pairs = pair_list(folder, Path(listed).expanduser())
    else:
        assert depths is not None
        pairs = pair_folders(
            folder,
            Path(depths).expanduser(),
            kind="depth map",
            image_ending=image_ending,
            target_ending=depth_ending,
            suffixes=readable_suffixes() | {".npy"},
        )
    return _of_files(pairs, depth_scale, least, most, crop, resize)


def _of_files(
    pairs: Pairs, scale: float | None, least: float, most: float, crop: DepthCrop, resize: Resize
) -> DepthSet:
    return DepthSet(pairs.images, DepthFiles(tuple(pairs.images.files), pairs.files, scale), least, most, crop, resize)


def _published_list(root: Path, split: NyuSplit) -> Path:
    """The list of a split's frames, by the name under which it is passed on."""
    name = PUBLISHED_LIST.format(split)
    for folder in (root, root.parent):
        if (folder / name).is_file():
            return folder / name
    raise InfoscopeError(
        f"which frames of {root} are of the split {split}? There is no folder {split} in it, nor the list {name} in or "
        "beside it: give a list of frames"
    )


def _frames(root: Path) -> Pairs:
    """Every frame of NYU's folders: a photograph and the depth map beside it."""
    source = FolderSource(root)

    def found() -> Iterator[tuple[int, str]]:
        for row, image_id in enumerate(source.ids):
            base = image_id.rpartition("/")[2]
            if base.startswith("rgb_"):
                depth = Path(source.files[row]).with_name(f"sync_depth_{base[4:].rpartition('.')[0]}.png")
                if not depth.is_file():
                    raise InfoscopeError(
                        f"{image_id} has no {depth.name} beside it in {root}: complete it, or give a list of frames"
                    )
                yield row, str(depth)

    frames = list(found())
    if not frames:
        raise InfoscopeError(
            f"{root} holds neither nyu_depth_v2_labeled.mat nor frames rgb_00000.jpg with sync_depth_00000.png"
            "; name a folder that does, or give --train and --test"
        )
    return Pairs(source.subset(row for row, _ in frames), tuple(depth for _, depth in frames))


def _read_array(file: str) -> Real[np.ndarray, "row column"]:
    try:
        stored = read_array(Path(file))
    except (OSError, ValueError) as error:
        raise InfoscopeError(
            f"cannot read the depth map {file}: {error}; restore it, or take it and its photograph out"
        ) from error
    if stored.ndim == 3 and 1 in (stored.shape[0], stored.shape[2]):
        stored = stored[0] if stored.shape[0] == 1 else stored[..., 0]
    if stored.ndim != 2 or not np.issubdtype(stored.dtype, np.number) or np.iscomplexobj(stored):
        raise InfoscopeError(
            f"the depth map {file} is {stored.dtype} {stored.shape}, not numbers [row, column]; save one number a pixel"
        )
    plain: Real[np.ndarray, "row column"] = stored
    return plain


def _read_picture(file: str) -> Real[np.ndarray, "row column"]:
    def numbers(image: Image.Image) -> tuple[str, Real[np.ndarray, "row column"] | None]:
        return image.mode, np.asarray(image) if image.mode in ("I", "F") or image.mode.startswith("I;16") else None

    try:
        mode, stored = as_stored(Path(file), numbers)
    except UnreadableImageError as error:
        raise InfoscopeError(
            f"cannot read the depth map {file}: {error}; restore it, or move it and its photograph away"
        ) from error
    if stored is None:
        raise InfoscopeError(
            f"the depth map {file} has 8-bit or coloured pixels (mode {mode}), a picture of depths: give 16-bit PNG, "
            "float TIFF or .npy"
        )
    return stored
