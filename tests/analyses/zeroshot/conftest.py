"""Checkpoints with text towers, written once."""

import numpy as np
import pytest

from language import SIDE, Saved, save


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A checkpoint of a family, written once; tests must not change its files."""
    written: dict[str, Saved] = {}

    def get(kind: str) -> Saved:
        if kind not in written:
            written[kind] = save(kind, tmp_path_factory.mktemp(kind))
        return written[kind]

    return get


@pytest.fixture(params=["clip", "siglip", "siglip-gemma", "siglip2"])
def whole(request, saved) -> Saved:
    """Each family in turn."""
    return saved(request.param)


@pytest.fixture(scope="session")
def photographs() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, SIDE, SIDE, 3), dtype=np.uint8)
