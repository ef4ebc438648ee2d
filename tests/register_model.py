"""A small model with registers, one of which three neurons make an outlier."""

from pathlib import Path

import torch
import transformers

WRITERS, BLOCK, REGISTER = (5, 17, 40), 1, 2
SIDE = 56


def save_register_model(folder: Path, width: int = 32, blocks: int = 3, side: int = SIDE, patch_size: int = 14) -> None:
    """Three neurons of block 1 fire on the second register alone, and write a norm many times the patches'."""
    torch.manual_seed(0)
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=width,
        num_hidden_layers=blocks,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=side,
        patch_size=patch_size,
        num_register_tokens=3,
    )
    model = transformers.Dinov2WithRegistersModel(config)
    with torch.no_grad():
        mark = torch.nn.functional.one_hot(torch.tensor(7), width).float()
        model.embeddings.register_tokens[0, REGISTER - 1] = 4 * mark
        block = model.encoder.layer[BLOCK]
        for neuron, size in zip(WRITERS, (1.0, 0.6, 0.3), strict=True):
            block.mlp.fc1.weight[neuron] = 4 * mark
            block.mlp.fc1.bias[neuron] = -14.0
            block.mlp.fc2.weight[:, neuron] = size * torch.randn(width)
        block.layer_scale2.lambda1.fill_(1.0)
    model.eval().save_pretrained(folder)
