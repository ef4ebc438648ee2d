"""Step 4: the two files of class embeddings, as `infoscope zeroshot` reads them.

`classes.safetensors` holds the ten class embeddings that were learnt with the model. `subjects.safetensors` has one
for each subject of the demo's photographs: the mean image embedding of crops that are not among the demo's own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from infoscope.analyses.zeroshot.classes import Classes
from infoscope.analyses.zeroshot.embeddings import LogitScale, class_embeddings, write_embeddings
from pictures import image_embeddings, read_folder

# ImageNet's names of Imagenette's ten classes.
NAMES = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}


@dataclass(frozen=True)
class Embeddings:
    """Write both files."""

    trained: Path
    """The folder that `distil.py` wrote."""
    crops: Path
    """Crops of the demo's photographs, others than the demo's own: a folder a subject."""
    out: Path
    """The folder to write."""

    def run(self) -> None:
        """Write them."""
        self.out.mkdir(parents=True, exist_ok=True)
        record = json.loads((self.trained / "training.json").read_text())
        scale = LogitScale(record["logit_scale"])
        names = tuple(NAMES[folder] for folder in record["folders"])
        classes = Classes(names, tuple(record["folders"]), "Imagenette")
        learnt = np.load(self.trained / "classes.npy")
        made = class_embeddings(classes, learnt, scale, {"made": "learnt with the model, without a text tower"})
        write_embeddings(self.out / "classes.safetensors", made)
        pictures, labels, subjects = read_folder(self.crops)
        embedded = image_embeddings(self.trained / "model", pictures)
        means = np.stack([embedded[labels == number].mean(0) for number in range(len(subjects))])
        source = {"made": "mean image embedding of other crops of the same photographs"}
        made = class_embeddings(Classes(tuple(subjects), tuple(subjects), "photographs"), means, scale, source)
        write_embeddings(self.out / "subjects.safetensors", made)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    tyro.cli(Embeddings).run()
