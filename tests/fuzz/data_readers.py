"""Readers of images, wherever they are, and of models."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from fuzz.readers import Found, Reader, register
from infoscope.backbones.loading import load_backbone
from infoscope.errors import UnreadableImageError
from infoscope.images.labels import class_numbers
from infoscope.images.source import ids_sha256, open_images
from small import SIDE, save_model

# So many pixels a side are asked of a model at most: a configuration may say any number.
LARGEST = 512


def picture(seed: int, mode: str = "RGB", size: tuple[int, int] = (13, 9)) -> Image.Image:
    """A picture of noise."""
    rng = np.random.default_rng(seed)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65536, size[::-1]).astype(np.uint16))
    return Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).convert(mode)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of a picture's file."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _read_all(source: str, found: Found, labels: str | None = None) -> None:
    """Every picture by its id; one that is skipped is refused for its own reason."""
    images = open_images(source)
    found.keep("ids", sorted(images.ids))
    found.keep("hash", len(ids_sha256(images)))
    for index, image_id in enumerate(images.ids):
        try:
            found.keep(f"pixels of {image_id}", images[index])
        except UnreadableImageError as error:
            found.refuse(error)
    if labels is not None:
        found.take("labels", lambda: class_numbers(images, labels))


# Folders of image files -----------------------------------------------------------------------------------------------

FILES: Sequence[tuple[str, str, str, dict[str, Any]]] = (
    ("a.png", "RGB", "PNG", {}),
    ("b.jpg", "RGB", "JPEG", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"}),
    ("c.gif", "P", "GIF", {}),
    ("d.webp", "RGB", "WEBP", {"lossless": True}),
    ("e.tiff", "RGB", "TIFF", {"compression": "tiff_lzw"}),
    ("f.bmp", "RGB", "BMP", {}),
    ("g.png", "P", "PNG", {}),
    ("h.png", "I;16", "PNG", {}),
    ("i.ppm", "RGB", "PPM", {}),
    ("j.jpg", "CMYK", "JPEG", {}),
    ("k.png", "LA", "PNG", {}),
    ("l.tga", "RGB", "TGA", {}),
    ("m.jp2", "RGB", "JPEG2000", {}),
    ("n.ico", "RGB", "ICO", {}),
)


def _folder(folder: Path) -> None:
    for seed, (name, mode, kind, options) in enumerate(FILES):
        (folder / name).write_bytes(encoded(picture(seed, mode), kind, **options))


register(
    Reader(
        "image folder", _folder, lambda folder, found: _read_all(str(folder), found),
        rule="most formats have no checksum of their pixels", seconds=0.03,
    )
)  # fmt: skip

# Tar and webdataset ---------------------------------------------------------------------------------------------------


def _shards(folder: Path) -> None:
    for shard, kind in enumerate((tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)):
        with tarfile.open(folder / f"train-{shard:06}.tar", "w", format=kind) as tar:
            for number in range(2):
                key = f"class{number}/{shard}{number:03}{'x' * (120 if shard else 0)}"
                files = {"png": encoded(picture(number), "PNG"), "cls": str(number).encode(), "json": b'{"a": 1}'}
                for suffix, content in files.items():
                    header = tarfile.TarInfo(f"{key}.{suffix}")
                    header.size, header.mtime = len(content), 1.5 if kind == tarfile.PAX_FORMAT else 1
                    tar.addfile(header, io.BytesIO(content))


def _read_shards(folder: Path, found: Found) -> None:
    _read_all(str(folder), found, "column")


register(Reader("tar shards", _shards, _read_shards, rule="a tar has a checksum of its headers alone"))

# Parquet and saved data sets ------------------------------------------------------------------------------------------


def _rows() -> Any:
    import datasets

    names = datasets.ClassLabel(names=["cat", "dog"])
    features = datasets.Features({"label": names, "picture": datasets.Image(), "text": datasets.Value("string")})
    images = [picture(seed) for seed in range(5)]
    rows = {"label": [0, 1, 0, 1, 1], "picture": images, "text": list("abcde")}
    return datasets.Dataset.from_dict(rows, features=features)


def _parquet(folder: Path) -> None:
    _rows().to_parquet(folder / "train-00000-of-00001.parquet", batch_size=2)
    # What a cell's path must not reach.
    (folder.parent / "secret.png").write_bytes(encoded(picture(99), "PNG"))


def _read_rows(folder: Path, found: Found) -> None:
    _read_all(str(folder), found, "column:label")


register(
    Reader(
        "parquet of images", _parquet, _read_rows, kinds={"*.parquet": ("parquet", "pictures")},
        rule="pages have no checksum where none was written", words=("parquet", "the row", "label"), seconds=0.03,
    )
)  # fmt: skip


def _saved(folder: Path) -> None:
    _rows().save_to_disk(folder)


register(
    Reader(
        "saved data set", _saved, _read_rows, rule="an arrow file has no checksum", words=("label",), seconds=0.05,
        kinds={"*.json": ("json",)},
    )
)  # fmt: skip

# Models ---------------------------------------------------------------------------------------------------------------


def _model(folder: Path) -> None:
    save_model(folder)
    config = {"do_normalize": True, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4], "do_rescale": True}
    config |= {"rescale_factor": 1 / 255, "do_resize": True, "size": {"height": SIDE, "width": SIDE}, "resample": 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(config, indent=2))


def _sharded(folder: Path) -> None:
    _model(folder)
    (folder / "preprocessor_config.json").unlink()
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, held in parts.items():
        save_file({name: tensors[name] for name in held}, folder / file, {"format": "pt"})
    index = {"metadata": {"total_size": 1}, "weight_map": {name: file for file, held in parts.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()
    (folder / "processor_config.json").write_text(
        json.dumps({"image_processor": {"image_mean": [0.1, 0.2, 0.3], "image_std": 0.5}})
    )


def _read_model(folder: Path, found: Found) -> None:
    backbone = load_backbone(folder, block=1, device="cpu")
    found.keep(
        "described", (backbone.family, backbone.blocks, backbone.grid, backbone.width, backbone.mean, backbone.std)
    )
    side = backbone.input_side
    if side <= LARGEST and backbone.width <= 4096:
        pixels = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
        with torch.no_grad():
            # Weights near the largest number there is may overflow; they are what the file says.
            found.keep("tokens", backbone.tokens(pixels), finite=False)


MODEL_RULE = "weights have no checksum, and a configuration may describe another model"
register(Reader("model directory", _model, _read_model, rule=MODEL_RULE, seconds=0.15))
register(Reader("model in shards", _sharded, _read_model, rule=MODEL_RULE, seconds=0.15))
