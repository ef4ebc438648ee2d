"""Files of given directions: what `direction_dictionary` is made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float

from infoscope.errors import InfoscopeError

TENSOR, MEAN = "directions", "mean"


def read_directions(
    path: Path | str,
) -> tuple[Float[np.ndarray, "feature width"], Float[np.ndarray, " width"] | None]:
    """Directions from an ``.npy`` file, or from a ``.safetensors`` file that may bring a mean too.

    Args:
        path: an array ``[n, width]``; or a safetensors file whose tensor is called ``directions``, or has no other of
            two axes beside it, and which may hold ``mean``, ``[width]``.

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
        try:
            directions = np.load(path, allow_pickle=False)
        except (OSError, EOFError, ValueError) as error:
            raise InfoscopeError(f"{path} is not a readable .npy file ({error}); write it anew") from error
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
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        # By torch, since numpy has no bfloat16.
        tensors = {key: tensor.float().numpy() for key, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise InfoscopeError(f"{path} is cut short or not a safetensors file ({error}); write it anew") from error
    candidates = [TENSOR] if TENSOR in tensors else [key for key, value in tensors.items() if value.ndim == 2]
    if len(candidates) != 1:
        held = ", ".join(sorted(tensors)) or "nothing"
        raise InfoscopeError(f"{path} holds {held}: call the directions {TENSOR!r}")
    return tensors[candidates[0]], tensors.get(MEAN)
