"""The pipeline against the definition, written out in tests/reference.py, on a real model and real photographs."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import infoscope
from reference import Reference, emd

pytestmark = pytest.mark.slow

# What this costs is passes of the real model; twenty photographs give thousands of pairs of maps, of every feature.
PHOTOGRAPHS, TOP = 20, 8
# In the middle of the model: a later one tests no more of the pipeline, and takes as much longer as it is later.
BLOCK = 5


@pytest.fixture(scope="module")
def photographs(imagenette, tmp_path_factory):
    """Photographs of all ten classes, under names whose order is not that of their classes."""
    folder = tmp_path_factory.mktemp("photographs")
    files = sorted(imagenette.glob("train/*/*.JPEG"))
    for file in files[:: len(files) // PHOTOGRAPHS][:PHOTOGRAPHS]:
        (folder / file.name).symlink_to(file.resolve())
    return folder


@pytest.fixture(scope="module")
def run(dinov2_path, photographs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    backbone = infoscope.load_backbone(dinov2_path, block=BLOCK, device="cpu")
    images = infoscope.open_images(photographs)
    sae = infoscope.train_sae(backbone, images, features=512, k=16, tokens=5_000, out=folder / "sae")
    infoscope.measure_scope(backbone, sae, images, top_images=TOP, shift=2, noise_images=0, out=folder / "scope")
    return folder


def test_every_feature_agrees_with_the_definition(run, dinov2_path, photographs):
    files = sorted(photographs.iterdir(), key=lambda file: file.name.encode())
    reference = Reference(dinov2_path, block=BLOCK, prefix=5, sae=run / "sae", files=files)
    measured = infoscope.open_run(run / "scope")

    best, score = reference.ranking(TOP)
    found = measured.top_images.group_by("feature", maintain_order=True).agg("image", "score", "emd", "rank")
    images = {row["feature"]: row["image"] for row in found.iter_rows(named=True)}
    assert [images.get(feature, []) for feature in range(512)] == best
    top = measured.top_images
    assert np.array_equal(top["score"].to_numpy(), score[top["image"].to_numpy(), top["feature"].to_numpy()])
    assert measured.scope["images_active"].to_list() == (score > 0).sum(0).tolist()

    chosen = sorted({image for images in best for image in images})
    codes = {image: reference.crops(image) for image in chosen}
    distances = reference.distances()
    expected = []
    for feature, ranked in enumerate(best):
        pairs = [emd(*reference.overlap(*(crop[:, feature] for crop in codes[image])), distances) for image in ranked]
        valid = [value for value in pairs if not np.isnan(value)]
        expected.append(np.mean(valid) if len(valid) >= TOP / 2 else None)
        assert measured.scope["pairs"][feature] == len(valid)
    got = measured.scope["cds"].to_list()
    assert [value is None for value in got] == [value is None for value in expected]
    scored = [(a, b) for a, b in zip(got, expected, strict=True) if b is not None]
    assert len(scored) > 400
    assert max(abs(a - b) for a, b in scored) < 1e-6

    # The stored maps are the reference's codes, on the full grid, entry for entry.
    maps = measured.maps
    for row in maps.gather_every(97).iter_rows(named=True):
        dense = codes[images[row["feature"]][row["rank"]]][row["crop"]][:, row["feature"]]
        assert row["patch"] == np.nonzero(dense)[0].tolist()
        assert np.array_equal(np.float32(row["value"]), dense[dense > 0])
    assert maps.height == 2 * top.height


def test_a_second_measurement_of_other_batches_is_the_same_to_the_bit(run, dinov2_path, photographs, tmp_path):
    backbone = infoscope.load_backbone(dinov2_path, block=BLOCK, device="cpu")
    sae = infoscope.load_sae(run / "sae")
    few = tmp_path / "few"
    few.mkdir()
    for file in sorted(photographs.iterdir())[:4]:
        (few / file.name).symlink_to(Path(file).resolve())
    images = infoscope.open_images(few)
    tables = [
        infoscope.measure_scope(backbone, sae, images, top_images=4, batch_size=size, threads=threads).table
        for size, threads in ((1, 1), (3, 3), (4, 2))
    ]
    assert tables[0]["cds"].count() > 0
    assert all(table.equals(tables[0]) for table in tables[1:])
    assert isinstance(tables[0], pl.DataFrame)
