"""Ground distances, against scipy's."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from infoscope.scope.geometry import patch_distances


@pytest.mark.parametrize(("metric", "scipy_name"), [("euclidean", "euclidean"), ("l1", "cityblock")])
@pytest.mark.parametrize("side", [1, 2, 7, 14])
def test_distances_are_those_between_patch_centres(side, metric, scipy_name):
    centres = np.array([(row + 0.5, column + 0.5) for row in range(side) for column in range(side)])
    np.testing.assert_allclose(patch_distances(side, metric), cdist(centres, centres, scipy_name), rtol=1e-15)


@pytest.mark.parametrize("side", [2, 12, 37])
def test_the_largest_distance_is_the_grid_diagonal(side):
    assert patch_distances(side).max() == pytest.approx(np.sqrt(2) * (side - 1), rel=1e-15)
    assert patch_distances(side, "l1").max() == 2 * (side - 1)
