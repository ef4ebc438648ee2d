"""Safetensors files that other programs wrote, with one clear line for each way in which they can be broken."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from infoscope.errors import InfoscopeError, no_memory_to, ran_out_of_memory, shown


def read_safetensors(path: Path, remedy: str = "fetch it again") -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the CPU, in the precision they are stored in.

    Args:
        path: the file.
        remedy: what to do about a file that is broken.

    Raises:
        InfoscopeError: the file is missing or not a regular one, cut short, broken or of another kind, or memory is
            short.

    Example:
        >>> import tempfile, torch
        >>> from safetensors.torch import save_file
        >>> path = Path(tempfile.mkdtemp()) / "sae.safetensors"
        >>> save_file({"b_dec": torch.ones(2)}, path)
        >>> read_safetensors(path)
        {'b_dec': tensor([1., 1.])}
        >>> _ = path.write_bytes(b"no")
        >>> try:
        ...     read_safetensors(path)
        ... except InfoscopeError as error:
        ...     print("cut short or not a safetensors file" in str(error))
        True
    """
    if not path.is_file():
        raise InfoscopeError(f"{path.parent} has no file {path.name}; {remedy}")
    try:
        return load_file(path)
    except Exception as error:  # a header that lies makes the library and torch fail in many ways
        raise unreadable(path, error, remedy) from error


def unreadable(path: Path, error: Exception, remedy: str = "fetch it again") -> InfoscopeError:
    """The line for an error that reading a safetensors file raised: memory is short, or the file is broken.

    Example:
        >>> str(unreadable(Path("sae.safetensors"), OSError(12, "Cannot allocate memory")))
        'there is not enough memory to read sae.safetensors; close other programs, or use a machine with more'
    """
    if ran_out_of_memory(error):
        return no_memory_to(f"read {path}")
    if isinstance(error, SafetensorError | OSError):
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    else:
        reason = shown(str(error))
    return InfoscopeError(f"{path} is cut short or not a safetensors file ({reason[:200]}); {remedy}")
