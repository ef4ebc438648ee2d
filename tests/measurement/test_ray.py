"""A measurement on two workers of a local Ray cluster."""

import pytest

from infoscope.measurement.measure import measure_scope
from small import pictures

pytest.importorskip("ray", reason="needs infoscope[ray]")

# What Ray itself warns of is not this project's.
pytestmark = pytest.mark.filterwarnings("ignore")


def test_measurement_is_the_same_as_in_one_process(backbone, sae, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, picture in enumerate(pictures(40)):
        picture.save(folder / f"{i:02}.png")
    (folder / "07-broken.png").write_bytes(b"no")
    options = {"top_images": 4, "shard_images": 6, "show_progress": False}
    here = measure_scope(backbone, sae, str(folder), out=tmp_path / "here", **options)
    there = measure_scope(backbone, sae, str(folder), out=tmp_path / "there", executor="ray", workers=2, **options)
    for name in ("table", "top_images", "maps"):
        assert getattr(here, name).equals(getattr(there, name))
    assert here.manifest.fit == there.manifest.fit
    assert here.manifest.images.skipped == there.manifest.images.skipped
    files = [sorted(file.name for file in (tmp_path / run).rglob("*")) for run in ("here", "there")]
    assert files[0] == files[1]
