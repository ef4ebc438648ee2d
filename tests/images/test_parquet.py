import io
import json
import os
import pickle
import sys

import numpy as np
import pytest
from PIL import Image

from infoscope.errors import InfoscopeError, UnreadableImageError
from infoscope.images.prefetch import decode_ahead
from infoscope.images.source import ids_sha256, open_images

datasets = pytest.importorskip("datasets")
pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def rows(shades):
    images = [Image.new("RGB", (8, 6), (shade, 0, 0)) for shade in shades]
    features = datasets.Features({"label": datasets.Value("int64"), "picture": datasets.Image()})
    return datasets.Dataset.from_dict({"label": list(shades), "picture": images}, features=features)


def shade(image):
    return image.getpixel((0, 0))[0]


@pytest.fixture
def hub(tmp_path):
    """A data set as the hub lays it out: 9 rows of train in two files with row groups of 2, one file of test."""
    data = tmp_path / "pictures" / "data"
    data.mkdir(parents=True)
    rows(range(5)).to_parquet(data / "train-00000-of-00002.parquet", batch_size=2)
    rows(range(5, 9)).to_parquet(data / "train-00001-of-00002.parquet", batch_size=2)
    rows(range(100, 103)).to_parquet(data / "test-00000-of-00001.parquet")
    return tmp_path / "pictures"


def test_a_split_of_a_folder(hub):
    images = open_images(f"{hub}:train")
    assert list(images.ids) == [str(row) for row in range(9)]
    assert [shade(image) for image in images] == list(range(9))
    assert [shade(image) for image in open_images(f"{hub}:test")] == [100, 101, 102]
    assert [shade(image) for image in open_images(f"{hub}/data/train-*.parquet")] == list(range(9))
    assert [shade(image) for image in open_images(hub / "data" / "train-00001-of-00002.parquet")] == [5, 6, 7, 8]


def test_ids_are_those_of_the_data_set_itself(hub):
    files = sorted(map(str, (hub / "data").glob("train-*")))
    whole = datasets.concatenate_datasets([datasets.Dataset.from_parquet(f, cache_dir=hub / "cache") for f in files])
    as_read = open_images(whole)
    images = open_images(f"{hub}:train")
    assert list(as_read.ids) == list(images.ids)
    assert all(np.array_equal(a, b) for a, b in zip(as_read, images, strict=True))


def test_a_split_must_be_chosen(hub):
    with pytest.raises(InfoscopeError, match=r"holds several splits; give one of \S+:test, \S+:train"):
        open_images(hub)
    with pytest.raises(InfoscopeError, match=r"has no split val; give one of \S+:test, \S+:train"):
        open_images(f"{hub}:val")
    (hub / "data" / "test-00000-of-00001.parquet").unlink()
    assert len(open_images(hub)) == 9


def test_missing_files_are_noticed(hub):
    (hub / "data" / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(InfoscopeError, match=r"has 1 of 2 parquet files; fetch the others"):
        open_images(f"{hub}:train")
    assert len(open_images(f"{hub}/data/train-*.parquet")) == 5


@pytest.mark.parametrize("name", ["0000.parquet", "train.parquet", "train-00000-of-00001-0123456789abcdef.parquet"])
def test_other_names_of_files(tmp_path, name):
    rows([7, 8]).to_parquet(tmp_path / name)
    assert [shade(image) for image in open_images(tmp_path)] == [7, 8]


def test_a_split_of_a_folder_without_any(tmp_path):
    with pytest.raises(InfoscopeError, match="holds no parquet files, so it has no split train"):
        open_images(f"{tmp_path}:train")


def test_opening_reads_no_rows(hub, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("rows were read")

    monkeypatch.setattr(parquet.ParquetFile, "read_row_group", refuse)
    images = open_images(f"{hub}:train")
    assert len(images) == len(images.ids) == 9
    assert images.stamp()
    assert ids_sha256(images)


@pytest.mark.parametrize("threads", [1, 6])
def test_each_row_group_is_read_once_in_order(hub, monkeypatch, threads):
    images = open_images(f"{hub}:train")
    read = []
    original = parquet.ParquetFile.read_row_group

    def counting(self, group, **options):
        read.append(group)
        assert options["columns"] == ["picture"]
        return original(self, group, **options)

    monkeypatch.setattr(parquet.ParquetFile, "read_row_group", counting)
    batches = list(decode_ahead(images, range(9), np.asarray, batch_size=2, threads=threads))
    assert [index for batch in batches for index in batch.index] == list(range(9))
    assert [int(pixels[0, 0, 0]) for batch in batches for pixels in batch.pixels] == list(range(9))
    if threads == 1:
        assert read == [0, 1, 2, 0, 1]


def test_copies_in_other_processes_cover_every_row_once(hub, monkeypatch):
    monkeypatch.chdir(hub.parent)
    images = open_images("pictures:train")
    images[0]  # what is kept in memory stays here
    packed = pickle.dumps(images)
    monkeypatch.chdir("/")
    shades = []
    for part in (range(3), range(3, 9)):
        for batch in decode_ahead(pickle.loads(packed), part, np.asarray, batch_size=4):
            shades += [int(pixels[0, 0, 0]) for pixels in batch.pixels]
    assert shades == list(range(9))


def test_the_fingerprint_follows_the_content(hub):
    first = open_images(f"{hub}:test")
    rows(range(100, 104)).to_parquet(hub / "data" / "test-00000-of-00001.parquet")
    second = open_images(f"{hub}:test")
    assert first.fingerprint != second.fingerprint
    assert first.fingerprint == open_images(rows_again(hub)).fingerprint


def rows_again(hub):
    """The split as it was, in another place."""
    other = hub.parent / "other"
    other.mkdir()
    rows(range(100, 103)).to_parquet(other / "test-00000-of-00001.parquet")
    return other


def write_cells(path, described=None, **columns):
    """Parquet as other programs write it: columns of cells, with what a data set says of them or without."""
    cell = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table({name: pa.array(cells, cell) for name, cells in columns.items()})
    if described is not None:
        features = {name: {"_type": kind} for name, kind in described.items()}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, path)
    return path


def test_rows_without_a_readable_image(tmp_path):
    cells = [{"bytes": b"garbage", "path": "1.png"}, None, {"bytes": None, "path": None}]
    images = open_images(write_cells(tmp_path / "x.parquet", image=cells))
    for row in range(3):
        with pytest.raises(UnreadableImageError):
            images[row]


def test_a_damaged_row_group_is_skipped(hub):
    file = hub / "data" / "test-00000-of-00001.parquet"
    images = open_images(f"{hub}:test")
    data = file.read_bytes()
    file.write_bytes(data[:4] + bytes(len(data) // 2) + data[4 + len(data) // 2 :])
    for row in range(3):
        with pytest.raises(UnreadableImageError, match=r"test-00000-of-00001\.parquet, row group 0"):
            images[row]


def test_a_column_of_sounds_is_no_column_of_images(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6)).save(buffer, "PNG")
    columns = {"sound": [{"bytes": b"hum", "path": None}], "image": [{"bytes": buffer.getvalue(), "path": None}]}
    path = write_cells(tmp_path / "x.parquet", {"sound": "Audio", "image": "Image"}, **columns)
    assert open_images(path)[0].size == (8, 6)


def test_files_without_images(hub, tmp_path):
    datasets.Dataset.from_dict({"label": [1]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(InfoscopeError, match=r"x\.parquet has no image column \(its columns: label\)"):
        open_images(tmp_path / "x.parquet")
    (tmp_path / "y.parquet").write_bytes(b"no parquet")
    with pytest.raises(InfoscopeError, match=r"cannot read .*y\.parquet"):
        open_images(tmp_path / "y.parquet")


def test_parquet_without_the_extra(hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InfoscopeError, match=r"parquet files, install infoscope\[datasets\]"):
        open_images(f"{hub}:train")


def encoded(shade):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def pack(path, cells, kind=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = kind or pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    parquet.write_table(pa.table({"image": pa.array(cells, kind)}), path)


def by_path(path):
    return {"bytes": None, "path": str(path)}


def test_rows_open_only_files_below_the_data_set(tmp_path, monkeypatch):
    root, outside = tmp_path / "set", tmp_path / "outside"
    for folder in (root / "data", root / "images", outside):
        folder.mkdir(parents=True)
    for file in (root / "images" / "in.png", root / "data" / "beside.png", outside / "out.png"):
        file.write_bytes(encoded(7))
    (root / "images" / "link.png").symlink_to(outside / "out.png")
    (root / "images" / "loop.png").symlink_to("loop.png")
    os.mkfifo(root / "images" / "pipe.png")
    monkeypatch.chdir(outside)
    inside = [root / "images" / "in.png", "images/in.png", "beside.png", root / "data" / ".." / "images" / "in.png"]
    refused = [
        outside / "out.png", "out.png", "../../outside/out.png", root / "images" / "link.png", "images/loop.png",
        "images/pipe.png", "images", "/dev/zero", "/etc/passwd", "https://example.org/x.png", "a\0b", "file:///etc/passwd",
        root / "images" / ".." / ".." / "outside" / "out.png", f"{root}-2/x.png", "x" * 5000,
    ]  # fmt: skip
    pack(root / "data" / "train.parquet", [by_path(path) for path in [*inside, *refused]])
    images = open_images(f"{root}:train")
    assert [shade(images[row]) for row in range(len(inside))] == [7] * len(inside)
    for row in range(len(inside), len(images)):
        with pytest.raises(UnreadableImageError, match="is no file below the data set's folder"):
            images[row]


def test_rows_of_a_saved_data_set_open_only_files_below_it(tmp_path):
    outside = tmp_path / "out.png"
    outside.write_bytes(encoded(7))
    features = datasets.Features({"image": datasets.Image()})
    mine = datasets.Dataset.from_dict({"image": [str(outside)]}, features=features)
    assert shade(open_images(mine)[0]) == 7  # whoever calls from Python has made it
    saved = tmp_path / "saved"
    mine.save_to_disk(saved)
    (saved / "in.png").write_bytes(encoded(8))
    (file,) = saved.glob("*.arrow")
    cells = pa.array(
        [by_path(outside), by_path(saved / "in.png")], pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    )
    schema = pa.ipc.open_stream(file).schema
    with pa.ipc.new_stream(file, schema) as stream:
        stream.write_table(pa.table({"image": cells}, schema=schema))
    images = open_images(saved)
    assert shade(images[1]) == 8
    with pytest.raises(UnreadableImageError, match="no file below"):
        images[0]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_a_column_of_raw_bytes(tmp_path, kind):
    pack(tmp_path / "raw" / "train.parquet", [encoded(shade) for shade in range(3)] + [None, b"no image"], kind)
    images = open_images(tmp_path / "raw")
    assert [shade(images[row]) for row in range(3)] == [0, 1, 2]
    for row in (3, 4):
        with pytest.raises(UnreadableImageError):
            images[row]


def test_of_several_columns_of_bytes_the_one_of_pictures(tmp_path):
    table = pa.table({"hash": [b"1", b"2"], "jpg": [None, encoded(5)], "label": [0, 1]})
    parquet.write_table(table, tmp_path / "x.parquet")
    images = open_images(tmp_path / "x.parquet")
    assert shade(images[1]) == 5
    assert images.class_numbers().number.tolist() == [0, 1]


def test_a_data_set_with_a_column_of_raw_bytes(tmp_path):
    made = datasets.Dataset.from_dict(
        {"content": [encoded(4)]}, datasets.Features({"content": datasets.Value("binary")})
    )
    assert shade(open_images(made)[0]) == 4
    made.save_to_disk(tmp_path / "saved")
    assert shade(open_images(tmp_path / "saved")[0]) == 4


@pytest.mark.parametrize("cell", ["text", 7])
def test_a_cell_of_another_kind_is_no_image(tmp_path, cell):
    kind = pa.struct([("bytes", pa.string() if isinstance(cell, str) else pa.int64()), ("path", pa.string())])
    pack(tmp_path / "x.parquet", [{"bytes": cell, "path": None}], kind)
    with pytest.raises(UnreadableImageError, match="in place of an image's bytes"):
        open_images(tmp_path / "x.parquet")[0]


def test_configurations_one_folder_down(tmp_path):
    root = tmp_path / "hub"
    pack(root / "small" / "train-00000-of-00001.parquet", [{"bytes": encoded(1), "path": None}])
    (root / "README.md").write_text("x")
    (root / ".cache" / "x").mkdir(parents=True)
    assert shade(open_images(root)[0]) == 1
    assert shade(open_images(f"{root}:train")[0]) == 1
    pack(root / "small" / "test-00000-of-00001.parquet", [{"bytes": encoded(2), "path": None}])
    with pytest.raises(InfoscopeError, match=r"holds several splits; give one of \S+/small:test, \S+/small:train"):
        open_images(root)
    pack(root / "large" / "data" / "train-00000-of-00001.parquet", [{"bytes": encoded(3), "path": None}])
    with pytest.raises(InfoscopeError, match=r"several configurations or splits; give one of \S+/large, \S+/small$"):
        open_images(root)
    with pytest.raises(InfoscopeError, match=r"give one of \S+/large:train, \S+/small:train$"):
        open_images(f"{root}:train")
    assert shade(open_images(f"{root}/large:train")[0]) == 3
    assert shade(open_images(f"{root}/small:test")[0]) == 2


def test_a_folder_for_each_split(tmp_path):
    root = tmp_path / "hub"
    for number, split in enumerate(("train", "test")):
        pack(root / "default" / split / "0000.parquet", [{"bytes": encoded(number), "path": None}])
    with pytest.raises(InfoscopeError, match=r"give one of \S+/default/test, \S+/default/train"):
        open_images(root)
    assert shade(open_images(f"{root}:test")[0]) == 1
    assert shade(open_images(root / "default" / "train")[0]) == 0


def test_what_a_data_set_says_of_itself_may_be_damaged(tmp_path):
    for number, said in enumerate(
        (b"{", b"[]", b'{"info": 3}', b'{"info": {"features": {"image": [1], "label": [2]}}}')
    ):
        cells = pa.array(
            [{"bytes": encoded(9), "path": None}], pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        )
        table = pa.table({"image": cells, "label": [0]}).replace_schema_metadata({b"huggingface": said})
        parquet.write_table(table, tmp_path / f"{number}.parquet")
        images = open_images(tmp_path / f"{number}.parquet")
        assert shade(images[0]) == 9
        assert images.class_numbers().number.tolist() == [0]
