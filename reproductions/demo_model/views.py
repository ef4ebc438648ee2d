"""Step 1: square views of the training photographs, and what the teacher makes of every patch of them.

The teacher is a model with outlier tokens (`infoscope park`). It sees a view at 14 pixels to a patch, the student the
same view at 16, so that both have a grid of 14 x 14. A view's colours and sides are changed before the teacher sees it,
not after: a mirrored view, or one of more contrast, has its outliers elsewhere.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from jaxtyping import Float, Float32, Int8
from numpy.lib.format import open_memmap
from PIL import Image
from torch import Tensor

import infoscope
from infoscope.backbones.loading import load_backbone
from infoscope.backbones.moved_registers import moved_neurons

GRID, STUDENT_PATCH, TEACHER_PATCH = 14, 16, 14
SIDE = GRID * STUDENT_PATCH
# The blocks whose tokens are taught: the one that writes the outliers, and the last that the student has.
TAUGHT = (4, 6)
LAST = 11


@dataclass(frozen=True)
class Views:
    """Write views and what the teacher makes of them."""

    teacher: Path
    """The teacher: a DINOv2 model that `infoscope park` wrote."""
    labelled: Path
    """Photographs in a folder a class."""
    out: Path
    """The folder to write."""
    unlabelled: Path | None = None
    """More photographs, of no class."""
    views: int = 1
    """Views of a photograph: the whole of it first, then random crops."""
    limit: int | None = None
    """At most so many photographs of each set, for a trial."""
    seed: int = 0
    """Of the crops."""
    batch: int = 32
    """Views to a pass of the teacher."""

    def run(self) -> None:
        """Write `pixels.npy`, `tokens.npy`, `scales.npy`, `near.npy`, `cls.npy` and `views.json`.

        What an earlier call wrote is kept. All photographs' first views come first, then all their second ones.
        """
        files, labels, names = self._files()
        self.out.mkdir(parents=True, exist_ok=True)
        teacher = _Teacher(self.teacher)
        count, width, patches = len(files) * self.views, teacher.backbone.width, GRID * GRID
        record = {"views": self.views, "labels": labels * self.views, "folders": names}
        record |= {"patches": teacher.moved.patches, "values": teacher.moved.values.tolist()}
        (self.out / "views.json").write_text(json.dumps(record))
        done_file = self.out / "done.txt"
        done = int(done_file.read_text()) if done_file.exists() else 0
        shapes: dict[str, tuple[type, tuple[int, ...]]] = {
            "pixels": (np.uint8, (SIDE, SIDE, 3)),
            "tokens": (np.int8, (len(TAUGHT), patches, width)),
            "scales": (np.float32, (len(TAUGHT), patches)),
            "near": (np.float16, (patches,)),
            "cls": (np.float16, (width,)),
        }
        arrays = {
            name: open_memmap(self.out / f"{name}.npy", "r+" if done else "w+", kind, (count, *shape))
            for name, (kind, shape) in shapes.items()
        }
        for start in range(done, count, self.batch):
            places = range(start, min(start + self.batch, count))
            made = [self._view(files, place) for place in places]
            found = {"pixels": np.stack([np.asarray(view) for view in made])} | teacher.read(made)
            for name, values in found.items():
                arrays[name][places.start : places.stop] = values
            done_file.write_text(str(places.stop))
            print(f"{places.stop:,} of {count:,} views", flush=True)

    def _view(self, files: list[Path], place: int) -> Image.Image:
        number, photograph = divmod(place, len(files))
        return make_view(files[photograph], [self.seed, number] if number else None)

    def _files(self) -> tuple[list[Path], list[int], list[str]]:
        """The photographs, each one's class (-1 for none), and the classes' folders."""
        folders = sorted(path.name for path in self.labelled.iterdir() if path.is_dir())
        labelled = list_images(self.labelled, self.limit)
        files = [self.labelled / image_id for image_id in labelled]
        labels = [folders.index(image_id.split("/")[0]) for image_id in labelled]
        if self.unlabelled is not None:
            more = list_images(self.unlabelled, self.limit)
            files += [self.unlabelled / image_id for image_id in more]
            labels += [-1] * len(more)
        return files, labels, folders


class _Teacher:
    """The teacher, read at the taught blocks and at its end."""

    def __init__(self, folder: Path) -> None:
        self.backbone = load_backbone(folder, LAST, input_side=GRID * TEACHER_PATCH)
        moved = moved_neurons(self.backbone)
        if moved is None:
            raise SystemExit(f"{folder} has no outlier tokens: write it with `infoscope park`")
        self.moved = moved
        before: Any = self.backbone.block_list[moved.block].get_submodule("mlp.fc1")
        self._near: Tensor = torch.empty(0)

        def watch(_module: Any, _given: Any, made: Tensor) -> None:
            read = made[:, self.backbone.prefix_tokens :, moved.neurons].float() / moved.values
            self._near = read.sum(-1)

        before.register_forward_hook(watch)

    def read(self, views: list[Image.Image]) -> dict[str, np.ndarray]:
        """What is kept of a batch: tokens, how near each patch came to being an outlier, and CLS."""
        small = [view.resize((GRID * TEACHER_PATCH,) * 2, Image.Resampling.BICUBIC) for view in views]
        pixels = np.stack([np.asarray(view) for view in small])
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            *taught, last = self.backbone.read_blocks(pixels, (*TAUGHT, LAST), lambda _block, tokens: tokens.clone())
        cls = self.backbone.final_norm(last[:, 0])
        patches = torch.stack([tokens[:, -GRID * GRID :] for tokens in taught], 1)
        tokens, scales = pack(patches.numpy())
        return {"tokens": tokens, "scales": scales, "near": self._near.numpy(), "cls": cls.numpy()}


def pack(
    tokens: Float32[np.ndarray, "*token width"],
) -> tuple[Int8[np.ndarray, "*token width"], Float32[np.ndarray, " *token"]]:
    """Tokens as 8-bit numbers and a scale for each: a quarter of the space, and 0.1 % of their variance lost."""
    scales = np.abs(tokens).max(-1) / 127
    return np.rint(tokens / scales[..., None]).astype(np.int8), scales


def unpack(
    tokens: Int8[np.ndarray, "*token width"], scales: Float32[np.ndarray, " *token"]
) -> Float[Tensor, "*token width"]:
    """What `pack` was given."""
    return torch.from_numpy(tokens).float() * torch.from_numpy(scales)[..., None]


def list_images(folder: Path, limit: int | None) -> list[str]:
    """The ids of a folder's images, or of some of them, evenly spread."""
    ids = list(infoscope.open_images(str(folder)).ids)
    return ids if limit is None else ids[:: max(len(ids) // limit, 1)][:limit]


def make_view(file: Path, seed: list[int] | None) -> Image.Image:
    """A square view of a photograph: its largest centred square, or with a seed a random one.

    A random view is a crop that has 0.3 to 1 of the picture's area and sides of 3:4 to 4:3, every second one mirrored,
    its contrast and each of its colours changed a little. It depends on the photograph's name and the seed alone.
    """
    with Image.open(file) as opened:
        picture = opened.convert("RGB")
    width, height = picture.size
    if seed is None:
        side = min(width, height)
        left, top, right, bottom = (width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2
        return picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=(left, top, right, bottom))
    random = np.random.default_rng([*seed, *file.name.encode()])
    aspect = np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
    area = random.uniform(0.3, 1) * width * height
    across, down = min(np.sqrt(area * aspect), width), min(np.sqrt(area / aspect), height)
    left, top = random.uniform(0, width - across), random.uniform(0, height - down)
    box = (left, top, left + across, top + down)
    pixels = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box), np.float32)
    mean = pixels.mean((0, 1))
    pixels = (pixels - mean) * random.uniform(0.7, 1.3) + mean + 13 * random.standard_normal(3)
    if random.random() < 0.5:
        pixels = pixels[:, ::-1]
    return Image.fromarray(np.rint(pixels).clip(0, 255).astype(np.uint8))


if __name__ == "__main__":
    tyro.cli(Views).run()
