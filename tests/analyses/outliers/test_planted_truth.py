"""The pattern that the paper reports of outlier tokens, on a planted model where it is known to be there."""

import numpy as np
import pytest

from infoscope.analyses.outliers.measure import measure_outliers
from infoscope.analyses.planted.plant import plant
from infoscope.measurement.measure import measure_scope
from infoscope.runtime.run import open_run
from planting import GRID, SHAPE, scenes

pytestmark = pytest.mark.slow

IMAGES, OUTLIERS = 100, 3


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    pictures = scenes(IMAGES)
    planted = plant(pictures, **SHAPE)
    options = {"top_images": 8, "shift": 1, "noise_images": 0}
    measure_scope(planted.backbone, planted.dictionary, pictures, out=folder, **options)
    result = measure_outliers(planted.backbone, pictures, run=open_run(folder), sae=planted.dictionary)
    return planted, result


def test_they_are_where_the_model_puts_them(found):
    _, result = found
    assert result.record.presence.kind == "outlier"
    assert result.record.presence.blocks == [2, 3]
    assert result.blocks["long_share"].to_list()[2:] == pytest.approx([OUTLIERS / GRID**2] * 2)
    assert result.record.cutoff.tokens == IMAGES * OUTLIERS


def test_their_mask_moves_as_chance_has_it_and_others_less(found):
    masks = {mask.mask: mask for mask in found[1].record.stability.masks}
    # Two tokens to a mask here, and often one or three in the other crop: then no mask can stay where it is.
    assert masks["next"].below_outlier > 5 * masks["next"].below_outlier_error
    assert masks["outlier"].mean > 1.6 * masks["next"].mean
    assert masks["outlier"].mean > 0.8 * masks["random"].mean
    assert masks["complement"].mean < 0.1 * masks["outlier"].mean


def test_global_features_are_active_on_them_and_local_ones_elsewhere(found):
    planted, result = found
    high, low = (result.features[f"{kind}_activation"].to_numpy() for kind in ("outlier", "normal"))
    sums = {
        kind: [float(values[np.array(planted.kinds) == kind].sum()) for values in (high, low)]
        for kind in ("global", "local", "diffuse")
    }
    assert sums["global"][0] > 50 * sums["global"][1]
    assert sums["local"][1] > 3 * sums["local"][0]
    # An outlier token keeps a third of what its patch would say.
    assert sums["diffuse"][1] > 2 * sums["diffuse"][0]
    groups = {group.name: group for group in result.record.groups.groups if group.kind == "partition"}
    assert groups["high-CDS"].outlier > 3 * groups["high-CDS"].normal
    assert groups["low-CDS"].normal > 2 * groups["low-CDS"].outlier
