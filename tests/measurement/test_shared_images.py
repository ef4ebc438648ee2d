"""Which test images were measured or trained on before: every kind of sharing, and no false alarm."""

import itertools
import logging
import shutil
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import infoscope.images.contents
import infoscope.measurement.shared_images as sharing
from fake_runs import fake_run
from infoscope.dictionaries.activations import TopK
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.images.contents import packed_contents
from infoscope.images.source import open_images
from infoscope.images.watched import contents_sha256, watch
from infoscope.measurement.shared_images import compare_images, shared_lines
from small import pictures

POOL = 12


def write(folder, numbers, name="{:02}.png", seed=0):
    """Some of the pictures of a seed, each a file."""
    folder.mkdir(parents=True, exist_ok=True)
    made = pictures(POOL, seed)
    for number in numbers:
        made[number].save(folder / name.format(number))
    return folder


def read(source):
    images = watch(open_images(source))
    images.whole()
    return images


@pytest.fixture
def pool(tmp_path):
    """The images that were measured or trained on."""
    return write(tmp_path / "pool", range(POOL))


@pytest.fixture
def measured(tmp_path):
    """``measured(source)``: a run of some images; other entries of its record are given by name."""

    number = itertools.count()

    def run_of(source, **entries):
        images = read(source)
        record = {
            "source": images.name,
            "count": len(images),
            "contents_sha256": contents_sha256(images.contents),
            "contents": packed_contents(images.contents),
            "contents_of": images.contents_of,
        } | entries
        run = fake_run(tmp_path / f"run-{next(number)}", [0.1, 0.2])
        return replace(run, manifest=replace(run.manifest, images=replace(run.manifest.images, **record)))

    return run_of


def an_sae(images=None, kind="infoscope"):
    site = None if images is None else {"block": 1, "images": images}
    eye = torch.eye(4)
    return SparseAutoencoder(eye, torch.zeros(4), eye, torch.zeros(4), TopK(2), site=site, format=kind)


def trained(source):
    """An SAE that says it was trained on some images."""
    images = read(source)
    contents = packed_contents(images.contents)
    return an_sae({"source": "x", "used": len(images), "contents": contents, "contents_of": images.contents_of})


def pack(folder, file):
    with tarfile.open(file, "w") as tar:
        for path in sorted(folder.iterdir(), reverse=True):
            tar.add(path, f"in-a-tar-{path.name}")
    return str(file)


def folder_itself(pool, tmp_path):
    return pool


def renamed(pool, tmp_path):
    for number, file in enumerate(sorted(pool.iterdir(), reverse=True)):
        (tmp_path / "other").mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / "other" / f"photograph {number}.jpeg")
    return tmp_path / "other"


def in_a_tar(pool, tmp_path):
    return pack(pool, tmp_path / "pool.tar")


@pytest.mark.parametrize("test", [folder_itself, renamed, in_a_tar])
def test_images_are_found_under_any_name_and_in_any_container(pool, measured, tmp_path, test):
    for run, sae in ((measured(pool), an_sae()), (measured(in_a_tar(pool, tmp_path)), trained(pool))):
        found = compare_images(run, sae, watch(open_images(test(pool, tmp_path))))
        assert (found.images, found.own) == (POOL, True)
        assert found.measured.shared == POOL
        assert len(found.measured.first) == sharing.NAMED
        assert found.trained.shared == (None if sae.site is None else POOL)
        assert found.warnings[0].startswith(
            "tested on the run's own images: 12 of the 12 test images are among those that the run was measured on: "
        )
        assert found.warnings[0].endswith(" and 9 more")


def test_some_of_them_are_counted_and_named(pool, measured, tmp_path, caplog):
    test = write(write(tmp_path / "test", range(5), seed=1, name="new-{}.png"), [7, 3], name="known-{}.png")
    with caplog.at_level(logging.WARNING):
        found = compare_images(measured(pool), trained(write(tmp_path / "other", [3])), watch(open_images(test)))
    assert not found.own
    assert (found.measured.shared, found.measured.first) == (2, ["known-3.png", "known-7.png"])
    assert (found.trained.shared, found.trained.first) == (1, ["known-3.png"])
    assert found.warnings == [
        "2 of the 7 test images are among those that the run was measured on: known-3.png, known-7.png",
        "1 of the 7 test images is among those that the SAE was trained on: known-3.png",
    ]
    assert [record.getMessage() for record in caplog.records] == found.warnings


def test_other_images_of_the_same_names_are_no_alarm(pool, measured, tmp_path, caplog):
    test = write(tmp_path / "test", range(POOL), seed=1)
    assert list(open_images(test).ids) == list(open_images(pool).ids)
    with caplog.at_level(logging.WARNING):
        found = compare_images(measured(pool), trained(pool), watch(open_images(test)))
    assert (found.own, found.measured.shared, found.trained.shared) == (False, 0, 0)
    assert found.warnings == []
    assert caplog.records == []
    assert found.lines[0] == "none of the 12 test images is among those that the run was measured on"


def test_images_that_cannot_be_read_are_not_one_and_the_same(pool, measured, tmp_path):
    """A missing hash is no hash: two unreadable files share nothing."""
    test = write(tmp_path / "test", range(3), seed=1)
    for folder in (pool, test):
        (folder / "gone.png").symlink_to(tmp_path / f"nothing-{folder.name}")
    run, sae = measured(pool), trained(pool)
    found = compare_images(run, sae, watch(open_images(test)))
    assert (found.measured.shared, found.trained.shared) == (0, 0)


def test_arrays_are_the_pixels_of_files(pool, measured, tmp_path):
    """A run of arrays has hashes over pixels, so files are decoded to be compared; the reverse cannot be told."""
    arrays = [np.asarray(Image.open(file)) for file in sorted(pool.iterdir())]
    test = write(write(tmp_path / "test", range(4), seed=1, name="new-{}.png"), [2])
    for run in (measured(arrays), measured(arrays, contents_of=None)):  # the second as older runs have it
        assert run.manifest.images.source == "arrays"
        assert compare_images(run, trained(arrays), watch(open_images(test))).measured.first == ["02.png"]
        assert compare_images(run, trained(arrays), watch(open_images(test))).trained.first == ["02.png"]
    found = compare_images(measured(pool), an_sae(), watch(open_images(arrays)))
    assert found.measured.shared is None
    assert "the test images are pixels that lie in no files" in found.lines[0]


@pytest.fixture
def few_are_recorded(monkeypatch):
    """As if more than five images were more than 10,000."""
    for module in (infoscope.images.contents, sharing):
        monkeypatch.setattr(module, "MOST_COMPARED", 5)


@pytest.mark.usefixtures("few_are_recorded")
def test_too_many_to_be_recorded_is_said_to_be_not_known(pool, measured, tmp_path):
    run, sae = measured(pool), trained(pool)
    assert run.manifest.images.contents is None
    test = watch(open_images(write(tmp_path / "test", [1, 2])))
    found = compare_images(run, sae, test)
    assert (found.own, found.measured.shared, found.trained.shared) == (False, None, None)
    assert "not known: it was measured on 12 images, and of more than" in found.lines[0]
    assert "not known: it was trained on 12 images, and of more than" in found.lines[1]
    assert not test.contents.any()  # nothing is read where there is nothing to compare with


@pytest.mark.usefixtures("few_are_recorded")
def test_all_images_of_a_large_run_are_known_by_one_hash(pool, measured, tmp_path):
    run = measured(pool)
    found = compare_images(run, an_sae(), watch(open_images(pool)))
    assert (found.own, found.measured.shared) == (True, POOL)
    other = compare_images(run, an_sae(), watch(open_images(write(tmp_path / "test", range(POOL), seed=1))))
    assert (other.own, other.measured.shared) == (False, None)


def test_older_runs_and_saes_are_said_to_be_not_known(pool, measured):
    run = measured(pool, contents=None, contents_sha256=None, contents_of=None)
    older = an_sae({"source": "x", "count": 3000, "skipped": []})
    found = compare_images(run, older, watch(open_images(pool)))
    assert (found.own, found.measured.shared, found.trained.shared) == (False, None, None)
    assert found.lines[0].endswith("is not known: the run is from before the contents of its images were recorded")
    assert found.lines[1].endswith(
        "is not known: the SAE does not record the contents of the images that it was trained on"
    )
    assert found.warnings == []
    assert shared_lines(None)[0].endswith("this result is from before they were compared")


@pytest.mark.parametrize(
    ("images", "kind", "reason"),
    [
        (None, "infoscope", "the SAE does not record"),
        ("a folder", "infoscope", "the SAE does not record"),
        ({"used": -1, "contents": ""}, "infoscope", "the SAE does not record"),
        ({"used": 2, "contents": "AAAA"}, "infoscope", "the SAE does not record"),
        ({"used": 2, "contents": "?"}, "infoscope", "the SAE does not record"),
        ({"used": 20_000, "contents": None}, "infoscope", "it was trained on 20,000 images, and of more than 10,000"),
        ({"source": "x"}, "pca", "a dictionary of kind pca does not record"),
    ],
)
def test_whatever_an_sae_says_of_its_images_is_an_answer(pool, images, kind, reason):
    found = compare_images(None, an_sae(images, kind), watch(open_images(pool)))
    assert reason in found.lines[1]
    assert found.lines[0].endswith("is not known: no run is given")


def test_the_runs_own_images_by_choice_are_said_to_be_so(pool, measured):
    """Even where there is nothing to compare them by."""
    run = measured(pool, contents=None, contents_sha256=None)
    found = compare_images(run, an_sae(), watch(open_images(pool)), run_images=True)
    assert found.own
    assert found.warnings == ["tested on the run's own images"]


def test_a_damaged_manifest_is_one_line(pool, measured):
    with pytest.raises(InfoscopeError, match="the hashes of its images do not agree"):
        compare_images(measured(pool, contents="AAAAAAAAAAA="), an_sae(), watch(open_images(pool)))
