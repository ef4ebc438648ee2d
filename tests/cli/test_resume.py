"""A measurement that is killed, or whose disk fills, goes on where it was and ends as if nothing had happened."""

import random
import signal
import time

import numpy as np
import pytest
import torch

from infoscope.dictionaries.activations import TopK
from infoscope.dictionaries.formats.infoscope import save_sae
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.runtime.run import open_run
from killing import start_command
from small import FEATURES, SIDE, WIDTH, pictures, save_model

pytestmark = pytest.mark.slow

IMAGES = 120


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    save_model(folder / "model")
    (folder / "images").mkdir()
    for i, picture in enumerate(pictures(IMAGES)):
        picture.save(folder / "images" / f"{i:03}.png")
    (folder / "images" / "044-broken.png").write_bytes(b"no")
    W_enc = torch.randn(WIDTH, FEATURES, generator=torch.Generator().manual_seed(1))
    sae = SparseAutoencoder(W_enc, torch.zeros(FEATURES), W_enc.T.contiguous(), torch.zeros(WIDTH), TopK(6))
    save_sae(sae, folder / "sae")
    for rank_view in ("full", "crops"):
        out = folder / f"undisturbed-{rank_view}"
        finish(measure(folder, out, rank_view), out)
    return folder


def measure(place, out, rank_view="full", **options):
    command = ["measure", "--model", f"{place}/model", "--block", "1"]
    command += ["--input-side", str(SIDE), "--sae", f"{place}/sae", "--images", f"{place}/images", "--out", str(out)]
    command += ["--top-images", "4", "--shard-images", "5", "--batch-size", "2", "--rank-view", rank_view]
    return start_command(command, log_of(out), **options)


def log_of(out):
    """What the commands that write a folder print, all in one file beside it."""
    return out.with_suffix(".log")


def finish(process, out):
    process.join()
    assert process.exitcode == 0, log_of(out).read_text()


def kill(process, out):
    """Kill a command and say whether it was still running."""
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), log_of(out).read_text()
    return process.exitcode != 0


def finished(out):
    """How many shards are: of the ranking, a fold stands for all before it."""
    ranked, maps = 0, 0
    for file in out.glob("partials/*.npz"):
        stage, *_, last = file.stem.split("-")
        if stage == "maps":
            maps += 1
        elif stage in ("ranking", "crops") and "features" not in file.stem:
            ranked = max(ranked, -(-int(last) // 5))
    return ranked + maps


def assert_same(place, out, rank_view="full"):
    whole, again = open_run(place / f"undisturbed-{rank_view}"), open_run(out)
    for name in ("scope", "top_images", "maps"):
        first, second = getattr(whole, name), getattr(again, name)
        assert first.drop(name for name, kind in first.schema.items() if kind.is_float()).equals(
            second.drop(name for name, kind in second.schema.items() if kind.is_float())
        )
        for column, kind in first.schema.items():
            if kind.is_float():
                np.testing.assert_allclose(first[column].to_numpy(), second[column].to_numpy(), atol=1e-6)
    assert whole.manifest.fit == again.manifest.fit
    assert whole.manifest.images == again.manifest.images
    assert [file.name for file in (out / "partials").iterdir()] == ["plan.json"]


@pytest.mark.parametrize("rank_view", ["full", "crops"])
def test_killed_at_random_moments(place, tmp_path, rank_view):
    out, moments = tmp_path / "run", random.Random(0)
    shards = {"full": 2, "crops": 1}[rank_view] * -(-(IMAGES + 1) // 5)
    kills = 0
    while (seen := finished(out)) < shards:
        process = measure(place, out, rank_view)
        # Some shards further, and a moment more, which may fall into the writing of a file or of the tables.
        further = min(seen + moments.randint(1, shards // 5), shards)
        while process.is_alive() and finished(out) < further:
            time.sleep(0.003)
        time.sleep(moments.uniform(0, 0.03))
        if not kill(process, out):
            break
        kills += 1
        assert finished(out) >= seen or (out / "manifest.json").exists()
    finish(measure(place, out, rank_view), out)
    assert kills >= 2
    assert_same(place, out, rank_view)


def test_a_full_disk_loses_no_finished_shard(place, tmp_path):
    out = tmp_path / "run"
    # Partials are small; a table of maps is the first file that does not fit.
    largest = max(file.stat().st_size for file in (place / "undisturbed-full").glob("*.parquet"))
    full = measure(place, out, largest_file=largest - 1)
    full.join()
    assert full.exitcode == 2
    (line,) = [line for line in log_of(out).read_text().splitlines() if line.startswith("infoscope: ")]
    assert "cannot write" in line
    assert "raise the limit on the size of a file or choose another --out" in line
    kept = {file: file.stat().st_mtime_ns for file in out.glob("partials/*.npz")}
    assert kept
    assert not list(out.rglob("*.tmp"))
    finish(measure(place, out), out)
    assert_same(place, out)


def train(place, out):
    command = ["train", "--model", f"{place}/model", "--block", "1"]
    command += ["--input-side", str(SIDE), "--images", f"{place}/images", "--out", str(out), "--cache", "none"]
    command += ["--features", "40,60", "--k", "4", "--tokens", "24000", "--batch-tokens", "200", "--log-every", "2"]
    command += ["--buffer-tokens", "1000", "--dead-after", "2000", "--checkpoint-seconds", "0"]
    return start_command(command, log_of(out))


def test_a_training_killed_at_random_moments_gives_the_same_weights(place, tmp_path):
    finish(train(place, tmp_path / "whole"), tmp_path / "whole")
    out, moments = tmp_path / "sae", random.Random(1)
    states = out / "unfinished"
    kills, written = 0, set()
    while not (out / "features40" / "sae.json").exists():
        process = train(place, out)
        writings = moments.randint(8, 25)
        while process.is_alive() and writings:
            if now := set(states.glob("*.safetensors")) - written:
                written, writings = written | now, writings - 1
            time.sleep(0.0005)
        time.sleep(moments.uniform(0, 0.03))
        if not kill(process, out):
            break
        kills += 1
    if states.exists():
        finish(train(place, out), out)
    assert kills >= 2
    assert sorted(path.name for path in out.iterdir()) == ["features40", "features60"]
    for name in ("features40", "features60"):
        for file in ("sae.safetensors", "training.json"):
            assert (out / name / file).read_bytes() == (tmp_path / "whole" / name / file).read_bytes()
