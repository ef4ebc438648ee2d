"""Images that change while they are watched, in every kind of source."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infoscope.errors import UnreadableImageError
from infoscope.images.source import open_images
from infoscope.images.watched import UNREAD, UNREADABLE, ChangedImageError, Remembering, watch

COUNT = 4


def encoded(number):
    stream = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "BMP")  # as many bytes whatever the pixels
    return stream.getvalue()


def write_folder(place, contents):
    (place / "images").mkdir(exist_ok=True)
    for number, content in enumerate(contents):
        (place / "images" / f"{number}.bmp").write_bytes(content)
    return place / "images"


def write_tar(place, contents):
    with tarfile.open(place / "images.tar", "w") as tar:
        for number, content in enumerate(contents):
            header = tarfile.TarInfo(f"{number}.bmp")
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return place / "images.tar"


def write_parquet(place, contents):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    column = pa.array([{"bytes": content, "path": None} for content in contents])
    parquet.write_table(pa.table({"image": column}), place / "images.parquet", row_group_size=2)
    return place / "images.parquet"


WRITERS = {"folder": write_folder, "tar": write_tar, "parquet": write_parquet}


@pytest.fixture(params=WRITERS)
def written(request, tmp_path):
    """A source of four images, and what writes it anew with others."""
    write = WRITERS[request.param]
    return str(write(tmp_path, map(encoded, range(COUNT)))), lambda numbers: write(tmp_path, map(encoded, numbers))


def files_of(source):
    return [Path(source)] if Path(source).is_file() else list(Path(source).iterdir())


def test_what_is_read_again_must_be_the_same(written):
    source, write = written
    images = watch(open_images(source))
    for index in range(COUNT):
        images[index]
    write([0, 1, 9, 3])
    if isinstance(images.source, Remembering):
        images.source.forget()
    images[0]
    with pytest.raises(ChangedImageError, match="has changed since it was first read; put back what was there"):
        images[2]
    with pytest.raises(ChangedImageError):
        images.check()


def test_files_that_were_only_touched_or_written_again_are_no_difference(written):
    source, write = written
    images = watch(open_images(source))
    images[1]
    for file in files_of(source):
        os.utime(file, ns=(1, 1))
    images.check()
    write(range(COUNT))
    images.check()
    assert watch(open_images(source)).states != images.states


def test_an_image_that_was_not_read_yet_may_be_any(written):
    source, write = written
    images = watch(open_images(source))
    images[1]
    write([7, 1, 8, 9])
    images.check()
    if isinstance(images.source, Remembering):
        images.source.forget()
    images[0]
    assert (images.contents != UNREAD).tolist() == [True, True, False, False]


def test_a_replacement_of_the_same_size_and_time_is_seen(written):
    source, write = written
    images = watch(open_images(source))
    images[3]
    before = {file: file.stat() for file in files_of(source)}
    write([0, 1, 2, 9])
    for file, status in before.items():
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert open_images(source).stamp() == images.stamp()
    with pytest.raises(ChangedImageError, match="has changed"):
        images.check()


def test_an_image_that_vanishes_is_named_with_the_reason(tmp_path):
    images = watch(open_images(str(write_folder(tmp_path, map(encoded, range(COUNT))))))
    images[2]
    (tmp_path / "images" / "2.bmp").unlink()
    for again in (lambda: images[2], images.check):
        with pytest.raises(ChangedImageError, match=r"2\.bmp of .* was read before and cannot be read now .*No such"):
            again()


def test_an_image_that_comes_back_is_another_than_it_was(tmp_path):
    folder = write_folder(tmp_path, map(encoded, range(COUNT)))
    (folder / "2.bmp").write_bytes(b"no")
    images = watch(open_images(str(folder)))
    with pytest.raises(Exception, match="cannot identify image file"):
        images[2]
    (folder / "2.bmp").write_bytes(encoded(2))
    with pytest.raises(ChangedImageError):
        images[2]


@pytest.fixture
def passing(tmp_path):
    """A folder of which one photograph could not be read at first, as when a disk is not mounted for a moment."""
    images = watch(open_images(str(write_folder(tmp_path, map(encoded, range(COUNT))))))
    file = tmp_path / "images" / "2.bmp"
    file.rename(tmp_path / "away")
    with pytest.raises(UnreadableImageError, match="No such file"):
        images[2]
    (tmp_path / "away").rename(file)
    return images


def test_an_image_that_can_be_read_later_stays_left_out_and_is_not_called_changed(passing):
    passing.check()
    passing.verify(np.arange(COUNT))
    with pytest.raises(UnreadableImageError, match="could not be read when it was first needed, and stays left out"):
        passing[2]
    assert passing.contents[2] == UNREADABLE


def test_a_later_start_leaves_it_out_too(passing, tmp_path):
    passing.keep(tmp_path / "kept.u8")
    later = watch(open_images(passing.name))
    later[2]  # before it is known that it is left out
    later.keep(tmp_path / "kept.u8")
    with pytest.raises(UnreadableImageError, match="stays left out"):
        later[2]
    assert later.contents[2] == UNREADABLE


def test_what_another_process_could_read_is_compared_with_what_it_read(passing):
    other = watch(open_images(passing.name))
    other[2]
    passing.expect(np.arange(COUNT), other.contents)
    passing[2]
    (Path(passing.name) / "2.bmp").write_bytes(encoded(9))
    with pytest.raises(ChangedImageError, match="has changed"):
        passing[2]


def test_what_was_read_outlives_the_process_in_a_file(written, tmp_path):
    source, write = written
    kept = tmp_path / "kept" / "images.u8"
    first = watch(open_images(source))
    first[0]
    first.keep(kept)
    first[1]  # after the file is there
    write([0, 9, 8, 3])
    again = watch(open_images(source))
    again.keep(kept)
    again[0]
    again[2]
    with pytest.raises(ChangedImageError):
        again[1]
    late = watch(open_images(source))
    late[1]
    with pytest.raises(ChangedImageError):
        late.keep(kept)
