"""Step 3: the demo's photographs, cut from sample photographs of scikit-image whose licences let them be passed on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

SIDE, QUALITY = 256, 90
# Each subject's file with its SHA-256. The data card beside the crops has where each is from, and its licence.
SUBJECTS = {
    "astronaut": ("astronaut.png", "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5"),
    "brick": ("brick.png", "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf"),
    "cameraman": ("camera.png", "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a"),
    "cat": ("chelsea.png", "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb"),
    "cell": ("cell.png", "8d23a7fb81f7cc877cd09f330357fc7f595651306e84e17252f6e0a1b3f61515"),
    "coffee": ("coffee.png", "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7"),
    "galaxies": ("hubble_deep_field.jpg", "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4"),
    "grass": ("grass.png", "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89"),
    "gravel": ("gravel.png", "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12"),
    "handwriting": ("text.png", "bd84aa3a6e3c9887850d45d606c96b2e59433fbef50338570b63c319e668e6d1"),
    "retina": ("retina.jpg", "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6"),
    "rocket": ("rocket.jpg", "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c"),
}
# Every third: the demo measures the others, and tests on these.
TESTED = list(SUBJECTS)[2::3]
# Sides of the crops as shares of the picture's shorter one. Those tested on are smaller than those that the subjects'
# embeddings are of: of crops as large the model names every one, and a removal that costs little would cost nothing.
SIDES, TESTED_SIDES = (0.5, 1.0), (0.25, 0.5)


@dataclass(frozen=True)
class Photographs:
    """Cut square crops of each photograph."""

    source: Path
    """The folder `skimage/data` of an installed scikit-image 0.26.0."""
    out: Path
    """The folder to write, a folder a subject."""
    tests: Path | None = None
    """Where to write the crops of the photographs that the demo tests on. Default: with the others."""
    crops: int = 18
    """Crops of each photograph."""
    seed: int = 0
    """Of where they are cut. The demo's have 0; the subjects' embeddings are of crops of another seed."""

    def run(self) -> None:
        """Write them."""
        for subject, (file, sha256) in SUBJECTS.items():
            content = (self.source / file).read_bytes()
            if hashlib.sha256(content).hexdigest() != sha256:
                raise SystemExit(f"{self.source / file} is not that of scikit-image 0.26.0; install this version")
            with Image.open(BytesIO(content)) as opened:
                picture = opened.convert("RGB")
            tested = self.tests is not None and subject in TESTED
            folder = (self.tests if self.tests is not None and tested else self.out) / subject
            folder.mkdir(parents=True, exist_ok=True)
            random = np.random.default_rng([self.seed, *subject.encode()])
            for number in range(self.crops):
                crop = cut(picture, random, TESTED_SIDES if tested else SIDES)
                crop.save(folder / f"{number:02}.jpg", quality=QUALITY, optimize=True)


def cut(picture: Image.Image, random: np.random.Generator, sides: tuple[float, float]) -> Image.Image:
    """A square anywhere, between two shares of the shorter side; every second one mirrored, on average."""
    width, height = picture.size
    side = random.uniform(*sides) * min(width, height)
    left, top = random.uniform(0, width - side), random.uniform(0, height - side)
    box = (left, top, left + side, top + side)
    crop = picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box)
    mirrored = random.random() < 0.5
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else crop


if __name__ == "__main__":
    tyro.cli(Photographs).run()
