from itertools import pairwise

import pytest

from infoscope.errors import InfoscopeError
from infoscope.training.config import TrainConfig


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": 0}, "--features 0 is out of range: choose 1 or more"),
        ({"k": 0}, "--k 0 is out of range"),
        ({"k": 65, "features": 64}, "--k 65 is out of range: there are 64 features"),
        ({"tokens": 0}, "--tokens 0 is out of range"),
        ({"batch_tokens": 0}, "--batch-tokens 0 is out of range"),
        ({"dead_after": 0}, "--dead-after 0 is out of range"),
        ({"auxk": 0}, "--auxk 0 is out of range"),
        ({"auxk_coefficient": -0.1}, "--auxk-coefficient -0.1 is out of range: choose 0 or more"),
        ({"l1": -1.0}, "--l1 -1.0 is out of range"),
        ({"learning_rate": 0.0}, "--learning-rate 0.0 is out of range: choose a number above 0"),
        ({"learning_rate": float("nan")}, "--learning-rate nan is out of range"),
        ({"clip": 0.0}, "--clip 0.0 is out of range"),
        ({"warmup": 1.5}, "--warmup 1.5 is out of range: choose 0 to 1"),
        ({"decay": -0.1}, "--decay -0.1 is out of range"),
        ({"warmup": 0.6, "decay": 0.5}, "--warmup 0.6 is out of range: with --decay it is more than the whole"),
        ({"buffer_tokens": 0}, "--buffer-tokens 0 is out of range"),
        ({"log_every": 0}, "--log-every 0 is out of range"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(InfoscopeError, match=f"^{message}"):
        TrainConfig(**options)


def test_the_learning_rate_rises_rests_and_falls():
    config = TrainConfig(tokens=100_000, batch_tokens=100, warmup=0.1, decay=0.25)
    factors = [config.factor(step) for step in range(config.steps)]
    assert config.steps == 1000
    assert factors[0] == 0.01
    assert factors[99:751] == [1.0] * 652
    assert factors[875] == pytest.approx(0.5)
    assert factors[-1] == pytest.approx(1 / 250)
    assert all(a < b for a, b in pairwise(factors[:100]))
    assert all(a > b for a, b in pairwise(factors[750:]))


def test_without_rise_or_fall():
    config = TrainConfig(tokens=10, batch_tokens=3, warmup=0.0, decay=0.0)
    assert [config.factor(step) for step in range(config.steps)] == [1.0] * 4
