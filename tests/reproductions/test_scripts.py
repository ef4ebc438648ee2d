"""The scripts of the paper's table, run whole on miniature data sets in the published layouts."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModel

from infoscope.cli.main import main
from infoscope.dictionaries.activations import TopK
from infoscope.dictionaries.formats.infoscope import save_sae
from infoscope.dictionaries.sae import SparseAutoencoder
from layouts import WNIDS, picture, write_devkit, write_labelled
from register_model import save_register_model

SCRIPTS = Path(__file__).parents[2] / "reproductions"
WIDTH = 32


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """ImageNet, ADE20K, NYU Depth v2, a CLIP and an SAE on its second block."""
    pytest.importorskip("h5py")
    root = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for place, wnid in enumerate(WNIDS):
        for number in range(4):
            picture(root / "imagenet" / "train" / wnid / f"{wnid}_{number}.JPEG", shade=80 * place + number, side=32)
    truth = [1, 2, 3, 1, 2, 3, 1, 2]
    for number, kind in enumerate(truth, 1):
        name = f"ILSVRC2012_val_{number:08d}.JPEG"
        picture(root / "imagenet" / "val" / name, shade=80 * (kind - 1) + number, side=32)
    write_devkit(root / "imagenet" / "devkit" / "data", truth, ids=(1, 2, 3))
    for split, count in (("training", 6), ("validation", 3)):
        for kind in ("images", "annotations"):
            (root / "ade20k" / kind / split).mkdir(parents=True)
        for number in range(count):
            mask = np.repeat(np.uint8([[1 + number % 2, 3]]), 16, 1).repeat(32, 0)
            pixels = 60 * mask[..., None] + random.integers(0, 20, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "ade20k" / "images" / split / f"ADE_{number}.jpg")
            Image.fromarray(mask).save(root / "ade20k" / "annotations" / split / f"ADE_{number}.png")
    write_labelled(root / "nyu")
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=8
    )
    CLIPVisionModel(config).save_pretrained(root / "clip")
    both = torch.cat([torch.eye(WIDTH), -torch.eye(WIDTH)], dim=1)
    sae = SparseAutoencoder(both, torch.zeros(2 * WIDTH), both.T.contiguous(), torch.zeros(WIDTH), TopK(16))
    save_sae(sae, root / "sae")
    return root


@pytest.fixture
def noted(tmp_path):
    """A command that notes what it is given, and the file for that: a line a word, and an empty one after the last."""
    command, file = tmp_path / "note", tmp_path / "noted"
    command.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" '' >> '{file}'\n")
    command.chmod(0o755)
    return command, file


@pytest.mark.slow
def test_rows_are_printed_beside_the_reported_ones(inputs, noted, tmp_path, monkeypatch, capsys):
    own = {
        "MODEL": str(inputs / "clip"),
        "SAE": str(inputs / "sae"),
        "BLOCK": "1",
        "RECIPE": "simple",
        "MEASURE": "--top-images 2 --min-pairs 1",
        "PROBE": "--random-draws 1",
        "INFOSCOPE": str(noted[0]),
    }
    given = [str(inputs / name) for name in ("imagenet", "ade20k", "nyu")] + [str(tmp_path)]
    done = subprocess.run(
        [SCRIPTS / "clip-b16.sh", *given],
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # Its commands, in this process: each of its own would spend most of its time on imports.
    monkeypatch.setenv("COLUMNS", "120")
    commands = [words.split("\n") for words in noted[1].read_text().removesuffix("\n\n").split("\n\n")]
    assert [words[0] for words in commands] == ["measure", "probe", "probe", "probe", "table"]
    for words in commands:
        assert main(words) == 0
    text = " ".join(capsys.readouterr().out.split())
    table = text[text.rindex("written") :]
    for figure in ("74.82 %", "75.54 %", "64.86 %", "25.87 %", "0.9481"):
        assert figure in table
    assert "as reported (secondary source)" in table
    assert "cannot be compared" in table
    # The data, which are not those of the row, are named as they are.
    assert "There are 4 training images of depth here" in table
    assert "(3 classes, 12 images to train on, 8 to test on), not ImageNet's 1,000 classes" in table
    assert "795" not in table


@pytest.mark.slow
def test_outlier_tokens_in_trained_weights(noted, tmp_path, capsys):
    save_register_model(tmp_path / "model")
    for pool, count in (("train", 6), ("pool", 4)):
        for place, wnid in enumerate(WNIDS):
            for number in range(count):
                picture(tmp_path / pool / wnid / f"{number}.png", shade=80 * place + number, side=64)
    own = {"PATCHES": "1", "BLOCKS": "2", "BLOCK": "2", "FEATURES": "48", "K": "4", "TOKENS": "512", "TOP_IMAGES": "4"}
    own |= {"MEASURE": "--min-pairs 1 --shift 1", "INFOSCOPE": str(noted[0])}
    script = [SCRIPTS / "moved_registers.sh", *(tmp_path / name for name in ("model", "train", "pool", "out"))]
    done = subprocess.run(script, env={**os.environ, **own}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    commands = [words.split("\n") for words in noted[1].read_text().removesuffix("\n\n").split("\n\n")]
    assert [words[0] for words in commands] == ["outliers", "park", "train", "measure", "outliers"]
    for words in commands:
        assert main(words) == 0, words
    record = json.loads((tmp_path / "out" / "run-1-2" / "outliers" / "outliers.json").read_text())
    assert record["presence"]["kind"] == "outlier"
    # What is finished is kept: only the measurement is asked for again, which then reads back what it has.
    noted[1].write_text("")
    assert subprocess.run(script, env={**os.environ, **own}, check=False, capture_output=True).returncode == 0
    assert noted[1].read_text().split("\n")[0] == "measure"
    assert noted[1].read_text().count("\n\n") == 1


def test_a_command_that_fails_ends_a_script(noted, tmp_path):
    noted[0].write_text(noted[0].read_text() + '[ "$1" != probe ]\n')
    own = {**os.environ, "INFOSCOPE": str(noted[0]), "SAE": "sae"}
    assert subprocess.run([SCRIPTS / "clip-b16.sh", "a", "b", "c", tmp_path], env=own, check=False).returncode == 1
    assert noted[1].read_text().split("\n\n")[1].startswith("probe\n")
    assert "\ntable\n" not in noted[1].read_text()


@pytest.mark.parametrize("script", ["clip-b16.sh", "clip-l14.sh"])
def test_data_that_are_not_given_are_asked_for(script):
    done = subprocess.run([SCRIPTS / script], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "give IMAGENET ADE20K NYU OUT" in done.stderr
