"""Some hundred damaged inputs over every reader, every earlier finding, and whether the tool tells right from wrong."""

import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fuzz.archives import entry, join_tar, make_member, read_zip, split_tar, write_zip
from fuzz.campaign import Attack, findings, table
from fuzz.cases import Case, changed
from fuzz.mutations import of_kind
from fuzz.readers import Found, Reader
from fuzz.tensors import read_npy, read_safetensors, write_npy, write_safetensors
from fuzz.worker import changes, files_state, judge, judge_message, process_state
from infoscope.errors import InfoscopeError

SEEDS = json.loads(Path(__file__).with_name("seeds.json").read_text())
# Cases for each reader; slow readers get fewer. Of another seed than ``make fuzz`` has, which tries thousands.
SEED, COUNT = 14, 10


@pytest.fixture(scope="module")
def attack():
    with Attack(jobs=1, limit=60) as attack:
        yield attack


def told(outcomes):
    """What is not well, in a form that can be replayed."""
    return [f"{group[0].case}: {group[0].word}: {group[0].detail} {group[0].place}" for group in findings(outcomes)]


@pytest.mark.slow
def test_damaged_inputs_are_refused_in_a_line_or_read_as_they_are(attack):
    outcomes = attack.tried(attack.planned(SEED, COUNT))
    print(table(outcomes))
    assert not told(outcomes)
    assert len(outcomes) > 200
    # A campaign in which nothing is accepted, or nothing refused, attacks nothing.
    words = [outcome.word for outcome in outcomes]
    assert all(words.count(word) > 10 for word in ("handled", "equal"))


@pytest.mark.slow
def test_every_earlier_finding_stays_mended(attack):
    assert not told(attack.tried({"case": seed["case"]} for seed in SEEDS))


# The tool ------------------------------------------------------------------------------------------------------------


DAMAGED = """
import hashlib, random
import fuzz.json_mutations
from fuzz.mutations import REGISTRY

content = b'{"a": [1, 2.5, "text", null], "b": {"c": true}}'
digest = hashlib.sha256()
for name, mutation in REGISTRY.items():
    digest.update(repr((name, mutation.apply(content, random.Random(f"5/{name}")))).encode())
print(len(REGISTRY), digest.hexdigest())
"""


def test_mutations_are_the_same_in_any_process():
    """They depend on what they draw from alone, and not on the process's hashes."""
    environments = ({"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[1])} for seed in ("1", "2"))
    first, again = (
        subprocess.run(
            [sys.executable, "-c", DAMAGED], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for environment in environments
    )
    assert first == again
    assert int(first.split()[0]) > 30


def test_a_case_is_known_by_its_name(tmp_path):
    case = Case("any", "x.json", "json.value", 5)
    assert Case.parse(str(case)) == case
    (tmp_path / "x.json").write_text('{"a": 1}')
    assert changed(case, tmp_path) == changed(Case.parse(str(case)), tmp_path) != (tmp_path / "x.json").read_bytes()


def test_containers_are_taken_apart_and_put_together():
    entries = [entry(b"a/data.pkl", b"1234"), entry(b"a/data/0", b"x" * 100)]
    assert read_zip(write_zip(entries)) == entries
    members = [make_member(b"a.png", b"123"), make_member(b"b.png", b"x" * 600)]
    assert split_tar(join_tar(members)) == members
    assert read_npy(write_npy(b"{'a': 1}", b"12"))[1] == b"12"
    assert read_safetensors(write_safetensors({"a": 1}, b"12")) == ({"a": 1}, b"12")
    rng = random.Random(0)
    honest = [mutation for mutation in of_kind("zip") if mutation.honest and mutation.name != "zip.bomb"]
    assert all(
        read_zip(mutation.apply(write_zip(entries), rng)) is not None
        for mutation in honest
        if "renamed" not in mutation.name
    )


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("cannot read a.npy; write it anew", None),
        (" ", "is empty"),
        ("a.npy\nis broken", "more than one line"),
        ("a.npy: \x1b[31m", "control characters"),
        ("a.npy: <object at 0x7f84fc97b790>", "memory address"),
        ("something is broken", "names neither"),
        ("a.npy " + "9" * 20_000, "characters"),
    ],
)
def test_messages_are_judged(message, problem):
    found = judge_message(message, {"a.npy"})
    assert found is None if problem is None else problem in found


def found_of(refused=(), **values):
    found = Found()
    for name, value in values.items():
        found.keep(name, value)
    for message in refused:
        found.refuse(InfoscopeError(message))
    return found


def test_what_is_read_is_judged():
    reader = Reader("any", None, None, sums={"sealed": "file", "packed": "container"})
    good = found_of(a=1.0, b="x")

    def word(file, mutation, *refused, **values):
        return judge(Case("any", file, mutation, 0), reader, good, found_of(refused, **values), {"f"}).word

    assert word("plain", "bytes.bit", a=1.0, b="x") == "equal"
    assert word("plain", "bytes.bit", a=2.0, b="x") == "other"
    assert word("sealed", "bytes.bit", a=2.0, b="x") == "other values"
    assert word("packed", "bytes.bit", a=2.0, b="x") == "other values"
    assert word("packed", "zip.member removed", a=2.0, b="x") == "other"
    assert word("plain", "bytes.bit", "f is cut short", b="x") == "handled"
    assert word("sealed", "bytes.bit", b="x") == "other values"  # lost without a word
    assert word("plain", "text.mark", a=2.0, b="x") == "other values"
    assert word("plain", "text.mark", "f is no text", a=1.0) == "refused a good file"
    strict = replace(reader, strict=True)
    added = Case("any", "plain", "safetensors.tensor added", 0)
    assert judge(added, strict, good, found_of(a=1.0, b="x"), {"f"}).word == "passed over"


def test_what_a_read_leaves_behind_is_seen(tmp_path, monkeypatch):
    import torch

    before, files = process_state(), files_state(tmp_path)
    assert changes(before, process_state()) == []
    monkeypatch.setenv("LEFT_BEHIND", "1")
    monkeypatch.setattr(torch._utils._rebuild_tensor_v2, "left", 1, raising=False)
    assert changes(before, process_state()) == ["the environment", "attributes of torch._utils._rebuild_tensor_v2"]
    (tmp_path / "written").touch()
    assert files_state(tmp_path) != files
