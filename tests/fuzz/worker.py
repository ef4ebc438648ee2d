"""The process in which readers are attacked: it may hang, run out of memory or die, and its parent tells.

It takes a request a line and answers with two: the case before it is tried, and what came of it.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import gc
import json
import logging
import os
import re
import resource
import shutil
import signal
import sys
import time
import traceback
import unicodedata
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# What a read may take beyond what the process has: torch's own footprint is a few hundred megabytes.
MOST_ADDRESSES = 3 * 2**30
MOST_MEMORY = 600 * 2**20
# A name may be quoted whole, however long it is; a whole file may not.
LONGEST_MESSAGE = 12_000
ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")


@dataclass(frozen=True)
class Verdict:
    """What came of a case.

    Attributes:
        word: ``handled``, ``equal`` or ``other`` where all is well; else what went wrong.
        detail: the message, the exception, or the values that differ.
        place: where an exception came from.
    """

    word: str
    detail: str = ""
    place: str = ""


GOOD = ("handled", "equal", "other")


def judge_message(message: str, names: set[str]) -> str | None:
    """What is wrong with a message, or None."""
    if not message.strip():
        return "is empty"
    if any(unicodedata.category(letter) == "Cc" for letter in message):
        return "has more than one line, or control characters"
    if len(message) > LONGEST_MESSAGE:
        return f"has {len(message)} characters"
    if ADDRESS.search(message):
        return "holds a memory address"
    if not any(name in message for name in names):
        return "names neither the file nor the thing"
    return None


def judge(case: Any, reader: Any, good: Any, found: Any, names: set[str]) -> Verdict:
    """The verdict on what was read without an exception."""
    for message in found.refused:
        # The pass that skips a picture names it; its reason alone does not.
        if problem := judge_message(message, names | {""}):
            return Verdict("message", f"{problem}: {message[:300]}")
    changed = sorted(key for key in found.digests if found.digests[key] != good.digests.get(key))
    lost = sorted(key for key in good.digests if key not in found.digests)
    expected = case.expected(reader)
    covered = reader.sum_of(case.file, gone=case.mutation == "place.removed")
    if covered == "file":
        expected = "any"
    if not changed and (not lost or found.refused):
        word = "handled" if found.refused else "equal"
        if expected == "equal" and word != "equal":
            return Verdict("refused a good file", found.refused[0][:300])
        if expected == "refused" and word == "equal":
            return Verdict("passed over", "what the reader does not know was accepted")
        return Verdict(word, "; ".join(found.refused)[:300])
    what = ", ".join([*changed, *(f"{key} (missing)" for key in lost)])[:300]
    if expected == "equal":
        return Verdict("other values", f"a file that says the same gave other {what}")
    if expected == "refused":
        return Verdict("other values", f"what the reader does not know changed {what}")
    if covered == "file" or (covered == "container" and not case.honest):
        return Verdict("other values", f"a checksum tells, and yet: {what}")
    if fresh := sorted(set(found.not_finite) - set(good.not_finite)):
        return Verdict("other values", f"not finite: {', '.join(fresh)}")
    return Verdict("other", what)


# What a read must leave as it was ------------------------------------------------------------------------------------


@functools.cache
def watched() -> dict[str, Any]:
    """What pickles and careless code change: objects of torch and of the language, by name."""
    import torch

    kept: dict[str, Any] = {"torch": torch, "torch._utils": torch._utils, "torch.storage": torch.storage}
    kept |= {"Tensor": torch.Tensor, "OrderedDict": collections.OrderedDict, "UntypedStorage": torch.UntypedStorage}
    kept |= {name: getattr(torch, name) for name in dir(torch) if name.endswith("Storage")}
    kept |= {f"torch._utils.{name}": each for name, each in vars(torch._utils).items() if callable(each)}
    return {name: each for name, each in kept.items() if hasattr(each, "__dict__")}


def process_state() -> dict[str, Any]:
    """What reading must not change in the process."""
    import numpy as np
    import torch
    from PIL import Image, ImageFile

    inside = {name: {key: id(each) for key, each in vars(what).items()} for name, what in watched().items()}
    return {
        "the environment": dict(os.environ),
        "the working directory": str(Path.cwd()),
        "torch's defaults": (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()),
        "names of torch": [getattr(each, "__name__", "") for each in watched().values()],
        "dtypes": [dir(each) for each in (torch.float32, torch.int64)],
        "numpy's errors": np.geterr(),
        "Pillow's settings": (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS),
        "sys.path": list(sys.path),
        "the recursion limit": sys.getrecursionlimit(),
        "signal handlers": [str(signal.getsignal(each)) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)],
        "modules": {name: id(module) for name, module in sys.modules.items()},
        **{f"attributes of {name}": entries for name, entries in inside.items()},
    }


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What is another; modules may have been added, but none replaced."""
    found = []
    for name, value in before.items():
        if name == "modules" or name == "attributes of torch":
            # A module of torch that is imported late becomes its attribute.
            if any(after[name].get(key) != value[key] for key in value):
                found.append(name)
            continue
        if after[name] != value:
            found.append(name)
    return found


def files_state(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Every file and folder, with what a write would change."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        # A folder's time changes with what is in it, which is seen by itself.
        found[path.relative_to(folder).as_posix()] = (
            (status.st_mode, 0, 0) if path.is_dir() else (status.st_mode, status.st_size, status.st_mtime_ns)
        )
    return found


def memory(key: str) -> int:
    """Bytes, by a key of ``/proc/self/status``; 0 where there is none."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    held = re.search(rf"^{key}:\s+(\d+) kB", text, re.MULTILINE)
    return 1024 * int(held[1]) if held else 0


# Trying --------------------------------------------------------------------------------------------------------------


class Worker:
    """Tries cases, one after the other, in a folder of its own.

    Args:
        root: that folder.
        said: what the process writes to standard output and error goes here.
    """

    def __init__(self, root: Path, said: Path):
        from fuzz.readers import all_readers

        self._readers = all_readers()
        self._root = root
        self._said = said
        self._good: dict[str, Any] = {}

    @property
    def readers(self) -> dict[str, float]:
        """Every reader, and the seconds that reading takes it."""
        return {name: reader.seconds for name, reader in self._readers.items()}

    def good(self, name: str) -> Path:
        """The folder of a reader's good input; what it says is known afterwards."""
        from fuzz.cases import lay_out
        from fuzz.readers import Found

        reader = self._readers[name]
        folder = self._root / "good" / re.sub(r"\W+", "-", name)
        if name not in self._good:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            reader.build(folder)
            for _ in range(2):  # what is loaded or compiled at first is there at the second time
                lay_out(None, folder, self._place)
                self._good[name] = found = Found()
                reader.read(self._place, found)
            gc.collect()
            # What is here for good need not be looked through after each case.
            gc.freeze()
            if found.refused or found.not_finite:
                raise RuntimeError(f"the good input of {name} is not read: {found.refused or found.not_finite}")
        return folder

    @property
    def _place(self) -> Path:
        return self._root / "case"

    def draw(self, name: str, seed: int, number: int) -> Any:
        """See `fuzz.cases.draw`."""
        from fuzz.cases import draw

        return draw(self._readers[name], self.good(name), seed, number)

    def attempt(self, case: Any) -> Verdict:
        """Read a damaged input and judge what comes of it."""
        from fuzz.cases import lay_out
        from fuzz.readers import Found
        from infoscope.errors import InfoscopeError

        reader, folder = self._readers[case.reader], self.good(case.reader)
        lay_out(case, folder, self._place)
        names = {str(self._place), *reader.words, *(Path(file).name for file in files_state(self._place))}
        names |= {Path(file).name for file in files_state(folder)}
        files, state = files_state(self._place), process_state()
        said, used = self._said.stat().st_size, _start_of_peak()
        found, verdict = Found(), None
        _limit_addresses()
        try:
            with warnings.catch_warnings():
                # As on the command line, where what other packages remark on is not shown.
                warnings.simplefilter("ignore")
                warnings.filterwarnings("always", module=r"infoscope\.")
                reader.read(self._place, found)
        except InfoscopeError as error:
            problem = judge_message(str(error), names)
            verdict = Verdict("message", f"{problem}: {str(error)[:300]}", _place_of(error)) if problem else None
            if verdict is None:
                refused = case.expected(reader) == "equal" and reader.sum_of(case.file) != "file"
                verdict = Verdict("refused a good file" if refused else "handled", str(error)[:300])
            del error
        except BaseException as error:
            word = "memory" if isinstance(error, MemoryError) else "traceback"
            verdict = Verdict(word, f"{type(error).__name__}: {str(error)[:300]}", _place_of(error))
            del error
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_AS)[1]))
        peak = memory("VmHWM") - used
        verdict = verdict or judge(case, reader, self._good[case.reader], found, names)
        if verdict.word not in GOOD:
            return verdict
        gc.collect()
        _flush()
        if peak > MOST_MEMORY:
            return Verdict("memory", f"{peak >> 20} MiB more than before")
        if self._said.stat().st_size > said:
            with self._said.open(errors="replace") as stream:
                stream.seek(said)
                text = stream.read(4000)
            # What Rust's own hook prints cannot be held back from here; that it became a line is what counts.
            if not (verdict.word == "handled" and "panicked at crates/polars" in text):
                return Verdict("said", text[:400])
        if left := changes(state, process_state()):
            return Verdict("left behind", ", ".join(left))
        if written := self._written(reader, files):
            return Verdict("written", ", ".join(written)[:300])
        return verdict

    def _written(self, reader: Any, before: dict[str, Any]) -> list[str]:
        from fnmatch import fnmatch

        after = files_state(self._place)
        changed = [name for name in {*before, *after} if before.get(name) != after.get(name)]
        return sorted(name for name in changed if not any(fnmatch(name, pattern) for pattern in reader.writes))


def _start_of_peak() -> int:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def _limit_addresses() -> None:
    if size := memory("VmSize"):
        resource.setrlimit(resource.RLIMIT_AS, (size + MOST_ADDRESSES, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _place_of(error: BaseException) -> str:
    """The innermost of our lines, and the innermost of all."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/infoscope/" in frame.filename]
    last = (ours or list(frames))[-1]
    return f"{last.filename.rpartition('infoscope/')[2]}:{last.lineno} {last.name}"


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


def main() -> None:
    """Answer requests until the input ends."""
    root = Path(sys.argv[1])
    root.mkdir(parents=True, exist_ok=True)
    said = root / "said.txt"
    # The answers go to the descriptor that was standard output; whatever else is written there is taken down.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    taken = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(taken, 1)
    os.dup2(taken, 2)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What the library notes in its log is not for the screen.
    logging.getLogger().addHandler(logging.NullHandler())
    worker = Worker(root, said)

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    from fuzz.cases import Case

    answer({"readers": worker.readers})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "case" in request:
                case = Case.parse(request["case"])
            else:
                case = worker.draw(request["reader"], request["seed"], request["number"])
            worker.good(case.reader)
            answer({"case": str(case)})
            begun = time.monotonic()
            verdict = worker.attempt(case)
            answer(asdict(verdict) | {"seconds": time.monotonic() - begun})
        except Exception:  # the tool's own fault
            answer({"fault": traceback.format_exc()})


if __name__ == "__main__":
    main()
