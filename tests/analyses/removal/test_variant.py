import numpy as np
import pytest

from infoscope.analyses.removal.groups import FeatureGroup
from infoscope.analyses.removal.variants import Variant, check_variants
from infoscope.errors import InfoscopeError

GROUP = FeatureGroup("some", "list", np.uint32([1]))


def test_a_replacement_needs_something_to_replace():
    with pytest.raises(InfoscopeError, match="untouched removes no features, so there is nothing for a mean"):
        Variant("untouched", replacement="mean")


def test_what_counts_as_an_edit():
    assert not Variant("untouched").edited
    assert Variant("minus", GROUP).edited
    assert Variant("reconstruction", method="reconstruct").edited


def test_names_tell_variants_apart():
    check_variants([Variant("a"), Variant("a", site="site"), Variant("b")])
    with pytest.raises(InfoscopeError, match="two variants are called a at site"):
        check_variants([Variant("a", site="site"), Variant("a"), Variant("a", GROUP, site="site")])
