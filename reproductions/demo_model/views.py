"""Step 1: square views of the training photographs, and what the teacher says of every patch of them.

Every second view is of the whole picture, the others are random crops. The teacher sees a view at 14 pixels to a patch,
the student the same view at 16, so that both have a grid of 14 x 14.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from numpy.lib.format import open_memmap
from PIL import Image
from transformers import AutoModel

import infoscope

GRID, STUDENT_PATCH, TEACHER_PATCH = 14, 16, 14
SIDE = GRID * STUDENT_PATCH
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@dataclass(frozen=True)
class Views:
    """Write views and the teacher's tokens of them."""

    teacher: Path
    """The teacher: a DINOv2 model in Hugging Face layout."""
    labelled: Path
    """Photographs in a folder a class."""
    out: Path
    """The folder to write."""
    unlabelled: Path | None = None
    """More photographs, of no class."""
    views: int = 1
    """Views of a photograph."""
    limit: int | None = None
    """At most so many photographs of each set, for a trial."""
    seed: int = 0
    """Of the crops."""
    batch: int = 32
    """Views to a pass of the teacher."""

    def run(self) -> None:
        """Write `pixels.npy`, `patches.npy`, `cls.npy` and `views.json`; what an earlier call wrote is kept."""
        files, labels, names = self._files()
        self.out.mkdir(parents=True, exist_ok=True)
        model = AutoModel.from_pretrained(self.teacher, dtype=torch.float32).eval()
        count, width = len(files) * self.views, model.config.hidden_size
        (self.out / "views.json").write_text(json.dumps({"views": self.views, "labels": labels, "folders": names}))
        done_file = self.out / "done.txt"
        done = int(done_file.read_text()) if done_file.exists() else 0
        mode = "r+" if done else "w+"
        pixels = open_memmap(self.out / "pixels.npy", mode, np.uint8, (count, SIDE, SIDE, 3))
        patches = open_memmap(self.out / "patches.npy", mode, np.float16, (count, GRID * GRID, width))
        cls = open_memmap(self.out / "cls.npy", mode, np.float16, (count, width))
        for start in range(done, count, self.batch):
            places = range(start, min(start + self.batch, count))
            made = [self._view(files, place) for place in places]
            small = [view.resize((GRID * TEACHER_PATCH,) * 2, Image.Resampling.BICUBIC) for view in made]
            given = (np.stack([np.asarray(view) for view in small]) / 255 - MEAN) / STD
            given = torch.from_numpy(given.astype(np.float32)).permute(0, 3, 1, 2)
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                tokens = model(given).last_hidden_state.float().numpy()
            pixels[places.start : places.stop] = [np.asarray(view) for view in made]
            patches[places.start : places.stop] = tokens[:, -GRID * GRID :]
            cls[places.start : places.stop] = tokens[:, 0]
            done_file.write_text(str(places.stop))
            print(f"{places.stop:,} of {count:,} views", flush=True)

    def _view(self, files: list[Path], place: int) -> Image.Image:
        photograph, number = divmod(place, self.views)
        whole = (photograph + number) % 2 == 0
        return make_view(files[photograph], None if whole else [self.seed, 1 + number])

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


def list_images(folder: Path, limit: int | None) -> list[str]:
    """The ids of a folder's images, or of some of them, evenly spread."""
    ids = list(infoscope.open_images(str(folder)).ids)
    return ids if limit is None else ids[:: max(len(ids) // limit, 1)][:limit]


def make_view(file: Path, seed: list[int] | None) -> Image.Image:
    """A square view of a photograph: its largest centred square, or with a seed a random crop.

    A random crop has 0.3 to 1 of the picture's area and sides of 3:4 to 4:3. It depends on the photograph's name and
    the seed alone.
    """
    with Image.open(file) as opened:
        picture = opened.convert("RGB")
    width, height = picture.size
    if seed is None:
        side = min(width, height)
        left, top, right, bottom = (width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2
    else:
        random = np.random.default_rng([*seed, *file.name.encode()])
        aspect = np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
        area = random.uniform(0.3, 1) * width * height
        across, down = min(np.sqrt(area * aspect), width), min(np.sqrt(area / aspect), height)
        left, top = random.uniform(0, width - across), random.uniform(0, height - down)
        right, bottom = left + across, top + down
    return picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=(left, top, right, bottom))


if __name__ == "__main__":
    tyro.cli(Views).run()
