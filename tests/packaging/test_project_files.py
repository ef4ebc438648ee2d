"""What stands around the code agrees with it: workflows, citation, changelog, and what `make fast` leaves out."""

import ast
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import infoscope

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()

if not WORKFLOWS:
    pytest.skip("only a checkout has workflows", allow_module_level=True)


def steps(workflow):
    jobs = yaml.safe_load(workflow.read_text())["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_takes_pinned_actions_and_targets_that_exist(workflow):
    targets = re.findall(r"^(\w+):", MAKEFILE, re.MULTILINE)
    for step in steps(workflow):
        assert re.fullmatch(r"[\w./-]+@v\d+\.\d+\.\d+", step.get("uses", "a@v0.0.0")), step
        for target in re.findall(r"\bmake (\w+)", step.get("run", "")):
            assert target in targets
    # Where packages come from is pip's own business, but for builds of PyTorch without CUDA.
    assert set(re.findall(r"https?://([^/\s]+)", workflow.read_text())) <= {"download.pytorch.org"}


def test_every_declared_python_is_tested():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())["jobs"]
    prefix = "Programming Language :: Python :: "
    declared = [name.removeprefix(prefix) for name in PROJECT["project"]["classifiers"] if name.startswith(prefix)]
    assert jobs["tests"]["strategy"]["matrix"]["python"] == declared


def test_a_release_is_published_by_its_identity_alone():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert "secrets." not in (ROOT / ".github" / "workflows" / "release.yml").read_text()


def test_citation_and_changelog_name_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == infoscope.__version__
    assert citation["license"] == PROJECT["project"]["license"]
    assert re.search(rf"^## {re.escape(infoscope.__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_the_fast_tests_are_chosen_by_markers_that_are_declared():
    declared = {marker.partition(":")[0] for marker in PROJECT["tool"]["pytest"]["ini_options"]["markers"]}
    chosen = re.search(r'^fast:.*?-m "([^"]+)"', MAKEFILE, re.MULTILINE | re.DOTALL)[1]
    assert set(re.findall(r"not (\w+)", chosen)) == declared


@pytest.fixture
def conftest(request):
    (conftest,) = (found for found in request.config.pluginmanager.get_plugins() if hasattr(found, "MARKED_BY_FIXTURE"))
    return conftest


def test_tests_are_marked_by_their_fixtures(conftest):
    marked = {}
    for fixtures in (["tmp_path"], ["tmp_path", "data_root"], ["data_root", "dinov2_path"], ["site", "browser"]):
        names = []
        conftest.pytest_collection_modifyitems([SimpleNamespace(fixturenames=fixtures, add_marker=names.append)])
        marked[" ".join(fixtures)] = set(names)
    assert marked == {
        "tmp_path": set(),
        "tmp_path data_root": {"real"},
        "data_root dinov2_path": {"real"},
        "site browser": {"browser"},
    }


def left_out(expression):
    """Whether an expression holds one of the markers that `make fast` leaves out."""
    markers = {"browser", "ray", "real", "slow"}
    return any(isinstance(node, ast.Attribute) and node.attr in markers for node in ast.walk(expression))


def fast_tests(file, marking_fixtures):
    """The tests of a file that `make fast` runs, by the file's text alone."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    assignments = [node for node in body if isinstance(node, ast.Assign)]
    if any(ast.unparse(node.targets[0]) == "pytestmark" and left_out(node.value) for node in assignments):
        return []
    return [
        node.name
        for node in body
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test_")
        and not any(map(left_out, node.decorator_list))
        and marking_fixtures.isdisjoint(argument.arg for argument in node.args.args)
    ]


@pytest.mark.parametrize(
    "package", sorted(file.parent.name for file in Path(infoscope.__file__).parent.glob("*/__init__.py"))
)
def test_every_package_has_fast_tests(package, conftest):
    files = (ROOT / "tests" / package).rglob("test_*.py")
    assert sum(len(fast_tests(file, conftest.MARKED_BY_FIXTURE.keys())) for file in files) >= 5
