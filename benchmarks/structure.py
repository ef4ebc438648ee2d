"""How a source tree is built: files, lines, imports, and how many of its functions and files a command passes.

    python benchmarks/structure.py                     # this checkout
    python benchmarks/structure.py ../before .         # two checkouts side by side
    python benchmarks/structure.py . --no-commands     # without running anything

The commands run on a random model and on noise made on the spot, each tree in a process of its own, through the public
names of `infoscope` alone. Trees that lay their modules out in different ways can thus be compared.
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import tokenize
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parents[1]
LONG = 500
"""Lines beyond which a module counts as long."""
DIRECTIVES = ("# noqa", "# type:", "# fmt:", "# pragma")
"""Comments that are addressed to a tool and explain nothing."""
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    trees: tyro.conf.Positional[tuple[Path, ...]] = (HERE,)
    """Checkouts, each with its package under ``src/``."""
    commands: bool = True
    """Run `train_sae`, `measure_scope` and `probe_groups`, and count what they pass."""
    json: bool = False
    """Print the counts as JSON instead of a table."""
    only_passage: Annotated[Path | None, tyro.conf.arg(metavar="SRC")] = None
    """Run the commands of the package under this folder and print what they pass, as JSON. The benchmark calls itself
    so, with that folder on Python's path."""


@dataclass(frozen=True)
class Counts:
    """What is counted in a package without running it.

    Attributes:
        files: Python files.
        lines: their lines.
        code_lines: lines that hold code. Docstrings (every string that stands as a statement of its own), comments and
            blank lines are not counted.
        median_lines: lines of the median file.
        long_modules: files of more than 500 lines.
        import_lines: lines that import statements span, brackets included.
        import_share: the same, of all lines.
        comment_share: lines that hold a comment, of the lines that are neither blank nor in a docstring. Directives to
            tools, such as ``# noqa``, are no comments.
        one_importer: modules that exactly one other module imports. What is imported for type checkers alone is not
            counted, since `infoscope` lists all its public names so.
        shared_names: file names that stand in two or more packages; ``__init__.py`` is left out.
    """

    files: int
    lines: int
    code_lines: int
    median_lines: float
    long_modules: int
    import_lines: int
    import_share: float
    comment_share: float
    one_importer: int
    shared_names: int


@dataclass(frozen=True)
class Passed:
    """What a call passes of a package, the called function itself left out.

    Functions come in the order in which they are first entered: those of the calling thread, then those that only
    other threads enter. A change of file lies between two functions of that order that stand in different files.
    Lambdas and comprehensions belong to the function around them. What runs because a module is imported is left out,
    and what is compiled is not seen.

    Attributes:
        functions: distinct functions.
        files: distinct files.
        changes: changes of file.
    """

    functions: int
    files: int
    changes: int


def main(options: Options) -> None:
    if options.only_passage is not None:
        print(json.dumps({name: asdict(passed) for name, passed in pass_commands(options.only_passage).items()}))
        return
    columns = []
    for tree in options.trees:
        counts: dict[str, Any] = asdict(count(find_package(tree)))
        if options.commands:
            counts |= {
                f"{command}: {what}": number
                for command, passed in passages(tree.resolve() / "src").items()
                for what, number in passed.items()
            }
        columns.append(counts)
    if options.json:
        print(json.dumps({str(tree): counts for tree, counts in zip(options.trees, columns, strict=True)}, indent=2))
        return
    table = Table()
    table.add_column("")
    for tree in options.trees:
        table.add_column(str(tree), justify="right")
    for name in columns[0]:
        table.add_row(name.replace("_", " "), *(_shown(name, counts[name]) for counts in columns))
    Console(width=max(80, 36 + sum(len(str(tree)) + 3 for tree in options.trees))).print(table)


def _shown(name: str, value: float) -> str:
    return f"{100 * value:.2f} %" if name.endswith("share") else f"{value:,g}" if value < 1e5 else f"{value:,}"


def find_package(tree: Path) -> Path:
    """The one package under a checkout's ``src/``.

    Raises:
        SystemExit: there is none, or several.
    """
    found = sorted(init.parent for init in tree.glob("src/*/__init__.py"))
    if len(found) != 1:
        raise SystemExit(f"{tree} has {len(found)} packages under src/: give a checkout with one")
    return found[0]


def count(package: Path) -> Counts:
    """Count a package's files, lines, imports and names.

    Args:
        package: the package's folder.
    """
    sources = {path: path.read_text(encoding="utf-8") for path in sorted(package.rglob("*.py"))}
    trees = {path: ast.parse(source) for path, source in sources.items()}
    lengths = [len(source.splitlines()) for source in sources.values()]
    kinds = Counter[str]()
    for path, source in sources.items():
        kinds += _line_kinds(source, trees[path])
    names = Counter(path.name for path in sources)
    modules = {_module_name(path, package): tree for path, tree in trees.items()}
    importers = Counter(imported for name in modules for imported in _imported_modules(name, modules, package))
    return Counts(
        files=len(sources),
        lines=sum(lengths),
        code_lines=kinds["code"],
        median_lines=statistics.median(lengths),
        long_modules=sum(length > LONG for length in lengths),
        import_lines=kinds["import"],
        import_share=kinds["import"] / sum(lengths),
        comment_share=kinds["comment"] / kinds["written"],
        one_importer=sum(number == 1 for number in importers.values()),
        shared_names=sum(number > 1 and name != "__init__.py" for name, number in names.items()),
    )


def _line_kinds(source: str, tree: ast.Module) -> Counter[str]:
    """Count a file's lines by kind: ``code``, ``comment``, ``import``, and ``written``, neither blank nor docstring."""
    docstrings: set[int] = set()
    imports: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports |= _span(node)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docstrings |= _span(node)
    code: set[int] = set()
    comments: set[int] = set()
    directives: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in LAYOUT:
            code |= set(range(token.start[0], token.end[0] + 1))
        elif token.type == tokenize.COMMENT:
            (directives if token.string.startswith(DIRECTIVES) else comments).add(token.start[0])
    code -= docstrings
    written = len(code | comments | directives)
    return Counter({"code": len(code), "comment": len(comments), "import": len(imports), "written": written})


def _span(node: ast.stmt) -> set[int]:
    return set(range(node.lineno, (node.end_lineno or node.lineno) + 1))


def _module_name(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported_modules(name: str, modules: dict[str, ast.Module], package: Path) -> set[str]:
    """The other modules of the package that a module imports when it runs."""
    found = set()
    for node in _run_time_nodes(modules[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            home = node.module or ""
            if node.level:
                is_package = (package.parent / name.replace(".", "/")).is_dir()
                base = name.split(".")[: len(name.split(".")) - node.level + is_package]
                home = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                submodule = f"{home}.{alias.name}"
                found.add(submodule if submodule in modules else home)
    return (found & set(modules)) - {name}


def _run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree without the branches that only a type checker reads."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield from _run_time_nodes(child)


def passages(source: Path) -> dict[str, dict[str, int]]:
    """Run the commands of the package under a folder in a process of its own.

    Args:
        source: the folder that holds the package.

    Returns:
        By command, what it passes, as in `Passed`.

    Raises:
        SystemExit: a command fails.
    """
    environment = os.environ | {
        "PYTHONPATH": str(source),
        # Another checkout is only read. Kernels that are not compiled are functions like others, and are counted.
        "PYTHONDONTWRITEBYTECODE": "1",
        "NUMBA_DISABLE_JIT": "1",
        "HF_HUB_OFFLINE": "1",
        # Work this small only waits for a second thread.
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, __file__, "--only-passage", str(source)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the commands of {source} failed:\n{done.stderr}")
    passed: dict[str, dict[str, int]] = json.loads(done.stdout.splitlines()[-1])
    return passed


def pass_through(call: Callable[[], object], package: Path) -> Passed:
    """Run a call and count what it passes of a package.

    Args:
        call: a function without arguments. The first function of the package that it enters is taken to be the called
            one.
        package: the package's folder. Its modules must have been imported, or what their import runs is counted too.

    Example:
        >>> import json
        >>> passed = pass_through(lambda: json.dumps([1], indent=1), Path(json.__file__).parent)
        >>> passed.files
        1
    """
    caller = threading.get_ident()
    prefix = f"{package.resolve()}{os.sep}"
    own: dict[tuple[str, str, int], None] = {}
    elsewhere: dict[tuple[str, str, int], None] = {}

    # A trace function that returns nothing is called once for every frame, and neither for lines nor for what is
    # written in C, as a profile function would be.
    def enter(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if code.co_filename.startswith(prefix) and _is_function(code):
            entered = own if threading.get_ident() == caller else elsewhere
            entered[code.co_filename, code.co_qualname, code.co_firstlineno] = None

    before, before_threads = sys.gettrace(), threading.gettrace()
    threading.settrace(enter)
    sys.settrace(enter)
    try:
        call()
    finally:
        sys.settrace(before)
        threading.settrace(before_threads)
    order = [*list(own)[1:], *(function for function in elsewhere if function not in own)]
    files = [file for file, _, _ in order]
    changes = sum(file != following for file, following in pairwise(files))
    return Passed(functions=len(order), files=len(set(files)), changes=changes)


def _is_function(code: CodeType) -> bool:
    return bool(code.co_flags & inspect.CO_OPTIMIZED) and not code.co_name.startswith("<")


def pass_commands(source: Path) -> dict[str, Passed]:
    """Train an SAE, measure it and probe it, and count what each passes.

    Args:
        source: the folder that holds the package that Python's path leads to.

    Raises:
        SystemExit: Python's path leads to another one.
    """
    import importlib
    import pkgutil

    import numpy as np
    import torch
    from PIL import Image
    from transformers import Dinov2Config, Dinov2Model

    import infoscope

    package = Path(infoscope.__file__).resolve().parent
    if package.parent != source.resolve():
        raise SystemExit(f"infoscope is imported from {package} and not from {source}")
    for module in pkgutil.walk_packages([str(package)], "infoscope."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
        Dinov2Model(Dinov2Config(patch_size=8, image_size=48, **sizes)).save_pretrained(folder / "model")
        for split in ("train", "test"):
            for name, shade in (("dark", 60), ("light", 190)):
                (folder / split / name).mkdir(parents=True)
                for number in range(6):
                    pixels = np.clip(shade + random.normal(0, 40, (48, 48, 3)), 0, 255).astype(np.uint8)
                    Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
        # One decoding thread, so that what is entered comes in the same order every time.
        backbone = infoscope.load_backbone(folder / "model", block=1, input_side=48, device="cpu")
        images = infoscope.open_images(str(folder / "train"))
        config = infoscope.TrainConfig(features=40, k=8, tokens=300, batch_tokens=60, buffer_tokens=120)

        def train() -> None:
            infoscope.train_sae(backbone, images, config, out=folder / "sae", threads=1)

        passed = {"train_sae": pass_through(train, package)}
        sae = infoscope.load_sae(str(folder / "sae"))
        execution = infoscope.Execution(batch_size=4, threads=1)

        def measure() -> None:
            infoscope.measure_scope(
                backbone, sae, images, out=folder / "run", top_images=3, min_pairs=1, execution=execution
            )

        passed["measure_scope"] = pass_through(measure, package)
        run = infoscope.open_run(folder / "run")
        task = infoscope.classification_task(str(folder / "train"), str(folder / "test"))
        (folder / "group.json").write_text(json.dumps(list(range(20))))
        group = f"list:{folder / 'group.json'}"
        one_draw = infoscope.RemovalConfig(random_draws=1)

        def probe() -> None:
            infoscope.probe_groups(run, backbone, sae, task, [group], removal=one_draw, out=folder / "probe", threads=1)

        passed["probe_groups"] = pass_through(probe, package)
    return passed


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
