"""What a checkpoint's image processor does to the values of pixels; every key of its file is accounted for."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infoscope.backbones.families import HALF, IMAGENET, OPENAI, Channels, Family
from infoscope.errors import InfoscopeError
from infoscope.runtime.json_values import read_json

_LOGGER = logging.getLogger(__name__)

FILES = ("preprocessor_config.json", "processor_config.json")
"""Where transformers stores it. As in transformers, an ``image_processor`` in the second wins over the first."""


@dataclass(frozen=True)
class _Defaults:
    """What an image processor does where its file is silent, besides rescaling by 1/255 and normalising."""

    normalisation: tuple[Channels, Channels] | None
    others: Mapping[str, Any] = field(default_factory=dict)


def _does(normalisation: tuple[Channels, Channels] | None, **others: Any) -> _Defaults:
    return _Defaults(normalisation, others)


_PROCESSORS: Mapping[str, _Defaults] = {
    **dict.fromkeys(("CLIP", "ChineseCLIP", "Bit", "Blip", "OwlViT", "Owlv2", "Llava", "LlavaNext"), _does(OPENAI)),
    **dict.fromkeys(("DINOv3ViT", "Segformer", "Levit", "PoolFormer", "Detr", "Yolos", "Sam"), _does(IMAGENET)),
    **dict.fromkeys(("ViT", "DeiT", "Siglip", "Siglip2", "Beit", "ConvNext", "DPT", "VideoMAE"), _does(HALF)),
    "Vivit": _does(HALF, rescale_factor=1 / 127.5, offset=True),
    "EfficientNet": _does(HALF, rescale_offset=False, include_top=True),
    "MobileViT": _does(HALF, do_normalize=False, do_flip_channel_order=True),
    "Tvp": _does(HALF, do_flip_channel_order=True),
    "ImageGPT": _does(HALF, do_color_quantize=True),
    "SuperPoint": _does(None, do_normalize=False, do_grayscale=False),
    **dict.fromkeys(("SuperGlue", "LightGlue", "EfficientLoFTR"), _does(None, do_normalize=False, do_grayscale=True)),
    "Chameleon": _does(((1.0, 1.0, 1.0), (1.0, 1.0, 1.0)), rescale_factor=0.0078),
}
"""transformers' own defaults by the name of the processor, without its suffix such as ``ImageProcessorFast``."""

_SUFFIX = re.compile(r"(ImageProcessor|FeatureExtractor)(Fast|Pil)?$")

_NORMALISE_EACH_PICTURE = frozenset({"Pix2Struct", "Kosmos2_5"})

_OFFSETS = {"Vivit": "offset", "EfficientNet": "rescale_offset"}
"""The key by which a processor subtracts 1 after rescaling; other processors ignore both keys."""

_TWICE = "EfficientNet"
"""The processor that divides by the standard deviation a second time, with ``include_top``."""

_VALUES = ("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")

_REFUSED: Mapping[str, str] = {
    "do_flip_channel_order": "the model takes blue before red",
    "do_grayscale": "the model takes grey pixels",
    "do_color_quantize": "the model takes the numbers of colour clusters",
    "offset": "1 is taken off the rescaled pixels, which only a VivitImageProcessor does",
    "rescale_offset": "1 is taken off the rescaled pixels, which only an EfficientNetImageProcessor does",
    "include_top": "pixels are divided by image_std twice, which only an EfficientNetImageProcessor does",
    "transform": "pixels go through a transform of the user's",
    "norm_mean": "the mean is under another name than image_mean",
    "norm_std": "the standard deviation is under another name than image_std",
    "pretrained_cfg": "mean and standard deviation are timm's, not image_mean and image_std",
    "clusters": "the model takes the numbers of colour clusters",
    "header_text": "text is drawn above the picture",
    "is_vqa": "text is drawn above the picture",
}
"""Keys that change values in a way that cannot be honoured, and why; refused unless false, null or empty."""


def _keys(names: str) -> frozenset[str]:
    return frozenset(names.split())


# Geometry is fixed by the method (docs/method.md): one square picture and its crops, by Pillow's bicubic filter.
_GEOMETRY = _keys(
    """do_resize size crop_size do_center_crop crop_pct default_to_square do_pad pad_size size_divisor size_divisibility
    keep_aspect_ratio ensure_multiple_of do_align_long_axis do_thumbnail do_crop_margin do_affine_transform max_size
    constant_values pad_mode padding_mode padding_value background_color pad_and_return_pixel_mask
    image_size min_size max_image_size min_image_size longest_edge shortest_edge patch_size max_num_patches max_patches
    min_patches min_pixels max_pixels merge_size temporal_patch_size spatial_factor patch_expand_factor
    max_soft_tokens max_image_tokens min_image_tokens pooling_kernel_size pooling_size ratio image_area
    do_image_splitting do_split_image crop_to_patches do_pan_and_scan pan_and_scan_max_num_crops
    pan_and_scan_min_crop_size pan_and_scan_min_ratio_to_activate image_grid_pinpoints split_image split_resolutions
    max_image_tiles max_crops overlap_margins max_slice_nums scale_resolution slice_mode tile_size
    use_covering_area_grid small_image_upsize downsample_mode downsample_ratio dense_max_aspect dense_max_patches
    dense_max_scale dense_min_aspect fine_route normalize_factor"""
)

# Masks, labels, boxes, text in pictures, and second inputs: none of these reaches the pixels of a vision transformer.
_NOT_THE_PICTURE = _keys(
    """do_reduce_labels reduce_labels do_convert_annotations format annotation_format ignore_index num_labels
    class_info_file repo_path num_text mask_size mask_pad_size apply_ocr ocr_lang tesseract_config
    prompt_scale_to_meter input_size_patches total_mask_patches mask_group_min_patches mask_group_max_patches
    mask_group_min_aspect_ratio mask_group_max_aspect_ratio return_image_mask return_codebook_pixels
    codebook_do_resize codebook_size codebook_resample codebook_do_center_crop codebook_crop_size codebook_do_rescale
    codebook_rescale_factor codebook_do_map_pixels codebook_do_normalize codebook_image_mean codebook_image_std
    high_res_size high_res_resample high_res_image_mean high_res_image_std return_row_col_info use_image_id
    image_seq_length image_token_id num_image_tokens"""
)

# Videos: a photograph is one frame.
_FILMS = _keys(
    """do_sample_frames num_frames fps max_frames min_frames max_fps max_num_frames stack_frames max_duration
    video_metadata return_metadata max_video_tokens cap_pixels_per_frame video_maintain_aspect_ratio
    video_target_num_patches return_legacy_image_output"""
)

# How arrays are passed around, and what a file says about itself. Every photograph is RGB already, so do_convert_rgb
# changes nothing.
_HANDLING = _keys(
    """do_convert_rgb image_num_channels num_channels input_data_format data_format return_tensors device
    disable_grouping image_processor_type feature_extractor_type video_processor_type processor_class auto_map
    model_input_names architecture transformers_version torch_dtype dtype name_or_path _name_or_path"""
)

KNOWN = frozenset(
    {*_VALUES, *_REFUSED, *_GEOMETRY, *_NOT_THE_PICTURE, *_FILMS, *_HANDLING, "resample", "interpolation"}
)
"""Every key that is honoured, refused or known to change no value."""

_BICUBIC = 3
_FILTERS = dict(enumerate(("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")))


def read_normalisation(directory: Path, family: Family) -> tuple[Channels, Channels]:
    """Mean and standard deviation for pixels on the scale 0..1.

    Whatever the checkpoint's image processor does to values by rescaling, an offset and normalising amounts to one
    mean and one standard deviation on that scale. Anything else that it does to values is refused; its geometry is
    ignored, since the method has its own.

    Args:
        directory: the model's directory.
        family: gives the values where no preprocessor file does.

    Returns:
        ``(mean, std)``, red, green and blue; 0 and 1 where the file says ``"do_normalize": false`` and no more.

    Raises:
        InfoscopeError: a preprocessor file is not JSON, its values are no mean and standard deviation, or it does
            something to values that cannot be honoured.

    Example:
        >>> import tempfile
        >>> from infoscope.backbones.families import family_of
        >>> directory = Path(tempfile.mkdtemp())
        >>> read_normalisation(directory, family_of("siglip"))
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        >>> _ = (directory / "preprocessor_config.json").write_text(
        ...     '{"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1]}')
        >>> read_normalisation(directory, family_of("siglip"))
        ((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    """
    processor = _image_processor(directory)
    return family.normalisation if processor is None else _folded(*processor, family)


def _image_processor(directory: Path) -> tuple[Path, dict[str, Any]] | None:
    """The image processor that transformers would take, and its file."""
    candidates: list[tuple[Path, dict[str, Any]]] = []
    for path in (directory / name for name in FILES):
        if not path.is_file():
            continue
        content = read_json(path)
        nested = isinstance(content, dict) and "image_processor" in content
        if nested:
            content = content["image_processor"]
        if not isinstance(content, dict):
            raise InfoscopeError(f"{path} holds no image processor; restore it or remove it")
        if nested:
            candidates.insert(0, (path, content))
        # The second file may be a processor of images and text, whose own keys say nothing about pixels.
        elif path.name == FILES[0] or _states_values(content):
            candidates.append((path, content))
    if not candidates:
        return None
    nested_first = candidates[0][0].name == FILES[1]
    stating = [candidate for candidate in candidates if _states_values(candidate[1])]
    return candidates[0] if nested_first or not stating else stating[0]


def _states_values(content: Mapping[str, Any]) -> bool:
    return any(key in content for key in (*_VALUES, *_REFUSED))


def _folded(path: Path, content: dict[str, Any], family: Family) -> tuple[Channels, Channels]:
    """Mean and standard deviation on the scale 0..1 that amount to all that a processor does to values."""
    stem, defaults = _processor(path, content)
    stated = {**defaults.others, **{key: value for key, value in content.items() if value is not None}}
    _refuse_others(path, stem, stated)
    rescales, normalises = (_switch(path, stated, key) for key in ("do_rescale", "do_normalize"))
    scale = 255 * _factor(path, stated) if rescales else 255.0
    if math.isclose(scale, 1.0, rel_tol=1e-12):
        scale = 1.0  # 1/255 in the digits of a file
    offset = float(rescales and stem in _OFFSETS and _switch(path, stated, _OFFSETS[stem]))
    twice = stem == _TWICE and _switch(path, stated, "include_top")
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if normalises or twice:
        stated_mean, stated_std = _stated(path, content, defaults.normalisation or family.normalisation)
        _check_units(path, stated_mean, stated_std, offset, scale)
        if normalises:
            mean, std = stated_mean, stated_std
        if twice:
            std = _each(stated_std, (lambda value: value * value) if normalises else float)
    if scale != 1.0 or offset:
        mean = _each(mean, lambda value: (value + offset) / scale)
        std = _each(std, lambda value: value / scale)
    return mean, std


def _processor(path: Path, content: dict[str, Any]) -> tuple[str, _Defaults]:
    """The processor's name without its suffix, empty where the file has none, and its defaults."""
    kind = content.get("image_processor_type") or content.get("feature_extractor_type")
    if kind is None:
        return "", _does(None)
    stem = _SUFFIX.sub("", str(kind))
    if stem in _NORMALISE_EACH_PICTURE:
        raise InfoscopeError(
            f"{path}: a {kind} normalises each picture by its own mean, which is not supported; write the mean and "
            "std that the model was trained with into a file of another image_processor_type"
        )
    if stem in _PROCESSORS:
        return stem, _PROCESSORS[stem]
    # The defaults of an unknown processor cannot be guessed, so its file must state whatever could matter.
    needed = ["do_rescale", "do_normalize"]
    if content.get("do_rescale") is not False:
        needed.insert(1, "rescale_factor")
    if content.get("do_normalize") is not False:
        needed += ["image_mean", "image_std"]
    silent = [key for key in needed if content.get(key) is None]
    if silent:
        raise InfoscopeError(
            f"{path} names a {kind}, whose defaults are not known here, and does not state {', '.join(silent)}"
            "; write these into it"
        )
    return stem, _does(None)


def _refuse_others(path: Path, stem: str, stated: Mapping[str, Any]) -> None:
    """Refuse keys that change values in other ways, and log which ones are ignored."""
    honoured = {_OFFSETS.get(stem), "include_top" if stem == _TWICE else None}
    for key, why in _REFUSED.items():
        if key not in honoured and stated.get(key):
            raise InfoscopeError(
                f"{path}: {key} is {_short(stated[key])}: {why}, and that is not supported; convert the model to plain "
                f"RGB (mean and std alone) and take {key} out"
            )
    for key in ("image_num_channels", "num_channels"):
        if stated.get(key, 3) != 3:
            raise InfoscopeError(f"{path}: {key} is {_short(stated[key])}; only RGB models are read")
    unknown = [key for key in stated if key not in KNOWN and not key.startswith("_")]
    for key in unknown:
        if key.startswith("do_") and stated[key]:
            raise InfoscopeError(
                f"{path}: {key} is {_short(stated[key])}, and what it does to pixels is not known here; take it out "
                "if it changes none"
            )
    if unknown:
        _LOGGER.warning("%s: not known and not used: %s", path, ", ".join(sorted(unknown)))
    resample = stated.get("resample", _BICUBIC)
    if resample != _BICUBIC:
        named = _FILTERS.get(resample, resample) if isinstance(resample, int) else _short(resample)
        _LOGGER.info("%s: resample is %s; the method resizes every view by Pillow's bicubic filter", path, named)


def _switch(path: Path, stated: Mapping[str, Any], key: str) -> bool:
    value = stated.get(key, key in ("do_rescale", "do_normalize"))
    if not isinstance(value, bool):
        raise InfoscopeError(f"{path}: {key} is {_short(value)}; write true or false")
    return value


def _factor(path: Path, stated: Mapping[str, Any]) -> float:
    value = stated.get("rescale_factor", 1 / 255)
    number = _number(value)
    if number is None or number <= 0:
        raise InfoscopeError(
            f"{path}: rescale_factor is {_short(value)}; write a number above 0, such as 1/255 in digits"
        )
    return number


def _stated(path: Path, content: dict[str, Any], default: tuple[Channels, Channels]) -> tuple[Channels, Channels]:
    """The file's mean and standard deviation, each the default where the file has none."""
    mean = _channels(content["image_mean"]) if "image_mean" in content else default[0]
    std = _channels(content["image_std"]) if "image_std" in content else default[1]
    if mean is None or std is None or min(std) <= 0:
        raise InfoscopeError(
            f"{path}: image_mean {_short(content.get('image_mean', default[0]))} and image_std "
            f"{_short(content.get('image_std', default[1]))} do not normalise three channels; write three finite "
            "numbers each, the latter above 0"
        )
    return mean, std


def _check_units(path: Path, mean: Channels, std: Channels, offset: float, scale: float) -> None:
    """Refuse a mean and standard deviation that are meant for pixels of another range.

    Raises:
        InfoscopeError: the mean lies further outside the pixels' range than that range is wide, or the standard
            deviation is several times as large as the range.
    """
    low, high = 0.0 - offset, scale - offset
    if min(mean) < low - scale or max(mean) > high + scale or max(std) > 4 * scale:
        raise InfoscopeError(
            f"{path}: image_mean {list(mean)} and image_std {list(std)} are not for pixels from {low:g} to {high:g}, "
            "which do_rescale and rescale_factor make of them; where the model takes 0 to 255, write "
            '"do_rescale": false, else divide both by 255'
        )
    if max(std) < scale / 100:
        _LOGGER.warning(
            "%s: do_rescale and rescale_factor make pixels of %g to %g, and image_std is %s: the model gets numbers "
            "up to %.0f, as this file says",
            path, low, high, list(std), (high - min(mean)) / min(std),
        )  # fmt: skip


def _channels(value: Any) -> Channels | None:
    """Three finite numbers, one number standing for all; ``None`` for anything else."""
    numbers = [_number(channel) for channel in (value if isinstance(value, list) else [value] * 3)]
    valid = [number for number in numbers if number is not None]
    if len(numbers) != 3 or len(valid) != 3:
        return None
    red, green, blue = valid
    return red, green, blue


def _number(value: Any) -> float | None:
    """A finite number that float32 can hold; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return None
    return number if math.isfinite(number) and (not number or 1e-30 < abs(number) < 1e30) else None


def _each(channels: Channels, change: Callable[[float], float]) -> Channels:
    red, green, blue = map(change, channels)
    return (red, green, blue)


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
