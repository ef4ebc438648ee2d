"""What docs/validation.md promises of the default setting: real photographs, and a seed no rule was chosen on."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import infoscope
from infoscope.analyses.validation.validate import hold

pytestmark = pytest.mark.slow

SEED, PHOTOGRAPHS = 5, 150


@pytest.fixture(scope="module")
def measured(imagenette):
    photographs = hold(infoscope.open_images(str(imagenette / "train")), PHOTOGRAPHS)
    planted = infoscope.plant(photographs, seed=SEED)
    scope = infoscope.measure_scope(planted.backbone, planted.dictionary, photographs)
    return np.array(planted.kinds), scope.table["cds"].to_numpy(), np.array(scope.table["scope_class"].to_list())


def test_cds_tells_global_features_from_local_ones(measured):
    kinds, cds, _ = measured
    scored = ~np.isnan(cds) & np.isin(kinds, ["global", "local"])
    assert scored.sum() > 100
    assert roc_auc_score(kinds[scored] == "global", cds[scored]) >= 0.99


def test_classes_are_recovered_and_nothing_diffuse_is_called_local(measured):
    kinds, _, classes = measured
    right = [(classes[kinds == kind] == kind).mean() for kind in ("local", "global", "position-bound", "diffuse")]
    assert np.mean(right) >= 0.9
    # What is not recovered is left unsettled, and not called something else.
    settled = classes != "unsettled"
    assert (classes == kinds)[settled].mean() >= 0.98
    assert not np.any(classes[kinds == "diffuse"] == "local")
