"""Commands that test on images tell which of them the run was measured on, and which its SAE was trained on."""

import shutil
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest

import infoscope.images.contents
import infoscope.measurement.shared_images
import infoscope.training.passes
from coloured import COLOURS, write_coloured
from commands import document, fails, printed
from infoscope.analyses.zeroshot.classes import Classes
from infoscope.analyses.zeroshot.embeddings import class_embeddings, write_embeddings
from infoscope.dictionaries.formats.infoscope import save_sae
from infoscope.dictionaries.loading import load_sae
from infoscope.measurement.measure import measure_scope
from infoscope.runtime.json_values import read_json
from infoscope.runtime.run import open_run
from infoscope.training.train import train_sae
from infoscope.views.report.removal_tables import probe_tables, zeroshot_table
from small import WIDTH

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("few_strengths")]

RECORDS = {"zeroshot": "zeroshot.json", "probe": "probe.json", "select": "selection.json"}
COMMANDS = tuple(RECORDS)
MEASURED, TRAINED = "among those that the run was measured on", "among those that the SAE was trained on"


@pytest.fixture(scope="module")
def place(probed, tmp_path_factory):
    """Photographs for each use, an SAE, and runs of it: of a folder, of a tar, and of many images."""
    folder = tmp_path_factory.mktemp("place")
    for split, count, seed in (("measured", 4, 5), ("trained", 4, 6), ("fresh", 3, 7), ("learn", 6, 8)):
        write_coloured(folder, split, count, seed)
    with tarfile.open(folder / "measured.tar", "w") as tar:
        for number, file in enumerate(sorted((folder / "measured").rglob("*.png"))):
            tar.add(file, f"{number}.png")
    options = {"features": 40, "k": 4, "tokens": 2000, "batch_tokens": 200, "buffer_tokens": 400}
    sae = train_sae(probed, str(folder / "trained"), out=folder / "sae", **options)
    images = {key: sae.site["images"][key] for key in ("source", "count", "skipped")}
    save_sae(sae, folder / "older", site=sae.site | {"images": images})
    for name, source in (("run", "measured"), ("run-of-tar", "measured.tar")):
        measure_scope(probed, sae, str(folder / source), out=folder / name, top_images=4)
    with pytest.MonkeyPatch.context() as patch:
        for module in (infoscope.images.contents, infoscope.training.passes):
            patch.setattr(module, "MOST_COMPARED", 5)
        measure_scope(probed, sae, str(folder / "measured"), out=folder / "run-of-many", top_images=4)
        many = train_sae(probed, str(folder / "trained"), **options)
    assert many.sha256 == sae.sha256
    save_sae(many, folder / "of-many", site=many.site)
    vectors = np.random.default_rng(0).normal(size=(len(COLOURS), WIDTH))
    write_embeddings(folder / "classes.safetensors", class_embeddings(Classes(tuple(COLOURS)), vectors))
    return folder


def words(place, command, test, run="run", sae="sae"):
    """The words of a command that tests on some images and removes nothing, and the folder that it writes."""
    out = place / "out" / command
    shutil.rmtree(out, ignore_errors=True)
    given = [command, f"{place}/{run}", "--sae", f"{place}/{sae}", "--random-draws", "0", "--out", str(out)]
    if command == "zeroshot":
        given += ["--images", str(test), "--class-embeddings", f"{place}/classes.safetensors", "--draws", "10"]
        return [*given, "--remove", "nothing"]
    given += ["--train", f"{place}/learn", "--test", str(test)]
    return given + (["--remove", "nothing", "--no-baselines"] if command == "probe" else ["--shares", "1"])


def test_images(place, tmp_path, *parts):
    """A folder of copies under other names: how many a colour, and of which photographs."""
    for split, count in parts:
        for colour in COLOURS:
            (tmp_path / "test" / colour).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                shutil.copy(
                    place / split / colour / f"{number}.png", tmp_path / "test" / colour / f"{split}-{number}.png"
                )
    return tmp_path / "test"


test_images.__test__ = False


def answer(capsys, given):
    found = document(capsys, given)
    return SimpleNamespace(**found["result"]["shared_images"], warnings=found["warnings"], written=found["written"])


@pytest.mark.parametrize(
    ("command", "run", "named"),
    [
        ("zeroshot", "run", "as measured"),
        ("zeroshot", "run-of-tar", "renamed"),
        ("probe", "run", "renamed"),
        ("select", "run-of-tar", "as measured"),
    ],
)
def test_the_runs_own_images(place, tmp_path, capsys, command, run, named):
    test = place / "measured" if named == "as measured" else test_images(place, tmp_path, ("measured", 4))
    found = answer(capsys, words(place, command, test, run))
    assert (found.images, found.own) == (12, True)
    assert found.measured["shared"] == 12
    assert found.measured["first"] == (
        ["blue/0.png", "blue/1.png", "blue/2.png"]
        if named == "as measured"
        else ["blue/measured-0.png", "blue/measured-1.png", "blue/measured-2.png"]
    )
    assert found.trained == {"shared": 0, "first": [], "unknown": ""}
    said = f"tested on the run's own images: 12 of the 12 test images are {MEASURED}: "
    assert any(warning.startswith(said) for warning in found.warnings)


@pytest.mark.parametrize("command", COMMANDS)
def test_some_images_that_were_measured_and_trained_on(place, tmp_path, capsys, command):
    test = test_images(place, tmp_path, ("fresh", 3), ("measured", 2), ("trained", 1))
    given = words(place, command, test)
    found = answer(capsys, given)
    assert (found.images, found.own) == (18, False)
    assert (found.measured["shared"], found.trained["shared"]) == (6, 3)
    assert found.trained["first"] == [f"{colour}/trained-0.png" for colour in COLOURS]
    first = "blue/measured-0.png, blue/measured-1.png, green/measured-0.png and 3 more"
    lines = [
        f"6 of the 18 test images are {MEASURED}: {first}",
        f"3 of the 18 test images are {TRAINED}: blue/trained-0.png, green/trained-0.png, red/trained-0.png",
    ]
    assert [warning for warning in found.warnings if "test images" in warning] == lines
    record = read_json(place / "out" / command / RECORDS[command])
    assert record["shared_images"]["measured"]["shared"] == 6
    # People read the same lines.
    given = words(place, command, test)
    text = printed(capsys, given)
    for line in lines:
        assert line in text


# One command is enough: how each is told stands in the tests above.
@pytest.mark.parametrize("command", ["zeroshot"])
def test_other_images_of_the_same_names_are_no_alarm(place, capsys, command):
    found = answer(capsys, words(place, command, place / "fresh"))
    assert (found.images, found.own) == (9, False)
    assert (found.measured["shared"], found.trained["shared"]) == (0, 0)
    assert not any("test images" in warning for warning in found.warnings)
    text = printed(capsys, words(place, command, place / "fresh"))
    assert f"none of the 9 test images is {MEASURED}" in text
    assert f"none of the 9 test images is {TRAINED}" in text


# One command is enough: how each is told stands in the tests above.
@pytest.mark.parametrize("command", ["zeroshot"])
def test_what_cannot_be_compared_is_said(place, capsys, monkeypatch, command):
    monkeypatch.setattr(infoscope.measurement.shared_images, "MOST_COMPARED", 5)  # as when the run was measured
    text = printed(capsys, words(place, command, place / "fresh", "run-of-many", "of-many"))
    assert f"{MEASURED} is not known: it was measured on 12 images, and of more than 10,000" in text
    assert f"{TRAINED} is not known: it was trained on 12 images, and of more than 10,000" in text
    found = answer(capsys, words(place, command, place / "fresh", sae="older"))
    assert found.measured["shared"] == 0
    assert (found.trained["shared"], found.trained["unknown"]) == (
        None,
        "the SAE does not record the contents of the images that it was trained on",
    )


def test_a_finished_probe_says_it_again(place, capsys):
    given = words(place, "probe", place / "measured")
    first, again = document(capsys, given), document(capsys, given)
    assert again["warnings"] == first["warnings"]
    assert again["result"]["shared_images"]["measured"]["shared"] == 12


def test_a_table_of_probes_says_it(place, capsys):
    document(capsys, words(place, "probe", place / "measured"))
    out = str(place / "out" / "probe")
    said = f"classification: tested on the run's own images: 12 of the 12 test images are {MEASURED}: "
    assert said in printed(capsys, ["table", out])
    assert document(capsys, ["table", out])["warnings"][0].startswith(said)
    document(capsys, words(place, "probe", place / "fresh"))
    assert "test images" not in printed(capsys, ["table", out])
    assert document(capsys, ["table", out])["warnings"] == []


def test_the_website_says_it(place, tmp_path, capsys):
    shutil.copytree(place / "run", tmp_path / "run")
    for command in ("zeroshot", "probe"):
        given = words(place, command, place / "measured")
        out = tmp_path / "run" / ("zeroshot" if command == "zeroshot" else "probes/classification")
        assert document(capsys, [*given, "--out", str(out)])["written"]["out"] == str(out)
    run = open_run(tmp_path / "run")
    for notes in (zeroshot_table(run)[0].notes, probe_tables(run)[0][0].notes):
        assert notes[0].startswith(f"Tested on the run's own images: 12 of the 12 test images are {MEASURED}: ")
        assert notes[1] == f"None of the 12 test images is {TRAINED}."


def test_zeroshot_asks_for_images_and_takes_the_runs_own_by_choice_alone(place, capsys):
    given = words(place, "zeroshot", "run")
    at = given.index("--images")
    line = fails(capsys, given[:at] + given[at + 2 :])
    assert "give --images, the images to test on: on those that the run was measured on" in line
    assert "--images run takes them all the same" in line
    text = printed(capsys, given)
    assert f"test images tested on the run's own images: 12 of the 12 test images are {MEASURED}" in text
    record = read_json(place / "out" / "zeroshot" / "zeroshot.json")
    assert record["options"]["images"] == "run"
    assert record["shared_images"]["own"]
    # What shows this is the record and not the words, and the figures do not depend on it.
    by_path = document(capsys, words(place, "zeroshot", place / "measured"))["result"]
    assert by_path["options"]["images"] == "given"
    assert by_path["results"] == record["results"]


def test_a_trained_sae_is_recorded_with_its_images(place):
    images = load_sae(place / "sae").site["images"]
    assert (images["used"], images["contents_of"]) == (12, "bytes")
    assert len(images["contents"]) == 128  # 12 x 8 bytes as base64
    assert (many := load_sae(place / "of-many").site["images"])["contents"] is None
    assert many["used"] == 12
