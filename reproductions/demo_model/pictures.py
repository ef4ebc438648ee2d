"""Pictures and what models make of them, shared by the steps after training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from transformers import CLIPVisionModelWithProjection

import infoscope
from student import normalise
from views import make_view

Pictures = UInt8[np.ndarray, "image 224 224 3"]


def read_folder(folder: Path) -> tuple[Pictures, Int64[np.ndarray, " image"], list[str]]:
    """Every picture of a folder of folders as 224 x 224, its class, and the classes' folders."""
    ids = list(infoscope.open_images(str(folder)).ids)
    names = sorted({image_id.split("/")[0] for image_id in ids})
    pictures = np.stack([np.asarray(make_view(folder / image_id, None)) for image_id in ids])
    return pictures, np.array([names.index(image_id.split("/")[0]) for image_id in ids]), names


def image_embeddings(model: Path, pictures: Pictures) -> Float32[np.ndarray, "image embedding"]:
    """Image embeddings of length 1, by a model that transformers saved."""
    return read_model(CLIPVisionModelWithProjection.from_pretrained(model, dtype=torch.float32).eval(), pictures)[0]


@torch.no_grad()
def read_model(
    model: Any, pictures: Pictures, batch: int = 50
) -> tuple[Float32[np.ndarray, "image embedding"], Float32[np.ndarray, "image features"]]:
    """Image embeddings of length 1, and what a linear probe reads: CLS and mean patch token after the last norm."""
    embeddings, features = [], []
    for start in range(0, len(pictures), batch):
        output = model(pixel_values=normalise(torch.from_numpy(pictures[start : start + batch])))
        tokens = model.vision_model.post_layernorm(output.last_hidden_state)
        embeddings.append(torch.nn.functional.normalize(output.image_embeds, dim=1))
        features.append(torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1))
    return torch.cat(embeddings).numpy(), torch.cat(features).numpy()
