"""The command line as a person meets it: what it prints, what it writes, how it fails and how it stops."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import polars as pl
import pytest
from safetensors.torch import load_file, save_file

from commands import document, fails, printed
from fake_runs import reseal
from infoscope.analyses.removal.groups import named_group
from infoscope.cli.main import main
from infoscope.runtime.run import PARTITION_VERSION, open_run
from killing import start_command
from small import SIDE, pictures, save_model


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model, photographs, and what `train` and `measure` make of them."""
    folder = tmp_path_factory.mktemp("place")
    save_model(folder / "model")
    (folder / "images").mkdir()
    for i, picture in enumerate(pictures(30)):
        picture.save(folder / "images" / f"{i:02}.png")
    train = ["train", "--model", f"{folder}/model", "--block", "1", "--input-side", str(SIDE)]
    train += ["--features", "40", "--k", "4", "--tokens", "20000", "--batch-tokens", "256"]
    assert main([*train, "--images", f"{folder}/images", "--out", f"{folder}/sae"]) == 0
    assert main([*measure(folder), "--out", f"{folder}/run"]) == 0
    return folder


def measure(place, **changed):
    options = {"sae": f"{place}/sae", "images": f"{place}/images", "top-images": "4", **changed}
    return ["measure", *(word for key, value in options.items() for word in (f"--{key}", str(value)))]


def test_the_site_comes_from_the_sae(place):
    manifest = open_run(place / "run").manifest
    assert manifest.model.block == 1
    assert manifest.model.name == f"{place}/model"
    assert manifest.model.grid == 6
    assert json.loads((place / "sae" / "sae.json").read_text())["site"]["sha256"] == manifest.model.sha256


def test_measure_ends_with_a_table_a_person_can_read(place, capsys, tmp_path):
    assert main([*measure(place), "--out", f"{tmp_path}/run"]) == 0
    out = capsys.readouterr().out
    words = " ".join(out.split())
    for part in (
        "features 40, of which",
        "median",
        "threshold",
        "mode",
        "convention",
        "infoscope report",
        "L0",
        "undefined",
    ):
        assert part.lower() in words.lower()
    assert "variance unexplained" in words


def test_a_finished_run_is_read_and_that_is_said(place, capsys):
    assert main([*measure(place), "--out", f"{place}/run"]) == 0
    captured = capsys.readouterr()
    assert "was finished before; nothing was measured again" in captured.err
    assert "features" in captured.out


def test_info_names_the_inputs(place, capsys):
    assert main(["info", f"{place}/run"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "DINOv2" in words
    assert "block 1, 6 x 6 patches" in words
    assert "shift 2" in words


def test_info_says_it_in_json(place, capsys):
    value = document(capsys, ["info", f"{place}/run"])["result"]
    assert value["manifest"]["options"]["shift"] == 2
    assert sum(value["controls"]["classes"].values()) == 40
    assert value["controls"] == json.loads((place / "run" / "controls.json").read_text())
    assert value["partition"] == json.loads((place / "run" / "partition.json").read_text())


def test_the_sides_of_the_threshold_and_the_classes_have_names_of_their_own(place, capsys):
    """They are other features, so one word for both would give two counts of one thing."""
    found = document(capsys, ["info", f"{place}/run"])["result"]
    table = pl.read_parquet(place / "run" / "scope.parquet")
    low = table.filter(pl.col("cds") <= found["threshold"]).height
    high = table.filter(pl.col("cds") > found["threshold"]).height
    assert found["features"].keys() & found["classes"].keys() == set()
    for counts in (found["features"], found["partition"]["counts"]):
        assert (counts["low_cds"], counts["high_cds"]) == (low, high)
    for name, count in found["classes"].items():
        assert count == table.filter(scope_class=name).height
    assert main(["info", f"{place}/run"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert f"{low} low-CDS, {high} high-CDS" in words
    for name in ("local", "global", "diffuse"):
        # With its share, without one where it has no feature, or as not repeatable; and with how far it repeats.
        forms = rf"{found['classes'][name]} {name}(?: \(|,)|{name} not repeatable here|{name} \d\.\d\d"
        assert words.count(name) == len(re.findall(forms, words)), f"{name} is a class alone"


def test_a_partition_from_before_the_sides_had_names_opens_and_says_the_same(place, capsys, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(place / "run", run)

    def said():
        result = document(capsys, ["info", str(run)])["result"]
        del result["manifest"]  # which knows the file that is changed here by its hash
        return result, named_group(open_run(run), "high-CDS").features.tolist()

    new = said()
    partition = json.loads((run / "partition.json").read_text())
    assert partition.pop("format_version") == PARTITION_VERSION == 2
    counts = partition["counts"]
    partition["counts"] = {"local": counts["low_cds"], "global": counts["high_cds"], "unscored": counts["unscored"]}
    (run / "partition.json").write_text(json.dumps(partition))
    reseal(run)
    assert said() == new
    assert json.loads((run / "partition.json").read_text()) == partition, "reading does not write"


def test_report_writes_the_page(place, capsys):
    assert main(["report", f"{place}/run", "--features-shown", "2"]) == 0
    assert capsys.readouterr().out.strip() == f"{place}/run/report/index.html"
    assert "features of the highest CDS" in (place / "run" / "report" / "index.html").read_text()
    assert '"withoutDirections":null' in (place / "run" / "report" / "data" / "run.js").read_text()


@pytest.mark.slow
def test_report_without_the_sae(place, capsys, tmp_path):
    shutil.copytree(place / "run", tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    manifest["dictionary"]["name"] = "/moved/sae"
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest))
    reseal(tmp_path / "run")
    assert main(["report", f"{tmp_path}/run", "--features-shown", "1"]) == 0
    assert "made without neighbours by direction, unless you give --sae" in capsys.readouterr().err
    assert '"withoutDirections":"the SAE could not be' in (tmp_path / "run" / "report" / "data" / "run.js").read_text()
    manifest["dictionary"] |= {"name": f"{place}/sae", "sha256": "0" * 64}
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest))
    reseal(tmp_path / "run")
    refused = fails(capsys, ["report", f"{tmp_path}/run", "--sae", f"{place}/sae"])
    assert "is not the SAE that" in refused


def test_serve_needs_a_port_that_is_free(place, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"cannot serve on port {port}" in fails(capsys, ["serve", f"{place}/run", "--port", str(port)])
    line = fails(capsys, ["serve", f"{place}/run", "--port", "70000"])
    assert "--port 70000 is out of range: choose 0 to 65535" in line


def test_report_without_the_photographs(place, capsys, tmp_path):
    shutil.copytree(place / "run", tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    manifest["images"]["source"] = "/moved/away"
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest))
    reseal(tmp_path / "run")
    assert main(["report", f"{tmp_path}/run"]) == 0
    warned = capsys.readouterr().err
    assert "no such folder of images: /moved/away" in warned
    assert "the report is made without photographs, unless you give --images" in warned
    assert "no such folder" in fails(capsys, ["report", f"{tmp_path}/run", "--images", "/also/gone"])


def test_python_and_the_command_line_measure_the_same(place):
    import infoscope

    backbone = infoscope.load_backbone(place / "model", 1, input_side=SIDE, device="cpu")
    scope = infoscope.measure_scope(
        backbone, infoscope.load_sae(place / "sae"), infoscope.open_images(place / "images"), top_images=4
    )
    assert scope.table.equals(open_run(place / "run").scope)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images": "/no/such/folder"}, "no such folder of images: /no/such/folder"),
        ({"sae": "/no/such/sae"}, "no such SAE: /no/such/sae"),
        ({"model": "/no/such/model"}, "no such model: /no/such/model"),
        ({"block": "3"}, "--block 3 is out of range"),
        ({"block": "-4"}, "--block -4 is out of range"),
        ({"shift": "5"}, "--shift 5 leaves no overlap"),
        ({"shift": "-1"}, "--shift -1 leaves no overlap"),
        ({"top-images": "0"}, "--top-images 0 is out of range"),
        ({"batch-size": "0"}, "--batch-size 0 is out of range"),
        ({"seed": "-1"}, "--seed -1 is out of range"),
        ({"device": "cuda:99"}, "--device cuda:99 is not there"),
        ({"input-side": "50"}, "input side 50 is not a whole number"),
    ],
)
def test_bad_flags_are_one_line_and_write_nothing(place, capsys, tmp_path, changed, message):
    assert message in fails(capsys, [*measure(place, **changed), "--out", f"{tmp_path}/run"])
    assert not (tmp_path / "run").exists()


def test_no_images_in_the_folder(place, capsys, tmp_path):
    assert "no images in" in fails(capsys, [*measure(place, images=tmp_path), "--out", f"{tmp_path}/run"])


@pytest.mark.slow
def test_one_corrupt_image_is_skipped_counted_and_named(place, capsys, tmp_path):
    shutil.copytree(place / "images", tmp_path / "images")
    (tmp_path / "images" / "07-broken.png").write_bytes(b"\x89PNG broken")
    assert main([*measure(place, images=tmp_path / "images"), "--out", f"{tmp_path}/run"]) == 0
    assert "skipped 1 of 31 images: 07-broken.png" in " ".join(capsys.readouterr().out.split())
    assert main(["report", f"{tmp_path}/run"]) == 0
    assert "07-broken.png" in (tmp_path / "run" / "report" / "index.html").read_text()


def test_all_images_corrupt(place, capsys, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"no")
    line = fails(capsys, [*measure(place, images=tmp_path / "images"), "--out", f"{tmp_path}/run"])
    assert "none of the 1 images in" in line
    train = ["train", "--model", f"{place}/model", "--block", "1", "--images", f"{tmp_path}/images"]
    assert "none of the 1 images in" in fails(capsys, [*train, "--out", f"{tmp_path}/sae"])
    assert not (tmp_path / "sae").exists()


def test_an_unknown_model_type(place, capsys, tmp_path):
    shutil.copytree(place / "model", tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"model_type": "resnet"}))
    line = fails(capsys, [*measure(place, model=tmp_path / "model"), "--out", f"{tmp_path}/run"])
    assert "resnet" in line
    assert "dinov2" in line.lower()


def test_an_sae_of_another_width(place, capsys, tmp_path):
    shutil.copytree(place / "sae", tmp_path / "sae")
    weights = load_file(place / "sae" / "sae.safetensors")
    narrow = {"W_enc": weights["W_enc"][:8], "W_dec": weights["W_dec"][:, :8], "b_dec": weights["b_dec"][:8]}
    save_file({k: v.contiguous() for k, v in (weights | narrow).items()}, tmp_path / "sae" / "sae.safetensors")
    description = json.loads((tmp_path / "sae" / "sae.json").read_text()) | {"d_in": 8}
    del description["sha256"], description["checksum"]
    (tmp_path / "sae" / "sae.json").write_text(json.dumps(description))
    line = fails(capsys, [*measure(place, sae=tmp_path / "sae"), "--out", f"{tmp_path}/run"])
    assert "takes tokens of width 8" in line
    assert "has width 32" in line


def test_another_block_than_the_saes_is_said(place, capsys, tmp_path):
    assert main([*measure(place, block=2), "--out", f"{tmp_path}/run"]) == 0
    assert "was trained on block 1, not 2" in capsys.readouterr().err


def test_another_runs_directory(place, capsys):
    line = fails(capsys, [*measure(place, shift=1), "--out", f"{place}/run"])
    assert "is another run's directory (options: shift was 2, now 1)" in line


def test_an_sae_is_never_written_over(place, capsys):
    train = ["train", "--model", f"{place}/model", "--block", "1", "--images", f"{place}/images"]
    assert "never written over" in fails(capsys, [*train, "--out", f"{place}/sae"])


@pytest.mark.slow
def test_tokens_on_disk_train_the_same_sae_without_model_and_images(place, capsys, tmp_path):
    shutil.copytree(place / "images", tmp_path / "images")
    shutil.copytree(place / "model", tmp_path / "model")
    options = ["--features", "40", "--k", "4", "--tokens", "5000", "--batch-tokens", "256"]
    train = ["train", "--model", f"{tmp_path}/model", "--block", "1", "--input-side", str(SIDE), *options]
    train += ["--images", f"{tmp_path}/images"]
    assert main([*train, "--cache", f"{tmp_path}/caches", "--out", f"{tmp_path}/disk"]) == 0
    (cache,) = (tmp_path / "caches").iterdir()
    assert f"The tokens of 30 images are in {cache}" in capsys.readouterr().err
    assert main([*train, "--cache", "none", "--out", f"{tmp_path}/none"]) == 0
    assert main([*train, "--cache-gib", "0", "--out", f"{tmp_path}/memory"]) == 0
    shutil.rmtree(tmp_path / "images")
    shutil.rmtree(tmp_path / "model")
    assert main(["train", "--from-cache", str(cache), *options, "--out", f"{tmp_path}/alone"]) == 0
    assert f"--images {tmp_path}/images --out" in capsys.readouterr().out
    saes = [(tmp_path / name / "sae.safetensors").read_bytes() for name in ("disk", "none", "memory", "alone")]
    assert saes == saes[:1] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--block", "1"], "--model, --images missing; give all three, or a finished token cache with --from-cache"),
        (["--from-cache", "no/such/cache"], "no such token cache: no/such/cache; name a directory CACHE/<hash>"),
        (["--from-cache", "c", "--model", "m"], "--model does not go with --from-cache"),
        (["--from-cache", "c", "--block", "0"], "--block does not go with --from-cache"),
        (["--from-cache", "c", "--images", "i"], "--images does not go with --from-cache"),
        (["--from-cache", "c", "--input-side", "64"], "--input-side does not go with --from-cache"),
        (["--from-cache", "c", "--resize", "crop"], "--resize does not go with --from-cache"),
        (["--from-cache", "c", "--cache", "none"], "--cache does not go with --from-cache"),
    ],
)
def test_train_takes_its_tokens_from_one_place(capsys, tmp_path, options, message):
    assert message in fails(capsys, ["train", *options, "--out", f"{tmp_path}/sae"])
    assert not (tmp_path / "sae").exists()


def test_an_output_that_cannot_be_written(place, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert "is a file; --out needs a directory" in fails(capsys, [*measure(place), "--out", f"{tmp_path}/file"])
    assert "cannot write" in fails(capsys, [*measure(place), "--out", f"{tmp_path}/file/run"])


@pytest.mark.slow
def test_a_full_disk_is_one_line(place, tmp_path):
    # No file may outgrow 2 kB: what a disk that fills up looks like to a program.
    train = ["train", "--model", f"{place}/model", "--block", "1", "--input-side", str(SIDE), "--features", "40"]
    train += ["--k", "4", "--tokens", "500", "--images", f"{place}/images", "--out", f"{tmp_path}/sae"]
    for command in ([*measure(place), "--out", f"{tmp_path}/run"], train):
        log = tmp_path / f"{command[0]}.log"
        process = start_command(command, log, largest_file=2000)
        process.join()
        said = log.read_text()
        assert process.exitcode == 2, said
        assert "Traceback" not in said
        assert "cannot write" in said.splitlines()[-1]
    assert [file.name for file in (tmp_path / "run").rglob("*") if file.is_file()] == ["plan.json"]
    assert not [file for file in (tmp_path / "sae").rglob("*") if file.is_file()]


def test_damaged_files_of_a_run_are_one_line(place, capsys, tmp_path):
    for damage, message in (
        (lambda run: (run / "partition.json").write_text("{}"), "partition.json of"),
        (lambda run: (run / "scope.parquet").write_bytes(b"PAR1"), "cannot read"),
        (lambda run: (run / "manifest.json").write_text("[]"), "format_version"),
    ):
        run = tmp_path / message.split()[0]
        shutil.copytree(place / "run", run)
        damage(run)
        assert message in fails(capsys, ["info", str(run)])
    run = tmp_path / "newer"
    shutil.copytree(place / "run", run)
    (run / "partition.json").write_text('{"format_version": 3}')
    reseal(run)
    assert "has format_version 3; this" in fails(capsys, ["info", str(run)])


def test_a_run_that_is_none(capsys, tmp_path):
    for command in ("info", "report"):
        assert "no such run directory" in fails(capsys, [command, f"{tmp_path}/gone"])
        assert "is not a run directory" in fails(capsys, [command, f"{tmp_path}"])


@pytest.mark.slow
def test_ctrl_c_is_one_line_and_the_same_command_goes_on(place, capsys, tmp_path):
    many = tmp_path / "images"
    many.mkdir()
    # So many that the signal comes long before the end.
    for i in range(600):
        (many / f"{i:04}.png").symlink_to(place / "images" / f"{i % 30:02}.png")
    words = [*measure(place, images=many), "--shard-images", "20", "--out", f"{tmp_path}/run"]
    # A process started in the background may have been told to ignore the signal.
    listen = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-m", "infoscope.cli.main", *words]
    process = subprocess.Popen(command, preexec_fn=listen, **pipes)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "run").glob("partials/*.npz")):  # the first shard is whole
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("infoscope: interrupted")
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "run" / "partials").glob("*.npz")}
    assert kept
    assert not list((tmp_path / "run").rglob(".*.tmp"))

    assert "features" in printed(capsys, words)
    assert open_run(tmp_path / "run").manifest.images.count == 600
