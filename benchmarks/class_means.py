"""Class embeddings for a model without a text tower: the mean of each class's images, as the model itself pools them.

    python benchmarks/class_means.py --model MODEL --images TRAIN --out means.safetensors

They stand in for texts where there is no checkpoint with a text tower: `infoscope zeroshot --class-embeddings`. The
scale of the logits is fitted too: on every second image, to the means of the others, by least log loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from infoscope.analyses.probes.labelled_images import open_labelled
from infoscope.analyses.zeroshot.classes import Classes
from infoscope.analyses.zeroshot.embeddings import LogitScale, class_embeddings, write_embeddings
from infoscope.analyses.zeroshot.image_head import ImageHead
from infoscope.backbones.loading import load_backbone
from infoscope.backbones.whole_pass import WholePass
from infoscope.images.prefetch import decode_ahead
from infoscope.images.source import spread_evenly
from infoscope.images.views import Views
from infoscope.options import Pooled
from infoscope.runtime.progress import progress


@dataclass(frozen=True)
class ClassMeans:
    """Write the mean embedding of each class's images."""

    model: str
    images: str
    out: Path
    pooled: Pooled = "cls"
    input_side: int | None = None
    count: int = 3000
    """At most so many images, spread evenly over them."""


def main(options: ClassMeans) -> None:
    backbone = load_backbone(options.model, block=-1, input_side=options.input_side, device="cpu")
    labelled = open_labelled(options.images)
    images, labels = labelled.images, labelled.labels
    head = ImageHead(backbone, options.pooled, None, LogitScale(1.0))
    views = Views(backbone.patch_size, backbone.grid, 0)
    vectors, read = [], []
    chosen = sorted(spread_evenly(len(images), options.count))
    with progress("Embedding", len(chosen), "images") as advance, torch.inference_mode():
        for batch in decode_ahead(images, chosen, views.full, backbone.batch_size):
            if batch.index:
                vectors.append(head.embed(WholePass(backbone, batch.pixels, head.blocks).outputs).numpy())
                read += batch.index
            advance(len(batch.index) + len(batch.unreadable))
    embedded = np.concatenate(vectors).astype(np.float64)
    used, label = np.unique(labels[read], return_inverse=True)
    names = tuple(labelled.classes[number] for number in used.tolist())
    half = np.arange(len(label)) % 2 == 0
    cosine = embedded[~half] @ _means(embedded[half], label[half]).T
    rows = np.arange(len(cosine))
    fitted = minimize_scalar(lambda log: -log_softmax(np.exp(log) * cosine, axis=1)[rows, label[~half]].mean())
    scale = LogitScale(float(np.exp(fitted.x)), None, "class embeddings")
    source = {"model": backbone.name, "images": images.name, "pooled": options.pooled, "read": len(read)}
    classes = Classes(names, names, images.name)
    write_embeddings(options.out, class_embeddings(classes, _means(embedded, label), scale, source))
    print(f"{len(names)} classes of {len(read):,} images, width {backbone.width}, logit scale {scale.scale:.1f}")
    print(f"held-out half: accuracy {(cosine.argmax(1) == label[~half]).mean():.3f}, log loss {fitted.fun:.3f}")


def _means(vectors: np.ndarray, label: np.ndarray) -> np.ndarray:
    means = np.stack([vectors[label == each].mean(0) for each in range(label.max() + 1)])
    unit: np.ndarray = means / np.linalg.norm(means, axis=1, keepdims=True)
    return unit


if __name__ == "__main__":
    main(tyro.cli(ClassMeans))
