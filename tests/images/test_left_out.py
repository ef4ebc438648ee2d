"""What lies among photographs and is none: infoscope's own directories, other kinds of files, pipes and devices."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fake_runs
import small
from infoscope.analyses.probes.segmentation_sets import read_mask
from infoscope.dictionaries.activations import TopK
from infoscope.dictionaries.formats.infoscope import save_sae
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError, UnreadableImageError
from infoscope.images.decode import decode
from infoscope.images.folder import readable_suffixes, search_below
from infoscope.images.source import notes_of, open_images


@pytest.fixture(autouse=True)
def no_hanging():
    """A pipe that is opened would wait for ever."""

    def stop(number, frame):
        raise TimeoutError("hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def photographs(tmp_path):
    root = tmp_path / "photographs"
    root.mkdir()
    for number, picture in enumerate(small.pictures(24)):
        picture.save(root / f"{number:02}.png")
    return root


def run_and_site(folder, photographs):
    from infoscope.views.report.page import write_report

    fake_runs.fake_run(folder, [0.1, 0.3], ids=["00.png", "01.png", "02.png", "03.png"], source=str(photographs))
    run = fake_runs.open_run(folder)
    write_report(run, open_images(photographs))
    assert list((folder / "report" / "images").rglob("*.webp"))


def test_a_run_and_a_report_below_the_photographs_are_no_photographs(photographs, caplog):
    before = list(open_images(photographs).ids)
    run_and_site(photographs / "deep" / "run", photographs)
    (photographs / "deep" / "run" / "report").rename(photographs / "site")
    run_and_site(photographs / "run-2", photographs)
    caplog.set_level(logging.INFO, "infoscope")
    images = open_images(photographs)
    assert len(images) == 24
    assert list(images.ids) == before
    lines = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert lines == [f"{photographs}: what infoscope wrote is left out: deep/run (run), run-2 (run), site (report)"]


def token_cache(folder):
    from infoscope.runtime.token_cache import TokenCacheWriter

    writer = TokenCacheWriter(folder, {"block": 1}, [0], patches=4, width=3)
    writer.add([0], torch.ones(1, 4, 3), skipped=[])
    writer.finish(site={"block": 1})


def unfinished_run(folder):
    from infoscope.images.watched import watch
    from infoscope.measurement.identity import run_identity
    from infoscope.runtime.manifest import DictionaryRecord
    from infoscope.runtime.run import claim_directory

    model = fake_runs.ModelRecord("m", None, "0", "DINOv2", 1, 4, 6, 1)
    sae = DictionaryRecord("s", "infoscope", "0", 2, "topk")
    claim_directory(folder, run_identity(model, sae, watch(open_images(np.zeros((2, 8, 8, 3), np.uint8))), "0", {}))


def unfinished_tokens(folder):
    from infoscope.backbones.loading import load_backbone
    from infoscope.training.config import TrainConfig
    from infoscope.training.train import train_sae

    backbone = load_backbone(small.save_model(folder.parent / "model"), block=1, device="cpu")
    config = TrainConfig(features=32, tokens=512, batch_tokens=128, buffer_tokens=256)
    train_sae(backbone, small.pictures(8), config, cache=folder.parent / "caches")
    (made,) = (folder.parent / "caches").iterdir()
    (made / "manifest.json").unlink()
    made.rename(folder)


def an_sae(folder):
    sae = SparseAutoencoder(
        W_enc=torch.ones(3, 2), b_enc=torch.zeros(2), W_dec=torch.ones(2, 3), b_dec=torch.zeros(3), activation=TopK(1)
    )
    save_sae(sae, folder)


def an_unfinished_sae(folder):
    (folder / "unfinished").mkdir(parents=True)
    (folder / "unfinished" / "process-0-step-4.safetensors").touch()


def a_sweep(folder):
    from infoscope.analyses import sweep
    from infoscope.images.watched import watch

    identity = {"images": {"source": "p", "count": 1, "ids_sha256": "0"}, "model": {}, "options": {}}
    sweep._claim(folder, identity, watch(open_images(np.zeros((1, 8, 8, 3), np.uint8))))


@pytest.mark.parametrize(
    "write",
    [token_cache, unfinished_run, unfinished_tokens, an_sae, an_unfinished_sae, a_sweep],
    ids=lambda f: f.__name__,
)
def test_other_directories_of_infoscope_s_are_left_out(photographs, tmp_path, write, caplog):
    write(tmp_path / "made")
    (tmp_path / "made").rename(photographs / "made")
    Image.new("RGB", (8, 8)).save(photographs / "made" / "thumbnail.png")
    caplog.set_level(logging.INFO, "infoscope")
    assert len(open_images(photographs)) == 24
    assert "left out: made (" in caplog.text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("manifest.json", {"name": "album", "images": 24}),
        ("manifest.json", [1, 2]),
        ("manifest.json", "{"),
        ("manifest.json", {"format_version": 3, "command": "export"}),
        ("plan.json", {"model": "camera", "images": 3}),
        ("sae.json", {"format": "other"}),
        ("sweep.json", {"model": 1}),
        ("partials/plan.json", {"options": {}, "software": "lightroom"}),
        ("data/run.js", "alert(1)"),
        ("outliers.json", {"format_version": 1}),
        ("comparison.json", {"format_version": 1}),
    ],
)
def test_a_user_s_own_records_beside_photographs_hide_none(photographs, name, content):
    (photographs / name).parent.mkdir(exist_ok=True)
    (photographs / name).write_text(content if isinstance(content, str) else json.dumps(content))
    assert len(open_images(photographs)) == 24
    assert len(open_images(photographs.parent)) == 24


def test_a_run_that_is_named_is_refused_and_its_thumbnails_are_read(photographs, tmp_path):
    run = tmp_path / "run"
    run_and_site(run, photographs)
    with pytest.raises(InfoscopeError, match="is a run that infoscope wrote, and its pictures are thumbnails"):
        open_images(run)
    with pytest.raises(InfoscopeError, match="is a report that infoscope wrote"):
        open_images(run / "report")
    assert len(open_images(run / "report" / "images")) == 4


def test_targets_of_probes_leave_them_out_too(photographs):
    run_and_site(photographs / "run", photographs)
    assert len(search_below(photographs, readable_suffixes() | {".npy"}).files) == 24


def test_pictures_that_are_not_read_are_counted_and_named(photographs, caplog):
    before = list(open_images(photographs).ids)
    for name in ("a.HEIC", "b.heic", "c.dng", "deep/d.jxl", "e.svg", "f.CR2", "g.heic", "h.heic", ".hidden.heic"):
        (photographs / name).parent.mkdir(exist_ok=True)
        (photographs / name).write_bytes(b"x")
    (photographs / "shard.tar").write_bytes(b"x")
    images = open_images(photographs)
    assert list(images.ids) == before
    assert notes_of(images) == [
        "not read: 1 .cr2 file (f.CR2); convert them to JPEG or PNG",
        "not read: 1 .dng file (c.dng); convert them to JPEG or PNG",
        "not read: 4 .heic files (a.HEIC, b.heic, g.heic, ...); convert them to JPEG or PNG",
        "not read: 1 .jxl file (deep/d.jxl); convert them to JPEG or PNG",
        "not read: 1 .svg file (e.svg); convert them to JPEG or PNG",
        "not read: 1 .tar file (shard.tar); name them alone to read what they hold",
    ]
    assert "4 .heic files" in caplog.text
    assert notes_of(images.subset([0, 1])) == notes_of(images)


def test_nothing_but_such_pictures_is_said(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"x")
    with pytest.raises(InfoscopeError, match=r"no images in .*not read: 1 \.heic file \(a\.heic\)"):
        open_images(tmp_path)


@pytest.mark.slow
def test_what_is_not_read_is_in_the_record_of_a_measurement(photographs, tmp_path):
    from infoscope.backbones.loading import load_backbone
    from infoscope.measurement.measure import measure_scope
    from infoscope.runtime.run import open_run

    signal.alarm(600)  # a first compilation on a busy machine
    (photographs / "a.heic").write_bytes(b"x")
    Image.fromarray(np.full((60, 60), 1000, np.uint16)).save(photographs / "dark.png")
    backbone = load_backbone(small.save_model(tmp_path / "model"), block=1, device="cpu")
    sae = SparseAutoencoder(
        torch.randn(small.WIDTH, 8), torch.zeros(8), torch.randn(8, small.WIDTH), torch.zeros(small.WIDTH), TopK(2)
    )
    measure_scope(backbone, sae, photographs, out=tmp_path / "run", top_images=4, noise_images=0)
    notes = open_run(tmp_path / "run").manifest.images.notes
    assert notes[0].startswith("not read: 1 .heic file (a.heic)")
    assert notes[1].startswith("doubtful values: 1 of 25 images; dark.png has values up to 1,000 of 65,535")


def test_values_without_a_range_are_told_once_and_counted(tmp_path, caplog):
    from infoscope.images.prefetch import decode_ahead

    for number in range(3):
        Image.fromarray(np.full((8, 8), 900 + number, np.uint16)).save(tmp_path / f"{number}.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "8.png")
    images = open_images(tmp_path)
    for _ in range(2):
        list(decode_ahead(images, range(4), np.asarray, batch_size=2, threads=1))
    assert caplog.text.count("read as dark") == 1
    assert [note.split(";")[0] for note in notes_of(images)] == ["doubtful values: 3 of 4 images"]


@pytest.fixture
def with_pipes(photographs):
    os.mkfifo(photographs / "pipe.png")
    server = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(photographs)  # a socket's path must be short
    server.bind("socket.jpg")
    os.chdir(here)
    (photographs / "device.jpg").symlink_to("/dev/zero")
    (photographs / "folder.jpg").mkdir()
    yield photographs
    server.close()


def test_pipes_devices_and_sockets_are_no_images(with_pipes):
    images = open_images(with_pipes)
    assert len(images) == 24
    assert notes_of(images) == ["not read: 3 that are pipes or devices, no files (device.jpg, pipe.png, socket.jpg)"]


def test_a_link_to_nothing_and_to_itself_keep_their_index(photographs):
    (photographs / "nothing.png").symlink_to("gone.png")
    (photographs / "itself.png").symlink_to("itself.png")
    (photographs / "up").symlink_to(photographs)
    images = open_images(photographs)
    assert len(images) == 26
    for name in ("nothing.png", "itself.png"):
        with pytest.raises(UnreadableImageError):
            images[list(images.ids).index(name)]


def test_a_pipe_that_is_named_is_refused(tmp_path):
    for name in ("x.tar", "x.parquet", "x.png"):
        os.mkfifo(tmp_path / name)
    for name in ("x.tar", "x.parquet", "*.tar", "*.parquet"):
        with pytest.raises(InfoscopeError, match="pipe or device"):
            open_images(str(tmp_path / name))
    with pytest.raises(UnreadableImageError, match="pipe or device"):
        decode(tmp_path / "x.png")
    with pytest.raises(InfoscopeError, match="pipe or device"):
        read_mask(str(tmp_path / "x.png"))
