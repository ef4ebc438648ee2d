"""Step 6: how good the model is, beside a random one of the same architecture and raw pixels.

On Imagenette's val photographs, which no step before has seen. A linear probe is a logistic regression on CLS and mean
patch token, its strength chosen on a fifth of the training photographs. Zero-shot is the class embedding nearest to the
image embedding; what has no class embeddings of its own is given the classes' mean training embeddings, which is kinder
than zero-shot is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from jaxtyping import Float32, Int64
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import CLIPVisionModelWithProjection

from infoscope.analyses.zeroshot.embeddings import read_embeddings
from pictures import Pictures, read_folder, read_model
from student import untrained_student

INVERSE_STRENGTHS = (0.001, 0.01, 0.1, 1.0)
THUMBNAIL = 32

Features = Float32[np.ndarray, "image features"]
Labels = Int64[np.ndarray, " image"]


@dataclass(frozen=True)
class Evaluate:
    """Measure it."""

    model: Path
    """The model."""
    classes: Path
    """Its class embeddings."""
    train: Path
    """Training photographs, a folder a class."""
    val: Path
    """Photographs to be right about, likewise."""
    out: Path
    """The file of figures to write."""
    seed: int = 0
    """Of the random model and of the fifth."""

    def run(self) -> None:
        """Write the figures."""
        given, labels, _ = read_folder(self.train)
        asked, answers, _ = read_folder(self.val)
        figures: dict[str, Any] = {"train": len(labels), "val": len(answers)}
        trained = CLIPVisionModelWithProjection.from_pretrained(self.model, dtype=torch.float32).eval()
        vectors = read_embeddings(self.classes).vectors
        for name, model in (("model", trained), ("random", untrained_student(self.seed).eval())):
            near, features = read_model(model, given)
            far, asked_features = read_model(model, asked)
            ours = vectors if name == "model" else None
            figures[name] = self._both((near, features), labels, (far, asked_features), answers, ours)
        small = [_thumbnails(pictures) for pictures in (given, asked)]
        figures["pixels"] = self._both((small[0], small[0]), labels, (small[1], small[1]), answers, None)
        self.out.write_text(json.dumps(figures, indent=1) + "\n")
        print(self.out.read_text())

    def _both(
        self,
        given: tuple[Features, Features],
        labels: Labels,
        asked: tuple[Features, Features],
        answers: Labels,
        vectors: Features | None,
    ) -> dict[str, float]:
        """Linear probe, and nearest class."""
        (near, features), (far, asked_features) = given, asked
        means = np.stack([near[labels == label].mean(0) for label in range(labels.max() + 1)])
        found = {
            "linear": self._linear(features, labels, asked_features, answers),
            "nearest mean": _nearest(means, far, answers),
        }
        return found if vectors is None else found | {"zero-shot": _nearest(vectors, far, answers)}

    def _linear(self, given: Features, labels: Labels, asked: Features, answers: Labels) -> float:
        order = np.random.default_rng(self.seed).permutation(len(labels))
        held, rest = order[: len(order) // 5], order[len(order) // 5 :]
        probes = [_probe(inverse, given[rest], labels[rest]) for inverse in INVERSE_STRENGTHS]
        scores = [probe.score(given[held], labels[held]) for probe in probes]
        chosen = INVERSE_STRENGTHS[int(np.argmax(scores))]
        return round(float(_probe(chosen, given, labels).score(asked, answers)), 4)


def _probe(inverse: float, given: Features, labels: Labels) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(C=inverse, max_iter=300)).fit(given, labels)


def _nearest(vectors: Features, asked: Features, answers: Labels) -> float:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return round(float(((asked @ unit.T).argmax(1) == answers).mean()), 4)


def _thumbnails(pictures: Pictures) -> Features:
    """Pixels of 32 x 32, each picture's mean taken away and its length brought to 1."""
    small = [np.asarray(Image.fromarray(picture).resize((THUMBNAIL, THUMBNAIL))) for picture in pictures]
    flat = np.stack(small).reshape(len(small), -1).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    made: Features = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    return made


if __name__ == "__main__":
    tyro.cli(Evaluate).run()
