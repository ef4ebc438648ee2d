"""A measurement on two workers of a local Ray cluster."""

import os
import pickle
import signal
import threading
import time
from pathlib import Path

import pytest

from infoscope.errors import InfoscopeError
from infoscope.images.source import open_images
from infoscope.measurement.config import MeasureConfig
from infoscope.measurement.measure import measure_scope
from infoscope.measurement.passes import Passes, Target
from small import pictures

pytest.importorskip("ray", reason="needs infoscope[ray]")

# What Ray itself warns of is not this project's.
pytestmark = pytest.mark.filterwarnings("ignore")


def kill_a_worker(partials, killed):
    """Half way through the ranking."""
    while len(list(partials.glob("*.npz"))) < 3:
        time.sleep(0.001)
    workers = [
        int(folder.name)
        for folder in Path("/proc").iterdir()
        if folder.name.isdigit() and b"ray::_Actor" in (folder / "cmdline").read_bytes()
    ]
    os.kill(workers[0], signal.SIGKILL)
    killed.append(workers)


@pytest.mark.ray
def test_measurement_with_a_worker_killed_half_way_is_the_same_as_in_one_process(backbone, sae, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, picture in enumerate(pictures(40)):
        picture.save(folder / f"{i:02}.png")
    (folder / "07-broken.png").write_bytes(b"no")
    options = {"top_images": 4, "shard_images": 6, "shifts": (1,), "quantile_images": 2}
    here = measure_scope(backbone, sae, str(folder), out=tmp_path / "here", **options)
    killed = []
    killer = threading.Thread(target=kill_a_worker, args=(tmp_path / "there" / "partials", killed))
    killer.start()
    there = measure_scope(backbone, sae, str(folder), out=tmp_path / "there", executor="ray", workers=2, **options)
    killer.join()
    assert len(killed[0]) == 2
    for name in ("table", "top_images", "maps", "shift_curve", "cross_checks", "quantile_images"):
        assert getattr(here, name).equals(getattr(there, name))
    assert here.code_noise.to_json() == there.code_noise.to_json()
    assert here.manifest.fit == there.manifest.fit
    assert here.manifest.images.skipped == there.manifest.images.skipped
    files = [sorted(file.name for file in (tmp_path / run).rglob("*")) for run in ("here", "there")]
    assert files[0] == files[1]


def test_a_machine_without_the_images_is_named(backbone, sae, tmp_path):
    for i, picture in enumerate(pictures(3)):
        picture.save(tmp_path / f"{i}.png")
    passes = Passes(
        (Target(backbone, sae),), open_images(str(tmp_path)), MeasureConfig(), frozenset(), 4, None
    ).packed()
    assert passes.witnesses == (0, 1, 2)
    assert pickle.loads(pickle.dumps(passes.images))[1].size == passes.images[1].size
    passes.unpacked(threads=1, gpu=False)
    (tmp_path / "1.png").unlink()
    with pytest.raises(InfoscopeError, match=r"the worker on .* cannot read 1\.png, which this process can"):
        passes.unpacked(threads=1, gpu=False)
