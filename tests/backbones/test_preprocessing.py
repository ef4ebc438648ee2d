from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from PIL import Image

from infoscope.backbones import preprocessing
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


PIXELS = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}


def as_transformers_does(kind, content):
    import transformers

    whole = {"do_resize": False, "do_center_crop": False, "do_pad": False} | content
    processor = getattr(transformers, f"{kind}Pil", None) or getattr(transformers, kind)
    return np.asarray(processor(**whole)(Image.fromarray(PIXELS), return_tensors="np")["pixel_values"]).squeeze()


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("CLIPImageProcessor", VALUES),
        ("CLIPImageProcessor", {}),
        ("ViTImageProcessor", {}),
        ("DeiTImageProcessor", {"image_mean": [0.1, 0.2, 0.3]}),
        ("BitImageProcessor", {"do_convert_rgb": False}),
        ("SiglipImageProcessor", {"rescale_factor": 1 / 127.5}),
        ("ViTImageProcessor", VALUES | {"do_rescale": False}),
        ("ViTImageProcessor", {"do_rescale": False, "image_mean": [123, 116, 103], "image_std": [58, 57, 57]}),
        ("ViTImageProcessor", VALUES | {"do_normalize": False, "rescale_factor": 1 / 128}),
        ("ViTImageProcessor", VALUES | {"do_normalize": False, "do_rescale": False}),
        ("BeitImageProcessor", VALUES | {"do_reduce_labels": True}),
        ("SegformerImageProcessor", {}),
        ("LevitImageProcessor", {}),
        ("EfficientNetImageProcessor", {}),
        ("EfficientNetImageProcessor", VALUES | {"rescale_offset": True, "rescale_factor": 1 / 127.5}),
        ("EfficientNetImageProcessor", VALUES | {"include_top": False}),
        ("EfficientNetImageProcessor", VALUES | {"do_normalize": False}),
    ],
)
def test_pixels_are_those_of_transformers(tmp_path, kind, content):
    write(tmp_path, "preprocessor_config.json", content | {"image_processor_type": kind})
    mean, std = read_normalisation(tmp_path, CLIP)
    ours = (np.moveaxis(PIXELS, -1, 0).astype(np.float32) / np.float32(255) - np.float32(mean)[:, None, None]) / (
        np.float32(std)[:, None, None]
    )
    assert np.allclose(ours, as_transformers_does(kind, content), rtol=1e-5, atol=1e-5)


def test_vivit_takes_one_off(tmp_path):
    write(tmp_path, "preprocessor_config.json", HALF | {"image_processor_type": "VivitImageProcessor"})
    mean, std = read_normalisation(tmp_path, CLIP)
    film = pytest.importorskip("transformers").VivitImageProcessor(do_resize=False, do_center_crop=False)
    theirs = film([Image.fromarray(PIXELS)], return_tensors="np")["pixel_values"].reshape(3, 8, 8)
    ours = (np.moveaxis(PIXELS, -1, 0) / 255 - np.array(mean)[:, None, None]) / np.array(std)[:, None, None]
    assert np.allclose(ours, theirs, atol=1e-5)


def test_known_defaults_are_those_of_transformers():
    transformers = pytest.importorskip("transformers")
    checked = 0
    for stem, defaults in preprocessing._PROCESSORS.items():
        for name in (f"{stem}ImageProcessorPil", f"{stem}ImageProcessor"):
            try:
                processor = getattr(transformers, name)()
            except (AttributeError, ImportError):
                continue
            wanted = {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True} | defaults.others
            for key, value in wanted.items():
                found = getattr(processor, key)
                assert found == value or (not found and not value), (name, key)
            if defaults.normalisation is not None:
                for key, value in zip(("image_mean", "image_std"), defaults.normalisation, strict=True):
                    assert tuple(getattr(processor, key)) == value, (name, key)
            for key in ("offset", "rescale_offset", "do_flip_channel_order", "do_grayscale", "do_color_quantize"):
                assert not getattr(processor, key, None) or key in defaults.others, (name, key)
            checked += 1
            break
    assert checked > 20


@pytest.mark.slow
def test_every_key_of_transformers_processors_is_accounted_for():
    import importlib
    import pkgutil

    import transformers.models
    from transformers.processing_utils import ImagesKwargs

    keys = set(ImagesKwargs.__annotations__)
    for package in pkgutil.iter_modules(transformers.models.__path__):
        for form in ("image_processing_", "image_processing_pil_"):
            try:
                module = importlib.import_module(f"transformers.models.{package.name}.{form}{package.name}")
            except ImportError:
                continue
            for found in vars(module).values():
                if isinstance(found, type) and found.__module__ == module.__name__:
                    keys |= set(getattr(getattr(found, "valid_kwargs", None), "__annotations__", ()))
    known = set(preprocessing.KNOWN)
    assert len(keys) > 80
    assert keys <= known, keys - known


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"do_flip_channel_order": True}, "do_flip_channel_order is True: the model takes blue before red"),
        ({"do_grayscale": True}, "do_grayscale is True"),
        ({"do_color_quantize": True}, "do_color_quantize is True"),
        ({"offset": True}, "offset is True"),
        ({"rescale_offset": True}, "rescale_offset is True"),
        ({"include_top": True}, "include_top is True"),
        ({"norm_mean": [0.5, 0.5, 0.5]}, "norm_mean is"),
        ({"do_solarise": True}, "do_solarise is True, and what it does to pixels is not known"),
        ({"image_num_channels": 1}, "only RGB"),
        ({"rescale_factor": 0}, "rescale_factor is 0"),
        ({"rescale_factor": "1/255"}, "rescale_factor is '1/255'"),
        ({"do_rescale": "false"}, "do_rescale is 'false'; write true or false"),
        ({"image_mean": [124, 116, 104]}, "are not for pixels from 0 to 1"),
        ({"image_std": [58, 57, 57]}, "are not for pixels from 0 to 1"),
        ({"image_std": [True, True, True]}, "do not normalise"),
        ({"image_processor_type": "MobileViTImageProcessor"}, "do_flip_channel_order"),
        ({"image_processor_type": "TvpImageProcessor"}, "do_flip_channel_order"),
        ({"image_processor_type": "ImageGPTImageProcessor"}, "do_color_quantize"),
        ({"image_processor_type": "SuperGlueImageProcessor"}, "do_grayscale"),
        ({"image_processor_type": "Pix2StructImageProcessor"}, "normalises each picture"),
        ({"image_processor_type": "MyImageProcessor"}, "does not state do_rescale, rescale_factor, do_normalize"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(tmp_path, change, word):
    write(tmp_path, "preprocessor_config.json", VALUES | change)
    with pytest.raises(InfoscopeError) as refused:
        read_normalisation(tmp_path, CLIP)
    assert word in str(refused.value)
    assert "preprocessor_config.json" in str(refused.value)


def test_keys_that_change_no_value_are_read_past(tmp_path):
    harmless = {"do_resize": False, "size": {"height": 9, "width": 9}, "crop_pct": 0.9, "do_pad": True, "offset": False}
    write(tmp_path, "preprocessor_config.json", VALUES | harmless | {"do_flip_channel_order": None, "do_rescale": True})
    assert read_normalisation(tmp_path, CLIP) == EXPECTED


def test_another_filter_and_an_unknown_key_are_named(tmp_path, caplog):
    caplog.set_level(logging.INFO, "infoscope")
    write(tmp_path, "preprocessor_config.json", VALUES | {"resample": 2, "mood": "blue"})
    assert read_normalisation(tmp_path, CLIP) == EXPECTED
    assert "resample is bilinear; the method resizes every view by Pillow's bicubic filter" in caplog.text
    assert "not known and not used: mood" in caplog.text


def test_the_nested_image_processor_wins_as_in_transformers(tmp_path):
    from transformers import CLIPImageProcessorPil

    write(tmp_path, "preprocessor_config.json", HALF)
    write(tmp_path, "processor_config.json", {"image_processor": VALUES})
    assert read_normalisation(tmp_path, CLIP) == EXPECTED
    assert tuple(CLIPImageProcessorPil.from_pretrained(tmp_path).image_mean) == EXPECTED[0]


def test_a_mean_without_a_deviation_is_not_dropped(tmp_path):
    write(tmp_path, "preprocessor_config.json", {"image_mean": [0.1, 0.2, 0.3]})
    assert read_normalisation(tmp_path, CLIP) == ((0.1, 0.2, 0.3), CLIP.normalisation[1])
