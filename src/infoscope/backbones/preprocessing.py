"""The mean and standard deviation a checkpoint wants its pixels normalised by."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from infoscope.backbones.families import Channels, Family
from infoscope.errors import InfoscopeError
from infoscope.storage.atomic import read_json

FILES = ("preprocessor_config.json", "processor_config.json")
"""Where transformers keeps it, the first that has it wins; in the second it lies under ``image_processor``."""


def read_normalisation(directory: Path, family: Family) -> tuple[Channels, Channels]:
    """Mean and standard deviation for pixels on the scale 0..1.

    Args:
        directory: the model's directory.
        family: gives the values where no preprocessor file does.

    Returns:
        ``(mean, std)``, red, green and blue; 0 and 1 where the file says ``"do_normalize": false``.

    Raises:
        InfoscopeError: a preprocessor file is not JSON, or its values are no mean and standard deviation.

    Example:
        >>> import tempfile
        >>> from infoscope.backbones.families import family_of
        >>> directory = Path(tempfile.mkdtemp())
        >>> read_normalisation(directory, family_of("siglip"))
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        >>> _ = (directory / "preprocessor_config.json").write_text(
        ...     '{"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1]}')
        >>> read_normalisation(directory, family_of("siglip"))
        ((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    """
    for path in (directory / name for name in FILES):
        if not path.is_file():
            continue
        content = read_json(path)
        if isinstance(content, dict):
            content = content.get("image_processor", content)
        if not isinstance(content, dict):
            raise InfoscopeError(f"{path} holds no image processor; restore it or remove it")
        if content.get("do_normalize") is False:
            return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        if "image_mean" in content and "image_std" in content:
            mean, std = _channels(content["image_mean"]), _channels(content["image_std"])
            if mean is None or std is None or min(std) <= 0:
                raise InfoscopeError(
                    f"{path}: image_mean {content['image_mean']} and image_std {content['image_std']} do not "
                    "normalise three channels; write three finite numbers each, the latter above 0"
                )
            return mean, std
    return family.normalisation


def _channels(value: Any) -> Channels | None:
    """Three finite numbers, one number standing for all; ``None`` for anything else."""
    numbers = value if isinstance(value, list) else [value] * 3
    if len(numbers) != 3 or not all(isinstance(number, int | float) for number in numbers):
        return None
    red, green, blue = map(float, numbers)
    return (red, green, blue) if all(map(math.isfinite, (red, green, blue))) else None
