"""Which tokens an SAE says it is of."""

import pytest

from infoscope.backbones.families import token_set_of
from infoscope.errors import InfoscopeError


@pytest.mark.parametrize("site", [None, {}, {"block": 3}, {"tokens": None}])
def test_an_sae_that_does_not_say_is_of_patches(site):
    assert token_set_of(site) == "patch"


@pytest.mark.parametrize("named", ["registers", "", ["patch"], 0])
def test_tokens_that_are_not_known_are_refused(named):
    with pytest.raises(InfoscopeError, match="which is none of patch, all, cls") as refused:
        token_set_of({"tokens": named})
    assert repr(named) in str(refused.value)
