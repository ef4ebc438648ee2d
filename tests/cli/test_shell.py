"""What holds for every command: one JSON document, quiet and verbose, exit statuses, completion."""

import os
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from dataclasses import fields
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from commands import document, fails
from infoscope.cli.main import COMMANDS, main
from infoscope.cli.output import Exit, Output
from infoscope.dictionaries.activations import TopK
from infoscope.dictionaries.formats.infoscope import save_sae
from infoscope.dictionaries.sae import SparseAutoencoder
from language import SIDE, WIDTH, save
from register_model import save_register_model

pytestmark = pytest.mark.usefixtures("few_strengths")

DOCS = Path(__file__).parents[2] / "docs" / "shell.md"

# Every command as it is tried, in an order in which each finds what it needs; {place} is a folder.
TRIED = {
    "demo": "--no-open --photographs 16 --out {place}/demo",
    "train": "--model {place}/model --block 1 --input-side {side} --images {place}/images --features 8 --k 2 "
    "--tokens 500 --batch-tokens 100 --out {place}/trained",
    "measure": "--sae {place}/sae --images {place}/images --top-images 4 --min-pairs 1 --shift 1 --out {place}/run",
    "info": "{place}/run",
    "judge": "{place}/run --out {place}/judged",
    "report": "{place}/run --features-shown 1 --gallery-images 1",
    "figure": "{place}/run histogram --out {place}/spectrum.svg",
    "serve": "{place}/run --port 0 --features-shown 1",
    "outliers": "{place}/run --sample-images 4",
    "probe": "{place}/run --data {place}/split --remove nothing --random-draws 0",
    "select": "{place}/run --data {place}/split --shares 1 --ends top --random-draws 0",
    "predictors": "{place}/run --data {place}/split --group-by cds --quantiles 2 --steps 0.05 --draws 2",
    "zeroshot": "{place}/run --images run --remove nothing --random-draws 0 --draws 10",
    "table": "{place}/run/probes/classification",
    "sweep": "--model {place}/model --dictionary channels --blocks 0,1 --input-side {side} --images {place}/images "
    "--top-images 4 --shift 1 --out {place}/sweep",
    "compare": "{place}/sweep --out {place}/compared",
    "check": "--sae {place}/sae --images {place}/images",
    "saes": "clip-scope-22",
    "validate": "--images {place}/noise --photographs 8 --seeds 1 --features 20 --top-images 2 --no-trained "
    "--no-curves --out {place}/planted",
    "park": "--model {place}/registers --images {place}/images --input-side 56 --out {place}/parked",
    "completion": "bash",
}


def words(place, name):
    return [name, *shlex.split(TRIED[name].format(place=place, side=SIDE))]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A CLIP, photographs in two folders, an SAE."""
    folder = tmp_path_factory.mktemp("place")
    save("clip", folder / "model")
    save_register_model(folder / "registers")
    random = np.random.default_rng(0)
    for number in range(12):
        (folder / "noise").mkdir(exist_ok=True)
        noise = random.integers(0, 256, (7, 7, 3), dtype=np.uint8)
        Image.fromarray(noise.repeat(8, 0).repeat(8, 1)).save(folder / "noise" / f"{number}.png")
        picture = Image.fromarray(noise[:5, :5]).resize((50, 40), Image.Resampling.BICUBIC)
        for root in ("images", "split/train", "split/val"):
            kind = folder / root / ("cat", "dog")[number % 2]
            kind.mkdir(parents=True, exist_ok=True)
            picture.save(kind / f"{root[-3:]}{number:02}.png")
    both = torch.cat([torch.eye(WIDTH), -torch.eye(WIDTH)], dim=1)
    site = {"model": f"{folder}/model", "block": 1, "input_side": SIDE, "tokens": "patch"}
    save_sae(
        SparseAutoencoder(both, torch.zeros(2 * WIDTH), both.T, torch.zeros(WIDTH), TopK(6), site=site), folder / "sae"
    )
    return folder


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    """A server that is interrupted at once."""

    def interrupt(self, poll_interval=0.5):
        raise KeyboardInterrupt

    monkeypatch.setattr(ThreadingHTTPServer, "serve_forever", interrupt)


def test_every_command_is_tried_and_has_the_flags():
    assert set(TRIED) == set(COMMANDS)
    for name, kind in COMMANDS.items():
        assert {field.name: field.default_factory for field in fields(kind)}["output"] is Output, name
        assert kind.interrupted


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIED)
def test_one_document_on_stdout(place, capsys, name):
    found = document(capsys, words(place, name))
    for path in found["written"].values():
        assert Path(path).exists()
    documented = _documented_keys()
    assert set(found["result"]) <= documented[name], set(found["result"]) - documented[name]
    assert set(found["written"]) <= documented[f"{name} written"], found["written"]


def _documented_keys():
    """The keys that docs/shell.md lists, by command, and those of what it writes."""
    rows = re.findall(r"^\| `(\w+)` \| (.*?) ?\| (.*) \|$", DOCS.read_text(), re.MULTILINE)
    named = {name: set(re.findall(r"`([\w ]+)`", result)) for name, _, result in rows}
    return named | {f"{name} written": set(re.findall(r"`([\w ]+)`", written)) for name, written, _ in rows}


def test_a_warning_is_in_the_document_and_on_stderr(place, capsys):
    found = document(capsys, [*words(place, "check"), "--block", "0"])
    assert "trained on block 1" in found["warnings"][0]
    moved = [*words(place, "measure")[:-1], f"{place}/elsewhere", "--block", "0"]
    capsys.readouterr()
    assert main([*moved, "--quiet"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == (f"{place}/elsewhere\n", "")
    assert main([*moved, "--json"]) == 0
    captured = capsys.readouterr()
    assert "was trained on block 1, not 0: read the fit before the scores" in captured.err
    assert "was finished before; nothing was measured again" in captured.err
    assert "was trained on block 1, not 0: read the fit" in captured.out


def test_a_finished_run_of_other_rules_is_refused_and_both_remedies_it_names_work(place, capsys, tmp_path):
    out = tmp_path / "a run"
    measure = [*words(place, "measure")[:-1], str(out)]
    assert main([*measure, "--rules", "thresholds", "--quiet"]) == 0
    line = fails(capsys, measure)
    assert "finished, with classes by the rules thresholds, not posterior" in line
    judge = re.search("`infoscope (.*?)`", line)[1]
    assert main([*measure, *shlex.split(re.search("measure with (--rules thresholds)", line)[1])]) == 0
    assert main(shlex.split(judge)) == 0
    capsys.readouterr()
    assert main(measure) == 0
    assert "was finished before; nothing was measured again" in capsys.readouterr().err


def test_verbose_tells_what_is_loaded_and_how_long_it_took(place, capsys, tmp_path):
    command = [*words(place, "measure")[:-1], f"{tmp_path}/run"]
    assert main(["measure", "-v", *command[1:]]) == 0
    told = capsys.readouterr().err
    for part in (
        r"infoscope 0\.\d+\.\d+, Python 3",
        r"torch \d",
        f"images {place}/images: 12, read by FolderSource",
        f"SAE {place}/sae: format infoscope",
        f"model {place}/model: CLIP",
        r"shard ranking-\d+-\d+: 12 steps in",
        r"Ranking: 12 images in \d",
    ):
        assert re.search(part, told), part
    assert main(["info", f"{place}/nowhere", "--verbose"]) == 2
    assert "Traceback" in capsys.readouterr().err
    assert "contradict each other" in fails(capsys, ["saes", "-q", "-v"])


def test_a_misspelt_command_or_flag_is_answered_with_the_nearest(capsys):
    assert "no command is called 'reprot'; did you mean report?" in fails(capsys, ["reprot", "run"])
    assert "infoscope --help lists them" in fails(capsys, ["qqq"])
    with pytest.raises(SystemExit) as ended:
        main(["report", "run", "--galery-images", "3"])
    assert ended.value.code == Exit.USER_ERROR
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "--gallery-images" in captured.err
    assert "in infoscope serve" not in captured.err
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert re.fullmatch(r"infoscope \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_the_exit_statuses_are_those_of_the_docs():
    section = DOCS.read_text().split("## Exit status")[1]
    assert [int(status) for status in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)] == [*Exit]


def test_a_closed_pipe_and_a_full_disk_under_stdout():
    infoscope = [sys.executable, "-m", "infoscope", "saes"]
    read, write = os.pipe()
    os.close(read)
    closed = subprocess.run(infoscope, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (closed.returncode, closed.stderr) == (Exit.CLOSED_PIPE, "")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(infoscope, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == Exit.USER_ERROR
    assert done.stderr.splitlines() == [
        "infoscope: cannot write the output: No space left on device; free some space, or write elsewhere"
    ]


def test_a_fault_of_its_own_is_1_with_a_traceback():
    code = (
        "import sys; import infoscope.cli.saes as saes; from infoscope.cli.main import main;"
        "saes.Saes.run = lambda self: 1 / 0; sys.exit(main(['saes']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == Exit.FAULT
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.slow
def test_no_colour_where_it_is_not_wanted():
    """Under a terminal that is none but says so: what is printed there has escape codes unless told otherwise."""

    def printed(command, **environment):
        terminal, end = os.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "infoscope", *command], stdout=end, stderr=end,
            env={key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
            | {"TERM": "xterm-256color", "COLUMNS": "80"} | environment,
        )  # fmt: skip
        os.close(end)
        out = b""
        with suppress(OSError):  # the other end is closed
            while chunk := os.read(terminal, 65536):
                out += chunk
        os.close(terminal)
        process.wait()
        return out

    assert b"\x1b[" in printed(["--help"])
    assert b"\x1b[" not in printed(["--help"], NO_COLOR="1")
    assert b"\x1b[" not in printed(["report", "run", "--galery-images", "3"], TERM="dumb")
    assert b"\x1b[1m" in printed(["saes"])
    assert not re.search(rb"\x1b\[[0-9;]*3\dm", printed(["saes"], NO_COLOR="1"))
    assert b"\x1b[" not in printed(["saes"], TERM="dumb")


@pytest.mark.slow
def test_a_real_bash_completes_commands_flags_and_values(tmp_path, capsys):
    assert main(["completion", "bash", "-q"]) == 0
    (tmp_path / "infoscope.bash").write_text(capsys.readouterr().out)
    (tmp_path / "try.bash").write_text(
        """
        source "$1/infoscope.bash"
        complete -p infoscope
        try() {
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            _tyro_infoscope
            echo "${COMPREPLY[*]}"
        }
        try infoscope me
        try infoscope ""
        try infoscope report --gal
        try infoscope measure --sae x --rank-v
        try infoscope measure --rank-view ""
        """
    )
    done = subprocess.run(["bash", f"{tmp_path}/try.bash", tmp_path], capture_output=True, text=True, check=True)
    registered, command, commands, flag, later, values = done.stdout.splitlines()
    assert registered == "complete -F _tyro_infoscope infoscope"
    assert command == "measure"
    assert set(COMMANDS) <= set(commands.split())
    assert (flag, later) == ("--gallery-images", "--rank-view")
    assert values.split() == ["full", "crops"]
    for shell in ("zsh", "fish"):
        assert main(["completion", shell]) == 0
        assert "infoscope" in capsys.readouterr().out
