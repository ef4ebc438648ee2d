"""A training's page."""

import json
import re

import pytest
import torch

from infoscope.errors import InfoscopeError
from infoscope.training.config import TrainConfig
from infoscope.training.held_out import DENSITY_EDGES
from infoscope.training.loop import train_on_tokens
from infoscope.views.report.training import density_chart, write_training_page


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    tokens = torch.randn(3000, 12, generator=torch.Generator().manual_seed(0))
    config = TrainConfig(features=30, k=3, tokens=4000, batch_tokens=200, log_every=5)
    result = train_on_tokens([tokens], config, held_out=300)
    folder = tmp_path_factory.mktemp("trained") / "sae"
    result.save(folder, {"model": "some/vit", "block": 4})
    return folder, result


def test_the_page_says_what_the_training_found(trained):
    folder, result = trained
    page = write_training_page(folder).read_text()
    assert "30 features of width 12, topk with k = 3, on the patch tokens of" in re.sub(r"\s+", " ", page)
    assert f"{result.held_out.fvu:.3f}" in page
    assert f"{result.history[-1].fvu:.3f}" in page
    assert page.count("<svg") == 5
    assert "Each of the 4 points is one batch of 200 tokens" in page
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"|http-equiv', "", page)


def test_without_held_out_tokens_or_a_site(trained, tmp_path):
    folder, _ = trained
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    description = json.loads((tmp_path / "sae.json").read_text())
    description["training"]["held_out"] = description["site"] = None
    del description["checksum"]
    (tmp_path / "sae.json").write_text(json.dumps(description))
    page = write_training_page(tmp_path).read_text()
    assert "No tokens were held out" in page
    assert page.count("<svg") == 4


def test_bars_stand_where_features_are():
    counts = [0] * (len(DENSITY_EDGES) - 1)
    counts[10], counts[12] = 5, 10
    found = {"density_edges_log10": list(DENSITY_EDGES), "density": counts, "tokens": 1000}
    svg = density_chart(found)
    # Each bar's path: "M x,y h width v height ..."; the second is twice as high, and two bars to the right.
    bars = re.findall(r'd="M([\d.]+),([\d.]+)h([\d.]+)v([\d.]+)', svg)
    filled = [(float(x), float(width), float(height)) for x, _, width, height in bars if float(height) > 1]
    heights = sorted(height for _, width, height in filled if width < 30)
    assert heights[-1] == pytest.approx(2 * heights[-2], rel=0.01)


def test_what_is_no_trained_sae_is_refused(tmp_path):
    with pytest.raises(InfoscopeError, match="holds no SAE with training curves"):
        write_training_page(tmp_path)
