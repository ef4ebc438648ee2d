from __future__ import annotations

import json

import pytest

from infoscope.backbones.families import family_of
from infoscope.backbones.preprocessing import read_normalisation
from infoscope.errors import InfoscopeError

CLIP = family_of("clip")
VALUES = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
EXPECTED = ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def write(directory, name, content):
    (directory / name).write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize("name", ["preprocessor_config.json", "processor_config.json"])
@pytest.mark.parametrize("nested", [False, True])
def test_values_of_either_file_at_either_level(tmp_path, name, nested):
    write(tmp_path, name, {"image_processor": VALUES} if nested else VALUES)
    assert read_normalisation(tmp_path, CLIP) == EXPECTED


def test_what_transformers_writes_is_read(tmp_path):
    from transformers import CLIPImageProcessorPil

    CLIPImageProcessorPil(image_mean=EXPECTED[0], image_std=EXPECTED[1]).save_pretrained(tmp_path)
    assert read_normalisation(tmp_path, family_of("vit")) == EXPECTED


def test_family_values_without_a_file_or_without_values_in_it(tmp_path):
    assert read_normalisation(tmp_path, CLIP) == CLIP.normalisation
    write(tmp_path, "processor_config.json", {"processor_class": "CLIPProcessor"})
    assert read_normalisation(tmp_path, CLIP) == CLIP.normalisation


def test_a_file_without_values_gives_way_to_the_next(tmp_path):
    write(tmp_path, "preprocessor_config.json", {"size": 224})
    write(tmp_path, "processor_config.json", {"image_processor": VALUES})
    assert read_normalisation(tmp_path, CLIP) == EXPECTED


def test_no_normalising_is_zero_and_one(tmp_path):
    write(tmp_path, "preprocessor_config.json", VALUES | {"do_normalize": False})
    assert read_normalisation(tmp_path, CLIP) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def test_one_number_stands_for_all_channels(tmp_path):
    write(tmp_path, "preprocessor_config.json", {"image_mean": 0.5, "image_std": 0.25})
    assert read_normalisation(tmp_path, CLIP) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@pytest.mark.parametrize(
    "change",
    [
        {"image_std": [0.5, 0.0, 0.5]},
        {"image_std": [0.5, -0.5, 0.5]},
        {"image_mean": [0.5, 0.5]},
        {"image_mean": ["a", "b", "c"]},
        {"image_mean": None},
        {"image_mean": [float("nan"), 0.5, 0.5]},
    ],
)
def test_values_that_cannot_normalise_are_refused(tmp_path, change):
    write(tmp_path, "preprocessor_config.json", VALUES | change)
    with pytest.raises(InfoscopeError, match=r"preprocessor_config\.json: image_mean .* do not normalise"):
        read_normalisation(tmp_path, CLIP)


def test_a_file_that_is_no_object_is_refused(tmp_path):
    write(tmp_path, "preprocessor_config.json", "[1]")
    with pytest.raises(InfoscopeError, match="holds no image processor"):
        read_normalisation(tmp_path, CLIP)
    write(tmp_path, "preprocessor_config.json", "{")
    with pytest.raises(InfoscopeError, match="is not JSON"):
        read_normalisation(tmp_path, CLIP)
