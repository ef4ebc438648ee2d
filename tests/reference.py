"""The method, written out slowly and apart from the package: dense maps, POT, float64.

Nothing of infoscope is imported: images are read by Pillow, tokens come from transformers' own hidden states one image
at a time, codes from a full sort, and distances from POT on the dense overlap maps.
"""

import json
from pathlib import Path

import numpy as np
import ot
import torch
from PIL import Image
from safetensors.numpy import load_file
from transformers import AutoModel

MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


class Reference:
    """The definition for a model of the DINOv2 family and a TopK SAE."""

    def __init__(
        self, model: Path, block: int, prefix: int, sae: Path, files: list[Path], n: int = 14, p: int = 16, s: int = 2
    ):
        self.model = AutoModel.from_pretrained(model, dtype=torch.float32).eval()
        # One block is left after the one that is read; what follows would change nothing.
        self.model.encoder.layer = self.model.encoder.layer[: block + 2]
        self.block, self.prefix, self.files = block, prefix, files
        self.n, self.p, self.s = n, p, s
        weights = load_file(sae / "sae.safetensors")
        self.W, self.b = torch.from_numpy(weights["W_enc"]), torch.from_numpy(weights["b_enc"])
        self.k = json.loads((sae / "sae.json").read_text())["activation"]["k"]

    def codes(self, pixels: np.ndarray) -> np.ndarray:
        """[p^2, features]: TopK, then ReLU, of one view's patch tokens."""
        image = (torch.from_numpy(pixels.astype(np.float32)) / 255 - torch.from_numpy(MEAN)) / torch.from_numpy(STD)
        with torch.no_grad():
            hidden = self.model(image.permute(2, 0, 1)[None], output_hidden_states=True).hidden_states
            pre = (hidden[self.block + 1][0, self.prefix :] @ self.W + self.b).numpy()
        # A stable sort of the negated values puts the lower feature first among equals.
        order = np.argsort(-pre, axis=1, kind="stable")[:, : self.k]
        codes = np.zeros_like(pre)
        np.put_along_axis(codes, order, np.maximum(np.take_along_axis(pre, order, 1), 0), 1)
        return codes

    def resized(self, index: int, patches: int) -> np.ndarray:
        side = patches * self.n
        with Image.open(self.files[index]) as image:
            return np.array(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))

    def crops(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Codes of both crops, [p^2, features] each."""
        whole, side, offset = self.resized(index, self.p + self.s), self.p * self.n, self.s * self.n
        return self.codes(whole[:side, :side]), self.codes(whole[offset:, offset:])

    def ranking(self, top: int) -> tuple[list[list[int]], np.ndarray]:
        """Top images of each feature by the maximum over the full view, and all scores [image, feature]."""
        score = np.stack([self.codes(self.resized(i, self.p)).max(0) for i in range(len(self.files))])
        best = []
        for feature in range(score.shape[1]):
            order = np.argsort(-score[:, feature], kind="stable")[:top]
            best.append([int(i) for i in order if score[i, feature] > 0])
        return best, score

    def overlap(self, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Two dense maps [p^2] on the patches they share, float64."""
        p, s = self.p, self.s
        return first.reshape(p, p)[s:, s:].astype(float).ravel(), second.reshape(p, p)[: p - s, : p - s].astype(
            float
        ).ravel()

    def distances(self) -> np.ndarray:
        side = self.p - self.s
        centres = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), -1).reshape(-1, 2)
        return np.sqrt(((centres[:, None] - centres[None]) ** 2).sum(-1).astype(float))


def emd(first: np.ndarray, second: np.ndarray, distances: np.ndarray) -> float:
    """POT's exact distance between two dense maps, over D; NaN when one is empty."""
    if not first.sum() or not second.sum():
        return float("nan")
    a, b = first / first.sum(), second / second.sum()
    rows, columns = np.nonzero(a)[0], np.nonzero(b)[0]
    a, b = a[rows], b[columns]
    # POT wants equal totals to the last bits.
    value = ot.emd2(a / a.sum(), b / b.sum(), np.ascontiguousarray(distances[np.ix_(rows, columns)]), numItermax=10**7)
    return float(value) / distances.max()
