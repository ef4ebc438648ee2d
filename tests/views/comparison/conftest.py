"""A small sweep, written once: principal components of two blocks of a small random model."""

import pytest

from infoscope.cli.main import main
from small import SIDE, pictures, save_model


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A model, photographs, and what a sweep over blocks 0 and 2 makes of them."""
    folder = tmp_path_factory.mktemp("place")
    save_model(folder / "model")
    (folder / "images").mkdir()
    for i, picture in enumerate(pictures(16)):
        picture.save(folder / "images" / f"{i:02}.png")
    assert main([*sweep_words(folder), "--blocks", "0,2", "--out", f"{folder}/sweep"]) == 0
    return folder


def sweep_words(place, *more):
    model = ["--model", f"{place}/model", "--input-side", str(SIDE)]
    return ["sweep", *(more or model), "--images", f"{place}/images", *COMMON, *(() if more else PCA)]


COMMON = ["--top-images", "4", "--device", "cpu"]
PCA = ["--dictionary", "pca", "--components", "8"]


@pytest.fixture(scope="session")
def words(place):
    """``words("--saes", ...)``: a sweep's command line; by default of principal components."""
    return lambda *more: sweep_words(place, *more)
