"""A campaign: many cases for each reader, in processes that may die, and a table of what came of them.

Run as ``make fuzz``, or by hand::

    PYTHONPATH=tests .venv/bin/python -m fuzz.campaign --seed 7 --count 500 --readers tar
    PYTHONPATH=tests .venv/bin/python -m fuzz.campaign --replay 'directions|directions.npy|npy.type|17'
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

GOOD = ("handled", "equal", "other")
# Longer than any read takes on a busy machine.
LIMIT = 20.0
# A reader that takes longer gets fewer cases, in proportion.
FAST = 0.05
# Imports, and kernels that are compiled when they are first used.
STARTING = 300.0


@dataclass(frozen=True)
class Outcome:
    """What came of a case; ``word`` is that of `fuzz.worker.Verdict`, or ``hang`` or ``crash``."""

    case: str
    word: str
    detail: str
    place: str
    seconds: float

    @property
    def reader(self) -> str:
        """Whose case."""
        return self.case.partition("|")[0]

    @property
    def good(self) -> bool:
        """Whether all is well."""
        return self.word in GOOD


class Attacker:
    """A worker process, started anew whenever it hangs or dies.

    Args:
        root: a folder of its own.
        limit: seconds a case may take.
    """

    def __init__(self, root: Path, limit: float = LIMIT):
        self._root, self._limit = root, limit
        self._process: subprocess.Popen[str] | None = None
        self._readers: dict[str, float] = {}
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    @property
    def readers(self) -> dict[str, float]:
        """Every reader, and the seconds that reading takes it; only the process imports them all."""
        self._start()
        return self._readers

    def try_case(self, request: dict[str, Any]) -> Outcome:
        """The outcome of one request: ``{"case": ...}``, or a reader, a seed and a number to draw one by."""
        self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        named = self._answer(STARTING)
        if named is None or "fault" in named:
            # The good input is not read, or cannot be made: nothing of this reader can be judged.
            self.close()
            case = request.get("case", f"{request.get('reader')}|no case|no mutation|{request.get('number')}")
            return Outcome(case, "fault", named["fault"][-600:] if named else self._last_words(), "", 0.0)
        answer = self._answer(self._limit)
        if answer is not None and "fault" in answer:
            return Outcome(named["case"], "fault", answer["fault"][-600:], "", 0.0)
        if answer is not None:
            return Outcome(named["case"], answer["word"], answer["detail"], answer["place"], answer["seconds"])
        died = self._process.poll()
        outcome = (
            Outcome(named["case"], "hang", f"more than {self._limit:g} s", "", self._limit)
            if died is None
            else Outcome(named["case"], "crash", f"the process ended with {died}: {self._last_words()}", "", 0.0)
        )
        self.close()
        return outcome

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process = None

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        known = [path for path in (os.environ.get("PYTHONPATH"), str(Path(__file__).parents[1])) if path]
        environment = {
            "PYTHONPATH": os.pathsep.join(known),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fuzz.worker", str(self._root)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=os.environ | environment,
        )  # fmt: skip
        # By a thread, which has every line as it comes: asking the system whether there is more to read says no where
        # two lines came together and the second lies in Python's buffer.
        self._lines = queue.SimpleQueue()
        threading.Thread(target=_collect, args=(self._process.stdout, self._lines), daemon=True).start()
        ready = self._answer(STARTING)
        if ready is None:
            raise RuntimeError(f"the worker does not start: {self._last_words()}")
        self._readers = ready["readers"]

    def _answer(self, seconds: float) -> dict[str, Any] | None:
        assert self._process is not None
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            return None
        if line is None:
            self._process.wait()
            return None
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        said = self._root / "said.txt"
        return said.read_text(errors="replace")[-600:] if said.is_file() else ""


def _collect(stream: IO[str], lines: queue.SimpleQueue[str | None]) -> None:
    """Put a process's lines into a queue as they come, and None after the last."""
    with stream:
        for line in stream:
            lines.put(line)
    lines.put(None)


class Attack:
    """Several processes that try cases at once.

    Args:
        jobs: how many.
        limit: seconds a case may take.
    """

    def __init__(self, jobs: int, limit: float = LIMIT):
        self._root = Path(tempfile.mkdtemp(prefix="fuzz-"))
        self._attackers = [Attacker(self._root / str(number), limit) for number in range(jobs)]

    def __enter__(self) -> Attack:
        return self

    def __exit__(self, *_: object) -> None:
        for attacker in self._attackers:
            attacker.close()
        shutil.rmtree(self._root, ignore_errors=True)

    def planned(self, seed: int, count: int, names: str = "") -> list[dict[str, Any]]:
        """Requests for every reader whose name holds one of some names, divided by commas; all when there are none."""
        parts = [part.strip() for part in names.split(",") if part.strip()]
        return [
            {"reader": name, "seed": seed, "number": number}
            for name, seconds in self._attackers[0].readers.items()
            if not parts or any(part in name for part in parts)
            for number in range(max(1, round(count * min(1.0, FAST / seconds))))
        ]

    def tried(
        self, requests: Iterable[dict[str, Any]], report: Callable[[list[Outcome]], None] | None = None
    ) -> list[Outcome]:
        """The outcome of each request, in no order."""
        waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        for request in requests:
            waiting.put(request)
        outcomes: list[Outcome] = []
        faults: list[BaseException] = []

        def work(attacker: Attacker) -> None:
            try:
                while not faults:
                    outcomes.append(attacker.try_case(waiting.get_nowait()))
                    if report is not None:
                        report(outcomes)
            except queue.Empty:
                return
            except BaseException as error:
                faults.append(error)

        threads = [threading.Thread(target=work, args=(attacker,)) for attacker in self._attackers]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except KeyboardInterrupt as error:
            faults.append(error)
            for thread in threads:
                thread.join()
        if faults:
            raise faults[0]
        return outcomes


def table(outcomes: Sequence[Outcome]) -> str:
    """Figures by reader."""
    columns = ("tried", "handled", "equal", "other", "tracebacks", "hangs", "wrong")
    rows = []
    for reader in [*dict.fromkeys(outcome.reader for outcome in outcomes), "all"]:
        words = Counter(outcome.word for outcome in outcomes if reader in ("all", outcome.reader))
        tracebacks = words["traceback"] + words["crash"] + words["memory"]
        known = tracebacks + words["hang"] + sum(words[word] for word in GOOD)
        counts = [words[word] for word in GOOD]
        rows.append((reader, words.total(), *counts, tracebacks, words["hang"], words.total() - known))
    width = max(len(row[0]) for row in rows)
    lines = [" " * width + "".join(f"{name:>12}" for name in columns)]
    lines += [f"{row[0]:<{width}}" + "".join(f"{number:>12,}" for number in row[1:]) for row in rows]
    return "\n".join(lines)


def findings(outcomes: Sequence[Outcome]) -> list[list[Outcome]]:
    """What is not well, alike ones together: by reader, what went wrong, and where."""
    groups: dict[tuple[str, ...], list[Outcome]] = {}
    for outcome in outcomes:
        if not outcome.good:
            kind = "" if outcome.word == "fault" else outcome.detail.partition(":")[0]
            groups.setdefault((outcome.reader, outcome.word, kind, outcome.place), []).append(outcome)
    return sorted(groups.values(), key=lambda group: group[0].case)


def print_findings(outcomes: Sequence[Outcome]) -> None:
    """Each kind once, with a case to replay."""
    found = findings(outcomes)
    if found:
        print(f"\n{len(found)} kinds of findings; replay one by: make fuzz FUZZ=\"--replay 'CASE'\"")
    for group in found:
        first = min(group, key=lambda outcome: len(outcome.case))
        print(f"\n{len(group)} x {first.word}, {first.place or 'no place'}\n    {first.detail}\n    '{first.case}'")


def main() -> None:
    """Run a campaign; the exit status is 1 where anything is not well."""
    parser = argparse.ArgumentParser(prog="fuzz", description="Damage every reader's input, and see what comes of it.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=200, help="cases for each reader; slow readers get fewer")
    parser.add_argument("--readers", default="", help="only those whose names hold one of these, divided by commas")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds that a case may take")
    parser.add_argument("--replay", action="append", default=[], help="a case, as findings name it")
    parser.add_argument("--out", type=Path, help="a JSON file for all outcomes")
    options = parser.parse_args()
    begun = time.monotonic()
    with Attack(options.jobs, options.limit) as attack:
        requests = [{"case": case} for case in options.replay]
        requests = requests or attack.planned(options.seed, options.count, options.readers)

        def report(outcomes: list[Outcome]) -> None:
            last = outcomes[-1]
            if not last.good:
                # At once, so that a campaign that is stopped has told what it found.
                print(f"{last.word}: {last.case}", file=sys.stderr)
            if sys.stderr.isatty() or len(outcomes) % 250 == 0:
                print(f"{len(outcomes):,} of {len(requests):,}", end="\r", file=sys.stderr, flush=True)

        outcomes = sorted(attack.tried(requests, report), key=lambda outcome: outcome.case)
    print(f"\n{table(outcomes)}\n\nseed {options.seed}, {time.monotonic() - begun:.0f} s")
    if options.replay:
        for outcome in outcomes:
            print(f"\n{outcome.case}\n    {outcome.word}: {outcome.detail} {outcome.place}")
    else:
        print_findings(outcomes)
    if options.out:
        options.out.write_text(json.dumps([vars(outcome) for outcome in outcomes], indent=1))
    sys.exit(0 if all(outcome.good for outcome in outcomes) else 1)


if __name__ == "__main__":
    main()
