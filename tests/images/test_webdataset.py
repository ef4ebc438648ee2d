import io
import pickle
import sys
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infoscope.errors import InfoscopeError, UnreadableImageError
from infoscope.images.decode import decode
from infoscope.images.prefetch import decode_ahead
from infoscope.images.source import ids_sha256, notes_of, open_images


def picture(shade, kind="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (shade, 0, 0)).save(buffer, kind)
    return buffer.getvalue()


def pack(path, files):
    with tarfile.open(path, "w") as tar:
        for name, content in files:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return path


def shade(image):
    return image.getpixel((0, 0))[0]


@pytest.fixture
def shards(tmp_path):
    """Three shards with 4, 4 and 3 samples, written by webdataset itself."""
    wds = pytest.importorskip("webdataset")
    folder = tmp_path / "shards"
    folder.mkdir()
    with wds.ShardWriter(str(folder / "train-%06d.tar"), maxcount=4, verbose=0) as writer:
        for number in range(11):
            # Written out of order, so that the order of ids is not the order of writing.
            key = f"class{number % 2}/{(number * 7) % 11:04}"
            writer.write({"__key__": key, "png": picture(number), "cls": number % 2, "json": {"number": number}})
    return folder


def samples(shard):
    """The samples that webdataset finds in a shard; it leaves files open, so it is given an open one."""
    reader = pytest.importorskip("webdataset.tariterators")
    with shard.open("rb") as stream:
        yield from reader.group_by_keys(reader.tar_file_expander([{"url": shard.name, "stream": stream}]))


def test_the_samples_are_those_that_webdataset_reads(shards):
    images = open_images(shards)
    read = {
        f"{shard.name}/{sample['__key__']}.png": sample["png"]
        for shard in shards.glob("*.tar")
        for sample in samples(shard)
    }
    assert list(images.ids) == sorted(read, key=str.encode)
    assert len(images) == 11
    for image, image_id in zip(images, images.ids, strict=True):
        assert np.array_equal(np.asarray(image), np.asarray(decode(read[image_id])))


def test_every_way_to_name_the_shards(shards, monkeypatch):
    monkeypatch.chdir(shards.parent)
    ids = list(open_images(shards).ids)
    for name in (
        "shards",
        "shards/*.tar",
        "shards/train-{000000..000002}.tar",
        "shards/train-00000[0-2].tar",
        "**/*.tar",
    ):
        images = open_images(name)
        assert list(images.ids) == ids
        assert images.name == name
        assert images.stamp() == open_images(shards).stamp()
    one = open_images("shards/train-000001.tar")
    assert list(one.ids) == [image_id for image_id in ids if image_id.startswith("train-000001.tar/")]


def test_a_missing_shard_is_an_error(shards):
    with pytest.raises(InfoscopeError, match=r"no such file: .*train-000003.tar \(from .*\{000000..000003\}.tar\)"):
        open_images(f"{shards}/train-{{000000..000003}}.tar")
    with pytest.raises(InfoscopeError, match=r"no such file: .*val-\*.tar"):
        open_images(f"{shards}/val-*.tar")
    with pytest.raises(InfoscopeError, match=r"the braces in .* are not closed"):
        open_images(f"{shards}/train-{{000.tar")


def test_braces_without_the_extra(shards, monkeypatch):
    monkeypatch.setitem(sys.modules, "braceexpand", None)
    with pytest.raises(InfoscopeError, match=r"install infoscope\[webdataset\], or use \*"):
        open_images(f"{shards}/train-{{000000..000002}}.tar")


@pytest.mark.parametrize("name", ["https://host/x-{0..9}.tar", "s3://bucket/x.tar", "pipe:cat x.tar"])
def test_places_elsewhere_are_refused(name):
    with pytest.raises(InfoscopeError, match="is no local path; download the shards"):
        open_images(name)


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz"])
def test_compressed_shards_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    for source in (tmp_path, tmp_path / name):
        with pytest.raises(InfoscopeError, match=rf"{name} is compressed: .*unpack it"):
            open_images(source)


def test_a_folder_with_images_of_its_own_is_a_folder(tmp_path):
    pack(tmp_path / "train.tar", [("1.png", picture(1)), ("2.png", picture(2))])
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "1.png").write_bytes(picture(1))
    assert list(open_images(tmp_path).ids) == ["train/1.png"]


def test_one_picture_a_sample(tmp_path):
    files = [
        ("1.cls", b"0"),
        ("1.png", picture(1)),
        ("1.webp", picture(99, "WEBP")),  # the first in the tar counts
        ("2.depth.png", picture(99)),  # what has a name of its own comes after what has none
        ("2.JPG", picture(2, "JPEG")),
        ("d.x/3.left.png", picture(3)),  # dots of folders are no part of the key
        ("d.x/3.right.png", picture(99)),
        ("4.txt", b"no picture"),
        (".5.png", b"hidden"),
        ("._6.png", b"what macOS adds"),
        ("no-suffix", picture(99)),
    ]
    images = open_images(pack(tmp_path / "x.tar", files))
    assert list(images.ids) == ["x.tar/1.png", "x.tar/2.JPG", "x.tar/d.x/3.left.png"]
    assert [abs(shade(image) - number) <= 1 for number, image in enumerate(images, 1)] == [True] * 3


def test_of_a_name_held_twice_the_last_counts(tmp_path):
    files = [("./1.png", picture(1)), ("2.png", picture(2)), ("1.png", picture(3)), ("2.jpg", picture(4, "JPEG"))]
    path = pack(tmp_path / "x.tar", files)
    images = open_images(path)
    assert list(images.ids) == ["x.tar/1.png", "x.tar/2.png"]
    assert [shade(image) for image in images] == [3, 2]


def test_order_is_the_byte_order_of_ids(tmp_path):
    for shard in ("a.tar", "a.tar-2.tar", "B.tar", "é.tar"):
        pack(tmp_path / shard, [(name, picture(1)) for name in ("b.png", "a/z.png", "é.png", "a-b.png", "a.png")])
    ids = list(open_images(tmp_path).ids)
    assert ids == sorted(ids, key=str.encode)
    assert len(set(ids)) == 20


def test_shards_of_one_name_in_two_folders(tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        pack(tmp_path / folder / "0.tar", [("1.png", picture(ord(folder)))])
    images = open_images(f"{tmp_path}/*/0.tar")
    assert list(images.ids) == ["x/0.tar/1.png", "y/0.tar/1.png"]
    assert [shade(image) for image in images] == [ord("x"), ord("y")]


def test_shards_without_images(tmp_path):
    path = pack(tmp_path / "x.tar", [("1.txt", b"")])
    with pytest.raises(InfoscopeError, match=r"no images in .*x\.tar"):
        open_images(path)


def test_a_corrupt_image_is_skipped_and_named(tmp_path):
    images = open_images(
        pack(tmp_path / "x.tar", [("1.png", picture(1)), ("2.png", b"garbage"), ("3.png", picture(3))])
    )
    (batch,) = decode_ahead(images, range(3), np.asarray, 8)
    assert batch.index == [0, 2]
    assert [index for index, _ in batch.unreadable] == [1]


def test_shards_that_change_while_they_are_read(shards):
    images = open_images(shards)
    stamp, hashed = images.stamp(), ids_sha256(images)
    last = shards / "train-000002.tar"
    last.write_bytes(last.read_bytes()[:600])
    with pytest.raises(UnreadableImageError, match=r"train-000002\.tar is shorter than when it was indexed"):
        images[10]
    last.unlink()
    with pytest.raises(UnreadableImageError, match=r"train-000002\.tar: No such file"):
        images[10]
    assert images.stamp() != stamp
    assert ids_sha256(images) == hashed


@pytest.mark.parametrize("threads", [1, 5])
def test_copies_in_other_processes_cover_every_image_once(shards, monkeypatch, threads):
    monkeypatch.chdir(shards.parent)
    images = open_images("shards/*.tar")
    packed = pickle.dumps(images)
    monkeypatch.chdir("/")  # a worker's own folder
    ids, shades = [], []
    for part in (range(4), range(4, 5), range(5, 11)):
        copy = pickle.loads(packed)
        for batch in decode_ahead(copy, part, np.asarray, batch_size=2, threads=threads):
            ids += [copy.ids[index] for index in batch.index]
            shades += [int(pixels[0, 0, 0]) for pixels in batch.pixels]
    assert ids == list(images.ids)
    assert sorted(shades) == list(range(11))


def test_threads_share_a_source_and_leave_nothing_open(shards):
    images = open_images(shards)
    expected = [shade(image) for image in images]
    descriptors = Path("/proc/self/fd")
    opened = len(list(descriptors.iterdir())) if descriptors.is_dir() else 0
    with ThreadPoolExecutor(8) as executor:
        assert list(executor.map(lambda index: shade(images[index % 11]), range(330))) == expected * 30
    if opened:
        assert len(list(descriptors.iterdir())) <= opened
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("index")]


def test_positions_are_those_of_a_sequence(shards):
    images = open_images(shards)
    assert images.ids[-1] == list(images.ids)[10]
    assert images.ids[3:5] == list(images.ids)[3:5]
    for bad in (11, -12):
        with pytest.raises(IndexError):
            images[bad]
        with pytest.raises(IndexError):
            images.ids[bad]


def test_dotted_names_that_hide_pictures_are_told(tmp_path, caplog):
    names = ["a.b.png", "a.c.png", "a.d.png", "x.png", "x.1.png", "7.png", "7.depth.jpg", "7.cls", "y.heic", "7.heic"]
    (tmp_path / "x.tar").write_bytes(b"")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in names:
            content = picture(3)
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    images = open_images(tmp_path / "x.tar")
    assert list(images.ids) == ["x.tar/7.png", "x.tar/a.b.png", "x.tar/x.png"]
    assert notes_of(images) == [
        "not read: 3 pictures in a sample with another picture, since a sample's name ends at the first dot "
        "(x.tar/a.b.png hides a.c.png, x.tar/a.b.png hides a.d.png, x.tar/x.png hides x.1.png); "
        "name files without such dots to read them all",
        "not read: 1 picture of a kind that is not read (x.tar/y.heic); convert them to JPEG or PNG",
    ]
    assert "3 pictures in a sample with another" in caplog.text


def test_links_and_absolute_names_open_no_other_file(tmp_path):
    (tmp_path / "out.png").write_bytes(picture(9))
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, kind, target in (
            ("link.png", tarfile.SYMTYPE, str(tmp_path / "out.png")),
            ("hard.png", tarfile.LNKTYPE, str(tmp_path / "out.png")),
            ("pipe.png", tarfile.FIFOTYPE, ""),
            ("device.png", tarfile.CHRTYPE, ""),
        ):
            header = tarfile.TarInfo(name)
            header.type, header.linkname = kind, target
            tar.addfile(header)
        content = picture(4)
        header = tarfile.TarInfo(f"/{tmp_path}/out.png")
        header.size = len(content)
        tar.addfile(header, io.BytesIO(content))
    images = open_images(tmp_path / "x.tar")
    assert len(images) == 1
    assert shade(images[0]) == 4
