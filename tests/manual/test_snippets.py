"""Every command and every piece of code in README.md and the manual is run in a small world, or at least parsed."""

import argparse
import functools
import inspect
import re
import runpy
import shutil
import subprocess
import sys
import tomllib

import numpy as np
import pytest
import tyro

import infoscope
import world
from infoscope.cli.main import main
from snippets import ROOT, Snippet, documents, snippets

# Commands on a line of their own that are parsed and not run, with the reason, and the tests that do run them.
PARSED = {
    r"infoscope demo": ("measures, removes and shows for a minute", "tests/demo"),
    r"infoscope train": ("trains on two million tokens", "tests/cli/test_commands.py"),
    r"infoscope sweep": ("measures every block", "tests/views/comparison/test_sweep.py"),
    r"infoscope probe": ("trains a head for every variant", "tests/cli/test_probe.py"),
    r"infoscope select": ("trains a head at every step", "tests/analyses/selection/test_steps.py"),
    r"infoscope predictors": ("trains a thousand heads", "tests/analyses/predictors/test_measure.py"),
    r"infoscope figure my-run (shift|removal)": ("needs a shift curve, or what is lost", "tests/views/figures"),
    r"infoscope serve": ("runs until it is stopped", "tests/cli/test_commands.py"),
    r"infoscope .*--executor ray": ("starts processes, or needs a cluster", "tests/measurement/test_ray.py"),
    r"infoscope .*ILSVRC2012": ("needs ImageNet's devkit", "tests/analyses/zeroshot/test_classes.py"),
    r"infoscope zeroshot my-run --(images photographs|text-model)": (
        "as those that are run",
        "tests/cli/test_zeroshot.py",
    ),
    r"python examples/text_scope.py": ("takes its time and no flags", "tests/examples/test_text_scope.py"),
}
# Code that is compiled, and its public names looked up, likewise.
COMPILED = {
    "docs/what-predicts-what.md": ("trains a thousand heads", "tests/analyses/predictors/test_measure.py"),
    "docs/outliers.md": ("plants in photographs and measures them", "tests/analyses/outliers/test_planted_truth.py"),
}
# Pages whose my-run is one of a model with a text tower.
OF_CLIP = ("zeroshot.md",)


class Parsed(BaseException):
    """In place of running: the configuration that the words stand for. No error, so that no command catches it."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    world.build(root)
    return root


@pytest.fixture(scope="module")
def ran():
    """Commands that have been run: one that several pages show is run once."""
    return set()


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """A copy of the world to work in."""
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def only_parse(monkeypatch):
    original = tyro.cli

    def cli(what, **options):
        if not inspect.isfunction(what):
            raise Parsed(original(what, **options))

        @functools.wraps(what)
        def parsed(*_, **given):
            raise Parsed(given)

        original(parsed, **options)

    read = argparse.ArgumentParser.parse_args

    def parse_args(*arguments, **options):
        raise Parsed(read(*arguments, **options))

    def parse(run):
        with monkeypatch.context() as patched:
            patched.setattr(tyro, "cli", cli)
            patched.setattr(argparse.ArgumentParser, "parse_args", parse_args)
            with pytest.raises(Parsed):
                run()

    return parse


def reason(snippet: Snippet) -> str | None:
    return next((why for command, (why, _) in PARSED.items() if re.match(command, snippet.text)), None)


@pytest.mark.slow
@pytest.mark.parametrize("document", documents(), ids=lambda path: path.stem)
def test_commands_and_code(document, place, ran, only_parse, monkeypatch, capsys):
    found = snippets(document)
    if not found:
        return
    if document.name in OF_CLIP:
        shutil.rmtree("my-run")
        shutil.move("clip-run", "my-run")
    names: dict[str, object] = {"infoscope": infoscope}
    folder = ROOT
    for snippet in found:
        if snippet.kind == "python":
            code = compile(snippet.text, snippet.place, "exec")
            if snippet.place.split(":")[0] in COMPILED:
                assert all(hasattr(infoscope, name) for name in re.findall(r"infoscope\.(\w+)", snippet.text))
            else:
                prepare(snippet.text, names)
                exec(code, names)
            continue
        program, *words = snippet.words
        assert "..." not in words, f"{snippet.place}: a command that nobody can give: {snippet.text}"
        if program == "cd":
            folder = ROOT / words[0]
            assert folder.is_dir(), snippet.place
        elif program == "npm":
            assert words == ["ci"] or f'"{words[1]}": ' in (folder / "package.json").read_text(), snippet.place
        elif program == "make":
            make(snippet)
        elif program == "pip":
            pip(snippet)
        elif program == "python":
            script(snippet, only_parse, monkeypatch)
        elif program == "torchrun":
            assert words[:4] == ["--nproc-per-node", words[1], "-m", "infoscope.cli.main"], snippet.place
            only_parse(lambda words=words: main(words[4:]))
        elif snippet.kind == "inline" or reason(snippet) or snippet.text in ran:
            only_parse(lambda words=words: main(words)) if words[-1] != "--help" else helps(words)
        else:
            ran.add(snippet.text)
            if "--out" in words:
                shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)
            status = main(words)
            assert status == 0, f"{snippet.place}: {snippet.text}\n{capsys.readouterr().err}"


def prepare(code: str, names: dict[str, object]) -> None:
    """What a piece of code takes as given: the model, the SAE, the run and the pictures of the page around it."""
    for name in re.findall(r"\w+", code):
        if name in names or re.search(rf"^{name}\b.*=[^=]", code, re.M):
            continue
        if name in ("backbone", "variants") and "openai/" in code:
            names["backbone"] = infoscope.load_backbone("openai/clip-vit-base-patch16", block=1, device="cpu")
            names["sae"] = infoscope.load_sae("clip-sae")
            names["variants"] = [infoscope.Variant("untouched")]
        elif name == "backbone":
            names[name] = infoscope.load_backbone("facebook/dinov2-small", block=10, device="cpu")
        elif name == "sae":
            names[name] = infoscope.load_sae("my-sae")
        elif name == "run":
            names[name] = infoscope.open_run("my-run")
        elif name in ("images", "training_images"):
            names[name] = infoscope.open_images("photographs")
        elif name == "pixels":
            names["pixels"] = np.zeros((1, world.SIDE, world.SIDE, 3), np.uint8)
            names["ids"] = ["cat/0.png"]


def helps(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0


def make(snippet: Snippet) -> None:
    done = subprocess.run(["make", "-n", *snippet.words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{snippet.place}: {done.stderr}"


def pip(snippet: Snippet) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for word in snippet.words[2:]:
        named = re.fullmatch(r"(?:infoscope|\.)(?:\[([\w,]+)\])?", word)
        assert named or word.startswith("-") or (ROOT / word).exists(), f"{snippet.place}: {word}"
        for extra in (named[1] or "").split(",") if named else ():
            assert not extra or extra in project["optional-dependencies"], f"{snippet.place}: no extra {extra}"


def script(snippet: Snippet, only_parse, monkeypatch) -> None:
    """The flags of a script are its own; running it is what its page reports."""
    if snippet.words[1] in ("-m", "-W"):
        assert snippet.words[1:] == ["-W"] or (ROOT / "src" / snippet.words[2] / "__main__.py").is_file(), snippet.place
        return
    path = ROOT / snippet.words[1]
    assert path.is_file(), snippet.place
    if reason(snippet):
        return
    monkeypatch.setattr(sys, "argv", [str(path), *snippet.words[2:]])
    monkeypatch.syspath_prepend(path.parent)
    only_parse(lambda: runpy.run_path(str(path), run_name="__main__"))


def test_nothing_is_left_unrun_that_is_run_nowhere():
    lines = [snippet for document in documents() for snippet in snippets(document) if snippet.kind == "block"]
    for command, (_, tests) in PARSED.items():
        assert any(re.match(command, snippet.text) for snippet in lines), f"{command} is in no page"
        assert (ROOT / tests).exists(), tests
    for page, (_, tests) in COMPILED.items():
        assert any(snippet.kind == "python" for snippet in snippets(ROOT / page)), f"{page} has no code"
        assert (ROOT / tests).exists(), tests


def test_snippets_are_found(tmp_path, monkeypatch):
    """Of each kind, and no more: a command that is not found is not run."""
    import snippets as module

    monkeypatch.setattr(module, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n"
        "    infoscope info run   # what it is\n"
        "    found  nothing\n\n"
        "Say `infoscope measure --sae a\n--out b`, not `infoscope measure`.\n\n"
        "- a list\n    infoscope no command\n\n"
        "    infoscope measure --sae a \\\n        --out b\n\n"
        "```python\nx = 1\n```\n"
        "```text\ninfoscope printed\n```\n"
        "```bash\n$ cd here && npm ci\n```\n"
    )
    assert [(snippet.kind, snippet.text) for snippet in module.snippets(page)] == [
        ("block", "infoscope info run"),
        ("block", "infoscope measure --sae a --out b"),
        ("python", "x = 1"),
        ("block", "cd here"),
        ("block", "npm ci"),
        ("inline", "infoscope measure --sae a --out b"),
    ]
    page.write_text("```fortran\n```\n")
    with pytest.raises(AssertionError, match="say how it is tested"):
        module.snippets(page)
