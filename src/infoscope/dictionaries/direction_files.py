"""Files of given directions: what `direction_dictionary` is made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float

from infoscope.errors import InfoscopeError, few
from infoscope.storage.arrays import read_npy

TENSOR, MEAN = "directions", "mean"


def read_directions(
    path: Path | str,
) -> tuple[Float[np.ndarray, "feature width"], Float[np.ndarray, " width"] | None]:
    """Directions from an ``.npy`` file, or from a ``.safetensors`` file that may bring a mean too.

    Args:
        path: an array ``[n, width]``; or a safetensors file whose tensor is called ``directions``, or has no other of
            two axes beside it, and which may hold ``mean``, ``[width]``. Beside ``directions``, other tensors of two
            axes are other directions; any further tensor, such as a bias, is refused, since nothing here would read it.

    Returns:
        The directions, and what is to be subtracted from tokens first, where the file says so.

    Raises:
        InfoscopeError: there is no such file, it holds something else, or it is neither kind of file.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "words.npy"
        >>> np.save(path, np.ones((3, 8), np.float32))
        >>> directions, mean = read_directions(path)
        >>> directions.shape, mean
        ((3, 8), None)
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InfoscopeError(f"no such file of directions: {path}; give an .npy or .safetensors of [n, width]")
    mean = None
    if path.suffix == ".npy":
        directions = read_npy(path, "is not a readable .npy file", "write it anew")
    elif path.suffix == ".safetensors":
        directions, mean = _read_safetensors(path)
    else:
        raise InfoscopeError(f"{path} is neither .npy nor .safetensors; save the directions as one of the two")
    if directions.ndim != 2 or 0 in directions.shape or directions.dtype.kind != "f":
        raise InfoscopeError(
            f"{path} holds {list(directions.shape)} of {directions.dtype}; directions are [n, width] of floating point"
        )
    if mean is not None and (mean.shape != directions.shape[1:] or not np.isfinite(mean).all()):
        raise InfoscopeError(f"{path}: mean has shape {list(mean.shape)}, or NaN in it; it belongs to [width]")
    return directions.astype(np.float32), mean


def _read_safetensors(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    import torch

    from infoscope.storage.tensors import read_safetensors

    held = read_safetensors(path, "write it anew")
    candidates = [TENSOR] if TENSOR in held else [key for key, value in held.items() if value.ndim == 2]
    if len(candidates) != 1:
        raise InfoscopeError(f"{path} holds {few(sorted(held)) or 'nothing'}: call the directions {TENSOR!r}")
    if spare := sorted(key for key, value in held.items() if value.ndim != 2 and key not in (*candidates, MEAN)):
        raise InfoscopeError(
            f"{path} holds {few(spare)}, which directions do not use, so what it does to codes is not known; leave it "
            f"out, or call what is to be subtracted {MEAN!r}"
        )
    for key in {candidates[0], MEAN} & held.keys():
        if held[key].dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            raise InfoscopeError(f"{path}: {key} holds {held[key].dtype}; directions are [n, width] of floating point")
    mean = held.get(MEAN)
    # By torch, since numpy has no bfloat16.
    return held[candidates[0]].float().numpy(), None if mean is None else mean.float().numpy()
