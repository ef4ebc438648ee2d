"""What the site's data files hold, against the run's tables."""

import base64
import io
import json
import re
from http.client import HTTPConnection
from threading import Thread
from urllib.request import urlopen

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from infoscope.dictionaries.activations import TopK
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.images.source import open_images
from infoscope.views.report import records
from infoscope.views.report.contents import FEATURES_A_FILE, Options, ReportFiles
from infoscope.views.report.page import write_report
from infoscope.views.report.payload import packed_column, packed_map
from infoscope.views.report.serving import FilesOnDemand, make_server

FEATURES = 70


def read(path):
    """The value that a script hands over."""
    name, value = re.fullmatch(r"infoscope\.put\((\"[^\"]*\"), (.*)\);\n", path.read_text(), re.DOTALL).groups()
    return json.loads(name), json.loads(value)


def unpack_map(text, cells):
    """As the page does it: how many cells are skipped, then the level."""
    levels, packed, cell = np.zeros(cells, int), base64.b64decode(text), -1
    for skip, level in zip(packed[::2], packed[1::2], strict=True):
        if (skip, level) == (255, 0):
            cell += 255
        else:
            cell += skip + 1
            levels[cell] = level
    return levels


@pytest.fixture
def run(fake_run):
    return a_run(fake_run)


def a_run(make):
    cds = [None, *np.random.default_rng(0).gamma(2.0, 0.05, FEATURES - 1).tolist()]
    # On the shared 4 x 4 patches, first crop row 1, column 1 and 2; second row 1, column 1 alone.
    maps = {(2, 0, 0): {(3, 3): 3.0, (3, 4): 1.0}, (2, 0, 1): {(1, 1): 2.0}, (2, 1, 0): {}, (2, 1, 1): {}}
    return make(cds, maps=maps, emd={(2, 1): None})


@pytest.fixture(scope="module")
def written(make_run, make_photographs, tmp_path_factory):
    """A run and the folder of its site, for the tests that only read them."""
    folder = tmp_path_factory.mktemp("written")
    run = a_run(lambda cds, **options: make_run(folder / "run", cds, **options))
    return run, write_report(run, open_images(make_photographs(folder / "photographs"))).parent


def test_columns_hold_the_table(written):
    run, folder = written
    _, known = read(folder / "data" / "run.js")
    assert known["features"] == FEATURES
    for column in known["columns"]:
        name, packed = read(folder / "data" / "columns" / f"{column['name']}.js")
        assert name == f"columns/{column['name']}"
        values = np.frombuffer(base64.b64decode(packed["data"]), "<f4")
        expected = run.scope[column["name"]].cast(pl.Float32).fill_null(np.nan).to_numpy()
        np.testing.assert_array_equal(values, expected)
        assert column["known"] == np.count_nonzero(~np.isnan(expected))
    cds = next(column for column in known["columns"] if column["name"] == "cds")
    assert (cds["label"], cds["unit"], cds["known"]) == ("CDS", "share of D, 0 to 1", FEATURES - 1)
    _, classes = read(folder / "data" / "columns" / "class.js")
    codes = np.frombuffer(base64.b64decode(classes["data"]), "<f4").astype(int)
    assert [known["classes"][code]["name"] for code in codes] == run.scope["scope_class"].to_list()


def test_a_record_holds_the_feature(written):
    run, folder = written
    _, known = read(folder / "data" / "run.js")
    chunks = [read(folder / "data" / "features" / f"{chunk}.js")[1] for chunk in range(2)]
    assert [len(chunk) for chunk in chunks] == [FEATURES_A_FILE, FEATURES - FEATURES_A_FILE]
    record = chunks[0][2]
    row = run.scope.row(2, named=True)
    for name, value in zip(known["fields"], record["values"], strict=True):
        assert value == (pytest.approx(row[name], rel=1e-4) if row[name] is not None else None), name
    assert (record["class"], record["evidence"], record["reasons"]) == (
        row["scope_class"], row["class_evidence"], row["trust_reasons"],
    )  # fmt: skip
    assert (record["topImages"], len(record["gallery"])) == (4, 4)
    first, second = record["gallery"][:2]
    levels = [unpack_map(text, 36).reshape(6, 6) for text in first["maps"]]
    assert {(3, 3): levels[0][3, 3], (3, 4): levels[0][3, 4]} == {(3, 3): 255, (3, 4): 85}
    assert (levels[1][1, 1], np.count_nonzero(levels[0]), np.count_nonzero(levels[1])) == (170, 2, 1)
    # A quarter of the mass goes one patch to the left.
    assert np.frombuffer(base64.b64decode(first["routes"]), "<u2").tolist() == [6, 5, 2500]
    assert (first["moved"], first["left"]) == (0.25, [0, 0])
    assert (second["emd"], second["routes"], second["largest"]) == (None, "", 0)


def test_records_do_not_depend_on_how_they_are_read(written, monkeypatch):
    run, _ = written
    site = ReportFiles(run, None, Options(gallery_images=3))
    whole = site.records.of(range(FEATURES))
    assert {len(record["gallery"]) for record in whole} == {3}
    monkeypatch.setattr(records, "FEATURES_A_READ", 16)
    parts = [ReportFiles(run, None, Options(gallery_images=3)).records.of([feature]) for feature in (0, 15, 16, 69)]
    assert [part[0] for part in parts] == [whole[feature] for feature in (0, 15, 16, 69)]


def test_a_wide_map_keeps_its_cells():
    """Skips of 255 cells and more need more than a byte."""
    cells = np.array([0, 254, 255, 600, 1300], np.uint16)
    levels = unpack_map(packed_map(cells, np.array([1, 2, 3, 4, 4], np.float32), 4.0), 1369)
    assert np.flatnonzero(levels).tolist() == cells.tolist()
    assert levels[cells].tolist() == [64, 128, 191, 255, 255]


def test_large_numbers_of_images_keep_every_digit():
    packed = packed_column(pl.Series([2**24 + 1, None], dtype=pl.UInt64))
    assert np.frombuffer(base64.b64decode(packed["data"]), "<u4").tolist() == [2**24 + 1, 2**32 - 1]


def test_each_photograph_is_there_once_and_whole(run, photographs):
    # Red to the right and green downwards, on a picture that is not square: where each pixel went can be told.
    across, down = np.meshgrid(np.linspace(0, 255, 96), np.linspace(0, 255, 64))
    picture = np.stack([across, down, np.zeros_like(across)], axis=-1).astype(np.uint8)
    Image.fromarray(picture).save(photographs / "a.png")
    folder = write_report(run, open_images(photographs)).parent
    pictures = sorted(folder.glob("images/**/*.webp"))
    assert [picture.name for picture in pictures] == ["0.webp", "1.webp", "2.webp", "3.webp"]
    shown = np.asarray(Image.open(pictures[0]).convert("RGB"), int)
    # A grid of 6 patches of 4 pixels and a shift of 2.
    assert shown.shape == (32, 32, 3)
    ramp = np.linspace(4, 251, 32)
    assert np.abs(shown[..., 0] - ramp[None, :]).max() < 25
    assert np.abs(shown[..., 1] - ramp[:, None]).max() < 25


@pytest.mark.slow
def test_what_is_missing_is_marked(run, photographs):
    (photographs / "b.png").unlink()
    folder = write_report(run, open_images(photographs)).parent
    _, known = read(folder / "data" / "run.js")
    _, chunk = read(folder / "data" / "features" / "0.js")
    assert (known["photographs"], known["withoutPicture"]) == (True, [1])
    assert [picture["photograph"] for picture in chunk[5]["gallery"]] == [True, False, True, True]
    write_report(run, None)
    assert read(folder / "data" / "run.js")[1]["photographs"] is False
    assert not list(folder.glob("images/**/*")), "those of the earlier site are gone"


@pytest.mark.slow
def test_neighbours_by_direction_need_the_measured_sae(run):
    random = np.random.default_rng(0)
    decoder = random.normal(size=(FEATURES, 8)).astype(np.float32)
    weights = torch.from_numpy(decoder)
    parts = weights.T.contiguous(), torch.zeros(FEATURES), weights, torch.zeros(8), TopK(4)
    sae = SparseAutoencoder(*parts, sha256=run.manifest.dictionary.sha256)
    folder = write_report(run, None, sae=sae).parent
    unit = decoder / np.linalg.norm(decoder, axis=1, keepdims=True)
    cosines = unit[7] @ unit.T
    cosines[7] = -1
    _, chunk = read(folder / "data" / "features" / "0.js")
    assert chunk[7]["directions"][0] == [int(cosines.argmax()), pytest.approx(float(cosines.max()), abs=1e-4)]
    write_report(run, None, sae=SparseAutoencoder(*parts))
    assert "weights differ" in read(folder / "data" / "run.js")[1]["withoutDirections"]
    assert read(folder / "data" / "features" / "0.js")[1][7]["directions"] is None


@pytest.mark.slow
def test_serving_gives_the_files_that_are_written(run, photographs):
    images = open_images(photographs)
    folder = write_report(run, images).parent
    site = ReportFiles(run, images, Options())
    site.prepare()
    with make_server(site, 0) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        for file in sorted(file for file in folder.rglob("*") if file.is_file()):
            name = file.relative_to(folder).as_posix()
            with urlopen(f"{address}/{name}") as answer:
                assert answer.read() == file.read_bytes(), name
        for path, host, status in (
            ("data/features/99.js", None, 404),
            ("data/columns/none.js", None, 404),
            ("../manifest.json", None, 404),
            ("", "elsewhere.example:80", 403),
        ):
            assert status_of(server.server_port, path, host) == status
        assert status_of(server.server_port, "", None) == 200
        server.shutdown()
        thread.join()


def status_of(port, path, host):
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("GET", f"/{path}", headers={"Host": host} if host else {})
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_photograph_that_cannot_be_served_is_blank(run, photographs):
    images = open_images(photographs)
    (photographs / "b.png").write_bytes(b"torn")
    files = FilesOnDemand(ReportFiles(run, images, Options()))
    content, kind = files.read("images/0/1.webp")
    assert kind == "image/svg+xml"
    content, kind = files.read("images/0/0.webp")
    assert (kind, Image.open(io.BytesIO(content)).format) == ("image/webp", "WEBP")
