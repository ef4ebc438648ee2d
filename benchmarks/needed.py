"""What a model needs its outlier tokens for: they are replaced at one block, and the rest of the network runs on.

python benchmarks/needed.py --model MODEL --blocks 8 --train TRAIN --test TEST

Photographs are in a folder a class. A linear probe is fitted to CLS after the last block of the model as it is, and
then reads CLS of test photographs whose patch tokens after a block were replaced: outlier tokens by the mean normal
token of their batch, which takes all of them away; outlier tokens by the mean outlier token, which leaves them there
and takes away what they say of the photograph; normal tokens by the mean normal token. The interval is of a paired
bootstrap over the test photographs. Batches are drawn at random, so that a mean is over photographs of all classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

import infoscope
from infoscope.backbones.backbone import stream_of
from infoscope.images.labels import folder_labels
from infoscope.images.views import Views

LONG = 3.0
"""Times the median norm of its view that make an outlier; `infoscope outliers` takes the median of all views."""
BATCH = 20
INVERSE_STRENGTH = 0.01
"""Of the probe. Our choice: few photographs to a class, and as many numbers."""

Replace = Callable[[Tensor, Tensor], Tensor]
WAYS: dict[str, Replace] = {
    "outlier tokens by the mean normal token": lambda tokens, long: _put(tokens, long, tokens[~long]),
    "outlier tokens by the mean outlier token": lambda tokens, long: _put(tokens, long, tokens[long]),
    "normal tokens by the mean normal token": lambda tokens, long: _put(tokens, ~long, tokens[~long]),
}


@dataclass(frozen=True)
class Needed:
    """Options of the table."""

    model: Path
    """The model."""
    train: Path
    """Photographs that the probe is fitted to."""
    test: Path
    """Photographs that it reads."""
    blocks: tuple[int, ...] = (8,)
    """The blocks after which tokens are replaced, each by itself."""
    photographs: int = 1000
    """Most of either kind."""
    draws: int = 1000
    """Of the bootstrap."""

    def run(self) -> None:
        """Print the table."""
        backbone = infoscope.load_backbone(self.model, -1, device="cpu")
        given, labels = self._read(backbone, self.train)
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=INVERSE_STRENGTH, max_iter=500))
        probe.fit(given, labels)
        asked, answers = self._read(backbone, self.test)
        right = probe.predict(asked) == answers
        print(f"{len(labels):,} photographs to fit, {len(answers):,} to read; as it is: {right.mean():.1%}", flush=True)
        random = np.random.default_rng(0)
        for block in self.blocks:
            for name, replace in WAYS.items():
                hook = backbone.block_list[block].register_forward_hook(_replacing(replace, backbone.prefix_tokens))
                changed = (probe.predict(self._read(backbone, self.test)[0]) == answers).astype(float) - right
                hook.remove()
                drawn = [random.choice(changed, len(changed)).mean() for _ in range(self.draws)]
                low, high = np.quantile(drawn, [0.025, 0.975])
                print(
                    f"block {block}, {name}: {100 * changed.mean():+.1f} points ({100 * low:.1f} to {100 * high:.1f})",
                    flush=True,
                )

    def _read(self, backbone: infoscope.Backbone, images: Path) -> tuple[np.ndarray, np.ndarray]:
        """CLS after the last block, and the class of each photograph, in an order of the photographs' own."""
        source = infoscope.open_images(images)
        order = np.random.default_rng(0).permutation(len(source))[: self.photographs].tolist()
        full, folders = Views(backbone.patch_size, backbone.grid, shift=0).full, folder_labels(source)
        with torch.no_grad():
            read = [
                backbone.all_tokens(np.stack([full(source[i]) for i in order[first : first + BATCH]]))[:, 0].cpu()
                for first in range(0, len(order), BATCH)
            ]
        return torch.cat(read).numpy(), np.array([folders[i] for i in order])


def _put(tokens: Tensor, where: Tensor, source: Tensor) -> Tensor:
    return torch.where(where[..., None], source.mean(0), tokens) if len(source) else tokens


def _replacing(replace: Replace, prefix: int) -> Callable[[Any, Any, Any], Any]:
    """A hook that replaces patch tokens in what a block makes."""

    def hook(_module: Any, _given: Any, made: Any) -> Any:
        stream = stream_of(made)
        norms = stream[:, prefix:].norm(dim=-1)
        long = norms > LONG * norms.median(dim=1, keepdim=True).values
        stream = torch.cat([stream[:, :prefix], replace(stream[:, prefix:], long)], dim=1)
        return (stream, *made[1:]) if isinstance(made, tuple) else stream

    return hook


if __name__ == "__main__":
    tyro.cli(Needed).run()
