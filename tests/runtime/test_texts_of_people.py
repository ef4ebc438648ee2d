"""Every list that a command takes reads as its plain form, however it was written, or is refused in a line."""

import ast
import codecs
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import infoscope
from infoscope.analyses.probes.labelled_images import TRUTH, open_labelled, read_devkit
from infoscope.analyses.probes.pairs import pair_list
from infoscope.analyses.probes.segmentation_sets import OBJECT_INFO, ade20k_classes, open_masks
from infoscope.analyses.removal.groups import named_group
from infoscope.analyses.zeroshot.classes import read_classes, read_templates
from infoscope.errors import InfoscopeError
from infoscope.images.labels import class_numbers
from infoscope.images.source import open_images
from infoscope.runtime.manifest import Manifest
from infoscope.runtime.run import Run
from layouts import picture, write_devkit

WRITTEN = {
    "as it is": str.encode,
    "UTF-8 with a mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "two marks": lambda text: 2 * codecs.BOM_UTF8 + text.encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16, the other way round": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "CR": lambda text: text.replace("\n", "\r").encode(),
    "mark and CRLF": lambda text: codecs.BOM_UTF8 + text.replace("\n", "\r\n").encode(),
    "blank lines at the end": lambda text: (text + "\n \n\n").encode(),
    "blanks at the ends of lines": lambda text: text.replace("\n", "  \n").encode(),
}


def the_classes(folder: Path, file: Path) -> Any:
    found = read_classes(file)
    return found.names, found.folders


def the_masks_classes(folder: Path, file: Path) -> Any:
    for name, suffix in (("pictures", "jpg"), ("masks", "png")):
        if not (folder / name).is_dir():
            picture(folder / name / f"a.{suffix}")
    return open_masks(folder / "pictures", folder / "masks", classes=file).classes


def the_templates(folder: Path, file: Path) -> Any:
    return read_templates(file)


def the_features(folder: Path, file: Path) -> Any:
    scope = pl.DataFrame({"feature": pl.Series(range(10), dtype=pl.UInt32), "scope_class": ["local"] * 10})
    run = Run.__new__(Run)
    vars(run).update(path=Path("my-run"), scope=scope.with_columns(cds=pl.lit(0.1)), partition={"threshold": 0.2})
    return named_group(run, f"list:{file}").features.tolist()


def the_labels(folder: Path, file: Path) -> Any:
    for name in ("a.jpg", "more/b c.jpg"):
        picture(folder / "photographs" / name)
    found = open_labelled(folder / "photographs", file)
    return list(found.images.ids), [found.classes[label] for label in found.labels]


def the_pairs(folder: Path, file: Path) -> Any:
    for name in ("a.jpg", "a.png", "b.jpg", "b.png"):
        picture(folder / "frames" / name)
    found = pair_list(folder / "frames", file)
    return list(found.images.ids), [Path(target).name for target in found.files]


def the_devkits_truth(folder: Path, file: Path) -> Any:
    if not (folder / "devkit").is_dir():
        write_devkit(folder / "devkit", [1])
    (folder / "devkit" / TRUTH).write_bytes(file.read_bytes())
    return read_devkit(folder / "devkit").truth.tolist()


def ade20ks_names(folder: Path, file: Path) -> Any:
    (folder / OBJECT_INFO).write_bytes(file.read_bytes())
    return ade20k_classes(folder)


def a_shards_labels(folder: Path, file: Path) -> Any:
    shard = folder / "shard.tar"
    if not (folder / "a.jpg").is_file():
        picture(folder / "a.jpg")
    with tarfile.open(shard, "w") as tar:
        for name, content in (("a.jpg", (folder / "a.jpg").read_bytes()), ("a.cls", file.read_bytes())):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return class_numbers(open_images(str(shard)), "column").classes


def a_manifest(folder: Path, file: Path) -> Any:
    try:
        return Manifest.read(file)
    except InfoscopeError as error:
        return str(error)  # as far as its version, which is the first thing that is read


NAMES = "tench\nEnglish springer\nchâteau, ruin\n"
OBJECTS = "Idx\tRatio\tTrain\tVal\tName\n" + "".join(f"{n}\t0.1\t9\t9\tthing {n}, object\n" for n in range(1, 151))
TWO_NUMBERS = '0,tench\n1,English springer\n2,"château, ruin"\n'

# Reader, the plain file, and other files that must give the same.
Reader = Callable[[Path, Path], Any]
READERS: dict[str, tuple[Reader, str, str, dict[str, str]]] = {
    "classes": (
        the_classes,
        "classes.txt",
        NAMES,
        {
            "classes.csv": "id,name\n" + TWO_NUMBERS,
            "excel.csv": 'sep=;\nid;Class Name\n0;tench\n1;English springer\n2;"château, ruin"\n',
            "german.csv": "id;name\n0;tench\n1;English springer\n2;château, ruin\n",
            "classes.tsv": "label\ntench\nEnglish springer\nchâteau, ruin\n",
            "classes.json": '["tench",\n"English springer",\n"château, ruin"]\n',
        },
    ),
    "classes and folders": (
        the_classes,
        "synsets.txt",
        "n01440764 tench, Tinca tinca\nn02102040 English springer\n",
        {
            "synsets.csv": "wnid,name\nn01440764,tench\nn02102040,English springer\n",
            "synsets.tsv": "n01440764\ttench, Tinca tinca\nn02102040\tEnglish springer\n",
            "synsets.json": '{"n01440764": "tench",\n"n02102040": "English springer"}\n',
        },
    ),
    "classes of masks": (the_masks_classes, "classes.txt", NAMES, {"classes.csv": "id,name\n" + TWO_NUMBERS}),
    "templates": (
        the_templates,
        "templates.txt",
        "a photo of a {}, outside.\na drawing of {}\n",
        {
            "templates.csv": 'prompt\n"a photo of a {}, outside."\na drawing of {}\n',
            "templates.json": '["a photo of a {}, outside.",\n"a drawing of {}"]\n',
        },
    ),
    "features": (
        the_features,
        "features.txt",
        "7\n0\n3\n",
        {
            "features.csv": "cds,feature\n0.1,7\n0.2,0\n0.3,3\n",
            "numbers.csv": "7\n0\n3\n",
            "german.csv": "feature;cds\n7;0,1\n0;0,2\n3;0,3\n",
            "features.json": "[7,\n0,\n3]\n",
        },
    ),
    "labels": (
        the_labels,
        "labels.txt",
        "a.jpg tench\nmore/b c.jpg church\n",
        {
            "labels.csv": "File Name,label,split\na.jpg,tench,val\nmore/b c.jpg,church,val\n",
            "labels.tsv": "path\tlabel\na.jpg\ttench\nmore/b c.jpg\tchurch\n",
        },
    ),
    "pairs": (
        the_pairs,
        "pairs.txt",
        "/b.jpg /b.png 518.8\n/a.jpg /a.png 518.8\n",
        {"pairs.csv": "image;depth\na.jpg;a.png\nb.jpg;b.png\n"},
    ),
    "the devkit's truth": (the_devkits_truth, "truth.txt", "2\n3\n1\n", {}),
    "ADE20K's names": (ade20ks_names, "objects.txt", OBJECTS, {}),
    "a shard's labels": (a_shards_labels, "a.cls", "tench\n", {}),
    "a manifest": (a_manifest, "manifest.json", '{"format_version":\n1}\n', {}),
}
CASES = [(reader, name) for reader, (_, plain, _, others) in READERS.items() for name in (plain, *others)]


@pytest.mark.slow
@pytest.mark.parametrize("way", WRITTEN.values(), ids=WRITTEN.keys())
@pytest.mark.parametrize(("reader", "name"), CASES)
def test_however_a_file_was_written_it_reads_as_the_plain_one(tmp_path, reader, name, way):
    read, plain, content, others = READERS[reader]
    (tmp_path / plain).write_bytes(content.encode())
    expected = read(tmp_path, tmp_path / plain)
    assert expected
    (tmp_path / name).write_bytes(way(others.get(name, content)))
    assert read(tmp_path, tmp_path / name) == expected


REFUSED = [
    ("classes", "c.csv", "tench,0\nchurch,1\n", r"has no column for the name in its header \(tench, 0\)"),
    ("classes", "c.csv", "label,label\n0,tench\n1,church\n", "several columns that may be the name: label, label"),
    ("classes", "c.csv", "name\nchurch, building\ntench, fish\n", "line 2 .* has 2 cells"),
    ("classes", "c.csv", "id,name\n1,church\n0,tench\n", "line 3 .* has the number 0 out of order: sort the rows"),
    ("classes", "c.csv", "id,name\nn1,church\nn2,tench\n", "line 2 .* has 'n1' in a column that should number"),
    ("classes", "c.tsv", "0\tchurch\n1\ttench\n", "has no column for the name"),
    ("classes", "c.txt", "name\nchurch\ntench\n", "begins with 'name', which reads like the header"),
    ("classes", "c.txt", "id,name\n0,church\n1,tench\n", "begins with 'id,name', which reads like the header"),
    ("classes", "c.txt", "sep=;\n0;church\n1;tench\n", "begins with 'sep=;'"),
    ("classes", "c.txt", "0\tchurch\n1\ttench\n", "a tab is in no class's name"),
    ("classes of masks", "c.csv", "id,name\n1,church\n2,tench\n", "line 2 .* has the number 1 out of order: .* from 0"),
    ("classes of masks", "c.txt", "class\nchurch\ntench\n", "begins with 'class'"),
    ("templates", "t.csv", "a photo of a {}, outside.\n", "has no column for the template"),
    ("templates", "t.csv", "template\na photo of a {}, outside.\n", "line 2 .* has 2 cells"),
    ("templates", "t.txt", "template\na photo of a {}.\n", "the template 'template' .* needs {} once"),
    ("features", "f.csv", "1,2\n3,4\n", "has no column for the feature"),
    ("features", "f.txt", "feature\n1\n", "is not a list of feature numbers"),
    ("features", "f.txt", "1_0\n", "is not a list of feature numbers"),
    ("features", "f.json", "[" * 100_000, "is not a list of feature numbers"),
    ("labels", "l.csv", "a.jpg,tench\n", r"has no column for the path in its header \(a.jpg, tench\)"),
    ("labels", "l.csv", "path,label,split\na.jpg,x,val\nmore/b c.jpg,y,test\n", r"lists several splits \(test, val\)"),
    ("labels", "l.txt", "path label\na.jpg tench\n", "line 1 .*: there is no image path"),
    ("labels", "l.txt", "a.jpg,tench\nmore/b c.jpg,church\n", "line 1 .* is not a path and a label"),
    ("pairs", "p.csv", "a.jpg,a.png\n", "has no column for the photograph"),
    ("pairs", "p.txt", "image depth\na.jpg a.png\n", "names image, which is not in"),
    ("the devkit's truth", "t.txt", "class\n1\n", "is no list of class numbers"),
    ("ADE20K's names", "o.txt", OBJECTS.replace("\t", ","), "does not list 150 classes in order"),
    ("a shard's labels", "a.cls", "t\0e\0", "a.cls in .*shard.tar is not text"),
]


@pytest.mark.parametrize(("reader", "name", "content", "message"), REFUSED)
def test_a_table_that_is_no_plain_list_is_refused_in_a_line(tmp_path, reader, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InfoscopeError, match=message) as refused:
        READERS[reader][0](tmp_path, tmp_path / name)
    assert "\n" not in str(refused.value)


SOURCE = Path(infoscope.__file__).parent
# What reads text in another way, and why it may.
ALLOWED = {
    ("runtime/text.py", "read_bytes"): "the reader itself",
    ("runtime/json_values.py", "json.loads"): "of what the reader gave",
    ("views/notebook/cards.py", "read_text"): "a style sheet of the package",
    ("analyses/probes/segmentation_sets.py", "read_text"): "ADE20K's names as the package has them",
    ("views/report/page.py", "read_bytes"): "the bundle of the package, copied as it is",
    ("training/checkpoint.py", "json.loads"): "a header of a safetensors file, which is UTF-8 by its format",
    ("analyses/zeroshot/embeddings.py", "json.loads"): "a header of a safetensors file",
    ("runtime/token_cache.py", "json.loads"): "a header of a token shard, which this package wrote",
    ("runtime/token_shards.py", "json.loads"): "a header of a token shard, which this package wrote",
    ("dictionaries/formats/files.py", "json.loads"): "a header of a safetensors file",
    ("dictionaries/formats/files.py", "readline"): "bytes, of that header",
    ("dictionaries/formats/pickles.py", "readline"): "bytes, of a pickle",
    ("images/decode.py", "read_bytes"): "an encoded picture",
    ("images/parquet.py", "json.loads"): "metadata of a parquet file, which is UTF-8 by its format",
}
TEXT_READERS = {
    *("read_text", "readline", "readlines", "loadtxt", "genfromtxt", "fromregex", "read_csv", "scan_csv"),
    *("read_json", "read_ndjson", "scan_ndjson", "TextIOWrapper", "fromtextfile", "read_bytes", "getline"),
}
MODULES = {"csv", "configparser", "fileinput", "linecache", "codecs", "tomllib", "yaml"}


def ways_to_read_text(tree: ast.AST) -> set[str]:
    """What in a module reads text without `infoscope.runtime.text`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names if name.name in MODULES - {"codecs"}}
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES | {"json"}:
            found.add(str(node.module))
        elif isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Attribute):
                owner = called.value.id if isinstance(called.value, ast.Name) else ""
                if called.attr in TEXT_READERS:
                    found.add(called.attr)
                elif owner == "json" and called.attr in ("load", "loads"):
                    inner = node.args[0]
                    dumped = isinstance(inner, ast.Call) and ast.unparse(inner.func) == "json.dumps"
                    found |= set() if dumped else {f"json.{called.attr}"}
                elif owner == "codecs" and called.attr == "open":
                    found.add("codecs.open")
                elif called.attr == "open" and owner not in ("Image", "webbrowser", "os", "tarfile"):
                    found |= {"open as text"} if _is_text(node, 0) else set()
            elif isinstance(called, ast.Name) and called.id == "open":
                found |= {"open as text"} if _is_text(node, 1) else set()
    return found


def _is_text(call: ast.Call, place: int) -> bool:
    """Whether a call of ``open`` gives text: its mode is missing or has no b. A mode that is no constant is no mode."""
    mode = next((word.value for word in call.keywords if word.arg == "mode"), None)
    mode = call.args[place] if mode is None and len(call.args) > place else mode
    if mode is None:
        return not call.args[place:] and {word.arg for word in call.keywords} <= {"encoding", "errors", "newline"}
    return isinstance(mode, ast.Constant) and isinstance(mode.value, str) and "b" not in mode.value


@pytest.mark.slow
def test_no_module_reads_text_in_a_way_of_its_own():
    """One that did would take a byte order mark for part of the first name."""
    found = {
        (file.relative_to(SOURCE).as_posix(), way)
        for file in SOURCE.rglob("*.py")
        for way in ways_to_read_text(ast.parse(file.read_text(encoding="utf-8")))
    }
    assert found - set(ALLOWED) == set(), "use infoscope.runtime.text or sheet, or say here why not"
    assert set(ALLOWED) - found == set(), "no longer needed"


@pytest.mark.parametrize(
    "source",
    [
        "path.read_text()",
        "Path(name).read_text(encoding='utf-8').splitlines()",
        "open(name)",
        "open(name, 'r', encoding='utf-8')",
        "path.open(encoding='utf-8')",
        "path.open('rt')",
        "path.read_bytes().decode()",
        "np.loadtxt(name)",
        "import csv",
        "from json import load",
        "json.load(file)",
        "json.loads(text)",
        "pl.read_csv(name)",
        "codecs.open(name)",
    ],
)
def test_the_guard_sees_every_way(source):
    assert ways_to_read_text(ast.parse(source))


@pytest.mark.parametrize(
    "source",
    ["path.open('rb')", "open(name, mode='wb')", "read_text(path)", "self.task.open(resize)", "Image.open(file)"],
)
def test_the_guard_lets_bytes_and_our_reader_pass(source):
    assert not ways_to_read_text(ast.parse(source))
