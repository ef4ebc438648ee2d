import numpy as np
import pytest

from infoscope.analyses.planted.plant import plant
from planting import PATCH, SHAPE, SIDE, SILENT, scenes


@pytest.fixture(scope="session")
def pictures():
    return scenes(40)


@pytest.fixture(scope="session")
def views(pictures):
    """Both crops of each picture, ``[image, 2, SIDE, SIDE, 3]``."""
    return np.stack([[p[:SIDE, :SIDE], p[2 * PATCH :, 2 * PATCH :]] for p in pictures])


@pytest.fixture(scope="session")
def silent(pictures):
    """Without noise and false positives, and with every code above 0 counted."""
    return plant(pictures, **SHAPE, **SILENT)


@pytest.fixture(scope="session")
def noisy(pictures):
    return plant(pictures, **SHAPE)
