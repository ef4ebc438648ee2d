"""How the flags of `infoscope measure` become its options."""

import pytest
import tyro

from infoscope.cli.main import main
from infoscope.cli.measure import Measure, MeasureFlags
from infoscope.measurement.config import MeasureConfig


def config(*flags):
    return tyro.cli(Measure, args=["--sae", "s", "--images", "i", "--out", "o", *flags]).config.config


@pytest.mark.parametrize(
    ("given", "main_shift", "curve"),
    [("2", 2, (2,)), ("3", 3, (3,)), ("1,2,3,4", 2, (1, 2, 3, 4)), ("4,3,1", 4, (1, 3, 4)), ("0,2,2", 2, (0, 2))],
)
def test_the_score_is_of_the_usual_shift_or_of_the_first(given, main_shift, curve):
    found = config("--shift", given)
    assert (found.shift, found.curve) == (main_shift, curve)


def test_without_flags_the_options_are_the_defaults():
    assert config().curve == MeasureConfig().curve
    assert {**vars(config()), "shifts": ()} == vars(MeasureConfig())
    flags = config("--map-activation", "pre", "--control", "position-matched", "--quantile-images", "8")
    assert (flags.map_activation, flags.control, flags.quantile_images) == ("pre", "position-matched", 8)
    assert MeasureFlags(shift=(1, 4)).config == MeasureConfig(shift=1, shifts=(1, 4))


def test_what_is_out_of_range_is_one_line(capsys):
    flags = ["measure", "--sae", "s", "--images", "i", "--out", "o", "--quantile-images", "5000"]
    assert main(flags) == 2
    assert "--quantile-images 5000 is out of range: choose 0 to 1024" in capsys.readouterr().err
