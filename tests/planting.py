"""Small pictures to plant in, and the planted features once more in numpy and scipy, patch by patch."""

import numpy as np
from PIL import Image
from scipy.fft import dctn

GRID, PATCH = 8, 8
SIDE = GRID * PATCH
SHAPE = {"features": 40, "grid": GRID, "patch_size": PATCH, "side": 2, "outliers": 3, "width": 96}
SILENT = {"noise": 0.0, "background": 0.0, "false_positives": 0.0, "threshold": 1e-3}


def scenes(count: int, size: int = SIDE + 2 * PATCH) -> np.ndarray:
    """Pictures with flat parts, edges and texture: smooth colour, and noise in one half."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        picture = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)).astype(int)
        rough = (
            random.integers(-60, 61, picture.shape)
            * (random.random((4, 4)) < 0.5).repeat(size // 4, 0).repeat(size // 4, 1)[..., None]
        )
        found.append(np.clip(picture + rough, 0, 255).astype(np.uint8))
    return np.stack(found)


def describe(view, n):
    """As `infoscope.analyses.planted.features.describe`, from its definition."""
    p = view.shape[0] // n
    rows = []
    for row in range(p):
        for column in range(p):
            patch = view[row * n : (row + 1) * n, column * n : (column + 1) * n].astype(np.float64) / 255
            luma = patch.mean(-1)
            down, across = np.diff(luma, axis=0)[:, :-1], np.diff(luma, axis=1)[:-1]
            waves = dctn(luma, norm="ortho")
            kept = np.zeros_like(waves)
            kept[:4, :4] = waves[:4, :4]
            left = dctn(waves - kept, norm="ortho", type=3)
            red, green, blue = patch.mean((0, 1))
            rows.append(
                [
                    luma.mean(),
                    red - green,
                    blue - (red + green) / 2,
                    np.mean(patch.max(-1) - patch.min(-1)),
                    luma.min(),
                    luma.max(),
                    luma.std(),
                    *(
                        np.sqrt(np.abs(np.cos(angle) * across + np.sin(angle) * down).mean())
                        for angle in np.radians([0, 45, 90, 135])
                    ),
                    np.sqrt(np.sqrt(np.mean(left**2))),
                    *(waves[u, v] / n for u in range(4) for v in range(4) if u or v),
                ]
            )
    return np.array(rows)


def ramp(value, low, high):
    return np.clip((value - low) / (high - low), 0, 1)


def expected(planted, view):
    """Codes without noise, false positives and outliers: local ``[patch, feature]``; the strengths of the others."""
    weights = {name: tensor.double().numpy() for name, tensor in planted.features.named_buffers()}
    z = (describe(view, planted.config.patch_size) - weights["descriptor_mean"]) / weights["descriptor_scale"]
    local = ramp(z @ weights["local_weight"], weights["local_low"], weights["local_high"])
    both = np.concatenate([z.mean(0)[:12], z.std(0)])
    t = (both - weights["statistic_mean"]) / weights["statistic_scale"]
    return local, ramp(t @ weights["image_weight"], weights["image_low"], weights["image_high"])
